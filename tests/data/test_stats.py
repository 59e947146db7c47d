"""What is counted in annotations."""

from __future__ import annotations

import json

import pytest

from davel.core.annotations import Annotations
from davel.core.events import Event, EventList, Video
from davel.data.simulate import draw_annotations
from davel.data.stats import statistics
from davel.formats import write_annotations

LABELS = ("bark", "bell")


def video(key: str, *events: tuple, duration: float = 10, subset: str = "train") -> Video:
    return Video(key, EventList.of([Event(*e) for e in events], LABELS), duration, subset=subset)


def test_counts_durations_and_overlaps():
    videos = [
        video("a", ("bark", 0, 4), ("bell", 2, 6), ("bell", 6, 8)),
        video("b", ("bell", 1, 3), ("bell", 2, 4), duration=20, subset="test"),
        video("c"),
    ]
    s = statistics(Annotations.of(LABELS, {v.id: v for v in videos}))
    assert (s.videos, s.events, s.subsets) == (3, 5, {"train": 2, "test": 1})
    assert s.classes == {"bell": 4, "bark": 1}
    assert s.events_per_video == {0: 1, 2: 1, 3: 1}
    assert s.video_seconds[100] == 20
    assert s.event_seconds[50] == 2
    assert s.overlapping == 0.8
    assert s.overlapping_same_class == 0.4
    assert s.classes_per_video == {0: 1, 1: 1, 2: 1}
    assert s.hours_by_events == pytest.approx({0: 29 / 3600, 1: 8 / 3600, 2: 3 / 3600}, abs=6e-4)
    assert s.covered == pytest.approx((8 + 3) / 40)
    assert s.at_once == pytest.approx(14 / 11, abs=1e-4)


def test_nothing_can_be_counted_too():
    s = statistics(Annotations.of(LABELS, {}))
    assert (s.videos, s.events, s.covered, s.at_once) == (0, 0, 0, 0)


def test_the_command_prints_and_draws(tmp_path, run):
    pytest.importorskip("matplotlib")
    write_annotations(tmp_path / "a.json", draw_annotations(30, 4))
    code, out, _ = run("data", "stats", "a.json")
    assert code == 0
    assert "30 (18 train, 6 validation, 6 test)" in out
    code, out, _ = run("data", "stats", "a.json", "--json", "--plot", "stats.png")
    assert code == 0
    assert json.loads(out)["videos"] == 30
    assert (tmp_path / "stats.png").read_bytes().startswith(b"\x89PNG")
