"""Recordings that go on: their events come early, and are those of the whole."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from media_files import INTERLEAVED, make_media, record, tone

import davel
from davel.core.errors import MediaError
from davel.core.events import Event
from davel.features.reading import ahead
from davel.media.recording import LOOK_SECONDS, TS_PERIOD, Growing, Live
from davel.media.sampling import Grid, Track

SECONDS = 50.0
FRAGMENTED = INTERLEAVED | {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"}


@pytest.fixture(scope="module")
def model(tiny) -> Path:
    return tiny


@pytest.fixture(scope="module")
def localizer(tiny_localizer) -> davel.Localizer:
    return tiny_localizer


@pytest.fixture(scope="module")
def whole(localizer, recording) -> list[Event]:
    return list(localizer.localize(recording, threshold=0.2).events)


def assert_same(found: list[Event], expected: list[Event]) -> None:
    """The same events in any order; kernels may round their numbers otherwise in another process."""
    found, expected = (
        sorted(events, key=lambda e: (e.label, round(e.start, 2), e.end)) for events in (found, expected)
    )
    assert [event.label for event in found] == [event.label for event in expected]
    for number in ("start", "end", "score"):
        ours, theirs = ([getattr(event, number) for event in events] for events in (found, expected))
        assert ours == pytest.approx(theirs, abs=1e-4), number


class Waiting:
    """What stands for `threading` and `time` where a recording is read: each wait adds to the clock, and takes none."""

    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.waited = 0.0
        waiting = self

        class Event(threading.Event):
            def wait(self, timeout: float | None = None) -> bool:
                assert timeout is not None
                waiting.waited += timeout
                meanwhile()
                return self.is_set()

        self.Event = Event

    def monotonic(self) -> float:
        return self.waited

    def instead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("threading", "time"):
            monkeypatch.setattr(f"davel.media.recording.{name}", self)


def test_a_growing_file_has_the_events_of_the_whole(localizer, recording, whole, tmp_path, monkeypatch):
    path, content = tmp_path / "camera.ts", recording.read_bytes()
    size = -(-len(content) // 20)
    parts = iter([content[first : first + size] for first in range(0, len(content), size)])

    def grow() -> None:
        with path.open("ab") as file:
            file.write(next(parts, b""))

    grow()
    waiting = Waiting(grow)
    waiting.instead(monkeypatch)
    found = list(localizer.follow(path, threshold=0.2, idle_seconds=5.0))
    assert waiting.waited > 5.0 + 18 * LOOK_SECONDS
    assert len(whole) > 20
    assert_same(found, whole)


def test_events_come_within_the_latency_and_before_the_end(localizer, recording):
    following = localizer.follow(recording, idle_seconds=0)
    told = [(following.seconds, event.end) for event in following]
    assert following.latency_seconds == pytest.approx(80 * 0.32 + 0.48 + 16 * 0.32 + 2)
    assert all(now <= end + following.latency_seconds for now, end in told)
    early = [now for now, _ in told if now < SECONDS - 10]
    assert len(early) > 20


@pytest.mark.parametrize(("name", "options"), [("a.mkv", {}), ("a.ts", {}), ("a.mp4", {"options": FRAGMENTED})])
def test_a_recording_that_begins_late_is_cut_as_the_file_is(localizer, tmp_path, name, options):
    path = record(tmp_path / name, 12.0, audio_start=1.5, samples=tone(9.0, 16000), **options)
    found = list(localizer.follow(path, threshold=0.0, idle_seconds=0))
    result = localizer.localize(path)
    assert_same(found, list(result.events))
    assert min(event.start for event in found) >= result.coverage.both[0]


def test_a_file_ends_when_it_has_not_grown_for_long(localizer, recording, tmp_path, monkeypatch):
    path = tmp_path / "camera.ts"
    content = recording.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    waiting = Waiting()
    waiting.instead(monkeypatch)
    following = localizer.follow(path, idle_seconds=1.0)
    list(following)
    assert 1.0 < waiting.waited < 1.3  # once, however often FFmpeg asks
    assert following.coverage.both[1] == pytest.approx(SECONDS / 2, abs=5)


@pytest.mark.parametrize("seconds", [4.0, SECONDS])
def test_a_clock_that_is_set_back_is_told(localizer, recording, tmp_path, seconds):
    path = tmp_path / "again.ts"
    part = recording if seconds == SECONDS else record(tmp_path / "part.ts", seconds)
    path.write_bytes(10 * part.read_bytes() if seconds < SECONDS else 2 * part.read_bytes())
    with pytest.raises(MediaError, match=r"again\.ts: its clock went from \d.* s to .* s: follow it anew"):
        list(localizer.follow(path, idle_seconds=0))


def test_the_clock_of_a_transport_stream_may_begin_again(localizer, recording, whole, monkeypatch):
    """After 2^33 ticks; here they seem to do so after half a minute."""
    real = Track.time_of

    def time_of(self, frame):
        time = real(self, frame)
        wraps = time + self.origin > 30 if frame.pts is not None else False
        return time - TS_PERIOD if wraps else time

    monkeypatch.setattr(Track, "time_of", time_of)
    found = list(localizer.follow(recording, threshold=0.2, idle_seconds=0))
    assert_same(found, whole)


@pytest.mark.parametrize("what", ["sound", "pictures"])
def test_a_track_that_stops_ends_it(localizer, tmp_path, what):
    short = {"sound": {"samples": tone(5.0, 16000)}, "pictures": {"times": [n / 25 for n in range(125)]}}[what]
    path = record(tmp_path / "a.ts", 80.0, **short)
    told = []
    with pytest.raises(MediaError, match=rf"its {what} stopped at [45]\.\d s: nothing more can be found"):
        told += localizer.follow(path, idle_seconds=0)


def test_an_interrupt_ends_it_where_another_thread_reads(localizer, recording):
    """As with the published networks."""
    out, into = os.pipe()
    os.write(into, recording.read_bytes()[:50_000])  # and no more comes
    live = Live(Path(f"/dev/fd/{out}"), 60.0)
    items = ahead(live.read(fps=25, sample_rate=16000), 4, live.stop)
    assert next(items)
    closing = threading.Thread(target=items.close, daemon=True)
    closing.start()
    closing.join(60)  # it would wait for ever
    assert not closing.is_alive()
    live.close()
    os.close(into)
    os.close(out)


def test_a_stray_time_stamp_is_damage(localizer, recording, whole, monkeypatch):
    real = Track.time_of

    def time_of(self, frame):
        time = real(self, frame)
        return time + 10**6 if isinstance(self, Grid) and abs(time - 30) < 0.02 else time

    monkeypatch.setattr(Track, "time_of", time_of)
    following = localizer.follow(recording, threshold=0.2, idle_seconds=0)
    assert len(list(following)) == pytest.approx(len(whole), abs=2)
    assert following.coverage.both[1] == pytest.approx(SECONDS, abs=1)
    (gap,) = following.coverage.video_gaps
    assert gap == pytest.approx((30, 30.04), abs=0.03)


def test_a_recording_that_cannot_be_read_on_is_told(localizer, recording, tmp_path, monkeypatch):
    taken = 0

    def fail(self: Growing, size: int) -> bytes:
        nonlocal taken
        taken += size
        if taken > 200_000:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._file.read(size)

    monkeypatch.setattr(Growing, "_next", fail)
    with pytest.raises(MediaError, match=r"camera\.ts: cannot be read on: Input/output error: follow it anew"):
        list(localizer.follow(recording))


@pytest.mark.parametrize("content", [b"", b"words " * 999])
def test_what_is_no_recording_is_refused(localizer, tmp_path, content):
    path = tmp_path / "a.ts"
    path.write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.ts: nothing that can be followed: record as MPEG-TS, Matroska"):
        list(localizer.follow(path, idle_seconds=0))


def test_a_file_whose_index_is_at_its_end_is_refused(localizer, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    path = make_media(tmp_path / "a.mp4", seconds=20, picture=lambda t: np.roll(noise, int(25 * t), 0))
    assert localizer.localize(path).duration > 19
    with pytest.raises(MediaError, match=r"a\.mp4: nothing of its video track can be decoded: record as MPEG-TS"):
        list(localizer.follow(path, idle_seconds=0))


def test_a_missing_recording_is_told(localizer, tmp_path):
    with pytest.raises(MediaError, match=r"none\.ts: cannot open: No such file or directory: check the name"):
        list(localizer.follow(tmp_path / "none.ts"))


def start(*arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "davel", "localize", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_a_pipe_is_followed_and_its_events_are_printed_while_it_is_open(recording, model, whole):
    content = recording.read_bytes()
    with start("--follow", "-", "-m", model, "--threshold", 0.2) as process:
        process.stdin.write(content)
        process.stdin.flush()
        first = json.loads(process.stdout.readline())  # the pipe is open: this is no end
        assert process.poll() is None
        process.stdin.close()
        rest, complaints = process.stdout.read(), process.stderr.read()
    assert process.returncode == 0
    assert complaints.decode() == "davel: following -: an event comes 33 s after its end at most\n"
    lines = [first, *map(json.loads, rest.splitlines())]
    assert first.keys() == {"file", "label", "start", "end", "score"}
    found = [Event(line["label"], line["start"], line["end"], line["score"]) for line in lines]
    assert_same(found, whole)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.0, 1.5])  # while it works, and while it waits for more
def test_an_interrupt_ends_it(recording, model, seconds):
    with start("--follow", "-", "-m", model) as process:
        process.stdin.write(recording.read_bytes())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["label"]
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(60) == 130
        assert b"Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_a_pipe_of_something_else_ends_in_one_line(model):
    with start("--follow", "-", "-m", model) as process:
        out, complaints = process.communicate(b"words " * 999, timeout=60)
    assert process.returncode == 3
    assert out == b""
    assert complaints.splitlines()[1].startswith(b"davel: -: nothing that can be followed")


def test_what_is_printed_can_be_converted(run, recording, model, tmp_path):
    code, out, _ = run("localize", "--follow", recording, "--idle", 0, "-m", model, "--threshold", 0.2)
    assert code == 0
    (tmp_path / "camera.jsonl").write_text(out)
    assert run("convert", "camera.jsonl", "camera.vtt")[0] == 0
    assert "-->" in (tmp_path / "camera.vtt").read_text()


def test_a_recording_without_events_is_named(run, recording, model):
    code, out, _ = run("localize", "--follow", recording, "--idle", 0, "-m", model, "--threshold", 1)
    assert code == 0
    assert [json.loads(line) for line in out.splitlines()] == [{"file": str(recording)}]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("a.ts", "b.ts"), "takes one file, or - for stdin"),
        (("a.ts", "-o", "out"), "takes no -o: events are printed as they come"),
        (("a.ts", "-f", "vtt"), "takes no -f"),
        (("a.ts", "--plot"), "takes no --plot"),
        (("a.ts", "--ray-cpus", "2"), "takes no --ray-cpus"),
        (("a.ts", "--end", "9"), "takes no --end"),
    ],
)
def test_options_that_a_recording_cannot_have_are_refused(run, options, complaint):
    code, _, err = run("localize", "--follow", *options)
    assert code == 2
    assert complaint in " ".join(err.replace("│", " ").split())


def test_idle_is_for_recordings(run, recording):
    code, _, err = run("localize", recording, "--idle", 3)
    assert code == 2
    assert "goes with --follow only" in err
