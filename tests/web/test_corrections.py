"""What people say that videos hold, and the table of it."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_files import make_media

from davel import formats
from davel.core.events import Event
from davel.data.table import read_table
from davel.web.corrections import Corrections, in_milliseconds
from davel.web.database import Database
from davel.web.errors import Conflict
from davel.web.jobs import Job, Jobs
from davel.web.uploads import title_of

BELL = Event("bell", 1.0, 2.0)
HEADER = "file,start,end,label,id\n"


class Desk:
    """Jobs and corrections in a folder."""

    def __init__(self, folder: Path) -> None:
        self.database = Database(folder / "jobs.sqlite")
        self.jobs, self.table = Jobs(self.database), folder / "events.csv"
        self.corrections = Corrections(self.database, self.table)

    def job(self, name: str, content: str) -> Job:
        job = self.jobs.add(name, "upload", "", 1, "queued", 100)
        self.jobs.identify(job.id, content)
        return self.jobs.get(job.id)


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.database.close()


def test_an_older_state_is_not_saved_over_a_newer(desk):
    job = desk.job("x.mp4", "abc")
    assert desk.corrections.of(job.content) is None
    assert desk.corrections.put(job, [BELL], 0).revision == 1
    with pytest.raises(Conflict, match=r"x\.mp4: was saved by somebody else in the meantime"):
        desk.corrections.put(job, [], 0)
    assert desk.corrections.of(job.content).events == [BELL]


@given(st.floats(0, 1e5), st.floats(1e-9, 10))
def test_times_are_written_so_that_they_can_be_read(start, length):
    """A label's time below a millisecond is not lost, and refused by nobody."""
    if start < start + length:
        event = in_milliseconds(Event("bell", start, start + length))
        assert float(f"{event.start:.3f}") == event.start < event.end == float(f"{event.end:.3f}")
        assert abs(event.start - start) <= 0.0006
        assert in_milliseconds(event) == event


names = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12).map(title_of)
labels = st.text(st.sampled_from("a b,\"'=;é"), min_size=1, max_size=6).map(str.strip).filter(bool)
times = st.floats(0, 100)
events = st.lists(st.tuples(labels, times, times).filter(lambda e: e[1] < e[2]).map(lambda e: Event(*e)), max_size=4)


@given(st.lists(st.tuples(names, st.sampled_from("abc"), events), min_size=1, max_size=6))
def test_the_table_says_of_each_video_what_was_saved_last(tmp_path_factory, saves):
    desk = Desk(tmp_path_factory.mktemp("desk"))
    expected = {}
    for name, content, found in saves:
        job = desk.job(name, content)
        desk.corrections.put(job, found, job.revision)
        expected[content] = name, sorted((e.start, e.end, e.label) for e in map(in_milliseconds, found))
    rows = list(csv.DictReader(io.StringIO(desk.table.read_text(encoding="utf-8"), newline="")))
    for content, (name, found) in expected.items():
        mine = [row for row in rows if row["id"] == content]
        assert {row["file"] for row in mine} == {name}
        assert sorted((float(r["start"]), float(r["end"]), r["label"]) for r in mine if r["label"]) == found
    videos, problems = formats.read_videos(desk.table, "csv", policy="refuse")
    assert problems == []
    assert sum(len(video.events) for video in videos) == sum(bool(row["label"]) for row in rows)
    desk.database.close()


def test_the_table_is_training_data(desk, tmp_path):
    for n in range(3):
        make_media(tmp_path / f"{n}.mkv", seconds=2)
        desk.corrections.put(desk.job(f"{n}.mkv", str(n)), [Event("bell", 0.5, 1.5)] if n else [], 0)
    annotations = read_table(desk.table, tmp_path)
    assert [len(v.events) for v in annotations.videos.values()] == [0, 1, 1]


@pytest.mark.parametrize(
    "edit",
    [b"something,else\n1,2\n", b"\xff\x00 no text at all", b"file,start,end,label\nx.mp4,2,1,bell\n", b""],
    ids=["another table", "no text", "no event", "nothing"],
)
def test_a_table_that_somebody_edited_hinders_no_save_and_is_kept(desk, edit):
    job = desk.job("x.mp4", "abc")
    desk.corrections.put(job, [BELL], 0)
    written = desk.table.read_bytes()
    desk.table.write_bytes(edit)
    assert desk.corrections.put(job, [BELL], 1).revision == 2
    assert desk.table.read_bytes() == written
    assert (desk.table.parent / "events.edited-1.csv").read_bytes() == edit
    desk.corrections.put(job, [], 2)
    assert len(list(desk.table.parent.glob("events*.csv"))) == 2  # its own is not set aside


def test_a_table_that_cannot_be_written_hinders_no_save(desk, caplog):
    desk.table.mkdir()
    (desk.table / "something").write_text("in it")
    os.chmod(desk.table.parent, 0o755)
    assert desk.corrections.put(desk.job("x.mp4", "abc"), [BELL], 0).revision == 1
    assert "events.csv: not written" in caplog.text
    assert desk.corrections.render() == f"{HEADER}x.mp4,1.000,2.000,bell,abc\n"


OLD = 'file,start,end,label\nclip.mp4,1.000,2.000,bell\ngone.mp4,0.500,1.5,"bark, loud"\nempty.mp4,,,\n'


def test_an_older_table_is_taken_in_once(tmp_path):
    """What it says of videos that the database does not know: jobs that were deleted, or have expired."""
    (tmp_path / "events.csv").write_text(OLD + "bad.mp4,2,1,bell\nbad.mp4,x,y,bell\n../x.mp4,1,2,bell\n")
    desk = Desk(tmp_path)
    adopted = f'{HEADER}clip.mp4,1.000,2.000,bell,\nempty.mp4,,,,\ngone.mp4,0.500,1.500,"bark, loud",\n'
    assert desk.corrections.render() == adopted
    desk.database.close()
    desk = Desk(tmp_path)
    assert desk.corrections.render() == adopted
    # a video of this name that is saved takes the place of what was said of it, as it always did
    desk.corrections.put(desk.job("clip.mp4", "abc"), [], 0)
    assert desk.table.read_text() == adopted.replace("clip.mp4,1.000,2.000,bell,", "clip.mp4,,,,abc")
    assert (tmp_path / "events.edited-1.csv").read_text().startswith(OLD)
    desk.database.close()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b'file,start\n"', b"", b"a,b\n1,2\n"])
def test_an_older_table_that_cannot_be_read_is_left_alone(tmp_path, content):
    (tmp_path / "events.csv").write_bytes(content)
    desk = Desk(tmp_path)
    assert desk.corrections.render() is None
    assert desk.table.read_bytes() == content
    desk.database.close()
