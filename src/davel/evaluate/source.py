"""From a model, or a file of predictions, to its figures and reports: what `davel evaluate` does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from davel import formats
from davel.core.errors import printable
from davel.core.events import EventList, Video
from davel.core.options import OptionError
from davel.core.progress import Report, silent
from davel.data.unav100 import ANNOTATIONS
from davel.evaluate import analysis, report
from davel.evaluate.evaluation import ANALYSED, Evaluation, evaluate, match_videos
from davel.evaluate.files import Predictions, read_predictions
from davel.evaluate.options import EvaluateOptions
from davel.formats import activitynet

if TYPE_CHECKING:
    from davel.data.dataset import Dataset
    from davel.data.sources import DataConfig
    from davel.localize import Localizer

PUBLISHED = "published batching: 16 videos at a time in file order, with the released code's mask error"


@dataclass(frozen=True)
class Evaluated:
    """Figures, and what they were made of."""

    evaluation: Evaluation
    subset: str
    told: tuple[str, ...]
    """Lines for people: what was cut, left out, or kept with the model."""
    predictions: Mapping[str, EventList] | None
    """Of a model; a file has its own."""

    def save(self, folder: Path) -> None:
        """Write figures, report, rows of tables, and a model's predictions into a folder."""
        evaluation = self.evaluation
        folder.mkdir(parents=True, exist_ok=True)
        texts = {
            "figures.json": json.dumps(evaluation.to_dict(), indent=1) + "\n",
            "report.html": report.html(evaluation),
            "rows.md": report.markdown([evaluation]),
            "rows.tex": report.latex([evaluation]),
        }
        if self.predictions is not None:
            videos = [Video(key, events) for key, events in self.predictions.items()]
            origin = "; ".join(evaluation.notes) or None
            texts["predictions.json"] = activitynet.dump_results(
                videos, origin, model=evaluation.name, subset=self.subset
            )
        for name, text in texts.items():
            formats.write_text(folder / name, text)


def evaluate_source(source: str, options: EvaluateOptions, progress: Report = silent) -> Evaluated:
    """Evaluate a model (a name or a folder) or a file of predictions in any format.

    OptionError if the options are of the other kind of source; ConfigError if data, model and options do not fit.
    """
    subset, is_file = options.chosen_subset, is_predictions(Path(source))
    if is_file:
        if options.of_models:
            raise OptionError(options.of_models, "predictions need --data or --annotations only")
        annotations = options.annotations or Path(str(options.data)) / ANNOTATIONS
        found = read_predictions(Path(source), annotations, subset)
    else:
        found = _of_model(source, options, subset, progress)
    evaluation = evaluate(
        found.events,
        found.videos,
        next(iter(found.videos.values())).events.labels,
        name=found.name,
        notes=found.notes,
        resamples=options.bootstrap,
        thresholds=found.thresholds if options.threshold is None else options.threshold,
        with_psds=options.psds,
    )
    told = (*found.told, *_repeated(evaluation))
    return Evaluated(evaluation, subset, told, None if is_file else found.events)


def _repeated(evaluation: Evaluation) -> list[str]:
    count = evaluation.figures.get("repeated", 0)
    same = f"{count} annotated events repeat another of their video and class, to a thousandth of a second"
    return [f"{same}: they count once"] if count else []


def is_predictions(source: Path) -> bool:
    """Whether a source is a file of events, and no model: what a format knows, or would be named so if it existed."""
    if source.is_file() and source.suffix != ".onnx":
        return True
    endings = (*(f".{form.suffix}" for form in formats.FORMATS.values()), ".json", ".txt")
    return not source.exists() and source.name.lower().endswith(endings)


def _of_model(source: str, options: EvaluateOptions, subset: str, progress: Report) -> Predictions:
    from davel.evaluate.prediction import predict, predict_published
    from davel.localize import load
    from davel.models.saved import find_model

    folder = find_model(source)
    localizer = load(folder, options.device)
    dataset = _opened(_data(options, localizer), localizer, subset, progress)
    notes = [dataset.origin] if dataset.origin else []
    learnt_from = localizer.info.figures.get("data")
    if learnt_from and learnt_from not in notes:
        notes.append(f"trained on {learnt_from}")
    if options.published_batching:
        events = predict_published(localizer.network, dataset, report=progress)
        notes.append(PUBLISHED)
    else:
        events = predict(localizer.network, dataset, without=options.without, report=progress)
    if options.without:
        notes.append(f"without {options.without}: its features are zero")
    thresholds: tuple[float, ...] | float = localizer.info.thresholds or localizer.info.threshold
    told: tuple[str, ...] = ()
    if options.fit_thresholds:
        thresholds, line = _fitted(folder, localizer, events, dataset.videos)
        told = (line,)
    return Predictions(localizer.info.name, events, dataset.videos, tuple(notes), told, thresholds)


def _data(options: EvaluateOptions, localizer: Localizer) -> DataConfig:
    from davel.data.sources import DataConfig

    if options.data is not None:
        return DataConfig.unav100(options.data)
    assert options.annotations is not None
    try:
        return DataConfig(
            annotations=options.annotations,
            videos=options.videos,
            features=options.features,
            cache=options.cache,
            extractor=localizer.info.features.name,
        )
    except ValueError as error:
        raise OptionError("annotations", str(error)) from error


def _opened(config: DataConfig, localizer: Localizer, subset: str, progress: Report) -> Dataset:
    annotated = localizer.matched(config.annotated())
    dataset = config.open(annotated.subset(subset, or_all=True), progress)
    localizer.require(dataset.spec, annotated.labels, str(config.annotations))
    return dataset


def _fitted(
    folder: Path, localizer: Localizer, found: Mapping[str, EventList], videos: Mapping[str, Video]
) -> tuple[tuple[float, ...], str]:
    """Each class's score of best F1, kept with the model, and a line that says so."""
    from davel.models.saved import keep_thresholds

    fitted = analysis.fit_thresholds(match_videos(found, videos, len(localizer.info.labels)), ANALYSED)
    keep_thresholds(folder, localizer.info, fitted.per_class)
    return fitted.per_class, (
        f"kept with {printable(folder)}: thresholds from {min(fitted.per_class):.2f} to {max(fitted.per_class):.2f} "
        f"(one for all classes would be {fitted.overall:.2f})"
    )
