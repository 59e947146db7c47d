"""An evaluation for people: one HTML file, and rows for a paper in Markdown and LaTeX.

The file needs nothing but itself: no scripts, no network, pictures inside; light or dark as the reader's system is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from davel.core.errors import printable
from davel.evaluate import analysis
from davel.evaluate.evaluation import ANALYSED, AVERAGES, Evaluation
from davel.evaluate.floors import FLOORS, ORACLES
from davel.evaluate.metrics import NAMES

SHOWN = ("0.5", "0.6", "0.7", "0.8", "0.9")
"""The paper's columns, before the averages."""
AVERAGED = tuple(f"Avg. {name.replace('-', '–')}" for name in AVERAGES)
"""Over which tIoU the averages run, as a column's head. The first is the paper's."""
BESIDE = {
    "whole video": ("floor", "right classes, the whole video"),
    "first to last": ("floor", "right classes, first onset to last offset"),
    "right class": ("oracle", "told the right class"),
    "right extent": ("oracle", "told the right extent"),
    "right class and extent": ("oracle", "told both"),
}
"""What `floors.FLOORS` and `floors.ORACLES` are, in words."""
COLOURS = ("#1f6f8b", "#b5446e", "#4c8c4a", "#c07a1a", "#7a4fa3")
WORST_VIDEOS = 20
CURVES = 5


def percent(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{100 * value:.1f}"


def columns(named: dict[str, Any]) -> list[Any]:
    """What there is of the paper's thresholds and of both averages, of anything that has them by name."""
    return [*(named["mAP"][t] for t in SHOWN), *(named["averages"][name] for name in AVERAGES)]


def cells(evaluation: Evaluation) -> list[str]:
    """mAP at the paper's thresholds and both averages, in percent."""
    return [percent(value) for value in columns(evaluation.figures)]


def interval_cells(evaluation: Evaluation) -> list[list[str]]:
    """The same columns' 95 % confidence intervals: a row of lower and one of upper ends; none if not computed."""
    intervals = evaluation.figures.get("intervals")
    if intervals is None:
        return []
    return [[percent(end[i]) for end in columns(intervals)] for i in (0, 1)]


def floor_cells(evaluation: Evaluation) -> list[list[str]]:
    """The same columns of what needs no model, each row under its name. They depend on the annotations only."""
    floors = evaluation.figures["floors"]
    return [[f"floor: {name}", *map(percent, columns(floors[name]))] for name in FLOORS if name in floors]


def oracle_cells(evaluation: Evaluation) -> list[list[str]]:
    """The same columns of the predictions with a part of the truth told to them, each row under its name."""
    oracles = evaluation.figures["oracles"]
    short = {"right class and extent": "both right"}
    return [[f"oracle: {short.get(name, name)}", *map(percent, columns(oracles[name]))] for name in ORACLES]


def markdown_table(rows: Sequence[Sequence[str]], figures: int = 0) -> str:
    """The rows under the first one, which is the head; so many columns from the right are set to
    the right, as figures are."""
    rule = [*["---"] * (len(rows[0]) - figures), *["---:"] * figures]
    return "".join(f"| {' | '.join(_pipe(cell) for cell in row)} |\n" for row in (rows[0], rule, *rows[1:]))


def markdown(evaluations: Sequence[Evaluation]) -> str:
    """A table of mAP, a row for each, and below them the floors."""
    head = ["model", *SHOWN, *AVERAGED]
    rows = [*([e.name, *cells(e)] for e in evaluations), *(row for e in evaluations[:1] for row in floor_cells(e))]
    return markdown_table([head, *rows], len(head) - 1) + _footnotes(evaluations, "\n{}\n")


def latex(evaluations: Sequence[Evaluation]) -> str:
    """Rows of a tabular with eight columns, under a comment that names them; the last ones are the floors."""
    rows = [*([e.name, *cells(e)] for e in evaluations), *(row for e in evaluations[:1] for row in floor_cells(e))]
    text = "".join(f"{_tex(name)} & {' & '.join(figures)} \\\\\n" for name, *figures in rows)
    return f"% model & {' & '.join((*SHOWN, *AVERAGED))} \\\\\n{text}" + _footnotes(evaluations, "% {}\n")


def _footnotes(evaluations: Sequence[Evaluation], form: str) -> str:
    notes = dict.fromkeys(f"{e.name}: {note}" for e in evaluations for note in e.notes)
    return "".join(form.format(printable(note)) for note in notes)


def _pipe(text: str) -> str:
    return printable(text).replace("|", "\\|")


def _tex(text: str) -> str:
    special = {c: f"\\{c}" for c in "&%$#_{}"} | {"\\": "\\textbackslash{}", "~": "\\~{}", "^": "\\^{}"}
    return "".join(special.get(c, c) for c in printable(text))


Table = tuple[list[str], list[list[object]]]
"""A head and its rows, each cell as it is shown."""


def html(evaluation: Evaluation) -> str:
    """The whole report."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    def on_one_line(value: object) -> object:
        return printable(value) if type(value) is str else value  # not Markup, which the template's macros make

    environment = Environment(
        loader=PackageLoader("davel.evaluate", ""),
        autoescape=True,
        finalize=on_one_line,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = percent
    figures = evaluation.figures
    classes = figures["classes"].items()
    return environment.get_template("report.html.j2").render(
        title=f"{evaluation.name}: {percent(figures['average_mAP'])} average mAP ({AVERAGES[0].replace('-', '–')})",
        averaged=list(AVERAGED),
        averages=[(name.replace("-", " to "), figures["averages"][name]) for name in AVERAGES],
        notes=evaluation.notes,
        figures=figures,
        num_classes=len(evaluation.labels),
        whole=_whole(figures),
        beside=_beside(figures),
        reported_tables=_reported(figures["reported"], figures["seconds"]),
        durations=_durations(figures),
        errors=_errors(figures["errors"]),
        missed_tables=_missed(figures["missed"]),
        recall=_recall(figures["recall"]),
        curves=_curves(evaluation),
        classes=sorted(classes, key=lambda c: (not c[1]["events"], -c[1]["average_AP"] if c[1]["events"] else 0)),
        worst=_worst(evaluation),
    )


def _whole(figures: dict[str, Any]) -> Table:
    rows: list[list[object]] = [["mAP", *(percent(value) for value in _all(figures))]]
    if intervals := figures.get("intervals"):
        rows += [
            [name, *(percent(end[i]) for end in _all(intervals))] for i, name in enumerate(("95 % from", "95 % to"))
        ]
    return ["temporal IoU", *NAMES, *AVERAGED], rows


def _all(named: dict[str, Any]) -> list[Any]:
    return [*(named["mAP"][t] for t in NAMES), *(named["averages"][name] for name in AVERAGES)]


@dataclass(frozen=True)
class Beside:
    """A result, or what it is to be held against."""

    kind: str
    """`floor`, `result` or `oracle`."""
    name: str
    cells: list[str]
    """mAP at 0.5 and 0.9, and both averages."""
    width: float
    """The first average, in percent, as a bar."""


def _beside(figures: dict[str, Any]) -> list[Beside]:
    """From the floors over the result itself to the oracles."""

    def row(kind: str, name: str, of: dict[str, Any]) -> Beside:
        averages = [of["averages"][average] for average in AVERAGES]
        shown = [of["mAP"]["0.5"], of["mAP"]["0.9"], *averages]
        return Beside(kind, name, [percent(value) for value in shown], 100 * averages[0])

    others = {name: row(*BESIDE[name], of) for name, of in {**figures["floors"], **figures["oracles"]}.items()}
    floors = [others[name] for name in FLOORS if name in others]
    return [*floors, row("result", "this result", figures), *(others[name] for name in ORACLES)]


def _durations(figures: dict[str, Any]) -> Table:
    return ["seconds of an event", "events", "found at 0.5", "mAP at 0.5", *AVERAGED], [
        [
            _span(d),
            d["events"],
            percent(d.get("found@0.5")),
            percent(d.get("mAP@0.5")),
            *(percent(d.get("averages", {}).get(name)) for name in AVERAGES),
        ]
        for d in figures["durations"]
    ]


def _reported(found: dict[str, Any], seconds: dict[str, Any]) -> list[Table]:
    every_other = NAMES[::2]
    pairs = [*(found["F1"][t] for t in every_other), found["mIoU"], found["CountF1"]]
    events = [percent(seconds["event_F1"][t]) for t in every_other]
    segments = [percent(seconds[name]) for name in ("segment_F1", "segment_mAP", "segment_mAP_labelled")]
    return [
        (
            ["of each video and class", *(f"F1@{t}" for t in every_other), "mIoU", "CountF1"],
            [["mean", *map(percent, pairs)]],
        ),
        (
            ["events of whole seconds", *(f"F1@{t}" for t in every_other), AVERAGED[0]],
            [["mean of the videos", *events, percent(seconds["event_F1_average"])]],
        ),
        (
            ["single seconds", "F1", "mAP, as published", "mAP where a class is true"],
            [["mean of the videos", *segments]],
        ),
    ]


def _recall(recall: dict[str, Any]) -> Table:
    return ["temporal IoU", *(f"k = {k}" for k in recall)], [
        [t, *(percent(row[t]) for row in recall.values())] for t in ("0.3", "0.5", "0.7")
    ]


def _span(d: dict[str, Any]) -> str:
    return f"({d['over']:g}, {d['to']:g}]"


def _errors(errors: dict[str, Any]) -> Table:
    kinds = ["right", *analysis.ERRORS]
    most = len(errors["right"])
    totals = [max(sum(errors[kind][i] for kind in kinds), 1) for i in range(most)]
    return ["", *(f"{i + 1}G" for i in range(most)), "gain"], [
        [kind, *(percent(errors[kind][i] / totals[i]) for i in range(most)), percent(errors["gains"].get(kind))]
        for kind in kinds
    ]


def _missed(missed: dict[str, Any]) -> list[Table]:
    def rows(parts: list[dict[str, Any]], name: Any) -> list[list[object]]:
        return [
            [name(p), p["events"], p["missed"], percent(p["missed"] / p["events"]) if p["events"] else "–"]
            for p in parts
        ]

    head = ["events", "missed", "part"]
    return [
        (["seconds of an event", *head], rows(missed["durations"], _span)),
        (["events of a video", *head], rows(missed["numbers"], _number)),
    ]


def _number(p: dict[str, Any]) -> str:
    if p["from"] == p["to"]:
        return f"{p['from']}"
    return f"{p['from']}–{p['to']}" if p["to"] < analysis.NUMBERS[-1][1] else f"{p['from']} or more"


@dataclass(frozen=True)
class Line:
    """Precision over recall, as it is drawn."""

    name: str
    points: list[tuple[float, float]]
    """Recall and precision, 0..1."""
    colour: str
    dash: str


def _curves(evaluation: Evaluation) -> list[Line]:
    """The mean of all classes, the best and the worst ones; none if there are no true events."""
    matches, labels = evaluation.matches, evaluation.labels
    grid = np.linspace(0, 1, 101)
    curves = {}
    for c in np.flatnonzero(matches.num_true):
        recall, precision = analysis.precision_recall(matches, ANALYSED, int(c))
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        curves[c] = np.append(envelope, 0.0)[np.searchsorted(recall, grid)]
    if not curves:
        return []
    order = sorted(curves, key=lambda c: -curves[c].mean())
    shown = [("mean of all classes", np.mean(list(curves.values()), axis=0), "currentColor", "")]
    for classes, dash in ((order[:CURVES], ""), (order[CURVES:][-CURVES:], "4 3")):
        shown += [(labels[c], curves[c], colour, dash) for c, colour in zip(classes, COLOURS, strict=False)]
    return [
        Line(name, list(zip(grid.tolist(), curve.tolist(), strict=True)), colour, dash)
        for name, curve, colour, dash in shown
    ]


@dataclass(frozen=True)
class ShownEvent:
    """An event of a video, true or predicted, and what became of it."""

    start: float
    end: float
    label: str
    good: bool
    told: str


@dataclass(frozen=True)
class ShownVideo:
    key: str
    events: int
    part: float
    """Of the best predictions, as many as there are events: those that are right."""
    true: list[ShownEvent]
    best: list[ShownEvent]


def _worst(evaluation: Evaluation) -> list[ShownVideo]:
    """Videos with events, those first where the fewest of the best predictions are right."""
    p, t = evaluation.matches.predicted, evaluation.matches.truth
    right = evaluation.matches.right[:, ANALYSED]
    found = analysis.found(evaluation.matches, ANALYSED)
    count = np.bincount(t.videos, minlength=len(t.keys))
    order = np.lexsort((-p.scores, p.videos))
    first = np.searchsorted(p.videos[order], np.arange(len(t.keys)))
    rows = []
    for v in np.flatnonzero(count):
        best = order[first[v] :][: count[v]]
        best = best[p.videos[best] == v]
        rows.append((right[best].sum() / count[v], -count[v], v, best))
    rows.sort(key=lambda row: row[:3])

    def event(segment: Any, label: int, good: bool, told: str) -> ShownEvent:
        return ShownEvent(float(segment[0]), float(segment[1]), evaluation.labels[label], bool(good), told)

    videos = []
    for part, _, v, best in rows[:WORST_VIDEOS]:
        true = np.flatnonzero(t.videos == v)
        true = true[np.argsort(t.segments[true, 0])]
        mine = [event(t.segments[i], t.labels[i], found[i], "found" if found[i] else "missed") for i in true]
        theirs = [
            event(p.segments[i], p.labels[i], right[i], f"{p.scores[i]:.2f}, {'right' if right[i] else 'wrong'}")
            for i in best
        ]
        videos.append(ShownVideo(t.keys[v], int(count[v]), float(part), mine, theirs))
    return videos
