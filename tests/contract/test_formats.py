"""What holds for every format: a new one in the table inherits all of this."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from davel import formats
from davel.core.errors import ConfigError, DavelError
from davel.core.events import Event, EventList, Video
from davel.formats import FORMATS, POLICIES, File, Format
from davel.formats.base import one_line

DOCS = Path(__file__).parents[2] / "docs"
MANY = [name for name, form in FORMATS.items() if "many" in form.holds]
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\\", exclude_categories=("C", "Z")), min_size=1)
IDS = st.one_of(
    st.sampled_from(["cam1/0001", "cam2/0001", "v_1.5", "lecture.01", "a.b/c.d", "-1hDIl_30.000_40.000", "людина"]),
    st.lists(NAMES.filter(lambda s: s not in (".", "..")), min_size=1, max_size=2).map("/".join),
).filter(lambda key: formats.id_of(key) == key)
LABELS = st.one_of(
    st.sampled_from(["a --> b", "two\nlines", "tab\tbed", "a\x07b", "\u2028", "a\rb", "-", "1", '"', "a,b;c|d"]),
    st.text(min_size=1, max_size=12),
).filter(lambda label: label.strip() and label == label.strip() and "\ud800" not in label)


@st.composite
def events(draw, label=LABELS):
    starts = draw(st.lists(st.floats(0, 1e5), max_size=4))
    found = [Event(draw(label), start, start + draw(st.floats(0.1, 500)), draw(st.floats(0, 1))) for start in starts]
    return EventList.of(found, tuple(dict.fromkeys(e.label for e in found)))


def read(form: Format, text: str, own: str) -> list[Video]:
    contents = form.collect(File(f"x.{form.suffix}", text), own).contents(clip=False)
    assert not contents.problems
    return contents.videos


@pytest.fixture
def some() -> Video:
    found = [Event("dog", 1.25, 3.5, 0.75), Event("dog", 3.0, 4.0, 0.5), Event("bell", 0.04, 61.0, 1.0)]
    return Video("clip", EventList.of(found, ("dog", "bell")), 62.0, "clip.mp4")


@pytest.mark.parametrize("name", FORMATS)
@given(found=events())
def test_any_label_is_written_on_one_line_and_read_again(name, found):
    form = FORMATS[name]
    again = [e for video in read(form, form.dumps([Video("x", found)]), "x") for e in video.events]
    assert len(again) == len(found)
    for event in found:
        as_written = {event.label, one_line(event.label), " ".join(event.label.split()), one_line(event.label).strip()}
        as_written |= {"_".join(one_line(event.label).split()), " ".join(one_line(event.label).split())}
        near = [e for e in again if abs(e.start - event.start) <= form.unit * 0.51 + 1e-6]
        assert {e.label for e in near} & as_written
        if "scores" in form.holds:
            assert any(abs(e.score - event.score) <= 1e-4 for e in near)


@pytest.mark.parametrize("name", MANY)
@given(ids=st.lists(IDS, min_size=1, max_size=4, unique=True), with_media=st.booleans())
def test_different_videos_stay_different(name, ids, with_media):
    form = FORMATS[name]
    if name == "rttm":
        ids = list(dict.fromkeys("_".join(key.split()) for key in ids))
    one = EventList.of([Event("dog", 1, 2)], ("dog",))
    videos = [Video(key, one, media=f"{key}.mp4" if with_media else None) for key in ids]
    again = read(form, form.dumps(videos), "own")
    expected = [one_line(key) for key in ids] if name in ("dcase", "raven", "rttm") else ids
    assert [video.id for video in again] == expected
    assert all(len(video.events) == 1 for video in again)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("key", ["cam1/0001", "v_1.5", "людина", "a b"])
def test_the_id_of_one_video_is_kept(name, key, tmp_path):
    form = FORMATS[name]
    one = EventList.of([Event("dog", 1, 2)], ("dog",))
    path = tmp_path / f"{key.rpartition('/')[2]}.{form.suffix}"
    formats.write([Video(key, one, media=f"{key}.mp4")], path)
    [video] = formats.read(path)
    names_file = name in ("audacity", "vtt", "srt")  # which name no video
    assert video.id == (
        path.name.removesuffix(f".{form.suffix}") if names_file else key.replace(" ", "_" if name == "rttm" else " ")
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_recognises_its_own_files_and_no_others(name, some):
    form = FORMATS[name]
    text = form.dumps([some])
    for file in (f"a.{form.suffix}", f"a.{form.suffix.rpartition('.')[2]}"):
        assert [f.name for f in FORMATS.values() if f.recognises(File(file, text))] == [name]


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
def test_a_damaged_file_is_a_davel_error_or_problems(name, data, tmp_path_factory):
    """Whatever is cut out of a file or put into it: no other exception, and what is read is made of events."""
    form = FORMATS[name]
    found = [Event("dog", 1.25, 3.5, 0.75), Event("bell", 2, 61.0)]
    text = form.dumps([Video("clip", EventList.of(found, ("dog", "bell")), 62.0, "clip.mp4")])
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 20, len(text))))
    put = data.draw(st.sampled_from(["", "\x00", '"', "<", "\t", "-", "nan", "null", "[", "9" * 400, "\ud800", "\n\n"]))
    path = tmp_path_factory.mktemp("damaged") / f"a.{form.suffix}"
    path.write_bytes((text[:start] + put + text[end:]).encode("utf-8", "surrogatepass"))
    for policy in POLICIES:
        try:
            videos, _ = formats.read_videos(path, name, policy=policy)
        except DavelError as error:
            lines = str(error).splitlines()
        else:
            lines = [event.label for video in videos for event in video.events][:1] or [""]
        assert len(lines) == 1


@pytest.mark.parametrize("name", FORMATS)
def test_one_bad_row_is_refused_or_skipped_and_does_not_hide_the_others(name, tmp_path):
    """Every format is written with a row whose times are turned round in the text."""
    form = FORMATS[name]
    found = [Event("dog", 1, 2), Event("cat", 3, 4)]
    text = form.dumps([Video("clip", EventList.of(found, ("dog", "cat")))])
    in_objects, in_segments = ('"end": 2.0', '"end": 0.5'), ("[1.0, 2.0]", "[2.0, 1.0]")
    in_cues = ("> 00:00:02", "> 00:00:00")
    ends = {
        "json": in_objects, "jsonl": in_objects, "labelstudio": in_objects, "activitynet": in_segments,
        "results": in_segments, "rttm": ("1 1.000000 1.0", "1 1.000000 -1.0"), "srt": in_cues, "vtt": in_cues,
        "eaf": ('"2000"', '"500"'), "edl": ("00:00:02:00", "00:00:00:00"),
    }  # fmt: skip
    good, bad = ends.get(name, ("2.000", "0.500"))
    assert text.count(good) >= 1
    path = tmp_path / f"a.{form.suffix}"
    path.write_text(text.replace(good, bad, 1))
    for policy in ("refuse", "clip"):
        with pytest.raises(ConfigError, match=f"as {name}: .*an event needs 0 <= start < end"):
            formats.read_videos(path, policy=policy)
    [video], problems = formats.read_videos(path, policy="skip")
    assert [e.label for e in video.events] == ["cat"]
    assert len(problems) == 1
    assert problems[0].id == video.id


def test_the_documentation_has_the_table_of_all_formats():
    assert formats.table() in (DOCS / "formats.md").read_text()


@pytest.fixture
def bars(tmp_path, monkeypatch) -> Format:
    """The format of the documentation, as a module of another package."""
    page = (DOCS / "own-format.md").read_text()
    code = page.partition("```python\n")[2].partition("```")[0]
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "bars_of_the_docs.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path / "package"))
    sys.modules.pop("bars_of_the_docs", None)
    form: Format = __import__("bars_of_the_docs").FORMAT
    monkeypatch.setitem(FORMATS, form.name, form)  # the one line
    return form


def test_a_format_is_one_file_and_one_line(bars, some, run, tmp_path):
    from media_files import make_media

    formats.write([some], tmp_path / "a.json")
    code, out, err = run("convert", "a.json", "a.bars")
    assert (code, out) == (0, "1 videos, 3 events: a.bars\n"), err
    assert "davel: bars holds no scores" in err
    assert (tmp_path / "a.bars").read_text().splitlines()[1] == "clip.mp4|dog|1.250|3.500"
    assert run("convert", "a.bars", "b.csv")[0] == 0
    truth = {
        "database": {
            "clip": {"annotations": [{"segment": [1.25, 3.5], "label": "dog"}, {"segment": [0, 9], "label": "bell"}]}
        }
    }
    (tmp_path / "t.json").write_text(json.dumps(truth))
    code, out, err = run("evaluate", "a.bars", "--annotations", "t.json", "--json", "--bootstrap", 0)
    assert code == 0, err
    assert json.loads(out)["average_mAP"] > 0.4
    code, _, err = run("convert", "t.json", "x.csv", "--from", "bars")
    assert code == 4
    assert "t.json: as bars:" in err
    assert "bars" in run("convert", "--help")[1]
    make_media(tmp_path / "film.mp4", seconds=3)
    code, _, err = run("localize", "film.mp4", "-f", "bars", "--threshold", "0", "--top-k", "4")
    assert code == 0, err
    assert [(v.id, len(v.events)) for v in formats.read(tmp_path / "film.bars")] == [("film", 4)]


def test_a_format_of_another_package_is_found_by_its_entry_point(tmp_path, bars):
    import subprocess

    info = tmp_path / "package" / "bars-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bars\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[davel.formats]\nbars = bars_of_the_docs:FORMAT\n")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from davel.formats import FORMATS; print([*FORMATS][-1])"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "package")], capture_output=True, text=True)
    assert done.stdout == "bars\n", done.stderr
