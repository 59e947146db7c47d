"""Training: the released recipe, on any annotated folder of videos or features.

AdamW with a linear warm-up and a cosine, clipped gradients, an exponential moving average of the weights (EMA), random
crops. After every epoch the averaged weights are validated, and the best are kept as a model that `davel.load` takes.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from davel.data.annotations import Annotations, read_annotations
from davel.data.dataset import Batch, Dataset, training_batches
from davel.data.folder import DataConfig
from davel.detection import Criterion, DecodeSettings
from davel.errors import ConfigError, printable
from davel.evaluate import predict, score
from davel.files import replacing
from davel.models import Network, NetworkConfig, build, parse_network
from davel.models.blocks import Conv, DepthwiseConv
from davel.weights import ModelInfo, read_checkpoint, save_model


@dataclass(frozen=True, kw_only=True)
class Recipe:
    epochs: int = 45
    """Passes over the videos, the warm-up among them."""
    warmup_epochs: int = 5
    batch_size: int = 16
    learning_rate: float = 1e-4
    final_learning_rate: float = 1e-8
    weight_decay: float = 1e-4
    """Of the weights of convolutions and linears only."""
    clip_norm: float = 1.0
    """The gradient's largest norm."""
    ema_decay: float = 0.999
    crop: tuple[float, float] = (0.9, 1.0)
    """The part of a video's steps that is seen at a time, at least and at most."""
    swap_audio: float = 0.0
    """The part of the videos that are given the sound of another one: what is then only seen or only heard is no event.
    Not in the released recipe."""
    initial_positive: float = 250.0
    """What the running mean of positive points, by which the losses are divided, starts from."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(f"warmup_epochs must be in [0, epochs), got {self.warmup_epochs} of {self.epochs}")
        if self.batch_size < 1 or self.learning_rate <= 0 or self.clip_norm <= 0:
            raise ValueError("batch_size, learning_rate and clip_norm must be positive")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        if not 0 <= self.swap_audio <= 1:
            raise ValueError(f"swap_audio must be in [0, 1], got {self.swap_audio}")
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ValueError(f"crop must be two parts, 0 < least <= most <= 1, got {self.crop}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    name: str
    """The model's name."""
    output: Path
    """The run's folder: `best/` (the model), `log.jsonl`, `state.pt` (what a resume needs)."""
    data: DataConfig
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of the network's configuration; its dims and classes follow from the data."""
    recipe: Recipe = field(default_factory=Recipe)
    detection: DecodeSettings = field(default_factory=DecodeSettings)
    weights: Literal["float32", "float16"] = "float32"
    """How the kept model's weights are stored; float16 makes its file half as large."""
    threshold: float = 0.5
    """The score from which the model reports events unless told otherwise."""

    def beside(self, folder: Path) -> TrainConfig:
        """The same with its relative paths taken from `folder`."""

        def join(path: Path) -> Path:
            return Path(os.path.normpath(folder / path))

        given = {name: getattr(self.data, name) for name in ("annotations", "videos", "cache", "features")}
        joined: dict[str, Any] = {name: join(path) for name, path in given.items() if path is not None}
        data = replace(self.data, **joined)
        return replace(self, output=join(self.output), data=data)


class Ema:
    """An exponential moving average of a model's weights."""

    def __init__(self, model: Network, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for average, parameter in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(parameter, 1 - self.decay)


def learning_rate(step: int, warmup_steps: int, num_steps: int, recipe: Recipe) -> float:
    """Of a step (from 0): linear from 0, then half a cosine."""
    if step < warmup_steps:
        return recipe.learning_rate * step / max(warmup_steps - 1, 1)
    done = (step - warmup_steps) / (num_steps - warmup_steps)
    final = recipe.final_learning_rate
    return final + (recipe.learning_rate - final) * (1 + math.cos(math.pi * done)) / 2


def optimizer_for(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW that decays the weights of convolutions and linears, and nothing else."""
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_weight = isinstance(module, Conv | DepthwiseConv | nn.Linear) and name == "weight"
            (decayed if is_weight else others).append(parameter)
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


@dataclass(frozen=True)
class Progress:
    """Told after every step."""

    step: int
    num_steps: int
    epoch: int
    parts: dict[str, float]
    """The losses by name."""
    best: float | None
    """The best validation average mAP so far."""


@dataclass
class Run:
    """A training under way; `state` and `restore` carry all of it."""

    model: Network
    ema: Ema
    criterion: Criterion
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    num_steps: int
    warmup_steps: int
    step: int = 0
    epoch: int = 0
    best: float | None = None

    @classmethod
    def start(cls, config: NetworkConfig, recipe: Recipe, steps_per_epoch: int) -> Run:
        torch.manual_seed(recipe.seed)
        model = build(config).train()
        return cls(
            model=model,
            ema=Ema(model, recipe.ema_decay),
            criterion=Criterion(recipe.initial_positive).train(),
            optimizer=optimizer_for(model, recipe),
            recipe=recipe,
            num_steps=recipe.epochs * steps_per_epoch,
            warmup_steps=recipe.warmup_epochs * steps_per_epoch,
        )

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "criterion": self.criterion.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "step": self.step,
            "epoch": self.epoch,
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.ema.model.load_state_dict(state["ema"])
        self.criterion.load_state_dict(state["criterion"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        self.step, self.epoch, self.best = state["step"], state["epoch"], state["best"]


def fit(run: Run, batches: Iterator[Batch], after_step: Callable[[dict[str, float]], None]) -> None:
    """One epoch. FloatingPointError if the loss is not finite."""
    device = next(run.model.parameters()).device
    for batch in batches:
        batch = batch.to(device)
        for group in run.optimizer.param_groups:
            group["lr"] = learning_rate(run.step, run.warmup_steps, run.num_steps, run.recipe)
        outputs = run.model(batch.visual, batch.audio, batch.mask)
        loss, parts = run.criterion(outputs, batch.mask, batch.truth)
        if not loss.isfinite():
            raise FloatingPointError(f"the loss is {loss.item()} at step {run.step} ({parts}): lower the learning rate")
        loss.backward()
        norm: Tensor = nn.utils.clip_grad_norm_(run.model.parameters(), run.recipe.clip_norm)
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.ema.update(run.model)
        run.step += 1
        after_step({**parts, "gradient_norm": norm.item()})


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    device: str = "cpu",
    on_progress: Callable[[Progress], None] | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
    on_features: Callable[[int, int], None] | None = None,
) -> Path:
    """Train as configured; the folder of the best model. With `resume`, go on from the run's last whole epoch.

    `on_epoch` is given each line of the log.

    ConfigError if the data or the configuration do not fit, or if the run is there already and `resume` is not set.
    """
    state_file, log_file = config.output / "state.pt", config.output / "log.jsonl"
    if state_file.exists() and not resume:
        raise ConfigError(f"{printable(config.output)}: holds a run already: resume it or choose another output")
    annotations = read_annotations(config.data.annotations)
    training, validation = load_data(config.data, annotations, on_features)
    network = complete(config.model, training, annotations)
    steps_per_epoch = len(training) // config.recipe.batch_size
    if not steps_per_epoch:
        raise ConfigError(f"{len(training)} videos make no batch of {config.recipe.batch_size}: lower batch_size")
    run = Run.start(network, config.recipe, steps_per_epoch)
    run.model.to(device)
    run.ema.model.to(device)
    run.criterion.to(device)
    config.output.mkdir(parents=True, exist_ok=True)
    identity = json.dumps([asdict(network), asdict(config.recipe)], default=str)
    if state_file.exists():
        state = read_checkpoint(state_file)
        if state["config"] != identity:
            raise ConfigError(f"{printable(state_file)}: was made with another model or recipe: choose another output")
        run.restore(state)
    log = [line for line in _read_log(log_file) if line["step"] <= run.step]
    log_file.write_text("".join(json.dumps(line) + "\n" for line in log), encoding="utf-8")

    while run.epoch < config.recipe.epochs:
        began = time.monotonic()
        sums: dict[str, float] = {}

        def after_step(parts: dict[str, float], sums: dict[str, float] = sums) -> None:
            for key, value in parts.items():
                sums[key] = sums.get(key, 0.0) + value
            if on_progress:
                on_progress(Progress(run.step, run.num_steps, run.epoch, parts, run.best))

        recipe = config.recipe
        batches = training_batches(
            training,
            batch_size=recipe.batch_size,
            max_length=network.max_length,
            crop=recipe.crop,
            swap=recipe.swap_audio,
            seed=recipe.seed,
            epoch=run.epoch,
        )
        fit(run, batches, after_step)
        predicted = predict(run.ema.model, validation, config.detection)
        figures = score(predicted, validation.videos, network.num_classes)
        run.epoch += 1
        if run.best is None or figures["average_mAP"] > run.best:
            run.best = figures["average_mAP"]
            info = ModelInfo(
                name=config.name,
                config=network,
                features=training.spec,
                labels=annotations.labels,
                threshold=config.threshold,
                figures={"validation": figures, "epoch": run.epoch},
            )
            save_model(config.output / "best", run.ema.model, info, getattr(torch, config.weights))
        with replacing(state_file) as temporary:
            torch.save({**run.state(), "config": identity}, temporary)
        line: dict[str, Any] = {"epoch": run.epoch, "step": run.step, "seconds": round(time.monotonic() - began, 2)}
        line |= {key: value / steps_per_epoch for key, value in sums.items()} | {"validation": figures}
        with log_file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        if on_epoch:
            on_epoch(line)
    return config.output / "best"


def _read_log(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def complete(model: dict[str, Any], dataset: Dataset, annotations: Annotations) -> NetworkConfig:
    """The network's configuration with what follows from the data; ConfigError where it says something else."""
    derived = {
        "num_classes": len(annotations.labels),
        "visual_dim": dataset.spec.visual_dim,
        "audio_dim": dataset.spec.audio_dim,
    }
    for key, value in derived.items():
        if model.get(key, value) != value:
            raise ConfigError(f"model: {key}: is {value} in the data, leave it out, got {model[key]}")
    return parse_network({**model, **derived}, "model")


def load_data(
    config: DataConfig, annotations: Annotations, on_features: Callable[[int, int], None] | None = None
) -> tuple[Dataset, Dataset]:
    """The subsets for training and validation. ConfigError lists the videos that are missing or cannot be read."""
    subsets = [annotations.subset(config.train), annotations.subset(config.validation)]
    both = config.open(subsets[0] | subsets[1], on_features)
    training, validation = (replace(both, videos=videos) for videos in subsets)
    return training, validation
