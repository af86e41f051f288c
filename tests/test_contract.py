"""What every stage owes to every other: a checked run over exactly the pairs asked, whatever the order of the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline import prompts
from pipeline.config import Bm25, Dense, Listwise, Pointwise, Sample, Tfidf
from pipeline.data import Data, load, queries_of
from pipeline.models.hashed import HashedEncoder, HashedJudge
from pipeline.rerank import listwise, pointwise, rerank
from pipeline.retrieve import retrieve
from pipeline.runs import ranked, top_k
from pipeline.sample.competition import write
from pipeline.schema import RUN, check
from pipeline.store import Store

Stage = Callable[[pl.DataFrame, pl.DataFrame, pl.DataFrame, Store], pl.DataFrame]
DEPTH = 6


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> tuple[pl.DataFrame, pl.DataFrame]:
    folder = tmp_path_factory.mktemp("competition")
    write(folder, Sample(train=1, test=12))
    competition = load(folder, Data())
    return queries_of(competition.test), competition.catalog


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


STAGES: dict[str, Stage] = {
    "tfidf": lambda queries, catalog, pool, store: retrieve(queries, catalog, Tfidf(top_k=30), store),
    "bm25": lambda queries, catalog, pool, store: retrieve(queries, catalog, Bm25(top_k=30), store),
    "dense": lambda queries, catalog, pool, store: retrieve(queries, catalog, Dense(weights="hashed", top_k=30), store),
    "listwise": lambda queries, catalog, pool, store: rerank(
        queries, catalog, pool, Listwise(engine="hashed", depth=DEPTH), store
    ),
    "pointwise": lambda queries, catalog, pool, store: rerank(
        queries, catalog, pool, Pointwise(engine="hashed", depth=DEPTH), store
    ),
}


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_gives_a_run_whatever_the_order_of_its_rows(
    name: str, frames: tuple[pl.DataFrame, pl.DataFrame], store: Store
) -> None:
    queries, catalog = frames
    pool = retrieve(queries, catalog, Tfidf(top_k=25), store)
    run = check(STAGES[name](queries, catalog, pool, store), RUN)
    mixed = [frame.sample(fraction=1, shuffle=True, seed=3) for frame in (queries, catalog, pool)]
    again = STAGES[name](*mixed, store)
    assert run.drop("score").equals(again.drop("score"))
    np.testing.assert_allclose(run["score"], again["score"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["tfidf", "dense"])
def test_a_retriever_gives_every_query_its_top_k(name: str, frames: tuple[pl.DataFrame, pl.DataFrame], store: Store) -> None:
    queries, catalog = frames
    run = STAGES[name](queries, catalog, queries, store)
    assert set(run["query_id"]) == set(queries["query_id"])
    assert run.group_by("query_id").len()["len"].unique().to_list() == [30]
    assert set(run["label_id"]) <= set(catalog["label_id"])


@pytest.mark.parametrize("name", ["listwise", "pointwise"])
def test_a_judge_answers_exactly_the_pairs_asked(name: str, frames: tuple[pl.DataFrame, pl.DataFrame], store: Store) -> None:
    queries, catalog = frames
    pool = retrieve(queries, catalog, Tfidf(top_k=25), store)
    asked = queries.head(7)
    run = STAGES[name](asked, catalog, pool, store)
    wanted = top_k(pool.join(asked, on="query_id", how="semi"), DEPTH)
    assert set(run.select("query_id", "label_id").rows()) == set(wanted.select("query_id", "label_id").rows())


def test_pools_of_different_depths_are_judged_whole(frames: tuple[pl.DataFrame, pl.DataFrame], store: Store) -> None:
    queries, catalog = frames
    pool = ranked(retrieve(queries, catalog, Tfidf(top_k=25), store))
    lengths = pl.DataFrame({"query_id": queries["query_id"], "most": [2 + i % 3 for i in range(queries.height)]})
    uneven = pool.join(lengths, on="query_id").filter(pl.col("rank") <= pl.col("most")).select(*RUN.columns)
    run = listwise.score(queries, catalog, uneven, HashedJudge(), Listwise(orders=2))
    assert set(run.select("query_id", "label_id").rows()) == set(uneven.select("query_id", "label_id").rows())


class SlotReader:
    """A judge that reads nothing but the slot, as small untrained models do."""

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """(n, n_options): the first slot best, whatever stands there."""
        return np.tile(-np.arange(len(options), dtype=np.float32), (len(prompts), 1))


def test_both_orders_cancel_a_judge_that_reads_the_slot_alone(frames: tuple[pl.DataFrame, pl.DataFrame], store: Store) -> None:
    queries, catalog = frames
    pool = retrieve(queries, catalog, Tfidf(top_k=25), store)
    once = listwise.score(queries, catalog, pool, SlotReader(), Listwise(depth=DEPTH))
    both = listwise.score(queries, catalog, pool, SlotReader(), Listwise(depth=DEPTH, orders=2))
    assert once.drop("score").equals(top_k(pool, DEPTH).drop("score"))
    assert both.group_by("query_id").agg(spread=pl.col("score").max() - pl.col("score").min())["spread"].max() < 1e-5


class Recorder:
    """A judge that remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """(n, n_options) zeros."""
        self.asked += prompts
        return np.zeros((len(prompts), len(options)), np.float32)


def test_prompts_of_one_question_stand_together(frames: tuple[pl.DataFrame, pl.DataFrame], store: Store) -> None:
    queries, catalog = frames
    judge = Recorder()
    pool = retrieve(queries, catalog, Tfidf(top_k=25), store)
    pointwise.score(queries, catalog, pool, judge, Pointwise(depth=3))
    questions = [prompts.tidy(text) for text in queries["question"]]
    order = [next(i for i, text in enumerate(questions) if f"Question: {text}\n" in prompt) for prompt in judge.asked]
    changes = sum(a != b for a, b in pairwise(order))
    assert changes == len(set(order)) - 1


def test_an_encoder_gives_unit_rows_in_the_order_of_the_texts() -> None:
    texts = ["adds before multiplying", "", "rounds down", "adds before multiplying"]
    vectors = HashedEncoder().encode(texts, "label")
    assert vectors.shape == (4, 1024) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(vectors[0], vectors[3])
