"""Every format: what is written is read again, by davel and by others; what is wrong is told with its place."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from davel import formats
from davel.core.events import Event, EventList
from davel.formats import FORMATS, File, Format, Video

LABELS = ("dog barking", "church bell, ringing", 'людина <says> & "sings"', "score=0.5", "(2)")


@st.composite
def videos(draw, labels=LABELS, most=3):
    """Up to three videos with events of at least a tenth of a second."""
    found = []
    for n in range(draw(st.integers(1, most))):
        events = [
            Event(draw(st.sampled_from(labels)), start, start + draw(st.floats(0.1, 5000)), draw(st.floats(0, 1)))
            for start in draw(st.lists(st.floats(0, 1e5), max_size=5))
        ]
        last = max((event.end for event in events), default=1.0)
        duration = draw(st.none() | st.floats(last, 2e5))
        found.append(Video(f"clip {n}", EventList.of(events, labels), duration, f"clip {n}.mp4"))
    return found


def in_time(events: EventList) -> list[Event]:
    return sorted(events, key=lambda e: (e.start, e.end, e.label, e.score))


def require_same(again: Video, video: Video, form: Format) -> None:
    assert again.id == video.id
    left = list(again.events)
    for event in in_time(video.events):  # times are rounded, so that order may change
        match = next(
            e
            for e in left
            if e.label == event.label
            and abs(e.start - event.start) <= form.unit * 0.51 + 1e-9
            and abs(e.end - event.end) <= form.unit * 0.51 + 1e-9
            and ("scores" not in form.holds or abs(e.score - event.score) <= 1e-4)
        )
        left.remove(match)
    assert not left
    if "durations" in form.holds and (form.name != "jsonl" or video.duration):
        assert again.duration == pytest.approx(video.duration)
    if "scores" not in form.holds:
        assert (again.events.scores == 1).all()


def parsed(form: Format, text: str, own: str = "x") -> list[Video]:
    contents = form.collect(File(f"x.{form.suffix}", text), own).contents(clip=False)
    assert not contents.problems
    return contents.videos


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_what_is_written_is_read_again(name, data):
    form = FORMATS[name]
    labels = ("dog_barking", "bell") if name == "rttm" else LABELS
    found = data.draw(videos(labels, most=3 if "many" in form.holds else 1))
    if name == "rttm":
        found = [Video(v.id.replace(" ", "_"), v.events, v.duration, v.media) for v in found]
    again = {video.id: video for video in parsed(form, form.dumps(found), found[0].id)}
    for video in found:
        if not video.events and name in ("raven", "rttm"):
            assert video.id not in again or not again[video.id].events
            continue
        require_same(again.pop(video.id), video, form)
    assert all(not video.events for video in again.values())


@pytest.fixture
def some() -> Video:
    events = [
        Event("dog barking", 1.25, 3.5, 0.75),
        Event("dog barking", 3.0, 4.0, 0.5),
        Event("bell", 0.04, 61.0, 1.0),
    ]
    return Video("clip", EventList.of(events, ("dog barking", "bell")), 62.0, "clip.mp4")


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_known_by_its_name_or_content(name, some, tmp_path):
    path = tmp_path / f"clip.{FORMATS[name].suffix}"
    assert formats.of_name(path).name == name
    formats.write([some], path)
    assert formats.recognised(File(path.name, path.read_text())).name == name
    plain = tmp_path / f"other.{FORMATS[name].suffix.rpartition('.')[2]}"
    path.rename(plain)
    again = formats.read(plain)[0]
    assert len(again.events) == 3
    assert again.id == ("clip" if name not in ("audacity", "vtt", "srt") else "other")


@pytest.mark.parametrize("source", FORMATS)
@pytest.mark.parametrize("target", FORMATS)
def test_any_format_becomes_any_other(source, target, some, run, tmp_path):
    read_from, write_to = (tmp_path / f"{where}.{FORMATS[f].suffix}" for where, f in (("a", source), ("b", target)))
    formats.write([some], read_from)
    code, out, err = run("convert", read_from, write_to)
    assert code == 0, err
    assert "1 videos, 3 events" in out
    before, after = (formats.read(path)[0].events for path in (read_from, write_to))
    for a, b in zip(in_time(before), in_time(after), strict=True):
        assert a.label.replace(" ", "_") == b.label.replace(" ", "_")
        assert (a.start, a.end) == pytest.approx((b.start, b.end), abs=0.5 * FORMATS[target].unit + 1e-6)


def test_what_a_format_cannot_hold_is_said_once(some, run, tmp_path):
    formats.write([some], tmp_path / "a.json")
    code, _, err = run("convert", "a.json", "a.srt")
    assert code == 0
    assert err.splitlines() == [
        "davel: srt holds no scores",
        "davel: srt holds no durations of videos",
        "davel: srt holds times to 0.001 s",
    ]
    assert run("convert", "a.json", "b.json")[2] == ""


def test_many_videos_go_into_a_folder_where_a_file_holds_one(some, run, tmp_path):
    both = [some, Video("other", some.events, None, "other.mp4")]
    formats.write(both, tmp_path / "all.csv")
    code, _, err = run("convert", "all.csv", "all.vtt")
    assert code == 4
    assert "a file of the format 'vtt' holds one video, not 2: give --to and a folder" in err
    assert not (tmp_path / "all.vtt").exists()
    (tmp_path / "out").mkdir()
    assert run("convert", "all.csv", "out")[0] == 2
    code, out, _ = run("convert", "all.csv", "out", "--to", "vtt")
    assert code == 0
    assert "2 files in out" in out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["clip.vtt", "other.vtt"]


BROKEN = {
    "json": ('{"schema": "davel.core.events/2"}', "expected schema 'davel.events/1', got 'davel.core.events/2'"),
    "csv": ("file,label,start,end\na.mp4,dog,2,1\n", "line 2: an event needs 0 <= start < end, got 2 and 1 s"),
    "tsv": ("label\tstart\tend\ndog\tone\t2\n", "line 2: start is 'one': expected a number"),
    "jsonl": ('{"label": "dog", "start": 1}\n', "line 1: end is 'None': expected a number"),
    "activitynet": ('{"database": {"a": {"annotations": [{"segment": [1], "label": "x"}]}}}', "a: annotation 0: seg"),
    "results": ('{"results": {"a": [{"segment": [2, 1], "label": "x", "score": 7}]}}', "a: prediction 0: an event"),
    "labelstudio": ('[{"data": 3}]', "task 0: data: expected an object, got int"),
    "dcase": ("filename\tonset\toffset\tevent_label\na.wav\t1\t2\t\n", "line 2: the event from 1 to 2 s has no label"),
    "audacity": ("1.0\t0.5\tdog\n", "line 1: an event needs 0 <= start < end"),
    "raven": ("Begin Time (s)\tEnd Time (s)\n1\t2\n", "columns Begin Time (s), End Time (s), Annotation, got"),
    "rttm": ("SPEAKER a 1 0.5\n", "line 1: expected at least 9 fields, got 4"),
    "vtt": ("00:00.000 --> 00:01.000\ndog\n", "expected the first line to be WEBVTT"),
    "srt": ("1\n00:00:01 --> 00:00:02\ndog\n", "line 2: expected HH:MM:SS.mmm --> HH:MM:SS.mmm"),
    "eaf": ("<ANNOTATION_DOCUMENT><TIER", "not XML"),
    "edl": ("001  AX V C 00:00:00:30 00:00:02:00 01:00:00:00 01:00:01:00\n", "line 1: frame 30 of a second"),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_wrong_with_a_file_is_told_with_its_place(name, run, tmp_path):
    text, complaint = BROKEN[name]
    (tmp_path / "broken.x").write_text(text)
    code, _, err = run("convert", "broken.x", "out.csv", "--from", name)
    assert code == 4
    assert f"broken.x: as {name}: " in err
    assert complaint in err
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("a.xyz", "what", "not a file of events that davel knows: say --from"),
        ("a.json", "{}", "JSON, but without schema, database, results"),
        ("a.json", "{", "not JSON"),
    ],
)
def test_files_of_no_format_are_refused(name, text, complaint, run, tmp_path):
    (tmp_path / name).write_text(text)
    code, _, err = run("convert", name, "out.csv")
    assert code == 4
    assert complaint in err


def test_unknown_names_are_refused(some, run, tmp_path):
    formats.write([some], tmp_path / "a.json")
    assert "unknown format 'doc': choose from json, csv" in run("convert", "a.json", "a.csv", "--to", "doc")[2]
    assert "a.doc: what format is that?" in run("convert", "a.json", "a.doc")[2]
    assert "none.csv: cannot read: No such file" in run("convert", "none.csv", "a.csv")[2]


def test_a_short_event_keeps_a_length(tmp_path):
    events = EventList.of([Event("click", 1.0001, 1.0002)], ("click",))
    for form in FORMATS.values():
        (again,) = parsed(form, form.dumps([Video("a", events)]), "a")
        assert again.events[0].duration > 0


def test_what_people_annotated_counts_before_what_was_predicted():
    def region(label: str) -> dict[str, object]:
        return {"type": "labels", "value": {"start": 1, "end": 2, "labels": [label]}}

    task = {
        "data": {"audio": "https://files/a.wav"},
        "predictions": [{"result": [region("guess")]}],
        "annotations": [{"result": [region("truth"), {"type": "choices", "value": {"choices": ["x"]}}]}],
    }
    (video,) = parsed(FORMATS["labelstudio"], json.dumps([task]))
    assert [e.label for e in video.events] == ["truth"]
    assert video.id == "a"


def test_localize_writes_any_format(run, tmp_path):
    from media_files import make_media

    make_media(tmp_path / "clip.mp4", seconds=3)
    names = ",".join(FORMATS)
    code, _, err = run("localize", "clip.mp4", "-o", "out", "-f", names, "--threshold", "0", "--top-k", "4")
    assert code == 0, err
    for form in FORMATS.values():
        (video,) = formats.read(tmp_path / "out" / f"clip.{form.suffix}")
        assert (video.id, len(video.events)) == ("clip", 4), form.name


# ---- the same files as others read them


def test_webvtt_and_srt_are_read_by_webvtt_py(some, tmp_path):
    webvtt = pytest.importorskip("webvtt")
    for name, read in (("vtt", webvtt.read), ("srt", webvtt.from_srt)):
        path = tmp_path / f"a.{name}"
        formats.write([some], path)
        cues = [(cue.start_in_seconds, cue.end_in_seconds, cue.text) for cue in read(str(path))]
        assert [(round(a), round(b), text) for a, b, text in cues] == [
            (0, 61, "bell"), (1, 3, "dog barking"), (3, 4, "dog barking")
        ]  # fmt: skip


def test_elan_files_are_read_by_pympi(some, tmp_path):
    pympi = pytest.importorskip("pympi")
    formats.write([some], tmp_path / "a.eaf")
    eaf = pympi.Elan.Eaf(str(tmp_path / "a.eaf"))
    assert set(eaf.get_tier_names()) == {"dog barking", "dog barking (2)", "bell"}
    assert eaf.get_annotation_data_for_tier("dog barking") == [(1250, 3500, "dog barking")]
    assert eaf.get_annotation_data_for_tier("dog barking (2)") == [(3000, 4000, "dog barking")]


def test_dcase_files_are_read_by_sed_eval(some, tmp_path):
    sed_eval = pytest.importorskip("sed_eval")
    formats.write([some], tmp_path / "a.tsv", "dcase")
    events = sed_eval.io.load_event_list(str(tmp_path / "a.tsv"))
    assert sorted((e["onset"], e["offset"], e["event_label"]) for e in events) == [
        (0.04, 61.0, "bell"), (1.25, 3.5, "dog barking"), (3.0, 4.0, "dog barking")
    ]  # fmt: skip


def test_rttm_is_read_by_pyannote(some, tmp_path):
    database = pytest.importorskip("pyannote.core")
    formats.write([some], tmp_path / "a.rttm")
    annotation = database.Annotation(uri="clip")
    for n, line in enumerate((tmp_path / "a.rttm").read_text().splitlines()):
        fields = line.split()
        start = float(fields[3])
        annotation[database.Segment(start, start + float(fields[4])), n] = fields[7]
    assert annotation.chart() == [("bell", pytest.approx(60.96)), ("dog_barking", pytest.approx(2.75))]
    assert np.isclose(annotation.get_timeline().extent().end, 61)
