"""What goes wrong in a kernel costs the stage that it happens to: there is a valid CSV, and the log says what it lacks."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from tiny_kernel import BASE, SETTINGS, SOURCE, kernel, visible

from pipeline.kernel import rehearse
from pipeline.kernel.built import Built
from pipeline.kernel.rehearse import Outcome, Play

boxed = pytest.mark.skipif(not rehearse.box(), reason="no namespaces are permitted here")


def rehearsed(built: Built, folder: Path, weights: Path | None = None, working: str = rehearse.WORKING) -> Outcome:
    """The rerun on the visible test. Of what the kernel names, the bundle is mounted, and `weights` where they are given."""
    test = visible(folder)
    given = {"competitions/some": test, "datasets/me/eedi-bundle": built.folder / "dataset"}
    if weights:
        given[f"models/{SOURCE}"] = weights
    return rehearse.rehearse(built, given, Play(test, "new", True), 3600, working)


def survived(outcome: Outcome) -> str:
    """The log, which says in the end that the CSV is valid."""
    assert outcome.fault is None, outcome
    assert outcome.log.endswith("submission.csv: 9 rows, valid\n")
    return outcome.log


@contextmanager
def killed(word: str, ready: Callable[[psutil.Process], bool]) -> Iterator[None]:
    """SIGKILL for every process below this one that has `word` among its arguments, as soon as it is `ready`."""
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            for child in psutil.Process().children(recursive=True):
                with suppress(psutil.Error):
                    if word in child.cmdline() and ready(child):
                        child.kill()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_the_judge_is_killed_and_the_whole_run_with_it(tiny_chat: Path, tmp_path: Path) -> None:
    def judging(process: psutil.Process) -> bool:
        return any(Path(process.environ()["EEDI_CACHE"], "results", "judge").glob("*.json"))

    slow = {"engine": "transformers", "weights": BASE, "dtype": "float32", "orders": 20, "chunk": 1}
    built = kernel(tmp_path, slow)
    with killed("submit", judging):
        outcome = rehearsed(built, tmp_path, tiny_chat)
    survived(outcome)
    assert outcome.lost == ("submit ended with code -9",)


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_the_judge_s_engine_is_killed_whenever_it_starts(tiny_chat: Path, tmp_path: Path) -> None:
    built = kernel(tmp_path, {"engine": "vllm", "weights": BASE})
    with killed("pipeline.models.vllm_worker", lambda process: True):
        outcome = rehearsed(built, tmp_path, tiny_chat)
    assert "judge: its engine died, 9 of 9 answers are not judged" in survived(outcome)
    assert outcome.lost == ("lost: judge: its engine died",)


def test_an_engine_does_not_start(tmp_path: Path) -> None:
    (broken := tmp_path / "broken").mkdir()
    (broken / "config.json").write_text("{}", encoding="utf-8")
    (broken / "model.safetensors").touch()
    outcome = rehearsed(kernel(tmp_path, {"engine": "transformers", "weights": BASE}), tmp_path, broken)
    assert "9 of 9 answers are not judged" in survived(outcome) and "Traceback" in outcome.log
    (lost,) = outcome.lost
    assert lost.startswith("lost: judge: ") and "Error" in lost


def test_adapters_are_not_mounted(tiny_chat: Path, tmp_path: Path) -> None:
    (adapter := tmp_path / "adapter").mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": BASE}), encoding="utf-8")
    (adapter / "adapter_model.safetensors").touch()
    adapted = {"weights": BASE, "adapter": str(adapter), "dtype": "float32"}
    outcome = rehearsed(kernel(tmp_path, {"engine": "transformers", **adapted}, adapted), tmp_path, tiny_chat)
    assert "9 of 9 answers are not judged" in survived(outcome)
    for stage, lost in zip(("dense", "judge"), outcome.lost, strict=True):
        assert f"lost: {stage}: InputError: weights 'me/eedi-adapters/transformers/{stage}/1' found: " in lost


def test_a_wheelhouse_is_not_mounted(tiny_chat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SETTINGS.model_copy(update={"wheelhouse": "notebooks/me/eedi-wheels"})
    built = kernel(tmp_path, {"engine": "vllm", "weights": BASE}, settings=settings)
    # as on Kaggle's image, nothing can import vLLM
    (site := tmp_path / "site").mkdir()
    (site / "sitecustomize.py").write_text("import sys\nsys.modules['vllm'] = None\n", encoding="utf-8")
    environment = rehearse._environment
    monkeypatch.setattr(rehearse, "_environment", lambda *told: environment(*told) | {"PIP_TARGET": str(site)})
    outcome = rehearsed(built, tmp_path, tiny_chat)
    assert "no folder with wheels.txt" in survived(outcome) and "9 of 9 answers are not judged" in outcome.log
    assert outcome.lost == (
        "install ended with code 2",
        "lost: judge: ModuleNotFoundError: No module named 'vllm'",
    )


def test_the_deadline_is_a_second(tiny_chat: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"deadline": "1s"})
    built = kernel(tmp_path, {"engine": "transformers", "weights": BASE}, settings=settings)
    outcome = rehearsed(built, tmp_path, tiny_chat)
    assert "judge: the time is short, 9 of 9 answers are not judged" in survived(outcome)
    assert outcome.bad == "", "a short time here is no fault of the kernel"


@boxed
def test_the_working_folder_is_full_after_the_first_ranking(tmp_path: Path) -> None:
    outcome = rehearsed(kernel(tmp_path), tmp_path, working="8k")
    assert "submission.csv stays as it was" in survived(outcome)
    (lost,) = outcome.lost
    assert lost.startswith("lost: submission.csv: OSError: [Errno 28] No space left on device")


@boxed
def test_a_working_folder_that_was_full_before_leaves_nothing_to_submit_and_this_is_said(tmp_path: Path) -> None:
    outcome = rehearsed(kernel(tmp_path), tmp_path, working="4k")
    assert outcome.fault and "no submission.csv" in outcome.fault
    assert "submit ended with code 2" in outcome.lost and "No space left on device" in outcome.log


@boxed
def test_a_bundle_that_is_not_mounted_leaves_nothing_to_submit_and_this_is_said(tmp_path: Path) -> None:
    built, test = kernel(tmp_path), visible(tmp_path)
    outcome = rehearse.rehearse(built, {"competitions/some": test}, Play(test, "new", False), 3600)
    assert outcome.fault and "no submission.csv" in outcome.fault
    assert outcome.stages[-1]["stage"] == "Install the project's wheel from its dataset"
