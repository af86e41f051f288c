"""What is really killed: the run, its engine, two runs in one cache; and a run whose time is up.

The engine is the stand-in for vLLM's server in a process of its own, behind the real client.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest

pytest.importorskip("openai", reason="the models' packages are not installed")
pytestmark = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")

TESTS = Path(__file__).parent
RUN = """
from pipeline import cli
from pipeline.models import server_engine
server_engine.MODULE, server_engine.TRIES = "mortal_engine", 2
cli.main()
"""
# $LIVES says after how many prompts each of its lives ends, $MEMORY how many prompts it can hold at a time
ENGINE = """
import os, signal, sys, threading, time
from pathlib import Path
from vllm_stand_in import StandIn, arithmetic

births = Path("births")
births.open("a").write("x")
lives = os.environ.get("LIVES", "").split()
left = int(lives[len(births.read_text()) - 1]) if len(births.read_text()) <= len(lives) else 10**9
held, lock = 0, threading.Lock()

def model(ids):
    global held, left
    with lock:
        held, left = held + 1, left - 1
        if left < 0 or held > int(os.environ.get("MEMORY", 10**9)):
            os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    with lock:
        held -= 1
    return arithmetic(ids)

def argument(name):
    return sys.argv[sys.argv.index(name) + 1]

StandIn(model, argument("--served-model-name"), int(argument("--port"))).serve_forever()
"""

Run = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def submit(tmp_path: Path, tiny_chat: Path, hashed: tuple[str, ...], kaggle: Path) -> Run:
    """Starts `eedi submit` on the tiny competition, with a judge in four chunks for the fit and two for the test."""
    (tmp_path / "mortal_engine.py").write_text(ENGINE, encoding="utf-8")
    judge = {"kind": "listwise", "engine": "server", "weights": str(tiny_chat), "dtype": "float32", "chunk": 6, "depth": 5}
    path = os.pathsep.join(map(str, (tmp_path, TESTS, TESTS.parent)))

    def start(*arguments: str, cache: str = "cache", **environment: str) -> subprocess.Popen[str]:
        command = ("submit", "--data", str(kaggle), *hashed, "fit.judged=8", f"rerank.judge={json.dumps(judge)}", *arguments)
        own = {"EEDI_CACHE": str(tmp_path / cache), "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
        return subprocess.Popen(
            [sys.executable, "-c", RUN, *command],
            cwd=tmp_path,
            env=os.environ | own | environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def ended(process: subprocess.Popen[str]) -> str:
    """What it logged."""
    _, told = process.communicate()
    assert process.returncode == 0, told
    return told


def chunks(cache: Path) -> int:
    """How many are kept."""
    return len(list((cache / "results" / "judge").glob("[!.]*.json")))


def undisturbed(submit: Run, tmp_path: Path) -> bytes:
    ended(submit("--out", "undisturbed.csv", cache="undisturbed"))
    assert chunks(tmp_path / "undisturbed") >= 4
    (tmp_path / "births").unlink()
    return (tmp_path / "undisturbed.csv").read_bytes()


def test_a_run_that_is_killed_leaves_a_valid_draft_and_goes_on_to_the_very_same_bytes(submit: Run, tmp_path: Path) -> None:
    wanted, out, kept = undisturbed(submit, tmp_path), tmp_path / "new.csv", 0
    for more in (1, 2):
        with submit("--out", "new.csv") as process:
            while process.poll() is None and chunks(tmp_path / "cache") < kept + more:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
        assert pl.read_csv(out)["MisconceptionId"].str.split(" ").list.n_unique().to_list() == [25] * 12
        kept = chunks(tmp_path / "cache")
    ended(submit("--out", "new.csv"))
    assert out.read_bytes() == wanted
    assert chunks(tmp_path / "cache") == chunks(tmp_path / "undisturbed")
    assert [path.name for path in tmp_path.glob(".new.csv*")] == []
    again = submit("--out", "new.csv")
    assert "it exists" in again.communicate()[1] and again.returncode == 2, "a submission that was finished is written over"


@pytest.mark.parametrize("fault", [{"LIVES": "9"}, {"MEMORY": "4"}], ids=["killed", "out of memory"])
def test_a_run_whose_engine_is_killed_goes_on_to_the_very_same_bytes(
    fault: dict[str, str], submit: Run, tmp_path: Path
) -> None:
    wanted = undisturbed(submit, tmp_path)
    told = ended(submit("--out", "new.csv", **fault))
    assert "engine died" in told and "ended with code -9" in told and "not judged" not in told
    assert len((tmp_path / "births").read_text()) > 1
    assert (tmp_path / "new.csv").read_bytes() == wanted


def test_a_run_whose_engine_never_lives_goes_on_without_it_and_says_so(submit: Run, tmp_path: Path) -> None:
    told = ended(submit(LIVES="0 " * 20))
    (folder,) = (tmp_path / "submissions").iterdir()
    missing = json.loads((folder / "submission.json").read_text(encoding="utf-8"))["warnings"]
    assert [re.sub(r"\d+", "N", warning) for warning in missing] == [
        "judge: its engine died, N of N answers are not judged"
    ] * 2  # in the fit and in the test
    assert all(warning in told for warning in missing)
    assert len((tmp_path / "births").read_text()) == 3, "as it was, anew, in halves, and not again for the test"
    assert {path.stem for path in (folder / "runs").iterdir()} >= {"blend", "fusion-of-all"}


def test_two_runs_at_once_in_one_cache_lose_nothing(submit: Run, tmp_path: Path) -> None:
    wanted = undisturbed(submit, tmp_path)
    both = [submit("--out", f"{name}.csv") for name in ("one", "other")]
    for process in both:
        ended(process)
    assert all((tmp_path / f"{name}.csv").read_bytes() == wanted for name in ("one", "other"))
    assert chunks(tmp_path / "cache") == chunks(tmp_path / "undisturbed")
    assert [path for path in (tmp_path / "cache").rglob("*.tmp")] == []


def test_a_run_that_has_no_time_for_the_judge_submits_without_it_and_says_so(submit: Run, tmp_path: Path) -> None:
    told = ended(submit("--deadline", "1h", "--since", f"{time.time() - 3500:.0f}"))
    (folder,) = (tmp_path / "submissions").iterdir()
    missing = json.loads((folder / "submission.json").read_text(encoding="utf-8"))["warnings"]
    assert "judge: the time is short, 12 of 12 answers are not judged" in missing
    assert all(warning in told for warning in missing)
    assert not (tmp_path / "births").exists(), "an engine was started"
