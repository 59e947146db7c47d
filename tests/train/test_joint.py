"""Several tasks in one network: their order, who waits, and a run that goes on where it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_values import GOLDEN
from safetensors.numpy import load_file

from davel.core.errors import ConfigError
from davel.data.dataset import Sample
from davel.data.simulate import draw_annotations, simulate
from davel.data.sources import DataConfig
from davel.evaluate import predict, score
from davel.models.saved import load_model
from davel.models.uniav import Canvas, UniAVConfig
from davel.train import Reporting, StopAndGo, load_data, train_joint
from davel.train.joint import JointTrainer, Resize
from davel.train.recipe import JointConfig, Recipe, TaskConfig, Tasks, load_any_config, load_train_config

MODEL = {"name": "uniav", "width": 8, "text_dim": 12}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Two data sets, of 2 and 4 batches of two videos for training, with classes of their own."""
    root = tmp_path_factory.mktemp("sets")
    return {
        name: simulate(root / name, draw_annotations(videos, classes, seed=videos), features="light", lazy=True)
        for name, videos, classes in (("a", 12, 3), ("b", 6, 2))
    }


@pytest.fixture
def config(folders, tmp_path) -> JointConfig:
    def data(name: str) -> DataConfig:
        return DataConfig.unav100(folders[name], "light", workers=1)

    return JointConfig(
        name="j",
        output=tmp_path / "run",
        tasks=Tasks(
            TAL=TaskConfig(data=data("b"), model={"canvas": 32, "every": 2, "max_length": 128}),
            AVEL=TaskConfig(data=data("a"), model={"max_length": 64}, recipe={"initial_positive": 300.0}),
        ),
        model=MODEL,
        recipe=Recipe(epochs=3, warmup_epochs=1, batch_size=2, learning_rate=1e-2, ema_decay=0.5),
    )


class Interrupt(Exception):
    pass


def interrupt(line: dict[str, Any]) -> None:
    raise Interrupt


def log_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_task_stops_and_goes_as_released():
    with np.load(GOLDEN / "uniav" / "stop_and_go.npz") as golden:
        for values, stopped in zip(golden["map"], golden["stopped"], strict=True):
            state = StopAndGo()
            for value, expected in zip(values, stopped, strict=True):
                state.look(float(value))
                assert state.stopped == expected
        assert golden["stopped"].any()


def test_a_task_that_has_stopped_trains_now_and_then():
    assert all(StopAndGo().trains(i) for i in range(9))
    assert [i for i in range(9) if StopAndGo(stopped=True).trains(i)] == [0, 4, 8]


@pytest.mark.slow
def test_every_task_is_learnt_and_kept_and_a_run_goes_on_to_the_same_weights(config, tmp_path):
    whole = replace(config, output=tmp_path / "whole")
    assert train_joint(whole, device="cpu") == tmp_path / "whole" / "best"
    with pytest.raises(Interrupt):
        train_joint(config, device="cpu", report=Reporting(on_epoch=interrupt))
    best = train_joint(config, device="cpu", resume=True)
    for task in ("TAL", "AVEL"):
        ours, theirs = (load_file(run.output / "last" / task / "model.safetensors") for run in (config, whole))
        assert ours.keys() == theirs.keys()
        assert all((x == theirs[name]).all() for name, x in ours.items())
    lines = log_of(config.output)
    first, *_, last = lines
    assert [{**line, "seconds": 0, "videos_per_second": 0} for line in lines] == [
        {**line, "seconds": 0, "videos_per_second": 0} for line in log_of(whole.output)
    ]
    assert last["step"] == 3 * first["step"]
    assert last["AVEL classification"] < first["AVEL classification"]
    assert last["TAL classification"] < first["TAL classification"]
    network, info, _ = load_model(best / "AVEL")
    _, validation = load_data(config.tasks.AVEL.data, config.tasks.AVEL.data.annotated())
    figures = score(predict(network, validation), validation.videos, 3)
    assert figures["average_mAP"] == pytest.approx(info.figures["validation"]["average_mAP"], abs=1e-6)
    assert info.name == "j-AVEL"
    actions, about, _ = load_model(best / "TAL")
    assert isinstance(actions.config, UniAVConfig)
    assert (actions.config.canvas, actions.config.task, len(about.labels)) == (32, "TAL", 2)
    assert about.embeddings.labels == about.labels


def test_an_iteration_is_a_step_of_each_task_in_order_and_shared_weights_are_one(config, monkeypatch):
    trainer = JointTrainer(config, False, torch.device("cpu"), Reporting())
    told = []
    learn = trainer._learn
    monkeypatch.setattr(
        trainer, "_learn", lambda task, batch: told.append((task.name, batch.ids)) or learn(task, batch)
    )
    trainer.epoch()
    tal, avel = trainer.tasks
    assert (trainer.iterations, tal.batches, avel.batches) == (
        max(tal.batches, avel.batches),
        tal.batches,
        avel.batches,
    )
    assert avel.batches > tal.batches
    assert [name for name, _ in told] == ["TAL", "AVEL"] * trainer.iterations
    assert len({key for name, ids in told if name == "AVEL" for key in ids}) == 2 * avel.batches  # each video once
    averages = trainer.ema.model.tasks
    for joint in (trainer.joint.tasks, averages):
        one, other = (dict(joint[name].named_parameters()) for name in ("TAL", "AVEL"))
        assert one["embed.audio.convs.0.weight"] is other["embed.audio.convs.0.weight"]
        assert one["embed.audio.blocks.0.mlp.0.weight"] is not other["embed.audio.blocks.0.mlp.0.weight"]


def test_what_a_task_does_not_use_stays_but_in_the_average(config):
    trainer = JointTrainer(config, False, torch.device("cpu"), Reporting())
    tal, avel = trainer.tasks
    own = trainer.joint.tasks["AVEL"].interactions[0]["audio"].mlp[0].weight
    averaged = trainer.ema.model.tasks["AVEL"].interactions[0]["audio"].mlp[0].weight
    for group in trainer.optimizer.param_groups:
        group["lr"] = 1e-2
    batches = {task.name: next(task.endless(0, 4, 1)) for task in trainer.tasks}
    trainer._learn(avel, batches["AVEL"])
    before, apart = own.detach().clone(), float((own.detach() - averaged).norm())
    trainer._learn(tal, batches["TAL"])
    assert torch.equal(own, before)
    assert float((own.detach() - averaged).norm()) == pytest.approx(apart / 2, rel=1e-4)
    assert trainer.optimizer.state[own]["step"] == 1


def test_a_stopped_task_waits_and_is_counted_by_its_own_steps(config):
    trainer = JointTrainer(config, False, torch.device("cpu"), Reporting())
    trainer.tasks[0].stop.stopped = True
    trainer.step = 1  # the next multiple of four is the last iteration of this epoch
    assert trainer.iterations == 4
    trainer.epoch()
    own = trainer.joint.tasks["TAL"].decoder.regress.out.parameters()
    assert [trainer.optimizer.state[x]["step"].item() for x in own] == [1, 1]
    trainer.step = 5
    trainer.iterations = 2
    line = trainer.epoch()
    assert "AVEL classification" in line
    assert "TAL classification" not in line


@pytest.mark.slow
def test_a_run_with_other_tasks_or_recipes_is_not_gone_on_with(config):
    with pytest.raises(Interrupt):
        train_joint(config, device="cpu", report=Reporting(on_epoch=interrupt))
    with pytest.raises(ConfigError, match=r"run: holds a run already: resume it or choose another output"):
        train_joint(config, device="cpu")
    avel = config.tasks.AVEL
    changed = {
        "recipe.learning_rate": replace(config, recipe=replace(config.recipe, learning_rate=1.0)),
        "stop_and_go": replace(config, stop_and_go=False),
        r"tasks\.AVEL\.recipe\.initial_positive": replace(
            config, tasks=replace(config.tasks, AVEL=replace(avel, recipe={"initial_positive": 200.0}))
        ),
    }
    others = Tasks(SED=replace(config.tasks.TAL, model={"max_length": 64}), AVEL=avel)
    with pytest.raises(ConfigError, match=r"state\.pt: was made of the tasks TAL, AVEL: choose another output"):
        train_joint(replace(config, tasks=others), device="cpu", resume=True)
    for name, other in changed.items():
        with pytest.raises(ConfigError, match=rf"state\.pt: was made with another {name} .*: choose another output"):
            train_joint(other, device="cpu", resume=True)


def test_tasks_that_do_not_go_together_are_told(config):
    narrow = replace(config.tasks.AVEL, model={"max_length": 64, "width": 16})
    with pytest.raises(ConfigError, match=r"tasks: AVEL: width is 16, of TAL 8: make them one"):
        train_joint(replace(config, tasks=replace(config.tasks, AVEL=narrow)), device="cpu")
    ccnet = {"name": "ccnet", "width": 8}
    plain = replace(config.tasks.AVEL, model={})
    with pytest.raises(ConfigError, match=r"task"):
        train_joint(replace(config, model=ccnet, tasks=Tasks(AVEL=plain, SED=plain)), device="cpu")
    large = replace(config, recipe=replace(config.recipe, batch_size=64))
    with pytest.raises(ConfigError, match=r"tasks: TAL: \d+ videos make no batch of 64: lower batch_size"):
        train_joint(large, device="cpu")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tasks: {AVEL: {data: {annotations: a, features: f}}}", "name two tasks or more, got AVEL"),
        ("tasks: {ASR: {data: {annotations: a, features: f}}}", "unknown key; allowed are TAL, AVEL, SED"),
        ("tasks: {AVEL: {data: {annotations: a, features: f}, recipe: {epochs: 3}}}", "epochs is not of a task"),
        ("tasks: {AVEL: {date: x}}", "date.*did you mean 'data'"),
    ],
)
def test_a_configuration_of_tasks_that_cannot_be_is_told(tmp_path, text, problem):
    (tmp_path / "j.yaml").write_text(f"name: j\noutput: run\n{text}\nmodel: {{name: uniav}}\n")
    with pytest.raises(ConfigError, match=rf"j\.yaml.*{problem}"):
        load_any_config(tmp_path / "j.yaml")


def test_the_shipped_tasks_are_the_released_ones(tmp_path):
    config = load_any_config("uniav-tasks", tmp_path)
    assert isinstance(config, JointConfig)
    assert list(config.tasks.given) == ["TAL", "AVEL", "SED"]
    assert config.tasks.SED.recipe == {"crop_beyond": 2, "crop_keeps": 0.3, "initial_positive": 400}
    assert config.tasks.TAL.data.embeddings == tmp_path / "activitynet" / "anet_prompt.npy"
    with pytest.raises(ConfigError, match="uniav-tasks: trains several tasks: choose a configuration of one"):
        load_train_config("uniav-tasks", tmp_path)


def test_the_command_trains_tasks(config, run, folders):
    tasks = {
        name: f"{{data: {{annotations: {task.data.annotations}, features: {task.data.features}}}, "
        f"model: {json.dumps(task.model)}}}"
        for name, task in config.tasks.given.items()
    }
    Path("j.yaml").write_text(
        f"name: j\noutput: out\ntasks:\n  TAL: {tasks['TAL']}\n  AVEL: {tasks['AVEL']}\n"
        f"model: {json.dumps(MODEL)}\nrecipe: {{epochs: 1, warmup_epochs: 0, batch_size: 2}}\n"
    )
    code, out, err = run("train", "j.yaml", "--device", "cpu")
    assert code == 0, err
    assert out.strip().endswith("out/best")
    assert "epoch 1/1: TAL classification " in err
    assert "AVEL regression " in err
    code, _, err = run("evaluate", "out/best/AVEL", "--data", folders["a"], "--bootstrap", 0)
    assert code == 0, err


def test_a_video_is_laid_on_the_canvas_before_it_is_cropped_and_doubles_are_learnt_once():
    rng = np.random.default_rng(0)
    visual, audio = (rng.standard_normal((61, d)).astype(np.float32) for d in (3, 2))
    segments = np.array([[2, 9], [2, 9.001], [2, 9], [50, 90], [2, 9.1]], np.float32)
    sample = Sample("v", visual, audio, segments, np.array([0, 0, 1, 1, 0]))
    canvas = Canvas(32, 2, 2.0)
    resized = Resize(canvas, 0.25)(sample, lambda rng: sample, rng)
    assert (resized.visual.shape, resized.audio.shape) == ((32, 3), (32, 2))
    assert resized.labels.tolist() == [0, 1, 0]  # the second is the first, the fourth mostly behind the end
    step = (60 + 4) / 32
    np.testing.assert_allclose(resized.segments[0], (np.array([2, 9]) + 2) / step - 0.5, rtol=1e-5)
    np.testing.assert_allclose(
        resized.visual, canvas.draw(torch.from_numpy(visual)[None], torch.tensor([61]))[0].numpy()
    )
