"""PSDS as the library computes it, against its definition; skipped without the extra."""

from __future__ import annotations

import importlib.util
import sys
from itertools import pairwise

import numpy as np
import pytest

from davel.core.errors import ConfigError, MissingError
from davel.core.events import Event, EventList, Video
from davel.evaluate import evaluate
from davel.evaluate.psds import psds

LABELS = ("bark", "bell", "cow")
installed = pytest.mark.skipif(importlib.util.find_spec("sed_scores_eval") is None, reason="needs the extra psds")


def events(*items: tuple) -> EventList:
    return EventList.of([Event(*item) for item in items], LABELS)


VIDEOS = {
    "a": Video("a", events(("bark", 100, 200), ("bark", 200, 240), ("bell", 300, 330)), 900.0),
    "b": Video("b", events(("bark", 50, 60), ("bell", 10, 40), ("bell", 700, 760)), 1800.0),
}
FOUND = {
    "a": events(("bark", 101, 238, 0.9), ("bark", 500, 520, 0.7), ("bell", 290, 335, 0.6), ("cow", 0, 9, 0.9)),
    "b": events(("bell", 10, 20, 0.8), ("bell", 24, 40, 0.8), ("bark", 52, 59, 0.3), ("bell", 300, 310, 0.2)),
}


def spans(listed, label: str, least: float) -> list[tuple[float, float]]:
    """The seconds of a class, as whole numbers: every event here begins and ends on one."""
    covered = np.zeros(2000, bool)
    for e in listed:
        if e.label == label and e.score >= least:
            covered[int(e.start) : int(e.end)] = True
    edges = np.flatnonzero(np.diff(np.pad(covered, 1).astype(int)))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def overlap(span, others) -> float:
    return sum(max(min(span[1], end) - max(span[0], start), 0) for start, end in others)


def plain_psds1() -> float:
    """Tolerances of 0.7, no cost of confusions, the deviation of the classes taken from their mean."""
    hours = sum(video.seconds for video in VIDEOS.values()) / 3600
    points: dict[str, list[tuple[float, float]]] = {}
    for label in LABELS[:2]:
        points[label] = [(0.0, 0.0)]
        for least in (0.9, 0.8, 0.7, 0.6, 0.3, 0.2):
            hit = wrong = there = 0
            for key, video in VIDEOS.items():
                found, true = spans(FOUND[key], label, least), spans(video.events, label, 0)
                good = [span for span in found if overlap(span, true) >= 0.7 * (span[1] - span[0])]
                wrong += len(found) - len(good)
                hit += sum(overlap(span, good) >= 0.7 * (span[1] - span[0]) for span in true)
                there += len(true)
            points[label].append((wrong / hours, hit / there))
    rates = sorted({rate for listed in points.values() for rate, _ in listed if rate <= 100} | {100.0})
    area = 0.0
    for low, high in pairwise(rates):
        best = [max(hit for rate, hit in listed if rate <= low) for listed in points.values()]
        area += max(np.mean(best) - np.std(best), 0) * (high - low)
    return area / 100


@installed
def test_psds_is_as_defined():
    found = psds(FOUND, VIDEOS)
    assert found["PSDS1"] == pytest.approx(plain_psds1())
    assert 0 < found["PSDS1"] < found["PSDS2"] < 1


@installed
def test_the_truth_is_perfect_and_nothing_is_found_in_nothing():
    assert psds({key: video.events for key, video in VIDEOS.items()}, VIDEOS) == {"PSDS1": 1, "PSDS2": 1}
    long = {"a": Video("a", events(("bark", 0, 900), ("bell", 0, 900)), 900.0)}
    assert psds({}, long) == {"PSDS1": 0, "PSDS2": 0}  # the whole video at score 0 is no event
    assert psds({}, {"a": Video("a", events(("bark", 0, 900)), 900.0)}) == {}


@installed
def test_psds_needs_durations_and_stands_among_the_figures():
    with pytest.raises(ConfigError, match="needs a duration"):
        psds({}, {"a": Video("a", events(("bark", 1, 2)))})
    figures = evaluate(FOUND, VIDEOS, LABELS, resamples=0, with_psds=True).to_dict()
    assert figures["psds"]["PSDS1"] == pytest.approx(plain_psds1(), abs=1e-6)


def test_without_the_extra_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sed_scores_eval", None)
    monkeypatch.setitem(sys.modules, "sed_scores_eval.intersection_based", None)
    with pytest.raises(MissingError, match=r"pip install 'davel\[psds\]'"):
        psds(FOUND, VIDEOS)
