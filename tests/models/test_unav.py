"""The baseline's contract: any length, batch independence, and the released code's error only where it is asked for."""

from __future__ import annotations

import math

import pytest
import torch

from davel.models import Unav, UnavConfig, build

SMALL = {"name": "unav", "num_classes": 3, "visual_dim": 10, "audio_dim": 6, "max_length": 64, "width": 16}


@pytest.fixture(scope="module")
def model() -> Unav:
    torch.manual_seed(0)
    network = build({**SMALL, "class_width": 8, "drop_path": 0.0}).eval()
    assert isinstance(network, Unav)
    return network


def inputs(*lengths: int):
    generator = torch.Generator().manual_seed(0)
    videos = [torch.randn(64 * 4, 16, generator=generator)[:length] for length in lengths]
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    padded = torch.nn.utils.rnn.pad_sequence(videos, batch_first=True)
    return padded[..., :10], padded[..., 10:], mask


def test_it_is_built_from_its_name(model):
    assert isinstance(model, Unav)
    assert isinstance(model.config, UnavConfig)
    assert model.config.max_length == 64


@torch.inference_mode()
@pytest.mark.parametrize("T", [1, 40, 64, 65, 130, 200])
def test_it_takes_any_length(model, T):
    outputs = model(*inputs(T))
    for level in range(6):
        assert outputs.logits[level].shape == (1, math.ceil(T / 2**level), 3)
    assert outputs.gates == {"visual": [], "audio": []}


@torch.inference_mode()
def test_positions_are_stretched_only_beyond_the_table(model):
    embed = model.embed["visual"]
    assert torch.equal(embed.position(40), embed.positions[:40])
    assert torch.equal(embed.position(64), embed.positions)
    stretched = embed.position(128)
    assert torch.equal(stretched[0], embed.positions[0])
    assert torch.equal(stretched[-1], embed.positions[-1])
    torch.testing.assert_close(stretched[1], 0.75 * embed.positions[0] + 0.25 * embed.positions[1])


@torch.inference_mode()
def test_a_video_does_not_depend_on_its_batch_mates(model):
    visual, audio, mask = inputs(50, 20)
    together, alone = model(visual, audio, mask), model(visual[1:, :20], audio[1:, :20], mask[1:, :20])
    for level in range(6):
        n = math.ceil(20 / 2**level)
        torch.testing.assert_close(alone.logits[level][0], together.logits[level][1, :n], atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def test_with_the_released_masks_it_does(model):
    batch = inputs(50, 20)
    right = model(*batch)
    wrong = model(*batch, published_masks=True)
    alone = model(*inputs(50), published_masks=True)
    assert not torch.allclose(right.logits[0][1, :20], wrong.logits[0][1, :20], atol=1e-5)
    torch.testing.assert_close(alone.logits[0], model(*inputs(50)).logits[0])  # one video has no other's mask
