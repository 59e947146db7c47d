"""Pictures of events: a lane per class, the gates and the waveform, on one time axis. Needs the extra `plots`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from davel.core.errors import MissingError, printable
from davel.core.events import EventList
from davel.core.files import replacing
from davel.core.result import GATE
from davel.core.timeline import Curve
from davel.data.stats import event_seconds
from davel.media.peaks import extremes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from davel.core.annotations import Annotations
    from davel.data.stats import Statistics
    from davel.evaluate.compare import Compared
    from davel.localize import Result

FOUND, TRUE = "#1f6f8b", "#e0a030"
MODELS = ("#1f6f8b", "#7a4fa3", "#4c8c4a", "#a34f4f", "#666666")
"""A colour for each model under comparison."""
CURVES = ("#3d7a3d", "#b5446e", "#c07a1a", "#4a6fb5")
"""A colour for each curve of a model, e.g. its gates."""
PEAK_RATE = 50
"""Waveform peaks per second."""


def require_matplotlib() -> None:
    """MissingError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingError("pictures need matplotlib: pip install 'davel[plots]'") from error


def draw(result: Result, path: Path, truth: EventList | None = None) -> Path:
    """A PNG of a result: strong colour is a high score; true events, if given, are drawn under those found."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    labels = _lanes(result.events, truth)
    heights = [max(0.42 * len(labels), 0.8), 1.1, 0.9]
    figure = Figure(figsize=(11, sum(heights) + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    lanes, curves, waveform = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    _draw_lanes(lanes, labels, result, truth)
    _draw_curves(curves, result.curves)
    _draw_waveform(waveform, result)
    for axes in (lanes, curves, waveform):
        axes.spines[["top", "right"]].set_visible(False)
        for start, end in _not_covered(result):
            axes.axvspan(start, end, color="#dddddd", zorder=0)
    waveform.set_xlim(0, result.duration)
    waveform.set_xlabel("seconds")
    least = result.settings["threshold"]
    reported = "the score of each class" if isinstance(least, list) else f"score ≥ {least:g}"
    title = f"{printable(result.info.path.name)} · {result.model} · {reported}"
    lanes.set_title(title, loc="left", fontsize=10, parse_math=False)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return path


def draw_compared(video: Compared, path: Path) -> Path:
    """A PNG like the paper's Figure 4: for every class the true events and those of each model, and under them the
    gates, on one time axis."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    sources = {"true": video.truth, **video.found}
    colours = {name: MODELS[i % len(MODELS)] for i, name in enumerate(video.found)} | {"true": TRUE}
    labels = list(dict.fromkeys(e.label for events in sources.values() for e in sorted(events, key=lambda e: e.start)))
    height = max(0.22 * len(sources) * len(labels), 0.8)
    figure = Figure(figsize=(11, height + (1.3 if video.curves else 0) + 1.1), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2 if video.curves else 1, 1, sharex=True, squeeze=False)[:, 0]
    if video.curves:
        panels[0].get_gridspec().set_height_ratios([height, 1.3])
    lanes = panels[0]
    bar = 0.8 / len(sources)
    for lane, label in enumerate(labels):
        lanes.axhline(lane - 0.5, color="#dddddd", linewidth=0.8, zorder=0)
        for i, (name, events) in enumerate(sources.items()):
            at = lane - 0.4 + bar * (i + 0.5)
            for e in (e for e in events if e.label == label):
                alpha = 1.0 if name == "true" else 0.3 + 0.7 * e.score
                lanes.barh(at, e.duration, left=e.start, height=0.85 * bar, color=colours[name], alpha=alpha)
    lanes.set_yticks(range(len(labels)), labels, fontsize=9, parse_math=False)
    lanes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    if not labels:
        lanes.text(0.5, 0.5, "no events", transform=lanes.transAxes, ha="center", va="center", color="#777777")
    handles = [Patch(color=colours[name], label=name) for name in sources]
    lanes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=4, fontsize=8, frameon=False)
    title = video.id + (f" · {video.origin}" if video.origin else "")
    lanes.set_title(title, loc="left", fontsize=10, parse_math=False)
    if video.curves:
        _draw_curves(panels[1], video.curves)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlim(0, video.duration)
    panels[-1].set_xlabel("seconds")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    return path


def draw_statistics(annotations: Annotations, counted: Statistics, path: Path) -> Path:
    """Histograms of the durations of videos and events, of events per video, and of events per class, as a PNG."""
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 6.5), layout="constrained")
    FigureCanvasAgg(figure)
    (durations, numbers, variety), (lengths, together, classes) = figure.subplots(2, 3)
    subsets = {
        subset: [v.duration for v in annotations.videos.values() if v.subset == subset] for subset in counted.subsets
    }
    durations.hist(list(subsets.values()), bins=30, stacked=True, label=[printable(s) or "none" for s in subsets])
    durations.legend()
    durations.set(xlabel="seconds of a video", ylabel="videos")
    seconds = event_seconds(annotations)
    if len(seconds):
        lengths.hist(seconds, bins=np.geomspace(max(seconds.min(), 0.05), seconds.max() * 1.001, 40))
    lengths.set(xscale="log", xlabel="seconds of an event", ylabel="events")
    numbers.bar(*_up_to(counted.events_per_video, 20))
    numbers.set(xlabel="events of a video (20: or more)", ylabel="videos")
    variety.bar(*_up_to(counted.classes_per_video, 8))
    variety.set(xlabel="classes of a video (8: or more)", ylabel="videos")
    together.bar(*_up_to(counted.hours_by_events, 6))
    together.set(xlabel="events at once (6: or more)", ylabel="hours")
    classes.bar(range(len(counted.classes)), list(counted.classes.values()), width=1.0)
    classes.set(xlabel="classes, most frequent first", ylabel="events")
    if 0 < len(counted.classes) <= 20:
        classes.set_xticks(range(len(counted.classes)), [printable(c) for c in counted.classes], rotation=90)
    figure.suptitle(f"{counted.videos} videos, {counted.events} events, {len(counted.classes)} classes")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return path


def _up_to(counts: Mapping[int, float], most: int) -> tuple[list[int], list[float]]:
    """Numbers and their counts; what is beyond `most` counts there."""
    kept: dict[int, float] = {}
    for number, count in counts.items():
        kept[min(number, most)] = kept.get(min(number, most), 0) + count
    return list(kept), list(kept.values())


def _lanes(found: EventList, truth: EventList | None) -> list[str]:
    """Classes to show, in the order of their first event."""
    events = sorted([*found, *(truth or ())], key=lambda e: e.start)
    return list(dict.fromkeys(e.label for e in events))


def _draw_lanes(axes: Axes, labels: list[str], result: Result, truth: EventList | None) -> None:
    from matplotlib.patches import Patch

    for lane, label in enumerate(labels):
        axes.axhline(lane, color="#eeeeee", linewidth=0.8, zorder=0)
        for e in (e for e in truth or () if e.label == label):
            axes.barh(lane + 0.26, e.duration, left=e.start, height=0.2, color=TRUE)
        for e in (e for e in result.events if e.label == label):
            axes.barh(lane - 0.1, e.duration, left=e.start, height=0.44, color=FOUND, alpha=0.15 + 0.85 * e.score)
            axes.text(
                e.start + 0.15, lane - 0.1, f"{e.score:.2f}", va="center", fontsize=7, color="white", clip_on=True
            )
    axes.set_yticks(range(len(labels)), labels, fontsize=9, parse_math=False)
    axes.set_ylim(max(len(labels), 1) - 0.4, -0.6)
    if not labels:
        axes.text(0.5, 0.5, "no events", transform=axes.transAxes, ha="center", va="center", color="#777777")
    handles = [Patch(color=FOUND, label="found (stronger: higher score)")]
    if truth is not None:
        handles.append(Patch(color=TRUE, label="true"))
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, frameon=False)


def _draw_curves(axes: Axes, curves: Mapping[str, Curve]) -> None:
    for i, (name, curve) in enumerate(curves.items()):
        axes.plot(curve.times, curve.values, color=CURVES[i % len(CURVES)], linewidth=1.2, label=name)
    axes.set_ylabel("gates" if all(GATE in name for name in curves) else "curves", fontsize=9)
    if all(len(curve) == 0 or (curve.values.min() >= 0 and curve.values.max() <= 1) for curve in curves.values()):
        axes.set_ylim(0, 1)
    if curves:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=2, fontsize=8, frameon=False)
    else:
        axes.text(0.5, 0.5, "this model has no gates", transform=axes.transAxes, ha="center", va="center")


def _draw_waveform(axes: Axes, result: Result) -> None:
    peaks = waveform_peaks(result.info.path)
    time = np.arange(len(peaks)) / PEAK_RATE
    axes.fill_between(time, -peaks, peaks, color="#666666", linewidth=0)
    loudest = max(float(peaks.max(initial=0)), 0.02)
    axes.set_ylim(-loudest, loudest)
    axes.set_yticks([])
    axes.set_ylabel("sound", fontsize=9)


def _not_covered(result: Result) -> list[tuple[float, float]]:
    start, end = result.span
    return [(a, b) for a, b in ((0.0, start), (end, result.duration)) if b - a > 0.05]


def waveform_peaks(path: Path, rate: int = PEAK_RATE) -> NDArray[np.float32]:
    """The loudest sample of every 1/rate seconds, in 0..1: (N,)"""
    return np.asarray(np.abs(extremes(path, rate)).max(1))
