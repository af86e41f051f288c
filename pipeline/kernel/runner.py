"""Runs a notebook as Kaggle does, cell after cell in a kernel of its own, and notes each stage's seconds and memory.

Run as `python -m pipeline.kernel.runner NOTEBOOK RESULTS SECONDS` in the working folder; it leaves run.json, and submission.csv
where there is one, in RESULTS. Kaggle's papermill runs notebooks by nbclient too.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

MARK = "stage: "  # what the pipeline's log says where one begins
EVERY = 0.2  # seconds between two looks at the memory


class Watched(NotebookClient):
    """A client that keeps the output as it comes, and the moments at which cells and stages began."""

    def __init__(self, notebook: Any, **settings: Any) -> None:
        super().__init__(notebook, **settings)
        self.told, self.began = "", [("start", time.monotonic())]
        self._cut: dict[str, str] = {}  # by stream: the beginning of a line whose end has not come yet
        self.on_cell_execute = lambda cell, cell_index: self._cell(cell)

    def _cell(self, cell: Any) -> None:
        if cell.cell_type == "code":
            self.began.append((cell.source.partition("\n")[0].strip("# .").partition(",")[0], time.monotonic()))

    def output(self, outs: Any, msg: Any, display_id: str, cell_index: int) -> Any:
        """See nbclient: called for each message of a kernel that holds output."""
        if msg["msg_type"] == "stream":
            stream, text = msg["content"]["name"], msg["content"]["text"]
            *lines, self._cut[stream] = (self._cut.get(stream, "") + text).split("\n")
            self.told += text
            now = time.monotonic()
            self.began += [(line.removeprefix(MARK), now) for line in lines if line.startswith(MARK)]
        return super().output(outs, msg, display_id, cell_index)


class Memory(threading.Thread):
    """Looks at what this process's children hold, until it is stopped: `seen` are (moment, bytes)."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: list[tuple[float, int]] = []
        self.stop = threading.Event()

    def run(self) -> None:
        """Look."""
        own = psutil.Process()
        while not self.stop.wait(EVERY):
            total = 0
            for child in own.children(recursive=True):
                try:
                    total += child.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.seen.append((time.monotonic(), total))


def run(notebook: Path, seconds: float) -> dict[str, Any]:
    """Execute the notebook: its stages, what went wrong, and all that it printed."""
    client = Watched(nbformat.read(notebook, as_version=4), timeout=math.ceil(seconds), kernel_name="python3")
    memory, fault = Memory(), None
    memory.start()
    try:
        client.execute(env=os.environ | {"PYTHONPATH": os.environ["PIP_TARGET"]})
    except CellTimeoutError:
        fault = f"a cell ran longer than {seconds:.0f} s"
    except CellExecutionError as error:
        fault = f"{error.ename}: {error.evalue}"
    except DeadKernelError as error:
        fault = str(error)
    memory.stop.set()
    ends = [moment for _, moment in client.began[1:]] + [time.monotonic()]
    stages = [
        {
            "stage": name,
            "seconds": end - began,
            "memory": max((held for moment, held in memory.seen if began - EVERY <= moment <= end + EVERY), default=0),
        }
        for (name, began), end in zip(client.began, ends, strict=True)
    ]
    return {"stages": stages, "fault": fault, "log": client.told}


if __name__ == "__main__":
    results = Path(sys.argv[2])
    done = run(Path(sys.argv[1]), float(sys.argv[3]))
    if (written := Path("submission.csv")).is_file():
        shutil.copy(written, results)
    (results / "run.json").write_text(json.dumps(done), encoding="utf-8")
