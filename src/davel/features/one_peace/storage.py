"""Converted weights: one encoder in a safetensors file, its large matrices with fewer bits, its names ours.

A released checkpoint of 15 GB is read once, tensor by tensor, and is not needed again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from davel.compute.checkpoint import map_checkpoint
from davel.core.errors import ConfigError, printable
from davel.core.files import replacing
from davel.core.progress import Report, silent
from davel.features.family import Precision
from davel.features.one_peace.encoder import Encoder, check_shapes, released_state
from davel.features.weights import free_bytes, sha256

SCHEMA = "davel.one-peace/1"
TYPE_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
ALIGNMENT = 8


class StoredEncoder:
    """A converted file. Whatever is asked for is read anew, so that nothing of it stays in memory."""

    def __init__(self, path: Path, kind: type[Encoder]) -> None:
        """ConfigError if it is no such file, not whole, or of another encoder."""
        self.path, name = path, kind.branch.name
        again = f"make it again: `davel weights convert one-peace-{name}`"
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                self.shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{printable(path)}: damaged, or not whole ({error}): {again}") from error
        if facts.get("schema") != SCHEMA:
            raise ConfigError(f"{printable(path)}: not a converted encoder of ONE-PEACE: {again}")
        if facts["branch"] != name:
            raise ConfigError(f"{printable(path)}: is the {facts['branch']} encoder, expected {name}: {again}")
        self.sizes = check_shapes(kind, self.shapes)
        self.weights: str = facts["weights"]
        """The type of its matrices."""
        self.source_sha256: str = facts["source_sha256"]

    def tensors(self, device: torch.device, prefix: str = "", without: str | None = None) -> dict[str, Tensor]:
        """Copies on a device of those whose name begins with a prefix, which is left out, and not with another one."""
        wanted = [
            name for name in self.shapes if name.startswith(prefix) and not (without and name.startswith(without))
        ]
        with safe_open(self.path, framework="pt") as file:
            return {name.removeprefix(prefix): file.get_tensor(name).to(device, copy=True) for name in wanted}

    @property
    def num_bytes(self) -> int:
        return self.path.stat().st_size

    @property
    def layer_bytes(self) -> int:
        return self.num_bytes // max(int(self.sizes.layers), 1)


def convert(kind: type[Encoder], source: Path, target: Path, precision: Precision, report: Report = silent) -> None:
    """One encoder of a released checkpoint, in a file of its own. Memory: its largest tensor.

    ConfigError if the source is not whole or something else, if a value is beyond the type, or if there is no room.
    """
    state = released_state(kind, map_checkpoint(source))
    types = {name: getattr(torch, precision) if _is_reduced(name, x) else torch.float32 for name, x in state.items()}
    size = sum(x.numel() * types[name].itemsize for name, x in state.items())
    if size > (free := free_bytes(target.parent)):
        raise ConfigError(
            f"{printable(target)}: takes {size / 1e9:.1f} GB, {free / 1e9:.1f} GB are free there: make room or set "
            "DAVEL_HOME"
        )
    step = f"one-peace-{kind.branch.name}, MB"
    report(step, 0, size / 1e6, "checksum of the source")
    facts = {
        "schema": SCHEMA,
        "branch": kind.branch.name,
        "weights": precision,
        "source": source.name,
        "source_sha256": _digest(source, source.stat().st_mtime_ns),
    }
    write_tensors(
        target,
        {name: (types[name], tuple(x.shape)) for name, x in state.items()},
        lambda name: _reduced(name, state[name], types[name], source),
        facts,
        lambda done: report(step, done / 1e6, size / 1e6),
    )


def check_checkpoint(path: Path, kinds: Iterable[type[Encoder]]) -> Path:
    """A released checkpoint, if it has these encoders whole. ConfigError if not."""
    tensors = map_checkpoint(path)
    for kind in kinds:
        released_state(kind, tensors)
    return path


def write_tensors(
    path: Path,
    described: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    tensor: Callable[[str], Tensor],
    metadata: Mapping[str, str],
    tell: Callable[[int], None] = lambda done: None,
) -> None:
    """A safetensors file, of which one tensor at a time is in memory; it is there whole or not at all."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, (dtype, shape) in described.items():
        begin, end = end, end + torch.Size(shape).numel() * dtype.itemsize
        header[name] = {"dtype": TYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in described:
            file.write(tensor(name).contiguous().flatten().view(torch.uint8).numpy().data)
            tell(file.tell() - 8 - len(text))


@lru_cache(maxsize=4)
def _digest(path: Path, modified: int) -> str:
    """Two encoders may be made of one file."""
    return sha256(path)


def _is_reduced(name: str, x: Tensor) -> bool:
    """Matrices of layers and word vectors; norms, scales, biases and what lies before and behind layers stay."""
    return x.dim() == 2 and name.startswith(("layers.", "words."))


def _reduced(name: str, x: Tensor, dtype: torch.dtype, source: Path) -> Tensor:
    """A copy of that type. ConfigError if a value is none, or beyond it."""
    copied = x.to(dtype, copy=True)
    if not copied.isfinite().all():
        other = "is damaged: fetch it again" if not x.isfinite().all() else "has larger ones: use --to bfloat16"
        raise ConfigError(f"{printable(source)}: {name!r} has values that {dtype} cannot hold: the file {other}")
    return copied
