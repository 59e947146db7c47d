"""Whatever files people have: each extractor makes finite features of it, or one line says why not."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_files import grey, make_media, tone
from small_networks import published

from davel.core.errors import MediaError
from davel.features.reading import Features, Settings, extract

SIZE = (48, 64)


@pytest.fixture(params=["light", "i3d-vggish"])
def features_of(request, monkeypatch, tmp_path_factory):
    """Either extractor, with networks that are no work."""
    if request.param == "i3d-vggish":
        published(monkeypatch, tmp_path_factory.mktemp("home"))
    settings = Settings.named(request.param)

    def make(path: Path) -> Features:
        features = extract(path, settings)
        assert np.isfinite(features.visual).all()
        assert np.isfinite(features.audio).all()
        return features

    return make


def moving(t: float, size: tuple[int, int] = SIZE) -> np.ndarray:
    picture = grey(60, size)
    picture[:, int(20 * t) % size[1]] = 255
    return picture


@pytest.mark.parametrize(("seconds", "steps"), [(2.0, 4), (6.0, 10)])
def test_sound_may_end_before_or_after_the_pictures(features_of, tmp_path, seconds, steps):
    features = features_of(make_media(tmp_path / "a.mkv", seconds=4, samples=tone(seconds, 16000), picture=moving))
    assert len(features) == steps
    assert max(features.lengths.values()) > steps


@pytest.mark.parametrize("fps", [1, 29.97, 240])
def test_any_frame_rate(features_of, tmp_path, fps):
    times = [n / fps for n in range(round(4 * fps) + 1)]
    assert len(features_of(make_media(tmp_path / "a.mp4", seconds=4, times=times, picture=moving))) == 10


def test_pictures_may_change_their_size_midway(features_of, tmp_path):
    path = tmp_path / "a.ts"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *SIZE, "yuv420p"
        other = av.CodecContext.create("libx264", "w")
        other.height, other.width, other.pix_fmt = 96, 64, "yuv420p"
        other.time_base = other.framerate = Fraction(1, 25)
        other.framerate = Fraction(25)
        audio = container.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(tone(4, 16000)[None], format="fltp", layout="mono")
        sound.sample_rate, sound.pts, sound.time_base = 16000, 0, Fraction(1, 16000)
        for encoder, first in ((stream.codec_context, 0), (other, 50)):
            encoder.options = {"preset": "ultrafast", "bf": "0"}
            for n in range(first, first + 50):
                frame = av.VideoFrame.from_ndarray(moving(n / 25, (encoder.height, 64)), format="rgb24")
                frame.pts, frame.time_base = n, Fraction(1, 25)
                for packet in encoder.encode(frame):
                    packet.stream = stream
                    container.mux(packet)
            for packet in encoder.encode(None):
                packet.stream = stream
                container.mux(packet)
        for part in av.AudioResampler("fltp", "mono", 16000).resample(sound):
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))
    assert len(features_of(path)) == 10


@pytest.mark.parametrize("count", [1, 23, 24])
def test_too_few_frames_are_told_with_the_least(features_of, tmp_path, count):
    path = make_media(tmp_path / "a.mkv", seconds=count / 25, samples=tone(count / 25, 16000), picture=moving)
    with pytest.raises(MediaError, match=r"a\.mkv: is shorter than one step of 1\.00 s"):
        features_of(path)


def test_twenty_five_frames_are_a_step(features_of, tmp_path):
    path = make_media(tmp_path / "a.mkv", seconds=1, samples=tone(1, 16000), picture=moving)
    assert len(features_of(path)) == 1


def test_a_damaged_middle_leaves_the_rest_and_is_marked(features_of, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, *SIZE, 3), dtype=np.uint8)
    path = make_media(tmp_path / "a.mp4", seconds=12, picture=lambda t: noise[int(6 * t) % 60])
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 20] = bytes(len(content) // 20)
    path.write_bytes(content)
    features = features_of(path)
    assert len(features) == 35
    assert features.coverage.video_gaps
    assert any("missing or broken" in warning for warning in features.coverage.warnings)
