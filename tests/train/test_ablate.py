"""The paper's tables as commands: every row trains, and tables share their runs."""

from __future__ import annotations

import json
import sys

import pytest

from davel.cli import main
from davel.core.errors import ConfigError
from davel.data.simulate import draw_annotations, simulate
from davel.models import NetworkConfig, build
from davel.models.saved import load_model
from davel.train.ablate import TABLES

TINY = {"num_classes": 2, "visual_dim": 8, "audio_dim": 4, "width": 8, "class_width": 4, "max_length": 64}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("simulated"), draw_annotations(20, 3), lazy=True)


def test_every_row_is_another_network():
    for table in TABLES.values():
        networks = [build({**TINY, **row.model}) for row in table.rows]
        assert len({(type(n), str(n.config)) for n in networks}) == len(table.rows)
        assert all(len(row.cells) == len(table.columns) for row in table.rows)
    keys = {}
    for row in (row for table in TABLES.values() for row in table.rows):
        assert keys.setdefault(row.key, row.model) == row.model  # one name, one network


def test_without_mtgc_the_pyramid_goes_straight_to_the_decoder():
    model = build({**TINY, **TABLES[2].rows[1].model})
    assert model.coarse_to_fine is model.dependencies is model.fine_to_coarse is None
    pyramid = [object()]
    assert model.collaborate(pyramid, []) is pyramid


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["davel", "ablate", *map(str, arguments)])
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
        return {"average_mAP": value, "mAP": dict.fromkeys(("0.5", "0.6", "0.7", "0.8", "0.9"), value), "videos": 2}

    monkeypatch.setattr("davel.train.ablate.train", train)
    monkeypatch.setattr("davel.train.ablate.measure", measure)
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

    monkeypatch.setattr("davel.train.ablate.train", train)
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


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((5,), 2, "less than or equal to 4"),
        ((2, "--seeds", "a"), 2, "whole numbers"),
        ((2, "--set", "model.deep=1"), 4, "ccnet-i3d.yaml:13: model.deep: unknown key"),
        ((2, "--config", "none.yaml"), 4, "cannot read the configuration"),
    ],
)
def test_mistakes_are_told(data, tmp_path, monkeypatch, capsys, arguments, code, message):
    got, out = run(monkeypatch, capsys, *arguments, "--data", data, "-o", tmp_path / "out", "--device", "cpu")
    assert got == code
    assert message in " ".join(out.err.replace("│", " ").split())
