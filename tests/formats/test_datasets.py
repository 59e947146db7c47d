"""Annotations of others' data sets, in small files of the released shapes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davel import formats
from davel.core.errors import ConfigError, DavelError
from davel.core.events import Video
from davel.data.simulate import simulate
from davel.formats import FORMATS, POLICIES, READERS, File, Reader

AVE_PM = "sample_id,onset,offset,label\n10,0.42,10.0,2\n11,0.0,3.0,0\n12,1.5,9.57,2\n"
AVE_PM_CLASSES = "class_id,class_name\n0,meowing\n1,arc welding\n2,playing suona \n"
OV_AVE = {
    "EpxQKLhAP0s": {"category": "people burping", "label": "[0, 1, 1, 1, 0, 0, 0, 0, 0, 1]"},
    "G_ggrRDR0n0": {"category": "people burping", "label": "[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]"},
    "-_R1e0990i4": {"category": "arc welding", "label": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]},
}
OV_AVE_SPLITS = (
    "split,cls_name,cls_type,vid_name\ntrain,people burping,close,EpxQKLhAP0s\n"
    "val,people burping,close,G_ggrRDR0n0\ntest,arc welding,close,-_R1e0990i4\n"
)
HEADING = "filename\tonset\toffset\tevent_labels\n"
LLP_AUDIO = (
    f"{HEADING}aaaaaaaaaaa_23_33\t0\t4\tSpeech\naaaaaaaaaaa_23_33\t6\t8\tSpeech\n"
    "b_b-bbbbbbb_160_170\t0\t10\tDog\nb_b-bbbbbbb_160_170\t0\t2\tFrying_(food)\n"
)
LLP_VISUAL = f"{HEADING}aaaaaaaaaaa_23_33\t2\t7\tSpeech\nb_b-bbbbbbb_160_170\t3\t5\tDog\nccccccccccc_0_10\t1\t2\tCat\n"
DESED = (
    "filename\tonset\toffset\tevent_label\n"
    "Y-BJNMHMZDcU_50.000_60.000.wav\t0.163\t0.665\tAlarm_bell_ringing\n"
    "Y-BJNMHMZDcU_50.000_60.000.wav\t0.000\t9.700\tDog\nY0_quiet.wav\t\t\t\n"
)
DURATIONS = "filename\tduration\nY-BJNMHMZDcU_50.000_60.000.wav\t9.8\nY0_quiet.wav\t10.0\n"
THUMOS = (
    "video_validation_0000266  72.8 76.4\nvideo_validation_0000681  44.0 50.9\nvideo_validation_0000266  9.6 12.2\n"
)
ACTIVITYNET = {
    "taxonomy": [{"nodeName": "Root", "nodeId": 0, "parentId": None, "parentName": None}],
    "version": "VERSION 1.3",
    "database": {
        "sJFgo9H6zNo": {
            "subset": "training", "duration": 82.2, "resolution": "320x240", "url": "https://example.org/sJFgo9H6zNo",
            "annotations": [{"segment": [0.0, 13.9], "label": "Fun sliding down"}],
        },
        "V1zhqaGFY2A": {"subset": "testing", "duration": 28.4, "annotations": []},
    },
}  # fmt: skip
THUMOS_JSON = {
    "version": "Thumos14-30fps",
    "database": {
        "video_validation_0000690": {
            "subset": "Validation", "duration": 16.0, "fps": 30.0,
            "annotations": [
                {"label": "BaseballPitch", "segment": [9.1, 10.5], "segment(frames)": [273.0, 315.0], "label_id": 0}
            ],
        }
    },
}  # fmt: skip
GOOD = {
    "ave-pm": ("val.csv", AVE_PM),
    "ov-ave": ("anno.json", json.dumps(OV_AVE, indent=4)),
    "llp": ("AVVP_eval_audio.csv", LLP_AUDIO),
    "thumos": ("BaseballPitch_val.txt", THUMOS),
}


def put(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def events(video: Video) -> list[tuple[str, float, float, str]]:
    return sorted((e.label, e.start, e.end, e.kind) for e in video.events)


def by_id(path: Path) -> dict[str, Video]:
    return {video.id: video for video in formats.read(path)}


@pytest.mark.parametrize("name", READERS)
def test_each_is_known_by_its_content_and_no_others_file_is(name, tmp_path):
    file, text = GOOD[name]
    assert formats.recognised(File(file, text)) is READERS[name]
    assert [reader.name for reader in READERS.values() if reader.recognises(File(file, text))] == [name]
    assert formats.recognised(File(f"other.{file.rpartition('.')[2]}", text)) is READERS[name]
    for form in FORMATS.values():
        own = File(f"a.{form.suffix}", form.dumps([Video("clip", formats.read(_written(tmp_path))[0].events)]))
        assert not READERS[name].recognises(own)
    (tmp_path / file).write_text(text)
    assert formats.collect(tmp_path / file)[0].name == name


def _written(folder: Path) -> Path:
    (folder / "some.csv").write_text("file,label,start,end\nclip.mp4,dog,1.25,3.5\n")
    return folder / "some.csv"


def test_what_another_package_brings_still_comes_first(monkeypatch):
    own = Reader(name="mine", loads=lambda file, found: None, recognise=lambda file: file.ending == "csv")
    monkeypatch.setitem(FORMATS, "mine", own)
    assert formats.recognised(File("val.csv", AVE_PM)) is own


def test_ave_pm_has_clips_of_ten_seconds_whose_classes_are_named_beside_it(tmp_path):
    put(tmp_path, val__csv=AVE_PM)
    videos = by_id(tmp_path / "val.csv")
    assert [e.label for v in videos.values() for e in v.events] == ["2", "0", "2"]
    put(tmp_path, class_name_mapping__csv=AVE_PM_CLASSES, train__csv=AVE_PM)
    videos = by_id(tmp_path / "val.csv")
    assert events(videos["10"]) == [("playing suona", 0.42, 10.0, "both")]
    assert {(v.duration, v.subset) for v in videos.values()} == {(10.0, "validation")}
    assert formats.read(tmp_path / "train.csv")[0].subset == "train"
    assert formats.read_annotations(tmp_path / "val.csv").labels == ("meowing", "arc welding", "playing suona")


@pytest.mark.parametrize(
    ("classes", "rows", "message"),
    [
        (AVE_PM_CLASSES, "10,0.42,10.0,3\n", "10: line 2: there is no label_id 3 among 3 classes"),
        (AVE_PM_CLASSES, "10,4,2,1\n", "10: line 2: an event needs 0 <= start < end, got 4 and 2 s"),
        (AVE_PM_CLASSES, "10,x,2,1\n", "10: line 2: start is 'x': expected a number"),
        (AVE_PM_CLASSES, "10,0,2,\n", "10: line 2: the event from 0 to 2 s has no label"),
        ("class_id,class_name\n0,a\n2,b\n", "10,0,2,0\n", "class_name_mapping.csv: there is no class 1"),
        ("id,name\n", "10,0,2,0\n", r"class_name_mapping.csv: line 1: expected the columns class_id, class_name"),
    ],
)
def test_what_is_wrong_with_ave_pm_is_told_with_its_place(classes, rows, message, tmp_path):
    put(tmp_path, val__csv="sample_id,onset,offset,label\n" + rows, class_name_mapping__csv=classes)
    with pytest.raises(ConfigError, match=f"as ave-pm: {message}"):
        formats.read(tmp_path / "val.csv")


def test_ov_ave_has_an_event_for_every_run_of_seconds(tmp_path):
    put(tmp_path, anno__json=json.dumps(OV_AVE))
    videos = by_id(tmp_path / "anno.json")
    assert events(videos["EpxQKLhAP0s"]) == [("people burping", 1, 4, "both"), ("people burping", 9, 10, "both")]
    assert events(videos["G_ggrRDR0n0"]) == []
    assert events(videos["-_R1e0990i4"]) == [("arc welding", 0, 10, "both")]
    assert {(v.duration, v.subset) for v in videos.values()} == {(10.0, None)}
    put(tmp_path, ovave_dataset_meta__csv=OV_AVE_SPLITS)
    assert [v.subset for v in formats.read(tmp_path / "anno.json")] == ["train", "validation", "test"]
    with pytest.raises(ConfigError, match=r"as ov-ave: has classes without times.*give the JSON file"):
        formats.read(tmp_path / "ovave_dataset_meta.csv")
    put(tmp_path, ovave_dataset_meta__csv="a,b\n")
    with pytest.raises(ConfigError, match=r"as ov-ave: ovave_dataset_meta\.csv: line 1: expected the columns split"):
        formats.read(tmp_path / "anno.json")


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        ({"category": "a", "label": "[0, 1"}, r"v: label: expected a list of 0 and 1, got \[0, 1"),
        ({"category": "a", "label": [0, 2]}, r"v: label: expected a list of 0 and 1, got \[0, 2\]"),
        ({"category": "a", "label": [True]}, "v: label: expected a list of 0 and 1"),
        ({"category": "a", "label": []}, "v: label: expected a list of 0 and 1"),
        ({"category": None, "label": [0, 1]}, "v: label, second 1: the event from 1 to 2 s has no label"),
        (["a"], "v: expected an object, got list"),
    ],
)
def test_what_is_wrong_with_ov_ave_is_told_by_video(clip, message, tmp_path):
    put(tmp_path, anno__json=json.dumps(OV_AVE | {"v": clip}))
    with pytest.raises(ConfigError, match=f"as ov-ave: {message}"):
        formats.read(tmp_path / "anno.json")
    videos, problems = formats.read_videos(tmp_path / "anno.json", policy="skip")
    assert [p.id for p in problems] == ["v"]
    assert sum(len(v.events) for v in videos) == 3


def test_llp_alone_is_heard_or_seen_and_together_what_is_both(tmp_path):
    put(tmp_path, AVVP_eval_audio__csv=LLP_AUDIO)
    videos = by_id(tmp_path / "AVVP_eval_audio.csv")
    assert events(videos["aaaaaaaaaaa_23_33"]) == [("Speech", 0, 4, "heard"), ("Speech", 6, 8, "heard")]
    put(tmp_path, AVVP_eval_visual__csv=LLP_VISUAL)
    expected = {
        "aaaaaaaaaaa_23_33": [
            ("Speech", 0, 2, "heard"), ("Speech", 2, 4, "both"), ("Speech", 4, 6, "seen"),
            ("Speech", 6, 7, "both"), ("Speech", 7, 8, "heard"),
        ],
        "b_b-bbbbbbb_160_170": [
            ("Dog", 0, 3, "heard"), ("Dog", 3, 5, "both"), ("Dog", 5, 10, "heard"), ("Frying_(food)", 0, 2, "heard")
        ],
        "ccccccccccc_0_10": [("Cat", 1, 2, "seen")],
    }  # fmt: skip
    for name in ("AVVP_eval_audio.csv", "AVVP_eval_visual.csv"):
        assert {key: events(video) for key, video in by_id(tmp_path / name).items()} == expected
        assert {video.duration for video in formats.read(tmp_path / name)} == {10.0}
    put(tmp_path, AVVP_val_pd__csv="filename\tevent_labels\naaaaaaaaaaa_23_33\tSpeech\n")
    put(tmp_path, AVVP_test_pd__csv="filename\tevent_labels\nb_b-bbbbbbb_160_170\tDog,Frying_(food)\n")
    subsets = [video.subset for video in formats.read(tmp_path / "AVVP_eval_audio.csv")]
    assert subsets == ["validation", "test", None]


TIMES = st.tuples(st.integers(0, 9), st.integers(1, 10)).filter(lambda pair: pair[0] < pair[1])


@given(heard=st.lists(TIMES, max_size=5), seen=st.lists(TIMES, max_size=5))
def test_second_by_second_llp_says_what_its_two_files_say(heard, seen, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llp")
    for name, rows in (("audio", heard), ("visual", seen)):
        put(folder, **{f"x_{name}__csv": HEADING + "".join(f"v_0_10\t{a}\t{b}\tDog\n" for a, b in rows)})
    videos = formats.read(folder / "x_audio.csv")
    found = [e for video in videos for e in video.events]
    for t in range(10):
        kinds = {e.kind for e in found if e.start <= t and t + 1 <= e.end}
        is_heard, is_seen = (any(a <= t < b for a, b in rows) for rows in (heard, seen))
        assert len(kinds) <= 1
        assert kinds == {("both" if is_heard else "seen") if is_seen else "heard"} if is_heard or is_seen else not kinds


def test_rows_of_llp_that_are_no_events_keep_their_place(run, tmp_path):
    """The released files have some whose onset is their offset."""
    put(tmp_path, AVVP_eval_audio__csv=LLP_AUDIO + "ddddddddddd_2_12\t0\t0\tBaby\nccccccccccc_0_10\tx\t1\tCat\n")
    put(tmp_path, AVVP_eval_visual__csv=LLP_VISUAL + "ccccccccccc_0_10\t3\t3\tCat\n")
    code, _, err = run("convert", "AVVP_eval_audio.csv", "out.jsonl")
    assert code == 4
    for problem in (
        "ddddddddddd_2_12: line 6: an event needs 0 <= start < end, got 0 and 0 s",
        "ccccccccccc_0_10: line 7: start is 'x': expected a number",
        "ccccccccccc_0_10: AVVP_eval_visual.csv line 5: an event needs 0 <= start < end, got 3 and 3 s",
    ):
        assert problem in err
    code, out, err = run("convert", "AVVP_eval_audio.csv", "out.jsonl", "--problems", "skip")
    assert (code, out) == (0, "4 videos, 10 events: out.jsonl\n"), err
    assert {v.id: events(v) for v in formats.read(tmp_path / "out.jsonl")}["ddddddddddd_2_12"] == []


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("AVVP_train.csv", "filename\tevent_labels\na_0_10\tSpeech,Dog\n", "classes of whole videos without times"),
        ("weak.tsv", "filename\tevent_labels\na.wav\tDog\n", "classes of whole videos without times"),
        ("labels.csv", LLP_AUDIO, "put audio or visual into the file's name"),
        ("x_audio.csv", "filename\tonset\tevent_labels\na\t1\tDog\n", "line 1: expected the columns filename, onset"),
    ],
)
def test_tables_that_say_too_little_are_refused_in_a_line(name, text, message, run, tmp_path):
    (tmp_path / name).write_text(text)
    code, _, err = run("convert", name, "out.csv")
    assert code == 4
    assert f"{name}: as llp: " in err
    assert message in err
    assert len(err.strip().splitlines()) == 1


def test_lfav_is_read_too_and_tells_no_durations(tmp_path):
    put(tmp_path, val_audio__csv=f"{HEADING}ZF-pF6v3fb0\t0\t6\tlaughter\n")
    put(tmp_path, val_visual__csv=f"{HEADING}ZF-pF6v3fb0\t0\t6\tlaughter\n")
    [video] = formats.read(tmp_path / "val_visual.csv")
    assert events(video) == [("laughter", 0, 6, "both")]
    assert video.duration is None


@pytest.mark.parametrize("ending", ["tsv", "csv"])
def test_strong_labels_of_dcase_take_their_durations_from_beside(ending, tmp_path):
    path = tmp_path / f"validation.{ending}"
    path.write_text(DESED)
    assert formats.collect(path)[0].name == "dcase"
    videos = by_id(path)
    assert events(videos["Y-BJNMHMZDcU_50.000_60.000"])[0] == ("Alarm_bell_ringing", 0.163, 0.665, "both")
    assert {v.duration for v in videos.values()} == {None}
    with pytest.raises(ConfigError, match="needs a duration"):
        formats.read_annotations(path)
    put(tmp_path, durations__tsv=DURATIONS)
    assert [v.duration for v in formats.read_annotations(path).videos.values()] == [9.8, 10.0]
    put(tmp_path, validation_durations__tsv=DURATIONS.replace("9.8", "9.75"))
    assert next(iter(by_id(path).values())).duration == 9.75
    put(tmp_path, validation_durations__tsv="name\tseconds\n")
    with pytest.raises(ConfigError, match=r"as dcase: validation_durations\.tsv: line 1: expected the columns"):
        formats.read(path)


def test_thumos_is_of_the_class_that_its_file_is_named_by(tmp_path):
    put(tmp_path, BaseballPitch_val__txt=THUMOS, Diving_test__txt="video_test_0000004  0.2 1.1\n")
    videos = by_id(tmp_path / "BaseballPitch_val.txt")
    assert events(videos["video_validation_0000266"]) == [
        ("BaseballPitch", 9.6, 12.2, "both"), ("BaseballPitch", 72.8, 76.4, "both")
    ]  # fmt: skip
    assert {v.subset for v in videos.values()} == {"validation"}
    [video] = formats.read(tmp_path / "Diving_test.txt")
    assert (video.subset, video.events[0].label) == ("test", "Diving")
    put(tmp_path, Ambiguous_val__txt=THUMOS)
    with pytest.raises(ConfigError, match="as thumos: has what is left out of the evaluation"):
        formats.read(tmp_path / "Ambiguous_val.txt")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("video_validation_0000266  5.0 1.0", "line 4: an event needs 0 <= start < end, got 5 and 1 s"),
        ("video_validation_0000266  5.0", "line 4: expected a video and two times, got video_validation_0000266  5.0"),
        ("something  5.0 6.0", "line 4: expected a video and two times"),
        ("video_validation_0000266  a 6.0", "line 4: start is 'a': expected a number"),
    ],
)
def test_what_is_wrong_with_thumos_is_told_with_its_line(line, message, tmp_path):
    put(tmp_path, BaseballPitch_val__txt=THUMOS + line + "\n")
    with pytest.raises(ConfigError, match=message):
        formats.read(tmp_path / "BaseballPitch_val.txt")


@pytest.mark.parametrize(
    ("content", "expected", "subset"),
    [
        (ACTIVITYNET, {"sJFgo9H6zNo": [("Fun sliding down", 0, 13.9, "both")], "V1zhqaGFY2A": []}, "training"),
        (THUMOS_JSON, {"video_validation_0000690": [("BaseballPitch", 9.1, 10.5, "both")]}, "Validation"),
    ],
)
def test_truth_in_activitynets_schema_is_read_whatever_else_stands_in_it(content, expected, subset, tmp_path):
    put(tmp_path, truth__json=json.dumps(content))
    annotations = formats.read_annotations(tmp_path / "truth.json")
    assert {key: events(video) for key, video in annotations.videos.items()} == expected
    assert next(iter(annotations.videos.values())).subset == subset
    assert set(annotations.subset(subset))


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
def test_a_damaged_file_is_a_davel_error_or_problems(name, data, tmp_path_factory):
    file, text = GOOD[name]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 20, len(text))))
    inserted = data.draw(st.sampled_from(["", "\x00", '"', "<", "\t", ",", "-", "nan", "null", "[", "9" * 400, "\n\n"]))
    path = tmp_path_factory.mktemp("damaged") / file
    path.write_text(text[:start] + inserted + text[end:])
    for policy in POLICIES:
        try:
            videos, _ = formats.read_videos(path, name, policy=policy)
        except DavelError as error:
            lines = str(error).splitlines()
        else:
            lines = [event.label for video in videos for event in video.events][:1] or [""]
        assert len(lines) == 1


def test_data_check_and_convert_take_them(run, tmp_path):
    files = {"anno.json": json.dumps(OV_AVE), "val.csv": AVE_PM, "AVVP_eval_audio.csv": LLP_AUDIO, "v.tsv": DESED}
    put(tmp_path, ovave_dataset_meta__csv=OV_AVE_SPLITS, durations__tsv=DURATIONS)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        annotations = formats.read_annotations(tmp_path / name)
        simulate(tmp_path / f"{name}.set", annotations, lazy=True)
        code, out, err = run("data", "check", f"{name}.set", "--annotations", name)
        assert code == 0, (name, out, err)
        assert "nothing is wrong" in out
        count = sum(len(video.events) for video in annotations.videos.values())
        assert f"{count} events" in out
        code, out, err = run("convert", name, "out.activitynet.json")
        assert code == 0, err
        assert out == f"{len(annotations.videos)} videos, {count} events: out.activitynet.json\n"
        again = formats.read_annotations(tmp_path / "out.activitynet.json")
        assert {key: events(v) for key, v in again.videos.items()} == {
            key: events(v) for key, v in annotations.videos.items()
        }
    code, out, err = run("data", "check", "val.csv.set", "--annotations", "v.tsv.missing")
    assert code == 4
    assert "cannot read" in err


def test_an_unknown_name_lists_them_and_none_of_them_is_written(run, tmp_path):
    put(tmp_path, val__csv=AVE_PM)
    assert "ave-pm, ov-ave, llp, thumos" in run("convert", "val.csv", "out.csv", "--from", "doc")[2]
    assert "unknown format 'ave-pm': choose from json" in run("convert", "val.csv", "out.csv", "--to", "ave-pm")[2]


def test_the_documentation_names_them_all():
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()
    assert all(f"| `{name}` |" in page for name in READERS)
