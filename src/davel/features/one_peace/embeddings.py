"""Names of classes as ONE-PEACE's text encoder embeds them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from davel.compute.device import choose_device
from davel.core.errors import ConfigError, printable
from davel.features.embeddings import TextEmbeddings
from davel.features.family import Precision
from davel.features.one_peace.protocol import WIDTH
from davel.features.one_peace.published import TEXT, VOCABULARY
from davel.features.one_peace.stream import open_encoder
from davel.features.one_peace.text import OnePeaceText, batch
from davel.features.one_peace.tokenizer import Tokenizer
from davel.features.weights import checksum_problem, find, sha256

PROMPT = "An audio visual event of {}."
"""UniAV's of UnAV-100's classes; of sounds `A sound event of {}.`, of actions `A visual event of {}.`"""
PROMPTS_AT_ONCE = 16


def prompts_of(labels: Sequence[str], prompt: str = PROMPT) -> list[str]:
    """A sentence per name. ConfigError if the prompt has not one place for it."""
    if prompt.count("{}") != 1:
        raise ConfigError(f"prompt {printable(prompt)!r}: expected one {{}}, where the class's name stands")
    return [prompt.replace("{}", label) for label in labels]


def open_tokenizer() -> Tokenizer:
    """MissingError if the vocabulary is not there, ConfigError if it is another one."""
    for weights in VOCABULARY:
        if problem := checksum_problem(weights, sha256(find(weights))):
            raise ConfigError(problem)
    return Tokenizer.read(*map(find, VOCABULARY))


def embed_prompts(
    prompts: Sequence[str], width: int = WIDTH, device: str = "auto", precision: Precision = "float32"
) -> tuple[NDArray[np.float32], str]:
    """(C, D), unit norm, and the sha256 of the encoder's weights. MissingError if these or the vocabulary are not
    there."""
    tokenizer, path = open_tokenizer(), find(TEXT)
    chosen = choose_device(device)
    encoder = open_encoder(path, OnePeaceText, getattr(torch, precision), chosen, width)
    rows = [np.zeros((0, width), np.float32)]
    with torch.inference_mode():
        for first in range(0, len(prompts), PROMPTS_AT_ONCE):
            tokens = batch([tokenizer(prompt) for prompt in prompts[first : first + PROMPTS_AT_ONCE]])
            rows.append(encoder(tokens.to(chosen)).float().cpu().numpy())
    table = np.concatenate(rows)
    if not np.isfinite(table).all():
        raise ConfigError(f"one-peace-text: values beyond {precision}: use --precision bfloat16 or float32")
    return table, sha256(path)


def embed_classes(
    labels: Sequence[str],
    prompt: str = PROMPT,
    width: int = WIDTH,
    device: str = "auto",
    precision: Precision = "float32",
) -> TextEmbeddings:
    """Names of classes with their embeddings, to be kept in a file. As `embed_prompts`."""
    prompts = prompts_of(labels, prompt)
    rows, digest = embed_prompts(prompts, width, device, precision)
    return TextEmbeddings(tuple(labels), tuple(prompts), rows, "one-peace", digest)
