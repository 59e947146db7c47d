"""Do re-extracted features match published ones? Per stream: lengths, offset, cosine, and the likely cause in words.

Shapes: M and R steps of ours and of the reference, D channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from davel.core.errors import ConfigError, printable
from davel.features.family import Family, families

Array = NDArray[np.float32]
OTHERS_ALIKE = 0.98
"""The median cosine from which a stream of no known family is taken for the same."""
MAX_OFFSET = 8
"""Steps by which sequences are shifted against each other."""
SCALES = (3.0, 1 / 3, 2.0, 0.5, 25 / 24, 24 / 25, 30 / 25, 25 / 30, 4.0, 0.25)
"""By which one sequence may run through a video faster than the other."""
SAME = 1e-6
"""A distance (one minus the cosine) that rounding leaves."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One stream of one video."""

    key: str
    stream: str
    length: int
    reference_length: int
    offset: int
    """Our step i is the reference's step i + offset, where they are most alike."""
    cosine: float
    """The median over the steps, at that offset."""
    cause: str
    """Why they differ, or an empty text."""

    @property
    def matches(self) -> bool:
        return not self.cause


def compare(
    key: str,
    stream: str,
    ours: Array,
    reference: Array,
    others: dict[str, Array],
    known: Mapping[str, Family] | None = None,
) -> Comparison:
    """One stream, (M, D) and (R, D); `others` are the reference's further streams, which ours may be in truth.

    `known` are the families of streams (`owners`).
    """
    told = partial(Comparison, key=key, stream=stream, length=len(ours), reference_length=len(reference))
    if ours.shape[1] != reference.shape[1]:
        cause = f"{ours.shape[1]} channels against {reference.shape[1]}: these are different features"
        return told(offset=0, cosine=0.0, cause=cause)
    offset, cosine = best_offset(ours, reference)
    owner = (owners() if known is None else known).get(stream)
    enough = owner.streams[stream].alike if owner else OTHERS_ALIKE
    cause = _not_these(ours, reference, others, cosine)
    if not cause and (cosine < enough or offset or abs(len(ours) - len(reference)) > 1):
        cause = _cause(ours, reference, offset, cosine, enough, owner.spec.step_seconds if owner else None)
    return told(offset=offset, cosine=cosine, cause=cause)


def best_offset(ours: Array, reference: Array) -> tuple[int, float]:
    """The shift at which two sequences are most alike, if it explains half of what differs, and the cosine there.

    Features share most of what they are: all their cosines are near 1, and distances tell them apart.
    """
    cosine = median_cosine(ours, reference)
    n = min(len(ours), len(reference))
    if 1.5 * n < max(len(ours), len(reference)):
        return 0, cosine
    best, least = 0, 0.5 * (1 - cosine)
    for offset in range(-MAX_OFFSET, MAX_OFFSET + 1):
        a, b = ours[max(-offset, 0) :], reference[max(offset, 0) :]
        if offset == 0 or 2 * min(len(a), len(b)) < n or 1 - cosine < SAME:
            continue
        if (distance := 1 - median_cosine(a, b)) < least:
            best, least = offset, distance
    return (best, 1 - least) if best else (0, cosine)


def median_cosine(a: Array, b: Array) -> float:
    """Over the steps that both have; steps that are zero in both are alike."""
    n = min(len(a), len(b))
    a, b = a[:n].astype(np.float64), b[:n].astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = np.where(norms > 0, (a * b).sum(1) / np.maximum(norms, 1e-30), 0.0)
    cosines[~a.any(1) & ~b.any(1)] = 1.0
    return float(np.median(cosines)) if n else 0.0


def _not_these(ours: Array, reference: Array, others: dict[str, Array], cosine: float) -> str:
    """Why these are no features of that stream, or an empty text."""
    if float(reference.max(initial=0)) > 20 and np.array_equal(reference, reference.round()):
        return "the reference is quantised to whole numbers 0..255: VGGish's postprocessing, which UnAV-100 left out"
    for name, other in others.items():
        if other.shape[1] == ours.shape[1] and 1 - best_offset(ours, other)[1] < 0.5 * (1 - cosine) - SAME:
            return f"this is the reference's {name!r}: the streams are exchanged, or their files are"
    return ""


def owners() -> dict[str, Family]:
    """The family of every stream's name; the first of several."""
    known: dict[str, Family] = {}
    for family in families().values():
        for stream in family.streams:
            known.setdefault(stream, family)
    return known


def _cause(ours: Array, reference: Array, offset: int, cosine: float, enough: float, step_seconds: float | None) -> str:
    lengths = f"{len(ours)} steps against {len(reference)}"
    ratio = len(reference) / len(ours)
    for scale in sorted(SCALES, key=lambda scale: abs(np.log(ratio / scale))):
        if abs(ratio / scale - 1) > 0.15:
            continue
        stretched = reference[_every(scale, len(reference))]
        explained = 1 - best_offset(ours, stretched)[1] < 0.5 * (1 - cosine)
        if explained or (cosine < enough and abs(ratio / scale - 1) < 0.04):
            return f"{lengths}: {_pace(scale)}"
    if offset and cosine >= enough:
        seconds = f" ({offset * step_seconds:+.2f} s at {step_seconds:g} s a step)" if step_seconds else ""
        return (
            f"shifted by {offset} steps{seconds}: one starts at another time: a cut clip, an edit list, or another "
            "start of the video's clock"
        )
    if abs(len(ours) - len(reference)) > 1 and cosine >= enough:
        return f"{lengths}: the same to where the shorter one ends: a cut video, or tracks of unequal length"
    if cosine > 0.9:
        return (
            f"alike (cosine {cosine:.3f}) but not the same: try --colours bt601, --resampler resampy-0.2.2, "
            "another resize or precision"
        )
    if cosine > 0.5:
        return (
            f"related (cosine {cosine:.3f}): another frame rate or window, fewer flow updates, other weights of the "
            "same network, or another cut of the video"
        )
    return f"unrelated (cosine {cosine:.3f}): other weights, another network, or another video"


def _every(scale: float, length: int) -> NDArray[np.intp]:
    """The steps of the reference that ours would be if one of ours lasts `scale` of its."""
    return np.arange(0, length, scale).round().astype(np.intp).clip(max=length - 1)


def _pace(scale: float) -> str:
    if abs(scale - 3) < 0.01:
        return "our steps are three times as long: hop 0.96 s (VGGish's default) in place of 0.32 s, or stride 24 for 8"
    if abs(scale - 1 / 3) < 0.01:
        return "our steps are a third as long: the reference has a hop of 0.96 s (VGGish's default), or stride 24 for 8"
    if scale in (2.0, 0.5, 4.0, 0.25):
        return f"one of our steps lasts {scale:g} of the reference's: another stride"
    rates = {25 / 24: (24, 25), 24 / 25: (25, 24), 30 / 25: (25, 30), 25 / 30: (30, 25)}
    ours, theirs = rates[scale]
    return f"one of our steps lasts {scale:.3g} of the reference's: another frame rate (as {ours} fps for {theirs})"


def compare_folders(ours: Path, reference: Path) -> list[Comparison]:
    """Every stream of every video that both have. ConfigError if there is none, or a file is broken."""
    for folder in (ours, reference):
        if not folder.exists():
            raise ConfigError(f"{printable(folder)}: there is no such file or folder")
    known = owners()
    if ours.is_file() and reference.is_file():
        key, stream = _name(ours, known)
        _, theirs = _name(reference, known)
        mine, expected = _read(ours), _read(reference)
        return [compare(key or ours.stem, stream or theirs, mine, expected, {}, known)]
    if ours.is_file() or reference.is_file():
        raise ConfigError(f"{printable(ours)} and {printable(reference)}: name two files or two folders")
    found = {name: path for path in sorted(ours.glob("*.npy")) if (name := _name(path, known))[1]}
    both = [name for name in found if _path(reference, *name).is_file()]
    if not both:
        raise ConfigError(
            f"{printable(ours)} and {printable(reference)}: have no file in common, of the names "
            f"{', '.join(f'ID_{stream}.npy' for stream in known)}"
        )
    results = []
    for key, stream in both:
        others = {
            other: _read(_path(reference, key, other))
            for other in known
            if other != stream and _path(reference, key, other).is_file()
        }
        mine, expected = _read(found[key, stream]), _read(_path(reference, key, stream))
        results.append(compare(key, stream, mine, expected, others, known))
    return results


def _path(folder: Path, key: str, stream: str) -> Path:
    return folder / f"{key}_{stream}.npy"


def _name(path: Path, known: Iterable[str]) -> tuple[str, str]:
    """The id and the stream of a file, or an empty stream."""
    for stream in sorted(known, key=len, reverse=True):
        if path.stem.endswith(f"_{stream}"):
            return path.stem.removesuffix(f"_{stream}"), stream
    return path.stem, ""


def _read(path: Path) -> Array:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ConfigError(f"{printable(path)}: is not a whole .npy file of numbers") from error
    if array.ndim != 2 or array.dtype.kind not in "fiu" or not len(array):
        raise ConfigError(f"{printable(path)}: expected (steps, channels) of numbers, got {array.shape} {array.dtype}")
    if not np.isfinite(array).all():
        raise ConfigError(f"{printable(path)}: has values that are NaN or infinite")
    return np.asarray(array, np.float32)


def summary(results: Iterable[Comparison]) -> dict[str, tuple[int, int, float]]:
    """By stream: the videos, those that match, and the median of their cosines."""
    rows: dict[str, list[Comparison]] = {}
    for result in results:
        rows.setdefault(result.stream, []).append(result)
    return {
        stream: (len(row), sum(r.matches for r in row), float(np.median([r.cosine for r in row])))
        for stream, row in rows.items()
    }
