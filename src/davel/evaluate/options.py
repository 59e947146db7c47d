"""What `davel evaluate` can be told, as values. Nothing here needs torch: the command line reads it for its help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from davel.core.errors import ConfigError
from davel.core.options import OptionError, option


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What a model or a file of predictions is held against, and what is written of it."""

    data: Path | None = None
    """The data set's folder, in UnAV-100's layout."""
    annotations: Path | None = None
    """Instead, true events in any format, and for a model:"""
    videos: Path | None = None
    """Folder of the videos."""
    features: Path | None = None
    """Instead, a folder of features that were extracted before."""
    cache: Path | None = None
    """Where features of videos are kept (default: features/ beside)."""
    subset: str | None = None
    """The subset (default: test, or validation to fit thresholds)."""
    output: Path | None = option(None, "-o", "--output")
    """Folder for report, figures, rows and predictions."""
    as_json: bool = option(False, "--json")
    """All figures, as a JSON object."""
    bootstrap: int = option(1000, minimum=0)
    """Resamples of the videos for 95 % intervals; 0 for none."""
    threshold: float | None = option(None, minimum=0, maximum=1)
    """The score from which an event counts as reported (default: the model's own, 0.5 for files)."""
    psds: bool = False
    """Polyphonic sound detection scores, too (minutes)."""
    without: Literal["audio", "visual"] | None = None
    """Zero the features of one modality."""
    published_batching: bool = False
    """As the published figures were made."""
    fit_thresholds: bool = False
    """Keep each class's best score with the model."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""

    def __post_init__(self) -> None:
        if (self.data is None) == (self.annotations is None):
            raise OptionError(("data", "annotations"), "name either --data or --annotations")
        if self.data is not None and self.sources:
            raise OptionError(self.sources, "--data holds the features: leave --videos, --features and --cache out")
        if self.without and self.published_batching:
            raise OptionError("without", "--published-batching takes both modalities")
        if self.fit_thresholds and self.threshold is not None:
            raise OptionError("threshold", "--fit-thresholds finds the scores itself")
        if self.fit_thresholds and self.subset == "test":
            raise ConfigError("the test subset is never used for selection: fit thresholds on another")

    @property
    def sources(self) -> tuple[str, ...]:
        """Which of the options that say where features are found are given."""
        return tuple(name for name in ("videos", "features", "cache") if getattr(self, name) is not None)

    @property
    def of_models(self) -> tuple[str, ...]:
        """Which of the options are given that a file of predictions has no use for."""
        others = ("without", "published_batching", "fit_thresholds")
        return (*self.sources, *(name for name in others if getattr(self, name)))

    @property
    def chosen_subset(self) -> str:
        return self.subset or ("validation" if self.fit_thresholds else "test")
