"""Training a network that reads what its classes are, and finding others with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_values import published_state
from safetensors.numpy import load_file

import davel
from davel.core.errors import ConfigError
from davel.data.simulate import draw_annotations, simulate
from davel.data.sources import DataConfig
from davel.features.embeddings import TextEmbeddings
from davel.features.light import SPEC
from davel.models import UniAVConfig, build
from davel.models.saved import EMBEDDINGS, ModelInfo, load_model, save_model
from davel.models.text import drawn, shipped
from davel.train import Reporting, train
from davel.train.loop import embeddings_for
from davel.train.recipe import Recipe, TrainConfig, load_train_config

LABELS = ("class 0", "class 1", "class 2")
FIELDS = {"name": "uniav", "max_length": 64, "width": 8, "text_dim": 12, "table_length": 64}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return simulate(tmp_path_factory.mktemp("set"), draw_annotations(12, 3), features="light", lazy=True)


@pytest.fixture
def config(data, tmp_path) -> TrainConfig:
    return TrainConfig(
        name="u",
        output=tmp_path / "run",
        data=DataConfig.unav100(data, "light", limit=6),
        model=FIELDS,
        recipe=Recipe(epochs=2, warmup_epochs=0, batch_size=2, learning_rate=1e-2, ema_decay=0.5, crop_beyond=2.0),
    )


def weights(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


class Interrupt(Exception):
    pass


def interrupt(line: dict[str, Any]) -> None:
    raise Interrupt


def test_it_is_trained_and_resumed_to_the_same_weights_and_keeps_what_its_classes_are(config, tmp_path):
    whole = train(replace(config, output=tmp_path / "whole"), device="cpu")
    with pytest.raises(Interrupt):
        train(config, device="cpu", report=Reporting(on_epoch=interrupt))
    train(config, device="cpu", resume=True)
    ours, theirs = weights(config.output / "last"), weights(tmp_path / "whole" / "last")
    assert all((x == theirs[name]).all() for name, x in ours.items())
    _, info, _ = load_model(whole)
    assert info.embeddings == drawn(LABELS, 12)
    assert info.embeddings.family == "simulated"
    log = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    assert log[1]["classification"] < log[0]["classification"]


def test_a_run_goes_on_with_its_own_embeddings_only(config, tmp_path):
    with pytest.raises(Interrupt):
        train(config, device="cpu", report=Reporting(on_epoch=interrupt))
    other = drawn(tuple(f"{label}!" for label in LABELS), 12)
    replace(other, labels=LABELS).save(tmp_path / "other.safetensors")
    data = replace(config.data, embeddings=tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match="was made with other embeddings of its classes: choose another output"):
        train(replace(config, data=data), device="cpu", resume=True)


def test_embeddings_that_do_not_fit_are_told_before_training(config, tmp_path):
    drawn(LABELS, 7).save(tmp_path / "narrow.safetensors")
    drawn(LABELS[:2], 12).save(tmp_path / "few.safetensors")
    for name, problem in (
        ("narrow", r"^u: expected embeddings of classes \(3, 12\), got \(3, 7\)$"),
        ("few", r"few\.safetensors: no embeddings of class 2: make them"),
        ("none", r"none\.safetensors: not a file of class embeddings"),
    ):
        given = replace(config.data, embeddings=tmp_path / f"{name}.safetensors")
        with pytest.raises(ConfigError, match=problem):
            train(replace(config, data=given), device="cpu")
    given = replace(config.data, embeddings=tmp_path / "few.safetensors")
    ccnet = {"name": "ccnet", "max_length": 64, "width": 8, "class_width": 4}
    with pytest.raises(ConfigError, match="data: embeddings: a ccnet network reads none of its classes: leave it out"):
        train(replace(config, data=given, model=ccnet), device="cpu")


def test_classes_of_real_features_are_never_drawn(config):
    network = build(FIELDS | {"num_classes": 3, "visual_dim": 4, "audio_dim": 4}).config
    annotations = config.data.annotated()
    dataset = config.data.open(annotations.subset("train"), lambda *_: None)
    assert embeddings_for(network, config.data, LABELS, dataset) == drawn(LABELS, 12)
    with pytest.raises(ConfigError, match=r"no embeddings of class 0, .*, and name the file as data\.embeddings"):
        embeddings_for(network, config.data, LABELS, replace(dataset, origin=None))
    known = ("dog barking", "man speaking")
    assert embeddings_for(network, config.data, known, dataset) == shipped()["unav100"].of_classes(known)


def test_actions_are_trained_on_the_canvas(config):
    actions = {"task": "TAL", "canvas": 32, "every": 2, "max_length": 128}
    best = train(replace(config, model=FIELDS | actions), device="cpu")
    network, info, _ = load_model(best)
    assert isinstance(network.config, UniAVConfig)
    assert network.config.margin == SPEC.window / (2 * SPEC.stride)
    assert network.decoder.regress.out.bias.shape == (2,)
    assert info.figures["validation"]["average_mAP"] >= 0


def test_the_shipped_configuration_is_the_released_one(tmp_path):
    config = load_train_config("uniav-onepeace", tmp_path)
    assert (config.model["name"], config.model["task"], config.model["max_length"]) == ("uniav", "AVEL", 256)
    recipe = config.recipe
    assert (recipe.learning_rate, recipe.epochs, recipe.warmup_epochs) == (1e-3, 7, 2)
    assert (recipe.initial_positive, recipe.crop_beyond, recipe.crop_keeps) == (300, 2, 0.5)


# Other classes


@pytest.fixture
def folder(tmp_path) -> Path:
    """A model that finds something in light features."""
    torch.manual_seed(0)
    fields = FIELDS | {"num_classes": 3, "visual_dim": SPEC.visual_dim, "audio_dim": SPEC.audio_dim}
    network, embeddings = build(fields).eval(), replace(drawn(LABELS, 12), encoder_sha256="a" * 64)
    network.name_classes(torch.from_numpy(embeddings.rows))
    with torch.no_grad():
        network.decoder.regress.out.bias.copy_(torch.tensor([1.0, 1, 2, 2, 3, 3]))
    info = ModelInfo("u", network.config, SPEC, LABELS, 0.0, {}, thresholds=(0.1, 0.2, 0.3), embeddings=embeddings)
    save_model(tmp_path / "m", network, info)
    return tmp_path / "m"


def near(*pairs: tuple[str, str], sha256: str = "a" * 64) -> TextEmbeddings:
    """Names whose embeddings are about those of others."""
    rows = drawn(tuple(other for _, other in pairs), 12).rows + 0.01
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    labels = tuple(label for label, _ in pairs)
    return TextEmbeddings(labels, labels, rows.astype(np.float32), "simulated", sha256)


def test_other_classes_are_found_and_the_result_says_whose_boundaries_they_have(folder, short_clip, tmp_path):
    near(("hooting", "class 2"), ("class 0", "class 0")).save(tmp_path / "new.safetensors")
    localizer = davel.load(folder, device="cpu", classes=tmp_path / "new.safetensors")
    result = localizer.localize(short_clip)
    assert len(result.events)
    assert result.events.labels == ("hooting", "class 0")
    assert result.to_dict()["settings"]["boundaries_of"] == {"hooting": "class 2"}
    own = davel.load(folder, device="cpu").localize(short_clip)
    assert "boundaries_of" not in own.to_dict()["settings"]
    with pytest.raises(ConfigError, match="has no thresholds of its classes"):
        localizer.localize(short_clip, threshold="auto")
    save_model(tmp_path / "again", localizer.network, localizer.info)
    again = davel.load(tmp_path / "again", device="cpu")
    assert again.info == localizer.info
    assert again.localize(short_clip).events.labels == result.events.labels


def test_the_command_finds_other_classes_and_tells_what_stands_in(folder, short_clip, run, tmp_path):
    near(("hooting", "class 2")).save(tmp_path / "new.safetensors")
    code, _, err = run(
        "localize", short_clip, "-m", folder, "--classes", tmp_path / "new.safetensors", "--device", "cpu", "-o", "out"
    )
    assert code == 0, err
    assert "'hooting' has no boundaries of its own: those of 'class 2' stand in for them" in err
    told = json.loads(next(Path("out").glob("*.json")).read_text())
    assert told["labels"] == ["hooting"]
    assert told["settings"]["boundaries_of"] == {"hooting": "class 2"}


def test_classes_that_the_model_cannot_read_are_told(folder, tmp_path):
    def load(embeddings: TextEmbeddings, model: Path | str = folder) -> None:
        embeddings.save(tmp_path / "new.safetensors")
        davel.load(model, device="cpu", classes=tmp_path / "new.safetensors")

    with pytest.raises(ConfigError, match=r"the model 'u': expected embeddings of classes \(1, 12\), got \(1, 7\)"):
        load(drawn(("a",), 7))
    with pytest.raises(ConfigError, match="the model 'u': reads embeddings of encoder_sha256 aaaa"):
        load(near(("a", "class 1"), sha256="b" * 64))
    with pytest.raises(ConfigError, match="the model 'u': reads embeddings of family simulated, got one-peace"):
        load(replace(near(("a", "class 1")), family="one-peace"))
    with pytest.raises(ConfigError, match="CCNet finds only the classes that it was trained on"):
        load(near(("a", "class 1")), "scenes")


# Released checkpoints


def test_a_released_checkpoint_becomes_a_folder_of_one_task(run, tmp_path):
    state = dict(published_state("uniav/small"))
    for name in ("backbone.embd_V.0.conv.weight", "backbone.embd_A.0.conv.weight"):
        state[name] = torch.randn(32, 1536, 3) / 60
    state["cls_head.clip_proj.weight"] = torch.randn(32, 1536) / 40
    torch.save({"epoch": 6, "state_dict_ema": {f"module.{key}": x for key, x in state.items()}}, "epoch_006.pth.tar")
    labels = shipped()["unav100"].labels[:5]
    events = [{"segment": [1.0, 3.0], "label": label, "label_id": i} for i, label in enumerate(labels)]
    truth = {"database": {"v": {"subset": "train", "duration": 10.0, "fps": 25, "annotations": events}}}
    Path("truth.json").write_text(json.dumps(truth))
    given = ("import", "epoch_006.pth.tar", "--annotations", "truth.json")
    code, _, err = run(*given, "-o", "avel")
    assert code == 0, err
    assert "5 classes, 256 steps, reads one-peace features" in err
    _, info, _ = load_model("avel")
    assert info.embeddings == shipped()["unav100"].of_classes(labels)
    assert info.prompts[0] == "An audio visual event of man speaking."
    code, _, err = run(*given, "-o", "sed", "--task", "SED")
    assert code == 4
    assert "expected embeddings of classes (3, 1536), got (5, 1536)" in err
    np.save("rows.npy", np.eye(5, 1536, dtype=np.float32))
    code, _, err = run(*given, "-o", "tal", "--task", "TAL", "--embeddings", "rows.npy")
    assert code == 0, err
    network, info, _ = load_model("tal")
    assert isinstance(network.config, UniAVConfig)
    assert (network.config.canvas, network.config.every, network.config.margin) == (256, 2, 2.0)
    assert (info.embeddings.rows == np.eye(5, 1536)).all()
    for problem, rows in (("5 classes have 5 prompts", np.eye(4, 1536)), ("not of unit norm", 2 * np.eye(5, 1536))):
        np.save("rows.npy", rows)
        code, _, err = run(*given, "-o", "x", "--task", "TAL", "--embeddings", "rows.npy")
        assert code == 4
        assert "rows.npy: not an array with a row of unit norm for each class" in err
        assert problem in err
    torch.save(published_state("ccnet_small"), "ccnet.pth")
    code, _, err = run("import", "ccnet.pth", "--annotations", "truth.json", "-o", "x", "--embeddings", "rows.npy")
    assert (code, len(err.strip().splitlines())) == (4, 1)
    assert "knows its classes by their number: leave the embeddings out" in err
    assert not (tmp_path / "x" / EMBEDDINGS).exists()


@pytest.mark.slow
def test_two_processes_train_as_one_does_and_pieces_as_the_whole(data, tmp_path):
    (tmp_path / "u.yaml").write_text(
        f"name: u\noutput: run\ndata: {{annotations: {data / 'annotations' / 'unav100_annotations.json'}, "
        f"features: {data / 'av_features'}}}\nmodel: {json.dumps(FIELDS | {'drop_path': 0.0})}\n"
        # at a low rate: AdamW turns the rounding of gradients that should be zero into whole steps
        "recipe: {epochs: 2, warmup_epochs: 1, batch_size: 4, learning_rate: 1e-5}\n"
    )

    def trained(name: str, *options: str, processes: int = 1) -> list[float]:
        start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [sys.executable, *(start if processes > 1 else []), "-m", "davel", "train", tmp_path / "u.yaml"]
        done = subprocess.run(
            [*map(str, command), "-o", str(tmp_path / name), *options, "--device", "cpu"],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        lines = map(json.loads, (tmp_path / name / "log.jsonl").read_text().splitlines())
        return [line[part] for line in lines for part in ("classification", "regression", "gradient_norm")]

    one = trained("one")
    assert len(one) == 6
    assert trained("two", processes=2) == pytest.approx(one, rel=1e-4)
    assert trained("pieces", "--set", "compute.accumulate=2") == pytest.approx(one, rel=1e-4)
