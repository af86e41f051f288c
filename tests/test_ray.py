"""A Ray cluster of two workers on this machine: the same scores as without, also when a worker is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import psutil
import pytest

from pipeline.budget import Budget, Pace
from pipeline.config import Dense, Pointwise
from pipeline.errors import EngineDied
from pipeline.models import encoder, memory
from pipeline.models.encoder import KeptEncoder
from pipeline.models.judge import KeptJudge
from pipeline.models.ray_pool import spread
from pipeline.rerank import rerank
from pipeline.runs import run
from pipeline.store import Store

ray = pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("torch", reason="the models' packages are not installed")

LABELS = [f"Thinks that {i} is {'a prime number' if i % 2 else 'even'}" for i in range(4)]
CATALOG = pl.DataFrame({"label_id": range(4), "label": LABELS}, schema={"label_id": pl.Int32, "label": pl.String})
FIELDS = ("construct", "subject", "question", "correct", "wrong")
QUERIES = pl.DataFrame(
    [{"query_id": f"{i}_A", "question_id": str(i)} | {field: f"The {field} of {i}" for field in FIELDS} for i in range(60)]
)
POOL = run(QUERIES.select("query_id").join(CATALOG.select("label_id"), how="cross").with_columns(score=0.0))


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(address="local", num_cpus=2, include_dashboard=False)
    yield
    ray.shutdown()


@pytest.fixture
def spec(tiny_judge: Path) -> Pointwise:
    settings = {"engine": "ray", "worker": "transformers", "weights": str(tiny_judge), "dtype": "float32"}
    return Pointwise(**settings, depth=4, chunk=4)


def of_one_process(spec: Pointwise, store: Path) -> pl.DataFrame:
    found = rerank(QUERIES, CATALOG, POOL, spec.on(gpu=False), Store(store))
    memory.release()
    return found


def workers() -> list[psutil.Process]:
    """The processes that answer; Ray names them after what they do."""
    return [each for each in psutil.Process().children(recursive=True) if "MapBatches(Worker)" in "".join(each.cmdline())]


def test_two_workers_say_what_one_process_says_and_lose_nothing_when_they_are_killed(spec: Pointwise, tmp_path: Path) -> None:
    wanted, store, seen = of_one_process(spec, tmp_path / "one"), Store(tmp_path / "many"), []

    def kill() -> None:
        while store.made < 2:
            time.sleep(0.01)
        for each in workers():
            os.kill(each.pid, signal.SIGKILL)
            seen.append(store.made)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    found = rerank(QUERIES, CATALOG, POOL, spec, store)
    killer.join(1)
    assert seen and seen[-1] < len(QUERIES), "they were killed in the middle"
    assert found.drop("score").equals(wanted.drop("score"))
    np.testing.assert_allclose(found["score"], wanted["score"], atol=1e-5)
    assert store.made == len(QUERIES), "each chunk was answered, and kept, once"


def test_what_one_process_has_answered_is_not_asked_of_a_cluster(spec: Pointwise, tmp_path: Path) -> None:
    wanted, again = of_one_process(spec, tmp_path), Store(tmp_path)
    assert rerank(QUERIES, CATALOG, POOL, spec, again).equals(wanted)
    assert again.made == 0


def test_a_cluster_that_is_out_of_time_is_not_asked(spec: Pointwise, tmp_path: Path) -> None:
    budget, store = Budget(ends=time.time() - 1), Store(tmp_path)
    assert rerank(QUERIES, CATALOG, POOL, spec, store, Pace(budget, "judge")).is_empty()
    assert store.made == 0


def test_a_worker_s_fault_is_told_and_the_run_can_go_on_without_it(spec: Pointwise, tiny_chat: Path, tmp_path: Path) -> None:
    without_yes, budget = spec.model_copy(update={"weights": str(tiny_chat)}), Budget()
    assert rerank(QUERIES, CATALOG, POOL, without_yes, Store(tmp_path), Pace(budget, "judge")).is_empty()
    assert list(budget.lost) == ["judge"]
    with pytest.raises(EngineDied, match="exactly one token"):
        KeptJudge(without_yes, Store(tmp_path)).logprobs(["?"], ["Yes", "No"])


def test_an_encoder_on_a_cluster_gives_the_vectors_of_one_process(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder, "AT_ONCE", 7)
    settings = {"weights": str(tiny_bert), "template": "plain", "dtype": "float32"}
    one, many = (KeptEncoder(Dense(**settings, workers=count), Store(tmp_path / str(count))) for count in (0, 2))
    texts = [f"{'words ' * (i % 3)}and {i}" for i in range(20)]
    np.testing.assert_allclose(many.encode(texts, "query"), one.encode(texts, "query"), atol=1e-5)
    assert many.store.made == 1


def test_tasks_come_back_with_their_numbers() -> None:
    tasks = [[[str(i)] * (1 + i % 3)] for i in range(5)]
    found = dict(spread(lambda: partial(np.array, dtype=np.float32), tasks, 2, {"num_cpus": 0.5}))
    assert {number: rows.tolist() for number, rows in found.items()} == {i: [float(i)] * (1 + i % 3) for i in range(5)}
