"""Predictions in ActivityNet's form: ours and others'."""

from __future__ import annotations

import json

import numpy as np
import pytest

from davel.core.errors import ConfigError
from davel.core.events import Event, EventList
from davel.formats import activitynet

LABELS = ("bark", "bell")


def written(folder, results, **more):
    path = folder / "p.json"
    path.write_text(json.dumps({"version": "x", "results": results, "external_data": {}, **more}))
    return path


def test_predictions_are_read_as_they_were_written(tmp_path):
    events = {
        "a": EventList.of([Event("bell", 1.25, 3.5, 0.75), Event("bark", 0, 2, 0.5)], LABELS),
        "b": EventList.of([], LABELS),
    }
    path = tmp_path / "p.json"
    path.write_text(activitynet.dumps(events, "simulated features", model="m"))
    read = activitynet.read(path, LABELS)
    assert {key: list(found) for key, found in read.events.items()} == {k: list(e) for k, e in events.items()}
    assert read.origin == "simulated features"
    assert read.clipped == 0
    content = json.loads(path.read_text())
    assert set(content) == {"version", "results", "external_data"}
    assert content["external_data"] == {"model": "m", "data": "simulated features"}


def test_others_may_give_label_ids_and_any_scores(tmp_path):
    path = written(tmp_path, {"a": [{"label_id": 1, "score": 17.5, "segment": ["1", 3]}]}, external_data={"used": True})
    read = activitynet.read(path, LABELS)
    assert read.events["a"].label_ids.tolist() == [1]
    assert read.events["a"].scores.tolist() == [17.5]
    assert read.origin is None


def test_a_segment_that_begins_before_the_video_is_clipped(tmp_path):
    items = [{"label": "bark", "score": 1, "segment": s} for s in ([-1, 2], [-3, -1], [0, 1])]
    read = activitynet.read(written(tmp_path, {"a": items}), LABELS)
    assert read.clipped == 2
    np.testing.assert_array_equal(read.events["a"].segments, [[0, 2], [0, 1]])


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"label": "cow", "score": 1, "segment": [0, 1]}, "a: the annotations have no class 'cow'"),
        ({"label_id": 2, "score": 1, "segment": [0, 1]}, "no label_id 2"),
        ({"label": "bark", "score": 1, "segment": [2, 1]}, r"a segment needs start < end, got \[2, 1\]"),
        ({"label": "bark", "score": "nan", "segment": [0, 1]}, "a score must be a number"),
        ({"label": "bark", "segment": [0, 1]}, "a: {'label': 'bark', 'segment'"),
        ({"label": "bark", "score": 1, "segment": 3}, "a: {'label'"),
        ("bark", "a: 'bark'"),
    ],
)
def test_what_is_wrong_is_said_by_video(tmp_path, item, message):
    good = {"label": "bark", "score": 1, "segment": [0, 1]}
    with pytest.raises(ConfigError, match=message):
        activitynet.read(written(tmp_path, {"a": [good, item]}), LABELS)
    with pytest.raises(ConfigError, match=r"and 2 more\)"):
        activitynet.read(written(tmp_path, {key: [item] for key in "abcdefg"}), LABELS)


@pytest.mark.parametrize("text", ["", "[]", '{"database": {}}'])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ConfigError, match=r"p\.json"):
        activitynet.read(tmp_path / "p.json", LABELS)


def test_the_prefix_of_ids_is_put_right_where_nothing_fits_without():
    none = EventList.of([], LABELS)
    assert set(activitynet.renamed({"v_a": none, "v_b": none}, {"a", "b"})) == {"a", "b"}
    assert set(activitynet.renamed({"a": none}, {"v_a"})) == {"v_a"}
    assert set(activitynet.renamed({"a": none, "v_b": none}, {"a", "b"})) == {"a", "v_b"}
    assert set(activitynet.renamed({"x": none}, {"a"})) == {"x"}
