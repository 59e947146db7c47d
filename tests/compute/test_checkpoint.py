"""Large checkpoints of whatever origin: their tensors are mapped, and nothing else of them comes to life."""

from __future__ import annotations

import argparse
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from davel.compute.checkpoint import map_checkpoint
from davel.core.errors import ConfigError

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float16)}


class Planted:
    """Makes a file when it is read as pickles usually are."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


class Configuration(dict):
    """A class that whoever reads the file may not have; it has state, items and members."""

    def __init__(self) -> None:
        super().__init__(depth=40)
        self.name = "one_piece_pretrain"


class Steps(list):
    pass


def same(mapped: dict, expected: dict) -> bool:
    return mapped.keys() == expected.keys() and all(torch.equal(x, mapped[name]) for name, x in expected.items())


@pytest.mark.parametrize("held", ["model", "state_dict", None])
def test_the_tensors_are_there_wherever_they_are_held(tmp_path, held):
    torch.save({held: TENSORS, "epoch": 1} if held else TENSORS, tmp_path / "a.pt")
    assert same(map_checkpoint(tmp_path / "a.pt"), TENSORS)


def test_nothing_but_tensors_comes_to_life(tmp_path):
    planted = tmp_path / "planted"
    content = {
        "cfg": Configuration(),
        "args": argparse.Namespace(lr=1.0),
        "history": Steps([1, 2, Configuration()]),
        "seen": {Planted(planted)},
        "call": Planted(planted),
        "model": OrderedDict(TENSORS) | {"parameter": torch.nn.Parameter(torch.ones(3)), "extra": Planted(planted)},
    }
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pt", weights_only=True)
    mapped = map_checkpoint(tmp_path / "a.pt")
    assert same(mapped, TENSORS | {"parameter": torch.ones(3)})
    assert not planted.exists()
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert planted.exists(), "read the usual way, the file does run what was planted"


@pytest.mark.parametrize("share", [0.999, 0.5, 0.01])
def test_half_a_download_is_told_from_a_whole_file(tmp_path, share):
    torch.save({"model": {"x": torch.ones(100000)}}, tmp_path / "a.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ConfigError, match=r"a.pt: is not whole, its end is missing after [\d,]+ bytes: go on with"):
        map_checkpoint(tmp_path / "a.pt")


def test_the_old_format_is_refused_with_a_word_on_memory(tmp_path):
    torch.save(TENSORS, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(ConfigError, match=r"before 1.6, which takes memory for all of it at once"):
        map_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x00" * 100])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(ConfigError, match="not a PyTorch checkpoint"):
        map_checkpoint(tmp_path / "a.pt")


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigError, match="cannot read the checkpoint: No such file"):
        map_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [{"model": {"epoch": 3}}, [1, 2], {"optimizer": {}}])
def test_a_checkpoint_without_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(ConfigError, match="holds no tensors by name"):
        map_checkpoint(tmp_path / "a.pt")
