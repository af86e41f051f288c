"""Memory that tensors leave behind lies ready for the next ones, until the models are released."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.models import memory

COUNT = """
import resource
from pipeline.models import memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        b"x" * 2**26
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

class Model:
    def close(self):
        pass

memory.held("model", Model)
by_itself = faults()
memory.keep_pages()
faults()
kept, full = faults(), resident()
memory.release()
print(by_itself, kept, full - resident())
"""


pytest.importorskip("torch", reason="the models' packages are not installed")


@pytest.mark.skipif(memory.glibc() is None, reason="the C library is not GNU's")
def test_the_system_is_not_asked_for_the_same_pages_again_until_they_are_given_back() -> None:
    """In a process of its own, whose memory nothing else has used; by itself it asks for 64 MiB four times."""
    told = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True).stdout
    by_itself, kept, given_back = map(int, told.split())
    assert kept < max(100, by_itself / 10)
    assert given_back > 2**25
