"""Memory that tensors leave behind lies ready for the next ones, while it is to."""

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

by_itself = faults()
with memory.pages_kept():
    faults()
    kept, full = faults(), resident()
print(by_itself, kept, faults(), full - resident())
"""


@pytest.mark.skipif(memory.glibc() is None, reason="the C library is not GNU's")
def test_in_the_block_the_system_is_not_asked_for_the_same_pages_again_and_then_it_has_them_back() -> None:
    """In a process of its own, whose memory nothing else has used; by itself it asks for 64 MiB four times."""
    told = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True).stdout
    by_itself, kept, afterwards, given_back = map(int, told.split())
    assert kept < max(100, by_itself / 10) and afterwards >= by_itself / 2
    assert given_back > 2**25
