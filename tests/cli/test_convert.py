"""`davel convert`: what becomes of ids, of bad rows, and of what its help says."""

from __future__ import annotations

import json

import pytest

from davel import formats
from davel.formats import FORMATS, READERS


def test_its_help_lists_every_format(run):
    code, out, _ = run("convert", "--help")
    assert code == 0
    assert all(name in out for name in (*FORMATS, *READERS))


def test_files_of_one_name_in_two_folders_stay_two_videos(run, tmp_path):
    (tmp_path / "a.csv").write_text("file,label,start,end\ncam1/0001.mp4,dog,1,2\ncam2/0001.mp4,cat,3,4\n")
    assert run("convert", "a.csv", "a.jsonl")[0] == 0
    assert {v.id: [e.label for e in v.events] for v in formats.read(tmp_path / "a.jsonl")} == {
        "cam1/0001": ["dog"],
        "cam2/0001": ["cat"],
    }
    code, _, err = run("convert", "a.jsonl", "out/", "--to", "vtt")
    assert code == 0, err
    assert sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.vtt")) == [
        "cam1/0001.vtt",
        "cam2/0001.vtt",
    ]


def test_a_film_beside_its_copy_is_another_video(run, tmp_path):
    (tmp_path / "a.csv").write_text("file,label,start,end\na.mov,x,1,2\nA.MP4,y,1,2\na.mp4,z,1,2\n")
    videos = formats.read(tmp_path / "a.csv")
    assert [(v.id, v.media) for v in videos] == [("a.mov", "a.mov"), ("A", "A.MP4"), ("a.mp4", "a.mp4")]
    code, _, err = run("convert", "a.csv", "out/", "--to", "srt")
    assert code == 0, err
    assert len(list((tmp_path / "out").iterdir())) == 3


@pytest.mark.parametrize("id", ["../../x", "/abs/x", "a/../../x", "..", "C:\\x"])
def test_an_id_is_no_path_out_of_the_folder(run, tmp_path, id):
    (tmp_path / "a.json").write_text(json.dumps({"database": {id: {"annotations": []}, "fine": {"annotations": []}}}))
    code, _, err = run("convert", "a.json", "deep/out/", "--to", "vtt")
    assert code == 4
    assert "names no file below a folder: rename it, or convert into one file" in err
    assert not list(tmp_path.rglob("*.vtt"))
    assert run("convert", "a.json", "b.jsonl")[0] == 0


def test_a_bad_row_is_refused_or_skipped_as_is_asked(run, tmp_path):
    (tmp_path / "a.csv").write_text("file,label,start,end\na.mp4,dog,2,1\na.mp4,dog,-1,2\na.mp4,dog,3,4\n")
    code, _, err = run("convert", "a.csv", "b.jsonl")
    assert code == 4
    assert "a.csv: as csv: a: line 2: an event needs 0 <= start < end, got 2 and 1 s" in err
    assert "line 3" not in err
    code, out, err = run("convert", "a.csv", "b.jsonl", "--problems", "skip")
    assert (code, out) == (0, "1 videos, 1 events: b.jsonl\n")
    assert "davel: 2 events or videos were left out: a: line 2: an event needs" in err
    assert "line 3" in run("convert", "a.csv", "b.jsonl", "--problems", "refuse")[2]


def test_times_before_zero_are_cut_and_told(run, tmp_path):
    (tmp_path / "a.csv").write_text("file,label,start,end\na.mp4,dog,-0.02,2\n")
    code, _, err = run("convert", "a.csv", "b.jsonl")
    assert code == 0
    assert err == "davel: 1 events reached out of their video and were cut: a: line 2: -0.02 to 2 s cut to 0 to 2 s\n"
    assert [(e.start, e.end) for e in formats.read(tmp_path / "b.jsonl")[0].events] == [(0, 2)]


@pytest.mark.parametrize("name", ["clip.v2", "2020.06.01_12.30", "-1hDIl9Udkw_30.000_40.000"])
def test_dots_in_names_are_kept(run, tmp_path, name):
    (tmp_path / f"{name}.audacity.txt").write_text("1.0\t2.0\tdog\n")
    (tmp_path / f"{name}.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\ndog\n")
    for path in tmp_path.iterdir():
        assert [v.id for v in formats.read(path)] == [name]
