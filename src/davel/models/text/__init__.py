"""Embeddings of classes' names for models that read them: those that are shipped (see NOTICE), or a file's."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from davel.core.errors import ConfigError, printable
from davel.features.embeddings import TextEmbeddings

SHIPPED = Path(__file__).parent


@cache
def shipped() -> dict[str, TextEmbeddings]:
    """By the name of their data set."""
    return {path.stem: TextEmbeddings.load(path) for path in sorted(SHIPPED.glob("*.safetensors"))}


def embeddings_of(labels: tuple[str, ...], file: Path | None = None) -> TextEmbeddings:
    """Of these classes, in their order: of the file, or of those shipped that know all of them.

    ConfigError names classes that there are none of.
    """
    if file is not None:
        given = TextEmbeddings.load(file)
        try:
            return given.of_classes(labels)
        except ConfigError as error:
            raise ConfigError(f"{printable(file)}: {error}") from error
    known = sorted(shipped().values(), key=lambda e: len(set(labels) & set(e.labels)))
    return known[-1].of_classes(labels)
