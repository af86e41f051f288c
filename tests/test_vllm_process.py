"""An engine's process: nothing of it outlives us, and what it said last is told. The module that it runs is a stand-in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pipeline.errors import EngineDied
from pipeline.models.vllm_process import VllmProcess, find

# It starts a process of its own, as vLLM's servers do, says who both are, and goes on for ten minutes.
ENGINE = """
import os, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), worker.pid, *sys.argv[1:], flush=True)
time.sleep(600)
"""
PARENT = """
import sys, time
from pipeline.models.vllm_process import VllmProcess
child = VllmProcess("engine_that_runs", talks=True)
print(child.process.stdout.readline(), end="", flush=True)
time.sleep(600)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Writes a module that the processes find."""
    repository = str(Path(__file__).parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), repository)))

    def write(name: str, source: str) -> str:
        (tmp_path / f"{name}.py").write_text(source, encoding="utf-8")
        return name

    return write


def gone(pid: int, within: float = 60) -> bool:
    """Whether a process ends, or is a corpse that nobody collects, within some seconds."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return False


def pids(line: str) -> list[int]:
    return [int(word) for word in line.split()[:2]]


def test_it_runs_a_module_with_its_arguments_and_ends_with_all_that_it_started(module: Callable[[str, str], str]) -> None:
    child = VllmProcess(module("engine_that_runs", ENGINE), "--model", "some", talks=True)
    assert child.process.stdout
    line = child.process.stdout.readline()
    assert line.split()[2:] == ["--model", "some"]
    child.close()
    assert all(gone(pid) for pid in pids(line))


def test_when_its_parent_is_killed_it_ends_with_all_that_it_started(module: Callable[[str, str], str]) -> None:
    module("engine_that_runs", ENGINE)
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    started = pids(parent.stdout.readline())
    assert len(started) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    assert all(gone(pid) for pid in started)
    parent.stdout.close()


def test_how_it_ended_is_told_with_its_last_words(module: Callable[[str, str], str]) -> None:
    child = VllmProcess(module("engine_that_fails", "import sys\nprint('line')\nsys.exit('no memory')\n"))
    error = child.died()
    assert isinstance(error, EngineDied)
    assert "code 1" in str(error) and "no memory" in str(error) and "line" in str(error)
    child.close()


def test_a_folder_of_packages_of_its_own_is_seen_by_the_engine_before_any_other_and_by_nobody_else(
    module: Callable[[str, str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own" / "yaml"
    own.mkdir(parents=True)
    (own / "__init__.py").touch()
    name = module("engine_that_imports", "import sys, yaml, pipeline\nprint(yaml.__file__, flush=True)\nsys.stdin.read()\n")
    for folder, expected in ((None, yaml.__file__), (own.parent, str(own / "__init__.py"))):
        if folder:
            monkeypatch.setenv("EEDI_ENGINE_PATH", str(folder))
        child = VllmProcess(name, talks=True)
        assert child.process.stdout
        assert child.process.stdout.readline().strip() == expected
        child.close()
        assert (found := find("yaml")) and found.origin == expected
    assert str(own.parent) not in sys.path
