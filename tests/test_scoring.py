"""The stages before the blender, where one of them fails or the time is up."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline import flow, scoring
from pipeline.budget import Budget
from pipeline.config import Config, load
from pipeline.data import Competition, queries_of
from pipeline.errors import InputError
from pipeline.sample import opened
from pipeline.scoring import Scored
from pipeline.store import Store

HASHED = Path(__file__).parent.parent / "configs" / "hashed.yaml"
SMALL = ["sample.train=30", "sample.test=5", "blend.rounds=5", "blend.min_rows=5", "fit.folds=2"]
BROKEN = "examples=[nowhere.csv]"


@pytest.fixture(scope="module")
def competition() -> Competition:
    return opened(load(HASHED, SMALL), None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def config(*overrides: str) -> Config:
    return load(HASHED, [*SMALL, *overrides])


def pooled(competition: Competition, settings: Config, store: Store, budget: Budget) -> tuple[Scored, list[pl.DataFrame]]:
    """Stage one on the test, and each ranking that was better than those before."""
    rankings: list[pl.DataFrame] = []
    done = scoring.pooled(queries_of(competition.test), competition, settings, store, None, budget, rankings.append)
    return done, rankings


def test_there_is_a_better_ranking_after_each_retriever_and_the_last_one_is_the_pool(
    competition: Competition, store: Store
) -> None:
    done, rankings = pooled(competition, config(), store, Budget())
    first, last = rankings
    assert first.equals(scoring.pooled(queries_of(competition.test), competition, config("retrieve.dense=null"), store).pool)
    assert last.equals(done.pool) and not last.equals(first)


@pytest.mark.parametrize("broken", ["lexical", "dense"])
def test_a_retriever_that_fails_is_left_out_and_named(competition: Competition, store: Store, broken: str) -> None:
    budget = Budget(keep_going=True)
    done, rankings = pooled(competition, config(f"retrieve.{broken}.{BROKEN}"), store, budget)
    alone = scoring.pooled(queries_of(competition.test), competition, config(f"retrieve.{broken}=null"), store)
    assert done.pool.equals(alone.pool) and len(rankings) == 1
    assert broken not in done.stages and done.runs[broken].is_empty()
    assert budget.lost.keys() == {broken} and "nowhere.csv" in budget.lost[broken]
    assert budget.warnings == [f"{broken} is left out: {budget.lost[broken]}"]


def test_a_booster_takes_what_a_lost_retriever_would_have_said_for_unknown(competition: Competition, store: Store) -> None:
    bundle = flow.fit(competition, config(), store)
    assert bundle.booster and "dense_score" in bundle.booster.feature_name()
    budget = Budget(keep_going=True)
    begun, _ = pooled(competition, config(f"retrieve.dense.{BROKEN}"), store, budget)
    predicted = flow.predict(competition, bundle, store, begun, budget)
    assert predicted.submission.height == 15 and list(predicted.stages)[-1] == flow.BLEND


def test_without_leave_to_go_on_a_retriever_that_fails_is_an_error(competition: Competition, store: Store) -> None:
    with pytest.raises(InputError, match=r"nowhere\.csv"):
        pooled(competition, config(f"retrieve.dense.{BROKEN}"), store, Budget())


def test_where_no_retriever_is_left_there_is_nothing_to_go_on_with(competition: Competition, store: Store) -> None:
    settings = config(f"retrieve.lexical.{BROKEN}", f"retrieve.dense.{BROKEN}")
    with pytest.raises(InputError, match=r"(?s)^retrieve\n.*nowhere.*nowhere.*wanted: one retriever that runs"):
        pooled(competition, settings, store, Budget(keep_going=True))


def test_when_the_time_is_up_the_first_retriever_alone_is_waited_for(
    competition: Competition, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, late = scoring.retrieve, Budget(ends=time.time() - 1)
    assert pooled(competition, config(), store, late)[0].stages.keys() == {"lexical", "dense", scoring.FUSION}, "it is quick"

    def slow(queries: pl.DataFrame, *more: Any) -> pl.DataFrame:
        time.sleep(1)
        return search(queries, *more)

    monkeypatch.setattr(scoring, "retrieve", slow)
    monkeypatch.setattr(scoring, "LEAST", 0.1)
    budget = Budget(ends=time.time() - 1)
    done, rankings = pooled(competition, config(), store, budget)
    assert list(done.stages) == ["lexical", scoring.FUSION] and done.runs["dense"].is_empty()
    assert rankings[-1].equals(done.pool)
    assert budget.warnings == ["dense: the time is short, it is left out"] and not budget.lost


def test_a_blender_that_fails_leaves_the_fusion_of_all(competition: Competition, store: Store) -> None:
    other = flow.fit(competition, config("retrieve.dense=null", "retrieve.another={kind: bm25}"), store)
    bundle = flow.Bundle(**{**vars(other), "config": config()})  # it knows no columns of "another"
    rankings: list[pl.DataFrame] = []
    budget = Budget(keep_going=True)
    predicted = flow.predict(competition, bundle, store, None, budget, rankings.append)
    assert list(predicted.stages)[-1] == scoring.ALL and rankings[-1].equals(predicted.stages[scoring.ALL])
    assert budget.lost.keys() == {flow.BLEND} and "another_score" in budget.lost[flow.BLEND]
    for none in (None, Budget()):
        with pytest.raises(InputError, match="the stages that it was fitted on"):
            flow.predict(competition, bundle, store, None, none)
