from __future__ import annotations

import sys

import pytest
import torch

from davel import cli

torch.set_num_threads(1)  # tests run side by side, one per core


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Runs `davel ...` in an empty folder; the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["davel", *map(str, arguments)])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
