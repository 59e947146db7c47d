"""CCNet and unav against the released implementations: `tests/golden/{ccnet,unav}_*.npz`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_values import Case, load_case, published_state

from davel.core.errors import ConfigError
from davel.detection import Criterion, assign, decode, points
from davel.models import CCNet, Network, from_published, published_name

CASES = ["ccnet_small", "ccnet_i3d_vggish", "ccnet_one_peace", "unav_small", "unav_i3d_vggish"]


def released(name: str) -> Network:
    """The golden weights in a network of ours; a checkpoint of unav does not tell its length."""
    max_length = load_case(name).meta["T"] if name.startswith("unav") else None
    return from_published(published_state(name), max_length)


@pytest.fixture(scope="module", params=CASES)
def case(request) -> tuple[Case, Network]:
    return load_case(request.param), released(request.param)


@pytest.fixture(scope="module")
def outputs(case):
    with torch.inference_mode():
        return case[1](*case[0].batch(padding=7.0))


def departure(ours, theirs: np.ndarray, mask: np.ndarray) -> float:
    """The largest difference at real steps, relative to the spread of what is expected."""
    return float(np.abs(ours.numpy() - theirs)[mask].max() / theirs[mask].std())


def test_logits_and_offsets_are_the_released_ones(case, outputs):
    expected, mask = case[0].expected, case[0].batch()[2]
    for level in range(6):
        real = mask[:, :: 2**level].numpy()
        assert departure(outputs.logits[level], expected[f"logits_{level}"], real) < 1e-4
        assert departure(outputs.offsets[level], expected[f"offsets_{level}"], real) < 1e-4


def test_gates_are_the_released_ones(case, outputs):
    if not isinstance(case[1], CCNet):
        assert outputs.gates == {"visual": [], "audio": []}
        return
    expected, mask = case[0].expected, case[0].batch()[2]
    for level in range(6):
        real = mask[:, :: 2**level].numpy()
        for modality in ("audio", "visual"):
            difference = outputs.gates[modality][level].numpy() - expected[f"gate_{modality}_{level}"]
            assert np.abs(difference[real]).max() < 1e-4


def test_events_are_the_released_ones_in_the_same_order(case, outputs):
    """Events whose scores differ by less than float32 can tell may change places."""
    golden = case[0]
    results = decode(outputs, golden.batch()[2], golden.timing, golden.durations)
    for i, events in enumerate(results):
        segments, scores, labels = (golden.expected[f"events_{i}_{part}"] for part in ("segments", "scores", "labels"))
        real = segments[:, 0] < segments[:, 1]
        segments, scores, labels = segments[real], scores[real], labels[real]
        assert len(events) == len(scores)
        apart = np.abs(events.segments[:, None] - segments).max(-1)
        apart[events.label_ids[:, None] != labels] = np.inf
        moved = np.flatnonzero(apart.diagonal() > 1e-3)
        theirs = moved[apart[np.ix_(moved, moved)].argmin(1)] if len(moved) else moved
        assert sorted(theirs) == sorted(moved)
        assert (apart[moved, theirs] <= 1e-3).all()
        np.testing.assert_allclose(scores[theirs], scores[moved], rtol=1e-5)  # what kernels of processors round
        np.testing.assert_allclose(events.scores, scores, atol=1e-4)


@pytest.mark.parametrize("name", CASES[:3])
def test_targets_are_the_released_ones(name):
    golden = load_case(name)
    position, level = points(golden.meta["T"], 6)
    targets = assign(position, level, golden.truth(), golden.meta["num_classes"])
    for i in range(len(golden.visual)):
        positive = targets.classes[i].nonzero()
        assert (positive.numpy() == golden.expected[f"targets_{i}_pos"]).all()
        offsets = targets.offsets[i][targets.classes[i]].numpy()
        np.testing.assert_allclose(offsets, golden.expected[f"targets_{i}_offsets"], rtol=1e-4, atol=1e-5)


def test_a_shorter_run_gives_the_same_as_the_released_full_length(case, outputs):
    golden, model = case
    for i, (visual, audio) in enumerate(zip(golden.visual, golden.audio, strict=True)):
        T = len(visual)
        with torch.inference_mode():
            alone = model(visual[None], audio[None], torch.ones(1, T, dtype=torch.bool))
        for level in range(6):
            n = alone.logits[level].shape[1]
            assert n == -(-T // 2**level)
            full = outputs.logits[level][i, :n]
            assert (alone.logits[level][0] - full).abs().max() / full.std() < 1e-4
            full = outputs.offsets[level][i, :n]
            assert (alone.offsets[level][0] - full).abs().max() / full.std() < 1e-4


@pytest.mark.parametrize("kind", ["ccnet", "unav"])
def test_a_training_step_has_the_released_losses_and_gradients(kind):
    golden, model = load_case(f"{kind}_small"), released(f"{kind}_small").train()
    criterion = Criterion()
    visual, audio, mask = golden.batch()
    targets = criterion.targets(mask, golden.truth(), golden.meta["num_classes"])
    criterion.update(targets.num_positive)
    parts = criterion(model(visual, audio, mask), mask, targets)
    loss = sum(parts.values())
    loss.backward()
    assert parts["classification"].item() == pytest.approx(golden.expected["train_cls_loss"], rel=1e-3)
    assert parts["regression"].item() == pytest.approx(golden.expected["train_reg_loss"], rel=1e-3)
    assert loss.item() == pytest.approx(golden.expected["train_final_loss"], rel=1e-3)

    expected = dict(zip(golden.expected["train_grad_names"], golden.expected["train_grad_norms"], strict=True))
    ours = {published_name(name, kind): p.grad.norm().item() for name, p in model.named_parameters()}
    for level, gradient in enumerate(model.decoder.scales.grad):
        ours[f"reg_head.scale.{level}.scale"] = gradient.norm().item()
    del ours["decoder.scales"]
    assert ours.keys() == expected.keys()
    largest = max(expected.values())
    for name, norm in expected.items():
        assert ours[name] == pytest.approx(norm, rel=1e-3, abs=1e-6 * largest), name


def test_the_wrapped_ema_weights_are_taken_from_a_whole_checkpoint():
    state = published_state("ccnet_small")
    wrong = {key: value + 1 for key, value in state.items()}
    checkpoint = {"epoch": 3, "state_dict": wrong, "state_dict_ema": {f"module.{k}": v for k, v in state.items()}}
    ours = from_published(checkpoint).state_dict()
    for name, tensor in from_published(state).state_dict().items():
        assert torch.equal(ours[name], tensor)


def test_branch_scales_of_a_released_checkpoint_are_used_and_absent_ones_are_one():
    state = dict(published_state("ccnet_small"))
    state["backbone.self_att_V.0.drop_path_attn.scale"] = torch.full((1, 32, 1), 0.5)
    model = from_published(state)
    assert isinstance(model, CCNet)
    assert model.config.drop_path == 0.1
    assert (model.embed["visual"].blocks[0].drop_attention.scale == 0.5).all()
    assert (model.embed["visual"].blocks[0].drop_mlp.scale == 1).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("cls_head.cls_head.conv.bias"), r"'cls_head.cls_head.conv.bias' is missing"),
        (lambda s: s.update(surplus=torch.ones(1)), r"1 unknown tensors, first 'surplus'"),
        (
            lambda s: s.update({"reg_head.head.1.conv.weight": torch.ones(3, 3, 3)}),
            r"does not fit, \(3, 3, 3\)",
        ),
        (lambda s: s.update(epoch=3), r"not a released checkpoint"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(change, message):
    state = dict(published_state("ccnet_small"))
    change(state)
    with pytest.raises(ConfigError, match=message):
        from_published(state)
