"""PSDS, the polyphonic sound detection score (Bilen et al., ICASSP 2020), as `sed_scores_eval` computes it.

The two settings are DCASE's: the first asks for exact extents, the second for few confusions. Shapes: B steps between
the onsets and offsets of a video's events, C classes that have true events.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from davel.core.errors import MissingError
from davel.core.events import EventList, Video
from davel.evaluate.metrics import EMPTY, Floats

SETTINGS: dict[str, dict[str, float]] = {
    "PSDS1": {"dtc_threshold": 0.7, "gtc_threshold": 0.7, "alpha_st": 1.0},
    "PSDS2": {"dtc_threshold": 0.1, "gtc_threshold": 0.1, "cttc_threshold": 0.3, "alpha_ct": 0.5, "alpha_st": 1.0},
}
"""What is tolerated, and what confusions and unequal classes cost: DCASE's since 2021, task 4."""
MOST = 100.0
"""False events of a class in an hour up to which it is measured."""


def psds(predicted: Mapping[str, EventList], videos: Mapping[str, Video]) -> dict[str, float]:
    """Each of `SETTINGS`, over the classes that have true events; none where there are not two of them.

    Events of a class that touch are one, as everywhere in sound event detection. MissingError without the extra;
    ConfigError if a duration is not known.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that it imports
            from sed_scores_eval.intersection_based import intermediate_statistics_deltas
            from sed_scores_eval.intersection_based import psds as measured
    except ImportError as error:
        raise MissingError("PSDS needs sed_scores_eval: pip install 'davel[psds]'") from error
    durations = {key: video.seconds for key, video in videos.items()}
    truth = {key: _spans(video) for key, video in videos.items()}
    classes = sorted({int(label) for spans in truth.values() for *_, label in spans})
    if len(classes) < 2:  # the library knows no confusions of one class with none
        return {}
    scores = {
        key: _frame(*_steps(predicted.get(key), video.seconds, classes), classes) for key, video in videos.items()
    }
    figures = {}
    for name, setting in SETTINGS.items():
        tolerances = {key: value for key, value in setting.items() if key.endswith("threshold")}
        found = intermediate_statistics_deltas(scores, truth, **{"cttc_threshold": None, **tolerances})
        found = {key: {c: _above_nothing(*of) for c, of in of_video.items()} for key, of_video in found.items()}
        value, *_ = measured(scores, truth, durations, deltas=found, max_efpr=MOST, **setting)
        figures[name] = float(value)
    return figures


def _spans(video: Video) -> list[tuple[float, float, str]]:
    """The true events within the video, as start, end and class; those of a class that touch are one, and empty ones
    none."""
    spans: list[tuple[float, float, str]] = []
    events = video.events.clipped(0, video.seconds)
    for label, (start, end) in sorted(zip(events.label_ids.tolist(), events.segments.tolist(), strict=True)):
        if spans and spans[-1][2] == str(label) and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]), str(label))
        elif end - start >= EMPTY:
            spans.append((start, end, str(label)))
    return spans


def _steps(events: EventList | None, seconds: float, classes: list[int]) -> tuple[Floats, Floats]:
    """Where the best score of some class may change (B + 1,), and the scores in between, 0 where nothing is (B, C)."""
    if events is None:
        return np.array([0.0, seconds]), np.zeros((1, len(classes)))
    events = events.clipped(0, seconds)
    times = np.unique(np.concatenate([[0.0, seconds], events.segments.ravel()]))
    scores = np.zeros((len(times) - 1, len(classes)))
    column = {c: i for i, c in enumerate(classes)}
    first, last = np.searchsorted(times, events.segments).T
    for i in np.argsort(events.scores, kind="stable"):
        if (c := int(events.label_ids[i])) in column:
            scores[first[i] : last[i], column[c]] = events.scores[i]
    return times, scores


def _frame(times: Floats, scores: Floats, classes: list[int]) -> Any:
    """The table that the library reads."""
    import pandas

    class Writable(pandas.DataFrame):  # type: ignore[misc]
        """The library's compiled part asks for memory that it might write to, which pandas 3 does not hand out."""

        @property
        def _constructor(self) -> type[Writable]:
            return Writable

        def to_numpy(self, *args: Any, **kwargs: Any) -> Any:
            return super().to_numpy(*args, **kwargs).copy()

    columns = ["onset", "offset", *map(str, classes)]
    return Writable(np.column_stack([times[:-1], times[1:], scores]), columns=columns)


def _above_nothing(scores: Floats, counts: dict[str, Any]) -> tuple[Floats, dict[str, Any]]:
    """What changes at each score of a class, and nothing at score 0: no event is there, but the library would take the
    whole video for one."""

    def kept(values: Any) -> Any:
        return {key: kept(v) for key, v in values.items()} if isinstance(values, dict) else values * (scores > 0)

    return scores, kept(counts)
