"""How good predictions are: the field's figures, with intervals, by class and duration, and the errors behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from davel.core.errors import ConfigError
from davel.core.events import EventList, Video
from davel.evaluate import analysis
from davel.evaluate.floors import floors, oracles
from davel.evaluate.metrics import NAMES, THRESHOLDS, Floats, Ints, Matches, decoys_reported, match
from davel.evaluate.psds import psds
from davel.evaluate.reported import reported
from davel.evaluate.seconds import by_second

AVERAGES = tuple(name for name, _ in analysis.AVERAGES)
REPORTED = 0.5
"""The score from which an event counts as reported where nothing else is said."""


def score(predicted: Mapping[str, EventList], videos: Mapping[str, Video], num_classes: int) -> dict[str, Any]:
    """The field's figures, all in 0..1: `mAP` at tIoU 0.1 to 0.9, both `averages` of it by name, of which the first is
    the `average_mAP`, and, where the annotations have decoys, the part of them that is reported with a score of at
    least 0.5."""
    return _score(match_videos(predicted, videos, num_classes), predicted, videos)


def match_videos(predicted: Mapping[str, EventList], videos: Mapping[str, Video], num_classes: int) -> Matches:
    """Which predictions find which events of the given videos; as published, those of other videos are wrong."""
    return match(predicted, {key: video.events for key, video in videos.items()}, num_classes)


def _score(matches: Matches, predicted: Mapping[str, EventList], videos: Mapping[str, Video]) -> dict[str, Any]:
    mean = _means(matches.average_precision())
    figures: dict[str, Any] = {
        "average_mAP": mean["averages"][AVERAGES[0]],
        **mean,
        "videos": len(videos),
        "events": len(matches.truth.labels),
    }
    if repeated := sum(len(video.events) for video in videos.values()) - len(matches.truth.labels):
        figures["repeated"] = repeated
    if unknown := [len(events) for key, events in predicted.items() if key not in videos]:
        figures["not_annotated"] = {"videos": len(unknown), "predictions": sum(unknown)}
    hit, total = decoys_reported(predicted, {key: video.decoys for key, video in videos.items()})
    if total:
        figures["decoys"] = total
        figures["decoys_reported"] = round(hit / total, 6)
    return figures


@dataclass(frozen=True)
class Evaluation:
    """Predictions held against the truth, from every side."""

    name: str
    """Of the model, or of the file of predictions."""
    notes: tuple[str, ...]
    """What must be said wherever its figures are printed, e.g. that features are simulated."""
    labels: tuple[str, ...]
    videos: Mapping[str, Video]
    matches: Matches
    figures: dict[str, Any]
    """What `score` says, `floors` and `oracles` to hold it against, `intervals` (95 %, over videos), `classes`,
    `durations`, `errors`, `missed`, `recall`, what is `reported`, also by `seconds`, `f1` where thresholds are
    given, and `psds` where they were asked for."""

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "notes": list(self.notes), **self.figures}


ANALYSED = THRESHOLDS.index(0.5)
"""The threshold at which errors, misses, precision-recall curves and F1 are taken."""


def evaluate(
    predicted: Mapping[str, EventList],
    videos: Mapping[str, Video],
    labels: Sequence[str],
    *,
    name: str = "predictions",
    notes: Sequence[str] = (),
    resamples: int = 1000,
    thresholds: Sequence[float] | float | None = None,
    with_psds: bool = False,
) -> Evaluation:
    """Everything that can be said of predictions for annotated videos.

    Intervals come from `resamples` draws of the videos (0: none). `thresholds`, one score for all classes or one for
    each, were fitted on other videos; without them, an event counts as reported from a score of 0.5 on. Videos without
    predictions count as found empty; what is predicted for other videos is wrong, as published. `with_psds`: also the
    polyphonic sound detection scores, for which MissingError says what to install.
    """
    matches = match_videos(predicted, videos, len(labels))
    figures = _score(matches, predicted, videos)
    figures["without_predictions"] = sum(key not in predicted for key in videos)
    figures["floors"] = {name: _means(ap) for name, ap in floors(videos, len(labels)).items()}
    figures["oracles"] = {name: _means(ap) for name, ap in oracles(matches).items()}
    if resamples:
        figures["intervals"] = _intervals(matches, videos, resamples)
    figures["classes"] = _classes(matches, labels)
    figures["durations"] = _durations(matches)
    best = analysis.overlaps(matches)
    profile = analysis.error_profile(matches, analysis.errors(matches, ANALYSED, best))
    gains = _rounded(np.array(analysis.gains(matches, best)))
    figures["errors"] = {
        "right": profile[:, 0].tolist(),
        **{kind: profile[:, 1 + i].tolist() for i, kind in enumerate(analysis.ERRORS)},
        "gains": dict(zip(analysis.ERRORS, gains, strict=True)),
    }
    figures["missed"] = _missed(matches)
    figures["recall"] = {
        str(k): {str(t): _known(analysis.recall_at(matches, k, t)) for t in (0.3, 0.5, 0.7)} for k in (1, 5, 10)
    }
    if thresholds is not None:
        micro, per_class = analysis.f1(matches, ANALYSED, thresholds)
        known = per_class[matches.num_true > 0]
        figures["f1"] = {"micro": round(micro, 6), "macro": round(float(known.mean()) if len(known) else 0.0, 6)}
    figures["reported"] = _reported(matches, REPORTED if thresholds is None else thresholds)
    figures["seconds"] = _seconds(predicted, videos, REPORTED if thresholds is None else thresholds)
    if with_psds:
        figures["psds"] = {setting: round(value, 6) for setting, value in psds(predicted, videos).items()}
    return Evaluation(name, tuple(notes), tuple(labels), videos, matches, figures)


def _means(average_precision: Floats) -> dict[str, Any]:
    """(S, C) -> the mAP at each threshold, and both averages, by name"""
    return _named(_rounded(analysis.summary(average_precision)))


def _named(values: Sequence[Any]) -> dict[str, Any]:
    """What there is of each threshold and each average, by name."""
    S = len(NAMES)
    return {
        "averages": dict(zip(AVERAGES, values[S:], strict=True)),
        "mAP": dict(zip(NAMES, values[:S], strict=True)),
    }


def _draws(matches: Matches, videos: Mapping[str, Video], count: int) -> Ints:
    """How often each video of the matches is in each resample of the annotated ones: (R, V); the others always are."""
    annotated = np.array([key in videos for key in matches.truth.keys], bool)
    draws = np.ones((count, len(annotated)), np.int64)
    draws[:, annotated] = analysis.resamples(len(videos), count)
    return draws


def _intervals(matches: Matches, videos: Mapping[str, Video], resamples: int) -> dict[str, Any]:
    drawn = analysis.summary(matches.resampled(_draws(matches, videos, resamples)))
    low, high = analysis.interval(drawn, analysis.summary(matches.average_precision()))
    ends = [list(end) for end in zip(_rounded(low.clip(0, 1)), _rounded(high.clip(0, 1)), strict=True)]
    named = _named(ends)
    return {"average_mAP": named["averages"][AVERAGES[0]], **named, "resamples": resamples}


def _durations(matches: Matches) -> list[dict[str, Any]]:
    rows = []
    shares = analysis.found_by_duration(matches, ANALYSED)
    for (low, high), (count, ap), share in zip(analysis.DURATIONS, analysis.by_duration(matches), shares, strict=True):
        row: dict[str, Any] = {"over": low, "to": high, "events": count}
        if count:
            mean = _means(ap)
            row |= {
                "average_mAP": mean["averages"][AVERAGES[0]],
                "averages": mean["averages"],
                "mAP@0.5": mean["mAP"]["0.5"],
                "found@0.5": round(share, 6),
            }
        rows.append(row)
    return rows


def _reported(matches: Matches, thresholds: Sequence[float] | float) -> dict[str, Any]:
    found = reported(matches, thresholds)
    return {
        "score": thresholds if isinstance(thresholds, float | int) else list(thresholds),
        "events": found.num_events,
        "pairs": found.num_pairs,
        "F1": dict(zip(NAMES, map(_known, found.f1), strict=True)),
        "mIoU": _known(found.mean_iou),
        "CountF1": _known(found.count_f1),
    }


def _seconds(
    predicted: Mapping[str, EventList], videos: Mapping[str, Video], thresholds: Sequence[float] | float
) -> dict[str, Any]:
    found = by_second(predicted, videos, thresholds)
    return {
        "segment_F1": _known(found.segment_f1),
        "segment_mAP": _known(found.segment_map),
        "segment_mAP_labelled": _known(found.segment_map_labelled),
        "event_F1": dict(zip(NAMES, _rounded(found.event_f1), strict=True)),
        "event_F1_average": _known(float(found.event_f1.mean())),
    }


def _known(value: float | None) -> float | None:
    """Rounded; None where there is nothing to be measured."""
    return None if value is None or np.isnan(value) else round(float(value), 6)


def differences(first: Evaluation, second: Evaluation, resamples: int = 1000) -> dict[str, Any]:
    """By how much `second` is better than `first`: `mAP` at each threshold and both `averages`, of which the first is
    `average_mAP`, each a difference with its 95 % interval; and `better`, the part of the resamples in which its
    average mAP is higher.

    Both are drawn with the same videos. ConfigError if they were evaluated on others.
    """
    if first.videos.keys() != second.videos.keys():
        raise ConfigError(f"{first.name} and {second.name} were evaluated on different videos")
    both = (second.matches, first.matches)
    drawn = np.subtract(*(analysis.summary(m.resampled(_draws(m, first.videos, resamples))) for m in both))
    measured = np.subtract(*(analysis.summary(m.average_precision()) for m in both))  # (S + 2,)
    low, high = analysis.interval(drawn, measured)
    named = _named(
        [
            {"difference": d, "interval": [a, b]}
            for d, a, b in zip(_rounded(measured), _rounded(low), _rounded(high), strict=True)
        ]
    )
    better = drawn[:, len(NAMES)] > 0  # of the first average
    return {"average_mAP": named["averages"][AVERAGES[0]], **named, "better": round(float(better.mean()), 4)}


def _classes(matches: Matches, labels: Sequence[str]) -> dict[str, Any]:
    ap = matches.average_precision()
    result: dict[str, Any] = {}
    for c, label in enumerate(labels):
        result[label] = {"events": int(matches.num_true[c])}
        if matches.num_true[c]:
            values = dict(zip(NAMES, _rounded(ap[:, c]), strict=True))
            result[label] |= {"average_AP": round(float(ap[:, c].mean()), 6), "AP": values}
    return result


def _missed(matches: Matches) -> dict[str, Any]:
    """True events that no prediction finds, by their duration and by the number of events in their video."""
    missed = ~analysis.found(matches, ANALYSED)
    seconds, number = matches.truth.durations, analysis.events_in_video(matches.truth)

    def count(inside: NDArray[np.bool_]) -> dict[str, int]:
        return {"events": int(inside.sum()), "missed": int(missed[inside].sum())}

    return {
        "durations": [
            {"over": low, "to": high, **count((seconds > low) & (seconds <= high))} for low, high in analysis.DURATIONS
        ],
        "numbers": [
            {"from": low, "to": high, **count((number >= low) & (number <= high))} for low, high in analysis.NUMBERS
        ],
    }


def _rounded(values: Floats) -> list[float]:
    return [round(float(x), 6) for x in values]
