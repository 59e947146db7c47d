"""Which files are meant by names of files, folders and globs, and what each is called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from davel.core.errors import ConfigError
from davel.core.facts import MEDIA_SUFFIXES

GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Input:
    """A file that is meant."""

    path: Path
    within: Path
    """Its name within the folder or glob that it is from, without its suffix; that of the file alone if it is named."""


def named(inputs: Sequence[Path]) -> Iterator[tuple[Input, Path]]:
    """Each file that is meant, with a name for what is made of it: its stem; where two of a folder or a glob have one,
    their folder and stem.

    ConfigError if a folder or glob holds no video. Files that are named singly may still share a name.
    """
    files = meant(inputs)
    short = Counter(file.path.stem for file in files)
    return ((file, Path(file.path.stem) if short[file.path.stem] == 1 else file.within) for file in files)


def meant(inputs: Sequence[Path]) -> list[Input]:
    """The files meant by files, folders (the videos right in them) and globs, in order and each once.

    A file that is not there stays, for its reader to complain of. ConfigError if a folder or glob holds no video.
    """
    files: dict[Path, Input] = {}
    for path in inputs:
        if path.is_dir():
            found = sorted(p for p in path.iterdir() if p.suffix.lower() in MEDIA_SUFFIXES and p.is_file())
            if not found:
                raise ConfigError(f"{path}: no videos in this folder: name files, or a folder that has some")
            top = path.resolve().name
            named = [Input(p, Path(top, p.stem)) for p in found]
        elif not path.exists() and GLOB.search(str(path)):
            parent, pattern = Path(path.anchor or "."), str(path.relative_to(path.anchor) if path.anchor else path)
            found = sorted(p for p in parent.glob(pattern) if p.is_file())
            if not found:
                raise ConfigError(f"{path}: no file has such a name")
            fixed = next(n for n, part in enumerate(path.parts) if GLOB.search(part))
            named = [Input(p, _below(p, fixed)) for p in found]
        else:
            named = [Input(path, Path(path.stem))]
        for file in named:
            files.setdefault(file.path, file)
    return list(files.values())


def _below(path: Path, depth: int) -> Path:
    """The name of a glob's file below the folder that the glob is fixed to; never one that climbs out of there."""
    parts = path.parts[depth:-1]
    return Path(*(() if ".." in parts else parts), path.stem)
