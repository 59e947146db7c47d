"""What `davel train` can be told, as values. Nothing here needs torch: the command line reads it for its help."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from davel.core.errors import printable
from davel.core.options import OptionError, option

if TYPE_CHECKING:
    from davel.train.recipe import TrainConfig


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What of a configuration is another this time, and what it is computed with."""

    data: Path | None = None
    """The folder that the data's paths are taken from."""
    output: Path | None = option(None, "-o", "--output")
    """The run's folder instead of the configuration's."""
    change: list[str] | None = option(None, "--set", metavar="KEY=VALUE")
    """Another value, as recipe.epochs=5."""
    resume: bool = False
    """Go on with the run in the output folder."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""

    def configured(self, config: str) -> TrainConfig:
        """The configuration in a YAML file, or a shipped one, with these changes. ConfigError if it does not fit."""
        from davel.train.recipe import load_train_config

        settings = load_train_config(config, self.data, self.change or ())
        return settings if self.output is None else replace(settings, output=self.output)


def whole_numbers(text: str) -> tuple[int, ...]:
    """Of `0,1,2`."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected whole numbers by commas, got {text!r}") from None


@dataclass(frozen=True, kw_only=True)
class AblateOptions:
    """At what scale the rows of a table are trained and tested."""

    data: Path
    """The data set's folder, in UnAV-100's layout."""
    output: Path = option(Path("runs/ablation"), "-o", "--output")
    """Folder for the runs, shared by tables."""
    config: str = "ccnet-i3d"
    """The configuration that rows differ from."""
    classes: int | None = option(None, minimum=1)
    """Only so many classes, those with most events."""
    videos: int | None = option(None, minimum=1)
    """Only so many videos for training, a third of it to test."""
    width: int | None = option(None, minimum=4)
    """Channels of a modality (a quarter of it for each class)."""
    epochs: int | None = option(None, minimum=2)
    """Passes over the videos, a ninth of them to warm up."""
    seeds: tuple[int, ...] = option((0,), text=whole_numbers, shown="0")
    """Seeds, by commas: the table then has means and standard deviations."""
    change: list[str] | None = option(None, "--set", metavar="KEY=VALUE")
    """Another value, as recipe.batch_size=8."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""

    @property
    def changes(self) -> list[str]:
        """The options as changes of the configuration, whatever its model. OptionError if its model has no width."""
        from davel.models import model_module
        from davel.train.recipe import model_of

        scale = {"data.classes": self.classes, "data.limit": self.videos, "recipe.epochs": self.epochs}
        if self.epochs:
            scale["recipe.warmup_epochs"] = max(self.epochs // 9, 1)
        changes = [f"{key}={value}" for key, value in scale.items() if value is not None] + (self.change or [])
        if not self.width:
            return changes
        model = model_of(self.config, changes)
        fields = model_module(model).Config.scaled(self.width)
        if not fields:
            raise OptionError("width", f"the model {printable(model)} has no `scaled` sizes: set its fields with --set")
        return [f"model.{key}={value}" for key, value in fields.items()] + changes

    def configured(self) -> TrainConfig:
        """What rows differ from. ConfigError if something does not fit."""
        from davel.train.recipe import load_train_config

        return replace(load_train_config(self.config, self.data, self.changes), output=self.output)
