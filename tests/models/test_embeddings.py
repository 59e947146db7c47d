"""What a text encoder makes of classes' names: kept with a model, read with it, and only of its own classes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from tiny import CONFIG, INFO, LABELS, tiny_model
from torch import Tensor

from davel.core.errors import ConfigError
from davel.features.embeddings import TextEmbeddings
from davel.models import MODELS, CCNet, CCNetConfig
from davel.models.saved import EMBEDDINGS, load_model, save_model
from davel.models.text import SHIPPED, embeddings_of, shipped

P = 12


def embedded(labels: tuple[str, ...] = LABELS, dim: int = P, seed: int = 0) -> TextEmbeddings:
    rows = np.random.default_rng(seed).standard_normal((len(labels), dim)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    prompts = tuple(f"A sound event of {label}." for label in labels)
    return TextEmbeddings(labels, prompts, rows, "one-peace", "ab" * 32, "somebody, MIT licence")


@dataclass(frozen=True, kw_only=True)
class Config(CCNetConfig):
    name: Literal["reader"] = "reader"
    text_dim: int = P


class Model(CCNet):
    """A network that is told what its classes are."""

    rows: Tensor | None = None

    def name_classes(self, embeddings: Tensor) -> None:
        if embeddings.shape != (self.config.num_classes, self.config.text_dim):
            raise ValueError(f"expected embeddings (3, {P}), got {tuple(embeddings.shape)}")
        self.rows = embeddings


@pytest.fixture
def reader(monkeypatch) -> Model:
    monkeypatch.setitem(MODELS, "reader", __name__)
    torch.manual_seed(0)
    return Model(Config(**{**vars(CONFIG), "name": "reader"}))


@pytest.fixture
def folder(reader, tmp_path) -> Path:
    save_model(tmp_path / "m", reader, replace(INFO, config=reader.config, embeddings=embedded()))
    return tmp_path / "m"


def test_embeddings_travel_with_a_model_and_what_made_them(folder):
    network, info, _ = load_model(folder)
    assert info.embeddings == embedded()
    assert info.embeddings != embedded(seed=1)
    assert (info.embeddings.family, info.embeddings.notice) == ("one-peace", "somebody, MIT licence")
    assert (info.vocabulary.embeddings == embedded().rows).all()
    assert (network.rows.numpy() == embedded().rows).all()
    assert "embeddings" not in json.loads((folder / "model.json").read_text())


def test_any_model_may_have_them_and_a_model_that_is_written_anew_has_no_others(tmp_path):
    save_model(tmp_path, CCNet(CONFIG), replace(INFO, embeddings=embedded()))
    assert load_model(tmp_path)[1].embeddings == embedded()
    tiny_model(tmp_path)
    assert not (tmp_path / EMBEDDINGS).exists()
    assert load_model(tmp_path)[1].vocabulary.embeddings is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda path: path.unlink(), "m: reads what its classes are: give it their embeddings"),
        (lambda path: path.write_bytes(b"no"), "not a file of class embeddings"),
        (lambda path: embedded(dim=7).save(path), rf"expected embeddings \(3, {P}\), got \(3, 7\)"),
        (lambda path: embedded(("bark", "bell", "snow")).save(path), "the file of embeddings has class 'snow'"),
        (lambda path: embedded(("bell", "bark", "rain")).save(path), "the classes are in another order"),
    ],
)
def test_embeddings_that_do_not_fit_the_model_are_told_in_a_line(folder, change, problem):
    change(folder / EMBEDDINGS)
    with pytest.raises(ConfigError, match=problem) as told:
        load_model(folder)
    assert "\n" not in str(told.value)


def test_rows_that_are_not_of_unit_norm_are_refused():
    with pytest.raises(ValueError, match="a row is not of unit norm"):
        replace(embedded(), rows=embedded().rows * 1.01)
    with pytest.raises(ValueError, match="a row is not of unit norm"):
        replace(embedded(), rows=embedded().rows * np.nan)


def test_a_model_that_reads_text_is_not_written_without(reader, tmp_path):
    with pytest.raises(ConfigError, match="the model 'tiny': reads what its classes are"):
        save_model(tmp_path / "m", reader, replace(INFO, config=reader.config))
    assert not (tmp_path / "m").exists()


def test_other_networks_read_no_text():
    network = CCNet(CONFIG)
    with pytest.raises(ValueError, match="CCNet knows its classes by their number"):
        network.name_classes(torch.eye(3))
    with pytest.raises(ConfigError, match="CCNet finds only the classes that it was trained on"):
        network.of_classes(torch.eye(3))


def test_the_released_embeddings_are_shipped_with_their_notice():
    assert {name: e.rows.shape for name, e in shipped().items()} == {"desed": (10, 1536), "unav100": (100, 1536)}
    notice = (SHIPPED / "NOTICE").read_text()
    for name, embeddings in shipped().items():
        assert f"{name}.safetensors" in notice
        assert "Copyright (c) 2024 Tiantian Geng" in embeddings.notice
    assert "Permission is hereby granted, free of charge" in notice
    kin = [("dog barking", "dog howling"), ("playing clarinet", "playing flute")]
    unav = shipped()["unav100"]
    for one, other in kin:  # the nearest of each other by what they mean
        rows = unav.rows @ unav.of((one,))[0]
        assert unav.labels[np.argsort(-rows)[1]] == other


def test_classes_are_found_by_name_whatever_their_order(tmp_path):
    some = embeddings_of(("dog barking", "man speaking"))
    assert some.labels == ("dog barking", "man speaking")
    assert some.prompts[0] == "An audio visual event of dog barking."
    assert (some.rows[1] == shipped()["unav100"].rows[0]).all()
    assert embeddings_of(("Dog",)).prompts == ("A sound event of Dog.",)
    embedded().save(tmp_path / "own.safetensors")
    assert embeddings_of(("rain",), tmp_path / "own.safetensors").rows.shape == (1, P)
    with pytest.raises(ConfigError, match=r"^.*own\.safetensors: no embeddings of snow: make them"):
        embeddings_of(("snow",), tmp_path / "own.safetensors")
    with pytest.raises(ConfigError, match=r"^no embeddings of my cat: make them with `davel features embed`"):
        embeddings_of(("dog barking", "my cat"))
