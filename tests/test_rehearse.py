"""The rehearsal: what the box keeps from a notebook, and what is said of kernels that work, that fail, and that cannot."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import nbformat
import polars as pl
import pytest
from tiny_kernel import SETTINGS, SOURCE, kernel, visible

from pipeline.errors import InputError
from pipeline.kernel import block, rehearse
from pipeline.kernel.built import Built
from pipeline.kernel.mounts import Layout, mounts
from pipeline.kernel.rehearse import Outcome, Play
from pipeline.kernel.settings import Settings

boxed = pytest.mark.skipif(not rehearse.box(), reason="no namespaces are permitted here")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return kernel(tmp_path_factory.mktemp("built"))


def odd(folder: Path) -> Path:
    """A larger test in another order, with ids that nobody knows and a question without any text."""
    test = rehearse.test_folder(folder / "odd test", None, 9)
    table = pl.read_csv(test / "test.csv", infer_schema=False).sample(fraction=1, shuffle=True, seed=1)
    first = pl.int_range(pl.len()) == 0
    texts = [name for name in table.columns if name.endswith("Text")]
    changed = [pl.when(first).then(pl.lit("")).otherwise(pl.col(name)).alias(name) for name in texts]
    table.with_columns(*changed, QuestionId=7_000_000 - pl.int_range(pl.len())).write_csv(test / "test.csv")
    return test


def rehearsed(built: Built, test: Path, layout: Layout = "new", rerun: bool = True) -> Outcome:
    return rehearse.rehearse(built, mounts(built, SETTINGS, test, layout), Play(test, layout, rerun), 3600)


@boxed
def test_a_box_has_read_only_inputs_an_empty_working_folder_and_no_network_but_its_own(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_text("input", encoding="utf-8")
    script = """
import errno, os, socket
from pathlib import Path

def fault(act):
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno]

place = Path("/kaggle/input/datasets/me/some")
own = socket.create_server(("127.0.0.1", 0))
print(os.getcwd(), os.listdir("."), (place / "file").read_text())
print(fault((place / "new").touch), fault(Path("/kaggle/input/new").touch))
print(fault(lambda: socket.create_connection(own.getsockname())), fault(lambda: socket.create_connection(("192.0.2.1", 80))))
print(fault(lambda: Path("large").write_bytes(bytes(100_000))))
"""
    command = rehearse.boxed(rehearse.box() or [], {"datasets/me/some": tmp_path / "source"}, tmp_path, "64k")
    before = Path("/kaggle").exists()
    done = subprocess.run([*command, sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["/kaggle/working [] input", "EROFS EROFS", "None ENETUNREACH", "ENOSPC"], done.stderr
    assert Path("/kaggle").exists() is before and not any((tmp_path / "root").iterdir())


@boxed
def test_both_layouts_and_the_rerun_give_the_same_rows_and_a_table_says_how_long_each_stage_took(
    built: Built, tmp_path: Path
) -> None:
    test = visible(tmp_path)
    outcomes = rehearse.rehearse_all(built, SETTINGS, {test: (("old", False), ("new", True))}, hours=1)
    assert [outcome.fault for outcome in outcomes] == [None, None], outcomes
    assert outcomes[0].digest == outcomes[1].digest
    assert "submission.csv: 9 rows, valid" in outcomes[0].log
    ahead = rehearse.Forecast("T4x2", 685, {"judge": 1000.0}, None)
    rows = rehearse.rows(outcomes[1], ahead)
    told = {row["stage"]: row for row in rows}
    assert {"Install the project's wheel from its dataset", "lexical", "dense", "judge", "all"} <= told.keys()
    assert told["judge"]["685 on T4x2"] == "1000 s" and told["all"]["verdict"] == "good"
    assert float(told["all"]["seconds"]) > float(told["Install the project's wheel from its dataset"]["seconds"]) > 0
    assert float(told["all"]["memory"].split()[0]) > 0.05
    assert rehearse.rows(outcomes[1], rehearse.Forecast("T4x2", 685, {}, "too large"))[-1]["verdict"] == "too large"


@boxed
def test_any_order_unknown_ids_and_empty_texts_are_answered(built: Built, tmp_path: Path) -> None:
    outcome = rehearsed(built, odd(tmp_path))
    assert outcome.fault is None and "27 rows, valid" in outcome.log, outcome


def test_without_namespaces_sockets_are_blocked_and_this_is_said(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rehearse, "BOXES", ())
    outcome = rehearsed(built, visible(tmp_path), "old")
    assert outcome.fault is None, outcome
    assert "sockets are blocked instead" in caplog.text and "sockets blocked" in rehearse.manner()


def test_a_blocked_socket_reaches_this_machine_alone(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_bytes(Path(block.__file__).read_bytes())
    script = """
import socket
own = socket.create_server(("127.0.0.1", 0))
socket.create_connection(own.getsockname())
for ask in (lambda: socket.create_connection(("192.0.2.1", 80)), lambda: socket.getaddrinfo("example.com", 80)):
    try:
        ask()
    except OSError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert [line.partition(",")[0] for line in done.stdout.splitlines()] == [
        "[Errno 101] Network is unreachable: 192.0.2.1",
        "[Errno 101] Network is unreachable: example.com",
    ], done.stderr


def test_an_input_of_which_there_is_no_copy_is_refused(built: Built, tmp_path: Path) -> None:
    for key, source in (("dataset_sources", "me/wheels"), ("kernel_sources", "me/wheels"), ("model_sources", SOURCE)):
        more = built.kernel.model_copy(update={key: (*getattr(built.kernel, key), source)})
        lacking = Built(**{**vars(built), "kernel": more})
        with pytest.raises(InputError, match=f"{key}\n  found:  {source}"):
            mounts(lacking, Settings(owner="me"), tmp_path, "new")


@pytest.fixture
def wheelhouse(wheel: Callable[..., Path], tmp_path: Path) -> Path:
    """What is installed as vLLM 0.19.1, any Python's: it can be asked what it can do, and no more."""
    sources = {
        "vllm/__init__.py": b"",
        "vllm/sampling_params.py": b"class SamplingParams:\n    allowed_token_ids: list",
        "vllm/engine/arg_utils.py": b"class EngineArgs:\n    logprobs_mode: str",
    }
    wheel(tmp_path / "wheels" / "vllm-0.19.1-py3-none-any.whl", sources)
    (tmp_path / "wheels" / "wheels.txt").write_text("vllm==0.19.1\n", encoding="utf-8")
    return tmp_path / "wheels"


def test_a_wheelhouse_is_installed_and_its_vllm_is_the_one_that_is_found(wheelhouse: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"wheelhouse": "notebooks/me/some-wheels"})
    built, test = kernel(tmp_path, settings=settings), visible(tmp_path)
    (outcome,) = rehearse.rehearse_all(built, settings, {test: (("new", True),)}, 1, wheelhouse)
    assert not outcome.bad, outcome
    assert "install ended with code 0\n" in outcome.log and " 0.19.1: log-probabilities under a mask" in outcome.log
    assert "Install vLLM from the wheelhouse" in [stage["stage"] for stage in outcome.stages]


@pytest.mark.parametrize(
    ("name", "layout", "place"),
    [
        ("notebooks/me/some-wheels", "new", "notebooks/me/some-wheels"),
        ("notebooks/me/some-wheels", "old", "some-wheels"),
        ("me/some-wheels", "new", "datasets/me/some-wheels"),
        ("me/some-wheels", "old", "some-wheels"),
    ],
)
def test_a_wheelhouse_is_mounted_where_kaggle_mounts_what_it_is(
    wheelhouse: Path, tmp_path: Path, name: str, layout: Layout, place: str
) -> None:
    settings = SETTINGS.model_copy(update={"wheelhouse": name})
    built = kernel(tmp_path, settings=settings)
    assert mounts(built, settings, tmp_path, layout, wheelhouse)[place] == wheelhouse
    with pytest.raises(InputError, match=r"_sources\n  found:  me/some-wheels\n.*\n.*--wheelhouse"):
        mounts(built, settings, tmp_path, layout)


def test_a_wheelhouse_without_a_lock_or_a_name_is_refused(built: Built, wheelhouse: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"kernel\.yaml, wheelhouse\n  found:  null"):
        mounts(built, SETTINGS, tmp_path, "new", wheelhouse)
    with pytest.raises(InputError, match=r"none/wheels\.txt\n  found:  No such file"):
        mounts(built, SETTINGS, tmp_path, "new", tmp_path / "none")


def test_other_rows_in_another_layout_are_a_fault(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = iter("ab")
    monkeypatch.setattr(rehearse, "rehearse", lambda _, given, play, seconds: Outcome(play, [], "", next(digests), None))
    first, second = rehearse.rehearse_all(built, SETTINGS, {tmp_path: (("old", False), ("new", True))}, 1)
    assert first.fault is None and second.fault == f"other rows than with the {first.play}"


def test_a_cell_that_hangs_is_stopped(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("# Wait.\nimport time\ntime.sleep(60)")])
    nbformat.write(notebook, tmp_path / "slow.ipynb")
    runner = [sys.executable, "-m", "pipeline.kernel.runner", str(tmp_path / "slow.ipynb"), str(tmp_path), "2"]
    environment = rehearse._environment(tmp_path, rerun=False)
    subprocess.run(runner, cwd=tmp_path, env=environment, check=True, timeout=50)
    assert '"fault": "a cell ran longer than 2 s"' in (tmp_path / "run.json").read_text(encoding="utf-8")


def test_the_hidden_test_is_the_embedded_one_and_neither_tells_its_labels(kaggle: Path, tmp_path: Path) -> None:
    seen, hidden = rehearse.tests(tmp_path, kaggle, 40)
    assert (seen / "test.csv").read_bytes() == (kaggle / "test.csv").read_bytes()
    assert pl.read_csv(hidden / "test.csv").height == 40
    for folder in (seen, hidden):
        assert (folder / "train.csv").read_bytes() == (kaggle / "train.csv").read_bytes()
        assert not (folder / "solution.csv").exists()


Eedi = Callable[..., CompletedProcess[str]]


def test_the_verb_ends_with_1_on_a_bad_verdict(eedi: Eedi, built: Built, tmp_path: Path) -> None:
    (tmp_path / "me.yaml").write_text("owner: me\naccelerator: NvidiaTeslaT4\n", encoding="utf-8")
    told = eedi("kernel", "rehearse", built.folder, "--settings", "me.yaml", "--hours", "0.0001")
    assert told.returncode == 1 and "longer than" in told.stdout, told.stderr


def test_the_verb_refuses_a_wheelhouse_that_the_kernel_does_not_take(eedi: Eedi, built: Built, wheelhouse: Path) -> None:
    told = eedi("kernel", "rehearse", built.folder, "--wheelhouse", wheelhouse)
    assert told.returncode == 2 and "error: kernel.yaml, wheelhouse\n  found:  null\n" in told.stderr
