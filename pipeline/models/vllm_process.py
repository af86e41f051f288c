"""vLLM's processes: each in a group of its own that ends with us, whichever way we end, and whose last words are kept.

Run as `python -m pipeline.models.vllm_process PARENT MODULE ARGUMENTS`, it is that process: it watches its parent, and runs
the module as the main one.

Its packages may lie in a folder of their own, $EEDI_ENGINE_PATH, which no other process sees: what vLLM is pinned to is not
what the rest runs on.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from importlib.machinery import ModuleSpec, PathFinder

from pipeline.errors import EngineDied

ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false"}


def packages() -> list[str]:
    """The folder whose packages come before the installed ones, if there is one."""
    return [folder] if (folder := os.environ.get("EEDI_ENGINE_PATH")) else []


def find(package: str) -> ModuleSpec | None:
    """Where an engine's process imports a package from."""
    return PathFinder.find_spec(package, packages()) or importlib.util.find_spec(package)


class VllmProcess:
    """A module in a process of its own. With `talks` its stdout is ours to read, else it goes to the log with stderr."""

    def __init__(self, module: str, *arguments: str, talks: bool = False) -> None:
        self._log = tempfile.NamedTemporaryFile("w+", prefix="eedi-vllm-", suffix=".log")  # noqa: SIM115 (lives as long as the process)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.models.vllm_process", str(os.getpid()), module, *arguments],
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else self._log,
            stderr=self._log,
            text=True,
            start_new_session=True,
            # one token a prompt needs no more memory for keys and values on a processor
            env={"VLLM_CPU_KVCACHE_SPACE": "2"} | os.environ | ENVIRONMENT | _path(),
        )

    def died(self) -> EngineDied:
        """The error that says how it ended, once it has."""
        code = self.process.wait()
        self._log.seek(0)
        tail = "".join(self._log.readlines()[-30:])
        return EngineDied(f"vLLM's process ended with code {code}; the end of its log:\n{tail}")

    def close(self) -> None:
        """End it and all that it started; it gets ten seconds to do so by itself."""
        if self.process.stdin:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with suppress(ProcessLookupError):  # nobody of the group is left
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._log.close()


def _path() -> dict[str, str]:
    found = [*packages(), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(found)} if found else {}


def end_with(parent: int) -> None:
    """End this process and its group once its parent is gone, even in the middle of a request."""
    while os.getppid() == parent:
        time.sleep(1)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=end_with, args=[int(sys.argv[1])], daemon=True).start()
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
