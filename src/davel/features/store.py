"""Features in a folder: `ID_STREAM.npy`, as UnAV-100 was published, and `ID.features.json`, how they were made.

The description is written last: where it is, everything is. Files without one are published features. What training
kept before 0.2, one `.safetensors` per video, is read as well. Memory does not grow with a video's length.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from davel.core.errors import ConfigError, MediaError, printable
from davel.core.files import is_below, read_json, replacing
from davel.core.progress import Report, silent
from davel.core.returning import consume
from davel.features.family import ORIGIN, Family, family, read_spec
from davel.features.reading import PROCESS, Extractors, Features, Reading, Settings
from davel.features.spec import MODALITIES, FeatureSpec
from davel.features.weights import sha256
from davel.media import AudioTrack, Coverage, MediaInfo, VideoTrack

SCHEMA = "davel.features/1"
DESCRIBED, BUNDLE = ".features.json", ".safetensors"
"""What ends the name of a description, and of the one file that held all of a video's features before 0.2."""
KEPT = re.compile(r"-[0-9a-f]{12}\.[\w-]+$")
"""What `cache_key` adds to a video's name."""

Array = NDArray[np.float32]


@dataclass(frozen=True)
class Missing:
    """There are no features."""


@dataclass(frozen=True)
class Stale:
    """There are some, but not these."""

    why: str


@dataclass(frozen=True)
class Ready:
    """They are what would be made."""


Status = Missing | Stale | Ready


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


class BrokenFeatures(ConfigError):
    """A feature file that cannot be used."""

    def __init__(self, kind: Literal["missing", "unreadable", "shape", "nan"], text: str) -> None:
        super().__init__(text)
        self.kind = kind


class FeatureStore:
    """The features in one folder, by key: a video's id, or its `cache_key`."""

    def __init__(self, folder: Path, extractors: Extractors = PROCESS) -> None:
        self.folder, self.extractors = folder, extractors
        self._specs: dict[str, FeatureSpec] = {}

    def described(self, key: str) -> Path:
        return self.folder / f"{key}{DESCRIBED}"

    def bundle(self, key: str) -> Path:
        return self.folder / f"{key}{BUNDLE}"

    def facts(self, key: str) -> dict[str, Any]:
        """How features were made, as it is stored. ConfigError if that is missing or damaged."""
        path, described = self.bundle(key), self.described(key)
        if described.is_file() or not path.is_file():
            facts = read_json(described, "description of features")
            if not isinstance(facts, dict) or facts.get("schema") != SCHEMA:
                raise ConfigError(f"{printable(described)}: not a description of features: delete it and extract again")
            return facts
        try:
            with safe_open(path, framework="numpy") as file:
                facts = json.loads((file.metadata() or {})["davel"])
            if facts["schema"] != SCHEMA:
                raise ValueError(f"expected schema {SCHEMA!r}, got {facts['schema']!r}")
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{printable(path)}: not a davel feature file, or a damaged one: delete it and extract again"
            ) from error
        assert isinstance(facts, dict)
        return facts

    def spec(self, key: str) -> FeatureSpec:
        """The protocol of features that are described. ConfigError as `facts`, or if this davel does not know it."""
        return self._spec(self.facts(key), key)

    def _spec(self, facts: dict[str, Any], key: str) -> FeatureSpec:
        try:
            text = json.dumps(facts["spec"])
            if text not in self._specs:  # most of a folder's are alike
                self._specs[text] = read_spec(facts["spec"])
            return self._specs[text]
        except (KeyError, TypeError, AttributeError) as error:
            raise self._damaged(key, error) from error

    def status(self, key: str, settings: Settings, source: Path | None = None) -> Status:
        """Whether the folder has what `write` would make of `source`, or of any file: the one rule of freshness.

        Features are those of the same protocol, precision and weights of their family, and of the same file, which may
        have been copied or touched since. MissingError if the family's weights are not there.
        """
        try:
            facts = self.facts(key)
            if told := self._spec(facts, key).differences(settings.spec, "these", "what is asked for"):
                return Stale("; ".join(told))
            if then := facts.get("made_with"):
                if then["precision"] != settings.precision:
                    return Stale(f"precision was {then['precision']}")
                for name, digest in self.extractors.digests.of(settings.family).items():
                    if then["weights"].get(name) != digest:
                        return Stale(f"the weights {name!r} are others")
            if not self.bundle(key).is_file() or self.described(key).is_file():
                for name in settings.family.streams:
                    if not settings.family.path(self.folder, key, name).is_file():
                        return Stale(f"the stream {name!r} is missing")
            if source is not None and (now := fingerprint(source)) != facts["source"]:
                known = facts.get("sha256")
                if known is None or now[0] != facts["source"][0] or sha256(source) != known:
                    return Stale("the file has changed")
        except (KeyError, TypeError, AttributeError) as error:
            return Stale(f"damaged: {error!r}")
        except (MediaError, OSError):
            return Stale("the file cannot be read")
        except ConfigError as error:
            there = self.described(key).is_file() or self.bundle(key).is_file()
            return Stale(str(error)) if there else Missing()
        return Ready()

    def write(self, source: Path, key: str, settings: Settings, report: Report = silent) -> Written:
        """Extract a media file's features: all of its files, or none.

        MediaError if the file cannot be read as a whole, lacks a track, or is shorter than one step; OSError if nothing
        can be written.
        """
        if not settings.family.is_ours(settings.spec):
            raise ConfigError(
                f"features {settings.spec.name!r} of origin {settings.spec.options[ORIGIN]!r} are read, not written: "
                "davel's are of the same kind, but not the same numbers: leave out the folder to try them"
            )
        make, stamp = self.extractors.get(settings), fingerprint(source)
        digest = sha256(source)
        described = self.described(key)
        described.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            arrays = {
                name: files.enter_context(_npy_file(make.family.path(self.folder, key, name), stream.channels))
                for name, stream in make.family.streams.items()
            }
            reading = Reading(make, source)

            def keep(row: tuple[str, NDArray[np.float32]]) -> None:
                arrays[row[0]].append(row[1])
                report("extract", reading.seconds, None, source.name)

            info, coverage = consume(reading.rows(), keep)
            T = reading.num_steps(coverage)
            facts = {
                "schema": SCHEMA,
                "spec": make.spec.to_dict(),
                "info": asdict(info) | {"path": os.fsencode(info.path).hex()},
                "coverage": asdict(coverage),
                "lengths": reading.lengths,
                "source": stamp,
                "num_steps": T,
                "sha256": digest,
                "made_with": {
                    "precision": settings.precision,
                    "weights": self.extractors.digests.of(settings.family),
                },
            }
            for array in arrays.values():
                array.close(T)
            described.unlink(missing_ok=True)
        with replacing(described) as temporary:
            temporary.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        return Written(T, reading.lengths, coverage, stamp, digest)

    def extracted(self, source: Path, key: str, settings: Settings) -> Features:
        """A file's features: those that are there if neither the file nor the settings have changed, else made anew."""
        if not isinstance(self.status(key, settings, source), Ready):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                self.write(source, key, settings)
            except OSError as error:
                target = printable(error.filename or self.folder)
                raise ConfigError(
                    f"{target}: cannot write: {error.strerror}: make room or name another folder"
                ) from error
        features = self.read(key)
        return replace(features, info=replace(features.info, path=source))  # it may have been moved since

    def read(self, key: str) -> Features:
        """The features of one file, and what is known of it. ConfigError if they are missing or damaged."""
        facts = self.facts(key)
        try:
            spec, media = self._spec(facts, key), _media(facts)
            visual, audio = self.arrays(key, family(spec.name))
            return Features(visual=visual, audio=audio, spec=spec, **media)
        except (KeyError, TypeError, ValueError, BrokenFeatures) as error:
            raise self._damaged(key, error) from error

    def arrays(self, key: str, made: Family) -> tuple[Array, Array]:
        """A video's visual (T, Dv) and audio (T, Da), published or extracted. BrokenFeatures if they cannot be used."""
        path = self.bundle(key)
        if not path.is_file() or self.described(key).is_file():
            return made.join({stream: self.stream(key, made, stream) for stream in made.streams})
        try:
            with safe_open(path, framework="numpy") as file:
                return file.get_tensor("visual"), file.get_tensor("audio")
        except (SafetensorError, OSError) as error:
            raise BrokenFeatures("unreadable", f"{printable(path.name)}: damaged features ({error})") from error

    def lengths(self, key: str, made: Family, whole: bool = True) -> Iterator[tuple[str, int | BrokenFeatures]]:
        """The steps of each stream, or what is wrong with it: with every value, or as far as headers tell."""
        if self.bundle(key).is_file() and not self.described(key).is_file():
            try:
                with safe_open(self.bundle(key), framework="numpy") as file:
                    yield from ((modality, file.get_slice(modality).get_shape()[0]) for modality in MODALITIES)
            except (SafetensorError, OSError) as error:
                name = printable(self.bundle(key).name)
                yield "features", BrokenFeatures("unreadable", f"{name}: damaged features ({error})")
            return
        for stream in made.streams:
            try:
                yield stream, len((self.stream if whole else self.opened)(key, made, stream))
            except BrokenFeatures as error:
                yield stream, error

    def opened(self, key: str, made: Family, stream: str) -> NDArray[np.floating]:
        """One file's numbers (T, D), on disk until they are used. BrokenFeatures as far as the file's header tells."""
        path = made.path(self.folder, key, stream)
        name, channels = printable(path.name), made.streams[stream].channels
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:
            raise BrokenFeatures("missing", f"{name}: is missing") from None
        except (OSError, ValueError, EOFError) as error:
            raise BrokenFeatures("unreadable", f"{name}: is not a whole .npy file of numbers") from error
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.shape[1] != channels:
            shape = getattr(array, "shape", "?")
            turned = ": its axes are the other way round" if len(shape) == 2 and shape[0] == channels else ""
            raise BrokenFeatures("shape", f"{name}: expected (steps, {channels}), got {shape}{turned}")
        if array.dtype.kind != "f":
            raise BrokenFeatures("shape", f"{name}: expected floating-point numbers, got {array.dtype}")
        if len(array) == 0:
            raise BrokenFeatures("shape", f"{name}: has no steps")
        return array

    def stream(self, key: str, made: Family, stream: str) -> Array:
        """One file: (T, D). BrokenFeatures if it is missing, unreadable, of another shape or type, empty, or not
        finite."""
        array = np.array(self.opened(key, made, stream), dtype=np.float32)
        if not np.isfinite(array).all():
            name = printable(made.path(self.folder, key, stream).name)
            raise BrokenFeatures("nan", f"{name}: {int((~np.isfinite(array)).sum())} values are NaN or infinite")
        return array

    def find(self, ids: Iterable[str]) -> dict[str, list[str]]:
        """Of each id the keys of features that are described: itself, and what training kept of files of that name."""
        if not self.folder.is_dir():
            raise ConfigError(f"{printable(self.folder)}: there is no such folder")
        ids = list(ids)
        by_id: dict[str, set[str]] = {}
        for part in sorted({id.rpartition("/")[0] for id in ids if is_below(id)}):
            if not (self.folder / part).is_dir():
                continue
            for entry in os.scandir(self.folder / part):
                for ending in (DESCRIBED, BUNDLE):
                    if entry.name.endswith(ending) and not entry.name.startswith("."):
                        key = f"{part}/{entry.name}".removeprefix("/").removesuffix(ending)
                        for name in {key, KEPT.sub("", key)}:
                            by_id.setdefault(name, set()).add(key)
        return {id: [id] if id in by_id.get(id, ()) else sorted(by_id.get(id, ())) for id in ids}

    def has_published(self, key: str, made: Family) -> bool:
        """Whether there is a file of any of a family's streams."""
        return is_below(key) and any(made.path(self.folder, key, stream).is_file() for stream in made.streams)

    def _damaged(self, key: str, error: Exception) -> ConfigError:
        path = self.described(key) if self.described(key).is_file() else self.bundle(key)
        return ConfigError(f"{printable(path)}: damaged features ({error}): delete it and extract again")


def _media(facts: dict[str, Any]) -> dict[str, Any]:
    """What was known of the file. KeyError, TypeError or ValueError if it is something else."""
    info, coverage = facts["info"], facts["coverage"]
    tracks = {"video": VideoTrack, "audio": AudioTrack}
    return {
        "info": MediaInfo(
            **info
            | {name: kind(**info[name]) if info[name] else None for name, kind in tracks.items()}
            | {"path": Path(os.fsdecode(bytes.fromhex(info["path"])))}
        ),
        "coverage": Coverage(
            duration_seconds=coverage["duration_seconds"],
            **{name: tuple(coverage[name]) if coverage[name] else None for name in tracks},
            video_gaps=tuple(map(tuple, coverage.get("video_gaps", ()))),
            audio_gaps=tuple(map(tuple, coverage.get("audio_gaps", ()))),
            warnings=tuple(coverage["warnings"]),
        ),
        "lengths": facts.get("lengths", {}),
    }


class NpyFile:
    """A `.npy` file (T, D) of float32 that grows; `close` cuts it to its final length."""

    def __init__(self, path: Path, channels: int) -> None:
        self.channels = channels
        self.file = path.open("wb+")
        self._write_header(0)
        self.header_bytes = self.file.tell()

    def append(self, rows: Array) -> None:
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


@contextmanager
def _npy_file(path: Path, channels: int) -> Iterator[NpyFile]:
    with replacing(path) as temporary:
        array = NpyFile(temporary, channels)
        try:
            yield array
        finally:
            array.file.close()


def fingerprint(path: Path) -> list[int]:
    """What changes when a file does: its size in bytes and when it was last written, in nanoseconds."""
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"{printable(path)}: cannot open: {error.strerror}: check the name") from error
    return [status.st_size, status.st_mtime_ns]


def cache_key(path: Path, name: str) -> str:
    """The key of a file's features of a family among those of files of any folder: two of one name do not meet."""
    where = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]
    stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in path.stem)
    stem = stem.encode()[:80].decode(errors="ignore")  # a name may have 255 bytes, with what is added to it
    return f"{stem}-{where}.{name}"
