"""What a model's folder says of it, besides its weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import INFO, LABELS, tiny_model

from davel.core.annotations import Annotations, Vocabulary
from davel.core.errors import ConfigError
from davel.core.events import Event, EventList, Video
from davel.features.embeddings import TextEmbeddings
from davel.localize import load
from davel.models import CCNet
from davel.models.saved import info_of, load_model, plain_info, save_model

PROMPTS = ("a dog barks", "a bell rings", "rain falls")
PATH = Path("model.json")


def test_what_few_models_have_stands_in_the_description_only_where_they_have_it(tmp_path):
    plain = plain_info(INFO)
    assert not {"prompts", "tracks"} & plain.keys()
    assert (info_of(plain, PATH).prompts, info_of(plain, PATH).tracks) == (None, ("visual", "audio"))
    told = replace(INFO, prompts=PROMPTS, tracks=("visual",))
    torch.manual_seed(0)
    save_model(tmp_path / "m", CCNet(INFO.config), told)
    content = json.loads((tmp_path / "m" / "model.json").read_text())
    assert (content["prompts"], content["tracks"]) == (list(PROMPTS), ["visual"])
    _, info, _ = load_model(tmp_path / "m")
    assert info == told
    assert (info.vocabulary.labels, info.vocabulary.prompts) == (LABELS, PROMPTS)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("prompts", ["a dog barks"], "3 classes need as many prompts, got 1"),
        ("prompts", "abc", "prompts: expected a list of texts, got 'abc'"),
        ("tracks", ["visual", "smell"], "tracks is .'visual', 'smell'.: expected some of visual, audio"),
        ("tracks", [], "tracks is ..: expected some of visual, audio"),
    ],
)
def test_what_does_not_fit_is_refused(field, value, reason):
    with pytest.raises(ConfigError, match=rf"^model\.json: .*{reason}"):
        info_of(json.loads(json.dumps(plain_info(INFO))) | {field: value}, PATH)


def test_annotations_are_matched_by_name_if_the_model_knows_their_classes(tmp_path):
    localizer = load(tiny_model(tmp_path / "m"), "cpu")

    def data(labels: tuple[str, ...], label: str) -> Annotations:
        return Annotations(Vocabulary(labels), {"v": Video("v", EventList.of([Event(label, 0, 1)], labels), 2.0)})

    matched = localizer.matched(data(("rain", "bark"), "rain"))
    assert matched.labels == LABELS
    assert matched.videos["v"].events.label_ids.tolist() == [2]
    localizer.require(INFO.features, matched.labels, "data")
    other = data(("rain", "train"), "train")
    assert localizer.matched(other) is other
    with pytest.raises(ConfigError, match="data: has other classes than the model: the data has class 'train'"):
        localizer.require(INFO.features, other.labels, "data")


def embedded(**changes) -> TextEmbeddings:
    rows = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    facts = {"labels": LABELS, "prompts": PROMPTS, "rows": rows, "family": "one-peace", "encoder_sha256": "0" * 64}
    return TextEmbeddings(**(facts | changes))


def test_embeddings_of_the_classes_travel_with_a_model(tmp_path):
    torch.manual_seed(0)
    save_model(tmp_path / "m", CCNet(INFO.config), replace(INFO, prompts=PROMPTS, embeddings=embedded()))
    assert "embeddings" not in json.loads((tmp_path / "m" / "model.json").read_text())
    info = load_model(tmp_path / "m")[1]
    np.testing.assert_array_equal(info.vocabulary.embeddings, embedded().rows)
    assert info.embeddings.encoder_sha256 == "0" * 64
    assert load_model(tiny_model(tmp_path / "plain"))[1].vocabulary.embeddings is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (embedded(labels=("bark", "bell", "snow")), "the file has class 'snow', which the model does not know"),
        (embedded(labels=("bell", "bark", "rain")), "the classes are in another order"),
        (b"nothing", "not a file of class embeddings"),
    ],
    ids=["other classes", "another order", "no such file"],
)
def test_embeddings_that_are_not_the_models_are_refused(tmp_path, content, message):
    folder = tiny_model(tmp_path / "m")
    path = folder / "embeddings.safetensors"
    path.write_bytes(content) if isinstance(content, bytes) else content.save(path)
    with pytest.raises(ConfigError, match=rf"embeddings\.safetensors: .*{message}"):
        load_model(folder)
