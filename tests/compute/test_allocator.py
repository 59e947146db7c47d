from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
import davel
from davel.compute.allocator import keep_freed_memory
if sys.argv[1] == "keep" and not keep_freed_memory():
    sys.exit(77)
if sys.argv[1] == "load":
    davel.load(device="cpu")
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30):  # until the holes that the first ones leave are large enough
    torch.ones(2**24)
before = faults()
for _ in range(10):
    torch.ones(2**24)
print(faults() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the C library is asked on Linux only")
def test_freed_memory_is_used_again_instead_of_being_asked_for_anew():
    faults = {}
    for choice in ("keep", "leave", "load"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, choice], capture_output=True, text=True, check=False)
        if done.returncode == 77:
            pytest.skip("this C library cannot be told")
        faults[choice] = int(done.stdout)
    assert faults["keep"] < 0.1 * faults["leave"]
    assert faults["load"] > 0.5 * faults["leave"], "a host's memory is its own affair"
