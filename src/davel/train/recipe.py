"""What a training is: its recipe, how it is computed, and the YAML files that say so.

Configurations of the papers are shipped (`configs/`), with the released settings; where a paper says otherwise, a key
names the choice.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from davel.core.config import Lines, parse, place, put, read_yaml
from davel.core.errors import ConfigError, printable
from davel.data.sources import DataConfig
from davel.detection import DecodeSettings
from davel.features.spec import MODALITIES
from davel.models import DEFAULT, parse_network
from davel.models.targets import REGRESSION_RANGES, Ranges


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
    crop_keeps: float = 0.5
    """The least part of an event that must lie in what is seen for it to stay."""
    crop_beyond: float = 0.0
    """Steps on either side of what is seen that still count as seen, to which events are cut; UniAV's are half a
    feature's window."""
    swap_audio: float = 0.0
    """The part of the videos that are given the sound of another one: what is then only seen or only heard is no event.
    Not in the released recipe."""
    join: float = 0.0
    """The part of the videos that another one follows, so that a model meets cuts as long recordings have them. Not in
    the released recipe."""
    initial_positive: float = 250.0
    """What the running mean of positive points, by which the losses are divided, starts from."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    """The paper says Adam, the released code uses AdamW."""
    boundaries: Literal["diou", "giou"] = "diou"
    """The loss of the boundaries: the paper says GIoU, the released code uses the distance IoU."""
    regression_ranges: Ranges = REGRESSION_RANGES
    """For each level, the reach in steps of the finest one of the events that it is responsible for."""
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(f"warmup_epochs must be in [0, epochs), got {self.warmup_epochs} of {self.epochs}")
        if self.batch_size < 1 or self.learning_rate <= 0 or self.clip_norm <= 0:
            raise ValueError("batch_size, learning_rate and clip_norm must be positive")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        for name, part in (("swap_audio", self.swap_audio), ("join", self.join)):
            if not 0 <= part <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {part}")
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ValueError(f"crop must be two parts, 0 < least <= most <= 1, got {self.crop}")
        if not 0 <= self.crop_keeps <= 1 or self.crop_beyond < 0:
            raise ValueError(
                f"crop_keeps must be in [0, 1] and crop_beyond at least 0, got {self.crop_keeps}, {self.crop_beyond}"
            )
        if any(low >= high for low, high in self.regression_ranges):
            raise ValueError(f"regression_ranges must be pairs of least < most, got {self.regression_ranges}")


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How the same training is computed; a run may be resumed with another choice."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: matrix products in half the bits (autocast); weights, losses and averages stay float32."""
    compile: bool = False
    """Let torch.compile fuse the network."""
    accumulate: int = 1
    """Pieces that a batch is computed in, one after the other: the same losses in less memory."""
    checkpoint_activations: bool = False
    """Compute the blocks' inner values again instead of keeping them: the same losses in less memory.

    On the CPU some blocks then go through in pieces, which draw other branches for `drop_path`."""
    workers: int = field(default_factory=lambda: min(os.cpu_count() or 1, 8))
    """Threads that read features ahead."""

    def __post_init__(self) -> None:
        if self.accumulate < 1 or self.workers < 1:
            raise ValueError("accumulate and workers must be at least 1")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    name: str
    """The model's name."""
    output: Path
    """The run's folder: `best/` and `last/` (models), `log.jsonl`, `state.pt` (what a resume needs)."""
    data: DataConfig
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of the network's configuration; its dims and classes follow from the data."""
    recipe: Recipe = field(default_factory=Recipe)
    compute: Compute = field(default_factory=Compute)
    detection: DecodeSettings | None = None
    """How candidates become events; by default as the model's own settings say."""
    storage: Literal["float32", "float16"] = "float32"
    """How the kept model's weights are stored; float16 makes its file half as large."""
    threshold: float | None = None
    """The score from which the model reports events unless told otherwise; by default the one with the best F1 on the
    validation videos."""
    tracks: tuple[str, ...] = MODALITIES
    """What a file must have for the kept model to look for events in it: `visual`, `audio`, or both. Where it has no
    other, the features of that one are zeros."""
    tensorboard: bool = False
    """Also write the log for TensorBoard, into the run's folder. Needs the extra `tensorboard`."""

    def __post_init__(self) -> None:
        if not self.tracks or not set(self.tracks) <= set(MODALITIES):
            raise ValueError(f"tracks must be some of {', '.join(MODALITIES)}, got {', '.join(self.tracks) or 'none'}")

    @property
    def weights(self) -> str:
        """Alias of `storage`."""
        warnings.warn("TrainConfig.weights is storage now", DeprecationWarning, stacklevel=2)
        return self.storage

    def beside(self, folder: Path, data: Path | None = None) -> TrainConfig:
        """The same with its relative paths taken from `folder`, those of the data from `data` if given."""

        def join(path: Path, folder: Path) -> Path:
            return Path(os.path.normpath(folder / path))

        given = {
            name: getattr(self.data, name) for name in ("annotations", "videos", "cache", "features", "embeddings")
        }
        joined: dict[str, Any] = {name: join(path, data or folder) for name, path in given.items() if path is not None}
        return replace(self, output=join(self.output, folder), data=replace(self.data, **joined))


CONFIGS = Path(__file__).parent.parent / "models" / "configs"


def load_train_config(name_or_file: str | Path, data: Path | None = None, changes: Sequence[str] = ()) -> TrainConfig:
    """The configuration in a file, or a shipped one by its name, with all its paths made whole.

    A file's paths are taken from where it stands, those of its data from `data` if given; a shipped configuration
    needs `data`, and writes to the working folder. `changes` are single values to put in place of the file's, as
    `recipe.epochs=5`.
    """
    path, is_shipped = _found(name_or_file)
    if is_shipped and data is None:
        raise ConfigError(f"{name_or_file}: needs the folder of the data set: name it with --data")
    values, lines = read_yaml(path)
    for change in changes:
        put(values, change)
    _rename_storage(values, printable(path), lines)
    config = parse(TrainConfig, values, printable(path), lines)
    parse_network(config.model, printable(path), lines, within=("model",))
    return config.beside(Path() if is_shipped else path.parent, data)


def _rename_storage(values: dict[str, Any], source: str, lines: Lines) -> None:
    """Configurations of davel 0.1 called it `weights`."""
    if "weights" not in values:
        return
    where = f"{place(source, lines, ('weights',))}: weights"
    if "storage" in values:
        raise ConfigError(f"{where}: is another name of storage, which is there too: leave it out")
    warnings.warn(f"{where}: is storage now", DeprecationWarning, stacklevel=3)
    values["storage"] = values.pop("weights")


def model_of(name_or_file: str | Path, changes: Sequence[str] = ()) -> str:
    """The name of a configuration's model, whatever else of it does not fit yet."""
    values, _ = read_yaml(_found(name_or_file)[0])
    for change in changes:
        put(values, change)
    model = values.get("model")
    return str(model.get("name", DEFAULT)) if isinstance(model, dict) else DEFAULT


def _found(name_or_file: str | Path) -> tuple[Path, bool]:
    """A configuration's file, and whether it is a shipped one."""
    path, shipped = Path(name_or_file), CONFIGS / f"{name_or_file}.yaml"
    is_shipped = shipped.is_file() and not path.exists()
    if not is_shipped and not path.suffix and not path.exists():
        known = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.yaml")))
        raise ConfigError(f"{printable(name_or_file)}: no such file or configuration: the shipped ones are {known}")
    return (shipped if is_shipped else path), is_shipped
