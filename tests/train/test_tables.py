"""The paper's tables as commands: every row trains, and tables share their runs."""

from __future__ import annotations

import json
import sys
from itertools import combinations

import numpy as np
import pytest
import torch

from davel.cli import main
from davel.core.config import parse, read_yaml
from davel.core.errors import ConfigError
from davel.core.events import EventList, Video
from davel.data.dataset import Dataset
from davel.data.simulate import draw_annotations, simulate
from davel.evaluate import match_videos
from davel.features.i3d_vggish import SPEC as I3D_VGGISH
from davel.models import NetworkConfig, build
from davel.models.saved import load_model
from davel.train.cost import cost_of
from davel.train.recipe import CONFIGS, TrainConfig
from davel.train.tables import METHODS, TABLES, Measured, Row, Run, paired

TINY = {"num_classes": 2, "visual_dim": 8, "audio_dim": 4, "width": 8, "class_width": 4, "max_length": 64}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("simulated"), draw_annotations(20, 3), lazy=True)


def told(model: dict) -> np.ndarray:
    """What a row's network says of some input, from the same draws of weights."""
    torch.manual_seed(0)
    network = build({**TINY, **model}).eval()
    with torch.no_grad():  # what starts near zero would hide a difference
        for name, parameter in network.named_parameters():
            if name.endswith(".scale"):
                parameter.fill_(0.5)
        generator = torch.Generator().manual_seed(1)
        visual, audio = (torch.randn(1, 40, D, generator=generator) for D in (8, 4))
        return network(visual, audio, torch.ones(1, 40, dtype=torch.bool)).candidates().scores.numpy()


def test_every_row_is_another_network():
    for table in TABLES.values():
        outputs = [told(row.model) for row in table.rows]
        for one, other in combinations(outputs, 2):
            assert np.abs(one - other).max() > 1e-5
        assert all(len(row.cells) == len(table.columns) for row in table.rows)
    keys = {}
    for row in (row for table in TABLES.values() for row in table.rows):
        assert keys.setdefault(row.key, row.model) == row.model  # one name, one network


def test_the_papers_figures_fall_with_the_overlap_that_is_asked_for():
    for row in (row for table in (*TABLES.values(), METHODS) for row in table.rows if row.published):
        *by_overlap, average = row.published
        assert by_overlap == sorted(by_overlap, reverse=True)
        assert len(by_overlap) == 5
        assert by_overlap[-1] < average < by_overlap[0]


def test_every_method_has_a_shipped_configuration_for_its_features():
    for row in METHODS.rows:
        config = parse(TrainConfig, read_yaml(CONFIGS / f"{row.config}.yaml")[0], row.config)
        kind = {"I3D, VGGish": "i3d-vggish", "ONE-PEACE": "one-peace"}[row.cells[0]]
        assert config.data.kind == kind
        assert config.name == row.key


def test_without_mtgc_the_pyramid_goes_straight_to_the_decoder():
    model = build({**TINY, **TABLES[5].rows[1].model})
    assert model.coarse_to_fine is model.dependencies is model.fine_to_coarse is None
    pyramid = [object()]
    assert model.collaborate(pyramid, []) is pyramid


def run(monkeypatch, capsys, *arguments, command="ablate"):
    monkeypatch.setattr(sys, "argv", ["davel", command, *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return end.value.code or 0, capsys.readouterr()


def test_rows_are_trained_with_each_seed_and_told_by_mean_and_deviation(data, tmp_path, monkeypatch, capsys):
    trained = []

    def train(config, *, resume, device, report):
        assert resume
        trained.append((str(config.output.relative_to(tmp_path)), config.recipe.seed, config.model))
        return config.output / "best"

    def measure(config, best, device):
        assert best == config.output / "best"
        value = {"ccnet": 0.5, "no-cmi": 0.4, "no-tcg": 0.3, "no-cmcc": 0.2}[config.name] + config.recipe.seed / 100
        return Run(
            {"average_mAP": value, "mAP": dict.fromkeys(("0.5", "0.6", "0.7", "0.8", "0.9"), value), "videos": 2}
        )

    monkeypatch.setattr("davel.train.tables.train", train)
    monkeypatch.setattr("davel.train.tables.measure", measure)
    code, out = run(monkeypatch, capsys, 3, "--data", data, "-o", tmp_path, "--seeds", "0,2", "--device", "cpu")
    assert code == 0, out.err
    rows = TABLES[3].rows
    assert [folder for folder, _, _ in trained] == [f"{row.key}/seed-{seed}" for row in rows for seed in (0, 2)]
    assert [seed for _, seed, _ in trained] == [0, 2] * len(rows)
    for (_, _, model), row in zip(trained[::2], rows, strict=True):
        assert model.items() >= row.model.items()
    told = [line for line in (tmp_path / "table-3.md").read_text().splitlines() if "±" in line]
    assert len(told) == len(rows)
    for line, mean in zip(told, (21.0, 31.0, 41.0, 51.0), strict=True):
        assert f"{mean} ± 1.4" in line
    content = json.loads((tmp_path / "table-3.json").read_text())
    assert [row["key"] for row in content["rows"]] == [row.key for row in rows]
    assert [run["average_mAP"] for run in content["rows"][-1]["runs"]] == [0.5, 0.52]


@pytest.mark.parametrize(
    ("config", "changes", "sizes"),
    [
        ("ccnet-i3d", (), {"width": 12, "class_width": 3}),
        ("unav-i3d", (), {"width": 12, "class_width": 3}),
        ("actionformer-i3d", (), {"width": 12}),
        ("ccnet-i3d", ("model.num_heads=3",), {"width": 12, "class_width": 3, "num_heads": 3}),  # 512 is no multiple
        ("ccnet-i3d", ("model.class_width=5",), {"width": 12, "class_width": 5}),
    ],
)
def test_a_width_is_in_the_proportions_of_the_model(data, tmp_path, monkeypatch, capsys, config, changes, sizes):
    models = []

    def train(config, **options):
        models.append(config.model)
        raise ConfigError("enough is known")

    monkeypatch.setattr("davel.train.tables.train", train)
    options = [part for change in changes for part in ("--set", change)]
    arguments = (2, "--config", config, "--width", 12, *options, "--data", data, "-o", tmp_path, "--device", "cpu")
    code, out = run(monkeypatch, capsys, *arguments)
    assert code == 4, out.err
    assert models[0].items() >= sizes.items()


def test_a_model_without_proportions_has_no_width_to_choose(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("davel.models.unav.Config.scaled", NetworkConfig.scaled)
    code, out = run(monkeypatch, capsys, 2, "--set", "model.name=unav", "--width", 12, "--data", data, "-o", tmp_path)
    assert code == 2
    assert "the model unav has no `scaled` sizes: set its fields with --set" in " ".join(
        out.err.replace("│", " ").split()
    )


@pytest.mark.slow
def test_a_table_is_trained_tested_and_printed_beside_the_papers_figures(data, tmp_path, monkeypatch, capsys):
    scale = ("--data", data, "-o", tmp_path, "--classes", 2, "--videos", 4, "--width", 8, "--epochs", 2)
    scale += ("--set", "recipe.batch_size=4", "--seeds", "0,1", "--device", "cpu")
    code, out = run(monkeypatch, capsys, 1, *scale)
    assert code == 0, out.err
    assert "simulated i3d-vggish features, seed 0" in " ".join(out.out.split())
    for figure in ("49.2", "47.8", "±"):
        assert figure in out.out
    content = json.loads((tmp_path / "table-1.json").read_text())
    assert [row["key"] for row in content["rows"]] == ["unav", "ccnet"]
    assert all(len(row["runs"]) == 2 for row in content["rows"])
    assert content["rows"][0]["runs"][0]["videos"] == 2
    assert "| unav |" in (tmp_path / "table-1.md").read_text()
    assert type(load_model(tmp_path / "unav" / "seed-1" / "best")[0]).__name__ == "Unav"
    assert vars(load_model(tmp_path / "ccnet" / "seed-0" / "best")[1].config)["class_width"] == 2

    before = (tmp_path / "ccnet" / "seed-0" / "state.pt").stat().st_mtime_ns
    code, out = run(monkeypatch, capsys, 4, *scale[:-4], "--seeds", "0", "--device", "cpu")
    assert code == 0, out.err
    assert "F2C, then C2F" in out.out
    assert (tmp_path / "ccnet" / "seed-0" / "state.pt").stat().st_mtime_ns == before


def events(*segments: tuple[float, float], label: int = 0, scores: object = None) -> EventList:
    scores = np.ones(len(segments)) if scores is None else scores
    return EventList(np.array(segments, float), scores, np.full(len(segments), label), ("a", "b"))


def measured(key: str, *runs: dict[str, EventList]) -> Measured:
    videos = {f"v{i}": Video(f"v{i}", events((i, i + 5)), 20.0) for i in range(8)}
    matches = [match_videos(found, videos, 2) for found in runs]
    return Measured(Row(key, ("x", key)), tuple(Run({}, m) for m in matches))


def test_a_difference_is_the_mean_over_seeds_on_the_same_resamples():
    right = {f"v{i}": events((i, i + 5), scores=np.ones(1)) for i in range(8)}
    half = dict(list(right.items())[:4])
    difference, low, high = paired(measured("one", right, half), measured("other", half, half), 200)
    assert difference == pytest.approx(-0.25)
    assert low < difference < high < 0
    assert paired(measured("one", half), measured("other", half)) == (0, 0, 0)


def test_the_cost_of_a_network_is_that_of_its_layers():
    video = Video("v", events((1, 3)), 12.0)
    features = (np.ones((36, 8), np.float32), np.ones((36, 4), np.float32))
    dataset = Dataset({"v": video}, lambda key: features, I3D_VGGISH, None, ())
    network = build(TINY)
    cost = cost_of(network, dataset)
    assert cost.parameters == sum(p.numel() for p in network.parameters())
    assert cost.seconds > 0
    assert cost.device == "cpu"
    longer = cost_of(build({**TINY, "max_length": 128}), dataset)
    assert longer.flop > cost.flop  # 40 s are 123 steps


@pytest.mark.slow
@pytest.mark.parametrize("features", ["i3d", "onepeace"])
def test_table_1_is_trained_tested_compared_and_gone_on_with(tmp_path, monkeypatch, capsys, features):
    kind = {"i3d": "i3d-vggish", "onepeace": "one-peace"}[features]
    folder = simulate(tmp_path / "set", draw_annotations(30, 3), features=kind, lazy=True)
    scale = ["--classes", 2, "--videos", 8, "--width", 16, "--epochs", 2, "--set", "recipe.batch_size=4"]
    command = [f"--{'i3d' if features == 'i3d' else 'one-peace'}", folder, "-o", tmp_path / "runs", *scale]
    code, out = run(monkeypatch, capsys, *command, "--device", "cpu", command="table1")
    assert code == 0, out.err
    rows = [row for row in METHODS.rows if row.key.endswith(f"-{features}")]
    text = " ".join((tmp_path / "runs" / "table-1.md").read_text().split())
    for row in rows:
        assert row.cells[1] in text
        assert f"| the paper | {row.published[0]}" in text
    assert f"simulated {kind} features" in text
    content = json.loads((tmp_path / "runs" / "table-1.json").read_text())
    assert [row["key"] for row in content["rows"]] == [row.key for row in rows]
    assert all(row["cost"][0]["parameters"] > 0 and row["cost"][0]["flop"] > 0 for row in content["rows"])
    states = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").rglob("*.results.json")}
    assert len(states) == len(rows)
    code, again = run(monkeypatch, capsys, *command, "--device", "cpu", command="table1")
    assert code == 0, again.err
    assert json.loads((tmp_path / "runs" / "table-1.json").read_text()) == content
    assert {path: path.stat().st_mtime_ns for path in states} == states  # neither trained nor tested again


def test_mistakes_about_table_1_are_told(tmp_path, monkeypatch, capsys):
    for arguments, message in (
        ((), "name a data set's folder: --i3d, --one-peace or both"),
        (("--i3d", "x", "--methods", "ccnet-onepeace"), "no row 'ccnet-onepeace' of these features: choose from vsgn"),
    ):
        code, out = run(monkeypatch, capsys, *arguments, "-o", tmp_path / "runs", command="table1")
        assert code == 2
        assert message in " ".join(out.err.replace("│", " ").split())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((6,), 2, "less than or equal to 5"),
        ((2, "--seeds", "a"), 2, "whole numbers"),
        ((2, "--set", "model.deep=1"), 4, "ccnet-i3d.yaml:13: model.deep: unknown key"),
        ((2, "--config", "none.yaml"), 4, "cannot read the configuration"),
    ],
)
def test_mistakes_are_told(data, tmp_path, monkeypatch, capsys, arguments, code, message):
    got, out = run(monkeypatch, capsys, *arguments, "--data", data, "-o", tmp_path / "out", "--device", "cpu")
    assert got == code
    assert message in " ".join(out.err.replace("│", " ").split())
