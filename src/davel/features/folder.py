"""Features in a folder: `ID_STREAM.npy`, as UnAV-100 was published, and `ID.features.json`, how they were made.

The description is written last: where it is, everything is. Memory does not grow with a video's length.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from davel.core.errors import ConfigError, MediaError, printable
from davel.core.files import read_json, replacing
from davel.features import store
from davel.features.family import family, read_spec
from davel.features.reading import PROCESS, Extractors, Features, Reading, Settings
from davel.features.spec import FeatureSpec
from davel.features.weights import sha256
from davel.media import Coverage


class NpyFile:
    """A `.npy` file (T, D) of float32 that grows; `close` cuts it to its final length."""

    def __init__(self, path: Path, channels: int) -> None:
        self.channels = channels
        self.file = path.open("wb+")
        self._write_header(0)
        self.header_bytes = self.file.tell()

    def append(self, rows: NDArray[np.float32]) -> None:
        self.file.write(np.ascontiguousarray(rows, np.float32).data)

    def close(self, length: int) -> None:
        with self.file as file:
            file.truncate(self.header_bytes + 4 * length * self.channels)
            file.seek(0)
            self._write_header(length)
            assert file.tell() == self.header_bytes, "numpy leaves room for a first axis of any length"

    def _write_header(self, length: int) -> None:
        facts = {"descr": "<f4", "fortran_order": False, "shape": (length, self.channels)}
        np.lib.format.write_array_header_1_0(self.file, facts)


@dataclass(frozen=True)
class Written:
    """What there is of a file."""

    num_steps: int
    lengths: dict[str, int]
    """The steps of each stream before they were cut to the shortest."""
    coverage: Coverage
    source: list[int]
    """The input's size in bytes, and when it was last written, in nanoseconds."""
    sha256: str
    """Of the input."""


def sidecar(folder: Path, key: str) -> Path:
    return folder / f"{key}.features.json"


def made_with(settings: Settings, extractors: Extractors) -> dict[str, Any]:
    """What else the numbers depend on, besides the protocol: precision and the family's weights."""
    return {"precision": settings.precision, "weights": extractors.digests.of(settings.family)}


def write(
    path: Path,
    folder: Path,
    key: str,
    settings: Settings,
    progress: Callable[[float], None] | None = None,
    extractors: Extractors = PROCESS,
) -> Written:
    """Extract a media file's features into `folder`: all of its files, or none.

    MediaError if the file cannot be read as a whole, lacks a track, or is shorter than one step; OSError if nothing
    can be written.
    """
    make, source = extractors.get(settings), store.fingerprint(path)
    digest = sha256(path)
    described = sidecar(folder, key)
    for kept in (described, *(make.family.path(folder, key, name) for name in make.family.streams)):
        for leftover in folder.glob(f".{glob.escape(kept.name)}.*.tmp"):  # of a run that was killed
            leftover.unlink(missing_ok=True)
    with ExitStack() as files:
        arrays = {
            name: files.enter_context(_npy_file(make.family.path(folder, key, name), stream.channels))
            for name, stream in make.family.streams.items()
        }
        reading = Reading(make, path)
        for name, steps in reading.rows():
            arrays[name].append(steps)
            if progress:
                progress(reading.seconds)
        T, (info, coverage) = reading.num_steps(), reading.facts
        facts = store.describe(make.spec, info, coverage, reading.lengths, source) | {
            "num_steps": T,
            "sha256": digest,
            "made_with": made_with(settings, extractors),
        }
        for array in arrays.values():
            array.close(T)
        described.unlink(missing_ok=True)
    with replacing(described) as temporary:
        temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return Written(T, reading.lengths, coverage, source, digest)


@contextmanager
def _npy_file(path: Path, channels: int) -> Iterator[NpyFile]:
    with replacing(path) as temporary:
        array = NpyFile(temporary, channels)
        try:
            yield array
        finally:
            array.file.close()


def read_sidecar(folder: Path, key: str) -> dict[str, Any]:
    """ConfigError if there is none, or something else."""
    path = sidecar(folder, key)
    facts = read_json(path, "description of features")
    if not isinstance(facts, dict) or facts.get("schema") != store.SCHEMA:
        raise ConfigError(f"{printable(path)}: not a description of features: delete it and extract again")
    return facts


def spec_of_all(folder: Path, keys: Iterable[str], published: FeatureSpec) -> FeatureSpec:
    """The protocol of a folder's features: as their descriptions say, or the published one if they have none.

    ConfigError if they are of several origins, which no model should learn from together.
    """
    by_origin: dict[bool, str] = {}
    first: tuple[FeatureSpec, str] | None = None
    for key in keys:
        described = sidecar(folder, key).is_file()
        by_origin.setdefault(described, key)
        if not described:
            continue
        spec = read_spec(read_sidecar(folder, key)["spec"])
        first = first or (spec, key)
        first[0].require(spec, printable(first[1]), printable(key))
    if len(by_origin) == 2:
        raise ConfigError(
            f"{printable(folder)}: the features of {printable(by_origin[True])} were made by `davel extract`, those of "
            f"{printable(by_origin[False])} were not: keep features of one origin together"
        )
    return first[0] if first else published


def is_finished(path: Path, folder: Path, key: str, settings: Settings, extractors: Extractors = PROCESS) -> bool:
    """Whether `folder` holds what `write` would make; a file that was only copied or touched is still the same."""
    try:
        facts = read_sidecar(folder, key)
        now, then = made_with(settings, extractors), facts["made_with"]
        weights = {name: then["weights"].get(name) for name in now["weights"]}
        if read_spec(facts["spec"]) != settings.spec or (then["precision"], weights) != (*now.values(),):
            return False
        if not all(settings.family.path(folder, key, name).is_file() for name in settings.family.streams):
            return False
        source = store.fingerprint(path)
        if source == facts["source"]:
            return True
        return bool(source[0] == facts["source"][0] and sha256(path) == facts["sha256"])
    except (ConfigError, MediaError, OSError, KeyError):
        return False


def kept(path: Path, folder: Path, key: str, settings: Settings) -> Features:
    """A file's features: those that `folder` has if neither the file nor the settings have changed, else made anew."""
    if not is_finished(path, folder, key, settings):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write(path, folder, key, settings)
        except OSError as error:
            target = printable(error.filename or folder)
            raise ConfigError(f"{target}: cannot write: {error.strerror}: make room or name another folder") from error
    features = load(folder, key)
    return replace(features, info=replace(features.info, path=path))  # it may have been moved since


def load(folder: Path, key: str) -> Features:
    """The features of one file. ConfigError if they are missing or damaged."""
    facts = read_sidecar(folder, key)
    try:
        known = store.understand(facts)
        made = family(known["spec"].name)
        visual, audio = made.join({name: np.load(made.path(folder, key, name)) for name in made.streams})
        return Features(visual=visual, audio=audio, **known)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{printable(sidecar(folder, key))}: damaged features ({error}): delete it and extract again"
        ) from error
