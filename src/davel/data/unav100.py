"""UnAV-100's feature files: one `.npy` per video and stream in one folder.

Shapes: T steps, D channels. The streams of a video may differ in length; what only some of them have is cut off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from davel.core.errors import ConfigError, printable
from davel.features.family import Family, families

Array = NDArray[np.float32]
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


class BrokenFeatures(ConfigError):
    """A feature file that cannot be used."""

    def __init__(self, kind: Literal["missing", "unreadable", "shape", "nan"], text: str) -> None:
        super().__init__(text)
        self.kind = kind


def open_stream(folder: Path, made: Family, key: str, stream: str) -> NDArray[np.floating]:
    """One file's numbers (T, D), on disk until they are used. BrokenFeatures as far as the file's header tells."""
    path = made.path(folder, key, stream)
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


def load_stream(folder: Path, made: Family, key: str, stream: str) -> Array:
    """One file: (T, D). BrokenFeatures if it is missing, unreadable, of another shape or type, empty, or not finite."""
    array = np.array(open_stream(folder, made, key, stream), dtype=np.float32)
    if not np.isfinite(array).all():
        name = printable(made.path(folder, key, stream).name)
        raise BrokenFeatures("nan", f"{name}: {int((~np.isfinite(array)).sum())} values are NaN or infinite")
    return array
