"""Training: the released recipe, on any annotated folder of videos or features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from davel.core.lazy import attributes

if TYPE_CHECKING:
    from davel.train.joint import StopAndGo, train_joint
    from davel.train.loop import (
        Ema,
        Reporting,
        Run,
        Trainer,
        fit,
        learning_rate,
        load_data,
        losses_of,
        optimizer_for,
        train,
    )
    from davel.train.options import TrainOptions
    from davel.train.recipe import Compute, JointConfig, Recipe, TrainConfig, load_train_config

__all__ = [
    "Compute",
    "Ema",
    "JointConfig",
    "Recipe",
    "Reporting",
    "Run",
    "StopAndGo",
    "TrainConfig",
    "TrainOptions",
    "Trainer",
    "fit",
    "learning_rate",
    "load_data",
    "load_train_config",
    "losses_of",
    "optimizer_for",
    "train",
    "train_joint",
]

_HOMES = {
    "joint": ("StopAndGo", "train_joint"),
    "loop": (
        "Ema",
        "Reporting",
        "Run",
        "Trainer",
        "fit",
        "learning_rate",
        "load_data",
        "losses_of",
        "optimizer_for",
        "train",
    ),
    "options": ("TrainOptions",),
    "recipe": ("Compute", "JointConfig", "Recipe", "TrainConfig", "load_train_config"),
}

__getattr__ = attributes(
    __name__, _HOMES, {"checkpoint_activations": "davel.models.detector:Network.recompute_activations"}
)
