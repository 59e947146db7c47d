"""Names of classes as a text encoder embeds them, in a small file that travels without the encoder.

Shapes: C classes, D channels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from davel.core.errors import ConfigError, printable
from davel.core.files import replacing
from davel.formats import read_annotations

SCHEMA = "davel.embeddings/1"
UNIT = 1e-3
"""How far from one the norm of a row may be."""


@dataclass(frozen=True, eq=False)
class TextEmbeddings:
    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    """What was embedded of each."""
    rows: NDArray[np.float32]
    """(C, D), of unit norm"""
    family: str
    """Of features whose text tower made them."""
    encoder_sha256: str
    """Of the encoder's weights; empty where it is not known."""
    notice: str = ""
    """Who made them, and under which licence, where davel did not."""

    def __post_init__(self) -> None:
        C = len(self.labels)
        if len(set(self.labels)) != C:
            raise ValueError("a class's name stands there twice")
        if len(self.prompts) != C or self.rows.ndim != 2 or len(self.rows) != C:
            raise ValueError(f"{C} classes have {len(self.prompts)} prompts and rows of {self.rows.shape}")
        if C and not np.abs(np.linalg.norm(self.rows, axis=1) - 1).max() < UNIT:
            raise ValueError("a row is not of unit norm")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextEmbeddings) and (self.facts, True) == (
            other.facts,
            np.array_equal(self.rows, other.rows),
        )

    def __hash__(self) -> int:
        return hash(self.labels)

    @property
    def facts(self) -> dict[str, str]:
        """Everything but the rows, as it is stored."""
        return {
            "schema": SCHEMA,
            "labels": json.dumps(self.labels),
            "prompts": json.dumps(self.prompts),
            "family": self.family,
            "encoder_sha256": self.encoder_sha256,
            **({"notice": self.notice} if self.notice else {}),
        }

    def of_classes(self, labels: tuple[str, ...]) -> TextEmbeddings:
        """Of these classes only, in their order. ConfigError as `of`."""
        rows, prompts = self.of(labels), dict(zip(self.labels, self.prompts, strict=True))
        return replace(self, labels=labels, prompts=tuple(prompts[label] for label in labels), rows=rows)

    def of(self, labels: tuple[str, ...]) -> NDArray[np.float32]:
        """The rows of these classes, in their order. ConfigError names those that there are none of."""
        if missing := [label for label in labels if label not in self.labels]:
            raise ConfigError(
                f"no embeddings of {', '.join(map(printable, missing[:5]))}: make them with `davel features embed`"
            )
        return self.rows[[self.labels.index(label) for label in labels]]

    def save(self, path: Path) -> None:
        """Float32 rows, and everything else as metadata. ConfigError if nothing can be written there."""
        try:
            with replacing(path) as temporary:
                save_file({"embeddings": np.ascontiguousarray(self.rows, np.float32)}, temporary, self.facts)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{printable(path)}: cannot write the embeddings: {error}") from error

    @classmethod
    def load(cls, path: Path) -> TextEmbeddings:
        """ConfigError if the file is no such, or damaged."""
        try:
            with safe_open(path, framework="numpy") as file:
                facts, rows = file.metadata() or {}, file.get_tensor("embeddings")
            if facts["schema"] != SCHEMA:
                raise ValueError(f"expected schema {SCHEMA!r}, got {facts['schema']!r}")
            labels, prompts = (tuple(map(str, json.loads(facts[name]))) for name in ("labels", "prompts"))
            notice = facts.get("notice", "")
            return cls(labels, prompts, rows, facts["family"], facts["encoder_sha256"], notice)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{printable(path)}: not a file of class embeddings ({error}): make it again") from error


def read_labels(path: Path) -> tuple[str, ...]:
    """The classes of annotations, in their order, or the lines of a text file. ConfigError if there are none."""
    if path.suffix != ".txt":
        labels = read_annotations(path, durations=False).labels
    else:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{printable(path)}: cannot read the names of classes: {error}") from error
        labels = tuple(line.strip() for line in lines if line.strip())
    if not labels:
        raise ConfigError(f"{printable(path)}: names no classes")
    if len(set(labels)) < len(labels):
        repeated = next(label for label in labels if labels.count(label) > 1)
        raise ConfigError(f"{printable(path)}: names {printable(repeated)!r} twice: name each class once")
    return tuple(labels)
