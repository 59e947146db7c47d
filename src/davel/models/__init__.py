"""The networks, one paper per file.

A model is a module with `Config` (a frozen dataclass whose `name` tells it from the others) and `Model` (a
`davel.models.detector.Network` made of a configuration), and a line in `MODELS`. For checkpoints that were released
with its paper it also has `is_published(tensors)` and `from_published(tensors, **settings)`. Models of other installed
packages are found by the entry point `davel.models`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points
from inspect import signature
from typing import TYPE_CHECKING, Any

from davel.core.config import Lines, parse, place
from davel.core.errors import ConfigError
from davel.models.detector import Candidates, Network, NetworkConfig
from davel.models.outputs import Outputs
from davel.models.published import released_name, tensors_of

if TYPE_CHECKING:
    from davel.models.actionformer import ActionFormer, ActionFormerConfig
    from davel.models.ccnet import CCNet, CCNetConfig
    from davel.models.tadtr import TadTR, TadTRConfig
    from davel.models.unav import Unav, UnavConfig
    from davel.models.uniav import UniAV, UniAVConfig
    from davel.models.vsgn import VSGN, VSGNConfig

__all__ = [
    "MODELS",
    "VSGN",
    "ActionFormer",
    "ActionFormerConfig",
    "CCNet",
    "CCNetConfig",
    "Candidates",
    "Network",
    "NetworkConfig",
    "Outputs",
    "TadTR",
    "TadTRConfig",
    "Unav",
    "UnavConfig",
    "UniAV",
    "UniAVConfig",
    "VSGNConfig",
    "build",
    "from_published",
    "model_module",
    "model_names",
    "parse_network",
    "published_module",
    "published_name",
]

MODELS = {
    "ccnet": "davel.models.ccnet",
    "unav": "davel.models.unav",
    "actionformer": "davel.models.actionformer",
    "tadtr": "davel.models.tadtr",
    "vsgn": "davel.models.vsgn",
    "uniav": "davel.models.uniav",
}
"""The module of each model, imported when it is asked for."""
ENTRY_POINTS = "davel.models"
DEFAULT = "ccnet"
_CLASSES = {
    "CCNet": "ccnet",
    "CCNetConfig": "ccnet",
    "Unav": "unav",
    "UnavConfig": "unav",
    "ActionFormer": "actionformer",
    "ActionFormerConfig": "actionformer",
    "TadTR": "tadtr",
    "TadTRConfig": "tadtr",
    "VSGN": "vsgn",
    "VSGNConfig": "vsgn",
    "UniAV": "uniav",
    "UniAVConfig": "uniav",
}


def __getattr__(name: str) -> Any:
    """The papers' classes, imported when they are asked for."""
    if name in _CLASSES:
        return getattr(import_module(MODELS[_CLASSES[name]]), name)
    if name == "CONFIGS":
        warnings.warn("davel.models.CONFIGS is davel.models.MODELS, of modules, now", DeprecationWarning, stacklevel=2)
        return {model: import_module(module).Config for model, module in MODELS.items()}
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def model_names() -> list[str]:
    """Of davel's own models, then of those that other packages add."""
    return list(dict.fromkeys([*MODELS, *(point.name for point in entry_points(group=ENTRY_POINTS))]))


def model_module(name: str) -> Any:
    """The module of a model. ConfigError if there is none of that name, or if another package's cannot be imported."""
    if name in MODELS:
        return import_module(MODELS[name])
    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            try:
                module = point.load()
            except Exception as error:  # whatever another package raises
                reason = f"{type(error).__name__}: {error}"
                raise ConfigError(f"model {name!r}: {point.value} cannot be loaded: {reason}: mend it") from error
            missing = [part for part in ("Config", "Model") if not hasattr(module, part)]
            if missing:
                raise ConfigError(f"model {name!r}: {point.value} has no {' and no '.join(missing)}: mend it")
            return module
    raise ConfigError(f"unknown network {name!r}: choose from {', '.join(model_names())}")


def _modules() -> Iterator[Any]:
    """Of all models whose package can be imported: a broken one hinders nothing else."""
    for name in model_names():
        with suppress(ConfigError):
            yield model_module(name)


def broken() -> list[str]:
    """Why models of other packages cannot be used, a line each."""
    problems = []
    for point in entry_points(group=ENTRY_POINTS):
        if point.name in MODELS:
            origin = point.dist.name if point.dist else point.value
            problems.append(f"model {point.name!r} is davel's own: that of the package {origin} is not used")
            continue
        try:
            model_module(point.name)
        except ConfigError as error:
            problems.append(str(error))
    return problems


def build(config: NetworkConfig | Mapping[str, Any]) -> Network:
    """The network that `config` describes, with fresh weights.

    `config` is a configuration or a mapping with its fields; ConfigError names a key or value that does not fit.
    """
    config = config if isinstance(config, NetworkConfig) else parse_network(config, "model")
    network: Network = model_module(config.name).Model(config)
    return network


def parse_network(
    values: Mapping[str, Any], source: str, lines: Lines | None = None, within: tuple[str, ...] = ()
) -> NetworkConfig:
    """The configuration with these fields, of the network that `name` says (default: ccnet); as `config.parse`."""
    try:
        module = model_module(str(values.get("name", DEFAULT)))
    except ConfigError as error:
        where = f"{place(source, lines or {}, (*within, 'name'))}: {'.'.join((*within, 'name'))}"
        raise ConfigError(f"{where}: {error}") from error
    config: NetworkConfig = parse(module.Config, values, source, lines, within)
    return config


def from_published(checkpoint: Mapping[str, Any], max_length: int | None = None, **settings: Any) -> Network:
    """A model of ours with the weights of a released checkpoint; its kind and sizes are read from its tensors.

    `checkpoint` is a state dict, or holds one as `state_dict_ema` (taken first), `state_dict` or `model`; a leading
    `module.` of names is dropped. `max_length` and other `settings` are for models whose weights do not tell them (for
    `unav` the released 224, if it is left out). ConfigError if a tensor is missing, left over or of a shape that does
    not fit, or if a setting is not one of this kind of model.
    """
    tensors, own = tensors_of(checkpoint), published_module(checkpoint)
    given = settings | ({} if max_length is None else {"max_length": max_length})
    known = list(signature(own.from_published).parameters)[1:]
    if unknown := sorted(given.keys() - known):
        name = own.__name__.rpartition(".")[2]
        raise ConfigError(f"a released {name} checkpoint takes no {unknown[0]}: its settings are {', '.join(known)}")
    try:
        network: Network = own.from_published(tensors, **given)
    except ValueError as error:  # a configuration that cannot be
        raise ConfigError(f"not a released checkpoint with these settings: {error}") from error
    return network.eval()


def published_module(checkpoint: Mapping[str, Any]) -> Any:
    """The module of the model that a released checkpoint is of, as its tensors tell; the default one if none do.
    ConfigError if it holds none."""
    tensors = tensors_of(checkpoint)
    modules = [module for module in _modules() if hasattr(module, "is_published")]
    return next((module for module in modules if module.is_published(tensors)), model_module(DEFAULT))


def published_name(name: str, kind: str = DEFAULT) -> str:
    """The name that a parameter of a model of ours has in the checkpoints that were released with its paper."""
    return released_name(name, model_module(kind).RELEASED)
