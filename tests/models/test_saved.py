"""What a model's folder says of it, besides its weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import INFO, LABELS, tiny_model

from davel.core.annotations import Annotations, Vocabulary
from davel.core.errors import ConfigError
from davel.core.events import Event, EventList, Video
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
