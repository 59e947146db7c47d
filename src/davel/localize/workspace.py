"""What a program keeps open from file to file: models, what makes their features, and the folder of what is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from davel.core import files
from davel.features.reading import Extractors
from davel.localize.localizer import Localizer, Runtime, load
from davel.models.saved import EMBEDDINGS, find_model

Key = tuple[str, str, str | None, str | None, Runtime | None, Path | None]
Stamps = tuple[int, ...]


@dataclass
class Workspace:
    """Models and extractors that are open: each is read once, and again where its files have changed since.

    Make one and pass it to what takes one; a worker process makes its own. It has what it holds as long as it lives,
    and nothing else does.
    """

    most_models: int = 1
    """Models that are open at a time; the one that was not used for longest goes first."""
    home: Path = field(default_factory=files.home)
    """Where models that are exported for ONNX Runtime are kept."""
    extractors: Extractors = field(default_factory=Extractors)
    """What makes features, for all models."""
    _localizers: dict[Key, tuple[Stamps, Localizer]] = field(default_factory=dict, init=False, repr=False)

    def localizer(
        self,
        model: str | Path = "scenes",
        device: str = "auto",
        *,
        colours: str | None = None,
        resampler: str | None = None,
        runtime: Runtime | None = None,
        classes: Path | None = None,
    ) -> Localizer:
        """As `davel.load`, but the same as before if there is one. ConfigError or MissingError if it cannot be read."""
        key = (str(model), device, colours, resampler, runtime, classes)
        stamps = _stamps(model, *([] if classes is None else [classes]))
        earlier, localizer = self._localizers.pop(key, ((), None))
        if localizer is None or earlier != stamps:
            localizer = load(
                model,
                device,
                colours=colours,
                resampler=resampler,
                runtime=runtime,
                home=self.home,
                extractors=self.extractors,
                classes=classes,
            )
        self._localizers[key] = stamps, localizer  # the last one is the youngest
        for oldest in list(self._localizers)[: -self.most_models]:
            del self._localizers[oldest]
        return localizer


def _stamps(model: str | Path, *others: Path) -> Stamps:
    """When the model's files, and others, were written."""
    is_file = Path(model).suffix == ".onnx"
    folder = Path() if is_file else find_model(model)
    paths = [Path(model)] if is_file else [*sorted(folder.glob("model.*")), folder / EMBEDDINGS]
    return tuple(path.stat().st_mtime_ns for path in [*paths, *others] if path.exists())
