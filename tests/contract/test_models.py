"""What every model keeps: davel's own, and one of another kind in a file of its own (`toy_model`)."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import own_family
import own_model
import pytest
import torch
from torch import Tensor

import davel
from davel.core.errors import ConfigError
from davel.core.events import EventList
from davel.data.simulate import draw_annotations, simulate
from davel.data.sources import DataConfig
from davel.detection import decode
from davel.detection.windows import find_events
from davel.evaluate import predict, score
from davel.features.embeddings import TextEmbeddings
from davel.features.light import SPEC
from davel.models import MODELS, Network, build, from_published, model_module, model_names, parse_network
from davel.models.detector import Truth
from davel.models.saved import ModelInfo, load_model, save_model
from davel.train import Reporting, load_data, optimizer_for, train
from davel.train.recipe import Recipe, TrainConfig

LABELS = ("bark", "bell", "rain")
TIMING = (1.0, 1, 1)
SIZES = {"num_classes": 3, "visual_dim": SPEC.visual_dim, "audio_dim": SPEC.audio_dim, "max_length": 64, "width": 8}
PYRAMID = {"class_width": 4}
OWN = "toy"


@pytest.fixture
def toy(monkeypatch) -> str:
    monkeypatch.setitem(MODELS, OWN, "toy_model")
    return OWN


@pytest.fixture(params=[*MODELS, OWN])
def kind(request, monkeypatch) -> str:
    monkeypatch.setitem(MODELS, OWN, "toy_model")
    return str(request.param)


def fields(kind: str) -> dict[str, Any]:
    known = model_module(kind).Config.__dataclass_fields__
    return {key: value for key, value in (SIZES | PYRAMID).items() if key in known} | {"name": kind}


@pytest.fixture
def model(kind) -> Network:
    torch.manual_seed(0)
    return build(fields(kind)).eval()


def inputs(*lengths: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of videos of so many steps; the first is the same whatever comes after it."""
    T = max(lengths)
    visual, audio = torch.zeros(len(lengths), T, SPEC.visual_dim), torch.zeros(len(lengths), T, SPEC.audio_dim)
    mask = torch.zeros(len(lengths), T, dtype=torch.bool)
    for b, n in enumerate(lengths):
        generator = torch.Generator().manual_seed(seed + b)
        visual[b, :n] = torch.randn(n, SPEC.visual_dim, generator=generator)
        audio[b, :n] = torch.randn(n, SPEC.audio_dim, generator=generator)
        mask[b, :n] = True
    return visual, audio, mask


def events_of(model: Network, batch: tuple[Tensor, Tensor, Tensor], **changes: Any) -> list[EventList]:
    with torch.inference_mode():
        outputs = model(*batch)
    durations = batch[2].sum(1).tolist()
    return decode(outputs, batch[2], TIMING, durations, replace(model.detection, **changes))


def info_of(model: Network) -> ModelInfo:
    given = embeddings(model.config.text_dim) if model.config.text_dim else None
    if given:
        model.name_classes(torch.from_numpy(given.rows))
    return ModelInfo(
        name="m", config=model.config, features=SPEC, labels=LABELS, threshold=0.0, figures={}, embeddings=given
    )


def embeddings(dim: int) -> TextEmbeddings:
    """Of the classes' names."""
    rows = np.eye(len(LABELS), dim, dtype=np.float32)
    return TextEmbeddings(LABELS, LABELS, rows, "one-peace", "")


def test_a_video_does_not_depend_on_its_batch_mates(model):
    alone = events_of(model, inputs(40))[0]
    assert len(alone)
    for mates in ((64,), (40, 7), (1,)):
        found = events_of(model, inputs(40, *mates))[0]
        np.testing.assert_array_equal(found.label_ids, alone.label_ids)
        np.testing.assert_allclose(found.scores, alone.scores, rtol=1e-4)
        np.testing.assert_allclose(found.segments, alone.segments, rtol=1e-4, atol=1e-3)


def test_candidates_are_what_they_promise(model):
    batch = inputs(64, 33, 1)
    with torch.inference_mode():
        outputs = model(*batch).within(batch[2])
        candidates = outputs.candidates()
    assert sum(candidates.groups) == candidates.scores.shape[1] == candidates.segments.shape[1]
    assert candidates.segments.isfinite().all()
    assert ((candidates.scores >= 0) & (candidates.scores <= 1)).all()
    assert candidates.scores[0].sum() > 0
    if len(candidates.groups) > 1:  # a pyramid, whose candidates are at steps
        real = torch.cat([batch[2][:, :: 2**level] for level in range(len(candidates.groups))], dim=1)
        assert (candidates.scores[~real] == 0).all()
        assert (candidates.scores[real] > 0).all()
    for curve in outputs.curves().values():
        assert curve.shape == batch[2].shape
        assert curve[batch[2]].isfinite().all()


def test_events_are_within_the_video_and_as_good_as_asked_for(model):
    lengths = (64, 33, 5)
    least = 0.3 * float(max(events.scores.max() for events in events_of(model, inputs(*lengths)) if len(events)))
    nms = replace(model.detection.nms, min_score=least)
    for events, length in zip(events_of(model, inputs(*lengths), min_score=least, nms=nms), lengths, strict=True):
        assert (events.scores >= least).all()
        assert (events.segments >= 0).all()
        assert (events.segments <= length).all()
        assert (events.segments[:, 0] < events.segments[:, 1]).all()


def step(model: Network, truth: Truth) -> dict[str, Tensor]:
    """One of the optimizer."""
    recipe = Recipe(learning_rate=1e-2, initial_positive=4)
    batch = inputs(64, 50)
    optimizer, criterion = optimizer_for(model.train(), recipe), model.criterion(recipe)
    targets = criterion.targets(batch[2], truth, model.config.num_classes)
    criterion.update(targets.num_positive)
    losses = criterion(model(*batch), batch[2], targets)
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    return losses


TRUTH = Truth(torch.tensor([[[3.0, 9], [20, 60]], [[5, 30], [0, 0]]]), torch.tensor([[0, 2], [1, -1]]))


def test_a_step_of_the_optimizer_changes_what_has_a_gradient(model):
    before = {name: x.detach().clone() for name, x in model.named_parameters()}
    losses = step(model, TRUTH)
    assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
    learned = {name: x for name, x in model.named_parameters() if x.grad is not None and x.grad.abs().max() > 1e-7}
    assert len(learned) > len(before) / 2
    assert [name for name, x in learned.items() if torch.equal(x, before[name])] == []


def test_every_parameter_is_in_one_group(model):
    grouped = [id(x) for group in model.parameter_groups(Recipe()) for x in group["params"]]
    assert sorted(grouped) == sorted(id(x) for x in model.parameters())


@pytest.mark.parametrize("most", [0, 1])
def test_videos_without_events_are_harmless(model, most):
    losses = step(model, Truth(torch.zeros(2, most, 2), torch.full((2, most), -1)))
    assert all(loss.isfinite() for loss in losses.values())
    assert all(x.isfinite().all() for x in model.parameters())
    assert all(x.grad is None or x.grad.isfinite().all() for x in model.parameters())


def test_a_loss_in_pieces_is_that_of_the_whole(model):
    recipe = Recipe(initial_positive=4)
    batch = inputs(64, 64)

    def loss(*pieces: slice) -> float:
        criterion, total = model.criterion(recipe), 0.0
        truths = [Truth(TRUTH.segments[rows], TRUTH.labels[rows]) for rows in pieces]
        targets = [criterion.targets(batch[2][r], t, 3) for r, t in zip(pieces, truths, strict=True)]
        criterion.update(torch.stack([t.num_positive for t in targets]).sum(0))
        with torch.no_grad():
            for rows, target in zip(pieces, targets, strict=True):
                outputs = model(*(x[rows] for x in batch))
                total += sum(map(float, criterion(outputs, batch[2][rows], target).values()))
        return total

    exact = model.criterion(recipe).adds_up
    assert loss(slice(0, 1), slice(1, 2)) == pytest.approx(loss(slice(0, 2)), rel=1e-4 if exact else 0.02)


def test_a_model_comes_back_from_its_folder(model, kind, tmp_path):
    save_model(tmp_path, model, info_of(model))
    again, info, _ = load_model(tmp_path)
    assert info == info_of(model)
    assert type(again) is type(model)
    batch = inputs(64, 20)
    with torch.inference_mode():
        ours, theirs = (network(*batch).within(batch[2]).candidates() for network in (model, again))
    assert torch.equal(ours.segments, theirs.segments)
    assert torch.equal(ours.scores, theirs.scores)
    written = json.loads((tmp_path / "model.json").read_text())["config"]
    assert written["name"] == kind
    assert parse_network(written, "model.json") == model.config == parse_network(asdict(model.config), "again")


def test_an_unknown_key_and_a_value_that_cannot_be_are_refused_by_name(kind):
    with pytest.raises(ConfigError, match=r"m\.yaml: .*smell"):
        parse_network(fields(kind) | {"smell": 3}, "m.yaml")
    with pytest.raises(ConfigError, match=r"m\.yaml.*num_classes must be at least 1, got 0"):
        parse_network(fields(kind) | {"num_classes": 0}, "m.yaml")
    with pytest.raises(ValueError, match="expected visual"):
        build(fields(kind))(torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), torch.ones(1, 4, dtype=torch.bool))


@pytest.mark.slow
def test_an_exported_model_says_the_same_or_is_refused(model, tmp_path):
    pytest.importorskip("onnxscript")
    from davel.models.onnx import export

    save_model(tmp_path / "m", model, info_of(model))
    try:
        model.exportable()
    except ConfigError:
        with pytest.raises(ConfigError, match="cannot be written as an ONNX file: use its folder"):
            export(tmp_path / "m", tmp_path / "m.onnx")
    else:
        assert export(tmp_path / "m", tmp_path / "m.onnx") < 1e-3


# The toy, through everything


@pytest.fixture
def config(toy, tmp_path) -> TrainConfig:
    simulate(tmp_path / "set", draw_annotations(12, 3), features="light", lazy=True)
    return TrainConfig(
        name=OWN,
        output=tmp_path / "run",
        data=DataConfig.unav100(tmp_path / "set", "light"),
        model={"name": OWN, "max_length": 64, "width": 8},
        recipe=Recipe(epochs=2, warmup_epochs=0, batch_size=2, learning_rate=1e-2, ema_decay=0.5),
    )


def test_the_toy_is_trained_goes_on_and_is_evaluated(config):
    class Interrupt(Exception):
        pass

    def interrupt(line: dict[str, Any]) -> None:
        raise Interrupt

    with pytest.raises(Interrupt):
        train(config, device="cpu", report=Reporting(on_epoch=interrupt))
    best = train(config, resume=True, device="cpu")
    log = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2]
    assert log[1]["actionness"] < log[0]["actionness"]
    model, info, _ = load_model(best)
    assert info.config.name == OWN
    _, validation = load_data(config.data, config.data.annotated())
    figures = score(predict(model, validation), validation.videos, len(info.labels))
    assert figures["average_mAP"] == pytest.approx(info.figures["validation"]["average_mAP"], abs=1e-6)


def test_the_command_names_the_losses_of_a_model(toy, run, tmp_path):
    simulate(tmp_path / "set", draw_annotations(8, 2), features="light", lazy=True)
    data = DataConfig.unav100(tmp_path / "set", "light")
    (tmp_path / "toy.yaml").write_text(
        f"name: t\noutput: run\ndata: {{annotations: {data.annotations}, features: {data.features}}}\n"
        "model: {name: toy, max_length: 64}\nrecipe: {epochs: 1, warmup_epochs: 0, batch_size: 2}\n"
    )
    code, _, err = run("train", "toy.yaml", "--device", "cpu")
    assert code == 0, err
    assert "epoch 1/1: classes " in err
    assert "gradient_norm" not in err.partition("epoch 1/1: ")[2].partition("average mAP")[0]


@pytest.fixture
def folder(toy, tmp_path) -> Path:
    """A toy that finds something."""
    torch.manual_seed(0)
    model = build(fields(toy)).eval()
    save_model(tmp_path / "toy", model, info_of(model))
    return tmp_path / "toy"


def test_the_toy_localizes_and_follows(folder, short_clip, recording):
    localizer = davel.load(folder, device="cpu")
    result = localizer.localize(short_clip, threshold=0.0)
    assert list(result.curves) == ["actionness"]
    T = len(result.curves["actionness"])
    assert T > 0
    told = result.to_dict()
    assert len(told["curves"]["actionness"]) == T
    assert set(told["gates"]) == {"step_seconds", "first_seconds"}
    assert len(result.events)
    whole = localizer.localize(recording, threshold=0.0).events
    followed = sorted(localizer.follow(recording, threshold=0.0, idle_seconds=0.1), key=lambda e: -e.score)
    assert [event.label for event in followed] == [event.label for event in whole]
    for ours, theirs in zip(followed, whole, strict=True):
        assert (ours.start, ours.end, ours.score) == pytest.approx((theirs.start, theirs.end, theirs.score), abs=1e-3)


def test_no_event_of_a_long_video_comes_twice(folder):
    model, info, _ = load_model(folder)
    visual, audio, _ = inputs(400)
    events = find_events(model, [(visual[0], audio[0])], SPEC.timing, info.labels).events
    assert len(events) > 6
    for c in range(3):
        start, end = events.segments[events.label_ids == c].T
        overlap = (np.minimum(end[:, None], end) - np.maximum(start[:, None], start)).clip(min=0)
        union = (end - start)[:, None] + (end - start) - overlap
        assert ((overlap / union)[np.triu_indices(len(start), 1)] < 0.4).all()


def test_the_toy_is_not_exported(folder, run):
    pytest.importorskip("onnxscript")
    code, _, err = run("export", folder, "-o", "toy.onnx")
    assert code == 4
    assert err.strip().endswith("cannot be written as an ONNX file: use its folder")
    assert len(err.strip().splitlines()) == 1


# Models of other packages


def test_the_page_shows_the_toy():
    assert own_model.block("python") == (Path(__file__).parents[1] / "toy_model.py").read_text()


def test_a_model_of_another_package_is_found(monkeypatch, tmp_path):
    own_model.install(monkeypatch, tmp_path / "site")
    assert model_names() == [*MODELS, OWN]
    model = build(fields(OWN))
    assert Path(str(model_module(OWN).__file__)).parent == tmp_path / "site"
    save_model(tmp_path / "m", model, info_of(model))
    assert load_model(tmp_path / "m")[1].config == model.config


def test_a_broken_package_is_told_in_a_line_and_hinders_nothing_else(monkeypatch, tmp_path, run):
    broken = {"shaky": "raise RuntimeError('no luck')", "empty": "Config = 3", "thief": "Config = Model = 3"}
    for name, module in broken.items():
        points = f"{'ccnet' if name == 'thief' else name} = {name}\n"
        own_family.put(tmp_path, name, module, points, "davel.models")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"^m\.yaml: name: model 'shaky': .*cannot be loaded: RuntimeError: no luck"):
        parse_network({"name": "shaky"}, "m.yaml")
    with pytest.raises(ConfigError, match="model 'empty': empty has no Model: mend it"):
        parse_network({"name": "empty"}, "m.yaml")
    with pytest.raises(ConfigError, match="unknown network 'nothing': choose from ccnet, unav, "):
        parse_network({"name": "nothing"}, "m.yaml")
    assert parse_network({}, "m.yaml").name == "ccnet"  # its own, whoever else takes the name
    with pytest.raises(ConfigError) as told:
        from_published({"x": torch.zeros(1)})
    assert "shaky" not in str(told.value)
    code, out, _ = run("doctor")
    assert code == 0
    assert "model 'shaky': shaky cannot be loaded: RuntimeError: no luck: mend it" in out
    assert "model 'ccnet' is davel's own: that of the package thief is not used" in out
