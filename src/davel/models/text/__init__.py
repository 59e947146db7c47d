"""Embeddings of classes' names for models that read them: those that are shipped (see NOTICE), or a file's."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from davel.core.errors import ConfigError, printable
from davel.features.embeddings import TextEmbeddings

SHIPPED = Path(__file__).parent


@cache
def shipped() -> dict[str, TextEmbeddings]:
    """By the name of their data set."""
    return {path.stem: TextEmbeddings.load(path) for path in sorted(SHIPPED.glob("*.safetensors"))}


def embeddings_of(labels: tuple[str, ...], file: Path | None = None) -> TextEmbeddings:
    """Of these classes, in their order: of the file, or of those shipped that know all of them.

    The file is one of `davel features embed`, or an array (`.npy`) with a row for each of the classes. ConfigError
    names classes that there are none of.
    """
    if file is None:
        known = sorted(shipped().values(), key=lambda e: len(set(labels) & set(e.labels)))
        return known[-1].of_classes(labels)
    if file.suffix == ".npy":
        return _of_array(labels, file)
    given = TextEmbeddings.load(file)
    try:
        return given.of_classes(labels)
    except ConfigError as error:
        raise ConfigError(f"{printable(file)}: {error}") from error


def _of_array(labels: tuple[str, ...], file: Path) -> TextEmbeddings:
    """As UniAV's are released: nothing but the rows, by label_id."""
    try:
        rows = np.load(file, allow_pickle=False).astype(np.float32)
        return TextEmbeddings(labels, labels, rows, "one-peace", "", f"rows of {file.name} by label_id")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{printable(file)}: not an array with a row of unit norm for each class: {error}") from error


def drawn(labels: tuple[str, ...], dim: int) -> TextEmbeddings:
    """Directions by lot, always the same of a name, for features that are drawn by lot, too."""
    rows = np.stack([np.random.default_rng(list(label.encode())).standard_normal(dim) for label in labels])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return TextEmbeddings(labels, labels, rows.astype(np.float32), "simulated", "", "drawn by lot: no text was read")
