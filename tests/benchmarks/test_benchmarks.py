"""The benchmarks compare equal things: their plain reference learns, decodes and measures as davel does."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"
TINY = (
    "--width",
    "16",
    "--class-width",
    "8",
    "--classes",
    "3",
    "--max-length",
    "64",
    "--repeats",
    "1",
    "--threads",
    "1",
)


def benchmark(name: str):
    sys.path.insert(0, str(FOLDER))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def unav100():
    return benchmark("unav100")


@pytest.fixture(scope="module")
def published():
    return benchmark("published_features")


@pytest.mark.bench
def test_every_part_runs_and_writes_its_figures(tmp_path):
    command = [sys.executable, str(FOLDER / "unav100.py"), *TINY, "--json", str(tmp_path / "b.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "b.json").read_text())
    assert set(content["results"]) == {"inference", "training", "targets", "evaluation"}
    for result in content["results"].values():
        assert result["ratio"] == pytest.approx(result["plain"] / result["davel"])
    assert content["results"]["training"]["peak memory, GB (plain)"] > 0.1
    assert "ratio" in done.stdout


def test_an_unknown_part_is_refused():
    command = [sys.executable, str(FOLDER / "unav100.py"), "--only", "speed"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unknown part 'speed'" in done.stderr


def test_the_reference_has_the_same_gradients(unav100):
    plain = unav100.plain
    size = unav100.Size(width=16, class_width=8, classes=3, max_length=64)
    ours = size.network().eval()
    theirs = plain.PlainCCNet(ours).eval()
    batch = size.batch((40, 64))
    outputs = ours(batch.visual, batch.audio, batch.mask)
    logits, offsets = theirs(*unav100.padded(batch, 64))
    for levels in ((outputs.logits, outputs.offsets), (logits, offsets)):
        masks = [batch.mask[:, :: 2**level] for level in range(6)]
        sum(x[mask].square().mean() for part in levels for x, mask in zip(part, masks, strict=True)).backward()
    for mine, reference in (
        (ours.decoder.scales, theirs.scales),
        (ours.fine_to_coarse.blocks[0].mlp[0].bias, theirs.fine_to_coarse[0].mlp[0].bias),
        (ours.coarse_to_fine.stretch[0].weight, theirs.stretch[0].weight),
        (ours.embed["audio"].norms[0].weight, theirs.embed["audio"].stem.norms[0].weight),
    ):
        torch.testing.assert_close(mine.grad, reference.grad.view_as(mine), rtol=2e-3, atol=1e-6)


def test_what_differs_is_not_timed(unav100):
    x = torch.arange(4.0)
    unav100.require_equal("rows", x, x + 1e-6, 1e-4)
    with pytest.raises(SystemExit, match="rows differ by"):
        unav100.require_equal("rows", x, x + 1, 1e-4)
    with pytest.raises(SystemExit, match="rows differ by"):
        unav100.require_equal("rows", x * torch.nan, x, 1e-4)


def test_the_plain_flow_is_ours(published):
    torch.manual_seed(0)
    network = published.raft.RAFT().eval()
    frames = torch.randint(0, 256, (3, 3, 128, 136)).float()
    with torch.inference_mode():
        ours = network(frames[:-1], frames[1:], updates=3)
        torch.testing.assert_close(published.plain.plain_flow(network, frames, 3), ours, rtol=1e-3, atol=1e-3)


def test_the_plain_networks_are_ours(published):
    rgb, _, _, sound = published.parts()
    x = torch.rand(1, 3, 16, 224, 224)
    waveform = published.np.random.default_rng(0).uniform(-1, 1, 40000).astype("float32")
    with torch.inference_mode():
        plainly = published.plain.plain_i3d(rgb)(x)
        torch.testing.assert_close(plainly, rgb.fold()(x), rtol=1e-4, atol=1e-4)
        ours = published.vggish.embed(sound, waveform)
        torch.testing.assert_close(published.plain.plain_vggish(sound, waveform), ours, rtol=1e-4, atol=1e-4)


@pytest.mark.bench
def test_the_extraction_of_a_longer_file_takes_no_more_memory(tmp_path):
    command = [sys.executable, str(FOLDER / "published_features.py"), "--only", "memory", "--hour-seconds", "240"]
    done = subprocess.run([*command, "--json", str(tmp_path / "m.json")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "m.json").read_text())["results"]["memory"]
    assert figures["i3d-vggish: hour / minute"] < 1.1
