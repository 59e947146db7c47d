"""ONE-PEACE's encoders at the narrow golden sizes, converted and installed as davel would have them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden_values import published_state
from torch import Tensor

from davel.features import one_peace
from davel.features.family import Family
from davel.features.one_peace import embeddings
from davel.features.one_peace.published import AUDIO, BASE, KINETICS, TEXT, VIDEO, VOCABULARY

WIDTH = 64
SEEN = "encoder_wrapper.fusion_model.layers.0."
"""A layer that audio and text share."""


def base_state() -> dict[str, Tensor]:
    """`one-peace.pt`, narrow: audio and text over one attention, and what training left there."""
    state = published_state("one_peace/text_small") | published_state("one_peace/audio_small")
    leftovers = ("decoder_wrapper.layers.0.weight", "decoder_text_embed.weight", "text_mask_token")
    image = ("encoder_wrapper.image_adapter.pos_embed", f"{SEEN}image_ffn.2.bias", "image_proj.weight")
    return state | {name: torch.ones(3) for name in (*leftovers, *image)}


def save_base(path: Path) -> Path:
    torch.save({"model": base_state(), "epoch": 3, "optimizer_history": []}, path)
    return path


def save_kinetics(path: Path) -> Path:
    torch.save({"state_dict": published_state("one_peace/video_small"), "meta": {"mmcv": "1.5.0"}}, path)
    return path


def install(monkeypatch: pytest.MonkeyPatch, home: Path, precision: str = "float16", text: bool = False) -> Family:
    """The family, 64 channels wide, whose converted weights lie in `home`."""
    monkeypatch.setenv("DAVEL_HOME", str(home))
    folder = home / "weights"
    folder.mkdir(parents=True, exist_ok=True)
    sources = {VIDEO: save_kinetics(home / KINETICS.file), AUDIO: save_base(home / BASE.file)}
    if text:
        sources[TEXT] = sources[AUDIO]
    for weights, source in sources.items():
        assert weights.convert
        weights.convert(source, folder / weights.file, precision, lambda *_: None)
    return narrow(monkeypatch)


def narrow(monkeypatch: pytest.MonkeyPatch) -> Family:
    """The family with as many channels as narrow weights make."""
    family = one_peace.FAMILY
    dims = dict.fromkeys(("visual_dim", "audio_dim", "visual_text_dim", "audio_text_dim"), WIDTH)
    streams = {name: replace(stream, channels=WIDTH) for name, stream in family.streams.items()}
    small = replace(family, spec=replace(family.spec, **dims), streams=streams)
    monkeypatch.setattr(one_peace, "FAMILY", small)
    return small


def put_vocabulary(monkeypatch: pytest.MonkeyPatch, home: Path, words: dict[str, int]) -> None:
    """A vocabulary of single bytes and of some words, which have these indices; it lies in `home`."""
    import json

    from davel.features.one_peace.tokenizer import CHARACTERS, FIRST_WORD

    pieces, pairs = list(CHARACTERS.values()), list[str]()
    for word in words:
        letters = "".join(CHARACTERS[byte] for byte in word.encode())
        for n in range(1, len(letters)):
            if (pair := f"{letters[:n]} {letters[n]}") not in pairs:
                pairs.append(pair)
                pieces.append(letters[: n + 1])
    numbers = {piece: 7 * n for n, piece in enumerate(pieces)}
    lines = {words[word]: numbers["".join(CHARACTERS[byte] for byte in word.encode())] for word in words}
    rest = iter(numbers[piece] for piece in pieces if numbers[piece] not in lines.values())
    size = max(max(lines, default=0) + 1, FIRST_WORD + len(pieces))
    dictionary = [f"{lines[k] if k in lines else next(rest, 'unused')} 1" for k in range(FIRST_WORD, size)]
    contents = (json.dumps(numbers), "\n".join(["#version", *pairs]), "\n".join(dictionary))
    unstated = tuple(replace(weights, sha256=None) for weights in VOCABULARY)
    monkeypatch.setattr(embeddings, "VOCABULARY", unstated)
    (home / "weights").mkdir(parents=True, exist_ok=True)
    for weights, text in zip(unstated, contents, strict=True):
        (home / "weights" / weights.file).write_text(text, encoding="utf-8")
