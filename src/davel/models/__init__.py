"""The networks, one paper per file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from davel.core.config import Lines, parse, place
from davel.core.errors import ConfigError
from davel.models.ccnet import CCNet, CCNetConfig
from davel.models.published import from_published
from davel.models.pyramid import Network, NetworkConfig, Outputs
from davel.models.unav import Unav, UnavConfig

__all__ = [
    "CCNet",
    "CCNetConfig",
    "Network",
    "NetworkConfig",
    "Outputs",
    "Unav",
    "UnavConfig",
    "build",
    "from_published",
    "parse_network",
]

CONFIGS: dict[str, type[CCNetConfig] | type[UnavConfig]] = {"ccnet": CCNetConfig, "unav": UnavConfig}


def build(config: NetworkConfig | Mapping[str, Any]) -> Network:
    """The network that `config` describes, with fresh weights.

    `config` is a configuration or a mapping with its fields; ConfigError names a key or value that does not fit.
    """
    config = config if isinstance(config, NetworkConfig) else parse_network(config, "model")
    if isinstance(config, CCNetConfig):
        return CCNet(config)
    assert isinstance(config, UnavConfig)
    return Unav(config)


def parse_network(
    values: Mapping[str, Any], source: str, lines: Lines | None = None, within: tuple[str, ...] = ()
) -> CCNetConfig | UnavConfig:
    """The configuration with these fields, of the network that `name` says (default: ccnet); as `config.parse`."""
    name = values.get("name", "ccnet")
    if name not in CONFIGS:
        where = f"{place(source, lines or {}, (*within, 'name'))}: {'.'.join((*within, 'name'))}"
        raise ConfigError(f"{where}: unknown network {name!r}: choose from {', '.join(CONFIGS)}")
    return parse(CONFIGS[name], values, source, lines, within)
