"""Released checkpoints, read into our networks: the same weights give the same events.

Every model file knows its own released names; here is what they share. A released state dict stores convolutions as
(out, in, kernel), norms as (1, D, 1) and linears as 1x1 convolutions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from davel.core.errors import ConfigError
from davel.core.lazy import attributes

__getattr__ = attributes(__name__, moved={"from_published": "davel.models:from_published"})

Names = list[tuple[str, str | Callable[[re.Match[str]], str]]]
"""Patterns of our names and what becomes of them, applied in order: the released name."""


def tensors_of(checkpoint: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a state dict, or of one that is held as `state_dict_ema` (taken first), `state_dict` or `model`; a
    leading `module.` of names is dropped. ConfigError if there are none."""
    held = ("state_dict_ema", "state_dict", "model")
    state = next((checkpoint[key] for key in held if key in checkpoint), checkpoint)
    if not isinstance(state, Mapping) or not all(isinstance(x, Tensor) for x in state.values()):
        raise ConfigError("not a released checkpoint: expected tensors by name, or a dict with `state_dict_ema`")
    return {key.removeprefix("module."): value for key, value in state.items()}


def released_name(name: str, names: Names) -> str:
    """The released name of a parameter of ours."""
    for pattern, replacement in names:
        name = re.sub(pattern, replacement, name)
    return name


def shape_of(tensors: Mapping[str, Tensor], key: str, dims: int | None = None) -> torch.Size:
    """ConfigError if there is no such tensor, or one of another number of `dims`."""
    if key not in tensors:
        raise ConfigError(f"not a released checkpoint: {key!r} is missing")
    shape = tensors[key].shape
    if dims is not None and len(shape) != dims:
        raise _misfit(key, tensors[key])
    return shape


def _misfit(key: str, tensor: Tensor) -> ConfigError:
    return ConfigError(f"not a released checkpoint: {key!r} has a shape that does not fit, {tuple(tensor.shape)}")


VISUAL_DIMS = {2048 + 128: 2048, 1536 + 1536: 1536}
"""The visual channels of the published pairs of features, by the channels of both."""


def visual_channels(channels: int, given: int | None) -> int:
    """How many of a checkpoint's input channels, which are the visual ones and then the audio ones, are visual: as
    `given`, by default those of the published pairs of features, else all. ConfigError if there are not so many."""
    visual_dim = VISUAL_DIMS.get(channels, channels) if given is None else given
    if not 1 <= visual_dim <= channels:
        raise ConfigError(f"visual_dim must be 1 to {channels}, the checkpoint's channels, got {visual_dim}")
    return visual_dim


def take(tensors: dict[str, Tensor], key: str) -> Tensor:
    """ConfigError if there is no such tensor; it is gone from `tensors` then."""
    shape_of(tensors, key)
    return tensors.pop(key)


def take_scalars(tensors: dict[str, Tensor], keys: Sequence[str]) -> Tensor:
    """Numbers that were released one by one, as one tensor; they are gone from `tensors` then. ConfigError if one is
    missing or is no number."""
    values = []
    for key in keys:
        value = take(tensors, key)
        if value.numel() != 1:
            raise _misfit(key, value)
        values.append(value.reshape(()).float())
    return torch.stack(values)


def drain(
    network: nn.Module, tensors: dict[str, Tensor], names: Names, skip: Collection[str] = (), ones: str | None = None
) -> dict[str, Tensor]:
    """The state of `network`, but for what is to be skipped, by our names, taken out of released `tensors`.

    Parameters whose released name holds `ones` are ones where a checkpoint has none. ConfigError if a tensor is
    missing, left over, or of a shape that does not fit.
    """
    state = {}
    for ours, parameter in network.state_dict().items():
        if ours in skip:
            continue
        theirs = released_name(ours, names)
        if ones is not None and ones in theirs and theirs not in tensors:
            state[ours] = torch.ones_like(parameter)
        else:
            state[ours] = _reshape(take(tensors, theirs), parameter.shape, theirs)
    if tensors:
        kind = type(network).__name__.lower()
        raise ConfigError(f"not a released {kind} checkpoint: {len(tensors)} unknown tensors, first {min(tensors)!r}")
    return state


def _reshape(theirs: Tensor, shape: torch.Size, key: str) -> Tensor:
    """Convolutions (out, in, 3) -> (out, 3 * in), depthwise (D, 1, 3) -> (3, D), norms (1, D, 1) -> (D), others
    (out, in, 1) -> (out, in)"""
    ours = theirs
    if theirs.shape == shape:
        pass
    elif theirs.dim() == 3 and theirs.shape[1:] == (1, 3) and shape == (3, theirs.shape[0]):
        ours = theirs[:, 0].T
    elif theirs.dim() == 3 and theirs.shape[2] == 3:
        ours = theirs.transpose(1, 2).flatten(1)
    elif theirs.dim() == 3 and theirs.shape[0] == 1 and len(shape) == 1:
        ours = theirs.flatten()
    elif theirs.dim() == 3:
        ours = theirs.squeeze(2)
    if ours.shape != shape:
        raise _misfit(key, theirs)
    return ours.float().contiguous()
