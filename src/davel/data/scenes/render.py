"""Rendered scenes: real mp4 files whose events are known exactly.

In each scene things happen that are both seen and heard (its events), and as many that are only seen or only heard
(its decoys). What a scene holds follows from its seed and number alone, and so do the bytes of its file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from davel.compute.pool import Failed, each
from davel.core.errors import ConfigError, DavelError
from davel.core.files import replacing
from davel.core.progress import Report, silent
from davel.data.scenes.classes import CLASSES

LABELS = tuple(c.label for c in CLASSES)
WIDTH, HEIGHT, FPS = 320, 240, 25
DURATIONS = (20.0, 60.0)
"""Seconds of a scene, at least and at most."""
MIX = ((0.44, 1.0, 5.0), (0.30, 5.0, 20.0), (0.26, 20.0, 60.0))
"""UnAV-100's mix of event durations: share, from, to seconds."""
MEAN_EVENTS = 2.8
MARGIN_SECONDS = 1.0
"""Between two things of one class."""
SUBSETS = ("train", "validation", "test")

Floats = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Element:
    """Something that happens in [start, end) seconds."""

    label_id: int
    start: float
    end: float
    seen: bool = True
    heard: bool = True
    centre: tuple[float, float]
    """Pixels, of what its motion goes around."""
    radius: float
    """Pixels."""
    hue: float
    """Added to the look's hues, in turns."""
    light: float
    """Factor of brightness."""
    pitch: float
    tempo: float
    level: float
    """Root mean square of the sound."""
    noise_seed: int


@dataclass(frozen=True, kw_only=True)
class Scene:
    id: str
    duration: float
    elements: tuple[Element, ...]
    sample_rate: int
    background_level: float
    """Root mean square of the background's sound."""
    sensor_noise: float
    """Standard deviation, in grey levels."""
    seed: tuple[int, int]

    @property
    def events(self) -> list[Element]:
        return [e for e in self.elements if e.seen and e.heard]

    @property
    def decoys(self) -> list[Element]:
        return [e for e in self.elements if not (e.seen and e.heard)]


def plan_scene(seed: int, index: int) -> Scene:
    """What the scene `index` of `seed` holds."""
    rng = np.random.default_rng([seed, index])
    num_events = 1 + int(rng.binomial(6, (MEAN_EVENTS - 1) / 6))
    lengths = [_event_length(rng) for _ in range(2 * num_events)]
    duration = (
        round(float(rng.uniform(max(DURATIONS[0], min(max(lengths), DURATIONS[1] - 1)), DURATIONS[1])) * FPS) / FPS
    )
    taken: list[tuple[int, float, float]] = []
    elements = []
    for number, length in enumerate(lengths):
        is_event = number < num_events
        only_seen = not is_event and bool(rng.integers(2))
        label_id, start, end = _place(rng, length, duration, taken)
        taken.append((label_id, start, end))
        elements.append(
            Element(
                label_id=label_id,
                start=start,
                end=end,
                seen=is_event or only_seen,
                heard=is_event or not only_seen,
                centre=(float(rng.uniform(60, WIDTH - 60)), float(rng.uniform(55, HEIGHT - 55))),
                radius=float(rng.uniform(28, 46)),
                hue=float(rng.uniform(-0.015, 0.015)),
                light=float(rng.uniform(0.85, 1.1)),
                pitch=float(2 ** rng.uniform(-0.15, 0.15)),
                tempo=float(rng.uniform(0.9, 1.1)),
                level=float(10 ** rng.uniform(-1.3, -0.9)),
                noise_seed=int(rng.integers(2**31)),
            )
        )
    return Scene(
        id=f"scene-{seed}-{index:05d}",
        duration=duration,
        elements=tuple(elements),
        sample_rate=int(rng.choice([44100, 48000])),
        background_level=float(10 ** rng.uniform(-2.4, -2.0)),
        sensor_noise=float(rng.uniform(0.8, 2.5)),
        seed=(seed, index),
    )


def _event_length(rng: np.random.Generator) -> float:
    _, low, high = MIX[int(rng.choice(len(MIX), p=[m[0] for m in MIX]))]
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _place(
    rng: np.random.Generator, length: float, duration: float, taken: list[tuple[int, float, float]]
) -> tuple[int, float, float]:
    """A class and a time (on whole frames) away from others of that class."""
    length = min(length, duration)
    while True:
        label_id = int(rng.integers(len(CLASSES)))
        start = round(float(rng.uniform(0, duration - length)) * FPS) / FPS
        end = min(round((start + length) * FPS) / FPS, duration)
        others = [(s, e) for other, s, e in taken if other == label_id]
        if all(end + MARGIN_SECONDS <= s or e + MARGIN_SECONDS <= start for s, e in others):
            return label_id, start, end


def draw_frames(scene: Scene) -> Iterator[NDArray[np.uint8]]:
    """The scene's pictures, (HEIGHT, WIDTH, 3)."""
    rng = np.random.default_rng([*scene.seed, 1])
    scenery = _scenery(rng)
    noise = rng.normal(0, scene.sensor_noise, (8, HEIGHT, WIDTH, 3)).round().astype(np.int16)
    flicker = rng.uniform(0.002, 0.012)
    drift = rng.uniform(0.05, 0.3, 2), rng.uniform(0, 6, 2)
    num_frames = round(scene.duration * FPS)
    order = rng.integers(0, len(noise), num_frames)
    seen = [e for e in scene.elements if e.seen]
    for n in range(num_frames):
        now = n / FPS
        dx, dy = (8 + 6 * np.sin(drift[0] * 2 * np.pi * now / 4 + drift[1])).round().astype(int)
        frame = scenery[dy : dy + HEIGHT, dx : dx + WIDTH].copy()
        for element in seen:
            if element.start <= now < element.end:
                _draw_element(frame, element, now - element.start)
        gain = 1 + flicker * np.sin(2 * np.pi * 0.7 * now)
        picture = (frame * np.float32(255 * gain)).astype(np.int16) + noise[order[n]]
        yield picture.clip(0, 255).astype(np.uint8)


def _scenery(rng: np.random.Generator) -> Floats:
    """A muted landscape, larger than the picture by 16 pixels each way."""
    h, w = HEIGHT + 16, WIDTH + 16
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    sky, ground = rng.uniform(0.4, 0.7) + rng.uniform(-0.1, 0.1, 3), rng.uniform(0.2, 0.45) + rng.uniform(-0.1, 0.1, 3)
    horizon = rng.uniform(0.4, 0.75) * h
    below = np.clip((y - horizon) / 4 + 0.5, 0, 1)[..., None]
    picture = sky * (1 - 0.4 * (y / h))[..., None] * (1 - below) + ground * below
    for _ in range(int(rng.integers(6, 16))):
        cx, cy, rx, ry = rng.uniform(0, w), rng.uniform(0, h), *rng.uniform(8, 50, 2)
        grey = float(rng.uniform(0.2, 0.7))
        colour = grey + rng.uniform(-0.08, 0.08, 3)
        if rng.random() < 0.5:
            shape = np.hypot((x - cx) / rx, (y - cy) / ry) < 1
        else:
            shape = (np.abs(x - cx) < rx) & (np.abs(y - cy) < ry)
        picture = np.where(shape[..., None], 0.4 * picture + 0.6 * colour, picture)
    texture = rng.normal(0, 0.02, (h // 4 + 1, w // 4 + 1, 1)).repeat(4, 0).repeat(4, 1)[:h, :w]
    return np.asarray((picture + texture).clip(0.02, 0.98), np.float32)


def _draw_element(frame: Floats, element: Element, t: float) -> None:
    kind, r = CLASSES[element.label_id], element.radius
    dx, dy = kind.motion(t, element.tempo)
    cx, cy = element.centre[0] + dx * r, element.centre[1] + dy * r
    x0, x1 = max(int(cx - r), 0), min(int(cx + r) + 1, WIDTH)
    y0, y1 = max(int(cy - r), 0), min(int(cy + r) + 1, HEIGHT)
    if x0 >= x1 or y0 >= y1:
        return
    x = ((np.arange(x0, x1, dtype=np.float32) - cx) / r).astype(np.float32)[None, :]
    y = ((np.arange(y0, y1, dtype=np.float32) - cy) / r).astype(np.float32)[:, None]
    x, y = np.broadcast_arrays(x, y)
    opacity, colour = kind.look(x, y, t * element.tempo, element.hue)
    patch = frame[y0:y1, x0:x1]
    patch += opacity[..., None] * (colour * np.float32(element.light) - patch)
    np.clip(patch, 0, 1, out=patch)


def make_sound(scene: Scene) -> Floats:
    """The scene's sound at its sample rate, mono."""
    rng = np.random.default_rng([*scene.seed, 2])
    rate = scene.sample_rate
    num_samples = round(scene.duration * rate)
    samples = _background(rng, num_samples, rate) * np.float32(scene.background_level)
    for element in (e for e in scene.elements if e.heard):
        first, last = round(element.start * rate), round(element.end * rate)
        t = np.arange(last - first, dtype=np.float32) / np.float32(rate)
        noise = np.random.default_rng(element.noise_seed)
        sound = CLASSES[element.label_id].sound(t, element.pitch, element.tempo, noise)
        fade = np.minimum(np.minimum(t, t[::-1]) / np.float32(0.02), 1)
        sound = sound * fade
        samples[first:last] += (sound * (element.level / np.sqrt(np.mean(sound**2)))).astype(np.float32)
    return samples.clip(-1, 1).astype(np.float32)


def _background(rng: np.random.Generator, num_samples: int, rate: int) -> Floats:
    """Noise that falls with frequency, and a hum: root mean square 1."""
    period = 2**18  # repeats after some six seconds: nobody hears it, and its transform is quick
    spectrum = np.fft.rfft(rng.standard_normal(period, dtype=np.float32))
    frequency = np.fft.rfftfreq(period, 1 / rate)
    noise = np.fft.irfft(spectrum / np.maximum(frequency, 40) ** rng.uniform(0.4, 0.9), period)
    noise = np.resize(noise / noise.std(), num_samples)
    hum = np.sin(2 * np.pi * 50 * np.arange(num_samples) / rate)
    mixed = noise + rng.uniform(0, 0.4) * hum
    return np.asarray(mixed / mixed.std(), np.float32)


def render_scene(scene: Scene, path: Path) -> None:
    """Write the scene as mp4, H.264 and AAC; the file is there whole or not at all."""
    samples = make_sound(scene)
    with replacing(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "superfast", "crf": "26", "threads": "1"})
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.thread_count = 1
        audio = container.add_stream("aac", rate=scene.sample_rate, layout="mono")
        audio.bit_rate = 96_000
        written = 0
        for n, picture in enumerate(draw_frames(scene)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = n, Fraction(1, FPS)
            container.mux(video.encode(frame))
            until = min(round((n + 1) / FPS * scene.sample_rate), len(samples))
            container.mux(_encode_sound(audio, samples[written:until], written, scene.sample_rate))
            written = until
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def _encode_sound(stream: Any, samples: Floats, first: int, rate: int) -> list[Any]:
    frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
    frame.sample_rate, frame.pts, frame.time_base = rate, first, Fraction(1, rate)
    return list(stream.encode(frame))


def _render(job: tuple[Scene, Path]) -> None:
    render_scene(*job)


def render_scenes(
    out: Path,
    *,
    num_videos: int,
    seed: int,
    subset: str | None = None,
    workers: int | None = None,
    report: Report = silent,
) -> Path:
    """Render the scenes 0 to `num_videos` of `seed` into `out/videos`; the file `out/annotations.json`.

    All are of `subset`, or of every ten scenes eight are for training, one for validation and one for testing.
    ConfigError if the folder cannot be written.
    """
    if num_videos < 1 or seed < 0 or (subset is not None and subset not in SUBSETS):
        raise ConfigError(
            f"scenes need num_videos >= 1, seed >= 0 and a subset of {', '.join(SUBSETS)}, "
            f"got {num_videos = }, {seed = }, {subset = }"
        )
    try:
        (out / "videos").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot make this folder: {error.strerror}") from error
    scenes = [plan_scene(seed, index) for index in range(num_videos)]
    jobs = [(scene, out / "videos" / f"{scene.id}.mp4") for scene in scenes]
    workers = min(workers or os.cpu_count() or 1, num_videos)
    with closing(each(_render, jobs, workers=0 if workers == 1 else workers)) as rendered:
        for done, outcome in enumerate(rendered, 1):
            scene, path = outcome.job
            if isinstance(outcome, Failed):
                raise DavelError(f"{path}: cannot be rendered: {outcome.reason}: use fewer workers")
            report("render", done, num_videos, scene.id)
    names = [subset or SUBSETS[max(index % 10 - 7, 0)] for index in range(num_videos)]
    database = {scene.id: _annotation(scene, name) for scene, name in zip(scenes, names, strict=True)}
    with replacing(out / "annotations.json") as temporary:
        temporary.write_text(json.dumps({"version": "scenes", "labels": LABELS, "database": database}, indent=1) + "\n")
    return out / "annotations.json"


def _annotation(scene: Scene, subset: str) -> dict[str, Any]:
    """In UnAV-100's schema, with the decoys beside."""

    def item(e: Element) -> dict[str, Any]:
        return {"segment": [e.start, e.end], "label": LABELS[e.label_id], "label_id": e.label_id}

    decoys = [{**item(e), "kind": "seen" if e.seen else "heard"} for e in scene.decoys]
    events = [item(e) for e in scene.events]
    return {"duration": scene.duration, "subset": subset, "annotations": events, "decoys": decoys}
