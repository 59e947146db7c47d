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
from davel.evaluate.metrics import THRESHOLDS, Matches, decoys_reported, match


def score(predicted: Mapping[str, EventList], videos: Mapping[str, Video], num_classes: int) -> dict[str, Any]:
    """The field's figures, all in 0..1: `average_mAP` over tIoU 0.1 to 0.9, `mAP` at each, and, where the annotations
    have decoys, the part of them that is reported with a score of at least 0.5."""
    return _score(match_videos(predicted, videos, num_classes), predicted, videos)


def match_videos(predicted: Mapping[str, EventList], videos: Mapping[str, Video], num_classes: int) -> Matches:
    """Which predictions find which events of the given videos; those of other videos do not count."""
    ours = {key: predicted[key] for key in videos if key in predicted}
    return match(ours, {key: video.events for key, video in videos.items()}, num_classes)


def _score(matches: Matches, predicted: Mapping[str, EventList], videos: Mapping[str, Video]) -> dict[str, Any]:
    *mean, average = _rounded(analysis.mean_average_precision(matches.average_precision()))
    figures: dict[str, Any] = {
        "average_mAP": average,
        "mAP": dict(zip(map(str, THRESHOLDS), mean, strict=True)),
        "videos": len(videos),
        "events": sum(len(video.events) for video in videos.values()),
    }
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
    """What `score` says, and `intervals` (95 %, over videos), `classes`, `durations`, `errors`, `missed`, `recall`, and
    `f1` where thresholds are given."""

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
) -> Evaluation:
    """Everything that can be said of predictions for annotated videos.

    Intervals come from `resamples` draws of the videos (0: none). `thresholds`, one score for all classes or one for
    each, were fitted on other videos. Videos without predictions count as found empty.
    """
    matches = match_videos(predicted, videos, len(labels))
    figures = _score(matches, predicted, videos)
    figures["without_predictions"] = sum(key not in predicted for key in videos)
    if resamples:
        draws = analysis.resamples(len(videos), resamples)
        drawn = analysis.mean_average_precision(matches.resampled(draws))
        low, high = analysis.interval(drawn, analysis.mean_average_precision(matches.average_precision()))
        low, high = low.clip(0, 1), high.clip(0, 1)
        *ends, average = zip(_rounded(low), _rounded(high), strict=True)
        named = {str(t): list(end) for t, end in zip(THRESHOLDS, ends, strict=True)}
        figures["intervals"] = {"average_mAP": list(average), "mAP": named, "resamples": resamples}
    figures["classes"] = _classes(matches, labels)
    figures["durations"] = [
        {"over": low, "to": high, "events": count}
        | ({"average_mAP": mean[-1], "mAP@0.5": mean[ANALYSED]} if count else {})
        for (low, high), (count, ap) in zip(analysis.DURATIONS, analysis.by_duration(matches), strict=True)
        for mean in [_rounded(analysis.mean_average_precision(ap))]
    ]
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
        str(k): {str(t): round(analysis.recall_at(matches, k, t), 6) for t in (0.3, 0.5, 0.7)} for k in (1, 5, 10)
    }
    if thresholds is not None:
        micro, per_class = analysis.f1(matches, ANALYSED, thresholds)
        known = per_class[matches.num_true > 0]
        figures["f1"] = {"micro": round(micro, 6), "macro": round(float(known.mean()) if len(known) else 0.0, 6)}
    return Evaluation(name, tuple(notes), tuple(labels), videos, matches, figures)


def differences(first: Evaluation, second: Evaluation, resamples: int = 1000) -> dict[str, Any]:
    """By how much `second` is better than `first`: `mAP` at each threshold and `average_mAP`, each a difference with
    its 95 % interval; and `better`, the part of the resamples in which its average mAP is higher.

    Both are drawn with the same videos. ConfigError if they were evaluated on others.
    """
    if first.matches.truth.keys != second.matches.truth.keys:
        raise ConfigError(f"{first.name} and {second.name} were evaluated on different videos")
    draws = analysis.resamples(len(first.videos), resamples)

    mean = analysis.mean_average_precision
    drawn = mean(second.matches.resampled(draws)) - mean(first.matches.resampled(draws))  # (R, S + 1)
    measured = mean(second.matches.average_precision()) - mean(first.matches.average_precision())
    low, high = analysis.interval(drawn, measured)
    *each, average = (
        {"difference": d, "interval": [a, b]}
        for d, a, b in zip(_rounded(measured), _rounded(low), _rounded(high), strict=True)
    )
    return {
        "average_mAP": average,
        "mAP": dict(zip(map(str, THRESHOLDS), each, strict=True)),
        "better": round(float((drawn[:, -1] > 0).mean()), 4),
    }


def _classes(matches: Matches, labels: Sequence[str]) -> dict[str, Any]:
    ap = matches.average_precision()
    result: dict[str, Any] = {}
    for c, label in enumerate(labels):
        result[label] = {"events": int(matches.num_true[c])}
        if matches.num_true[c]:
            values = dict(zip(map(str, THRESHOLDS), _rounded(ap[:, c]), strict=True))
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


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [round(float(x), 6) for x in values]
