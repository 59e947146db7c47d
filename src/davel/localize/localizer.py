"""A model with all that it takes to find the events of media files."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from davel import formats
from davel.compute.device import choose_device
from davel.core import result
from davel.core.annotations import Annotations
from davel.core.errors import ConfigError, printable
from davel.core.progress import Report
from davel.core.returning import through
from davel.detection import DecodeSettings
from davel.detection.windows import Detections, find_events
from davel.features.embeddings import TextEmbeddings
from davel.features.reading import Extractors, Features, Settings, read
from davel.features.spec import FeatureSpec
from davel.features.store import FeatureStore
from davel.localize.follow import Following
from davel.media import Coverage, MediaInfo, probe
from davel.models import Network
from davel.models.detector import Detector
from davel.models.saved import ModelInfo, load_model


class Result(result.Result):
    """What was found in one file, which can be saved in any format."""

    def save(self, path: str | Path) -> Path:
        """Write it whole, in the format that the name ends in (`.json`, `.csv`, `.vtt`, ...)."""
        return formats.save(self, path)


class Localizer:
    """A network with all that it takes to run it on media files."""

    def __init__(
        self, model: Detector, info: ModelInfo, weights_sha256: str, extractors: Extractors | None = None
    ) -> None:
        self.model = model
        self.info = info
        self.weights_sha256 = weights_sha256
        self.extractors = extractors or Extractors()
        """What makes features, kept from file to file."""

    def to(self, device: str | torch.device) -> Localizer:
        """`auto` is the first accelerator there is. ConfigError if the model cannot run there."""
        try:
            self.model.to(choose_device(device))
        except ConfigError:
            if device != "auto":
                raise
            self.model.to(torch.device("cpu"))  # ONNX Runtime may not know an accelerator that torch knows
        return self

    @property
    def network(self) -> Network:
        """ConfigError if ONNX Runtime runs the model."""
        if not isinstance(self.model, Network):
            raise ConfigError(f"the model {self.info.name!r} is an ONNX file, which only localizes: give its folder")
        return self.model

    def for_classes(self, embeddings: TextEmbeddings) -> Localizer:
        """The same for the classes of these embeddings instead of those that it was trained on.

        ConfigError if the model does not read what its classes are, or reads it of another encoder.
        """
        own, name = self.info.embeddings, f"the model {self.info.name!r}"
        if own is not None:
            for what in ("family", "encoder_sha256"):
                ours, theirs = getattr(own, what), getattr(embeddings, what)
                if ours and theirs and ours != theirs:
                    raise ConfigError(f"{name}: reads embeddings of {what} {ours}, got {theirs}: make them with that")
        try:
            network, chosen = self.network.of_classes(torch.from_numpy(embeddings.rows))
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from error
        pairs = zip(embeddings.labels, chosen, strict=True)
        trained = {label: self.info.labels[c] for label, c in pairs if c is not None}
        info = replace(
            self.info,
            config=network.config,
            labels=embeddings.labels,
            prompts=embeddings.prompts,
            embeddings=embeddings,
            thresholds=None,
            stand_ins={label: other for label, other in trained.items() if label != other},
        )
        return Localizer(network, info, self.weights_sha256, self.extractors)

    def matched(self, annotations: Annotations) -> Annotations:
        """The same with the model's classes, matched by name whatever their order, if it knows all of them; else as
        they are, for `require` to say what it does not know."""
        known = set(annotations.labels) <= set(self.info.labels)
        return annotations.relabelled(self.info.vocabulary) if known else annotations

    def require(self, features: FeatureSpec, labels: Sequence[str], source: str) -> None:
        """ConfigError unless `source` has the features and classes of this model; it says what is different."""
        self.info.features.require(features, "the model", source)
        if difference := self.info.vocabulary.difference(labels):
            raise ConfigError(f"{source}: has other classes than the model: {difference}")

    def _least(self, threshold: float | Literal["auto"] | None) -> float | list[float]:
        """The score, or those of each class, from which events are reported. ConfigError if the model has none."""
        if threshold != "auto":
            return self.info.threshold if threshold is None else threshold
        if self.info.thresholds is None:
            raise ConfigError(
                f"the model {self.info.name!r} has no thresholds of its classes: fit them on validation videos with "
                "`davel evaluate MODEL --fit-thresholds`, or give a number"
            )
        return list(self.info.thresholds)

    def localize(
        self,
        path: str | Path,
        *,
        threshold: float | Literal["auto"] | None = None,
        top_k: int | None = None,
        settings: DecodeSettings | None = None,
        kept: Path | None = None,
        start: float = 0.0,
        end: float | None = None,
        report: Report | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Result:
        """The audio-visual events of a media file of any length, in memory that does not grow with it.

        `threshold` is the least score (by default the model's; `auto`: that of each class, fitted on validation
        videos), `top_k` the most events, `kept` a folder of features: those of the file that it has are used, others
        are made and kept there. `start` and `end` are the seconds between which events are looked for (all times stay
        those of the file); `report` is told the seconds that are done, and how many there are. MediaError if the file
        cannot be read as a whole.
        """
        if progress is not None:
            warnings.warn("progress is report now, of davel.core.progress", DeprecationWarning, stacklevel=2)
        path = Path(path)
        making = Settings(self.info.features, str(self.model.device))
        choice = Choice(self._least(threshold), top_k, settings or self.model.detection)
        if kept is not None and (start or end is not None):
            raise ConfigError("kept features are those of whole files: leave out the start and the end, or the folder")
        if kept is not None:
            return self._localize(FeatureStore(kept, self.extractors).extracted(path, path.stem, making), choice)
        hop = making.spec.step_seconds * self.model.config.hop
        offset = math.floor(start / hop + 1e-9) * hop  # windows fall as on the whole file
        reading = read(path, making, offset, end, extractors=self.extractors, tracks=self.info.tracks)

        facts: list[tuple[MediaInfo, Coverage]] = []

        def steps() -> Generator[tuple[Tensor, Tensor]]:
            length = min(probe(path).duration_seconds or math.inf, end or math.inf) - start if report else math.inf

            def tensors(arrays: Sequence[NDArray[np.float32]]) -> Iterator[tuple[Tensor, Tensor]]:
                yield torch.from_numpy(arrays[0]), torch.from_numpy(arrays[1])
                if report:
                    done = max(reading.seconds - start, 0.0)
                    report("localize", done, max(length, done) if math.isfinite(length) else None, path.name)
                if progress:
                    progress(reading.seconds)

            facts.append((yield from through(reading.steps(), tensors)))

        timing = making.spec.timing._replace(start=offset)
        seen = find_events(self.model, steps(), timing, self.info.labels, choice.decode)
        [(info, coverage)] = facts
        return self._result(seen, choice, info, coverage, offset, start, end)

    def follow(
        self,
        path: str | Path,
        *,
        threshold: float | Literal["auto"] | None = None,
        settings: DecodeSettings | None = None,
        idle_seconds: float = 10.0,
    ) -> Following:
        """The events of a file that is still being written, or of a pipe (`-`: standard input), as they become certain.

        The file is at its end when it has not grown for `idle_seconds`, a pipe when it is closed.
        """
        least = self._least(threshold)
        return Following(
            self.model, self.info, Path(path), least, settings or self.model.detection, idle_seconds, self.extractors
        )

    def localize_features(
        self,
        features: Features,
        *,
        threshold: float | Literal["auto"] | None = None,
        top_k: int | None = None,
        settings: DecodeSettings | None = None,
    ) -> Result:
        """The same for features that were extracted before. ConfigError if they are not of the model's kind."""
        return self._localize(features, Choice(self._least(threshold), top_k, settings or self.model.detection))

    def _localize(self, features: Features, choice: Choice) -> Result:
        self.info.features.require(features.spec, "the model", printable(features.info.path))
        steps = [(torch.from_numpy(features.visual), torch.from_numpy(features.audio))]
        seen = find_events(self.model, steps, features.spec.timing, self.info.labels, choice.decode)
        return self._result(seen, choice, features.info, features.coverage)

    def _result(
        self,
        seen: Detections,
        choice: Choice,
        info: MediaInfo,
        coverage: Coverage,
        offset: float = 0.0,
        start: float = 0.0,
        end: float | None = None,
    ) -> Result:
        first, last = coverage.both
        span = (max(first, start), last if end is None else min(last, end))
        found = seen.events.clipped(*span).above(choice.least)
        timing = self.info.features.timing._replace(start=offset)
        settings = {"threshold": choice.least, "top_k": choice.top_k, "decode": asdict(choice.decode)}
        if self.info.stand_ins:
            settings["boundaries_of"] = dict(self.info.stand_ins)
        return Result(
            info=info,
            events=found if choice.top_k is None else found[: choice.top_k],
            duration=coverage.duration_seconds,
            coverage=coverage,
            span=span,
            timing=timing,
            curves=seen.curves,
            features=self.info.features.to_dict(),
            model=self.info.name,
            weights_sha256=self.weights_sha256,
            settings=settings,
        )


@dataclass(frozen=True)
class Choice:
    """What of the candidates is reported."""

    least: float | list[float]
    top_k: int | None
    decode: DecodeSettings


Runtime = Literal["torch", "onnx"]


def read_model(
    name_or_dir: str | Path, runtime: Runtime | None = None, home: Path | None = None
) -> tuple[Detector, ModelInfo, str]:
    """A built-in model, a model's folder or an ONNX file: its network, what is known of it, and its weights' sha256."""
    is_file = Path(name_or_dir).suffix == ".onnx"
    if is_file and runtime == "torch":
        raise ConfigError(f"{name_or_dir}: torch runs folders of models, not ONNX files")
    if is_file or runtime == "onnx":
        from davel.models.onnx import exported, load_onnx

        return load_onnx(exported(name_or_dir, home))
    return load_model(name_or_dir)


def load(
    name_or_dir: str | Path = "scenes",
    device: str = "auto",
    *,
    colours: str | None = None,
    resampler: str | None = None,
    runtime: Runtime | None = None,
    home: Path | None = None,
    extractors: Extractors | None = None,
    classes: Path | None = None,
) -> Localizer:
    """A localizer from a built-in model's name, a model's folder, or an ONNX file; `device` as in torch, or `auto`.

    With the runtime `onnx` a model is run by ONNX Runtime, for which it is exported once, into `home` (by default where
    davel keeps what it downloads). `colours` and `resampler` replace what the model says of its features, where one
    knows better. `extractors` are what makes features (by default the localizer has its own). `classes` is a file of
    embeddings (`davel features embed`): a model that reads what classes are finds those instead of its own.
    """
    model, info, digest = read_model(name_or_dir, runtime, home)
    changes = {key: value for key, value in (("colours", colours), ("resampler", resampler)) if value is not None}
    info = replace(info, features=FeatureSpec.from_dict(info.features.to_dict() | changes))
    localizer = Localizer(model, info, digest, extractors)
    if classes is not None:
        localizer = localizer.for_classes(TextEmbeddings.load(classes))
    return localizer.to(device)
