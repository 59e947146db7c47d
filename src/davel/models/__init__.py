"""The networks, one paper per file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from davel.models.ccnet import CCNet, CCNetConfig, Outputs
from davel.models.published import from_published

__all__ = ["CCNet", "CCNetConfig", "Outputs", "build", "from_published"]


def build(config: CCNetConfig | Mapping[str, Any]) -> CCNet:
    """The model that `config` describes, with fresh weights.

    `config` is a CCNetConfig or a mapping with its fields; ConfigError names a key or value that does not fit.
    """
    from davel.config import parse

    return CCNet(config if isinstance(config, CCNetConfig) else parse(CCNetConfig, config, "model"))
