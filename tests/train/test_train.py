"""The recipe, its resume, and the way from a folder of annotated videos to a model and its figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from golden_values import GOLDEN
from media_files import grey, make_media, tone

import davel.train.loop
from davel.cli import app, main
from davel.core.annotations import Annotations
from davel.core.config import parse, read_yaml
from davel.core.errors import ConfigError
from davel.core.events import Event, EventList, Video
from davel.data.augment import Crop
from davel.data.dataset import Dataset, training_batches
from davel.data.simulate import draw_annotations, simulate
from davel.data.sources import DataConfig
from davel.features.light import SPEC
from davel.models import MODELS, UnavConfig, build
from davel.models.blocks import Conv
from davel.models.saved import load_model
from davel.train import Ema, Reporting, learning_rate, optimizer_for, train
from davel.train.recipe import CONFIGS, Compute, JointConfig, Recipe, TrainConfig, load_train_config

LABELS = ("high", "low")
DIMS = {"visual_dim": 6, "audio_dim": 4}
SMALL_SPEC = replace(SPEC, **DIMS)
NETWORK = {"max_length": 32, "width": 8, "class_width": 4, "drop_path": 0.1}


def test_the_learning_rate_is_the_released_one():
    with np.load(GOLDEN / "lr_schedule.npz") as golden:
        expected, warmup = golden["lr"], int(golden["warmup_steps"])
    recipe = Recipe(learning_rate=1e-4)
    ours = [learning_rate(step, warmup, len(expected), recipe) for step in range(len(expected))]
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-15)


def test_only_weights_of_convolutions_and_linears_decay():
    model = build({**NETWORK, **DIMS, "num_classes": 2})
    decayed, others = (group["params"] for group in optimizer_for(model, Recipe()).param_groups)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {id(p) for p in decayed} | {id(p) for p in others} == set(names)
    assert all(names[id(p)].endswith("weight") for p in decayed)
    assert not any("norm" in names[id(p)] for p in decayed)
    assert {names[id(p)].rsplit(".", 1)[-1] for p in others} == {"weight", "bias", "scale", "scales"}
    convolutions = [m.weight for m in model.modules() if isinstance(m, Conv)]
    assert {id(w) for w in convolutions} <= {id(p) for p in decayed}


def test_the_average_follows_the_weights_slowly():
    model = build({**NETWORK, **DIMS, "num_classes": 2})
    ema = Ema(model, decay=0.9)
    before = ema.model.decoder.scales.clone()
    with torch.no_grad():
        model.decoder.scales.add_(1)
    ema.update(model)
    torch.testing.assert_close(ema.model.decoder.scales, before + 0.1)


def video(key: str, rng: np.random.Generator) -> tuple[Video, tuple[np.ndarray, np.ndarray]]:
    """Features in which an event of each class is plain to see and hear."""
    T = int(rng.integers(20, 32))
    visual, audio = (0.1 * rng.standard_normal((T, d)).astype(np.float32) for d in DIMS.values())
    events = []
    for c, label in enumerate(LABELS):
        start = int(rng.integers(1, 8)) + 10 * c
        end = start + int(rng.integers(3, 8))
        visual[start:end, c] += 2
        audio[start:end, c] += 2
        seconds = SMALL_SPEC.timing.seconds(np.array([start - 0.5, end - 0.5]))
        events.append(Event(label, *map(float, seconds)))
    found = EventList.of(events, LABELS)
    return Video(key, found, T * 0.32 + 1, subset="train"), (visual, audio)


@pytest.fixture
def datasets():
    rng = np.random.default_rng(0)
    made = {f"v{i}": video(f"v{i}", rng) for i in range(12)}
    videos = {key: v for key, (v, _) in made.items()}
    whole = Dataset(videos, lambda key: made[key][1], SMALL_SPEC)
    first = dict(list(videos.items())[:8])
    return replace(whole, videos=first), replace(whole, videos={k: v for k, v in videos.items() if k not in first})


@pytest.fixture
def config(tmp_path, datasets, monkeypatch) -> TrainConfig:
    monkeypatch.setattr(davel.train.loop, "load_data", lambda *args: datasets)
    monkeypatch.setattr(DataConfig, "annotated", lambda self: Annotations.of(LABELS, {}))
    recipe = Recipe(epochs=4, warmup_epochs=1, batch_size=4, learning_rate=3e-3, ema_decay=0.5, initial_positive=20)
    data = DataConfig(annotations=Path("a.json"), videos=Path("videos"))
    return TrainConfig(name="t", output=tmp_path / "run", data=data, model=NETWORK, recipe=recipe)


def test_training_learns(config):
    recipe = replace(config.recipe, epochs=30, warmup_epochs=2, learning_rate=1e-2)
    best = train(replace(config, recipe=recipe))
    log = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    assert len(log) == 30
    assert log[-1]["classification"] < 0.5 * log[0]["classification"]
    _, info, _ = load_model(best)
    figures = info.figures["validation"]
    assert figures["average_mAP"] == max(line["validation"]["average_mAP"] for line in log)
    assert figures["mAP"]["0.5"] > 0.5
    assert info.labels == LABELS
    assert info.features == SMALL_SPEC


def state(config: TrainConfig) -> dict[str, Any]:
    return torch.load(config.output / "state.pt", weights_only=True)


def test_an_interrupted_run_ends_with_the_same_bits(config, tmp_path):
    whole = replace(config, output=tmp_path / "whole")
    train(whole)

    class Interrupt(Exception):
        pass

    def interrupt(step, done, total, note=""):
        if step == "train" and done == 5:  # in the middle of the third epoch
            raise Interrupt

    with pytest.raises(Interrupt):
        train(config, report=Reporting(interrupt))
    train(config, resume=True)
    ours, theirs = state(config), state(whole)
    assert ours["step"] == theirs["step"] == 8
    for part in ("model", "ema", "criterion"):
        for key, tensor in theirs[part].items():
            assert torch.equal(ours[part][key], tensor), key
    for name in ("best/model.safetensors", "best/model.json"):
        assert (config.output / name).read_bytes() == (whole.output / name).read_bytes()

    def without_clock(path):
        lines = map(json.loads, (path / "log.jsonl").read_text().splitlines())
        return [{k: v for k, v in line.items() if "second" not in k} for line in lines]

    assert without_clock(config.output) == without_clock(whole.output)


def test_a_run_that_is_there_is_not_overwritten(config):
    train(config)
    with pytest.raises(ConfigError, match="holds a run already: resume it or choose another output"):
        train(config)


def test_a_run_is_not_resumed_with_another_recipe(config):
    train(config)
    other = replace(config, recipe=replace(config.recipe, learning_rate=1e-3))
    with pytest.raises(ConfigError, match="was made with another model or recipe"):
        train(other, resume=True)


def test_a_loss_that_is_not_finite_stops_the_run(config, datasets, monkeypatch):
    broken = replace(datasets[0], read=lambda key: tuple(np.full_like(x, np.inf) for x in datasets[0].read(key)))
    monkeypatch.setattr(davel.train.loop, "load_data", lambda *args: (broken, datasets[1]))
    with pytest.raises(FloatingPointError, match="the loss is not finite at step 0"):
        train(config)


def test_too_few_videos_for_a_batch_are_refused(config):
    with pytest.raises(ConfigError, match="8 videos make no batch of 99"):
        train(replace(config, recipe=replace(config.recipe, batch_size=99)))


def test_sizes_that_follow_from_the_data_may_not_be_said_otherwise(config):
    with pytest.raises(ConfigError, match="model: num_classes: is 2 in the data, leave it out, got 5"):
        train(replace(config, model={**NETWORK, "num_classes": 5}))


def test_an_epoch_is_drawn_from_the_seed_and_its_number(datasets):
    def epoch(seed, number):
        arguments = {"batch_size": 4, "augment": (Crop(32, (0.9, 1.0)),), "seed": seed, "epoch": number}
        return [(b.ids, b.visual.sum().item()) for b in training_batches(datasets[0], **arguments)]

    assert epoch(0, 1) == epoch(0, 1)
    assert epoch(0, 1) != epoch(0, 2)
    assert epoch(0, 1) != epoch(1, 1)
    assert sorted(key for ids, _ in epoch(0, 1) for key in ids) == sorted(datasets[0].videos)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epochs: 0", "warmup_epochs must be in"),
        ("epochs: many", "recipe.epochs: input should be a valid integer"),
        ("crop: [1.0, 0.5]", "crop must be two parts"),
        ("ema_decay: 1", "ema_decay must be in"),
        ("epoch: 3", "recipe.epoch: unknown key; .*did you mean 'epochs'"),
        ("seed: 1\nmodel:\n  widht: 8", "model.widht: unknown key; .*did you mean 'width'"),
        ("seed: 1\nmodel:\n  name: detr", "model.name: unknown network 'detr': choose from ccnet, unav"),
        ("seed: 1\nmodel:\n  drop_path: 1e-1x", "model.drop_path: input should be a valid number"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(tmp_path, line, message):
    path = tmp_path / "a.yaml"
    path.write_text(f"name: a\noutput: b\ndata: {{annotations: c, videos: d}}\nrecipe:\n  {line}\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:[4-7]: .*" + message):
        load_train_config(path)


def test_the_name_that_storage_had_is_still_read_and_says_so(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("name: a\noutput: b\ndata: {annotations: c, videos: d}\nweights: float16\n")
    with pytest.warns(DeprecationWarning, match=r"a\.yaml:4: weights: is storage now"):
        config = load_train_config(path)
    assert config.storage == "float16"
    with pytest.warns(DeprecationWarning, match="weights is storage now"):
        assert config.weights == "float16"
    path.write_text(path.read_text() + "storage: float32\n")
    with pytest.raises(ConfigError, match=r"a\.yaml:4: weights: is another name of storage, which is there too"):
        load_train_config(path)


def test_the_shipped_recipes_are_valid():
    recipes = [*CONFIGS.glob("*.yaml"), *(Path(__file__).parents[2] / "recipes").glob("*.yaml")]
    assert len(recipes) >= 5
    for path in recipes:
        values = read_yaml(path)[0]
        kind: type[Any] = JointConfig if "tasks" in values else TrainConfig
        config = parse(kind, values, str(path))
        build({**config.model, "num_classes": 2})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Six short videos: a bright picture and a high tone happen together, or not."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "videos").mkdir()
    database = {}
    for i in range(6):
        start, end = 1.0 + 0.2 * i, 3.5
        samples = tone(6, 16000, 300)
        samples[int(start * 16000) : int(end * 16000)] = tone(end, 16000, 2000)[int(start * 16000) :]
        make_media(
            folder / "videos" / f"v{i}.mp4",
            seconds=6,
            picture=lambda t, start=start, end=end: grey(220 if start <= t < end else 40),
            samples=samples,
        )
        event = {"segment": [start, end], "label": "flash", "label_id": 0}
        subset = "train" if i < 4 else "validation"
        database[f"v{i}"] = {"duration": 6.0, "subset": subset, "annotations": [event]}
    (folder / "annotations.json").write_text(json.dumps({"version": "x", "database": database}))
    (folder / "a.yaml").write_text(
        "name: flashes\noutput: run\ndata: {annotations: annotations.json, videos: videos, workers: 1}\n"
        "model: {max_length: 32, width: 8, class_width: 4}\n"
        "recipe: {epochs: 2, warmup_epochs: 1, batch_size: 2}\n"
    )
    return folder


def test_from_a_folder_of_videos_to_a_model_and_its_figures(folder, capsys, monkeypatch):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["davel", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            app()
        assert not end.value.code
        return capsys.readouterr()

    out = run("train", folder / "a.yaml")
    best = Path(out.out.strip())
    assert best == folder / "run" / "best"
    assert "epoch 2/2: classification" in out.err
    assert len(list((folder / "features").glob("*.features.json"))) == 6
    subset = ("--subset", "validation", "--bootstrap", 0, "--json")
    common = ("--annotations", folder / "annotations.json", "--videos", folder / "videos", *subset)
    figures = json.loads(run("evaluate", best, *common).out)
    _, info, _ = load_model(best)
    assert {key: figures[key] for key in info.figures["validation"]} == info.figures["validation"]
    assert figures["videos"] == 2
    kept = ("--annotations", folder / "annotations.json", "--features", folder / "features", *subset)
    assert json.loads(run("evaluate", best, *kept).out) == figures
    deaf = json.loads(run("evaluate", best, *common, "--without", "audio").out)
    assert deaf["videos"] == 2
    run("localize", folder / "videos" / "v5.mp4", "-m", best, "-o", folder)
    assert json.loads((folder / "v5.json").read_text())["model"]["name"] == "flashes"


def test_a_model_is_trained_on_features_as_on_videos(folder, tmp_path):
    videos = load_train_config(folder / "a.yaml")
    features = replace(videos.data, videos=None, features=folder / "features")
    best = [train(replace(videos, output=tmp_path / str(i), data=d)) for i, d in enumerate((videos.data, features))]
    assert (best[0] / "model.safetensors").read_bytes() == (best[1] / "model.safetensors").read_bytes()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty: holds no \.npy files of a known family's names"):
        train(replace(videos, output=tmp_path / "2", data=replace(features, features=tmp_path / "empty")))


def test_losses_are_the_same_in_pieces_and_when_computed_again(config):
    config = replace(config, model={**NETWORK, "drop_path": 0.0}, recipe=replace(config.recipe, epochs=2))
    logs = {}
    for name, compute in {
        "whole": Compute(),
        "pieces": Compute(accumulate=4),
        "again": Compute(checkpoint_activations=True),
        "ahead": Compute(workers=3),
    }.items():
        run = replace(config, output=config.output / name, compute=compute)
        train(run)
        logs[name] = [json.loads(line) for line in (run.output / "log.jsonl").read_text().splitlines()]
    for name in ("pieces", "again", "ahead"):
        for ours, theirs in zip(logs[name], logs["whole"], strict=True):
            for part in ("classification", "regression", "gradient_norm"):
                assert ours[part] == pytest.approx(theirs[part], rel=1e-4), name


def test_a_line_that_a_kill_kept_from_the_log_is_in_the_runs_state(config):
    train(config)
    log = config.output / "log.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("".join(f"{line}\n" for line in lines[:-1]))
    train(config, resume=True)
    assert log.read_text().splitlines() == lines


def test_a_key_that_is_new_does_not_keep_a_run_from_being_resumed_and_another_value_does(config):
    train(config)
    file = config.output / "state.pt"
    state = torch.load(file, weights_only=True)
    del state["config"]["recipe"]["swap_audio"], state["config"]["model"]["drop_path"]
    torch.save(state, file)
    train(config, resume=True)
    with pytest.raises(ConfigError, match=r"another model or recipe \(recipe.learning_rate was 0.003, is 0.5\)"):
        train(replace(config, recipe=replace(config.recipe, learning_rate=0.5)), resume=True)
    with pytest.raises(ConfigError, match=r"another model or recipe \(model.width was 8, is 16\)"):
        train(replace(config, model={**NETWORK, "width": 16}), resume=True)


@dataclass(frozen=True, kw_only=True)
class SeededConfig(UnavConfig):
    name: str = "seeded"
    seed: int = 0
    """A key that the recipe has, too."""


def test_a_models_key_of_a_recipes_name_is_told_apart(config, monkeypatch):
    monkeypatch.setitem(MODELS, "seeded", "davel.models.unav")
    monkeypatch.setattr("davel.models.unav.Config", SeededConfig)
    config = replace(config, model={**NETWORK, "name": "seeded"}, recipe=replace(config.recipe, epochs=2))
    train(config)
    with pytest.raises(ConfigError, match=r"another model or recipe \(model.seed was 0, is 1\)"):
        train(replace(config, model={**config.model, "seed": 1}), resume=True)


def test_checkpointed_blocks_drop_the_same_branches_when_computed_again(config):
    runs = {}
    for name, compute in {"kept": Compute(), "again": Compute(checkpoint_activations=True)}.items():
        run = replace(config, output=config.output / name, compute=compute)
        train(run)
        runs[name] = torch.load(run.output / "state.pt", weights_only=True)["model"]
    for key, tensor in runs["kept"].items():
        torch.testing.assert_close(runs["again"][key], tensor, rtol=1e-4, atol=1e-6)


def test_blocks_computed_again_a_few_sequences_at_a_time_have_the_same_gradients(monkeypatch):
    def gradients(checkpointed: bool) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        model = build({**NETWORK, "num_classes": 3, "visual_dim": 6, "audio_dim": 4, "drop_path": 0.0}).double().train()
        if checkpointed:
            model.recompute_activations()
        torch.manual_seed(1)
        T = model.config.max_length // 2
        mask = torch.arange(T) < torch.tensor([[T], [T // 2]])
        outputs = model(*(torch.randn(2, T, D, dtype=torch.float64) for D in (6, 4)), mask)
        sum(x.square().mean() for x in (*outputs.logits, *outputs.offsets)).backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    whole, sizes, real = gradients(False), [], torch.utils.checkpoint.checkpoint

    def counting(method, source, *others, **options):
        sizes.append(len(source))
        return real(method, source, *others, **options)

    monkeypatch.setattr("davel.models.blocks.checkpoint", counting)
    monkeypatch.setattr("davel.models.blocks.PIECE", 64)
    pieces = gradients(True)
    assert sizes.count(1) > 10
    assert pieces.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(pieces[name], gradient)


def test_in_half_the_bits_the_losses_are_about_the_same(config):
    logs = {}
    for precision in ("float32", "bfloat16"):
        run = replace(config, output=config.output / precision, compute=Compute(precision=precision))
        train(run)
        logs[precision] = json.loads((run.output / "log.jsonl").read_text().splitlines()[0])
        assert load_model(run.output / "best")[0].decoder.scales.dtype == torch.float32
    for part in ("classification", "regression"):
        assert logs["bfloat16"][part] == pytest.approx(logs["float32"][part], rel=0.05)
        assert logs["bfloat16"][part] != logs["float32"][part]


def test_the_model_reports_from_the_best_score_on_validation(config):
    fitted = load_model(train(config))[1]
    assert fitted.threshold not in (0.5, 0.0)
    given = replace(config, output=config.output.with_name("given"), threshold=0.25, tracks=("audio",))
    info = load_model(train(given))[1]
    assert (info.threshold, info.tracks) == (0.25, ("audio",))
    with pytest.raises(ValueError, match="tracks must be some of visual, audio, got smell"):
        replace(config, tracks=("smell",))


def test_the_last_weights_are_kept_beside_the_best(config):
    best = train(config)
    assert load_model(best)[1].figures["epoch"] <= 4
    assert load_model(config.output / "last")[1].figures["epoch"] == 4


def test_papers_choices_make_another_training(config):
    recipe = replace(config.recipe, epochs=2, learning_rate=1e-9)  # the first losses tell the loss, not the optimizer
    first = {}
    for choice in ({}, {"optimizer": "adam"}, {"boundaries": "giou"}):
        run = replace(config, output=config.output / str(choice), recipe=replace(recipe, **choice))
        train(run)
        first[str(choice)] = json.loads((run.output / "log.jsonl").read_text().splitlines()[0])
    plain, adam, giou = first.values()
    assert adam["regression"] == pytest.approx(plain["regression"], rel=1e-5)
    assert giou["regression"] != pytest.approx(plain["regression"], rel=1e-3)
    assert giou["classification"] == pytest.approx(plain["classification"], rel=1e-5)


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
def test_the_optimizer_is_the_one_that_is_named(name, kind):
    optimizer = optimizer_for(build({**NETWORK, **DIMS, "num_classes": 2}), Recipe(optimizer=name))
    assert type(optimizer) is kind


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"compute": Compute(accumulate=3)}, r"batch_size \(4\) must be a multiple of the processes \(1\) times"),
        (
            {"recipe": Recipe(regression_ranges=((0, 4), (4, 99)))},
            "regression_ranges: expected one for each of 6 levels, got 2",
        ),
    ],
)
def test_what_does_not_go_together_is_refused_before_any_work(config, change, message):
    change = {k: replace(v, batch_size=4) if k == "recipe" else v for k, v in change.items()}
    with pytest.raises(ConfigError, match=message):
        train(replace(config, **change))
    assert not config.output.exists()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    """A data set of simulated features, and a small configuration for it."""
    folder = tmp_path_factory.mktemp("simulated")
    simulate(folder, draw_annotations(20, 3), lazy=True)
    (folder / "a.yaml").write_text(
        "name: a\noutput: run\n"
        "data: {annotations: annotations/unav100_annotations.json, features: av_features, kind: i3d-vggish}\n"
        "model: {name: unav, max_length: 192, width: 8, class_width: 4, drop_path: 0.0}\n"
        "recipe: {epochs: 3, warmup_epochs: 1, batch_size: 4, learning_rate: 1e-3}\n"
    )
    return folder


def davel_train(*arguments: object, processes: int = 1) -> list[str]:
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    return [*start, "davel", "train", *map(str, arguments), "--device", "cpu"]


def run_to_end(command: list[str], code: int = 0) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == code, done.stderr
    return done


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return [line[part] for line in lines for part in ("classification", "regression", "gradient_norm")]


KILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from davel.train import Reporting, train
from davel.train.recipe import load_train_config

def progress(step, done, total, note=""):
    if note.startswith("epoch 3"):
        os.kill(os.getpid(), signal.SIGKILL)

train(replace(load_train_config(sys.argv[1]), output=Path(sys.argv[2])), report=Reporting(progress))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_ends_with_the_same_bits(simulated, tmp_path):
    run_to_end(davel_train(simulated / "a.yaml", "-o", tmp_path / "whole"))
    run_to_end([sys.executable, "-c", KILLED, str(simulated / "a.yaml"), str(tmp_path / "killed")], -signal.SIGKILL)
    assert len((tmp_path / "killed" / "log.jsonl").read_text().splitlines()) == 2
    run_to_end(davel_train(simulated / "a.yaml", "-o", tmp_path / "killed", "--resume"))
    for name in ("best/model.safetensors", "last/model.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    ours, theirs = (torch.load(tmp_path / n / "state.pt", weights_only=True) for n in ("killed", "whole"))
    for key, tensor in theirs["model"].items():
        assert torch.equal(ours["model"][key], tensor)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_two_processes_train_as_one_does(simulated, tmp_path):
    # At a low rate: AdamW turns the rounding of gradients that should be zero into whole steps.
    small = ("--set", "recipe.learning_rate=1e-5")
    run_to_end(davel_train(simulated / "a.yaml", "-o", tmp_path / "one", *small))
    done = run_to_end(davel_train(simulated / "a.yaml", "-o", tmp_path / "two", *small, processes=2))
    assert done.stdout == f"{tmp_path / 'two' / 'best'}\n"
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    figures = [load_model(tmp_path / n / "last")[1].figures for n in ("one", "two")]
    assert figures[0]["validation"]["videos"] == figures[1]["validation"]["videos"] == 4
    assert figures[0]["data"] == "simulated i3d-vggish features, seed 0"


def test_a_shipped_configuration_needs_a_data_set_and_takes_other_values(simulated, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["davel", "train", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, capsys.readouterr()

    code, out = run("unav-i3d")
    assert code == 4
    assert out.err == "davel: unav-i3d: needs the folder of the data set: name it with --data\n"
    small = {"model.width": 8, "model.class_width": 4, "recipe.epochs": 2, "recipe.warmup_epochs": 1}
    small |= {"recipe.batch_size": 6, "data.limit": 6, "data.classes": 2}
    changes = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    code, out = run("unav-i3d", "--data", simulated, "-o", tmp_path / "run", "--device", "cpu", *changes)
    assert code == 0, out.err
    _, info, _ = load_model(tmp_path / "run" / "best")
    assert info.config == UnavConfig(num_classes=2, width=8, class_width=4)
    assert info.figures["validation"]["videos"] == 2
    code, out = run("unav-i3d", "--data", simulated, "--set", "recipe.epoch=2")
    assert code == 4
    assert "recipe.epoch: unknown key" in out.err
    assert "did you mean 'epochs'" in out.err
    code, out = run("unav-i4d", "--data", simulated)
    assert code == 4
    assert f"the shipped ones are {', '.join(sorted(path.stem for path in CONFIGS.glob('*.yaml')))}\n" in out.err


def test_the_test_subset_is_not_for_choosing_the_epoch(simulated, tmp_path):
    config = load_train_config(simulated / "a.yaml", changes=["data.validation=test"])
    with pytest.raises(ConfigError, match="never used for selection"):
        train(replace(config, output=tmp_path / "run"))


def test_the_log_is_also_written_for_tensorboard_where_it_is_installed(config):
    pytest.importorskip("tensorboard")
    train(replace(config, tensorboard=True))
    assert list((config.output / "tensorboard").glob("events.*"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "name either `videos` or `features`"),
        ("videos: a, features: b", "name either `videos` or `features`"),
        ("features: b, cache: c", "`cache` is for features that are made of `videos`"),
    ],
)
def test_data_are_videos_or_features(tmp_path, fields, message):
    path = tmp_path / "a.yaml"
    path.write_text(f"name: a\noutput: b\ndata: {{annotations: c, {fields}}}\n")
    values, lines = read_yaml(path)
    with pytest.raises(ConfigError, match=r"a\.yaml:3: data: " + message):
        parse(TrainConfig, values, str(path), lines)


def test_missing_and_broken_videos_are_listed(folder, tmp_path):
    config = load_train_config(folder / "a.yaml")
    (tmp_path / "v0.mp4").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match=r"v0\.mp4: not a media file.*; v1: no such file; .*and 1 more"):
        train(replace(config, output=tmp_path / "run", data=replace(config.data, videos=tmp_path)))
