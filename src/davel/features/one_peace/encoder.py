"""What the three encoders share: sizes that are read from tensors, and weights that stay in memory or come from a file
layer by layer.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from davel.core.errors import ConfigError
from davel.features.one_peace.names import Branch

FLOAT32_BYTES = 4
Shapes = Mapping[str, tuple[int, ...]]


class Stored(Protocol):
    """Weights in a file, by our names."""

    @property
    def shapes(self) -> Shapes: ...

    def tensors(self, device: torch.device, prefix: str = "", without: str | None = None) -> dict[str, Tensor]:
        """Copies on a device of those whose name begins with a prefix, which is left out, and not with another one."""
        ...


class Encoder(nn.Module, ABC):
    """Its layers keep the type that they are stored in; all else is float32 but word vectors."""

    branch: ClassVar[Branch]
    Sizes: ClassVar[Any]
    sizes: Any
    precision: torch.dtype
    """In which layers compute."""
    layers: Iterable[nn.Module]

    @staticmethod
    @abstractmethod
    def new_layer(sizes: Any) -> nn.Module:
        """Of these sizes, with fresh weights."""

    @property
    @abstractmethod
    def num_tokens(self) -> int:
        """Of one sequence that it is made for."""

    @classmethod
    def from_published(cls, checkpoint: Mapping[str, Tensor], precision: torch.dtype = torch.float32) -> Self:
        """Of the tensors of a released checkpoint, which may hold other branches. ConfigError if one is missing, left
        over, or does not fit the others."""
        state = released_state(cls, checkpoint)
        model = cls._sized(shapes_of(state), precision)
        model.load_state_dict(_in_memory(state), assign=True)
        return model.eval().requires_grad_(False)

    @classmethod
    def from_file(cls, stored: Stored, precision: torch.dtype, device: torch.device, streamed: bool) -> Self:
        """Of a converted file: whole, or with layers that are read one at a time whenever they are needed."""
        sizes = check_shapes(cls, stored.shapes)
        model = cls._sized(stored.shapes, precision, 0 if streamed else None)
        state = stored.tensors(device, without="layers." if streamed else None)
        model.load_state_dict(_in_memory(state), assign=True)
        model = model.eval().requires_grad_(False)
        if streamed:
            del model.layers  # a list of modules, and it is empty
            model.layers = StreamedLayers(stored, cls, sizes, device)
        return model

    @classmethod
    def _sized(cls, shapes: Shapes, precision: torch.dtype, layers: int | None = None) -> Self:
        with torch.device("meta"):
            return cls(cls.Sizes.of(shapes, num_layers(shapes) if layers is None else layers), precision)

    def working_bytes(self, rows: int, at_once: int) -> int:
        """Memory beside the weights for so many sequences, of which a layer takes so many at a time; about."""
        D, inner = int(self.sizes.width), int(self.sizes.inner)
        return FLOAT32_BYTES * self.num_tokens * (3 * rows * D + at_once * (3 * inner + 8 * D))


class StreamedLayers:
    """Layers that are in memory only while one iterates over them, one at a time."""

    def __init__(self, stored: Stored, kind: type[Encoder], sizes: Any, device: torch.device) -> None:
        self.stored, self.kind, self.sizes, self.device = stored, kind, sizes, device

    def __iter__(self) -> Iterator[nn.Module]:
        for i in range(self.sizes.layers):
            with torch.device("meta"):
                layer = self.kind.new_layer(self.sizes)
            layer.load_state_dict(self.stored.tensors(self.device, f"layers.{i}."), assign=True)
            yield layer.eval().requires_grad_(False)


def released_state(kind: type[Encoder], checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A released encoder's tensors by our names, as they lie in the file. ConfigError as `Encoder.from_published`."""
    state = kind.branch.state(checkpoint)
    state = {name: x[0, 0] if x.dim() == 3 and name in ("cls", "cls_position") else x for name, x in state.items()}
    state = {name: x[0] if name == "times" and x.dim() == 3 else x for name, x in state.items()}
    for name, x in state.items():
        if not x.is_floating_point():
            raise ConfigError(f"not a released checkpoint of ONE-PEACE: {name!r} is of {x.dtype}")
    check_shapes(kind, shapes_of(state))
    return state


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(x.shape) for name, x in state.items()}


def num_layers(shapes: Shapes) -> int:
    return 1 + max((int(name.split(".")[1]) for name in shapes if name.startswith("layers.")), default=-1)


def check_shapes(kind: type[Encoder], shapes: Shapes) -> Any:
    """The sizes of an encoder of just these tensors. ConfigError if one is missing, left over, or does not fit."""
    what = f"ONE-PEACE's {kind.branch.name} encoder"
    try:
        sizes = kind.Sizes.of(shapes, num_layers(shapes))
        with torch.device("meta"):
            expected = shapes_of(kind(sizes).state_dict())
    except KeyError as error:
        raise ConfigError(f"not {what}: {error.args[0]!r} is missing") from error
    except (ValueError, TypeError, ZeroDivisionError, RuntimeError, IndexError) as error:
        raise ConfigError(f"not {what}: its tensors are of no sizes that fit") from error
    if missing := expected.keys() - shapes.keys():
        raise ConfigError(f"not {what}: {len(missing)} tensors are missing, first {min(missing)!r}")
    if unknown := shapes.keys() - expected.keys():
        raise ConfigError(f"not {what}: {len(unknown)} unknown tensors, first {min(unknown)!r}")
    for name, shape in expected.items():
        if shapes[name] != shape:
            raise ConfigError(f"not {what}: {name!r} is {shapes[name]}, the others ask for {shape}")
    return sizes


def _in_memory(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Layers and word vectors as they are, all else as float32."""
    kept = ("layers.", "words.")
    return {name: x if name.startswith(kept) else x.float() for name, x in state.items()}
