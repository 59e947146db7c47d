"""What the release before wrote is still read: `tests/golden/previous_release/`, made by commit 7318208.

`videos/` and `annotations.json` are the input. Of these, that release made a model and what it found (`model/`), a run
that ended within its second epoch (`run/`) and the weights of the whole one (`resumed/`), features in a folder
(`light/` and, by networks that stand in for the published ones, `i3d-vggish/`), and those that training keeps
(`features/`).
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_values import GOLDEN
from safetensors.torch import load_file

import davel

WRITTEN = 1_700_000_000_000_000_000
"""When the videos were last written, in nanoseconds."""
WEIGHTS = {
    "i3d-rgb": "i3d_rgb.pt",
    "i3d-flow": "i3d_flow.pt",
    "raft": "raft_large_C_T_SKHT_V1-0b8c9e55.pth",
    "vggish": "vggish-10086976.pth",
}
"""Files of published weights. The stand-ins hold their own names."""


@pytest.fixture
def old(tmp_path, run) -> Path:
    """The folder as that release left it, and the working folder of `run`."""
    shutil.copytree(GOLDEN / "previous_release", tmp_path, dirs_exist_ok=True)
    for video in (tmp_path / "videos").iterdir():
        os.utime(video, ns=(WRITTEN, WRITTEN))
    state = tmp_path / "run" / "state.pt.gz"
    state.with_suffix("").write_bytes(gzip.decompress(state.read_bytes()))
    state.unlink()
    shutil.copytree(tmp_path / "run" / "last", tmp_path / "run" / "best")
    for folder in ("light", "i3d-vggish", "run", "model", "resumed"):
        assert any((tmp_path / folder).iterdir())
    return tmp_path


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.iterdir())}


def test_a_model_finds_the_same_events(old, run):
    code, _, err = run("localize", "videos/v0.mp4", "-m", "model", "-o", "found", "--device", "cpu")
    assert code == 0, err
    ours, theirs = (json.loads((old / folder / "v0.json").read_text()) for folder in ("found", "model"))
    assert ours["schema"] == theirs["schema"]
    assert set(theirs) <= set(ours)
    assert ours["model"]["weights_sha256"] == theirs["model"]["weights_sha256"]
    assert len(theirs["events"]) == 33
    for one, other in zip(ours["events"], theirs["events"], strict=True):
        assert one["label"] == other["label"]
        for number in ("start", "end", "score"):
            assert one[number] == pytest.approx(other[number], abs=1e-3)


def test_the_models_of_a_run_are_loaded_by_the_library(old):
    for name in ("best", "last"):
        localizer = davel.load(old / "run" / name, device="cpu")
        assert localizer.info.labels == ("bark", "bell")
        found = localizer.localize(old / "videos" / "v0.mp4", threshold=0.0)
        assert {event.label for event in found.events} <= {"bark", "bell"}
        assert len(found.events) > 0


def test_a_run_is_resumed_and_ends_as_it_would_have(old, run):
    before = load_file(old / "run" / "last" / "model.safetensors")
    code, out, err = run("train", "train.yaml", "--resume", "--device", "cpu")
    assert code == 0, err
    assert out.splitlines()[-1].endswith("best")
    log = [json.loads(line) for line in (old / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2]
    ours, theirs = (load_file(old / folder / "model.safetensors") for folder in ("run/last", "resumed"))
    assert ours.keys() == theirs.keys()
    for name, weights in theirs.items():
        torch.testing.assert_close(ours[name], weights, rtol=1e-3, atol=1e-5)
    assert any(not torch.allclose(weights, before[name], atol=1e-4) for name, weights in theirs.items())


def test_features_that_training_kept_are_not_made_anew(old, run):
    kept = old / "features" / "v0.light.safetensors"
    where = hashlib.sha256(os.fsencode((old / "videos" / "v0.mp4").resolve())).hexdigest()[:12]
    kept = kept.rename(kept.with_name(f"v0-{where}.light.safetensors"))
    before = kept.stat().st_mtime_ns, kept.read_bytes()
    code, _, err = run("train", "train.yaml", "-o", "another", "--set", "recipe.epochs=1", "--device", "cpu")
    assert code == 0, err
    assert before == (kept.stat().st_mtime_ns, kept.read_bytes())
    assert sum(path.name.startswith("v0") for path in kept.parent.iterdir()) == 1


def test_extracted_features_are_finished(old, run):
    before = contents(old / "light")
    code, out, err = run("extract", "videos/v0.mp4", "-o", "light", "--features", "light", "--workers", "1")
    assert code == 0, err
    assert "0 done, 1 were done before, 0 failed" in out
    after = contents(old / "light")
    assert {name: after[name] for name in before} == before


@pytest.fixture
def published(tmp_path, monkeypatch) -> Path:
    """A folder of weights, those that the features of `i3d-vggish` were made with."""
    folder = tmp_path / "home" / "weights"
    folder.mkdir(parents=True)
    for name, file in WEIGHTS.items():
        (folder / file).write_text(name)
    monkeypatch.setenv("DAVEL_HOME", str(folder.parent))
    return folder


def test_features_of_published_networks_are_finished_unless_their_weights_change(old, run, published):
    before = contents(old / "i3d-vggish")
    assert run("extract", "videos/v0.mp4", "-o", "i3d-vggish", "--device", "cpu")[:2] == (
        0,
        "0 done, 1 were done before, 0 failed: i3d-vggish\n",
    )
    after = contents(old / "i3d-vggish")
    assert {name: after[name] for name in before} == before
    (published / WEIGHTS["vggish"]).write_text("another")
    code, _, err = run("extract", "videos/v0.mp4", "-o", "i3d-vggish", "--device", "cpu")
    assert code != 0
    assert "refused: the file is damaged" in err  # what now has to be made needs networks, which these files are not


def test_localize_uses_extracted_features(old, run):
    before = contents(old / "light")
    visual = np.load(old / "light" / "v0_light-visual.npy")
    code, _, err = run(
        "localize", "videos/v0.mp4", "-m", "model", "--features", "light", "-o", "found", "--device", "cpu"
    )
    assert code == 0, err
    after = contents(old / "light")
    assert {name: after[name] for name in before} == before
    np.testing.assert_array_equal(np.load(old / "light" / "v0_light-visual.npy"), visual)
    ours, theirs = (json.loads((old / folder / "v0.json").read_text()) for folder in ("found", "model"))
    assert [e["label"] for e in ours["events"]] == [e["label"] for e in theirs["events"]]
