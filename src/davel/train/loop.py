"""Training: the released recipe, on any annotated folder of videos or features.

AdamW with a linear warm-up and a cosine, clipped gradients, an exponential moving average of the weights (EMA), random
crops. After every epoch the averaged weights are validated, and the best are kept as a model that `davel.load` takes.

A run can end at any moment and be resumed: all that is random in an epoch follows from the seed and the epoch's number,
and everything else is in `state.pt`, written whole after each epoch.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from davel.compute import distributed as parallel
from davel.compute.checkpoint import read_checkpoint
from davel.compute.device import choose_device
from davel.core.annotations import Annotations
from davel.core.config import parse
from davel.core.errors import ConfigError, MissingError, printable
from davel.core.events import EventList
from davel.core.files import replacing
from davel.core.progress import Report, silent
from davel.data.augment import Crop, Join, SwapAudio
from davel.data.dataset import Batch, Dataset, training_batches
from davel.data.sources import DataConfig
from davel.evaluate import ANALYSED, analysis, match_videos, predict, score
from davel.features.embeddings import TextEmbeddings
from davel.models import Network, NetworkConfig, build, parse_network
from davel.models.detector import Objective
from davel.models.saved import ModelInfo, name_classes, save_model
from davel.models.text import drawn, embeddings_of
from davel.train.recipe import Compute, Recipe, TrainConfig


class Ema:
    """An exponential moving average of a model's weights."""

    def __init__(self, model: Network, decay: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.average(list(self.model.parameters()), list(model.parameters()), None)


def learning_rate(step: int, warmup_steps: int, num_steps: int, recipe: Recipe) -> float:
    """Of a step (from 0): linear from 0, then half a cosine."""
    if step < warmup_steps:
        return recipe.learning_rate * step / max(warmup_steps - 1, 1)
    done = (step - warmup_steps) / (num_steps - warmup_steps)
    final = recipe.final_learning_rate
    return final + (recipe.learning_rate - final) * (1 + math.cos(math.pi * done)) / 2


def optimizer_for(model: Network, recipe: Recipe) -> torch.optim.Optimizer:
    """What the recipe says, over the network's own groups of parameters."""
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(model.parameter_groups(recipe), lr=recipe.learning_rate, fused=True)


@dataclass
class Run:
    """A training under way; `state` and `restore` carry all of it."""

    model: Network
    forward: Callable[[Tensor, Tensor, Tensor], Any]
    """The model as it is computed: compiled, or with its gradients shared between processes."""
    ema: Ema
    criterion: Objective
    optimizer: torch.optim.Optimizer
    recipe: Recipe
    compute: Compute
    num_steps: int
    warmup_steps: int
    step: int = 0
    epoch: int = 0
    best: float | None = None

    @classmethod
    def start(
        cls, config: NetworkConfig, recipe: Recipe, compute: Compute, steps_per_epoch: int, device: torch.device
    ) -> Run:
        torch.manual_seed(recipe.seed)
        model = build(config).to(device).train()
        ema = Ema(model, recipe.ema_decay)
        if compute.checkpoint_activations:
            model.recompute_activations()
        network: nn.Module = model
        if parallel.world_size() > 1:
            network = DistributedDataParallel(model)
        return cls(
            model=model,
            forward=torch.compile(network, dynamic=True) if compute.compile else network,
            ema=ema,
            criterion=model.criterion(recipe).to(device),
            optimizer=optimizer_for(model, recipe),
            recipe=recipe,
            compute=compute,
            num_steps=recipe.epochs * steps_per_epoch,
            warmup_steps=recipe.warmup_epochs * steps_per_epoch,
        )

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "criterion": self.criterion.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "epoch": self.epoch,
            "best": self.best,
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.ema.model.load_state_dict(state["ema"])
        self.criterion.load_state_dict(state["criterion"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.epoch, self.best = state["step"], state["epoch"], state["best"]


NO_LOSSES = frozenset({"epoch", "step", "learning_rate", "gradient_norm", "validation", "videos_per_second", "seconds"})
"""What else is in a line of the log."""


def fit(run: Run, batches: Iterator[Batch], after_step: Callable[[dict[str, float]], None]) -> None:
    """One epoch. FloatingPointError if the loss is not finite."""
    device = next(run.model.parameters()).device
    num_processes = parallel.world_size()
    for batch in batches:
        for group in run.optimizer.param_groups:
            rate = learning_rate(run.step, run.warmup_steps, run.num_steps, run.recipe)
            group["lr"] = rate * group.get("factor", 1.0)
        pieces = [piece.to(device) for piece in batch.pieces(run.compute.accumulate)]
        targets = [run.criterion.targets(p.mask, p.truth, run.model.config.num_classes) for p in pieces]
        run.criterion.update(parallel.total(torch.stack([t.num_positive for t in targets]).sum(0)))
        losses: dict[str, Tensor] = {}
        for i, (piece, target) in enumerate(zip(pieces, targets, strict=True)):
            with _sharing(run, last=i == len(pieces) - 1):
                with torch.autocast(device.type, torch.bfloat16, enabled=run.compute.precision == "bfloat16"):
                    outputs = run.forward(piece.visual, piece.audio, piece.mask)
                parts = run.criterion(outputs, piece.mask, target)
                # gradients are averaged over the processes, the losses are a sum
                (sum(parts.values()) * num_processes).backward()
            losses = {name: losses.get(name, 0) + part.detach() for name, part in parts.items()}
        norm = nn.utils.clip_grad_norm_(run.model.parameters(), run.recipe.clip_norm)
        values = parallel.total(torch.stack([*losses.values(), norm / num_processes])).tolist()
        told = dict(zip([*losses, "gradient_norm"], values, strict=True))
        if not all(map(math.isfinite, values)):
            raise FloatingPointError(f"the loss is not finite at step {run.step} ({told}): lower the learning rate")
        run.optimizer.step()
        run.optimizer.zero_grad()
        run.ema.update(run.model)
        run.step += 1
        after_step(told)


def _sharing(run: Run, last: bool) -> Any:
    """Gradients go to the other processes with the last piece of a batch."""
    if isinstance(run.forward, DistributedDataParallel) and not last:
        return run.forward.no_sync()
    return nullcontext()


@dataclass(frozen=True)
class Reporting:
    """What a training tells while it runs; called in the first process only."""

    progress: Report = silent
    """Told the videos whose features are made (`extract`), and the steps of the whole training (`train`)."""
    on_epoch: Callable[[dict[str, Any]], None] = lambda line: None
    """Given each line of the log."""
    on_skipped: Callable[[tuple[str, ...]], None] = lambda ids: None
    """Given the videos that are left out because their features are missing or broken."""


def train(
    config: TrainConfig, *, resume: bool = False, device: str | torch.device = "auto", report: Reporting | None = None
) -> Path:
    """Train as configured; the folder of the best model. With `resume`, go on from the run's last whole epoch.

    Under `torchrun`, each process does its share. ConfigError if the data or the configuration do not fit, or if the
    run is there already and `resume` is not set.
    """
    with parallel.processes(choose_device(device)) as own_device:
        first = parallel.rank() == 0
        return _train(config, resume, own_device, report if report and first else Reporting())


class Trainer:
    """A configured training, epoch by epoch; under `torchrun`, one process's share of it."""

    def __init__(self, config: TrainConfig, resume: bool, device: torch.device, report: Reporting) -> None:
        self.config, self.report, self.is_first = config, report, parallel.rank() == 0
        self.state_file = config.output / "state.pt"
        recipe, world_size = config.recipe, parallel.world_size()
        if self.state_file.exists() and not resume:
            raise ConfigError(f"{printable(config.output)}: holds a run already: resume it or choose another output")
        if recipe.batch_size % (world_size * config.compute.accumulate):
            raise ConfigError(
                f"batch_size ({recipe.batch_size}) must be a multiple of the processes ({world_size}) "
                f"times accumulate ({config.compute.accumulate})"
            )
        self.annotations = config.data.annotated()
        with parallel.first_alone():
            self.training, self.validation = load_data(config.data, self.annotations, report.progress)
        if self.training.skipped:
            report.on_skipped(self.training.skipped)
        self.network = complete(config.model, self.training, self.annotations)
        self.embeddings = embeddings_for(self.network, config.data, self.annotations.labels, self.training)
        self.steps_per_epoch = len(self.training) // recipe.batch_size
        if not self.steps_per_epoch:
            raise ConfigError(f"{len(self.training)} videos make no batch of {recipe.batch_size}: lower batch_size")
        self.run = Run.start(self.network, recipe, config.compute, self.steps_per_epoch, device)
        if self.embeddings is not None:
            for model in (self.run.model, self.run.ema.model):
                name_classes(model, self.embeddings, printable(config.name))
        lines: list[dict[str, Any]] | None = None
        if self.state_file.exists():
            state = read_checkpoint(self.state_file)
            if changed := _changed(state["config"], self.network, recipe, printable(self.state_file)):
                raise ConfigError(
                    f"{printable(self.state_file)}: was made with another model or recipe ({changed}): "
                    "choose another output"
                )
            if state.get("embeddings") != digest_of(self.embeddings):
                raise ConfigError(
                    f"{printable(self.state_file)}: was made with other embeddings of its classes: "
                    "choose another output"
                )
            self.run.restore(state)
            lines = json.loads(state["log"]) if "log" in state else None
        self.log = Log(config, self.run.step, lines) if self.is_first else None

    @property
    def is_done(self) -> bool:
        return self.run.epoch >= self.config.recipe.epochs

    def epoch(self) -> dict[str, Any]:
        """One pass over the training videos: the line of the log that says how it went."""
        recipe, run, began = self.config.recipe, self.run, time.monotonic()
        seeds = np.random.SeedSequence([recipe.seed, run.epoch, parallel.rank()])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        sums: dict[str, float] = {}

        def after_step(parts: dict[str, float]) -> None:
            for key, value in parts.items():
                sums[key] = sums.get(key, 0.0) + value
            losses = " ".join(f"{name} {value:.3f}" for name, value in losses_of(parts).items())
            best = "" if run.best is None else f" · best mAP {100 * run.best:.1f}"
            self.report.progress("train", run.step, run.num_steps, f"epoch {run.epoch + 1} · {losses}{best}")

        batches = training_batches(
            self.training,
            batch_size=recipe.batch_size,
            augment=(
                SwapAudio(recipe.swap_audio),
                Join(recipe.join),
                Crop(self.network.max_length, recipe.crop, recipe.crop_keeps, recipe.crop_beyond),
            ),
            seed=recipe.seed,
            epoch=run.epoch,
            rank=parallel.rank(),
            world_size=parallel.world_size(),
            workers=self.config.compute.workers,
        )
        fit(run, batches, after_step)
        run.epoch += 1
        line: dict[str, Any] = {"epoch": run.epoch, "step": run.step, "learning_rate": _rate(run)}
        line |= {key: value / self.steps_per_epoch for key, value in sums.items()}
        seconds = time.monotonic() - began
        line["videos_per_second"] = round(self.steps_per_epoch * recipe.batch_size / seconds, 2)
        return line

    def validate(self) -> dict[str, EventList]:
        """What the averaged weights find in the validation videos, each process having looked at its share."""
        return _predict_shared(self.run.ema.model, self.validation, self.config)

    def keep(self, line: dict[str, Any], predicted: dict[str, EventList], seconds: float) -> None:
        """The model if it is the best, the last one, and all that a resume needs: the log's lines are among it."""
        config, run, training = self.config, self.run, self.training
        assert self.log is not None
        num_classes = self.network.num_classes
        figures = score(predicted, self.validation.videos, num_classes)
        info = ModelInfo(
            name=config.name,
            config=self.network,
            features=training.spec,
            labels=self.annotations.labels,
            prompts=self.embeddings.prompts if self.embeddings else self.annotations.vocabulary.prompts,
            embeddings=self.embeddings,
            tracks=config.tracks,
            threshold=_threshold(config, predicted, self.validation, num_classes),
            figures={"validation": figures, "epoch": run.epoch}
            | ({"data": training.origin} if training.origin else {})
            | ({"skipped": len(training.skipped)} if training.skipped else {}),
        )
        folders = [config.output / "last"]
        if run.best is None or figures["average_mAP"] > run.best:
            run.best = figures["average_mAP"]
            folders.append(config.output / "best")
        for folder in folders:
            save_model(folder, run.ema.model, info, getattr(torch, config.storage))
        line |= {"validation": figures, "seconds": round(seconds, 2)}
        self.log.lines.append(line)
        identity = {"model": asdict(self.network), "recipe": asdict(config.recipe)}
        with replacing(self.state_file) as temporary:
            told: dict[str, Any] = {"config": identity, "log": json.dumps(self.log.lines)}
            if self.embeddings is not None:
                told["embeddings"] = digest_of(self.embeddings)
            torch.save({**run.state(), **told}, temporary)
        self.log.write()
        self.report.on_epoch(line)


def _train(config: TrainConfig, resume: bool, device: torch.device, report: Reporting) -> Path:
    trainer = Trainer(config, resume, device, report)
    while not trainer.is_done:
        began = time.monotonic()
        line = trainer.epoch()
        predicted = trainer.validate()
        if trainer.is_first:
            trainer.keep(line, predicted, time.monotonic() - began)
    return config.output / "best"


def _changed(stored: Any, network: NetworkConfig, recipe: Recipe, source: str) -> str:
    """What is another in a run's model or recipe than it was, or an empty text; keys that are new since do not count.

    A run of davel 0.1 stored both as JSON.
    """
    held = dict(zip(("model", "recipe"), json.loads(stored), strict=True)) if isinstance(stored, str) else stored
    before = _keys(parse_network(held["model"], source), parse(Recipe, held["recipe"], source))
    now = _keys(network, recipe)
    names = [name for name in before | now if before.get(name) != now.get(name)]
    return "; ".join(f"{name} was {before.get(name)!r}, is {now.get(name)!r}" for name in names)


def _keys(network: NetworkConfig, recipe: Recipe) -> dict[str, Any]:
    """By the paths that a configuration file gives them: a model may have a key of the recipe's name."""
    parts = {"model": asdict(network), "recipe": asdict(recipe)}
    return {f"{part}.{name}": value for part, values in parts.items() for name, value in values.items()}


def _threshold(config: TrainConfig, predicted: dict[str, EventList], validation: Dataset, num_classes: int) -> float:
    if config.threshold is not None:
        return config.threshold
    fitted = analysis.fit_thresholds(match_videos(predicted, validation.videos, num_classes), ANALYSED)
    return math.floor(1000 * fitted.overall) / 1000  # no higher than the score that was chosen


def losses_of(line: dict[str, Any]) -> dict[str, float]:
    """The losses in a line of the log, by the names that the network's objective gives them."""
    return {name: value for name, value in line.items() if name not in NO_LOSSES}


def _rate(run: Run) -> float:
    return float(run.optimizer.param_groups[0]["lr"])


def _predict_shared(model: Network, dataset: Dataset, config: TrainConfig) -> dict[str, EventList]:
    """The validation videos' events, each process having found those of its share."""
    keys = list(dataset.videos)[parallel.rank() :: parallel.world_size()]
    own = replace(dataset, videos={key: dataset.videos[key] for key in keys})
    shares = parallel.gather(predict(model, own, config.detection, precision=config.compute.precision))
    return {key: events for share in shares for key, events in share.items()}


class Log:
    """A line of JSON for each epoch. The lines are kept with the run's state; the file follows from them."""

    def __init__(self, config: TrainConfig, step: int, lines: list[dict[str, Any]] | None = None) -> None:
        """`lines`: those of the run's state; None: as davel 0.1 left them, in the file alone."""
        config.output.mkdir(parents=True, exist_ok=True)
        self.path = config.output / "log.jsonl"
        kept = _read_log(self.path) if lines is None else lines
        self.lines = [line for line in kept if line["step"] <= step]
        self._render()
        self.board: Any = None
        if config.tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingError("the log for TensorBoard needs: pip install 'davel[tensorboard]'") from error
            self.board = SummaryWriter(config.output / "tensorboard", purge_step=step)

    def write(self) -> None:
        """The file, and the last line for TensorBoard."""
        self._render()
        line = self.lines[-1]
        if self.board:
            values = {key: value for key, value in line.items() if isinstance(value, int | float)}
            values["average_mAP"] = line["validation"]["average_mAP"]
            for key, value in values.items():
                self.board.add_scalar(key, value, line["step"])
            self.board.flush()

    def _render(self) -> None:
        with replacing(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8")


def _read_log(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.endswith("}")]


def complete(model: dict[str, Any], dataset: Dataset, annotations: Annotations) -> NetworkConfig:
    """The network's configuration with what follows from the data; ConfigError where it says something else."""
    derived: dict[str, Any] = {
        "num_classes": len(annotations.labels),
        "visual_dim": dataset.spec.visual_dim,
        "audio_dim": dataset.spec.audio_dim,
    }
    derived |= parse_network({**model, **derived}, "model").timed(
        dataset.spec.timing.stride, dataset.spec.timing.window
    )
    for key, value in derived.items():
        if model.get(key, value) != value:
            raise ConfigError(f"model: {key}: is {value} in the data, leave it out, got {model[key]}")
    return parse_network({**model, **derived}, "model")


def embeddings_for(
    network: NetworkConfig, config: DataConfig, labels: tuple[str, ...], dataset: Dataset
) -> TextEmbeddings | None:
    """Of the classes' names, for a network that reads them: as the data's configuration says, else those that are
    shipped. Simulated features may have any classes: where nothing is known of them, they are drawn by lot, too.

    ConfigError if there are none, or for a network that reads none.
    """
    if not network.text_dim:
        if config.embeddings is not None:
            raise ConfigError(f"data: embeddings: a {network.name} network reads none of its classes: leave it out")
        return None
    try:
        return embeddings_of(labels, config.embeddings)
    except ConfigError as error:
        if config.embeddings is None and dataset.origin is not None:
            return drawn(labels, network.text_dim)
        raise ConfigError(f"{error}, and name the file as data.embeddings") from error


def digest_of(embeddings: TextEmbeddings | None) -> str | None:
    """Of the rows, by which a run knows them again."""
    return None if embeddings is None else hashlib.sha256(embeddings.rows.tobytes()).hexdigest()


def load_data(config: DataConfig, annotations: Annotations, report: Report = silent) -> tuple[Dataset, Dataset]:
    """The subsets for training and validation. ConfigError lists the videos that are missing or cannot be read."""
    if config.validation == "test":
        raise ConfigError("data: validation: the test subset is never used for selection: name another")
    subsets = [annotations.subset(config.train), annotations.subset(config.validation)]
    both = config.open(subsets[0] | subsets[1], report)
    training, validation = (
        replace(both, videos={key: video for key, video in videos.items() if key in both.videos}) for videos in subsets
    )
    if not training.videos or not validation.videos:
        raise ConfigError(f"no video is left to train or to validate on: {len(both.skipped)} are missing or broken")
    return training, validation
