"""What a model finds in a data set: the same in any batch, but for the released code's error where it is asked for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from davel.core.errors import ConfigError
from davel.core.events import EventList
from davel.data.dataset import Dataset
from davel.data.simulate import Simulation, draw_annotations
from davel.evaluate import predict, predict_published
from davel.models import Network, build
from davel.models.pyramid import Grid

SMALL = {"num_classes": 3, "width": 8, "class_width": 4, "drop_path": 0.0}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    videos = draw_annotations(7, 3).videos
    simulation = Simulation(num_classes=3)
    return Dataset(videos, lambda key: simulation.draw(videos[key]), simulation.family.spec)


@pytest.fixture(scope="module", params=["ccnet", "unav"])
def model(request) -> Network:
    torch.manual_seed(0)
    model = build({**SMALL, "name": request.param, "max_length": 192}).eval()
    with torch.no_grad():
        model.decoder.classify.start_at(-1.0)
        model.decoder.regress.out.bias.fill_(1.5)
    return model


def same(ours: dict[str, EventList], theirs: dict[str, EventList]) -> bool:
    """Whether they hold the same events; scores that are equal but for rounding may come in either order."""
    assert list(ours) == list(theirs)

    def in_time(events: EventList) -> EventList:
        return events.select(np.lexsort((events.segments[:, 1], events.segments[:, 0], events.label_ids)))

    return all(
        len(a) == len(b)
        and np.array_equal(a.label_ids, b.label_ids)
        and np.allclose(a.scores, b.scores, atol=1e-5)
        and np.allclose(a.segments, b.segments, atol=1e-3)
        for a, b in zip(map(in_time, ours.values()), map(in_time, theirs.values()), strict=True)
    )


def test_what_is_found_does_not_depend_on_the_batch(model, dataset):
    told = []
    one = predict(model, dataset, report=lambda *now: told.append(now))
    assert all(len(events) for events in one.values())
    assert told == [("predict", i + 1, 7) for i in range(7)]
    assert same(predict(model, dataset, batch_size=3), one)
    assert not same(predict(model, dataset, without="audio"), one)
    assert not same(predict(model, dataset, without="audio", batch_size=3), one)


def test_a_video_longer_than_the_model_is_cut_into_windows_in_any_batch(dataset):
    model = build({**SMALL, "max_length": 64}).eval()
    assert same(predict(model, dataset, batch_size=3), predict(model, dataset))


def test_published_batching_depends_on_the_batch_and_leaves_the_model_as_it_was(model, dataset):
    right = predict(model, dataset)
    published = predict_published(model, dataset, batch_size=4)
    assert not same(published, right)
    assert not same(published, predict_published(model, dataset, batch_size=3))
    assert same(predict_published(model, dataset, batch_size=1), right)  # one video has no other's mask
    assert same(predict(model, dataset), right)


def test_published_batching_takes_the_mask_of_the_row_modulo_the_batch():
    """As the released code repeats the masks of B videos for their C classes: row b * C + c takes that of row % B."""
    dependencies = build({**SMALL, "name": "unav", "max_length": 32}).eval().dependencies
    x, mask = torch.randn(2, 32, 3, 4), torch.arange(32) < torch.tensor([[32], [10]])
    seen = []
    dependencies.temporal.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[2].sum(1).tolist()))
    for published_masks in (False, True):
        dependencies.along_time(x, mask, Grid([mask], published_masks=published_masks))
    assert seen == [[32, 32, 32, 10, 10, 10], [32, 10, 32, 10, 32, 10]]


def test_published_batching_needs_what_it_reproduces(dataset):
    with pytest.raises(ConfigError, match="no dependencies along time"):
        predict_published(build({**SMALL, "tdm": False, "c2f": False, "f2c": False}).eval(), dataset)
    with pytest.raises(ConfigError, match="is longer than the model's 32 steps"):
        predict_published(build({**SMALL, "max_length": 32}).eval(), dataset)


def test_no_videos_are_no_events(model, dataset):
    assert predict(model, replace(dataset, videos={})) == {}
