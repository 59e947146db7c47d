"""Whole files, locks, and davel's own folder."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from davel.core import files
from davel.core.errors import ConfigError
from davel.core.files import home, locked, replacing

KILLED = """
import os, signal, sys
from pathlib import Path
from davel.core.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _fill(path: Path) -> None:
    path.write_text("half")
    raise OSError(28, "No space left on device")


def temporaries(folder: Path) -> list[str]:
    return [path.name for path in folder.glob(".*.tmp")]


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(OSError, match="No space"), replacing(path) as temporary:
        _fill(temporary)
    assert path.read_text() == "old"
    assert temporaries(tmp_path) == []


def test_writers_of_one_file_do_not_mix(tmp_path):
    path, barrier = tmp_path / "a.txt", threading.Barrier(8)

    def write(letter: str) -> None:
        with replacing(path) as temporary:
            barrier.wait(30)
            for _ in range(200):
                with temporary.open("a") as file:
                    file.write(letter)
            barrier.wait(30)

    writers = [threading.Thread(target=write, args=(letter,)) for letter in "abcdefgh"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    text = path.read_text()
    assert text == 200 * text[0]
    assert temporaries(tmp_path) == []


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a.json")], check=False)
    assert killed.returncode < 0
    (left,) = temporaries(tmp_path)
    living = left.replace(str(left.split(".")[3].split("-")[0]), str(os.getpid()))
    elsewhere = left.replace(files.HOST, "00000000")
    for name in (living, elsewhere, ".mine.tmp", ".a.json.1.2.tmp.txt"):
        (tmp_path / name).write_text("of somebody else")
    with replacing(tmp_path / "b.json") as temporary:
        temporary.write_text("whole")
    assert {p.name for p in tmp_path.iterdir()} == {"b.json", living, elsewhere, ".mine.tmp", ".a.json.1.2.tmp.txt"}


def test_what_nobody_wrote_to_for_a_day_is_removed_whoever_began_it(tmp_path):
    for name in (".a.npy.1.tmp", ".a.npy.1-00000000-00000000.tmp"):
        for age, at in (("old", time.time() - 2 * files.ABANDONED_SECONDS), ("new", time.time())):
            path = tmp_path / name.replace("a", age, 1)
            path.touch()
            os.utime(path, (at, at))
    with replacing(tmp_path / "b.json") as temporary:
        temporary.touch()
    assert sorted(temporaries(tmp_path)) == [".new.npy.1-00000000-00000000.tmp", ".new.npy.1.tmp"]


def test_the_longest_name_has_a_temporary_one(tmp_path):
    path = tmp_path / ("ä" * 127)
    with replacing(path) as temporary:
        temporary.write_text("x")
    assert path.read_text() == "x"


def test_a_lock_is_had_by_one_process_at_a_time(tmp_path):
    path = tmp_path / "lock"
    program = f"from davel.core.files import *\nwith locked(Path({str(path)!r}), 'is in use'): pass"
    with locked(path, "is in use"):
        other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert "ConfigError: is in use" in other.stderr
        with pytest.raises(ConfigError, match=r"^is in use$"), locked(path, "is in use"):
            pass
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_home_is_where_the_environment_says_else_the_systems_folder_or_the_one_of_before(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("DAVEL_HOME", str(tmp_path / "given"))
    assert home() == tmp_path / "given"
    monkeypatch.delenv("DAVEL_HOME")
    assert home() == tmp_path / "xdg" / "davel"
    before = tmp_path / ".cache" / "davel"
    before.mkdir(parents=True)
    assert home() == before
    (tmp_path / "xdg" / "davel").mkdir(parents=True)
    assert home() == tmp_path / "xdg" / "davel"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert home() == before
