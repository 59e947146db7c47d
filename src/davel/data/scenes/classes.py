"""How each class of the rendered scenes looks, moves and sounds.

A look is drawn on a square patch: x and y run from -1 to 1 (y down), t is seconds since the event's start. It gives
how opaque each pixel is and its colour. A sound is mono; its level is set by the scene.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Look = Callable[[Floats, Floats, float, float], tuple[Floats, Floats]]
"""(x, y, t, hue shift) -> opacity (H, W) in 0..1, colour (H, W, 3) in 0..1"""
Motion = Callable[[float, float], tuple[float, float]]
"""(t, tempo) -> displacement in units of the object's radius"""
Sound = Callable[[Floats, float, float, np.random.Generator], Floats]
"""(t, pitch factor, tempo factor, noise) -> samples"""


@dataclass(frozen=True)
class SceneClass:
    label: str
    look: Look
    motion: Motion
    sound: Sound


def _inside(distance: Floats, softness: float = 0.06) -> Floats:
    """1 where a signed distance is negative, 0 outside, with a soft edge."""
    return np.asarray(np.clip(0.5 - distance / softness, 0, 1))


def _box(x: Floats, y: Floats, half_width: float, half_height: float) -> Floats:
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def _turn(x: Floats, y: Floats, angle: float) -> tuple[Floats, Floats]:
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return c * x + s * y, c * y - s * x


def hsv(hue: float, saturation: float, value: float) -> Floats:
    """A colour, (3,) in 0..1."""
    sector = (hue % 1) * 6 + np.array([5, 3, 1], np.float32)
    ramp = np.clip(np.minimum(sector % 6, 4 - sector % 6), 0, 1)
    return np.asarray(value * (1 - saturation * ramp), np.float32)


def _paint(pattern: Floats, light: Floats, dark: Floats) -> Floats:
    """A pattern in 0..1 between two colours: (H, W) -> (H, W, 3)"""
    return dark + pattern[..., None] * (light - dark)


def _bell(x: Floats, y: Floats, t: float, shift: float) -> tuple[Floats, Floats]:
    x, y = _turn(x, y + 0.9, 0.5 * np.sin(2 * np.pi * 1.6 * t))
    y = y - 0.9
    body = np.maximum(np.abs(x) - (0.35 + 0.3 * (y + 0.6).clip(0) ** 2), np.abs(y) - 0.65)
    return _inside(body), _paint(
        _inside(np.abs(y - 0.4) - 0.12), hsv(0.13 + shift, 0.45, 1.0), hsv(0.12 + shift, 0.9, 0.85)
    )


def _siren(x: Floats, y: Floats, t: float, shift: float) -> tuple[Floats, Floats]:
    on = int(t * 7) % 2
    left = (x < 0) == bool(on)
    colour = np.where(left[..., None], hsv(shift, 0.95, 1.0), hsv(0.63 + shift, 0.95, 0.95))
    return _inside(_box(x, y, 0.9, 0.4)), colour


def _dog(x: Floats, y: Floats, t: float, shift: float) -> tuple[Floats, Floats]:
    head = np.hypot(x, y) - 0.62
    ears = np.minimum(np.hypot(x - 0.5, y + 0.55), np.hypot(x + 0.5, y + 0.55)) - 0.28
    mouth = _inside(np.hypot(x, (y - 0.3) * 1.6) - (0.28 if int(t * 8) % 2 else 0.1))
    return _inside(np.minimum(head, ears)), _paint(1 - mouth, hsv(0.07 + shift, 0.75, 0.5), hsv(0.98, 0.5, 0.25))


def _bird(x: Floats, y: Floats, t: float, shift: float) -> tuple[Floats, Floats]:
    lift = np.sin(2 * np.pi * 4 * t)
    wings = np.maximum(np.abs(y + 0.7 * lift * np.abs(x) ** 1.3) - 0.16, np.abs(x) - 0.95)
    body = np.hypot(x * 2.2, y) - 0.42
    return _inside(np.minimum(wings, body)), _paint(
        _inside(body), hsv(0.56 + shift, 0.35, 1.0), hsv(0.55 + shift, 0.85, 0.95)
    )


def _drum(x: Floats, y: Floats, t: float, shift: float) -> tuple[Floats, Floats]:
    size = 0.62 + 0.3 * np.exp(-((t * 4) % 1) * 4)
    r = np.hypot(x, y)
    return _inside(r - size), _paint(
        _inside(np.abs(r - 0.6 * size) - 0.1), np.ones(3, np.float32), hsv(0.0 + shift, 0.8, 0.45)
    )


def _train(x: Floats, y: Floats, t: float, shift: float) -> tuple[Floats, Floats]:
    windows = _inside(np.maximum(np.abs(((x + 1) * 3) % 1 - 0.5) - 0.25, np.abs(y + 0.1) - 0.14))
    return _inside(_box(x, y, 0.97, 0.42)), _paint(windows, hsv(0.2, 0.15, 1.0), hsv(0.36 + shift, 0.85, 0.55))


def _saw(x: Floats, y: Floats, t: float, shift: float) -> tuple[Floats, Floats]:
    angle = np.arctan2(y, x) + 9 * t
    r = np.hypot(x, y)
    teeth = 0.75 + 0.15 * (np.sin(10 * angle) > 0)
    return _inside(r - teeth), _paint(_inside(r - 0.3), hsv(0.1, 0.2, 0.3), hsv(0.05 + shift, 0.95, 1.0))


def _alarm(x: Floats, y: Floats, t: float, shift: float) -> tuple[Floats, Floats]:
    bright = 1.0 if (t * 4) % 1 < 0.5 else 0.35
    return _inside(_box(x, y, 0.6, 0.6)), _paint(
        _inside(_box(x, y, 0.35, 0.35)), hsv(0.78 + shift, 0.25, bright), hsv(0.78 + shift, 0.85, 0.8 * bright)
    )


def _fountain(x: Floats, y: Floats, t: float, shift: float) -> tuple[Floats, Floats]:
    streaks = 0.5 + 0.5 * np.sin(9 * x + 3 * np.sin(5 * x)) * np.sin(6 * (y - 2.2 * t) + 4 * x)
    return _inside(np.abs(x) - (0.35 + 0.25 * (y + 1)), 0.2) * (0.35 + 0.65 * streaks), _paint(
        streaks, hsv(0.5 + shift, 0.1, 1.0), hsv(0.49 + shift, 0.8, 0.75)
    )


def _motorcycle(x: Floats, y: Floats, t: float, shift: float) -> tuple[Floats, Floats]:
    wheels = np.minimum(np.hypot(x - 0.55, y - 0.3), np.hypot(x + 0.55, y - 0.3)) - 0.38
    frame = _box(x, y + 0.1, 0.6, 0.18)
    return _inside(np.minimum(wheels, frame)), _paint(
        _inside(frame), hsv(0.9 + shift, 0.85, 0.95), hsv(0.9 + shift, 0.9, 0.4)
    )


def _kettle(x: Floats, y: Floats, t: float, shift: float) -> tuple[Floats, Floats]:
    cone = np.maximum(np.abs(x) - 0.35 * (y + 1.1), np.abs(y) - 0.75)
    steam = np.maximum(np.abs(x - 0.12 * np.sin(9 * y + 12 * t)) - 0.12, np.abs(y + 0.8) - 0.2)
    return _inside(np.minimum(cone, steam)), _paint(
        _inside(steam), np.ones(3, np.float32), hsv(0.22 + shift, 0.85, 0.9)
    )


def _clock(x: Floats, y: Floats, t: float, shift: float) -> tuple[Floats, Floats]:
    hx, hy = _turn(x, y, np.floor(t * 5) * 0.9)
    hand = _inside(np.maximum(np.abs(hx) - 0.09, np.abs(hy + 0.3) - 0.35))
    return _inside(np.hypot(x, y) - 0.8), _paint(1 - hand, hsv(0.44 + shift, 0.65, 0.85), hsv(0.44, 0.9, 0.12))


def _still(t: float, tempo: float) -> tuple[float, float]:
    return 0.0, 0.0


def _sway(t: float, tempo: float) -> tuple[float, float]:
    return 0.5 * np.sin(2 * np.pi * 0.8 * tempo * t), 0.0


def _hop(t: float, tempo: float) -> tuple[float, float]:
    return 0.0, -0.7 * abs(np.sin(np.pi * 2.5 * tempo * t))


def _circle(t: float, tempo: float) -> tuple[float, float]:
    angle = 2 * np.pi * 0.5 * tempo * t
    return 1.1 * np.cos(angle), 0.7 * np.sin(angle)


def _cross(t: float, tempo: float) -> tuple[float, float]:
    return 1.6 * (abs((0.35 * tempo * t) % 2 - 1) * 2 - 1), 0.0


def _creep(t: float, tempo: float) -> tuple[float, float]:
    return 2.0 * np.sin(2 * np.pi * 0.12 * tempo * t), 0.0


def _shake(t: float, tempo: float) -> tuple[float, float]:
    return 0.12 * np.sin(2 * np.pi * 9 * t), 0.0


def _rattle(t: float, tempo: float) -> tuple[float, float]:
    return 0.6 * np.sin(2 * np.pi * 0.25 * tempo * t), 0.1 * np.sin(2 * np.pi * 11 * t)


def _push(t: float, tempo: float) -> tuple[float, float]:
    return 0.0, 0.5 * np.sin(2 * np.pi * 1.5 * tempo * t)


def _tone(t: Floats, frequency: float | Floats, sample_rate: float) -> Floats:
    """A sine whose frequency may change from sample to sample."""
    if isinstance(frequency, float):
        return np.asarray(np.sin(np.float32(2 * np.pi * frequency) * t))
    return np.sin(2 * np.pi * np.cumsum(frequency, dtype=np.float64) / sample_rate).astype(np.float32)


def _rate(t: Floats) -> float:
    return 1 / float(t[1] - t[0]) if len(t) > 1 else 1.0


def _beat(t: Floats, per_second: float) -> Floats:
    """Seconds since the last of regular beats."""
    return (t * np.float32(per_second) % 1) / np.float32(per_second)


def _smooth(noise: Floats, width: int) -> Floats:
    """A running mean: what is left is lower than the sample rate over the width."""
    total = np.cumsum(np.pad(noise, (width, 0)), dtype=np.float64)
    return np.asarray((total[width:] - total[:-width]) / np.sqrt(width), np.float32)


def _bell_sound(t: Floats, pitch: float, tempo: float, rng: np.random.Generator) -> Floats:
    beat = _beat(t, 2.2 * tempo)
    partials = zip((1.0, 1.5, 2.0, 2.76, 4.1), (1.0, 0.6, 0.8, 0.5, 0.4), strict=True)
    return sum((a * _tone(t, 330.0 * pitch * f, 0) for f, a in partials), np.zeros_like(t)) * np.exp(-3 * beat)


def _siren_sound(t: Floats, pitch: float, tempo: float, rng: np.random.Generator) -> Floats:
    sweep = (900 * pitch + 350 * pitch * np.sin(2 * np.pi * 1.4 * tempo * t)).astype(np.float32)
    return _tone(t, sweep, _rate(t)) + 0.4 * _tone(t, 2 * sweep, _rate(t))


def _dog_sound(t: Floats, pitch: float, tempo: float, rng: np.random.Generator) -> Floats:
    beat = _beat(t, 3.2 * tempo)
    voice = np.sign(_tone(t, (420 * pitch * (1.3 - 1.5 * beat)).astype(np.float32), _rate(t)))
    rough = _smooth(rng.standard_normal(len(t), dtype=np.float32), 12)
    return (0.6 * _smooth(voice, 8) / 2 + rough) * np.exp(-10 * beat)


def _bird_sound(t: Floats, pitch: float, tempo: float, rng: np.random.Generator) -> Floats:
    beat = _beat(t, 5 * tempo)
    return _tone(t, (3000 * pitch + 9000 * beat).astype(np.float32), _rate(t)) * np.exp(-8 * beat)


def _drum_sound(t: Floats, pitch: float, tempo: float, rng: np.random.Generator) -> Floats:
    beat = _beat(t, 4 * tempo)
    skin = _tone(t, (90 * pitch * (1 + np.exp(-30 * beat))).astype(np.float32), _rate(t)) * np.exp(-9 * beat)
    return skin + 0.15 * rng.standard_normal(len(t), dtype=np.float32) * np.exp(-60 * beat)


def _train_sound(t: Floats, pitch: float, tempo: float, rng: np.random.Generator) -> Floats:
    notes = [255.0, 311.0, 370.0, 440.0]
    return sum(
        (_tone(t, n * pitch, 0) + 0.5 * _tone(t, 2 * n * pitch, 0) + 0.3 * _tone(t, 3 * n * pitch, 0) for n in notes),
        np.zeros_like(t),
    )


def _saw_sound(t: Floats, pitch: float, tempo: float, rng: np.random.Generator) -> Floats:
    buzz = 2 * ((110 * pitch * t) % 1) - 1
    load = 0.7 + 0.3 * np.sin(2 * np.pi * 5 * tempo * t)
    return np.asarray((buzz + 0.5 * rng.standard_normal(len(t), dtype=np.float32) * np.abs(buzz)) * load)


def _alarm_sound(t: Floats, pitch: float, tempo: float, rng: np.random.Generator) -> Floats:
    on = (t * np.float32(4 * tempo) % 1) < 0.5
    return np.sign(_tone(t, 2050.0 * pitch, 0)) * on


def _fountain_sound(t: Floats, pitch: float, tempo: float, rng: np.random.Generator) -> Floats:
    noise = rng.standard_normal(len(t), dtype=np.float32)
    return np.asarray(noise - 0.7 * _smooth(noise, 3) / np.sqrt(3))


def _motorcycle_sound(t: Floats, pitch: float, tempo: float, rng: np.random.Generator) -> Floats:
    phase = (38 * pitch * t) % 1
    rumble = _smooth(rng.standard_normal(len(t), dtype=np.float32), 30)
    return np.asarray(np.exp(-6 * phase) * np.sin(2 * np.pi * 4 * phase) + 0.1 * rumble)


def _kettle_sound(t: Floats, pitch: float, tempo: float, rng: np.random.Generator) -> Floats:
    wobble = (1500 * pitch * (1 + 0.012 * np.sin(2 * np.pi * 6 * tempo * t))).astype(np.float32)
    return _tone(t, wobble, _rate(t)) + 0.25 * rng.standard_normal(len(t), dtype=np.float32)


def _clock_sound(t: Floats, pitch: float, tempo: float, rng: np.random.Generator) -> Floats:
    beat = _beat(t, 5 * tempo)
    click = 0.6 * rng.standard_normal(len(t), dtype=np.float32) * np.exp(-150 * beat)
    return np.asarray(_tone(t, 5200.0 * pitch, 0) * np.exp(-90 * beat) + click)


CLASSES = (
    SceneClass("church bell ringing", _bell, _still, _bell_sound),
    SceneClass("police car (siren)", _siren, _cross, _siren_sound),
    SceneClass("dog barking", _dog, _hop, _dog_sound),
    SceneClass("bird chirping", _bird, _circle, _bird_sound),
    SceneClass("playing bass drum", _drum, _still, _drum_sound),
    SceneClass("train horning", _train, _creep, _train_sound),
    SceneClass("sawing wood", _saw, _push, _saw_sound),
    SceneClass("alarm clock ringing", _alarm, _shake, _alarm_sound),
    SceneClass("fountain splashing", _fountain, _still, _fountain_sound),
    SceneClass("driving motorcycle", _motorcycle, _rattle, _motorcycle_sound),
    SceneClass("kettle whistling", _kettle, _sway, _kettle_sound),
    SceneClass("clock ticking", _clock, _still, _clock_sound),
)
