"""An evaluation for people: one HTML file, and rows for a paper in Markdown and LaTeX.

The file needs nothing but itself: no scripts, no network, pictures inside; light or dark as the reader's system is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np

from davel.core.errors import printable
from davel.evaluate import ANALYSED, Evaluation, analysis
from davel.evaluate.metrics import THRESHOLDS

SHOWN = ("0.5", "0.6", "0.7", "0.8", "0.9")
"""The paper's columns, before the average over 0.1 to 0.9."""
COLOURS = ("#1f6f8b", "#b5446e", "#4c8c4a", "#c07a1a", "#7a4fa3")
WORST_VIDEOS = 20
CURVES = 5

STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #1f6f8b; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .15rem .7rem; text-align: right; vertical-align: top; }
th:first-child, td:first-child { text-align: left; }
td.bar { min-width: 10rem; }
td.bar i { background: var(--bar); display: block; height: .7rem; margin-top: .4rem; }
.note { background: var(--soft); border-left: 4px solid #c07a1a; padding: .3rem .8rem; }
svg { height: auto; max-width: 100%; }
.wide { overflow-x: auto; }
li { margin: .1rem 0; }
.hit { color: #2e8b57; }
.miss { color: #c0504d; }
"""


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


def markdown(evaluations: Sequence[Evaluation]) -> str:
    """A table of mAP, a row for each."""
    head = ["model", *SHOWN, "Avg."]
    rows = [[_pipe(e.name), *cells(e)] for e in evaluations]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + _footnotes(evaluations, "\n{}\n")


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


def html(evaluation: Evaluation) -> str:
    """The whole report."""
    figures, title = evaluation.figures, f"{evaluation.name}: {percent(evaluation.figures['average_mAP'])} average mAP"
    parts = [
        f"<h1>{_text(title)}</h1>",
        *(f'<p class="note">{_text(note)}</p>' for note in evaluation.notes),
        f"<p>{figures['videos']} videos, {figures['events']} events, {len(evaluation.labels)} classes. "
        f"{figures['without_predictions']} videos have no predictions. All figures are percentages.</p>",
        _whole(evaluation),
        "<h2>By duration</h2>",
        _table(
            ["seconds of an event", "events", "mAP at 0.5", "average mAP"],
            [
                [_span(d), d["events"], percent(d.get("mAP@0.5")), percent(d.get("average_mAP"))]
                for d in figures["durations"]
            ],
        ),
        "<h2>Errors</h2>",
        _errors(figures["errors"]),
        "<h2>Missed</h2>",
        "<p>True events that no prediction of whatever score finds at a temporal IoU of 0.5.</p>",
        _missed(figures["missed"]),
        "<h2>Recall@kx</h2>",
        "<p>True events that one of the best k predictions for each event of their class and video lies on.</p>",
        _table(
            ["temporal IoU", *(f"k = {k}" for k in figures["recall"])],
            [[t, *(percent(row[t]) for row in figures["recall"].values())] for t in ("0.3", "0.5", "0.7")],
        ),
        *_f1(figures),
        "<h2>Precision and recall</h2>",
        "<p>At a temporal IoU of 0.5: the mean over classes, and those of most and least average precision.</p>",
        _curves(evaluation),
        "<h2>Classes</h2>",
        _classes(figures["classes"]),
        "<h2>The worst videos</h2>",
        "<p>Those where the fewest of the best predictions, as many as there are events, are right at 0.5.</p>",
        *_worst(evaluation),
    ]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>{_text(title)}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _text(value: object) -> str:
    return escape(printable(value))


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Cells that are not `Raw` are escaped."""
    lines = ["<tr>" + "".join(f'<th scope="col">{_text(name)}</th>' for name in head) + "</tr>"]
    for row in rows:
        cells = [cell if isinstance(cell, _Raw) else f"<td>{_text(cell)}</td>" for cell in row]
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


class _Raw(str):
    """A cell that is HTML already."""


def _bar(part: float) -> _Raw:
    return _Raw(f'<td class="bar"><i style="width:{100 * part:.1f}%"></i></td>')


def _whole(evaluation: Evaluation) -> str:
    figures = evaluation.figures
    names = [*map(str, THRESHOLDS), "Avg."]
    rows = [["mAP", *(percent(figures["mAP"][t]) for t in names[:-1]), percent(figures["average_mAP"])]]
    if intervals := figures.get("intervals"):
        ends = [*intervals["mAP"].values(), intervals["average_mAP"]]
        rows.append(["95 % interval", *(f"{percent(low)}–{percent(high)}" for low, high in ends)])
    table = _table(["temporal IoU", *names], rows)
    if intervals:
        table += f"<p>Intervals over videos, from {intervals['resamples']} resamples.</p>"
    if "decoys" in figures:
        table += (
            f"<p>{percent(figures['decoys_reported'])} % of {figures['decoys']} decoys, things only seen or only heard,"
            " are reported with a score of at least 0.5.</p>"
        )
    return table


def _span(d: dict[str, Any]) -> str:
    return f"({d['over']:g}, {d['to']:g}]"


def _errors(errors: dict[str, Any]) -> str:
    kinds = ["right", *analysis.ERRORS]
    most = len(errors["right"])
    totals = [max(sum(errors[kind][i] for kind in kinds), 1) for i in range(most)]
    by_rank = [
        [kind, *(percent(errors[kind][i] / totals[i]) for i in range(most)), percent(errors["gains"].get(kind))]
        for kind in kinds
    ]
    text = (
        "<p>What the predictions of each class are at a temporal IoU of 0.5, best first: column iG holds the i-th "
        "group of as many as the class has true events. The last column is by how much the average mAP would rise "
        "without the error.</p>"
    )
    return text + _table(["", *(f"{i + 1}G" for i in range(most)), "gain"], by_rank)


def _missed(missed: dict[str, Any]) -> str:
    def rows(parts: list[dict[str, Any]], name: Any) -> list[list[object]]:
        return [
            [name(p), p["events"], p["missed"], percent(p["missed"] / p["events"]) if p["events"] else "–"]
            for p in parts
        ]

    head = ["events", "missed", "part"]
    return _table(["seconds of an event", *head], rows(missed["durations"], _span)) + _table(
        ["events of a video", *head], rows(missed["numbers"], _number)
    )


def _number(p: dict[str, Any]) -> str:
    if p["from"] == p["to"]:
        return f"{p['from']}"
    return f"{p['from']}–{p['to']}" if p["to"] < analysis.NUMBERS[-1][1] else f"{p['from']} or more"


def _f1(figures: dict[str, Any]) -> list[str]:
    if "f1" not in figures:
        return []
    rows = [
        ["F1 over all events", percent(figures["f1"]["micro"])],
        ["mean F1 of the classes", percent(figures["f1"]["macro"])],
    ]
    return ["<h2>F1</h2>", "<p>Of the events above the model's thresholds, at 0.5.</p>", _table(["", "F1"], rows)]


def _classes(classes: dict[str, Any]) -> str:
    known = sorted((c for c in classes.items() if c[1]["events"]), key=lambda c: -c[1]["average_AP"])
    rows = [
        [label, c["events"], percent(c["AP"]["0.5"]), percent(c["average_AP"]), _bar(c["average_AP"])]
        for label, c in known
    ]
    rows += [[label, 0, "–", "–", ""] for label, c in classes.items() if not c["events"]]
    return _table(["class", "events", "AP at 0.5", "average AP", ""], rows)


def _curves(evaluation: Evaluation) -> str:
    """Precision over recall: the mean of all classes, the best and the worst ones."""
    matches, labels = evaluation.matches, evaluation.labels
    grid = np.linspace(0, 1, 101)
    known = np.flatnonzero(matches.num_true)
    if not len(known):
        return "<p>There are no true events.</p>"
    curves = {}
    for c in known:
        recall, precision = analysis.precision_recall(matches, ANALYSED, int(c))
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        at = np.searchsorted(recall, grid)
        curves[c] = np.append(envelope, 0.0)[at]
    order = sorted(curves, key=lambda c: -curves[c].mean())
    shown = [("mean of all classes", np.mean(list(curves.values()), axis=0), "currentColor", "")]
    for classes, dash in ((order[:CURVES], ""), (order[CURVES:][-CURVES:], "4 3")):
        shown += [(labels[c], curves[c], colour, dash) for c, colour in zip(classes, COLOURS, strict=False)]
    left, top, size = 45, 15, 360

    def point(x: float, y: float) -> str:
        return f"{left + size * x:.1f},{top + size * (1 - y):.1f}"

    marks = []
    for v in (0, 0.25, 0.5, 0.75, 1):
        marks.append(
            f'<path d="M{point(v, 0)} L{point(v, 1)} M{point(0, v)} L{point(1, v)}" stroke="#8884" fill="none"/>'
        )
        marks.append(f'<text x="{left + size * v}" y="{top + size + 16}" text-anchor="middle">{100 * v:g}</text>')
        marks.append(f'<text x="{left - 6}" y="{top + size * (1 - v) + 4}" text-anchor="end">{100 * v:g}</text>')
    for i, (name, curve, colour, dash) in enumerate(shown):
        line = " ".join(point(x, y) for x, y in zip(grid, curve, strict=True))
        width = 3 if not i else 1.5
        style = f'stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}"'
        y = top + 12 + 20 * i
        marks.append(f'<polyline points="{line}" fill="none" {style}/>')
        marks.append(f'<path d="M{left + size + 20},{y - 4} h24" {style}/>')
        marks.append(f'<text x="{left + size + 50}" y="{y}">{_text(name)}</text>')
    width, height = left + size + 300, top + size + 40
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" role="img" aria-label="Precision over recall" '
        f'font-size="12" fill="currentColor">{"".join(marks)}'
        f'<text x="{left + size / 2}" y="{height - 6}" text-anchor="middle">recall</text>'
        f'<text x="12" y="{top + size / 2}" text-anchor="middle" transform="rotate(-90 12 {top + size / 2})">precision'
        "</text></svg>"
    )


def _worst(evaluation: Evaluation) -> list[str]:
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
    parts = []
    for part, _, v, best in rows[:WORST_VIDEOS]:
        true = np.flatnonzero(t.videos == v)
        mine = [(t.segments[i], t.labels[i], None, found[i]) for i in true[np.argsort(t.segments[true, 0])]]
        theirs = [(p.segments[i], p.labels[i], p.scores[i], right[i]) for i in best]
        parts.append(f"<h3>{_text(t.keys[v])}: {percent(float(part))} of {count[v]} events</h3>")
        for title, items in (("true", mine), ("best predictions", theirs)):
            lines = "".join(_item(evaluation.labels, *item) for item in items)
            parts.append(f"<p>{title}</p><ul>{lines or '<li>none</li>'}</ul>")
    return parts


def _item(labels: Sequence[str], segment: Any, label: int, score: float | None, good: bool) -> str:
    told = ("found" if good else "missed") if score is None else f"{score:.2f}, {'right' if good else 'wrong'}"
    style = "hit" if good else "miss"
    return f'<li>{segment[0]:.2f}–{segment[1]:.2f} s {_text(labels[label])} <span class="{style}">{told}</span></li>'
