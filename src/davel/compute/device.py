"""Where networks run."""

from __future__ import annotations

import torch

from davel.core.errors import ConfigError


def choose_device(name: str | torch.device) -> torch.device:
    """`auto` is the first accelerator there is. ConfigError if `name` is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {str(name)!r} is not there: choose auto, cpu or what `torch` sees") from error
    return device
