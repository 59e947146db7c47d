"""PyTorch checkpoints of whatever origin, read as tensors only."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from davel.core.errors import ConfigError

HELD_AS = ("model", "state_dict")
"""Where a trainer's checkpoint has its weights."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A PyTorch checkpoint; ConfigError if it holds more than tensors and plain values, or is damaged."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the checkpoint: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{path}: refused: the file is damaged or wants to run code on loading; "
            "save it again as a plain state dict of tensors"
        ) from error
    except Exception as error:  # on bytes that are no checkpoint, the reader may trip over anything
        raise ConfigError(f"{path}: not a PyTorch checkpoint, or a damaged one") from error
    if isinstance(content, Tensor) or not isinstance(content, dict):
        raise ConfigError(f"{path}: expected a dict of tensors, got {type(content).__name__}")
    return content


def map_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint of any size, by name, mapped from the file: each takes memory only when it is copied.

    Whatever else the file holds, a trainer's configuration or a planted call, becomes an inert placeholder: nothing but
    tensors is made, imported or called. ConfigError if it is no checkpoint, is not whole, or cannot be mapped.
    """
    _require_zip(path)
    try:
        content = torch.load(path, map_location="cpu", mmap=True, weights_only=False, pickle_module=_InertPickle)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the checkpoint: {error.strerror or error}") from error
    except Exception as error:  # on bytes that are no checkpoint, the reader may trip over anything
        raise ConfigError(f"{path}: not a PyTorch checkpoint, or a damaged one: fetch it again") from error
    held = content if isinstance(content, Mapping) else {}
    held = next((held[key] for key in HELD_AS if isinstance(held.get(key), Mapping)), held)
    tensors = {name: x for name, x in held.items() if isinstance(name, str) and isinstance(x, Tensor)}
    if not tensors:
        raise ConfigError(f"{path}: holds no tensors by name")
    return tensors


def _require_zip(path: Path) -> None:
    """ConfigError unless the file is a whole one of the format that can be mapped, whose directory is its end."""
    try:
        with path.open("rb") as file:
            first, whole = file.read(2), zipfile.is_zipfile(file)
            size = path.stat().st_size
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the checkpoint: {error.strerror}") from error
    if whole:
        return
    if first == b"PK":
        raise ConfigError(f"{path}: is not whole, its end is missing after {size:,} bytes: go on with the download")
    if first[:1] == b"\x80":
        raise ConfigError(
            f"{path}: is of PyTorch's format before 1.6, which takes memory for all of it at once: save it again by a "
            "newer PyTorch"
        )
    raise ConfigError(f"{path}: not a PyTorch checkpoint: fetch it again")


class _Inert:
    """Stands for whatever a checkpoint names that is no tensor, takes all that is done to it, and does nothing."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return super().__new__(cls)

    def __call__(self, *_: object, **__: object) -> _Inert:
        return self

    def __setstate__(self, _: object) -> None: ...

    def __setitem__(self, _: object, __: object) -> None: ...

    def append(self, _: object) -> None: ...

    def extend(self, _: object) -> None: ...

    def add(self, _: object) -> None: ...


_HARMLESS: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
}
"""All that a checkpoint may have made; types of storage are torch's own reader's."""


class _InertPickle:
    """What `torch.load` takes for the module `pickle`."""

    class Unpickler(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            return _HARMLESS.get((module, name), _Inert)
