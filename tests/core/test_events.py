"""Events, videos, classes and data sets are checked when they are made."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest

from davel.core.annotations import Annotations, Vocabulary
from davel.core.errors import ConfigError
from davel.core.events import Event, EventList, Video
from davel.core.files import is_below, safe_names

SOME = EventList.of([Event("a", 0, 1, 0.5), Event("b", 1, 3, 0.2, "seen")], ("a", "b"))


@pytest.mark.parametrize(
    "values",
    [
        ("a", 0, math.inf), ("a", math.nan, 1), ("a", -1, 1), ("a", 1, 1), ("a", 0, 1, 7), ("a", 0, 1, math.nan),
        ("a", 0, 1, 1, "smelt"),
    ],
)  # fmt: skip
def test_what_is_no_event_is_refused(values):
    with pytest.raises(ValueError, match="an event"):
        Event(*values)


@pytest.mark.parametrize(
    "columns",
    [
        {"segments": np.array([[0, 1], [1, np.inf]])}, {"segments": np.array([[0, 1], [np.nan, 3]])},
        {"segments": np.array([[0, 1], [3, 1]])}, {"segments": np.array([[-1, 1], [1, 3]])},
        {"scores": np.array([0.5, 7])}, {"scores": np.array([0.5, np.nan])}, {"scores": np.array([-0.1, 1])},
        {"label_ids": np.array([0, 2])}, {"label_ids": np.array([-1, 0])}, {"kinds": np.array([0, 3])},
        {"kinds": np.array([0])}, {"scores": np.array([0.5])},
    ],
)  # fmt: skip
def test_every_column_is_checked(columns):
    with pytest.raises(ValueError, match=r"every|expected"):
        replace(SOME, **columns)


def test_a_kind_goes_where_its_event_goes():
    assert [e.kind for e in SOME] == ["both", "seen"]
    assert [e.kind for e in SOME.select(np.array([1]))] == ["seen"]
    assert [e.kind for e in EventList.join([SOME, SOME.select(np.array([0]))], SOME.labels)] == ["both", "seen", "both"]
    assert [(e.label, e.kind) for e in SOME.relabelled(("b",))] == [("b", "seen")]
    assert EventList.of([Event("a", 0, 1)], ("a",)).kinds is None


@pytest.mark.parametrize("duration", [0, -5, math.nan, math.inf])
def test_a_duration_is_finite(duration):
    with pytest.raises(ValueError, match="a duration is seconds above 0"):
        Video("v", SOME, duration)


def test_a_duration_that_is_needed_is_asked_for():
    with pytest.raises(ConfigError, match="v: needs a duration"):
        _ = Video("v", SOME).seconds


@pytest.mark.parametrize(
    ("theirs", "difference"),
    [
        (("a", "b", "c"), ""),
        (("a", "b"), "the model knows class 'c', which the data does not have"),
        (("a", "b", "c", "d"), "the data has class 'd', which the model does not know"),
        (("a", "c", "b"), "the classes are in another order: class 1 is 'b' of the model and 'c' of the data"),
    ],
)
def test_a_difference_of_classes_is_told(theirs, difference):
    assert Vocabulary(("a", "b", "c")).difference(theirs) == difference


def test_classes_have_names_of_their_own():
    for labels in (("a", "a"), ("a", "")):
        with pytest.raises(ValueError, match="every class needs a name of its own"):
            Vocabulary(labels)
    with pytest.raises(ValueError, match="2 classes need as many prompts, got 1"):
        Vocabulary(("a", "b"), prompts=("an a",))


def test_classes_are_renumbered_by_name():
    annotations = Annotations.of(("a", "b"), {"v": Video("v", SOME, decoys=SOME)}).relabelled(("b", "c"))
    assert annotations.labels == ("b", "c")
    video = annotations.videos["v"]
    for events in (video.events, video.decoys):
        assert [(e.label, e.start) for e in events] == [("b", 1)]


def test_old_names_say_what_they_are_now():
    from davel.data import annotations

    with pytest.warns(DeprecationWarning, match=r"AnnotatedVideo is davel\.core\.events\.Video now"):
        old = annotations.AnnotatedVideo
    assert old("v", 3.0, "train", SOME, SOME) == Video("v", SOME, 3.0, subset="train", decoys=SOME)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert annotations.Annotations(("a",), {}).labels == ("a",)


def test_ids_become_files_of_their_own_below_a_folder():
    ids = ["cam1/0001", "cam2/0001", "A", "a", "../x", "/etc/x", "a.b", "", "x" * 300, "bell\x07", "-1h"]
    names = safe_names(ids)
    assert [str(names[key]) for key in ids[:8]] == ["cam1/0001", "cam2/0001", "A", "a-2", "x", "etc/x", "a.b", "_"]
    assert len({str(name).casefold() for name in names.values()}) == len(ids)
    assert all(is_below(str(name)) and len(name.name) <= 180 and name.name.isprintable() for name in names.values())
