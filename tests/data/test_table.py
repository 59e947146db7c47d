"""From a table of events to a data set that trains: split by video, mistakes by line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import make_media

from davel.core.errors import ConfigError
from davel.data.table import Split, read_table
from davel.formats import read_annotations
from davel.models import CCNetConfig
from davel.train.recipe import load_train_config

HEADER = "file,start,end,label\n"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    first = make_media(folder / "a.mp4", seconds=3)
    for name in "bcd":
        (folder / f"{name}.mp4").write_bytes(first.read_bytes())
    return folder


def table(folder, rows: str, header: str = HEADER):
    path = folder / "events.csv"
    path.write_text(header + rows)
    return path


def test_a_table_becomes_annotations(tmp_path, videos):
    path = table(tmp_path, "b.mp4,0.5,1.5,howl\na.mp4,0,3.2,bark\n\nb.mp4, 1 ,2,bark\nc.mp4,,,\n")
    annotations = read_table(path, videos)
    assert annotations.labels == ("bark", "howl")
    assert list(annotations.videos) == ["b", "a", "c"]
    assert [(e.label, e.start, e.end) for e in annotations.videos["b"].events] == [("howl", 0.5, 1.5), ("bark", 1, 2)]
    assert annotations.videos["a"].events[0].end == pytest.approx(annotations.videos["a"].duration)
    assert annotations.videos["a"].duration == pytest.approx(3, abs=0.1)
    assert len(annotations.videos["c"].events) == 0


def test_columns_may_stand_in_any_order(tmp_path, videos):
    path = table(tmp_path, "bark,2,1,a.mp4\nbark,2,1,b.mp4\n", "\ufefflabel,end,start,file\n")
    assert read_table(path, videos).videos["a"].events[0].start == 1


def test_what_davel_convert_makes_of_other_tools_labels_is_a_table(run, tmp_path, videos):
    for name in ("a", "b"):
        (tmp_path / f"{name}.audacity.txt").write_text("0.5\t1.5\tbark\n1\t2\thowl\n")
        code, _, err = run("convert", f"{name}.audacity.txt", f"{name}.csv")
        assert code == 0, err
    lines = [(tmp_path / f"{name}.csv").read_text().splitlines() for name in ("a", "b")]
    assert lines[0][:2] == ["file,label,start,end,score", "a,bark,0.500,1.500,1.0000"]
    (tmp_path / "events.csv").write_text("\n".join([*lines[0], *lines[1][1:]]))
    annotations = read_table(tmp_path / "events.csv", videos)
    assert {key: len(video.events) for key, video in annotations.videos.items()} == {"a": 2, "b": 2}


@pytest.mark.parametrize("score", ["0.8", "high", "10"])
def test_only_what_is_sure_is_truth(tmp_path, videos, score):
    path = table(tmp_path, f"a.mp4,bark,1,2,{score}\n", "file,label,start,end,score\n")
    with pytest.raises(ConfigError, match=f"score {score}: a model found"):
        read_table(path, videos)


def test_what_a_model_found_is_no_truth(tmp_path, videos):
    path = table(tmp_path, "a.mp4,bark,1,2,0.8\nb.mp4,bark,1,2,1\n", "file,label,start,end,score\n")
    with pytest.raises(ConfigError, match=r"line 2: score 0.8: a model found this event and nobody looked at it"):
        read_table(path, videos)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a.mp4,2,1,bark\na.mp4,x,1,bark\n", r"a: line 2: .*0 <= start < end, got 2 and 1 s; a: line 3: start is 'x'"),
        ("a.mp4,1,nan,bark\n", "line 2: an event needs 0 <= start < end"),
        ("a.mp4,1,2\n", "line 2: the event from 1 to 2 s has no label"),
        ("a.mp4,1,,bark\n", "line 2: end is '': expected a number"),
        (",1,2,bark\n", "a line names no file"),
        ("../a.mp4,1,2,bark\n", r"\.\./a\.mp4: give a file's name within the folder of the videos"),
        ("a.mp4,1,2,bark\nb.mp4,1,9,bark\n", r"b: line 3: the event ends at 9 s, its video at 3\.\d+ s"),
        ("a.mp4,1,2,bark\nz.mp4,1,2,bark\n", r"z\.mp4: cannot open"),
        ("a.mp4,1,2,bark\n", "names 1 videos"),
        ("a.mp4,,,\nb.mp4,,,\n", "has no event"),
    ],
)
def test_mistakes_are_told_by_line(tmp_path, videos, rows, message):
    with pytest.raises(ConfigError, match=message):
        read_table(table(tmp_path, rows), videos)


@pytest.mark.parametrize("header", ["file,start,end\n", ""])
def test_a_table_without_its_columns_is_refused(tmp_path, videos, header):
    with pytest.raises(ConfigError, match="line 1: expected the columns label, start, end, got"):
        read_table(table(tmp_path, "a.mp4,1,2,bark\n" if header else "", header), videos)


def test_other_columns_are_not_read(tmp_path, videos):
    path = table(tmp_path, "a.mp4,1,2,bark,red\nb.mp4,1,2,bark,\n", "file,start,end,label,colour\n")
    assert read_table(path, videos).labels == ("bark",)


def test_two_videos_of_one_name_that_were_corrected_are_not_merged(tmp_path, videos):
    one, other = "0123456789abcdef", "fedcba9876543210"
    header = "file,start,end,label,id\n"
    lines = f"a.mp4,0,1,bark,{other}\na.mp4,1,2,bark,{one}\nb.mp4,1,2,bark,{one}\na.mp4,0,2,bark,{one}\n"
    with pytest.raises(ConfigError) as refused:
        read_table(table(tmp_path, lines, header), videos)
    assert str(refused.value).count("rename") == 1
    assert f"line 3: 'a.mp4' is the name of two videos, {other} and {one}: rename one here" in str(refused.value)
    same = f"a.mp4,0,1,bark,{one}\na.mp4,1,2,bark,{one}\nb.mp4,1,2,bark,{other}\n"
    assert len(read_table(table(tmp_path, same, header), videos).videos["a"].events) == 2
    numbered = "a.mp4,0,1,bark,1\na.mp4,1,2,bark,2\nb.mp4,1,2,bark,3\n"
    assert len(read_table(table(tmp_path, numbered, header), videos).videos["a"].events) == 2


def test_videos_may_lie_in_folders(tmp_path, videos):
    for name in ("cam1", "cam2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0001.mp4").write_bytes((videos / "a.mp4").read_bytes())
    annotations = read_table(table(tmp_path, "cam1/0001.mp4,0,1,bark\ncam2/0001,1,2,howl\n"), tmp_path)
    assert {key: [e.label for e in v.events] for key, v in annotations.videos.items()} == {
        "cam1/0001": ["bark"],
        "cam2/0001": ["howl"],
    }


def test_a_file_that_is_no_table_is_refused(tmp_path, videos):
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="expected the columns"):
        read_table(tmp_path / "t.csv", videos)
    with pytest.raises(ConfigError, match="cannot read"):
        read_table(tmp_path / "none.csv", videos)


@given(
    st.lists(st.frozensets(st.sampled_from("abcdef"), max_size=3), min_size=2, max_size=60),
    st.sampled_from(["80/10/10", "50/25/25", "90/10/0", "1/98/1"]),
    st.integers(0, 5),
)
def test_every_class_is_trained_on_and_every_split_can_be_validated(classes, split, seed):
    subsets = Split.read(split).assign(classes, seed)
    trained = [labels for labels, subset in zip(classes, subsets, strict=True) if subset == "train"]
    assert trained
    assert "validation" in subsets
    everything = frozenset().union(*classes)
    lost = everything - frozenset().union(*trained)
    validated = [labels for labels, subset in zip(classes, subsets, strict=True) if subset == "validation"]
    assert not lost or (len(validated) == 1 and lost <= validated[0])  # where no video could be spared
    assert subsets == Split.read(split).assign(classes, seed)


def test_a_split_keeps_its_parts_where_no_class_is_rare():
    subsets = Split.read("60/20/20").assign([frozenset("ab")] * 50)
    assert [subsets.count(name) for name in ("train", "validation", "test")] == [30, 10, 10]
    assert subsets != Split.read("60/20/20").assign([frozenset("ab")] * 50, seed=1)


@pytest.mark.parametrize("text", ["80/20", "a/b/c", "-1/1/1", "0/50/50", "100/0/0"])
def test_another_split_is_refused(text):
    with pytest.raises(ValueError, match=r"expected three parts|need a part"):
        Split.read(text)


def test_the_command_writes_a_project_that_trains(tmp_path, videos, run):
    path = table(tmp_path, "".join(f"{name}.mp4,0.5,2,bark\n" for name in "abcd"))
    init = ("data", "init", path, "--videos", videos, "-o", "5 owls")
    code, out, err = run(*init)
    assert (code, out) == (0, "5 owls/train.yaml\n")
    assert "next: davel train 5 owls/train.yaml" in err
    assert read_annotations(tmp_path / "5 owls" / "annotations.json").labels == ("bark",)
    config = load_train_config(out.strip())
    assert config.name == "5 owls"
    assert config.data.videos.resolve() == videos.resolve()
    assert config.model == CCNetConfig.small() | {"max_length": config.model["max_length"]}
    small = ["model.width=8", "model.class_width=4", "recipe.epochs=2", "recipe.warmup_epochs=1"]
    code, out, err = run("train", out.strip(), "--device", "cpu", *(f"--set={change}" for change in small))
    assert (code, out) == (0, "5 owls/runs/5 owls/best\n"), err
    assert (tmp_path / out.strip() / "model.json").exists()
    code, _, err = run(*init)
    assert code == 4
    assert "is there already" in err
    assert run("data", "init", path, "--split", "1/2")[0] == 2
