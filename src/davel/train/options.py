"""What `davel train` can be told, as values. Nothing here needs torch: the command line reads it for its help."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from davel.core.errors import printable
from davel.core.options import OptionError, option

if TYPE_CHECKING:
    from davel.train.recipe import JointConfig, TrainConfig
    from davel.train.tables import Row, Table


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

    def configured(self, config: str) -> TrainConfig | JointConfig:
        """The configuration in a YAML file, or a shipped one, with these changes. ConfigError if it does not fit."""
        from davel.train.recipe import load_any_config

        settings = load_any_config(config, self.data, self.change or ())
        return settings if self.output is None else replace(settings, output=self.output)


def whole_numbers(text: str) -> tuple[int, ...]:
    """Of `0,1,2`."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"expected whole numbers by commas, got {text!r}") from None


@dataclass(frozen=True, kw_only=True)
class ScaleOptions:
    """At what scale the rows of a table are trained and tested."""

    classes: int | None = option(None, minimum=1)
    """Only so many classes, those with most events."""
    videos: int | None = option(None, minimum=1)
    """Only so many videos for training, a third of it to test."""
    width: int | None = option(None, minimum=4)
    """Channels of a network, its other sizes in the proportions of its paper."""
    epochs: int | None = option(None, minimum=2)
    """Passes over the videos, a ninth of them to warm up."""
    seeds: tuple[int, ...] = option((0,), text=whole_numbers, shown="0")
    """Seeds, by commas: the table then has means and standard deviations."""
    change: list[str] | None = option(None, "--set", metavar="KEY=VALUE")
    """Another value, as recipe.batch_size=8."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""

    def changes(self, config: str) -> list[str]:
        """The options as changes of a configuration, whatever its model. OptionError if its model has no width."""
        from davel.models import model_module
        from davel.train.recipe import model_of

        scale = {"data.classes": self.classes, "data.limit": self.videos, "recipe.epochs": self.epochs}
        if self.epochs:
            scale["recipe.warmup_epochs"] = max(self.epochs // 9, 1)
        changes = [f"{key}={value}" for key, value in scale.items() if value is not None] + (self.change or [])
        if not self.width:
            return changes
        model = model_of(config, changes)
        fields = model_module(model).Config.scaled(self.width)
        if not fields:
            raise OptionError("width", f"the model {printable(model)} has no `scaled` sizes: set its fields with --set")
        return [f"model.{key}={value}" for key, value in fields.items()] + changes

    def told(self) -> list[str]:
        """The scale for people."""
        parts = [
            f"{value} {name}" for name in ("classes", "videos", "epochs") if (value := getattr(self, name)) is not None
        ]
        width = [] if self.width is None else [f"width {self.width}"]
        return [*parts, *width, *(self.change or ()), f"seeds {','.join(map(str, self.seeds))}"]


@dataclass(frozen=True, kw_only=True)
class AblateOptions:
    """What the rows of a table differ from, and where they are kept."""

    data: Path
    """The data set's folder, in UnAV-100's layout."""
    output: Path = option(Path("runs/ablation"), "-o", "--output")
    """Folder for the runs, shared by tables."""
    config: str = "ccnet-i3d"
    """The configuration that rows differ from."""
    scale: ScaleOptions = field(default_factory=ScaleOptions)

    def configured(self, row: Row) -> TrainConfig:
        """A row's training. ConfigError if something does not fit."""
        from davel.train.recipe import load_train_config
        from davel.train.tables import changed

        base = load_train_config(self.config, self.data, self.scale.changes(self.config))
        return replace(base, output=self.output, model=changed(base.model, row.model))


@dataclass(frozen=True, kw_only=True)
class Table1Options:
    """On which features the methods are compared, and where they are kept."""

    i3d: Path | None = None
    """A data set's folder with I3D and VGGish features, in UnAV-100's layout."""
    one_peace: Path | None = None
    """A data set's folder with ONE-PEACE features."""
    output: Path = option(Path("runs/table1"), "-o", "--output")
    """Folder for the runs."""
    methods: str | None = None
    """Only these rows, by commas: ccnet-i3d, unav-onepeace, ... (default: all whose features are there)."""
    scale: ScaleOptions = field(default_factory=ScaleOptions)

    def __post_init__(self) -> None:
        if self.i3d is None and self.one_peace is None:
            raise OptionError(("i3d", "one_peace"), "name a data set's folder: --i3d, --one-peace or both")

    @property
    def folders(self) -> dict[str, Path]:
        """By the ending of the configurations that take them."""
        given = {"i3d": self.i3d, "onepeace": self.one_peace}
        return {name: folder for name, folder in given.items() if folder is not None}

    def table(self) -> Table:
        """The rows that are asked for. OptionError if there is no such row, or its features are not given."""
        from davel.train.tables import METHODS

        known = {row.key: row for row in METHODS.rows if row.key.rpartition("-")[2] in self.folders}
        chosen = list(known) if self.methods is None else self.methods.split(",")
        if unknown := [key for key in chosen if key not in known]:
            raise OptionError("methods", f"no row {unknown[0]!r} of these features: choose from {', '.join(known)}")
        return replace(METHODS, rows=tuple(row for key, row in known.items() if key in chosen))

    def configured(self, row: Row) -> TrainConfig:
        """A row's training. ConfigError if something does not fit."""
        from davel.train.recipe import load_train_config

        folder = self.folders[row.key.rpartition("-")[2]]
        assert row.config is not None
        return replace(load_train_config(row.config, folder, self.scale.changes(row.config)), output=self.output)
