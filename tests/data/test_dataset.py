"""Annotations, crops and batches."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from davel.core.errors import ConfigError
from davel.data.augment import Crop, Join, SwapAudio, join, random_crop, swap_audio
from davel.data.dataset import Sample, collate
from davel.formats import read_annotations


def written(tmp_path, database):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"version": "x", "database": database}))
    return path


def entry(*events, **more):
    annotations = [{"segment": [s, e], "label": label, "label_id": i} for label, i, s, e in events]
    return {"duration": 20.0, "subset": "train", "annotations": annotations} | more


def test_annotations_keep_labels_by_id_and_videos_by_subset(tmp_path):
    path = written(tmp_path, {"a": entry(("bell", 1, 2, 3)), "b": entry(("bark", 0, 1, 9), subset="test")})
    annotations = read_annotations(path)
    assert annotations.labels == ("bark", "bell")
    assert list(annotations.subset("test")) == ["b"]
    assert annotations.videos["a"].events[0].label == "bell"
    assert annotations.videos["a"].duration == 20


def test_labels_without_ids_are_numbered_in_order(tmp_path):
    event = {"segment": [1, 2], "label": "zebra"}
    other = {"segment": [1, 2], "label": "ape"}
    path = written(tmp_path, {"a": {"duration": 9, "subset": "train", "annotations": [event, other]}})
    assert read_annotations(path).labels == ("ape", "zebra")


def test_listed_labels_need_not_all_happen(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"labels": ["ape", "bark", "bell"], "database": {"a": entry(("bell", 2, 1, 2))}}))
    assert read_annotations(path).labels == ("ape", "bark", "bell")
    path.write_text(json.dumps({"labels": ["ape", "bell"], "database": {"a": entry(("bell", 2, 1, 2))}}))
    with pytest.raises(ConfigError, match="label 'bell' has label_id 2, elsewhere 1"):
        read_annotations(path)


def test_a_video_may_have_no_events(tmp_path):
    annotations = read_annotations(written(tmp_path, {"a": entry(("bell", 0, 2, 3)), "b": entry()}))
    assert len(annotations.videos["b"].events) == 0


@pytest.mark.parametrize(
    ("database", "message"),
    [
        ({"a": entry(("bell", 0, 3, 2))}, "a: annotation 0: an event needs 0 <= start < end, got 3 and 2 s"),
        (
            {"a": entry(("bell", 0, 1, 2)), "b": entry(("bell", 1, 1, 2))},
            "b: annotation 0: label 'bell' has label_id 1, elsewhere 0",
        ),
        ({"a": entry(("bell", 0, 1, 2), ("bark", 0, 1, 2))}, "label_id 0 is both 'bell' and 'bark'"),
        ({"a": entry(("bell", 3, 1, 2))}, "label_id 0 is not used: list all classes"),
        ({"a": entry(("bell", 0, 1, 2), duration="long")}, "a: needs a duration in seconds, got 'long'"),
    ],
)
def test_what_is_wrong_with_annotations_is_said_by_video(tmp_path, database, message):
    with pytest.raises(ConfigError, match=message):
        read_annotations(written(tmp_path, database))


@pytest.mark.parametrize("text", ["[]", "{}", "not json", '{"database": 3}'])
def test_another_file_is_refused(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"a\.json"):
        read_annotations(path)


def test_an_unknown_subset_is_refused_with_those_there_are(tmp_path):
    with pytest.raises(ConfigError, match="no videos in the subset 'val': the annotations have train"):
        read_annotations(written(tmp_path, {"a": entry(("bell", 0, 1, 2))})).subset("val")


def sample(T: int, *segments: tuple[float, float]) -> Sample:
    x = np.arange(T, dtype=np.float32)
    array = np.array(segments, np.float32).reshape(-1, 2)
    return Sample("a", x[:, None], x[:, None] + 100, array, np.arange(len(array)))


def test_a_crop_keeps_events_that_are_at_least_half_inside_and_clips_them():
    cropped = sample(20, (0, 10), (2, 16), (4, 6), (18, 20)).crop(5, 10)
    assert cropped.labels.tolist() == [0, 1, 2]
    assert cropped.segments.tolist() == [[0, 5], [0, 10], [0, 1]]
    assert cropped.visual[:, 0].tolist() == list(range(5, 15))
    assert sample(20, (0, 9)).crop(5, 10).labels.tolist() == []


@given(st.integers(1, 300), st.integers(0, 1000))
def test_a_random_crop_is_of_the_asked_size_and_in_step_in_both_modalities(T, seed):
    cropped = random_crop(sample(T, (0, T)), 64, (0.9, 1.0), np.random.default_rng(seed))
    n = len(cropped.visual)
    assert n == 64 if T > 64 else round(0.9 * T) <= n <= T
    assert (cropped.audio - cropped.visual == 100).all()
    assert (np.diff(cropped.visual[:, 0]) == 1).all()


@given(st.integers(0, 200))
def test_a_random_crop_looks_for_one_that_keeps_an_event(seed):
    assert len(random_crop(sample(200, (180, 190)), 64, (0.9, 1.0), np.random.default_rng(seed)).labels) == 1


def test_with_anothers_sound_an_event_is_where_both_have_one_of_its_class():
    pictures = Sample("a", np.zeros((20, 1)), np.zeros((20, 1)), np.array([[0.0, 10], [12, 19]]), np.array([1, 0]))
    sound = Sample(
        "b", np.ones((15, 1)), np.ones((15, 1)), np.array([[6.0, 14], [2, 15], [11, 14]]), np.array([1, 2, 1])
    )
    swapped = swap_audio(pictures, sound)
    assert swapped.segments.tolist() == [[6, 10]]
    assert swapped.labels.tolist() == [1]
    assert len(swapped.visual) == len(swapped.audio) == 15
    assert (swapped.visual == 0).all()
    assert (swapped.audio == 1).all()
    assert swap_audio(sound, pictures).segments.tolist() == [[6, 10]]


def test_a_joined_video_follows_and_its_events_come_later():
    def video(value: float, T: int) -> Sample:
        features = np.full((T, 2), value, np.float32)
        return Sample("x", features, features, np.array([[1.0, 4.0]], np.float32), np.array([int(value)]))

    both = join(video(1, 10), video(2, 5))
    assert both.visual[:, 0].tolist() == both.audio[:, 0].tolist() == [1] * 10 + [2] * 5
    assert both.segments.tolist() == [[1, 4], [11, 14]]
    assert both.labels.tolist() == [1, 2]


def nobody(rng: np.random.Generator) -> Sample:
    raise AssertionError("no other video is asked for")


@pytest.mark.parametrize("change", [SwapAudio(0.0), Join(0.0)])
def test_an_augmentation_of_no_video_draws_nothing(change):
    """So that a recipe with it crops as one without."""
    rng, video = np.random.default_rng(0), sample(20, (0, 9))
    assert change(video, nobody, rng) is video
    assert rng.bit_generator.state == np.random.default_rng(0).bit_generator.state


@pytest.mark.parametrize(("kind", "change"), [(SwapAudio, swap_audio), (Join, join)])
def test_an_augmentation_changes_its_part_of_the_videos(kind, change):
    one, other, rng = sample(20, (0, 9)), sample(12, (3, 8)), np.random.default_rng(0)
    always = kind(1.0)(one, lambda rng: other, rng)
    expected = change(one, other)
    assert always.audio.tolist() == expected.audio.tolist() != one.audio.tolist()
    assert always.segments.tolist() == expected.segments.tolist()
    changed = sum(kind(0.3)(one, lambda rng: other, rng) is not one for _ in range(1000))
    assert 250 < changed < 350


def test_a_crop_asks_for_no_other_video():
    ours = Crop(64, (0.5, 0.7))(sample(50, (0, 50)), nobody, np.random.default_rng(5))
    theirs = random_crop(sample(50, (0, 50)), 64, (0.5, 0.7), np.random.default_rng(5))
    assert ours.visual.tolist() == theirs.visual.tolist()


def test_a_batch_pads_with_zeros_and_says_where():
    batch = collate([sample(3, (0, 2)), sample(5), sample(4, (1, 2), (2, 3))])
    assert batch.visual.shape == (3, 5, 1)
    assert batch.mask.sum(1).tolist() == [3, 5, 4]
    assert (batch.visual[0, 3:] == 0).all()
    assert batch.truth.labels.tolist() == [[0, -1], [-1, -1], [0, 1]]


def test_videos_lie_in_folders_and_tell_their_durations(tmp_path):
    from media_files import make_media

    from davel.data.sources import DataConfig

    for name in ("cam1", "cam2"):
        (tmp_path / "videos" / name).mkdir(parents=True)
        make_media(tmp_path / "videos" / name / "0001.mp4", seconds=3)
    (tmp_path / "t.csv").write_text("file,label,start,end\ncam1/0001.mp4,bell,1,2\ncam2/0001.mp4,bark,1,9\n")
    config = DataConfig(annotations=tmp_path / "t.csv", videos=tmp_path / "videos", workers=1)
    annotations = config.annotated()
    assert list(annotations.videos) == ["cam1/0001", "cam2/0001"]
    assert all(video.seconds == pytest.approx(3, abs=0.1) for video in annotations.videos.values())
    assert annotations.videos["cam2/0001"].events[0].end == annotations.videos["cam2/0001"].seconds
    dataset = config.open(annotations.videos)
    assert len({id(dataset.sample(key).visual) for key in dataset.videos}) == 2
    (tmp_path / "t.csv").write_text("file,label,start,end\ncam3/0001.mp4,bell,1,2\n")
    with pytest.raises(ConfigError, match="cam3/0001: no such file"):
        config.annotated()
