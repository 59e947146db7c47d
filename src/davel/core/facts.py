"""What a media file says of itself, and what of it was really decoded. All times are seconds on the media clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

# fmt: off
MEDIA_SUFFIXES = frozenset((
    ".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv",
    ".ts", ".vob", ".webm", ".wmv",
))
# fmt: on
"""What counts as a video in a folder; a file that is named itself may end in anything."""
AUDIO_SUFFIXES = frozenset((".aac", ".aif", ".aiff", ".flac", ".m4a", ".mp3", ".oga", ".ogg", ".opus", ".wav", ".wma"))
"""What names of sound files end in, which events of other tools come with."""


def without_suffix(name: str) -> str:
    """A file's name without the ending of media files; other dots are its own."""
    stem, dot, ending = name.rpartition(".")
    is_media = f".{ending.lower()}" in MEDIA_SUFFIXES | AUDIO_SUFFIXES
    return stem if dot and stem and not stem.endswith("/") and is_media else name


@dataclass(frozen=True, kw_only=True)
class VideoTrack:
    codec: str
    width: int
    """As displayed, after rotation."""
    height: int
    fps: float
    """The mean rate, for information only."""
    rotation: int
    """Degrees counterclockwise by which pictures are turned for display."""


@dataclass(frozen=True, kw_only=True)
class AudioTrack:
    codec: str
    sample_rate: int
    channels: int


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    path: Path
    format: str
    size_bytes: int
    duration_seconds: float | None
    """As the container declares it, if it does."""
    video: VideoTrack | None
    audio: AudioTrack | None


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What of a file was really decoded, in seconds."""

    duration_seconds: float
    """The end of the longer track."""
    video: tuple[float, float] | None
    audio: tuple[float, float] | None
    video_gaps: tuple[tuple[float, float], ...] = ()
    """Where pictures are missing or broken: the last good one stands there, or what is left of it."""
    audio_gaps: tuple[tuple[float, float], ...] = ()
    """Where sound is missing: silence stands there."""
    warnings: tuple[str, ...] = ()

    @property
    def both(self) -> tuple[float, float]:
        """Where there are pictures and sound; empty at 0 if they never meet."""
        tracks = [t for t in (self.video, self.audio) if t is not None]
        start, end = max(t[0] for t in tracks), min(t[1] for t in tracks)
        return (start, end) if start < end else (0.0, 0.0)
