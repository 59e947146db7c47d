"""UniAV against the released implementation (`tests/golden/uniav/`), and what its page says besides."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from golden_values import GOLDEN, fill, published_state
from torch import Tensor

from davel.core.errors import ConfigError
from davel.data.dataset import Sample
from davel.detection import decode
from davel.models import UniAV, UniAVConfig, build, from_published, parse_network, published_name
from davel.models.detector import Truth
from davel.models.published import released_name
from davel.models.uniav import TASKS, Canvas, Joint, released_names, resize
from davel.train import Ema, optimizer_for
from davel.train.recipe import Recipe

CASES = [(name, task) for name in ("small", "unav") for task in TASKS]


@dataclass(frozen=True)
class TaskCase:
    """One task of a golden case."""

    name: str
    task: str
    dims: tuple[int, int]
    text_dim: int
    meta: dict[str, Any]
    expected: dict[str, np.ndarray]
    visual: list[Tensor]
    audio: list[Tensor]
    events: list[tuple[np.ndarray, np.ndarray]]

    @property
    def timing(self) -> tuple[float, int, int]:
        return self.meta["fps"], self.meta["feat_stride"], self.meta["feat_num_frames"]

    @property
    def durations(self) -> list[float]:
        fps, stride, window = self.timing
        return [(length * stride + window) / fps for length in self.meta["lengths"]]

    @property
    def text(self) -> Tensor:
        rows = torch.from_numpy(np.asarray(fill(f"text.{self.task}", [self.meta["num_classes"], self.text_dim])))
        return rows / rows.norm(dim=1, keepdim=True)

    def network(self, **settings: Any) -> UniAV:
        _, stride, window = self.timing
        table = max(json.loads(self.expected["meta"].item())["tasks"][task]["max_length"] for task in TASKS)
        settings = {"max_length": self.meta["max_length"], "table_length": table} | settings
        if self.task == "TAL":
            settings |= {"every": 1, "margin": window / (2 * stride)}
        network = from_published(
            published_state(f"uniav/{self.name}"), task=self.task, class_embeddings=self.text, **settings
        )
        assert isinstance(network, UniAV)
        return network

    def batch(self) -> tuple[Tensor, Tensor, Tensor]:
        """With something behind the videos that is no number."""
        lengths = torch.tensor(self.meta["lengths"])
        T = int(lengths.max())
        mask = torch.arange(T) < lengths[:, None]
        padded = []
        for videos in (self.visual, self.audio):
            x = torch.full((len(lengths), T, videos[0].shape[1]), math.nan)
            for row, video in zip(x, videos, strict=True):
                row[: len(video)] = video
            padded.append(x)
        return padded[0], padded[1], mask

    def alone(self, i: int) -> tuple[Tensor, Tensor, Tensor]:
        return self.visual[i][None], self.audio[i][None], torch.ones(1, len(self.visual[i]), dtype=torch.bool)

    def truth(self) -> Truth:
        fps, stride, window = self.timing
        segments = torch.tensor(np.stack([s for s, _ in self.events]))
        return Truth((segments * fps - window / 2) / stride, torch.tensor(np.stack([c for _, c in self.events])))

    def of(self, *parts: Any) -> np.ndarray:
        return self.expected["_".join(map(str, (self.task, *parts)))]


@cache
def golden(name: str, task: str) -> TaskCase:
    with np.load(GOLDEN / "uniav" / f"{name}.npz") as stored:
        expected = dict(stored)
    whole = json.loads(str(expected["meta"]))
    meta, dims = whole["tasks"][task], (whole["input_dim_visual"], whole["input_dim_audio"])
    rng = np.random.default_rng(meta["seed"])
    videos: tuple[list[Tensor], list[Tensor]] = ([], [])
    events = []
    for length in meta["lengths"]:
        for dim, drawn in zip(dims, videos, strict=True):
            drawn.append(torch.from_numpy(rng.standard_normal((length, dim), dtype=np.float32)))
        duration = (length * meta["feat_stride"] + meta["feat_num_frames"]) / meta["fps"]
        start = rng.random(4) * duration * 0.8
        end = np.minimum(start + 0.5 + rng.random(4) ** 2 * duration, duration)
        events.append((np.stack([start, end], 1).astype(np.float32), rng.integers(0, meta["num_classes"], 4)))
    return TaskCase(name, task, dims, whole["text_dim"], meta, expected, *videos, events)


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request) -> tuple[TaskCase, UniAV]:
    case = golden(*request.param)
    return case, case.network()


def departure(ours: Tensor, theirs: np.ndarray, scale: np.ndarray) -> float:
    """The largest difference, relative to the spread of what is expected."""
    return float(np.abs(ours.numpy() - theirs).max() / (scale.std() or 1))


def levels_of(case: TaskCase, i: int) -> list[int]:
    steps = case.meta["max_length"] if case.task == "TAL" else case.meta["lengths"][i]
    return [-(-steps // 2**level) for level in range(6)]


@torch.inference_mode()
def test_logits_and_offsets_are_the_released_ones_alone_and_in_a_batch(case):
    case, network = case
    together = network(*case.batch())
    worst = 0.0
    for i in range(len(case.visual)):
        own = network(*case.alone(i))
        for level, n in enumerate(levels_of(case, i)):
            logits, offsets = case.of("logits", level), case.of("offsets", level)
            for outputs, row in ((own, 0), (together, i)):
                worst = max(worst, departure(outputs.logits[level][row, :n], logits[i, :n], logits[i, :n]))
                worst = max(worst, departure(outputs.offsets[level][row, :n], offsets[i, :n], offsets))
    print(case.name, case.task, worst)
    assert worst < 6e-5


@torch.inference_mode()
def test_every_stage_is_the_released_one(case):
    case, network = case
    pyramid: list[dict[str, Tensor]] = []
    hooks = [x.register_forward_hook(lambda *told: pyramid.append(told[-1])) for x in network.interactions]
    for i in range(len(case.visual)):
        pyramid.clear()
        network(*case.alone(i))
        for level, n in enumerate(levels_of(case, i)):
            for modality in ("visual", "audio"):
                real = pyramid[level][modality][0, :n].double()
                expected = case.of("stage", modality, level)[i]
                assert float(real.sum()) == pytest.approx(expected, abs=2e-6 * float(real.abs().sum()))
    for hook in hooks:
        hook.remove()


@torch.inference_mode()
def test_events_are_the_released_ones(case):
    case, network = case
    given = case.batch()
    assert network.detection.nms.sigma == case.meta["nms_sigma"]
    found = decode(network(*given), given[2], case.timing, case.durations, network.detection)
    for i, events in enumerate(found):
        segments, scores, labels = (case.of("events", i, part) for part in ("segments", "scores", "labels"))
        real = segments[:, 0] < segments[:, 1]
        segments, scores, labels = segments[real], scores[real], labels[real]
        assert len(events) == len(scores)
        np.testing.assert_allclose(events.scores, scores, atol=1e-5)
        missing = 0
        for segment, score, label in zip(segments, scores, labels, strict=True):
            near = np.abs(events.segments - segment).max(1) < 1e-3
            missing += not (near & (events.label_ids == label) & (np.abs(events.scores - score) < 1e-5)).any()
        assert missing == 0


@pytest.mark.parametrize(("name", "task"), CASES, ids=["-".join(case) for case in CASES])
def test_targets_are_the_released_ones(name, task):
    case = golden(name, task)
    network = build(
        {"name": "uniav", "task": task, "max_length": 4096, "width": 8, "canvas": None}
        | ({"canvas": case.meta["max_length"], "margin": 1.0} if task == "TAL" else {})
    )
    criterion = network.criterion(Recipe())
    mask = case.batch()[2]
    if task != "TAL":  # released at padding, too
        mask = torch.ones(len(mask), case.meta["max_length"], dtype=torch.bool)
    targets = criterion.targets(mask, case.truth(), case.meta["num_classes"])
    for i in range(len(case.visual)):
        assert (targets.classes[i].nonzero().numpy() == case.of("targets", i, "pos")).all()
        wanted = case.of("targets", i, "offsets")
        offsets = targets.offsets[i][targets.bounded[i]].numpy()
        if task == "TAL":  # released per class, here one for all
            places, index = np.unique(case.of("targets", i, "pos")[:, 0], return_index=True)
            assert (targets.bounded[i, :, 0].nonzero()[:, 0].numpy() == places).all()
            wanted = wanted[index] if len(wanted) != len(places) else wanted
        np.testing.assert_allclose(offsets, wanted, rtol=1e-4, atol=1e-4)


# What only the small case has


@torch.inference_mode()
@pytest.mark.parametrize("task", TASKS)
def test_classes_are_the_released_ones(task):
    case = golden("small", task)
    ours = case.network().decoder.classify.project_text()
    np.testing.assert_allclose(ours.numpy(), case.of("classes"), atol=1e-6)


@torch.inference_mode()
@pytest.mark.parametrize("task", ["AVEL", "SED"])
def test_a_video_that_is_longer_than_the_task_is_run_as_released(task):
    case = golden("small", task)
    rng, length = np.random.default_rng(case.meta["seed"] + 1000), case.meta["long"]
    visual, audio = (torch.from_numpy(rng.standard_normal((length, D), dtype=np.float32)) for D in case.dims)
    outputs = case.network()(visual[None], audio[None], torch.ones(1, length, dtype=torch.bool))
    for level in range(6):
        n = -(-length // 2**level)
        for part, ours in (("logits", outputs.logits), ("offsets", outputs.offsets)):
            expected = case.of("long", part, level)[:, :n]
            assert departure(ours[level], expected, expected) < 6e-5


def test_videos_of_actions_are_resized_as_released():
    case = golden("small", "TAL")
    canvas = Canvas(case.meta["max_length"], 1, 1.0)
    visual, _, mask = case.batch()
    lengths = mask.sum(1)
    np.testing.assert_allclose(canvas.step(lengths) * case.meta["feat_stride"], case.of("feat_stride"), rtol=1e-6)
    drawn = canvas.draw(visual, lengths)
    for i in range(len(case.visual)):
        np.testing.assert_allclose(drawn[i].numpy(), case.of("resized_visual", i), atol=2e-6)


def test_a_video_on_the_canvas_reads_every_second_step_of_one_extraction():
    coarse, fine = Canvas(64, 1, 1.0), Canvas(64, 2, 2.0)  # 8 and 4 frames apart
    x = torch.randn(1, 81, 3, generator=torch.Generator().manual_seed(0))
    for n in (81, 80):
        every_second = x[:, :n:2]
        ours, theirs = torch.tensor([n]), torch.tensor([every_second.shape[1]])
        assert torch.equal(fine.draw(x[:, :n], ours), coarse.draw(every_second, theirs))
        at = torch.tensor([[0.0, 10.5, 63.0]])
        torch.testing.assert_close(fine.to_steps(at, ours), 2 * coarse.to_steps(at, theirs))
        torch.testing.assert_close(fine.to_canvas(fine.to_steps(at, ours), ours), at)


def trained(case: TaskCase) -> UniAV:
    """As it is in training, without what is dropped at random: a video of actions is resized before."""
    released = case.network(positions="sliced")
    network = UniAV(replace(released.config, canvas=None, max_length=case.meta["max_length"]))
    network.load_state_dict(released.state_dict())
    network.name_classes(case.text)
    return without_drops(network)


def without_drops(network: UniAV) -> UniAV:
    for module in network.modules():
        if hasattr(module, "probability"):
            module.probability = 0.0
    return network.train()


def training_batch(case: TaskCase) -> tuple[tuple[Tensor, Tensor, Tensor], Truth]:
    """The task's whole length, of actions on the canvas."""
    visual, audio, mask = case.batch()
    T = case.meta["max_length"]
    if case.task != "TAL":
        pad = (0, 0, 0, T - mask.shape[1])
        visual, audio = (torch.nn.functional.pad(x, pad) for x in (visual, audio))
        return (visual, audio, torch.nn.functional.pad(mask, pad[2:])), case.truth()
    canvas, lengths = Canvas(T, 1, 1.0), mask.sum(1)
    drawn = canvas.draw(visual, lengths), canvas.draw(audio, lengths), torch.ones(len(mask), T, dtype=torch.bool)
    return drawn, canvas.truth(case.truth(), lengths)


def losses_of(network: UniAV, case: TaskCase, criterion: Any) -> dict[str, Tensor]:
    inputs, truth = training_batch(case)
    targets = criterion.targets(inputs[2], truth, case.meta["num_classes"])
    criterion.update(targets.num_positive)
    losses: dict[str, Tensor] = criterion(network(*inputs), inputs[2], targets)
    return losses


def published_norms(network: UniAV, task: str) -> dict[str, float]:
    """The norm of every gradient, by released names."""
    names = released_names(task)
    norms = {released_name(name, names): p.grad.norm().item() for name, p in network.named_parameters()}
    for level, gradient in enumerate(network.decoder.scales.grad):
        norms[f"reg_head.scale.{level}.scale"] = gradient.norm().item()
    del norms["decoder.scales"]
    return norms


ROUNDING = (".attn.key.bias", ".attn.key_norm.bias")
"""They add the same to every key: their gradient is rounding alone."""


@pytest.mark.parametrize("task", TASKS)
def test_a_training_step_has_the_released_losses_and_gradients(task):
    case = golden("small", task)
    network = trained(case)
    criterion = network.criterion(Recipe(initial_positive=case.meta["init_loss_norm"]))
    losses = losses_of(network, case, criterion)
    torch.stack(list(losses.values())).sum().backward()
    for part, name in (("classification", "cls"), ("regression", "reg")):
        assert losses[part].item() == pytest.approx(float(case.of("train", name, "loss")), rel=2e-6)
    expected = dict(zip(case.of("train_grad_names"), case.of("train_grad_norms"), strict=True))
    ours = published_norms(network, task)
    assert ours.keys() == expected.keys()
    for name, norm in expected.items():
        if not name.endswith(ROUNDING):
            assert ours[name] == pytest.approx(norm, rel=2e-5, abs=1e-8 * max(expected.values())), name


def joint_of(cases: dict[str, TaskCase]) -> Joint:
    """All tasks of the small case, as they are trained, without what is dropped at random."""
    alone = {task: trained(case) for task, case in cases.items()}
    joint = Joint({task: network.config for task, network in alone.items()})
    for task, network in alone.items():
        joint.tasks[task].load_state_dict(network.state_dict())
        joint.tasks[task].name_classes(cases[task].text)
        without_drops(joint.tasks[task])
    return joint


def released_tensors(joint: Joint) -> dict[str, Tensor]:
    """By released names, each once, in their own numbers."""
    tensors = {}
    for task in TASKS:
        for name, x in joint.tasks[task].state_dict().items():
            if name == "decoder.scales":
                tensors |= {f"reg_head.scale.{level}.scale": scale for level, scale in enumerate(x)}
            else:
                tensors[released_name(name, released_names(task))] = x
    return {name: x.detach().clone() for name, x in tensors.items()}


def test_an_iteration_of_all_tasks_is_the_released_one():
    """Three batches, three steps of the optimizer, three of the average, from the same weights."""
    cases = {task: golden("small", task) for task in TASKS}
    joint, expected = joint_of(cases), cases["TAL"].expected
    tensors = {name: torch.as_tensor(x) for name, x in released_tensors(joint).items()}
    assert len(tensors) == 697
    assert sum(x.numel() for x in joint.parameters()) == 517401
    assert sum(x.numel() for x in tensors.values()) == 517401
    recipe = Recipe(learning_rate=1e-3, ema_decay=0.999)
    ema, optimizer = Ema(joint, recipe.ema_decay), optimizer_for(joint, recipe)
    decayed = [len(group["params"]) for group in optimizer.param_groups if group["weight_decay"]]
    assert sum(decayed) == 221  # and the scales of the levels are one tensor here
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 697 - 5
    counts = []
    for task, network in zip(TASKS, joint.networks(), strict=True):
        criterion = network.criterion(Recipe(initial_positive=cases[task].meta["init_loss_norm"]))
        optimizer.zero_grad()
        loss = torch.stack(list(losses_of(network, cases[task], criterion).values())).sum()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(joint.parameters(), recipe.clip_norm)
        optimizer.step()
        ema.update(joint)
        assert loss.item() == pytest.approx(float(expected[f"step_{task}_final_loss"]), rel=2e-6)
        assert norm.item() == pytest.approx(float(expected[f"step_{task}_grad_norm"]), rel=5e-6)
        counts.append(float(criterion.num_positive))
    np.testing.assert_allclose(counts, expected["step_loss_normalizers"], rtol=1e-6)
    after, averaged = released_tensors(joint), released_tensors(ema.model)
    norms = expected["step_change_norms"], expected["step_ema_change_norms"]
    for name, change, averaged_change in zip(expected["step_names"], *norms, strict=True):
        if not name.endswith(ROUNDING):
            before = tensors[name].double()
            assert float((after[name] - before).norm()) == pytest.approx(change, rel=2e-5, abs=1e-9), name
            # an average moves by a thousandth of that, of which float32 rounds a part away, three times
            rounded = 3 * torch.finfo(torch.float32).eps * float(before.norm())
            assert float((averaged[name] - before).norm()) == pytest.approx(averaged_change, rel=2e-4, abs=rounded)


@pytest.mark.parametrize("number", range(4))
def test_crops_are_the_released_ones(number):
    expected = golden("small", "TAL").expected
    length, _, share, beyond, start, steps = expected[f"crop_{number}"]
    segments = expected[f"crop_{number}_segments"]
    video = np.zeros((int(length), 1), np.float32)
    cropped = Sample("v", video, video, segments, np.arange(len(segments))).crop(int(start), int(steps), share, beyond)
    assert len(cropped.visual) == steps
    assert (cropped.labels == expected[f"crop_{number}_kept"]).all()
    np.testing.assert_allclose(cropped.segments, expected[f"crop_{number}_result"], atol=1e-4)


# Checkpoints


STATE = "uniav/small"


def checkpoint(**changes: Tensor | None) -> dict[str, Tensor]:
    state = dict(published_state(STATE)) | {key: x for key, x in changes.items() if x is not None}
    return {key: x for key, x in state.items() if key not in changes or changes[key] is not None}


def small(state: dict[str, Tensor] | None = None, task: Any = "AVEL", **settings: Any) -> UniAV:
    case = golden("small", task if task in TASKS else "AVEL")
    given = {"class_embeddings": case.text, "max_length": 96, "table_length": 96} | settings
    network = from_published(state or checkpoint(), task=task, **given)
    assert isinstance(network, UniAV)
    return network


def test_a_task_is_taken_out_of_a_whole_checkpoint():
    state = checkpoint()
    whole = {"epoch": 6, "state_dict": {}, "state_dict_ema": {f"module.{key}": x for key, x in state.items()}}
    one, other = small(state), small(whole)
    assert all(torch.equal(x, other.state_dict()[name]) for name, x in one.state_dict().items())
    for name, parameter in one.named_parameters():
        if name != "decoder.scales":
            assert parameter.numel() == state[published_name(name, "uniav")].numel(), name
    assert sum(x.numel() for x in one.parameters()) < 0.6 * sum(x.numel() for x in state.values())


@pytest.mark.slow
def test_the_released_sizes_are_as_said():
    assert sum(x.numel() for x in golden("unav", "AVEL").network().parameters()) == 63_493_327
    shapes = json.loads((GOLDEN / "uniav" / "unav.keys.json").read_text())
    assert (len(shapes), sum(math.prod(shape) for shape in shapes.values())) == (697, 130_750_693)


@pytest.mark.parametrize(
    ("state", "settings", "problem"),
    [
        (checkpoint(**{"cls_head.logit_scale": None}), {}, "'cls_head.logit_scale' is missing"),
        (checkpoint(**{"backbone.self_att_V.0.mlp_AVEL.0.weight": None}), {}, r"mlp_AVEL\.0\.weight' is missing"),
        (checkpoint(surplus=torch.ones(1)), {}, "a released uniav checkpoint: 1 unknown tensors, first 'surplus'"),
        (checkpoint(**{"cls_head.clip_proj.bias": torch.ones(3)}), {}, r"'cls_head\.clip_proj\.bias' has a shape"),
        (checkpoint(**{"reg_head.scale.2.scale": None}), {}, "not a released"),
        (None, {"task": "ASR"}, "unknown task 'ASR': choose from TAL, AVEL, SED"),
        (None, {"class_embeddings": None}, "holds no embeddings of its classes: give class_embeddings"),
        (None, {"class_embeddings": torch.eye(4, 40)}, r"expected embeddings of classes \(5, 40\), got \(4, 40\)"),
        (None, {"class_embeddings": torch.eye(5, 39)}, r"expected embeddings of classes \(5, 40\), got \(5, 39\)"),
        (None, {"class_embeddings": 1.1 * torch.eye(5, 40)}, "the embedding of class 0 is not of unit norm"),
        (None, {"class_embeddings": torch.eye(5, 40) * math.nan}, "the embedding of class 0 is not of unit norm"),
        (None, {"every": 2}, "every is for TAL, whose videos are resized: leave it out for AVEL"),
        (None, {"max_length": 100}, "max_length must be a multiple of 32"),
        (None, {"windows": 9}, "a released uniav checkpoint takes no windows"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_told_in_a_line(state, settings, problem):
    with pytest.raises(ConfigError, match=problem) as told:
        small(state, **settings)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("other", ["ccnet_small", "unav_small", "actionformer/small", "tadtr/small"])
def test_another_models_checkpoint_is_not_taken_for_one(other):
    with pytest.raises(ConfigError, match=r"is missing|takes no"):
        small(dict(published_state(other)))


# Classes it was not trained on


@torch.inference_mode()
def test_new_classes_have_the_boundaries_of_the_most_alike():
    network, case = small(), golden("small", "AVEL")
    inputs = case.alone(0)
    own = network(*inputs)
    near = case.text[[3, 1]] + 0.02 * torch.randn(2, 40, generator=torch.Generator().manual_seed(0))
    new = torch.cat([near / near.norm(dim=1, keepdim=True), case.text[:1]])
    other, stand_ins = network.of_classes(new)
    assert stand_ins == [3, 1, 0]
    assert other.config == replace(network.config, num_classes=3)
    outputs = other(*inputs)
    for level in range(6):
        torch.testing.assert_close(outputs.offsets[level], own.offsets[level][:, :, stand_ins])
        torch.testing.assert_close(outputs.logits[level][..., 2], own.logits[level][..., 0])
        assert not torch.allclose(outputs.logits[level][..., 0], own.logits[level][..., 3], atol=1e-3)
    with pytest.raises(ValueError, match="class 1 is not of unit norm"):
        network.of_classes(torch.cat([new[:1], 2 * new[1:]]))
    with pytest.raises(ValueError, match=r"expected embeddings of classes \(3, 40\), got \(3, 7\)"):
        network.of_classes(new[:, :7])


@torch.inference_mode()
def test_actions_have_the_same_boundaries_whatever_their_class():
    case = golden("small", "TAL")
    network = case.network()
    other, stand_ins = network.of_classes(case.text[[4, 0]])
    assert stand_ins == [None, None]
    ours, theirs = (n(*case.alone(2)).candidates() for n in (network, other))
    assert torch.equal(ours.segments, theirs.segments)
    torch.testing.assert_close(theirs.scores, ours.scores[..., [4, 0]])


# Configurations, and what of positions and padding follows from them


SMALL = {
    "name": "uniav",
    "num_classes": 3,
    "visual_dim": 10,
    "audio_dim": 6,
    "max_length": 64,
    "width": 16,
    "text_dim": 12,
    "table_length": 128,
}


def of(**fields: Any) -> UniAV:
    torch.manual_seed(0)
    network = build(SMALL | fields)
    assert isinstance(network, UniAV)
    return network.eval()


def test_positions_are_the_first_of_the_table_or_all_of_it_squeezed():
    sliced, squeezed = (of(positions=p).embed["audio"] for p in ("sliced", "squeezed"))
    assert torch.equal(sliced.position(40), sliced.table[:40])
    assert torch.equal(sliced.position(100), sliced.table[:100])
    mean = squeezed.table.unflatten(0, (64, 2)).mean(1)  # row i lies between rows 2i and 2i + 1
    torch.testing.assert_close(squeezed.position(40), mean[:40])
    torch.testing.assert_close(squeezed.position(64), mean)
    torch.testing.assert_close(squeezed.position(96), resize(squeezed.table, 96))
    whole = of(table_length=64, positions="squeezed").embed["audio"]
    assert torch.equal(whole.position(64), whole.table)
    stretched = of(table_length=32).embed["audio"]
    torch.testing.assert_close(stretched.position(64), resize(stretched.table, 64))


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"task": "ASR"}, "task"),
        ({"canvas": 33}, "canvas must be a multiple of 32, got 33"),
        ({"every": 2}, r"every \(2\) does nothing without a canvas"),
        ({"table_length": 0}, "table_length must be at least 1, got 0"),
        ({"margin": 0}, "margin must be above 0"),
        ({"positions": "guessed"}, "positions"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(fields, problem):
    with pytest.raises(ConfigError, match=problem):
        parse_network(SMALL | fields, "m.yaml")


def test_longer_videos_run_one_by_one():
    network = of()
    x = torch.zeros(2, 65, 10), torch.zeros(2, 65, 6), torch.ones(2, 65, dtype=torch.bool)
    with pytest.raises(ValueError, match="videos of more than 64 steps are run one by one"):
        network(*x)
    with torch.inference_mode():
        assert [len(x[0]) for x in network(*(part[:1] for part in x)).logits] == [65, 33, 17, 9, 5, 3]


def test_actions_are_found_in_videos_of_any_length_and_not_written_as_onnx(tmp_path):
    network = of(task="TAL", canvas=32, every=2, max_length=256)
    visual, audio = torch.randn(2, 200, 10), torch.randn(2, 200, 6)
    mask = torch.arange(200) < torch.tensor([[200], [77]])
    with torch.inference_mode():
        outputs = network(visual, audio, mask).within(mask)
        alone = network(visual[1:, :77], audio[1:, :77], mask[1:, :77])
    candidates = outputs.candidates()
    assert candidates.segments.shape == (2, 63, 1, 2)
    torch.testing.assert_close(candidates.segments[1:], alone.candidates().segments)
    torch.testing.assert_close(candidates.scores[1:], alone.candidates().scores)
    with pytest.raises(ConfigError, match="of TAL cannot be written as an ONNX file: use its folder"):
        network.exportable()


def test_an_event_that_is_mostly_behind_the_canvas_is_not_learnt():
    canvas = Canvas(32, 1, 1.0)
    lengths = torch.tensor([31])  # a step of the canvas is one of the video, and half a step later
    segments = torch.tensor([[[2.0, 9.0], [28.0, 33.0], [30.5, 36.0], [33.0, 40.0]]])
    truth = canvas.truth(Truth(segments, torch.tensor([[0, 1, 2, 2]])), lengths)
    assert truth.labels.tolist() == [[0, 1, -1, -1]]
    torch.testing.assert_close(truth.segments[0, :2], torch.tensor([[2.5, 9.5], [28.5, 32.5]]))


def test_the_tasks_share_all_but_their_experts():
    configs = {task: UniAVConfig(**asdict(of(task=task).config)) for task in TASKS}
    joint = Joint(configs)
    networks = list(joint.networks())
    names = [dict(network.named_parameters()) for network in networks]
    own = {name for name, x in names[0].items() if x is not names[1][name]}
    assert own == {name for name, x in names[1].items() if x is not names[2][name]}
    blocks = 2 * 2 + 6 * 2
    assert len(own) == blocks * 6 + 2
    kinds = {
        name.rpartition(".")[0].rsplit(".", 2)[-1 if name.endswith(("norm.weight", "norm.bias")) else -2]
        for name in own
    }
    assert kinds == {"norm", "mlp", "regress"}
    groups = joint.parameter_groups(Recipe())
    assert sorted(id(x) for group in groups for x in group["params"]) == sorted(map(id, joint.parameters()))
