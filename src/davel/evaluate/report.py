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
from davel.evaluate.evaluation import ANALYSED, Evaluation
from davel.evaluate.metrics import THRESHOLDS

SHOWN = ("0.5", "0.6", "0.7", "0.8", "0.9")
"""The paper's columns, before the average over 0.1 to 0.9."""
COLOURS = ("#1f6f8b", "#b5446e", "#4c8c4a", "#c07a1a", "#7a4fa3")
WORST_VIDEOS = 20
CURVES = 5


def percent(value: float | None) -> str:
    return "–" if value is None or np.isnan(value) else f"{100 * value:.1f}"


def cells(evaluation: Evaluation) -> list[str]:
    """mAP at the paper's thresholds and their mean over 0.1 to 0.9, in percent."""
    figures = evaluation.figures
    return [percent(figures["mAP"][t]) for t in SHOWN] + [percent(figures["average_mAP"])]


def interval_cells(evaluation: Evaluation) -> list[list[str]]:
    """The same columns' 95 % confidence intervals: a row of lower and one of upper ends; none if not computed."""
    intervals = evaluation.figures.get("intervals")
    if intervals is None:
        return []
    ends = [*(intervals["mAP"][t] for t in SHOWN), intervals["average_mAP"]]
    return [[percent(end[i]) for end in ends] for i in (0, 1)]


def markdown_table(rows: Sequence[Sequence[str]], figures: int = 0) -> str:
    """The rows under the first one, which is the head; so many columns from the right are set to
    the right, as figures are."""
    rule = [*["---"] * (len(rows[0]) - figures), *["---:"] * figures]
    return "".join(f"| {' | '.join(_pipe(cell) for cell in row)} |\n" for row in (rows[0], rule, *rows[1:]))


def markdown(evaluations: Sequence[Evaluation]) -> str:
    """A table of mAP, a row for each."""
    head = ["model", *SHOWN, "Avg."]
    table = markdown_table([head, *([e.name, *cells(e)] for e in evaluations)], len(head) - 1)
    return table + _footnotes(evaluations, "\n{}\n")


def latex(evaluations: Sequence[Evaluation]) -> str:
    """Rows of a tabular with seven columns, under a comment that names them."""
    head = f"% model & {' & '.join(SHOWN)} & Avg. \\\\\n"
    rows = "".join(f"{_tex(e.name)} & {' & '.join(cells(e))} \\\\\n" for e in evaluations)
    return head + rows + _footnotes(evaluations, "% {}\n")


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
        title=f"{evaluation.name}: {percent(figures['average_mAP'])} average mAP",
        notes=evaluation.notes,
        figures=figures,
        num_classes=len(evaluation.labels),
        whole=_whole(figures),
        durations=_durations(figures),
        errors=_errors(figures["errors"]),
        missed_tables=_missed(figures["missed"]),
        recall=_recall(figures["recall"]),
        curves=_curves(evaluation),
        classes=sorted(classes, key=lambda c: (not c[1]["events"], -c[1]["average_AP"] if c[1]["events"] else 0)),
        worst=_worst(evaluation),
    )


def _whole(figures: dict[str, Any]) -> Table:
    names = [*map(str, THRESHOLDS), "Avg."]
    rows: list[list[object]] = [
        ["mAP", *(percent(figures["mAP"][t]) for t in names[:-1]), percent(figures["average_mAP"])]
    ]
    if intervals := figures.get("intervals"):
        ends = [*intervals["mAP"].values(), intervals["average_mAP"]]
        rows.append(["95 % interval", *(f"{percent(low)}–{percent(high)}" for low, high in ends)])
    return ["temporal IoU", *names], rows


def _durations(figures: dict[str, Any]) -> Table:
    return ["seconds of an event", "events", "mAP at 0.5", "average mAP"], [
        [_span(d), d["events"], percent(d.get("mAP@0.5")), percent(d.get("average_mAP"))] for d in figures["durations"]
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
