"""Models on disk: a folder with `model.safetensors` (the weights) and `model.json` (everything else).

Everything else is the model's configuration, the features that it reads, the names of its classes, and what was
measured of it. What a text encoder makes of these names is in `classes.safetensors`, where a model reads it.
Checkpoints of other origin are read as tensors only.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from davel.compute.checkpoint import read_checkpoint
from davel.core.annotations import Vocabulary
from davel.core.errors import ConfigError, MissingError, printable
from davel.core.files import replacing
from davel.features.embeddings import TextEmbeddings
from davel.features.family import read_spec, spec_of_dims
from davel.features.spec import MODALITIES, FeatureSpec
from davel.models import Network, NetworkConfig, build, from_published, parse_network, published_module
from davel.models.text import embeddings_of

SCHEMA = "davel.model/1"
EMBEDDINGS = "classes.safetensors"
"""The file of the embeddings of a model's classes."""
BUILTIN = Path(__file__).parent.parent / "builtin"


@dataclass(frozen=True)
class ModelInfo:
    """What a model's folder says of it, besides its weights."""

    name: str
    config: NetworkConfig
    features: FeatureSpec
    labels: tuple[str, ...]
    threshold: float
    """The score from which its events are reported unless told otherwise."""
    figures: dict[str, Any]
    """What was measured of it."""
    thresholds: tuple[float, ...] | None = None
    """The score of each class with the best F1 on validation videos, where they were fitted."""
    prompts: tuple[str, ...] | None = None
    """A sentence for each class, for models that read what a class is."""
    tracks: tuple[str, ...] = MODALITIES
    """What a file must have for it to find anything: visual, audio, or both."""
    embeddings: TextEmbeddings | None = None
    """Of its classes' names, with what made them, where it reads what a class is."""
    stand_ins: Mapping[str, str] = field(default_factory=dict)
    """Of classes that it was not trained on, the one whose boundaries are taken for theirs."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The classes, by label_id. ValueError if two have one name."""
        return Vocabulary(self.labels, self.prompts, None if self.embeddings is None else self.embeddings.rows)


def save_model(folder: Path, model: Network, info: ModelInfo, dtype: torch.dtype = torch.float32) -> None:
    """Write `model` into `folder`, each file whole or not at all; its weights are stored as `dtype`.

    ConfigError if it reads embeddings of its classes, and `info` has none of just these.
    """
    _check_embeddings(info, f"the model {info.name!r}")
    folder.mkdir(parents=True, exist_ok=True)
    if info.embeddings is None:
        (folder / EMBEDDINGS).unlink(missing_ok=True)
    else:
        info.embeddings.save(folder / EMBEDDINGS)
    with replacing(folder / "model.safetensors") as temporary:
        state = {key: x.detach().cpu().to(dtype).contiguous() for key, x in model.state_dict().items()}
        temporary.write_bytes(save(state))
    _write(folder, info)


def _check_embeddings(info: ModelInfo, source: str) -> None:
    """ConfigError unless the embeddings are of the model's classes, and there where it reads them."""
    if info.embeddings is None:
        if info.config.text_dim:
            raise ConfigError(f"{source}: reads what its classes are: give it their embeddings ({EMBEDDINGS})")
    elif difference := info.vocabulary.difference(info.embeddings.labels, theirs="the file of embeddings"):
        raise ConfigError(f"{source}: embeddings of other classes than the model's: {difference}")


def _write(folder: Path, info: ModelInfo) -> None:
    with replacing(folder / "model.json") as temporary:
        temporary.write_text(json.dumps(plain_info(info), indent=2) + "\n", encoding="utf-8")


def plain_info(info: ModelInfo) -> dict[str, Any]:
    """As it is stored; what few models have is left out where there is none."""
    content = {"schema": SCHEMA, **asdict(replace(info, embeddings=None)), "features": info.features.to_dict()}
    del content["embeddings"]  # which have a file of their own
    usual: dict[str, Any] = {"prompts": None, "tracks": MODALITIES, "stand_ins": {}}
    return {name: value for name, value in content.items() if name not in usual or value != usual[name]}


def info_of(content: dict[str, Any], source: Path) -> ModelInfo:
    """What was stored. ConfigError if it is nothing of the kind, or does not fit together."""
    name = printable(source)
    try:
        if content.get("schema") != SCHEMA:
            raise ConfigError(f"{name}: expected schema {SCHEMA!r}, got {content.get('schema')!r}")
        info = ModelInfo(
            name=content["name"],
            config=parse_network(content["config"], f"{name}: config"),
            features=read_spec(content["features"]),
            labels=tuple(content["labels"]),
            threshold=float(content["threshold"]),
            figures=content["figures"],
            thresholds=tuple(map(float, given)) if (given := content.get("thresholds")) else None,
            prompts=None if content.get("prompts") is None else _texts(content, "prompts"),
            tracks=_texts(content, "tracks") if "tracks" in content else MODALITIES,
            stand_ins={str(label): str(other) for label, other in content.get("stand_ins", {}).items()},
        )
        if info.prompts is not None:
            Vocabulary(info.labels, info.prompts)
        if not info.tracks or not set(info.tracks) <= set(MODALITIES):
            raise ConfigError(f"{name}: tracks is {content['tracks']!r}: expected some of {', '.join(MODALITIES)}")
    except ConfigError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{name}: not a model's description: {error!r}") from error
    if info.thresholds is not None and len(info.thresholds) != len(info.labels):
        raise ConfigError(
            f"{name}: has {len(info.thresholds)} thresholds for {len(info.labels)} labels: fit them again"
        )
    if (info.config.num_classes, info.config.visual_dim, info.config.audio_dim) != (
        len(info.labels),
        info.features.visual_dim,
        info.features.audio_dim,
    ):
        raise ConfigError(
            f"{name}: the network has {info.config.num_classes} classes and reads "
            f"{info.config.visual_dim} + {info.config.audio_dim} channels, but there are {len(info.labels)} labels and "
            f"{info.features.visual_dim} + {info.features.audio_dim} channels of features"
        )
    return info


def _texts(content: dict[str, Any], name: str) -> tuple[str, ...]:
    given = content[name]
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise ValueError(f"{name}: expected a list of texts, got {given!r}")
    return tuple(given)


def keep_thresholds(folder: Path, info: ModelInfo, thresholds: tuple[float, ...]) -> None:
    """Store the score thresholds of a model's classes beside its weights. ConfigError if it is a built-in model."""
    if folder.resolve().parent == BUILTIN.resolve():
        raise ConfigError(f"{info.name}: is built in and stays as it is: copy its folder and name that")
    _write(folder, replace(info, thresholds=thresholds))


def load_model(name_or_dir: str | Path) -> tuple[Network, ModelInfo, str]:
    """A model by its built-in name or its folder: the network, what is known of it, and its weights' sha256.

    MissingError if there is none, ConfigError if its files do not fit together.
    """
    folder = find_model(name_or_dir)
    path = folder / "model.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{printable(path)}: not a model's description: {error!r}") from error
    info = info_of(content, path)
    if (folder / EMBEDDINGS).exists():
        info = replace(info, embeddings=TextEmbeddings.load(folder / EMBEDDINGS))
    _check_embeddings(info, printable(folder))
    weights = folder / "model.safetensors"
    try:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        state = {key: x.float() for key, x in load_file(weights).items()}
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{printable(weights)}: cannot read the weights: {error}") from error
    model = build(info.config)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(f"{printable(weights)}: these are not the weights of {printable(path)}") from error
    if info.embeddings is not None and info.config.text_dim:
        name_classes(model, info.embeddings, printable(folder / EMBEDDINGS))
    return model.eval(), info, digest


def name_classes(model: Network, embeddings: TextEmbeddings, source: str) -> None:
    """Tell a network what its classes are. ConfigError if the embeddings are not of the kind that it reads."""
    try:
        model.name_classes(torch.from_numpy(embeddings.rows))
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from error


def import_published(
    checkpoint: Path,
    folder: Path,
    labels: tuple[str, ...],
    name: str | None = None,
    *,
    task: str | None = None,
    embeddings: Path | None = None,
) -> ModelInfo:
    """Make a model's folder of a checkpoint that was released with one of davel's models.

    Its features follow from its channels, the names of its classes are `labels`, by label_id. Of a checkpoint of
    several tasks, `task` is the one that is taken; `embeddings` are those of its classes' names, see
    `davel.models.text.embeddings_of`. ConfigError if the file is no such checkpoint, if it has another number of
    classes, or if the folder holds a model already.
    """
    if (folder / "model.json").exists():
        raise ConfigError(f"{printable(folder)}: holds a model already: choose another folder")
    content = read_checkpoint(checkpoint)
    settings: dict[str, Any] = {} if task is None else {"task": task}
    text = None
    if published_module(content).Config.text_dim:
        text = embeddings_of(labels, embeddings)
        settings["class_embeddings"] = text.rows
    elif embeddings is not None:
        raise ConfigError(f"{printable(checkpoint)}: knows its classes by their number: leave the embeddings out")
    model = from_published(content, **settings)
    config = model.config
    if len(labels) != config.num_classes:
        raise ConfigError(f"{printable(checkpoint)}: has {config.num_classes} classes, the annotations {len(labels)}")
    dims = (config.visual_dim, config.audio_dim)
    features = spec_of_dims(*dims)
    if features is None:
        raise ConfigError(
            f"{printable(checkpoint)}: reads {dims[0]} + {dims[1]} channels, as no published features have"
        )
    figures = {"origin": f"released checkpoint {printable(checkpoint.name)}"}
    prompts = None if text is None else text.prompts
    info = ModelInfo(
        name or folder.resolve().name, config, features, labels, 0.5, figures, prompts=prompts, embeddings=text
    )
    save_model(folder, model, info)
    return info


def find_model(name_or_dir: str | Path) -> Path:
    """The given folder, or that of a built-in model; a folder of a built-in's name that holds no model hides none."""
    folder = Path(name_or_dir)
    if not (folder / "model.json").is_file() and (BUILTIN / name_or_dir).is_dir():
        folder = BUILTIN / name_or_dir
    if not (folder / "model.json").is_file() or not (folder / "model.safetensors").is_file():
        known = ", ".join(sorted(path.parent.name for path in BUILTIN.glob("*/model.json")))
        raise MissingError(
            f"no model {printable(name_or_dir)!r}: expected a folder with model.json and model.safetensors, "
            f"or a built-in name ({known or 'none'})"
        )
    return folder
