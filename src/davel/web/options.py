"""What `davel serve` can be told, as values. Nothing here needs the extra `web`: the command line reads it for help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from davel.core.errors import ConfigError, printable
from davel.core.files import home
from davel.core.options import OptionError, option
from davel.web.settings import Limits, ServerSettings, is_loopback

MIN_TOKEN_LENGTH = 16


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """What is served to whom, and how much of this machine it may take."""

    model: str = option("scenes", "-m", "--model")
    """A built-in model, a model's folder, or an ONNX file."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    annotations: Path | None = None
    """True events to show, in any format of `davel convert`."""
    data: Path | None = None
    """Folder for uploads, results, corrections (default: DAVEL_HOME/serve)."""
    host: str = "127.0.0.1"
    """Address to listen on; another than loopback needs a token."""
    port: int = option(8765, minimum=0, maximum=65535)
    """Port to listen on; 0: any that is free."""
    token: str | None = option(None, variable="DAVEL_TOKEN")
    """Everyone must give it; 16 characters or more."""
    workers: int = option(1, minimum=1)
    """Videos that are worked on at a time."""
    max_upload_gb: float = option(4.0, minimum=0.001)
    """Largest upload."""
    max_uploads: int = option(100, minimum=1)
    """Most uploads that are kept."""
    keep_days: float = option(7.0, minimum=0.00001)
    """After which an upload and its results are deleted."""
    memory_gb: float = option(4.0, minimum=0.5)
    """Most memory of a video's process."""
    stall_seconds: float = option(120.0, minimum=1)
    """A video on which nothing moves for so long has failed."""
    job_hours: float = option(24.0, minimum=0.001)
    """Longest that one video may take."""

    def __post_init__(self) -> None:
        if not is_loopback(self.host) and not self.token:
            raise OptionError("host", "other machines can reach this address: give a --token")
        token = self.token
        if token is not None and (len(token) < MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable()):
            raise OptionError("token", f"give at least {MIN_TOKEN_LENGTH} plain characters")

    def settings(self, videos: Path | None) -> ServerSettings:
        """What a server of this folder of videos is; its own folder is made. ConfigError if a path is wrong."""
        from davel import formats

        if videos is not None and not videos.is_dir():
            raise ConfigError(f"{printable(videos)}: is no folder: name one with videos")
        folder = (self.data or home() / "serve").absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{printable(folder)}: cannot make this folder: {error.strerror}") from error
        truth = formats.read(self.annotations) if self.annotations else []
        return ServerSettings(
            data=folder,
            model=self.model,
            device=self.device,
            videos=None if videos is None else videos.absolute(),
            truth={video.id: list(video.events) for video in truth},
            token=self.token,
            workers=self.workers,
            limits=Limits(
                max_upload_bytes=round(self.max_upload_gb * 1e9),
                max_uploads=self.max_uploads,
                keep_days=self.keep_days,
                memory_bytes=round(self.memory_gb * 1e9),
                stall_seconds=self.stall_seconds,
                job_hours=self.job_hours,
            ),
        )
