"""A released checkpoint becomes a model's folder that every command takes."""

from __future__ import annotations

import json

import pytest
import torch
from golden_values import published_state

from davel.data.simulate import draw_annotations, simulate
from davel.data.unav100 import ANNOTATIONS
from davel.models import from_published
from davel.models.saved import load_model

CASE = "ccnet_i3d_vggish"


@pytest.fixture(scope="module")
def state():
    return published_state(CASE)


@pytest.fixture
def checkpoint(tmp_path, state):
    path = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 40, "state_dict": {}, "state_dict_ema": state}, path)
    return path


@pytest.mark.slow
def test_a_released_checkpoint_is_evaluated_as_published(run, checkpoint, state, tmp_path):
    theirs = from_published(state)
    data = simulate(tmp_path / "data", draw_annotations(10, theirs.config.num_classes), lazy=True)
    given = ("import", checkpoint, "--annotations", data / ANNOTATIONS, "-o", "released")
    code, out, err = run(*given)
    assert (code, out) == (0, "released\n"), err
    assert "reads i3d-vggish features" in err
    ours, info, _ = load_model("released")
    found = ours.state_dict()
    assert all((found[key] == x).all() for key, x in theirs.state_dict().items())
    assert len(info.labels) == info.config.num_classes
    code, out, err = run("evaluate", "released", "--data", data, "--published-batching", "--json", "--bootstrap", 0)
    assert code == 0, err
    assert "published batching" in json.loads(out)["notes"][1]
    code, _, err = run(*given)
    assert code == 4
    assert "holds a model already" in err


@pytest.mark.slow
def test_a_checkpoint_of_other_classes_or_channels_is_refused(run, checkpoint, tmp_path):
    other = simulate(tmp_path / "other", draw_annotations(10, 2), lazy=True)
    code, _, err = run("import", checkpoint, "--annotations", other / ANNOTATIONS, "-o", "x")
    assert code == 4
    assert "the annotations 2" in err
    torch.save(published_state("ccnet_small"), tmp_path / "small.pth")
    classes = from_published(published_state("ccnet_small")).config.num_classes
    few = simulate(tmp_path / "few", draw_annotations(40, classes), lazy=True)
    code, _, err = run("import", "small.pth", "--annotations", few / ANNOTATIONS, "-o", "x")
    assert code == 4
    assert "as no published features have" in err
    (tmp_path / "text.pth").write_text("nothing")
    assert run("import", "text.pth", "--annotations", few / ANNOTATIONS, "-o", "x")[0] == 4
    assert not (tmp_path / "x").exists()
