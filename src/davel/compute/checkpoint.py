"""PyTorch checkpoints of whatever origin, read as tensors only."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from davel.core.errors import ConfigError


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
