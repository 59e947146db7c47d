"""How much memory is free, as Linux tells it."""

from __future__ import annotations

import pytest
import torch

from davel.compute import memory

CPU = torch.device("cpu")


@pytest.fixture
def system(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    return tmp_path


def test_it_is_what_the_machine_and_the_container_both_have(system):
    assert memory.available_bytes(CPU) is None
    (system / "meminfo").write_text("MemTotal:  9 kB\nMemAvailable:       5000 kB\n")
    assert memory.available_bytes(CPU) == 5000 * 1024
    (system / "memory.max").write_text("max\n")
    assert memory.available_bytes(CPU) == 5000 * 1024
    (system / "memory.max").write_text("3000000\n")
    (system / "memory.current").write_text("2500000\n")
    (system / "memory.stat").write_text("anon 1\ninactive_file 400000\n")
    assert memory.available_bytes(CPU) == 900_000


def test_other_devices_do_not_say(system):
    assert memory.available_bytes(torch.device("meta")) is None
