"""Files as people have them: in any order, with equal scores, repeated truth, strange videos and empty segments."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from quirks import DETECTION_MAP, LABELS, UNAV100, drawn_events, named, published_average_precision

from davel import formats
from davel.core.errors import ConfigError
from davel.core.events import Event, EventList, Video
from davel.evaluate import differences, evaluate, read_predictions
from davel.evaluate.metrics import NAMES, THRESHOLDS, average_precision, match


def events(*items: tuple) -> EventList:
    return EventList.of([Event(*item) for item in items], LABELS)


def rows(found, scored: bool = True) -> list[tuple]:
    return [
        (key, e.label, e.start, e.end, *([e.score] if scored else [])) for key, listed in found.items() for e in listed
    ]


@given(named(drawn_events(scored=True), "abcd"), named(drawn_events(scored=False)))
def test_equal_scores_and_repeated_truth_are_those_of_the_published_program(predicted, truth):
    """Video d is not annotated."""
    ap = average_precision(predicted, truth, 2)
    for c, label in enumerate(LABELS):
        expected = published_average_precision(rows(predicted), rows(truth, scored=False), label, THRESHOLDS)
        np.testing.assert_allclose(ap[:, c], expected)


@given(named(drawn_events(scored=True), "abcd"), named(drawn_events(scored=False)), st.randoms())
def test_the_order_of_files_does_not_matter(predicted, truth, chance):
    def shuffled(found):
        keys = chance.sample(list(found), len(found))
        return {
            key: found[key].select(np.array(chance.sample(range(len(found[key])), len(found[key])), int))
            for key in keys
        }

    def figures(found, videos):
        whole = evaluate(found, videos, LABELS, resamples=20, thresholds=0.5).to_dict()
        return {key: value for key, value in whole.items() if key != "floors"}  # of the annotations' order alone

    videos = {key: Video(key, found) for key, found in truth.items()}
    others = {key: Video(key, found) for key, found in shuffled(truth).items()}
    first, second = figures(predicted, videos), figures(shuffled(predicted), others)
    assert json.dumps(first, allow_nan=False) == json.dumps(second, allow_nan=False)


def test_of_equal_scores_the_smaller_id_then_the_earlier_event_is_first():
    truth = {"a": events(("bark", 0, 2)), "b": events(("bark", 0, 2))}
    predicted = {"b": events(("bark", 5, 9, 0.5), ("bark", 0, 2, 0.5)), "a": events(("bark", 5, 9, 0.5))}
    matches = match(predicted, truth, 2, (0.5,))
    assert matches.right[:, 0].tolist() == [False, True, False]  # a, then b from its start on
    assert matches.average_precision()[0, 0] == pytest.approx(1 / 2 * 1 / 2)


def test_of_events_that_are_overlapped_equally_the_later_is_found():
    truth = {"a": events(("bark", 5, 15), ("bark", 0, 10))}
    matches = match({"a": events(("bark", 2.5, 12.5, 0.9))}, truth, 2, (0.5,))
    assert matches.truth.segments[matches.partner[0, 0]].tolist() == [5, 15]


def test_seven_tenths_exactly_are_below_the_seventh_threshold_as_published():
    ap = average_precision({"a": events(("bark", 0, 7))}, {"a": events(("bark", 0, 10))}, 2)
    assert dict(zip(NAMES, ap[:, 0], strict=True))["0.6"] == 1
    assert dict(zip(NAMES, ap[:, 0], strict=True))["0.7"] == 0


def write(path, *, database=None, results=None):
    def listed(events):
        return [dict(zip(("label", "segment", "score"), (e[0], list(e[1:3]), *e[3:]), strict=False)) for e in events]

    content = {"external_data": {"data": "simulated features"}, "version": "1"}
    if database is not None:
        content["labels"] = list(LABELS)
        content["database"] = {
            key: {"subset": subset, "annotations": listed(e)} for key, (subset, e) in database.items()
        }
    if results is not None:
        content["results"] = {key: listed(e) for key, e in results.items()}
    path.write_text(json.dumps(content))
    return path


TRUTH = {
    "a": ("test", [("bark", 0.0, 4.0), ("bark", 0.0004, 4.0005), ("bark", 6.0, 6.0), ("bell", 1.0, 9.0)]),
    "b": ("test", [("bark", 2.0, 8.0), ("bell", 3.0, 3.0)]),
    "c": ("train", [("bark", 2.0, 8.0)]),
}
PREDICTED = {
    "b": [("bark", 2.0, 7.0, 0.9), ("bark", 5.0, 5.0, 0.8), ("bell", 6.0, 6.0, 0.3)],
    "a": [("bark", 0.0, 4.0, 0.7), ("bark", 0.0, 4.0, 0.7), ("bell", 4.0, 4.0, 0.6), ("bell", 1.0, 8.0, 0.5)],
    "stranger": [("bark", 0.0, 5.0, 0.95), ("bell", 0.0, 5.0, 0.2)],
}


def test_a_file_with_every_quirk_has_the_published_figures_and_they_are_told(tmp_path, run):
    truth, found = write(tmp_path / "t.json", database=TRUTH), write(tmp_path / "p.json", results=PREDICTED)
    code, out, err = run("evaluate", found, "--annotations", truth, "--json")
    assert code == 0, err
    figures = json.loads(out)
    of_test = [(k, *e) for k, (subset, listed) in TRUTH.items() if subset == "test" for e in listed]
    predicted = [(k, *e) for k, listed in PREDICTED.items() for e in listed]
    expected = [published_average_precision(predicted, of_test, label, THRESHOLDS) for label in LABELS]
    assert list(figures["mAP"].values()) == pytest.approx(np.mean(expected, axis=0), abs=1e-6)
    assert 0 < figures["average_mAP"] < 1
    assert (figures["events"], figures["repeated"]) == (5, 1)
    assert figures["not_annotated"] == {"videos": 1, "predictions": 2}
    assert "2 annotated events are empty: they count as events that are missed" in err
    assert "1 annotated events repeat another" in err
    assert "3 predictions are empty or lie outside of their video: they count as false positives" in err
    assert "1 predicted videos are not annotated: stranger: their 2 predictions count as false positives" in err
    assert figures["notes"] == ["simulated features"]


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(LABELS), st.integers(0, 6), st.integers(0, 3)), max_size=8
    ),
    st.lists(
        st.tuples(
            st.sampled_from("abx"), st.sampled_from(LABELS), st.integers(0, 6), st.integers(0, 3), st.integers(1, 3)
        ),
        max_size=10,
    ),
)
def test_drawn_files_with_quirks_have_the_published_figures(tmp_path_factory, truth, predicted):
    folder = tmp_path_factory.mktemp("drawn")
    database: dict = {"a": ("test", []), "b": ("test", [])}
    results: dict = {"a": [], "b": []}
    for video, label, start, length in sorted(truth):
        database[video][1].append((label, float(start), float(start + length)))
    for video, label, start, length, score in predicted:
        results.setdefault(video, []).append((label, float(start), float(start + length), score / 3))
    read = read_predictions(
        write(folder / "p.json", results=results), write(folder / "t.json", database=database), "test"
    )
    ap = average_precision(read.events, {key: video.events for key, video in read.videos.items()}, 2)
    true = [(key, *e) for key, (_, listed) in database.items() for e in listed]
    mine = [(key, *e) for key, listed in results.items() for e in listed]
    for c, label in enumerate(LABELS):
        np.testing.assert_allclose(ap[:, c], published_average_precision(mine, true, label, THRESHOLDS))


def test_what_ends_before_it_begins_is_refused(tmp_path):
    truth = write(tmp_path / "t.json", database=TRUTH)
    found = write(tmp_path / "p.json", results={"a": [("bark", 5.0, 4.0, 0.5)]})
    with pytest.raises(ConfigError, match="an event needs 0 <= start < end, got 5 and 4 s"):
        read_predictions(found, truth, "test")


def test_predictions_outside_of_their_video_are_wrong_and_those_of_other_subsets_left_out(tmp_path):
    truth = write(tmp_path / "t.json", database=TRUTH)
    lines = [
        {"id": "b", "duration": 10, "label": "bark", "start": 12, "end": 14, "score": 0.9},
        {"id": "b", "duration": 10, "label": "bark", "start": 2, "end": 8, "score": 0.5},
        {"id": "a", "label": "bark", "start": -4, "end": -1, "score": 0.9},
        {"id": "c", "label": "bark", "start": 2, "end": 8, "score": 0.5},
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    read = read_predictions(tmp_path / "p.jsonl", truth, "test")
    assert {key: len(found) for key, found in read.events.items()} == {"b": 2, "a": 1}
    told = "\n".join(read.told)
    assert "2 predictions are empty or lie outside of their video" in told
    assert "1 predicted videos are of other subsets and were left out" in told
    ap = average_precision(read.events, {key: video.events for key, video in read.videos.items()}, 2)
    assert ap[0, 0] == pytest.approx(1 / 3 * 1 / 3)  # two that lie outside are surer, and are no empty event of a


def test_predictions_without_scores_are_told(tmp_path):
    truth = write(tmp_path / "t.json", database=TRUTH)
    (tmp_path / "p.csv").write_text("file,label,start,end\na.mp4,bark,0,4\nb.mp4,bark,2,8\n")
    told = read_predictions(tmp_path / "p.csv", truth, "test").told
    assert "all predictions have the score 1: average precision takes them by their videos' ids" in told


def test_videos_that_are_not_annotated_are_in_every_resample(tmp_path):
    videos = {key: Video(key, events(("bark", 0, 4))) for key in ("b", "d")}
    found = {key: events(("bark", 0, 4, 0.5)) for key in ("b", "d")}
    strange = {"a": events(("bark", 0, 4, 0.9)), "c": events(("bark", 0, 4, 0.8))}
    alone = evaluate(found, videos, LABELS, resamples=50)
    beside = evaluate(found | strange, videos, LABELS, resamples=50)
    assert beside.figures["average_mAP"] == pytest.approx(1 / 2)
    assert beside.figures["intervals"]["average_mAP"] == [0.5, 0.5]
    difference = differences(alone, beside, 50)
    assert difference["average_mAP"] == {"difference": -0.5, "interval": [-0.5, -0.5]}
    assert difference["averages"]["0.5-0.9"] == difference["average_mAP"]


@pytest.mark.slow
@pytest.mark.skipif(not DETECTION_MAP.exists(), reason="the golden values are not here")
def test_26004_predictions_have_the_published_figures_in_any_order():
    golden = np.load(DETECTION_MAP)
    annotated = formats.read_annotations(UNAV100)
    order = np.random.default_rng(0).permutation(len(golden["video"]))
    column = {name: golden[name][order] for name in ("video", "start", "end", "label", "score")}
    segments = np.stack([column["start"], column["end"]], axis=1).astype(np.float64)
    found = {}
    for key in dict.fromkeys(column["video"].tolist()):
        mine = column["video"] == key
        found[key] = EventList(
            segments[mine], column["score"][mine], column["label"][mine].astype(int), annotated.labels
        )
    videos = list(annotated.subset("test").items())
    random.Random(0).shuffle(videos)
    ap = average_precision(found, {key: video.events for key, video in videos}, 100)
    np.testing.assert_allclose(ap, golden["ap"], atol=1e-12)
    assert ap.mean() == pytest.approx(float(golden["average_map"]), abs=1e-12)
