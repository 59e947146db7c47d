"""`davel plot`: pictures of what models find in annotated videos."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path

import typer

from davel.cli import console
from davel.cli.options import with_options
from davel.core.options import option


@dataclass(frozen=True, kw_only=True)
class PlotOptions:
    """What is drawn of annotated videos."""

    model: list[str] = option(MISSING, "-m", "--model")
    """A model; give several to compare them."""
    data: Path
    """The data set's folder, in UnAV-100's layout."""
    output: Path = option(Path("."), "-o", "--output")
    """Folder for ID.png."""
    threshold: float | None = option(None, minimum=0, maximum=1)
    """Least score of an event (default: each model's)."""
    device: str = "auto"
    """auto, cpu, cuda, ..."""


@with_options(PlotOptions)
def plot(
    videos: list[str] = typer.Argument(help="Ids of annotated videos."),
    *,
    options: PlotOptions,
) -> None:
    """Draw the true events, those of each model and both gates on one time axis (the paper's Figure 4)."""
    from davel.core.errors import ConfigError, printable
    from davel.data.sources import DataConfig
    from davel.evaluate.compare import compare_models
    from davel.localize import load
    from davel.plot import draw_compared, require_matplotlib

    require_matplotlib()
    names = _names(options.model)
    if len(set(names)) < len(names):
        raise typer.BadParameter(f"two models have one name: {', '.join(names)}", param_hint="-m")
    localizers = {name: load(path, options.device) for name, path in zip(names, options.model, strict=True)}
    config = DataConfig.unav100(options.data)
    annotated = config.annotated().videos
    if unknown := [key for key in videos if key not in annotated]:
        raise ConfigError(f"{printable(unknown[0])}: is not among the {len(annotated)} annotated videos")
    dataset = config.open({key: annotated[key] for key in videos})
    options.output.mkdir(parents=True, exist_ok=True)
    with console.progress() as report:
        for done, key in enumerate(videos):
            report("plot", done, len(videos), key)
            print(
                draw_compared(
                    compare_models(localizers, dataset, key, options.threshold), options.output / f"{key}.png"
                )
            )


def _names(models: list[str]) -> list[str]:
    """What to call the models: as short as tells them apart."""
    paths = [Path(m).parts for m in models]
    for n in range(1, max(map(len, paths)) + 1):
        names = ["/".join(parts[-n:]) for parts in paths]
        if len(set(names)) == len(names) and "best" not in names:
            return names
    return list(models)
