"""A folder to train on one's own videos from: annotations and a configuration that fits them."""

from __future__ import annotations

import os
from pathlib import Path

from davel.core.annotations import Annotations
from davel.core.errors import ConfigError, printable
from davel.data.check import fit_grid
from davel.features.light import SPEC
from davel.formats import write_annotations, write_text
from davel.models import parse_network

LONGEST = 512
"""Steps at most: a longer model's weights grow with the square, and longer videos are cropped to train on."""

TEMPLATE = """\
# {videos} videos, {events} events, {classes} classes.
#
#   davel train {path}
#   davel evaluate {runs}/best --annotations {annotations} --videos {folder}
#   davel localize NEW.mp4 -m {runs}/best
name: {name}
output: {output}
data:
  annotations: annotations.json
  videos: {videos_path}
model:
  max_length: {max_length}  # holds 99 % of the videos, as far as {longest}
{sizes}recipe:
  epochs: 30
  warmup_epochs: 3
  batch_size: {batch_size}
  learning_rate: 1.5e-3
  ema_decay: {ema_decay}
  crop: [0.6, 1.0]
  regression_ranges: {ranges}  # in steps of {step:g} s
"""


def write_project(folder: Path, annotations: Annotations, videos: Path, name: str | None = None) -> Path:
    """Write `annotations.json` and `train.yaml` into `folder`, for videos in the folder `videos`: the latter's path.

    ConfigError if one of the files is there already.
    """
    config = folder / "train.yaml"
    for path in (config, folder / "annotations.json"):
        if path.exists():
            raise ConfigError(f"{printable(path)}: is there already: delete it or choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    network = parse_network({}, "model")  # the template names none
    grid = fit_grid(annotations.videos, SPEC, network)
    training = len(annotations.subset("train"))
    batch_size = min(16, 2 ** (training.bit_length() - 1))
    steps = 30 * (training // batch_size)
    name = name or folder.resolve().name
    text = TEMPLATE.format(
        name=_yaml(name),
        output=_yaml(f"runs/{name}"),
        videos=len(annotations.videos),
        events=sum(len(video.events) for video in annotations.videos.values()),
        classes=len(annotations.labels),
        path=config,
        runs=folder / "runs" / name,
        annotations=folder / "annotations.json",
        folder=videos,
        videos_path=_yaml(os.path.relpath(videos, folder)),
        max_length=min(grid.length_for_most, LONGEST),
        longest=LONGEST,
        sizes="".join(f"  {key}: {value}\n" for key, value in network.small().items()),
        batch_size=batch_size,
        ema_decay=min(0.99, round(1 - 1 / max(0.1 * steps, 2), 3)),  # averages over a tenth of the training
        ranges=[[int(low), int(high)] for low, high in grid.ranges],
        step=SPEC.step_seconds,
    )
    write_annotations(folder / "annotations.json", annotations)
    write_text(config, text)
    return config


def _yaml(text: str) -> str:
    """A string as a YAML value: quoted where it might read as something else."""
    plain = all(c.isalnum() or c in "_-./" for c in text) and not text[:1].isdigit() and text[:1] not in "-."
    return text if plain and text.lower() not in ("null", "true", "false", "yes", "no", "on", "off") else _quoted(text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
