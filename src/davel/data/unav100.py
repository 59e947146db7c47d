"""UnAV-100's layout of a data set: where its annotations and features lie, and of which family these are."""

from __future__ import annotations

from pathlib import Path

from davel.core.errors import ConfigError, printable
from davel.features.family import families

ANNOTATIONS = Path("annotations", "unav100_annotations.json")
FEATURES = Path("av_features")
"""Where a data set in UnAV-100's layout keeps them."""


def find_kind(folder: Path) -> str:
    """The family of the features in a folder; ConfigError if there is none, or more than one."""
    if not folder.is_dir():
        raise ConfigError(f"{printable(folder)}: there is no such folder")
    known = families()
    endings = {path.name.rpartition("_")[2] for path in folder.glob("*.npy")}
    found = [name for name, made in known.items() if endings & {f"{s.rpartition('_')[2]}.npy" for s in made.streams}]
    if len(found) != 1:
        what = " and ".join(found) if found else "no .npy files of a known family's names"
        raise ConfigError(f"{printable(folder)}: holds {what}: choose one of {', '.join(known)}")
    return found[0]
