"""What `davel train` can be told, as values. Nothing here needs torch: the command line reads it for its help."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from davel.core.options import option

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
