"""Several tasks learnt by one network (UniAV, arXiv:2404.03179): the released recipe.

An iteration is a batch and a step of the optimizer for each task in turn. An epoch has as many iterations as the task
with most batches; the others begin again. A task that gains nothing more stops, which is to train only now and then,
and goes on when it has lost something. After every epoch the averaged weights of each task are validated, and kept as
a model of its own. Stop-and-go looks at that, too: the released code validates the weights that are not averaged, and
keeps the last ones whatever they reached.

As in a training of one task, all that is random follows from the seed and the epoch's number, and everything else is
in `state.pt`.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from davel.compute import distributed as parallel
from davel.compute.checkpoint import read_checkpoint
from davel.compute.device import choose_device
from davel.core.annotations import Annotations
from davel.core.config import parse
from davel.core.errors import ConfigError, printable
from davel.core.events import EventList
from davel.core.files import replacing
from davel.data.augment import Another, Crop, Join, SwapAudio
from davel.data.dataset import Augmentation, Batch, Dataset, Sample, training_batches
from davel.evaluate import predict, score
from davel.features.embeddings import TextEmbeddings
from davel.models import Network, build
from davel.models.detector import Objective, Truth
from davel.models.saved import ModelInfo, name_classes, save_model
from davel.models.uniav import Canvas, Joint, UniAVConfig
from davel.train.loop import (
    Ema,
    Log,
    Reporting,
    backward,
    complete,
    digest_of,
    embeddings_for,
    learning_rate,
    load_data,
    optimizer_for,
    set_rate,
    threshold_of,
)
from davel.train.recipe import JointConfig, Recipe, TaskConfig

NOW_AND_THEN = 4
"""A task that has stopped trains in iterations whose number, from 0 over all epochs, is a multiple of this."""
GAIN, LOSS = 1.001, 0.995
"""Times the best mAP so far: what is more is a gain, and what is less, once stopped, a loss."""
PATIENCE = 1
"""Epochs in a row that may gain nothing."""
SAME_SECONDS = 1e-3
"""By which events of one class may differ and be one that was annotated twice."""


@dataclass
class StopAndGo:
    """Whether a task trains in every iteration, by its validation mAP after each epoch."""

    best: float = -math.inf
    bad: int = 0
    """Epochs in a row that gained nothing."""
    cool: int = 0
    """Epochs after a change that are let pass."""
    stopped: bool = False

    def look(self, average_map: float) -> None:
        """At another epoch's."""
        if average_map > GAIN * self.best:
            self.best, self.bad = average_map, 0
        else:
            self.bad += 1
        if self.cool:
            self.cool, self.bad = self.cool - 1, 0
        if self.bad > PATIENCE:
            self.stopped, self.cool, self.bad = True, 1, 0
        elif self.stopped and average_map < LOSS * self.best:
            self.stopped, self.cool, self.bad = False, 1, 0

    def trains(self, iteration: int) -> bool:
        """In the iteration of this number, counted over all epochs."""
        return not self.stopped or iteration % NOW_AND_THEN == 0


@dataclass(frozen=True)
class Resize:
    """Lays a video on a canvas before it is cropped; events that were annotated twice are taken once."""

    canvas: Canvas
    step_seconds: float

    def __call__(self, sample: Sample, another: Another, rng: np.random.Generator) -> Sample:
        kept = np.flatnonzero(~self._repeated(sample))
        lengths = torch.tensor([len(sample.visual)])
        given = Truth(torch.from_numpy(sample.segments[kept])[None], torch.from_numpy(sample.labels[kept])[None])
        truth = self.canvas.truth(given, lengths)
        learnt = truth.labels[0].numpy() >= 0
        visual, audio = (
            self.canvas.draw(torch.from_numpy(np.asarray(x, np.float32))[None], lengths)[0].numpy()
            for x in (sample.visual, sample.audio)
        )
        return Sample(sample.id, visual, audio, truth.segments[0].numpy()[learnt], truth.labels[0].numpy()[learnt])

    def _repeated(self, sample: Sample) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Events of which an earlier one is the same: (N,)"""
        apart = np.abs(sample.segments[:, None] - sample.segments).max(-1) * self.step_seconds  # (N, N)
        same = (apart <= SAME_SECONDS) & (sample.labels[:, None] == sample.labels)
        return np.asarray(np.tril(same, -1).any(1))


@dataclass
class Task:
    """One of those that are learnt together: its data, what is made small, and how far it is."""

    name: str
    config: TaskConfig
    recipe: Recipe
    annotations: Annotations
    training: Dataset
    validation: Dataset
    network: UniAVConfig
    """Of the model that is kept of it."""
    embeddings: TextEmbeddings
    seed: int
    stop: StopAndGo
    best: float | None = None
    criterion: Objective | None = None

    @classmethod
    def open(cls, name: str, config: JointConfig, report: Reporting) -> Task:
        """ConfigError if its data or its configuration do not fit."""
        task = config.tasks.given[name]
        annotations = task.data.annotated()
        training, validation = load_data(task.data, annotations, report.progress)
        if training.skipped:
            report.on_skipped(training.skipped)
        network = complete({**config.model, **task.model, "task": name}, training, annotations)
        if not isinstance(network, UniAVConfig):
            raise ConfigError(f"model: name: several tasks are learnt by uniav, got {network.name}")
        embeddings = embeddings_for(network, task.data, annotations.labels, training)
        assert embeddings is not None
        seed = int(np.random.SeedSequence([config.recipe.seed, *name.encode()]).generate_state(1)[0])
        recipe = parse(Recipe, asdict(config.recipe) | task.recipe, f"tasks: {name}: recipe")
        if len(training) < recipe.batch_size:
            raise ConfigError(
                f"tasks: {name}: {len(training)} videos make no batch of {recipe.batch_size}: lower batch_size"
            )
        return cls(name, task, recipe, annotations, training, validation, network, embeddings, seed, StopAndGo())

    @property
    def batches(self) -> int:
        """Of its videos, once."""
        return len(self.training) // self.recipe.batch_size

    def endless(self, epoch: int, iterations: int, workers: int) -> Iterator[Batch]:
        """Its batches of an epoch, begun again and again, never in the same order."""
        for again in count():
            yield from training_batches(
                self.training,
                batch_size=self.recipe.batch_size,
                augment=self._augment(),
                seed=self.seed,
                epoch=epoch * iterations + again,
                workers=workers,
            )

    def _augment(self) -> tuple[Augmentation, ...]:
        recipe, network = self.recipe, self.network
        resize = (Resize(Canvas.of(network), self.training.spec.step_seconds),) if network.canvas else ()
        crop = Crop(network.length, recipe.crop, recipe.crop_keeps, recipe.crop_beyond)
        return (SwapAudio(recipe.swap_audio), Join(recipe.join), *resize, crop)

    def model(self, network: nn.Module) -> Network:
        """As it is kept, with the weights of a network that learns."""
        model = build(self.network).to(next(network.parameters()).device)
        model.load_state_dict(network.state_dict())
        name_classes(model, self.embeddings, self.name)
        return model.eval()


class JointTrainer:
    """A configured training of several tasks, epoch by epoch."""

    def __init__(self, config: JointConfig, resume: bool, device: torch.device, report: Reporting) -> None:
        self.config, self.device, self.report = config, device, report
        self.state_file = config.output / "state.pt"
        recipe = config.recipe
        if parallel.world_size() > 1:
            raise ConfigError("several tasks are trained by one process: leave torchrun out")
        if self.state_file.exists() and not resume:
            raise ConfigError(f"{printable(config.output)}: holds a run already: resume it or choose another output")
        if recipe.batch_size % config.compute.accumulate:
            raise ConfigError(
                f"batch_size ({recipe.batch_size}) must be a multiple of accumulate ({config.compute.accumulate})"
            )
        if config.compute.compile:
            raise ConfigError("compute: compile: is for trainings of one task: leave it out")
        self.tasks = [Task.open(name, config, report) for name in config.tasks.given]
        self._share_one_table()
        self.iterations = max(task.batches for task in self.tasks)
        self._make()
        self.step, self.epoch_number = 0, 0
        lines = self._restore() if self.state_file.exists() else None
        self.log = Log(config, self.step, lines)

    def _share_one_table(self) -> None:
        """Give all tasks the table of positions of the longest; ConfigError if they differ in what they share."""
        longest = max(task.network.length for task in self.tasks)
        length = self.config.model.get("table_length", longest)
        own = dict.fromkeys(("task", "num_classes", "max_length", "canvas", "every", "margin"))
        for task in self.tasks:
            task.network = replace(task.network, table_length=length)
        first = asdict(self.tasks[0].network) | own
        for task in self.tasks[1:]:
            for key, value in (asdict(task.network) | own).items():
                if value != first[key]:
                    raise ConfigError(
                        f"tasks: {task.name}: {key} is {value!r}, of {self.tasks[0].name} {first[key]!r}: make them one"
                    )

    def _make(self) -> None:
        recipe = self.config.recipe
        torch.manual_seed(recipe.seed)
        self.joint = Joint({task.name: task.network.on_canvas() for task in self.tasks}).to(self.device).train()
        for task, network in zip(self.tasks, self.joint.networks(), strict=True):
            name_classes(network, task.embeddings, task.name)
            task.criterion = network.criterion(task.recipe).to(self.device)
            if self.config.compute.checkpoint_activations:
                network.recompute_activations()
        self.ema = Ema(self.joint, recipe.ema_decay)
        self.optimizer = optimizer_for(self.joint, recipe)

    @property
    def is_done(self) -> bool:
        return self.epoch_number >= self.config.recipe.epochs

    def epoch(self) -> dict[str, Any]:
        """So many iterations as the task with most batches has: the line of the log that says how they went."""
        recipe, began = self.config.recipe, time.monotonic()
        seeds = np.random.SeedSequence([recipe.seed, self.epoch_number])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        sums: dict[str, float] = {}
        steps = dict.fromkeys((task.name for task in self.tasks), 0)
        with ExitStack() as open_batches:
            workers = self.config.compute.workers
            batches = {
                task.name: open_batches.enter_context(
                    closing(cast(Any, task.endless(self.epoch_number, self.iterations, workers)))
                )
                for task in self.tasks
            }
            for _ in range(self.iterations):
                self._set_rate()
                for task in self.tasks:
                    if task.stop.trains(self.step):
                        steps[task.name] += 1
                        for name, value in self._learn(task, next(batches[task.name])).items():
                            sums[f"{task.name} {name}"] = sums.get(f"{task.name} {name}", 0.0) + value
                self.step += 1
                self._tell(sums, steps)
        self.epoch_number += 1
        line: dict[str, Any] = {"epoch": self.epoch_number, "step": self.step, "learning_rate": self._rate}
        means = {name: value / steps[name.partition(" ")[0]] for name, value in sums.items()}
        norms = [means.pop(f"{task.name} gradient_norm", 0.0) for task in self.tasks]
        line |= means | {"gradient_norm": float(np.mean(norms))}
        line["videos_per_second"] = round(sum(steps.values()) * recipe.batch_size / (time.monotonic() - began), 2)
        return line

    def _learn(self, task: Task, batch: Batch) -> dict[str, float]:
        """A step of one task: its losses by name. A parameter that it does not have is left as it is, but in the
        average. FloatingPointError if the loss is not finite."""
        assert task.criterion is not None
        network = self.joint.tasks[task.name]
        self.optimizer.zero_grad()
        losses: dict[str, Tensor] = backward(
            network, task.criterion, batch, task.network.num_classes, self.device, self.config.compute
        )
        norm = nn.utils.clip_grad_norm_(self.joint.parameters(), self.config.recipe.clip_norm)
        told = dict(zip([*losses, "gradient_norm"], torch.stack([*losses.values(), norm]).tolist(), strict=True))
        if not all(map(math.isfinite, told.values())):
            raise FloatingPointError(
                f"the loss of {task.name} is not finite at step {self.step} ({told}): lower the learning rate"
            )
        self.optimizer.step()
        self.ema.update(self.joint)
        return told

    def _tell(self, sums: dict[str, float], steps: dict[str, int]) -> None:
        means = {name: value / max(steps[name.partition(" ")[0]], 1) for name, value in sums.items()}
        shown = " ".join(f"{name} {value:.3f}" for name, value in means.items() if not name.endswith("gradient_norm"))
        total = self.config.recipe.epochs * self.iterations
        self.report.progress("train", self.step, total, f"epoch {self.epoch_number + 1} · {shown}")

    @property
    def _rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def _set_rate(self) -> None:
        recipe = self.config.recipe
        warmup, total = recipe.warmup_epochs * self.iterations, recipe.epochs * self.iterations
        set_rate(self.optimizer, learning_rate(self.step, warmup, total, recipe))

    def validate_and_keep(self, line: dict[str, Any], began: float) -> None:
        """Each task's model as `last`, and as `best` if it is; the state that a resume needs; the log's line."""
        validation: dict[str, Any] = {}
        for task in self.tasks:
            model = task.model(self.ema.model.tasks[task.name])
            found = predict(model, task.validation, task.config.detection, precision=self.config.compute.precision)
            figures = score(found, task.validation.videos, task.network.num_classes)
            self._keep(task, model, found, figures)
            if self.config.stop_and_go:
                task.stop.look(figures["average_mAP"])
            validation[task.name] = figures | {"stopped": task.stop.stopped}
        mean = float(np.mean([figures["average_mAP"] for figures in validation.values()]))
        line |= {"validation": {"average_mAP": round(mean, 6)} | validation}
        line["seconds"] = round(time.monotonic() - began, 2)
        self.log.lines.append(line)
        with replacing(self.state_file) as temporary:
            torch.save(self._state(), temporary)
        self.log.write()
        self.report.on_epoch(line)

    def _keep(self, task: Task, model: Network, found: dict[str, EventList], figures: dict[str, Any]) -> None:
        training = task.training
        info = ModelInfo(
            name=f"{self.config.name}-{task.name}",
            config=task.network,
            features=training.spec,
            labels=task.annotations.labels,
            prompts=task.embeddings.prompts,
            embeddings=task.embeddings,
            threshold=threshold_of(task.config.threshold, found, task.validation, task.network.num_classes),
            figures={"validation": figures, "epoch": self.epoch_number}
            | ({"data": training.origin} if training.origin else {})
            | ({"skipped": len(training.skipped)} if training.skipped else {}),
        )
        folders = [self.config.output / "last" / task.name]
        if task.best is None or figures["average_mAP"] > task.best:
            task.best = figures["average_mAP"]
            folders.append(self.config.output / "best" / task.name)
        for folder in folders:
            save_model(folder, model, info, getattr(torch, self.config.storage))

    @property
    def _identity(self) -> dict[str, Any]:
        """What a run cannot be resumed without: plain values, by the names of a configuration's keys."""
        tasks = {
            task.name: {
                "model": asdict(task.network),
                "recipe": asdict(task.recipe),
                "embeddings": digest_of(task.embeddings),
                "videos": hashlib.sha256("\n".join(task.training.videos).encode()).hexdigest(),
            }
            for task in self.tasks
        }
        whole = {"recipe": asdict(self.config.recipe), "stop_and_go": self.config.stop_and_go, "tasks": tasks}
        return cast("dict[str, Any]", json.loads(json.dumps(whole)))

    def _state(self) -> dict[str, Any]:
        tasks = {
            task.name: {
                "criterion": cast(nn.Module, task.criterion).state_dict(),
                "stop_and_go": asdict(task.stop),
                "best": task.best,
            }
            for task in self.tasks
        }
        return {
            "model": self.joint.state_dict(),
            "ema": self.ema.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "epoch": self.epoch_number,
            "tasks": tasks,
            "config": json.dumps(self._identity),
            "log": json.dumps(self.log.lines),
        }

    def _restore(self) -> list[dict[str, Any]]:
        """Go on from the run's last whole epoch: the lines of its log. ConfigError if it is another run's."""
        state, name = read_checkpoint(self.state_file), printable(self.state_file)
        if "tasks" not in state:
            raise ConfigError(f"{name}: is of a training of one task: choose another output")
        held = json.loads(state["config"])
        if list(held["tasks"]) != [task.name for task in self.tasks]:
            raise ConfigError(f"{name}: was made of the tasks {', '.join(held['tasks'])}: choose another output")
        if changed := _difference(held, self._identity):
            raise ConfigError(f"{name}: was made with another {changed}: choose another output")
        self.joint.load_state_dict(state["model"])
        self.ema.model.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.epoch_number = state["step"], state["epoch"]
        for task in self.tasks:
            held = state["tasks"][task.name]
            cast(nn.Module, task.criterion).load_state_dict(held["criterion"])
            task.stop, task.best = StopAndGo(**held["stop_and_go"]), held["best"]
        return cast("list[dict[str, Any]]", json.loads(state["log"]))


def _difference(before: Any, now: Any, at: str = "") -> str:
    """The path of the first value that is another, and what it was and is; empty if none is."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in dict.fromkeys([*before, *now]):
            path = f"{at}.{key}" if at else key
            if found := _difference(before.get(key), now.get(key), path):
                return found
        return ""
    return "" if before == now else f"{at} ({before!r}, is {now!r})"


def train_joint(
    config: JointConfig, *, resume: bool = False, device: str | torch.device = "auto", report: Reporting | None = None
) -> Path:
    """Train as configured; the folder of the best models, one for each task. With `resume`, go on from the run's last
    whole epoch. ConfigError if the data or the configuration do not fit, or if the run is there already."""
    with parallel.processes(choose_device(device)) as own_device:
        trainer = JointTrainer(config, resume, own_device, report or Reporting())
        while not trainer.is_done:
            began = time.monotonic()
            trainer.validate_and_keep(trainer.epoch(), began)
    return config.output / "best"
