"""ActivityNet's JSON: one reader, whoever asks; what differs is the policy."""

from __future__ import annotations

import json

import numpy as np
import pytest

from davel import formats
from davel.core.annotations import Vocabulary
from davel.core.errors import ConfigError
from davel.core.events import Event, EventList, Video
from davel.formats import activitynet

LABELS = ("bark", "bell")
KNOWN = Vocabulary(LABELS)


def written(folder, results, **more):
    path = folder / "p.json"
    path.write_text(json.dumps({"version": "x", "results": results, "external_data": {}, **more}))
    return path


def test_predictions_are_read_as_they_were_written(tmp_path):
    videos = [
        Video("a", EventList.of([Event("bell", 1.25, 3.5, 0.75), Event("bark", 0, 2, 0.5)], LABELS)),
        Video("b/c.d", EventList.of([], LABELS)),
    ]
    path = tmp_path / "p.json"
    path.write_text(activitynet.dump_results(videos, "simulated features", model="m"))
    read = formats.inspect(path, vocabulary=KNOWN)
    assert [(v.id, list(v.events)) for v in read.videos] == [(v.id, list(v.events)) for v in videos]
    assert read.origin == "simulated features"
    assert not read.problems
    content = json.loads(path.read_text())
    assert set(content) == {"version", "results", "external_data"}
    assert content["external_data"] == {"model": "m", "data": "simulated features"}


def test_a_label_id_alone_is_a_class_that_is_known(tmp_path):
    path = written(tmp_path, {"a": [{"label_id": 1, "score": 0.5, "segment": ["1", 3]}]}, external_data={"used": True})
    [video] = formats.inspect(path, vocabulary=KNOWN).videos
    assert [e.label for e in video.events] == ["bell"]
    with pytest.raises(ConfigError, match="a: prediction 0: there is no label_id 1 among 0 classes"):
        formats.read_videos(path)
    path = written(tmp_path, {"a": [{"label_id": 1, "score": 0.5, "segment": [1, 3]}]}, labels=["cow", "crow"])
    assert [e.label for e in formats.read(path)[0].events] == ["crow"]


def test_scores_of_another_range_keep_their_order(tmp_path):
    items = [{"label": "bark", "score": s, "segment": [0, 1]} for s in (17, -3, 2)]
    path = written(tmp_path, {"a": items})
    [video], problems = formats.read_videos(path, policy="clip")
    np.testing.assert_allclose(video.events.scores, [1, 0, 0.25])
    assert [(p.kind, p.text) for p in problems] == [("score", "scores from -3 to 17 were brought into 0..1")]
    with pytest.raises(ConfigError, match="prediction 0: a score must be from 0 to 1, got 17"):
        formats.read_videos(path, policy="refuse")
    [video], problems = formats.read_videos(path, policy="skip")
    assert (len(video.events), len(problems)) == (0, 3)


def test_a_segment_that_begins_before_the_video_is_cut_or_refused_or_left_out(tmp_path):
    items = [{"label": "bark", "score": 1, "segment": s} for s in ([-1, 2], [-3, -1], [0, 1])]
    path = written(tmp_path, {"a": items})
    [video], problems = formats.read_videos(path, policy="clip")
    np.testing.assert_array_equal(video.events.segments, [[0, 2], [0, 1]])
    assert formats.told(problems) == [
        "1 events reached out of their video and were cut: a: prediction 0: -1 to 2 s cut to 0 to 2 s",
        "1 events lay outside of their video and were left out: "
        "a: prediction 1: an event from -3 to -1 s lies outside of its video",
    ]
    with pytest.raises(ConfigError, match="as results: a: prediction 0: an event needs 0 <= start < end, got -1 and 2"):
        formats.read_videos(path, policy="refuse")
    [video], problems = formats.read_videos(path, policy="skip")
    np.testing.assert_array_equal(video.events.segments, [[0, 1]])
    assert len(problems) == 2


def test_training_and_conversion_see_the_same_events(tmp_path):
    """An event from 8 to 12 s of a video of 10 s."""
    path = tmp_path / "a.json"
    event = {"segment": [8, 12], "label": "bark", "label_id": 0}
    path.write_text(json.dumps({"database": {"a": {"duration": 10, "subset": "train", "annotations": [event]}}}))
    annotations = formats.read_annotations(path)
    [video] = formats.read(path)
    assert list(annotations.videos["a"].events) == list(video.events) == [Event("bark", 8, 10)]
    assert [str(problem) for problem in annotations.told] == ["a: annotation 0: 8 to 12 s cut to 8 to 10 s"]
    with pytest.raises(ConfigError, match="the event ends at 12 s, its video at 10"):
        formats.read_videos(path, policy="refuse")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ({"label": "cow", "score": 1, "segment": [0, 1]}, "a: prediction 1: there is no class 'cow'"),
        ({"label_id": 2, "score": 1, "segment": [0, 1]}, "no label_id 2 among 2 classes"),
        ({"label": "bark", "score": 1, "segment": [2, 1]}, "an event needs 0 <= start < end, got 2 and 1 s"),
        ({"label": "bark", "score": "nan", "segment": [0, 1]}, "a score must be from 0 to 1, got nan"),
        ({"label": "bark", "score": 1, "segment": 3}, "a: prediction 1: segment needs two times, got 3"),
        ("bark", "a: prediction 1: expected an object, got str"),
    ],
)
def test_what_is_wrong_is_said_by_video(tmp_path, item, message):
    good = {"label": "bark", "score": 1, "segment": [0, 1]}
    with pytest.raises(ConfigError, match=message):
        formats.read_videos(written(tmp_path, {"a": [good, item]}), vocabulary=KNOWN)
    with pytest.raises(ConfigError, match=r"and 2 more\)"):
        formats.read_videos(written(tmp_path, {key: [item] for key in "abcdefg"}), vocabulary=KNOWN)
    [video], problems = formats.read_videos(written(tmp_path, {"a": [good, item]}), vocabulary=KNOWN, policy="skip")
    assert (len(video.events), len(problems)) == (1, 1)


@pytest.mark.parametrize("text", ["", "{}", "3"])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(ConfigError, match=r"p\.json"):
        formats.read(tmp_path / "p.json")


@pytest.mark.parametrize(
    ("found", "videos", "names"),
    [
        (["v_a", "v_b"], {"a", "b"}, ["a", "b"]),
        (["a"], {"v_a"}, ["v_a"]),
        (["a", "v_b"], {"a", "b"}, ["a", "v_b"]),
        (["x"], {"a"}, ["x"]),
        (["videos/a", "videos/b"], {"a", "b"}, ["a", "b"]),
        (["cam1/a", "cam2/a"], {"a", "b"}, ["cam1/a", "cam2/a"]),
    ],
)
def test_ids_are_put_right_where_nothing_fits_without(found, videos, names):
    assert list(activitynet.renamed(found, videos).values()) == names


def test_the_mark_of_simulated_features_travels_with_predictions_and_its_loss_is_told(tmp_path):
    events = EventList.of([Event("dog", 1, 2, 0.5)], ("dog",))
    (tmp_path / "p.json").write_text(activitynet.dump_results([Video("a", events)], "simulated features"))
    videos = formats.read(tmp_path / "p.json")
    assert videos[0].origin == "simulated features"
    assert formats.write(videos, tmp_path / "again.results.json") == []
    assert formats.inspect(tmp_path / "again.results.json").origin == "simulated features"
    assert "csv does not hold what its figures must say: simulated features" in formats.write(
        videos, tmp_path / "p.csv"
    )
    assert formats.read(tmp_path / "p.csv")[0].origin is None
