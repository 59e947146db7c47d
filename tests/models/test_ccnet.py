"""CCNet's contract: any length, batch independence, switches."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from davel.core.errors import ConfigError
from davel.models import CCNet, CCNetConfig, build
from davel.models.blocks import Conv, DepthwiseConv
from davel.models.pyramid import Grid

SMALL = {"num_classes": 3, "visual_dim": 10, "audio_dim": 6, "max_length": 64, "width": 16, "class_width": 8}


@pytest.fixture(scope="module")
def model() -> CCNet:
    torch.manual_seed(0)
    model = build(SMALL).eval()
    assert isinstance(model, CCNet)
    for name, parameter in model.named_parameters():
        if name.endswith(("scale", "bias")):  # as after training: nothing is hidden by a zero
            torch.nn.init.normal_(parameter, std=0.5)
    return model


def inputs(*lengths: int, T: int | None = None, padding: float = 0.0):
    T = T or max(lengths)
    generator = torch.Generator().manual_seed(sum(lengths))
    mask = torch.arange(T) < torch.tensor(lengths)[:, None]
    visual, audio = (torch.full((len(lengths), T, d), padding) for d in (10, 6))
    for b, length in enumerate(lengths):
        generator.manual_seed(length)
        visual[b, :length] = torch.randn(length, 10, generator=generator)
        audio[b, :length] = torch.randn(length, 6, generator=generator)
    return visual, audio, mask


def close(a, b, b_row: int, length: int) -> bool:
    """Whether row 0 of `a` equals a row of `b` at the real steps."""
    for level in range(6):
        n = math.ceil(length / 2**level)
        for ours, theirs in ((a.logits, b.logits), (a.offsets, b.offsets), (a.gates["audio"], b.gates["audio"])):
            if not torch.allclose(ours[level][0, :n], theirs[level][b_row, :n], atol=2e-5, rtol=1e-4):
                return False
    return True


@torch.inference_mode()
@given(long=st.integers(1, 64), short=st.integers(1, 64), extra=st.integers(0, 30))
def test_a_video_does_not_depend_on_padding_or_its_batch_mates(model, long, short, extra):
    long, short = max(long, short), min(long, short)
    T = min(long + extra, 64)
    alone = model(*inputs(short))
    together = model(*inputs(long, short, T=T, padding=float("nan")))
    assert close(alone, together, 1, short)


@torch.inference_mode()
def test_a_video_does_depend_on_its_own_steps(model):
    visual, audio, mask = inputs(40)
    before = model(visual, audio, mask)
    audio[0, 20] += 1
    assert not close(model(visual, audio, mask), before, 0, 40)


@torch.inference_mode()
@pytest.mark.parametrize("T", [1, 2, 31, 33, 63, 64])
def test_every_level_has_half_the_steps_of_the_one_before(model, T):
    outputs = model(*inputs(T))
    for level in range(6):
        n = math.ceil(T / 2**level)
        assert outputs.logits[level].shape == (1, n, 3)
        assert outputs.offsets[level].shape == (1, n, 3, 2)
        assert outputs.gates["visual"][level].shape == outputs.gates["audio"][level].shape == (1, n)


def test_more_steps_than_the_model_has_are_refused(model):
    with pytest.raises(ValueError, match="takes 1 to 64 steps, got 65"):
        model(*inputs(65))


def test_features_of_other_sizes_are_refused(model):
    visual, audio, mask = inputs(8)
    with pytest.raises(ValueError, match=r"expected visual \(1, 8, 10\)"):
        model(audio, visual, mask)


@torch.inference_mode()
@pytest.mark.parametrize(
    "switch", [{"cmi": False}, {"tcg": False}, {"tdm": False}, {"c2f": False}, {"f2c": False}, {"order": "f2c-c2f"}]
)
def test_every_part_can_be_switched_off_or_reordered(switch):
    torch.manual_seed(0)
    full = build({**SMALL, "drop_path": 0.0}).eval()
    changed = build({**SMALL, "drop_path": 0.0, **switch}).eval()
    kept = changed.state_dict().keys()
    shared = {k: v for k, v in full.state_dict().items() if k in kept}
    changed.load_state_dict(shared)
    batch = inputs(40)
    levels = zip(full(*batch).logits, changed(*batch).logits, strict=True)
    assert not all(torch.allclose(before, after, atol=1e-5) for before, after in levels)
    assert bool(changed(*batch).gates["audio"]) == switch.get("tcg", True)
    alone, together = changed(*inputs(20)), changed(*inputs(40, 20))
    assert torch.allclose(alone.logits[0][0], together.logits[0][1, :20], atol=2e-5)


@torch.inference_mode()
def test_without_interaction_and_gates_one_modality_does_not_reach_the_other_in_cmcc():
    model = build({**SMALL, "cmi": False, "tcg": False}).eval()
    x = {"visual": torch.randn(1, 32, 16), "audio": torch.randn(1, 32, 16)}
    masks = [torch.ones(1, 32 // 2**level, dtype=torch.bool) for level in range(6)]
    before, _ = model.cross_modal_consistency(x, masks)
    after, _ = model.cross_modal_consistency({**x, "audio": torch.randn(1, 32, 16)}, masks)
    for a, b in zip(before, after, strict=True):
        assert torch.equal(a[..., :16], b[..., :16])
        assert not torch.equal(a[..., 16:], b[..., 16:])


def test_training_drops_branches_and_evaluation_does_not():
    torch.manual_seed(0)
    model = build({**SMALL, "drop_path": 0.5})
    for name, parameter in model.named_parameters():
        if name.endswith("scale"):
            torch.nn.init.ones_(parameter)
    batch = inputs(32)
    assert not torch.equal(model.train()(*batch).logits[0], model(*batch).logits[0])
    assert torch.equal(model.eval()(*batch).logits[0], model(*batch).logits[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"widht": 3}, "widht: unknown key.*did you mean 'width'"),
        ({"width": "wide"}, "width: input should be a valid integer.*got 'wide'"),
        ({"name": "detr"}, "name: unknown network 'detr': choose from ccnet, unav"),
        ({"max_length": 65}, "max_length must be a multiple of 32"),
        ({"width": 18}, "must be a multiple of num_heads"),
        ({"order": "f2c-c2f", "c2f": False}, "does nothing unless both"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        build({**SMALL, **wrong})


def test_the_configuration_may_be_typed():
    assert build(CCNetConfig(**SMALL)).config == build(SMALL).config


@given(T=st.integers(1, 9), stride=st.sampled_from([1, 2]), seed=st.integers(0, 99))
def test_the_depthwise_convolution_and_its_gradients_are_torchs(T, stride, seed):
    torch.manual_seed(seed)
    conv = DepthwiseConv(4, stride)
    x = torch.randn(2, T, 4, requires_grad=True)
    plain = torch.nn.functional.conv1d(x.mT, conv.weight.T[:, None], stride=stride, padding=1, groups=4).mT
    grad = torch.randn_like(plain)
    expected = torch.autograd.grad(plain, (x, conv.weight), grad)
    y = conv(x)
    torch.testing.assert_close(y, plain)
    for ours, theirs in zip(torch.autograd.grad(y, (x, conv.weight), grad), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_convolution_at_single_steps_is_the_whole_one_at_these():
    torch.manual_seed(0)
    masks = [torch.arange(n) < torch.tensor([[n], [n // 2]]) for n in (8, 4, 2)]
    levels = [torch.randn(2, mask.shape[1], 5) * mask[..., None] for mask in masks]
    grid, conv = Grid(masks), Conv(5, 3, bias=True)
    result = grid.split(grid.put(conv.at(grid.join(levels), grid.steps)))
    for x, mask, y in zip(levels, masks, result, strict=True):
        torch.testing.assert_close(y, conv(x, mask))
    for x, y in zip(levels, grid.split(grid.join(levels)), strict=True):
        assert torch.equal(x, y)
