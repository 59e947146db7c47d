"""Media on one clock; every file is made by the test that reads it."""

from __future__ import annotations

import errno
import os
import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from media_files import grey, make_media, tone

from davel.core.errors import MediaError
from davel.core.returning import consume
from davel.media import Coverage, Picture, Sound, open_media, probe
from davel.media.sampling import Grid


def read(path: Path, fps: float | None = 25, sample_rate: int | None = 16000, size=None):
    """All pictures (N, H, W, 3), all samples (N,), and the coverage."""
    with open_media(path) as source:
        items = []
        coverage = consume(source.read(fps=fps, sample_rate=sample_rate, size=size), items.append)
    pictures = [x for x in items if isinstance(x, Picture)]
    sounds = [x for x in items if isinstance(x, Sound)]
    assert [p.index for p in pictures] == list(range(len(pictures)))
    position = 0
    for sound in sounds:
        assert sound.first == position
        position += len(sound.samples)
    samples = np.concatenate([s.samples for s in sounds]) if sounds else np.zeros(0)
    return [p.rgb for p in pictures], samples, coverage


def test_a_file_says_what_it_is(tmp_path):
    info = probe(make_media(tmp_path / "a.mp4", layout="stereo", sample_rate=44100))
    assert info.video is not None
    assert info.audio is not None
    assert (info.video.codec, info.video.width, info.video.height) == ("h264", 64, 48)
    assert (info.audio.codec, info.audio.sample_rate, info.audio.channels) == ("aac", 44100, 2)
    assert info.duration_seconds == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi", "ts"])
def test_every_container_gives_the_whole_of_both_tracks(tmp_path, suffix):
    pictures, samples, coverage = read(make_media(tmp_path / f"a.{suffix}"))
    assert len(pictures) == pytest.approx(75, abs=2)
    assert len(samples) / 16000 == pytest.approx(3, abs=0.15)
    assert coverage.both[1] == pytest.approx(3, abs=0.1)


def test_a_frame_that_cannot_be_converted_is_told(tmp_path, monkeypatch):
    def refuse(self, frame):
        raise av.error.BlockingIOError(errno.EAGAIN, "no thread", "sws")

    monkeypatch.setattr(Grid, "_convert", refuse)
    with (
        open_media(make_media(tmp_path / "a.mp4")) as source,
        pytest.raises(MediaError, match=r"a\.mp4: cannot decode: no thread: convert it"),
    ):
        list(source.read(fps=25, sample_rate=16000))


def test_frames_come_at_their_presentation_times_not_at_a_mean_rate(tmp_path):
    times = [0.0, 0.04, 0.08, 1.0, 1.04, 2.0, 2.5, 2.96]
    path = make_media(tmp_path / "a.mkv", times=times, picture=lambda t: grey(int(40 + 60 * t)))
    pictures, _, _ = read(path)
    for n, rgb in enumerate(pictures):
        shown = max(t for t in times if int(t * 25 + 0.5) <= n)
        assert rgb.mean() == pytest.approx(40 + 60 * shown, abs=4), n


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(gaps=st.lists(st.integers(1, 180), min_size=3, max_size=25), fps=st.sampled_from([10, 25, 30]))
def test_frames_are_chosen_as_by_ffmpegs_fps_filter(tmp_path, gaps, fps):
    milliseconds = np.concatenate([[0], np.cumsum(gaps)])
    levels = {int(t): 16 + 7 * i for i, t in enumerate(milliseconds)}
    path = _lossless(tmp_path / "a.mkv", milliseconds, levels)
    expected = []
    with av.open(str(path)) as container:
        graph = av.filter.Graph()
        stream = container.streams.video[0]
        source = graph.add_buffer(template=stream)
        graph.link_nodes(source, graph.add("fps", f"fps={fps}"), graph.add("buffersink")).configure()

        def pull():
            while True:
                try:
                    frame = graph.pull()
                    assert isinstance(frame, av.VideoFrame)
                    expected.append(float(frame.to_ndarray(format="rgb24").mean()))
                except (av.error.BlockingIOError, av.error.EOFError):
                    return

        for frame in container.decode(stream):
            graph.push(frame)
            pull()
        graph.push(None)
        pull()
    pictures, _, _ = read(path, fps=fps, sample_rate=None)
    ours = [float(rgb.mean()) for rgb in pictures]
    n = min(len(ours), len(expected))
    assert abs(len(ours) - len(expected)) <= fps // 10 + 3  # the last frame's length is the container's guess
    np.testing.assert_allclose(ours[:n], expected[:n], atol=0.5)


def _lossless(path: Path, milliseconds: np.ndarray, levels: dict[int, int]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for t in milliseconds:
            frame = av.VideoFrame.from_ndarray(grey(levels[int(t)], (16, 16)), format="rgb24")
            frame.pts, frame.time_base = int(t), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_sound_that_starts_late_follows_silence(tmp_path):
    path = make_media(tmp_path / "a.mkv", audio_start=0.7, samples=tone(2, 16000))
    _, samples, coverage = read(path)
    onset = np.flatnonzero(np.abs(samples) > 0.05)[0] / 16000
    assert onset == pytest.approx(0.7, abs=0.03)
    assert coverage.audio is not None
    assert coverage.audio[0] == pytest.approx(0.7, abs=0.03)
    assert coverage.both[0] == pytest.approx(0.7, abs=0.03)


def test_a_video_that_starts_late_shows_its_first_frame_until_then(tmp_path):
    path = make_media(tmp_path / "a.mkv", video_start=0.8, picture=lambda t: grey(int(50 + 50 * t)))
    pictures, _, coverage = read(path)
    assert pictures[0].mean() == pytest.approx(50, abs=4)
    assert pictures[19].mean() == pytest.approx(50, abs=4)
    assert pictures[45].mean() == pytest.approx(50 + 50 * 1.0, abs=5)
    assert coverage.video is not None
    assert coverage.video[0] == pytest.approx(0.8, abs=0.05)


def test_a_flash_and_a_click_at_one_time_come_out_at_one_time(tmp_path):
    for suffix in ("mp4", "mkv", "ts"):
        samples = np.zeros(48000 * 3, np.float32)
        samples[48000 * 2 - 48 : 48000 * 2 + 480] = 0.9
        path = make_media(
            tmp_path / f"a.{suffix}",
            picture=lambda t: grey(230 if 2.0 <= t < 2.2 else 30),
            samples=samples,
            sample_rate=48000,
        )
        pictures, sound, _ = read(path)
        flash = next(n for n, rgb in enumerate(pictures) if rgb.mean() > 130) / 25
        click = np.flatnonzero(np.abs(sound) > 0.4)[0] / 16000
        assert click == pytest.approx(2.0, abs=0.025), suffix  # some containers start with the coder's run-up
        assert flash == pytest.approx(click, abs=0.041), suffix


@pytest.mark.parametrize("sample_rate", [8000, 44100, 96000])
def test_a_tone_keeps_its_pitch_and_its_time_at_any_rate(tmp_path, sample_rate):
    samples = np.concatenate([np.zeros(sample_rate, np.float32), tone(2, sample_rate)])
    path = make_media(tmp_path / "a.mkv", samples=samples, sample_rate=sample_rate, audio_codec="pcm_s16le")
    _, sound, _ = read(path)
    onset = np.flatnonzero(np.abs(sound) > 0.05)[0] / 16000
    assert onset == pytest.approx(1.0, abs=0.001)
    spectrum = np.abs(np.fft.rfft(sound[16000 : 16000 + 16000]))
    assert spectrum.argmax() == 440
    assert np.abs(sound).max() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    ("layout", "codec"), [("stereo", "aac"), ("5.1", "aac"), ("mono", "pcm_u8"), ("stereo", "flac")]
)
def test_channels_are_averaged(tmp_path, layout, codec):
    path = make_media(tmp_path / "a.mkv", layout=layout, audio_codec=codec, sample_rate=48000)
    _, sound, _ = read(path)
    assert np.abs(sound[8000:40000]).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("pixels", ["yuv420p10le", "yuv444p12le", "yuva420p", "gbrp10le", "gray", "gray10le"])
def test_any_depth_and_alpha_become_rgb_of_eight_bits(tmp_path, pixels):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video = container.add_stream("ffv1", rate=25)
        video.height, video.width, video.pix_fmt = 48, 64, pixels
        audio = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        samples = (tone(1, 16000) * 32767).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        sound.sample_rate, sound.pts = 16000, 0
        for n in range(25):
            frame = av.VideoFrame.from_ndarray(grey(40 + 8 * n), format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    pictures, _, _ = read(tmp_path / "a.mkv")
    assert [picture.dtype for picture in pictures] == [np.uint8] * 25
    for n, picture in enumerate(pictures):
        np.testing.assert_allclose(picture, grey(40 + 8 * n), atol=4)


def test_a_gap_in_the_sound_is_silence_and_what_follows_keeps_its_time(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for start in (0, 2):
            block = (tone(1, 16000) * 32767).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, start * 16000, Fraction(1, 16000)
            container.mux(audio.encode(frame))
        container.mux(audio.encode(None))
    _, sound, _ = read(path, fps=None)
    assert np.abs(sound[17000:31000]).max() < 0.01
    assert np.abs(sound[32100:33000]).max() > 0.4
    assert len(sound) == pytest.approx(48000, abs=100)


def test_pictures_are_turned_as_the_file_asks(tmp_path):
    def half(t):
        rgb = grey(20)
        rgb[:, :32] = 220  # the left half is bright
        return rgb

    upright = make_media(tmp_path / "a.mp4", picture=half)
    turned = make_media(tmp_path / "b.mp4", picture=half, rotation=90)
    assert read(upright)[0][0].shape == (48, 64, 3)
    info = probe(turned)
    assert info.video is not None
    assert (info.video.width, info.video.height) == (48, 64)
    rgb = read(turned)[0][0]
    assert rgb.shape == (64, 48, 3)
    top, bottom = rgb[:32].mean(), rgb[32:].mean()
    expected_bottom_bright = info.video.rotation == 90  # counterclockwise: what was left goes to the bottom
    assert (bottom > top) == expected_bottom_bright
    assert read(turned, size=(32, 24))[0][0].shape == (32, 24, 3)


def test_odd_sizes_are_read(tmp_path):
    pictures, _, _ = read(make_media(tmp_path / "a.mkv", picture=lambda t: grey(99, (47, 63))))
    assert pictures[0].shape == (47, 63, 3)


def test_interlaced_frames_are_made_whole(tmp_path):
    path = tmp_path / "a.mkv"

    def combed(x: int) -> np.ndarray:
        rgb = grey(20, (48, 192))
        rgb[0::2, x : x + 12] = 230  # one field sees the bar here,
        rgb[1::2, x + 4 : x + 16] = 230  # the other one a moment later
        return rgb

    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=25, options={"x264-params": "tff=1", "flags": "+ildct+ilme", "crf": "5"}
        )
        stream.width, stream.height, stream.pix_fmt = 192, 48, "yuv420p"
        for n in range(20):
            frame = av.VideoFrame.from_ndarray(combed(2 + 8 * n), format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = n, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with av.open(str(path)) as made:
        raw = next(iter(made.decode(video=0)))
        assert raw.interlaced_frame
        comb_before = np.abs(np.diff(raw.to_ndarray(format="gray").astype(float), axis=0)).mean()
    pictures, _, _ = read(path, sample_rate=None)
    assert len(pictures) == 20
    comb_after = np.abs(np.diff(pictures[5].mean(-1), axis=0)).mean()
    assert comb_after < 0.5 * comb_before


@pytest.mark.parametrize("cover", [True, False])
def test_cover_art_is_not_a_video(tmp_path, cover):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        audio = container.add_stream("aac", rate=16000, layout="mono")
        picture = container.add_stream("png", rate=1)
        picture.width, picture.height, picture.pix_fmt = 64, 48, "rgb24"
        if cover:
            picture.disposition = Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(grey(9), format="rgb24")
        frame.pts = 0
        container.mux(picture.encode(frame))
        sound = av.AudioFrame.from_ndarray(tone(1, 16000)[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = 16000, 0, Fraction(1, 16000)
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    assert (probe(path).video is None) == cover


@pytest.mark.parametrize("missing", ["video", "audio"])
def test_a_missing_track_is_named(tmp_path, missing):
    path = make_media(tmp_path / "a.mkv", **({"picture": None} if missing == "video" else {"sound": False}))
    assert getattr(probe(path), missing) is None
    with pytest.raises(MediaError, match=f"a.mkv: has no {missing} track; give a file with"):
        read(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MediaError, match=r"none\.mp4: cannot open: No such file or directory: check the name"):
        probe(tmp_path / "none.mp4")


def test_a_folder_is_no_media_file(tmp_path):
    with pytest.raises(MediaError, match="is a folder: name a media file"):
        probe(tmp_path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(MediaError, match=r"a\.mp4: is empty"):
        probe(tmp_path / "a.mp4")


GARBAGE = np.random.default_rng(0).bytes(40000)


@pytest.mark.parametrize("content", [b"just words\n" * 50, GARBAGE[:5000], b"\x00" * 4000, b"<html></html>"])
def test_another_file_is_refused(tmp_path, content):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(MediaError, match=r"a\.mp4: not a (media file|video)"):
        read(tmp_path / "a.mp4")


def test_a_still_picture_is_refused(tmp_path):
    path = tmp_path / "a.png"
    with av.open(str(path), "w", format="image2", options={"update": "1"}) as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(9), format="rgb24")))
        container.mux(stream.encode(None))
    with pytest.raises(MediaError, match=r"a\.png: not a video"):
        probe(path)


def test_a_file_without_its_index_is_refused(tmp_path):
    path = make_media(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(MediaError, match=r"a\.mp4: not a media file, or one without its index"):
        read(path)


@pytest.mark.parametrize(("suffix", "options"), [("mp4", {"movflags": "faststart"}), ("mkv", {}), ("avi", {})])
def test_a_file_that_is_cut_off_is_refused_with_both_lengths(tmp_path, suffix, options):
    noise = np.random.default_rng(0).integers(0, 255, (100, 48, 64, 3), dtype=np.uint8)
    path = make_media(tmp_path / f"a.{suffix}", seconds=4, picture=lambda t: noise[round(t * 25)], options=options)
    assert read(path)[2].duration_seconds == pytest.approx(4, abs=0.1)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(
        MediaError, match=r"is cut off: \d\.\d s of its .* can be decoded, (4\.\d|3\.9) s were expected"
    ):
        read(path)


def test_a_file_in_which_nothing_begins_at_zero_is_whole(tmp_path):
    path = make_media(tmp_path / "a.mkv", seconds=6, video_start=4, audio_start=4)
    assert probe(path).duration_seconds == pytest.approx(10, abs=0.2)
    assert read(path)[2].both == pytest.approx((0, 6), abs=0.1)


def test_damage_in_the_middle_is_told(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (100, 48, 64, 3), dtype=np.uint8)
    path = make_media(tmp_path / "a.ts", seconds=4, picture=lambda t: noise[round(t * 25)])
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40000] = GARBAGE
    path.write_bytes(content)
    pictures, _, coverage = read(path)
    assert len(pictures) == pytest.approx(100, abs=3)
    assert any("damaged" in warning for warning in coverage.warnings)


@pytest.mark.parametrize("name", ["with space.mp4", "new\nline.mp4", "colon:and%d.mp4", os.fsdecode(b"caf\xe9.mp4")])
def test_any_name_can_be_read(tmp_path, name):
    path = make_media(tmp_path / "plain.mp4", seconds=1)
    strange = tmp_path / name
    os.rename(path, strange)
    assert len(read(strange)[0]) == 25
    strange.write_bytes(b"")
    with pytest.raises(MediaError) as caught:
        read(strange)
    assert "\n" not in str(caught.value)
    str(caught.value).encode("utf-8")  # can be printed


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = make_media(tmp_path / "a.mp4", seconds=1)

    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(MediaError, match=r"a\.mp4: cannot open: Permission denied: give yourself the right"):
        probe(path)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux lists them")
def test_everything_that_is_opened_is_closed(tmp_path):
    path = make_media(tmp_path / "a.mp4", seconds=1)
    before = open_files()
    read(path)
    with open_media(path) as source:
        next(iter(source.read(fps=25, sample_rate=16000)))
    (tmp_path / "b.mp4").write_bytes(b"nothing" * 99)
    for bad in (tmp_path / "b.mp4", tmp_path / "none.mp4", tmp_path):
        with pytest.raises(MediaError):
            probe(bad)
    assert open_files() == before


def test_memory_does_not_grow_with_the_length(tmp_path):
    def peak(seconds: float) -> int:
        path = make_media(tmp_path / f"{seconds}.mkv", seconds=seconds, picture=lambda t: grey(90))
        tracemalloc.start()
        with open_media(path) as source:
            for _ in source.read(fps=25, sample_rate=16000):
                pass
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    peak(2)
    assert peak(40) < 1.5 * peak(4)


def test_a_reading_returns_its_coverage(tmp_path):
    with open_media(make_media(tmp_path / "a.mp4", seconds=1)) as source:
        assert consume(source.read(fps=25, sample_rate=16000)).duration_seconds == pytest.approx(1, abs=0.1)


def test_tracks_that_never_meet_have_nothing_in_common():
    assert Coverage(duration_seconds=9, video=(0, 3), audio=(4, 9)).both == (0, 0)
    assert Coverage(duration_seconds=9, video=(0, 5), audio=(4, 9)).both == (4, 5)


def test_a_time_stamp_that_cannot_be_does_not_stretch_the_file(tmp_path):
    path = make_media(tmp_path / "a.mkv", times=[*np.arange(75) / 25, 90000.0], picture=lambda t: grey(90))
    content = path.read_bytes()
    duration = content.index(b"\x44\x89\x88") + 3  # Matroska's Duration, a double, in milliseconds
    path.write_bytes(content[:duration] + struct.pack(">d", 3000.0) + content[duration + 8 :])
    pictures, _, coverage = read(path)
    assert len(pictures) == pytest.approx(76, abs=1)
    assert coverage.duration_seconds < 4


NOISE_SOUND = np.random.default_rng(3).uniform(-0.5, 0.5, 12 * 16000).astype(np.float32)
NOISE = np.random.default_rng(0).integers(0, 256, (60, 48, 64, 3), dtype=np.uint8)


def damaged_in_the_middle(path, start=0.5, part=0.05):
    """Half a minute of noise, of which a part is overwritten."""
    make_media(path, seconds=30, picture=lambda t: NOISE[int(6 * t) % 60])
    content = bytearray(path.read_bytes())
    first, last = (int(len(content) * x) for x in (start, start + part))
    content[first:last] = np.random.default_rng(1).bytes(last - first)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "avi"])
def test_damage_in_the_middle_is_a_gap_and_the_rest_stays(tmp_path, suffix):
    pictures, _, coverage = read(damaged_in_the_middle(tmp_path / f"a.{suffix}"))
    assert len(pictures) == pytest.approx(750, abs=2)
    assert coverage.video[1] == pytest.approx(30, abs=0.1)
    missing = sum(end - start for start, end in coverage.video_gaps)
    assert 0.5 < missing < 8
    assert all(5 < start < end < 25 for start, end in coverage.video_gaps)
    assert any("missing or broken: " in warning for warning in coverage.warnings)


def test_sound_that_is_missing_is_a_gap(tmp_path):
    pauses = damaged_in_the_middle(tmp_path / "a.avi")  # where pictures and sound alternate
    gaps = read(pauses)[2].audio_gaps
    assert len(gaps) == 1
    assert 0.5 < gaps[0][1] - gaps[0][0] < 8


def test_a_whole_file_has_no_gaps(tmp_path):
    still = [*np.arange(50) / 25, 2.9, *(3 + np.arange(25) / 25)]  # a picture that stands for most of a second
    for name, times in (("a.mp4", None), ("b.mkv", still), ("c.mp4", [0.0, 5.0, 10.0])):
        coverage = read(make_media(tmp_path / name, seconds=4, times=times))[2]
        assert coverage.video_gaps == coverage.audio_gaps == ()


def test_colours_may_be_read_as_old_tools_did(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace = 1  # BT.709
        for n in range(3):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), (200, 40, 40), np.uint8), format="rgb24")
            frame.pts = n
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))

    def red(colours):
        with open_media(path) as source:
            return next(iter(source.read(fps=25, sample_rate=None, colours=colours))).rgb[20, 20].astype(int)

    assert np.abs(red("declared") - red("bt601")).max() > 5


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize(("start", "end"), [(0.0, 3.0), (4.0, 7.0), (9.2, None)])
def test_a_part_of_a_file_is_that_part_of_the_whole(tmp_path, suffix, start, end):
    path = make_media(tmp_path / f"a.{suffix}", seconds=12, picture=lambda t: grey(int(20 * t)), samples=NOISE_SOUND)
    with open_media(path) as source:
        whole = list(source.read(fps=25, sample_rate=16000))
    with open_media(path) as source:
        part = []
        coverage = consume(source.read(fps=25, sample_rate=16000, start=start, end=end), part.append)
    pictures, expected = ({p.index: p.rgb for p in items if isinstance(p, Picture)} for items in (part, whole))
    wanted = [n for n in expected if round(25 * start) <= n < (25 * end if end else 1e9)]
    assert sorted(pictures) == wanted
    for n in wanted:
        np.testing.assert_allclose(pictures[n].astype(int), expected[n].astype(int), atol=2)
    sound, all_sound = (np.concatenate([s.samples for s in items if isinstance(s, Sound)]) for items in (part, whole))
    first = next(s.first for s in part if isinstance(s, Sound))
    assert first == round(16000 * start)
    inner = slice(first + 2000, first + len(sound) - 2000)
    np.testing.assert_allclose(sound[2000:-2000], all_sound[inner], atol=1e-3)
    for span in (coverage.video, coverage.audio):
        assert span[0] == pytest.approx(start, abs=0.07)
        assert span[1] == pytest.approx(end or 12.0, abs=0.2)


def test_a_start_behind_the_end_is_refused(tmp_path):
    path = make_media(tmp_path / "a.mp4", seconds=2)
    with open_media(path) as source, pytest.raises(MediaError, match=r"ends at 2\.\d s, before the start"):
        list(source.read(fps=25, sample_rate=16000, start=9))


def test_a_part_is_read_without_what_lies_far_before_or_behind_it(tmp_path, monkeypatch):
    path = make_media(tmp_path / "a.mkv", seconds=60, picture=lambda t: NOISE[int(6 * t) % 60])
    shown = []
    real = Grid._show
    monkeypatch.setattr(Grid, "_show", lambda self, frame: shown.append(frame) or real(self, frame))
    with open_media(path) as source:
        pictures = [item.index for item in source.read(fps=25, sample_rate=None, start=30, end=32)]
    assert pictures == list(range(750, 800))
    assert len(shown) < 500


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile 'other.mp4'\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nother.mp4\n#EXT-X-ENDLIST\n",
        "file 'other.mp4'\n",
    ],
    ids=["ffconcat", "m3u8", "concat"],
)
@pytest.mark.parametrize("name", ["list.mp4", "list.m3u8", "list.ffconcat"])
def test_a_playlist_opens_no_other_file(tmp_path, monkeypatch, text, name):
    monkeypatch.chdir(tmp_path)
    make_media(tmp_path / "other.mp4", seconds=1)
    (tmp_path / name).write_text(text)
    with pytest.raises(MediaError, match="not a media file"):
        probe(name)
    assert probe("other.mp4").video is not None
