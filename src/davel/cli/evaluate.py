"""`davel evaluate`: how good a model, or a file of predictions, is on annotated videos."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape
from rich.table import Table

from davel.cli import console
from davel.core.errors import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from davel.core.events import EventList, Video
    from davel.data.dataset import Dataset
    from davel.data.sources import DataConfig
    from davel.evaluate import Evaluation
    from davel.localize import Localizer


class Modality(StrEnum):
    audio = "audio"
    visual = "visual"


PUBLISHED = "published batching: 16 videos at a time in file order, with the released code's mask error"


def evaluate(
    source: str = typer.Argument(help="A model, or a file of predictions in any format."),
    data: Path | None = typer.Option(None, help="The data set's folder, in UnAV-100's layout."),
    annotations: Path | None = typer.Option(None, help="Instead, true events in any format, and for a model:"),
    videos: Path | None = typer.Option(None, help="Folder of the videos."),
    features: Path | None = typer.Option(None, help="Instead, a folder of features that were extracted before."),
    cache: Path | None = typer.Option(None, help="Where features of videos are kept (default: features/ beside)."),
    subset: str | None = typer.Option(None, help="The subset (default: test, or validation to fit thresholds)."),
    output: Path | None = typer.Option(
        None, "-o", "--output", help="Folder for report, figures, rows and predictions."
    ),
    as_json: bool = typer.Option(False, "--json", help="All figures, as a JSON object."),
    bootstrap: int = typer.Option(1000, min=0, help="Resamples of the videos for 95 % intervals; 0 for none."),
    without: Modality | None = typer.Option(None, help="Zero the features of one modality."),
    published_batching: bool = typer.Option(False, "--published-batching", help="As the published figures were made."),
    fit_thresholds: bool = typer.Option(False, "--fit-thresholds", help="Keep each class's best score with the model."),
    device: str = typer.Option("auto", help="auto, cpu, cuda, ..."),
) -> None:
    """Average mAP with intervals, by class and duration, with the errors that cost it."""
    from davel.core.errors import ConfigError
    from davel.core.events import Video
    from davel.data.unav100 import ANNOTATIONS
    from davel.evaluate import evaluate as run
    from davel.evaluate import report
    from davel.formats import activitynet, write_text

    if (data is None) == (annotations is None):
        raise typer.BadParameter("name either --data or --annotations")
    path = annotations or Path(str(data)) / ANNOTATIONS
    is_file = _is_predictions(Path(source))
    if is_file and (videos or features or cache or without or published_batching or fit_thresholds):
        raise typer.BadParameter("predictions need --data or --annotations only")
    if without and published_batching:
        raise typer.BadParameter("--published-batching takes both modalities")
    if fit_thresholds and subset == "test":
        raise ConfigError("the test subset is never used for selection: fit thresholds on another")
    subset = subset or ("validation" if fit_thresholds else "test")

    thresholds: tuple[float, ...] | float | None = None
    notes: list[str] = []
    found: Mapping[str, EventList]
    chosen: Mapping[str, Video]
    if is_file:
        name = Path(source).stem
        found, chosen, notes = predictions_of(Path(source), path, subset)
    else:
        from davel.localize import load
        from davel.models.saved import find_model

        folder = find_model(source)
        localizer = load(folder, device)
        name = localizer.info.name
        dataset = _open(_config(data, annotations, videos, features, cache, localizer), localizer, subset)
        found, chosen = _predict(localizer, dataset, without, published_batching), dataset.videos
        notes = [note for note in (dataset.origin, PUBLISHED if published_batching else None) if note]
        notes += [f"without {without.value}: its features are zero"] if without else []
        if fit_thresholds:
            thresholds = _fit(folder, localizer, found, chosen)
        else:
            thresholds = localizer.info.thresholds or localizer.info.threshold
    labels = next(iter(chosen.values())).events.labels
    evaluation = run(found, chosen, labels, name=name, notes=notes, resamples=bootstrap, thresholds=thresholds)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        origin = "; ".join(notes) or None
        if not is_file:
            predictions = [Video(key, events) for key, events in found.items()]
            text = activitynet.dump_results(predictions, origin, model=name, subset=subset)
            write_text(output / "predictions.json", text)
        write_text(output / "figures.json", json.dumps(evaluation.to_dict(), indent=1) + "\n")
        write_text(output / "report.html", report.html(evaluation))
        write_text(output / "rows.md", report.markdown([evaluation]))
        write_text(output / "rows.tex", report.latex([evaluation]))
    if as_json:
        print(json.dumps(evaluation.to_dict(), indent=2))
    else:
        _show(evaluation, subset)


def _is_predictions(source: Path) -> bool:
    """Whether a source is a file of events, and no model: what a format knows, or would be named so if it existed."""
    from davel import formats

    if source.is_file() and source.suffix != ".onnx":
        return True
    endings = (*(f".{form.suffix}" for form in formats.FORMATS.values()), ".json", ".txt")
    return not source.exists() and source.name.lower().endswith(endings)


def predictions_of(
    source: Path, annotations: Path, subset: str
) -> tuple[Mapping[str, EventList], Mapping[str, Video], list[str]]:
    """What a file says of the videos of a subset, these videos, and what must be said of it.

    Both may be in any format. ConfigError if the predictions have classes that the annotations do not know.
    """
    from davel import formats
    from davel.core.errors import ConfigError, refuse
    from davel.formats import activitynet

    annotated = formats.read_annotations(annotations, durations=False)
    chosen = annotated.subset(subset, or_all=True)
    contents = formats.inspect(source, vocabulary=annotated.vocabulary)
    refuse(source, [problem for problem in contents.problems if problem.kind not in formats.TOLD])
    found = {video.id: video.events for video in contents.videos}
    names = activitynet.renamed(found, annotated.videos)
    ours = {names[key]: events for key, events in found.items() if names[key] in chosen}
    if not ours:
        known, given = (", ".join(map(repr, list(keys)[:2])) for keys in (chosen, found))
        raise ConfigError(
            f"{printable(source)}: has none of the {len(chosen)} videos of the subset {subset!r}, such as "
            f"{printable(known)}: it has {printable(given) or 'no videos'}"
        )
    for line in formats.told((*annotated.told, *contents.problems)):
        console.complain(f"davel: {printable(line)}")
    if unknown := [key for key in found if names[key] not in annotated.videos]:
        listed = ", ".join(map(printable, unknown[:3]))
        console.complain(f"davel: {len(unknown)} predicted videos are not annotated: {listed}")
    return ours, chosen, [contents.origin] if contents.origin else []


def _config(
    data: Path | None,
    annotations: Path | None,
    videos: Path | None,
    features: Path | None,
    cache: Path | None,
    localizer: Localizer,
) -> DataConfig:
    from davel.data.sources import DataConfig

    if data is not None:
        if videos or features or cache:
            raise typer.BadParameter("--data holds the features: leave --videos, --features and --cache out")
        return DataConfig.unav100(data)
    assert annotations is not None
    extractor = localizer.info.features.name
    try:
        return DataConfig(annotations=annotations, videos=videos, features=features, cache=cache, extractor=extractor)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _open(config: DataConfig, localizer: Localizer, subset: str) -> Dataset:
    annotated = localizer.matched(config.annotated())
    chosen = annotated.subset(subset, or_all=True)
    with console.progress_bar() as bar:
        task = bar.add_task("features", total=len(chosen), note="")
        dataset = config.open(chosen, lambda done, total: bar.update(task, completed=done, total=total))
    localizer.require(dataset.spec, annotated.labels, str(config.annotations))
    return dataset


def _predict(
    localizer: Localizer, dataset: Dataset, without: Modality | None, published_batching: bool
) -> dict[str, EventList]:
    from davel.evaluate import predict, predict_published

    with console.progress_bar() as bar:
        task = bar.add_task("predict", total=len(dataset), note="")

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        if published_batching:
            return predict_published(localizer.network, dataset, progress=progress)
        return predict(localizer.network, dataset, without=without.value if without else None, progress=progress)


def _fit(
    folder: Path, localizer: Localizer, found: Mapping[str, EventList], videos: Mapping[str, Video]
) -> tuple[float, ...]:
    from davel.evaluate import ANALYSED, analysis, match_videos
    from davel.models.saved import keep_thresholds

    fitted = analysis.fit_thresholds(match_videos(found, videos, len(localizer.info.labels)), ANALYSED)
    keep_thresholds(folder, localizer.info, fitted.per_class)
    console.complain(
        f"kept with {printable(folder)}: thresholds from {min(fitted.per_class):.2f} to {max(fitted.per_class):.2f} "
        f"(one for all classes would be {fitted.overall:.2f})"
    )
    return fitted.per_class


def _show(evaluation: Evaluation, subset: str) -> None:
    from davel.evaluate import report

    figures = evaluation.figures
    told = "".join(f"\n{note}" for note in evaluation.notes)
    title = f"{evaluation.name}: mAP on {figures['videos']} videos ({subset}), {figures['events']} events{told}"
    table = Table("temporal IoU", *report.SHOWN, "Avg.", title=escape(printable_lines(title)), title_justify="left")
    table.add_row("mAP", *report.cells(evaluation))
    for name, ends in zip(("95 % from", "95 % to"), report.interval_cells(evaluation), strict=False):
        table.add_row(name, *ends)
    for row in figures["durations"]:
        at = [""] * len(report.SHOWN)
        at[0] = report.percent(row.get("mAP@0.5"))
        table.add_row(f"{row['over']:g}–{row['to']:g} s", *at, report.percent(row.get("average_mAP")))
    out = console.results()
    out.print(table)
    gains = figures["errors"]["gains"]
    out.print("without errors: " + ", ".join(f"{kind} +{100 * gain:.1f}" for kind, gain in gains.items()))
    if "f1" in figures:
        f1 = figures["f1"]
        out.print(
            f"F1 at the model's thresholds: {report.percent(f1['micro'])} (classes: {report.percent(f1['macro'])})"
        )
    if "decoys" in figures:
        out.print(f"decoys reported: {report.percent(figures['decoys_reported'])} % of {figures['decoys']}")
    if figures["without_predictions"]:
        out.print(f"videos without predictions: {figures['without_predictions']}")


def printable_lines(text: str) -> str:
    return "\n".join(map(printable, text.splitlines()))
