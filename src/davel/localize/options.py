"""What `davel localize` can be told, as values. Nothing here needs torch: the command line reads it for its help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from davel.compute.cluster import ClusterOptions
from davel.core.options import option


def seconds(text: str) -> float:
    """Of `90`, `1:30` or `0:01:30`."""
    try:
        parts = [float(part) for part in text.split(":")]
        if len(parts) > 3 or not all(0 <= part < float("inf") for part in parts):
            raise ValueError
    except ValueError:
        raise ValueError(f"expected seconds or H:MM:SS, got {text!r}") from None
    return sum(part * factor for part, factor in zip(reversed(parts), (1, 60, 3600), strict=False))


def threshold(text: str) -> float | Literal["auto"]:
    """A score, or the word that asks for those of the classes."""
    if text == "auto":
        return "auto"
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise ValueError(f"expected a score from 0 to 1, or auto, got {text!r}")
    return value


@dataclass(frozen=True, kw_only=True)
class LocalizeOptions:
    """How the events of files are found, and what is written of them where."""

    output: str = option(".", "-o", "--output")
    """Folder for the results, or - for stdout."""
    format: str | None = option(None, "-f", "--format")
    """Formats to write, by commas (default: json); see `davel convert`."""
    model: str = option("scenes", "-m", "--model")
    """A built-in model, a model's folder, or an ONNX file."""
    classes: Path | None = None
    """Find these classes instead of the model's: a file of `davel features embed`, for a model that reads text."""
    threshold: float | Literal["auto"] | None = option(None, metavar="SCORE", text=threshold)
    """Least score of an event, or auto: one for each class (default: the model's)."""
    top_k: int | None = option(None, minimum=1)
    """Most events of a file."""
    plot: bool = False
    """Also draw each result as a PNG."""
    annotations: Path | None = None
    """True events to draw, in UnAV-100's schema (with --plot)."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""
    runtime: Literal["torch", "onnx"] | None = None
    """What runs the network; for onnx it is exported once (default: as the model is)."""
    start: float = option(0.0, text=seconds, shown="0")
    """Look for events from here on: seconds, or H:MM:SS."""
    end: float | None = option(None, text=seconds)
    """And up to here."""
    follow: bool = False
    """The file is still being written, or is a pipe (-: stdin): print its events as JSON lines."""
    idle: float | None = option(None, minimum=0)
    """With --follow: a file that has not grown for so many seconds is at its end (default: 10)."""
    features: Path | None = None
    """Folder that `davel extract` wrote: its features are used, others are made and kept there."""
    colours: str | None = None
    """declared or bt601, if not as the model says."""
    resampler: str | None = None
    """soxr, resampy-0.2.2 or resampy-0.4.3, if not as the model says."""
    cluster: ClusterOptions = field(default_factory=ClusterOptions)
