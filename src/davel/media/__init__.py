"""Frames and samples of any media file on one clock, as a stream."""

from davel.core.facts import MEDIA_SUFFIXES, AudioTrack, Coverage, MediaInfo, VideoTrack
from davel.media.sampling import Picture, Sound
from davel.media.source import Source, open_media, probe

__all__ = [
    "MEDIA_SUFFIXES", "AudioTrack", "Coverage", "MediaInfo", "Picture", "Sound", "Source", "VideoTrack", "open_media",
    "probe",
]  # fmt: skip
