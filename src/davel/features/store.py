"""Features on disk: one safetensors file per video, with the protocol and the media facts they were made with."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from davel.compute.pool import Failed, each
from davel.core.errors import ConfigError, MediaError, printable
from davel.core.files import replacing
from davel.features.family import read_spec
from davel.features.reading import Features, extract, spec_of
from davel.features.spec import FeatureSpec
from davel.media import AudioTrack, Coverage, MediaInfo, VideoTrack

SCHEMA = "davel.features/1"


def describe(
    spec: FeatureSpec, info: MediaInfo, coverage: Coverage, lengths: dict[str, int], source: list[int] | None
) -> dict[str, Any]:
    """What is kept with features, as plain values; `source` is the file's fingerprint from before it was read."""
    return {
        "schema": SCHEMA,
        "spec": spec.to_dict(),
        "info": asdict(info) | {"path": os.fsencode(info.path).hex()},
        "coverage": asdict(coverage),
        "lengths": lengths,
        "source": source or fingerprint(info.path),
    }


def understand(facts: dict[str, Any]) -> dict[str, Any]:
    """The same as `Features` has it. KeyError, TypeError, ValueError or ConfigError if it is something else."""
    info, coverage = facts["info"], facts["coverage"]
    return {
        "spec": read_spec(facts["spec"]),
        "info": MediaInfo(
            **info
            | {
                "path": Path(os.fsdecode(bytes.fromhex(info["path"]))),
                "video": VideoTrack(**info["video"]),
                "audio": AudioTrack(**info["audio"]),
            }
        ),
        "coverage": Coverage(
            duration_seconds=coverage["duration_seconds"],
            video=tuple(coverage["video"]),
            audio=tuple(coverage["audio"]),
            video_gaps=tuple(map(tuple, coverage.get("video_gaps", ()))),
            audio_gaps=tuple(map(tuple, coverage.get("audio_gaps", ()))),
            warnings=tuple(coverage["warnings"]),
        ),
        "lengths": facts.get("lengths", {}),
    }


def save(features: Features, path: Path, source: list[int] | None = None) -> None:
    """Write features whole or not at all; `source` is the file's fingerprint from before it was read."""
    facts = describe(features.spec, features.info, features.coverage, features.lengths, source)
    tensors = {"visual": np.ascontiguousarray(features.visual), "audio": np.ascontiguousarray(features.audio)}
    with replacing(path) as temporary:
        temporary.write_bytes(serialize(tensors, metadata={"davel": json.dumps(facts)}))


def load(path: Path, expect: FeatureSpec | None = None) -> Features:
    """Features from a file. ConfigError if it is damaged, of another kind, or not made as `expect` says."""
    facts = _facts(path)
    try:
        known = understand(facts)
        if expect is not None:
            expect.require(known["spec"], "what is expected", printable(path))
        with safe_open(path, framework="numpy") as file:
            return Features(**{key: file.get_tensor(key) for key in ("visual", "audio")}, **known)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{printable(path)}: damaged features ({error}): delete the file and extract again"
        ) from error


def _facts(path: Path) -> dict[str, Any]:
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


def fingerprint(path: Path) -> list[int]:
    """What changes when a file does: its size in bytes and when it was last written, in nanoseconds."""
    try:
        status = path.stat()
    except OSError as error:
        raise MediaError(f"{printable(path)}: cannot open: {error.strerror}: check the name") from error
    return [status.st_size, status.st_mtime_ns]


def cache_path(path: Path, cache: Path, extractor: str) -> Path:
    """Where a file's features are kept: files of one name in two folders do not meet."""
    where = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]
    stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in path.stem)
    stem = stem.encode()[:80].decode(errors="ignore")  # a name may have 255 bytes, with what is added to it
    return cache / f"{stem}-{where}.{extractor}.safetensors"


def cached(path: Path, cache: Path, extractor: str) -> Features:
    """A file's features: those kept if neither the file nor the protocol has changed, else extracted and kept."""
    kept = cache_path(path, cache, extractor)
    if is_fresh(path, kept, extractor):
        return load(kept, spec_of(extractor))
    source = fingerprint(path)
    features = extract(path, extractor)
    _make_folder(cache)
    try:
        save(features, kept, source)
    except (SafetensorError, OSError) as error:
        raise ConfigError(f"{printable(kept)}: cannot write: {error}: make room or name another folder") from error
    return features


def _make_folder(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{printable(cache)}: cannot make this folder: {error.strerror}: name another") from error


def is_fresh(path: Path, kept: Path, extractor: str) -> bool:
    """Whether `kept` holds what `path` would give."""
    if not kept.is_file():
        return False
    try:
        facts = _facts(kept)
        return bool(facts["source"] == fingerprint(path) and read_spec(facts["spec"]) == spec_of(extractor))
    except (ConfigError, KeyError):
        return False


@dataclass(frozen=True)
class Extracted:
    """Where each file's features are, and why others have none."""

    paths: dict[Path, Path]
    failures: dict[Path, str]


def extract_many(
    paths: Sequence[Path],
    cache: Path,
    extractor: str = "light",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Extracted:
    """The features of many files, in parallel; only those are extracted that are not kept yet.

    A file that cannot be read does not stop the others. ConfigError if nothing can be written to `cache`.
    """
    _make_folder(cache)
    kept = {path: cache_path(path, cache, extractor) for path in paths}
    missing = [path for path in paths if not path.exists() or not is_fresh(path, kept[path], extractor)]
    done = len(paths) - len(missing)
    if progress:
        progress(done, len(paths))
    failures: dict[Path, str] = {}
    workers = min(workers or os.cpu_count() or 1, max(len(missing), 1))
    extract_one = partial(_extract_one, cache=cache, extractor=extractor)
    with closing(each(extract_one, missing, workers=workers)) as answers:
        for answer in answers:
            path = answer.job
            if isinstance(answer, Failed):
                failures[path] = f"{printable(path)}: {answer.reason}: convert it, or use fewer workers"
            elif answer.value is not None:
                failures[path] = answer.value
            done += 1
            if progress:
                progress(done, len(paths))
    return Extracted({path: kept[path] for path in paths if path not in failures}, failures)


def _extract_one(path: Path, cache: Path, extractor: str) -> str | None:
    """Runs in a process of its own; why it failed, if it did."""
    try:
        cached(path, cache, extractor)
    except MediaError as error:
        return str(error)
    return None
