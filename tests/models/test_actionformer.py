"""ActionFormer against the released implementation (`tests/golden/actionformer/`), and what its page says besides."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from golden_values import GOLDEN, Case, load_case, published_state
from torch import Tensor

from davel.core.errors import ConfigError
from davel.detection import decode
from davel.features.light import SPEC
from davel.models import ActionFormer, ActionFormerConfig, build, from_published, parse_network, published_name
from davel.models.blocks import MaskedAttention, exclude_padding, within_window
from davel.models.detector import Truth
from davel.models.saved import ModelInfo, load_model, save_model
from davel.models.targets import CENTRE_RADIUS, REGRESSION_RANGES, assign_shortest, points
from davel.train.recipe import Recipe, load_train_config

CASES = ["small", "window", "unav"]
SMALL = {"name": "actionformer", "num_classes": 3, "visual_dim": 10, "audio_dim": 6, "max_length": 64, "width": 16}
THUMOS = {"max_length": 2304, "windows": 19, "positions": False}


def golden(name: str) -> Case:
    return load_case(f"actionformer/{name}", repeat_first=True)


def state_of(name: str) -> dict[str, Tensor]:
    return dict(published_state(f"actionformer/{name}"))


def released(name: str) -> ActionFormer:
    meta = golden(name).meta
    network = from_published(state_of(name), meta["T"], visual_dim=meta["input_dim_visual"], **meta["settings"])
    assert isinstance(network, ActionFormer)
    return network


@pytest.fixture(scope="module", params=CASES)
def case(request) -> tuple[Case, ActionFormer]:
    return golden(request.param), released(request.param)


def batch(case: Case) -> tuple[Tensor, Tensor, Tensor]:
    """All videos, also one that is longer than the network, with something behind the others that is not zero."""
    return case.batch(max(case.meta["T"], *case.meta["lengths"]), padding=7.0)


def alone(case: Case, i: int) -> tuple[Tensor, Tensor, Tensor]:
    return case.visual[i][None], case.audio[i][None], torch.ones(1, len(case.visual[i]), dtype=torch.bool)


def departure(ours: Tensor, theirs: np.ndarray, scale: np.ndarray) -> float:
    """The largest difference, relative to the size of what is expected of all videos; all of it may be zero."""
    return float(np.abs(ours.numpy() - theirs).max() / (np.abs(scale).max() or 1))


@torch.inference_mode()
def test_logits_and_offsets_are_the_released_ones_alone_and_in_a_batch(case):
    case, network = case
    together = network(*batch(case))
    for i in range(len(case.visual)):
        own = network(*alone(case, i))
        for level in range(6):
            n = -(-len(case.visual[i]) // 2**level)
            logits, offsets = (case.expected[f"{part}_{level}"] for part in ("logits", "offsets"))
            for outputs, row in ((own, 0), (together, i)):
                assert departure(outputs.logits[level][row, :n], logits[i, :n], logits) < 6e-5
                assert departure(outputs.offsets[level][row, :n, 0], offsets[i, :n], offsets) < 6e-5
            assert own.logits[level].shape == (1, n, case.meta["num_classes"])
            assert own.offsets[level].shape == (1, n, 1, 2)


@torch.inference_mode()
def test_every_stage_is_the_released_one(case):
    case, network = case
    stages: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, given, *said: stages.update({name: said[0] if said else given[0]})

    hooks = [network.stem[0].register_forward_pre_hook(keep("embed"))]
    for level, norm in enumerate(network.neck):
        hooks.append(norm.register_forward_pre_hook(keep(f"backbone_{level}")))
        hooks.append(norm.register_forward_hook(keep(f"neck_{level}")))
    for i, video in enumerate(case.visual):
        network(*alone(case, i))
        assert len(stages) == 13
        for name, x in stages.items():
            real = x[0, : -(-len(video) // 2 ** int(name.rpartition("_")[2] if "_" in name else 0))].double()
            expected = case.expected[f"stage_{name}"][i]
            assert float(real.sum()) == pytest.approx(expected, abs=2e-6 * float(real.abs().sum())), name
    for hook in hooks:
        hook.remove()


@torch.inference_mode()
def test_events_are_the_released_ones(case):
    case, network = case
    given, test = batch(case), case.meta["test_cfg"]
    nms = replace(network.detection.nms, sigma=test["nms_sigma"], max_events=test["max_seg_num"])
    found = decode(network(*given), given[2], case.timing, case.durations, replace(network.detection, nms=nms))
    for i, events in enumerate(found):
        segments, scores, labels = (case.expected[f"events_{i}_{part}"] for part in ("segments", "scores", "labels"))
        assert len(events) == len(scores)
        np.testing.assert_allclose(events.scores, scores, atol=1e-5)
        missing = 0
        for segment, score, label in zip(segments, scores, labels, strict=True):
            near = np.abs(events.segments - segment).max(1) < 1e-3
            missing += not (near & (events.label_ids == label) & (np.abs(events.scores - score) < 1e-5)).any()
        assert missing == 0


@pytest.mark.parametrize("name", ["small", "unav"])
def test_targets_are_the_released_ones(name):
    case = golden(name)
    criterion = build(SMALL).criterion(Recipe())
    targets = criterion.targets(case.batch()[2], case.truth(), case.meta["num_classes"])
    for i in range(len(case.visual)):
        assert (targets.classes[i].nonzero().numpy() == case.expected[f"targets_{i}_pos"]).all()
        assert (targets.bounded[i, :, 0].nonzero()[:, 0].numpy() == case.expected[f"targets_{i}_points"]).all()
        offsets = targets.offsets[i][targets.bounded[i]].numpy()
        np.testing.assert_allclose(offsets, case.expected[f"targets_{i}_offsets"], rtol=1e-4, atol=1e-5)
    assert targets.num_positive == sum(len(case.expected[f"targets_{i}_points"]) for i in range(len(case.visual)))


def test_a_training_step_has_the_released_losses_and_gradients():
    case, network = golden("small"), released("small").train()
    for module in network.modules():
        if hasattr(module, "probability"):
            module.probability = 0.0
    criterion = network.criterion(Recipe(initial_positive=case.meta["init_loss_norm"]))
    visual, audio, mask = case.batch()
    targets = criterion.targets(mask, case.truth(), case.meta["num_classes"])
    criterion.update(targets.num_positive)
    losses = criterion(network(visual, audio, mask), mask, targets)
    loss = torch.stack(list(losses.values())).sum()
    loss.backward()
    for part, name in (("classification", "cls"), ("regression", "reg")):
        assert losses[part].item() == pytest.approx(case.expected[f"train_{name}_loss"], rel=1e-5)
    assert loss.item() == pytest.approx(case.expected["train_final_loss"], rel=1e-5)

    expected = dict(zip(case.expected["train_grad_names"], case.expected["train_grad_norms"], strict=True))
    ours = {published_name(name, "actionformer"): p.grad.norm().item() for name, p in network.named_parameters()}
    for level, gradient in enumerate(network.decoder.scales.grad):
        ours[f"reg_head.scale.{level}.scale"] = gradient.norm().item()
    del ours["decoder.scales"]
    assert len(ours) == 229
    assert ours.keys() == expected.keys()
    largest = max(expected.values())
    for name, norm in expected.items():
        assert ours[name] == pytest.approx(norm, rel=1e-3, abs=1e-6 * largest), name


def test_the_count_starts_at_any_number():
    for start in (250, 250.0):
        criterion = build(SMALL).criterion(Recipe(initial_positive=start))
        criterion.update(torch.tensor(29))
        assert float(criterion.num_positive) == pytest.approx(227.9)


# The rule of targets, and the windows, beside plain ones


def plain_targets(truth: Truth, T: int, num_classes: int) -> dict[tuple[int, int], tuple[set[int], tuple[float, ...]]]:
    """Point by point and event by event: (level, step) -> classes, offsets, of one video."""
    found = {}
    events = [(*map(float, segment), int(c)) for segment, c in zip(truth.segments[0], truth.labels[0], strict=True)]
    for level, (low, high) in enumerate(REGRESSION_RANGES):
        for step in range(-(-T // 2**level)):
            t, r = step * 2**level, CENTRE_RADIUS * 2**level
            own = [
                (e - s, s, e, c)
                for s, e, c in events
                if c >= 0 and max(s, (s + e) / 2 - r) < t < min(e, (s + e) / 2 + r) and low <= max(t - s, e - t) <= high
            ]
            if own:
                length, s, e, _ = min(own, key=lambda event: event[0])  # the first of equals
                classes = {c for other, *_, c in own if other <= length + 1e-3}
                found[level, step] = (classes, ((t - s) / 2**level, (e - t) / 2**level))
    return found


@pytest.mark.parametrize("seed", range(8))
def test_targets_are_those_of_a_plain_loop(seed):
    T, N, C = 96, 12, 4
    generator = torch.Generator().manual_seed(seed)
    start = (torch.rand(1, N, generator=generator) * 80).mul(2).round().div(2)  # halves: points at an event's very edge
    length = (2 ** (torch.rand(1, N, generator=generator) * 7)).mul(2).ceil().div(2)
    truth = Truth(torch.stack([start, start + length], -1), torch.randint(-1, C, (1, N), generator=generator))
    position, level = points(T, 6)
    targets, expected = assign_shortest(position, level, truth, C), plain_targets(truth, T, C)
    found = {}
    for p in targets.bounded[0, :, 0].nonzero()[:, 0].tolist():
        at = (int(level[p]), int(position[p]) >> int(level[p]))
        found[at] = (set(targets.classes[0, p].nonzero()[:, 0].tolist()), tuple(targets.offsets[0, p, 0].tolist()))
    assert found == expected
    assert len(found) > 10
    assert (targets.offsets[~targets.bounded] == 0).all()
    assert torch.equal(targets.classes.any(-1), targets.bounded[..., 0])


def test_of_two_events_of_one_segment_both_classes_count_and_of_a_longer_one_none():
    position, level = points(16, 6)

    def at(*events: tuple[float, float, int]) -> tuple[list[int], list[float]]:
        truth = Truth(torch.tensor([[event[:2] for event in events]]), torch.tensor([[event[2] for event in events]]))
        targets = assign_shortest(position, level, truth, 3)
        return targets.classes[0, 5].nonzero()[:, 0].tolist(), targets.offsets[0, 5, 0].tolist()

    assert at((3.0, 7.0, 0), (3.0, 7.0, 2)) == ([0, 2], [2.0, 2.0])
    assert at((3.0, 7.5, 0), (3.0, 7.0, 2)) == ([2], [2.0, 2.0])
    assert at((2.5, 7.0, 0), (3.0, 7.5, 1)) == ([0, 1], [2.5, 2.0])  # of equals the first one's boundaries
    assert at((5.0, 7.0, 0), (3.0, 8.0, 1)) == ([1], [2.0, 3.0])  # not strictly inside of the shorter
    assert at((4.9, 8.9, 0)) == ([], [0.0, 0.0])  # too far from its centre


def test_a_window_is_the_steps_around_and_padding_sees_itself():
    mask = torch.tensor([[True, True, True, False, False, False]])
    seen = within_window(exclude_padding(mask), 6, 3, mask.device)[0, 0] == 0
    assert seen.int().tolist() == [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert (within_window(None, 6, 3, mask.device)[0, 0] == 0).sum() == 16


@torch.inference_mode()
def test_a_window_wide_enough_is_all_steps_and_a_narrower_one_is_not():
    generator = torch.Generator().manual_seed(0)
    x, mask = torch.randn(2, 9, 8, generator=generator), torch.arange(9) < torch.tensor([[9], [5]])
    whole = MaskedAttention(8, 2)
    expected = whole(x, x, mask, exclude_padding(mask))
    for window, is_same in ((17, True), (15, False), (1, False)):
        narrow = MaskedAttention(8, 2, window=window)
        narrow.load_state_dict(whole.state_dict())
        found = narrow(x, x, mask, exclude_padding(mask))
        assert found.isfinite().all()
        assert torch.allclose(found, expected, atol=1e-6) == is_same


@torch.inference_mode()
def test_a_step_is_not_told_of_what_is_far_from_it_within_windows():
    torch.manual_seed(0)
    given = torch.randn(1, 64, 10), torch.randn(1, 64, 6), torch.ones(1, 64, dtype=torch.bool)
    other = (given[0].clone(), *given[1:])
    other[0][:, 60:] += 1

    def moved(**fields: Any) -> Tensor:
        torch.manual_seed(0)
        network = build(SMALL | fields).eval()
        for name, scale in network.named_parameters():
            if name.startswith(("stem", "branch")) and name.endswith("scale"):
                scale.fill_(1)
        return (network(*given).logits[0] - network(*other).logits[0])[0].abs().amax(-1)

    for fields in ({"windows": 3}, {"windows": (3, 3, 3, 3, 3, -1)}):
        change = moved(**fields)
        assert (change[:40] == 0).all()
        assert change[60:].min() > 0
    assert moved()[:40].max() > 1e-4


# The network's other promises


@torch.inference_mode()
@pytest.mark.parametrize("fields", [{}, {"windows": 5}, {"positions": False}, {"windows": 7, "positions": False}])
def test_a_video_longer_than_the_network_does_not_depend_on_its_batch_mates(fields):
    torch.manual_seed(0)
    network = build(SMALL | fields).eval()
    lengths = (64, 150, 20, 65)
    mask = torch.arange(150) < torch.tensor(lengths)[:, None]
    visual, audio = torch.randn(4, 150, 10), torch.randn(4, 150, 6)
    together = network(visual, audio, mask)
    for b, n in enumerate(lengths):
        own = network(visual[b, None, :n], audio[b, None, :n], mask[b, None, :n])
        for level in range(6):
            steps = own.logits[level].shape[1]
            assert together.logits[level].shape == (4, math.ceil(150 / 2**level), 3)
            torch.testing.assert_close(together.logits[level][b, :steps], own.logits[level][0], atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(together.offsets[level][b, :steps], own.offsets[level][0], atol=1e-6, rtol=1e-5)
    assert together.within(mask).candidates().scores[2].any(-1).sum() == 20 + 10 + 5 + 3 + 2 + 1


@pytest.mark.parametrize(
    ("fields", "T", "whole"),
    [
        ({}, 65, 96),
        ({"windows": 5}, 65, 128),  # four steps of the coarsest level
        ({"windows": 19, "max_length": 2304}, 2305, 2880),
        ({"windows": (7, 7, 7, 7, 7, -1)}, 65, 96),
        ({"windows": 3}, 65, 128),
        ({"windows": 5}, 64, 64),
    ],
)
def test_a_longer_video_is_laid_out_as_the_released_windows_are(fields, T, whole):
    with torch.device("meta"):
        network = build(SMALL | fields)
    assert network.whole_length(T) == whole
    assert T <= network.running_length(T) <= whole


@torch.inference_mode()
def test_a_segment_is_the_same_for_all_classes():
    torch.manual_seed(0)
    outputs = build(SMALL)(torch.randn(2, 40, 10), torch.randn(2, 40, 6), torch.ones(2, 40, dtype=torch.bool))
    candidates = outputs.candidates()
    assert candidates.segments.shape == (2, sum(candidates.groups), 1, 2)
    assert candidates.scores.shape[2] == 3
    assert outputs.gates == {"visual": [], "audio": []}
    assert outputs.curves() == {}


def test_it_starts_as_released():
    network = build(SMALL)
    biases = {name: x for name, x in network.named_parameters() if name.endswith("bias") and "norm" not in name}
    assert biases.keys() > {"decoder.classify.out.bias", "stem.0.attention.out.bias", "branch.4.mlp.0.bias"}
    for name, bias in biases.items():
        expected = -math.log(99) if name.startswith("decoder.classify") else 0.0
        assert bias.tolist() == pytest.approx([expected] * len(bias)), name
    scales = [x for name, x in network.named_parameters() if name.endswith(".scale")]
    assert len(scales) == 14
    assert all((x == 1e-4).all() for x in scales)
    assert (network.decoder.scales == 1).all()
    bound = 1 / math.sqrt(3 * 16)
    weight = network.embed.convs[0].weight.abs()
    assert 0.9 * bound < weight.max() <= bound


def test_on_unav_100_it_has_as_many_parameters_as_its_page_says():
    with torch.device("meta"):
        network = build({"name": "actionformer"})
    assert sum(x.numel() for x in network.parameters()) == pytest.approx(29.57e6, rel=1e-3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"windows": 4}, "windows must be odd numbers of steps, or -1 for all, got 4"),
        ({"windows": 0}, "windows must be odd"),
        ({"windows": -3}, "windows must be odd"),
        ({"windows": [3, 3, 2, 3, 3, 3]}, "windows must be odd"),
        ({"windows": [3, 3]}, "windows must be one, or one for each of 6 levels"),
        ({"audio_dim": -1}, "audio_dim must be at least 0, got -1"),
        ({"visual_dim": 0}, "visual_dim must be at least 1, got 0"),
        ({"class_width": 4}, "class_width: unknown key"),
        ({"positions": "everywhere"}, "positions"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message) as told:
        parse_network(SMALL | fields, "m.yaml")
    assert str(told.value).startswith("m.yaml: ")


def test_windows_of_three_and_of_each_level_are_taken():
    for windows in (3, 1, -1, (3, 5, 7, 9, 11, -1)):
        config = ActionFormerConfig(windows=windows)
        assert len(config.level_windows) == 6
        assert parse_network(json.loads(json.dumps(asdict(config))), "model.json") == config


@pytest.mark.parametrize(("name", "T", "dims"), [("i3d", 224, (2048, 128)), ("onepeace", 256, (1536, 1536))])
def test_the_shipped_configurations_are_those_of_the_other_rows(name, T, dims, tmp_path):
    ours, baseline = (load_train_config(f"{kind}-{name}", tmp_path) for kind in ("actionformer", "unav"))
    assert ours.model == {"name": "actionformer", "max_length": T}
    assert ours.recipe == baseline.recipe
    assert ours.data == baseline.data
    assert ours.detection is None
    with torch.device("meta"):
        network = build(ours.model | {"visual_dim": dims[0], "audio_dim": dims[1]})
    assert network.embed.convs[0].weight.shape == (512, 3 * sum(dims))
    assert isinstance(network.config, ActionFormerConfig)
    assert (network.config.windows, network.config.positions) == (-1, True)


# Released checkpoints


def shapes(name: str) -> dict[str, list[int]]:
    return json.loads((GOLDEN / "actionformer" / f"{name}.keys.json").read_text())


def test_the_checkpoint_released_for_thumos_loads():
    state = {f"module.{key}": torch.zeros(shape) for key, shape in shapes("thumos14").items()}
    network = from_published({"epoch": 35, "state_dict": {}, "state_dict_ema": state}, **THUMOS)
    assert network.config == ActionFormerConfig(
        num_classes=20, visual_dim=2048, audio_dim=0, max_length=2304, windows=19, positions=False
    )
    with torch.inference_mode():
        outputs = network(torch.zeros(1, 40, 2048), torch.zeros(1, 40, 0), torch.ones(1, 40, dtype=torch.bool))
    assert outputs.candidates().scores.isfinite().all()


def test_one_without_audio_is_saved_and_used_like_any_other(tmp_path):
    state = state_of("window")
    network = from_published(state, 128, windows=5, positions=False)
    assert (network.config.visual_dim, network.config.audio_dim) == (24, 0)
    spec = replace(SPEC, visual_dim=24, audio_dim=0)
    labels = tuple("abcdefg")
    info = ModelInfo("m", network.config, spec, labels, 0.5, {}, tracks=("visual",))
    save_model(tmp_path / "m", network, info)
    again, read, _ = load_model(tmp_path / "m")
    assert read == info
    case = golden("window")
    both = torch.cat([case.visual[1], case.audio[1]], dim=-1)[None]
    with torch.inference_mode():
        found = again(both, both[..., :0], torch.ones(1, both.shape[1], dtype=torch.bool))
        expected = released("window")(*alone(case, 1))
    for ours, theirs in zip(found.logits, expected.logits, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("channels", "settings", "dims"),
    [
        (2176, {}, (2048, 128)),
        (3072, {}, (1536, 1536)),
        (2048, {}, (2048, 0)),
        (2176, {"visual_dim": 2176}, (2176, 0)),
        (36, {"visual_dim": 24}, (24, 12)),
    ],
)
def test_the_visual_channels_are_the_first(channels, settings, dims):
    state = state_of("small")
    state["backbone.embd.0.conv.weight"] = torch.zeros(32, channels, 3)
    config = from_published(state, 64, **settings).config
    assert (config.visual_dim, config.audio_dim) == dims


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("neck.fpn_norms.3.bias"), r"'neck.fpn_norms.3.bias' is missing"),
        (lambda s: s.pop("backbone.embd.0.conv.weight"), r"'backbone.embd.0.conv.weight' is missing"),
        (lambda s: s.pop("reg_head.scale.5.scale"), "unknown tensors, first 'backbone.branch.4"),
        (
            lambda s: s.update({"backbone.stem.0.attn.rel_pe": torch.ones(1, 1, 4, 5)}),
            r"1 unknown tensors, first 'back",
        ),
        (lambda s: s.update({"backbone.branch.2.mlp.0.weight": torch.ones(8, 8, 1)}), r"does not fit, \(8, 8, 1\)"),
        (lambda s: s.update({"backbone.embd.0.conv.weight": torch.ones(8)}), r"does not fit, \(8,\)"),
        (lambda s: s.update({"reg_head.scale.0.scale": torch.ones(2)}), r"does not fit, \(2,\)"),
        (lambda s: s.update({"reg_head.offset_head.conv.weight": torch.ones(14, 32, 3)}), r"does not fit, \(14, 32"),
        (lambda s: s.update(epoch=3), r"not a released checkpoint"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_in_a_line(change, message):
    state = state_of("small")
    change(state)
    with pytest.raises(ConfigError, match=message) as told:
        from_published(state, 64)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 5}, "a released actionformer checkpoint takes no window: its settings are visual_dim, max_length"),
        ({"windows": 4}, "not a released checkpoint with these settings: windows must be odd"),
        ({"num_heads": 3}, r"width \(32\) must be a multiple of num_heads \(3\)"),
        ({"visual_dim": 37}, "visual_dim must be 1 to 36, the checkpoint's channels, got 37"),
        ({"visual_dim": 0}, "visual_dim must be 1 to 36"),
        ({"max_length": 70}, "max_length must be a multiple of 32"),
    ],
)
def test_settings_that_do_not_fit_a_checkpoint_are_refused_in_a_line(settings, message):
    with pytest.raises(ConfigError, match=message):
        from_published(state_of("small"), **settings)


def test_a_checkpoint_of_another_model_is_not_taken_for_this_one():
    with pytest.raises(ConfigError, match="takes no windows"):
        from_published(published_state("unav_small"), windows=5)
    other = {"transformer.decoder.layers.0.linear1.weight": torch.zeros(2, 2)}
    with pytest.raises(ConfigError, match="not a released checkpoint"):
        from_published(other)


@pytest.mark.parametrize("name", ["small", "window", "unav", "thumos14"])
def test_its_parameters_have_the_released_names(name):
    with torch.device("meta"):
        state = build({"name": "actionformer"}).state_dict()
    scales = {f"reg_head.scale.{level}.scale" for level in range(6)}
    ours = {published_name(key, "actionformer") for key in state.keys() - {"decoder.scales"}} | scales
    assert len(ours) == 229
    assert ours == shapes(name).keys()
