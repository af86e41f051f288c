"""What is judged first, how far the time reaches, and what becomes of an engine that dies."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.budget import Budget, Pace
from pipeline.config import Listwise, Pointwise
from pipeline.errors import EngineDied
from pipeline.models import judge as judges
from pipeline.models import memory
from pipeline.rerank import by_promise, prompts_of, rerank, score
from pipeline.runs import ranked, run
from pipeline.schema import RUN
from pipeline.store import Store

QUESTIONS, DEPTH = 6, 5
CATALOG = pl.DataFrame(
    {"label_id": range(30), "label": [f"label {i}" for i in range(30)]}, schema={"label_id": pl.Int32, "label": pl.String}
)
FIELDS = ("construct", "subject", "question", "correct", "wrong")
QUERIES = pl.DataFrame(
    [
        {"query_id": f"{question}_{letter}", "question_id": str(question)} | dict.fromkeys(FIELDS, f"{question} {letter}")
        for question in range(QUESTIONS)
        for letter in "AB"
    ]
)


def pool(lists: Mapping[str, Sequence[float]] | None = None) -> pl.DataFrame:
    """30 candidates a query; the first ones have the scores that are given."""
    rows = [
        {"query_id": query, "label_id": label, "score": score}
        for query in QUERIES["query_id"]
        for label, score in enumerate([*(lists or {}).get(query, [0.5, 0.4]), *([0.1] * 30)][:30])
    ]
    return run(pl.DataFrame(rows))


class Engine:
    """An engine on a clock of its own: five seconds to start, one for a prompt; it dies as often as it is told."""

    def __init__(self) -> None:
        self.now, self.starts, self.deaths, self.most = 1000.0, 0, 0, math.inf
        self.asked: list[list[str]] = []

    def __call__(self) -> float:
        return self.now

    def start(self, *_: object) -> Engine:
        self.starts += 1
        self.now += 5
        return self

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """(n, n_options): what a prompt's letters add up to."""
        self.asked.append(list(prompts))
        if self.deaths or len(prompts) > self.most:
            self.deaths = max(0, self.deaths - 1)
            raise EngineDied("no memory")
        self.now += len(prompts)
        return np.array([[-float(sum(map(ord, text)) % (7 + i)) for i in range(len(options))] for text in prompts], np.float32)

    def close(self) -> None:
        """Nothing is held."""


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    made = Engine()
    monkeypatch.setattr(judges, "start", made.start)
    monkeypatch.setattr(memory, "device", lambda: "cpu")
    monkeypatch.setattr(memory, "_held", {})
    return made


@pytest.fixture
def spec(tmp_path: Path) -> Listwise:
    weights = tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").write_text("{}", encoding="utf-8")
    (weights / "model.safetensors").write_bytes(b"weights")
    return Listwise(engine="transformers", weights=str(weights), dtype="float32", depth=DEPTH, chunk=4)


@pytest.fixture
def judged(engine: Engine, spec: Listwise, tmp_path: Path) -> Callable[..., pl.DataFrame]:
    def call(seconds: float = math.inf, later: int = 0, store: str = "store", strict: bool = False) -> pl.DataFrame:
        pace = None if strict else Pace(Budget(engine.now + seconds, 0, engine), "judge", later)
        return rerank(QUERIES, CATALOG, pool(), spec, Store(tmp_path / store), pace)

    return call


def ids(a_run: pl.DataFrame) -> list[str]:
    return a_run["query_id"].unique().sort().to_list()


def first(pool: pl.DataFrame, depth: int = DEPTH, queries: pl.DataFrame = QUERIES) -> list[str]:
    found = by_promise(queries, pool, depth)
    assert found.columns == QUERIES.columns and set(found["query_id"]) == set(QUERIES["query_id"])
    return found["question_id"].unique(maintain_order=True).to_list()


def test_first_come_the_queries_with_good_candidates_behind_the_first() -> None:
    full, sure = [0.5, 0.5, 0.5, 0.5], [0.9, 0.1]
    lists = {"3_A": full, "3_B": full, "1_A": sure, "1_B": sure, "4_A": full, "4_B": sure}
    assert first(pool(lists)) == ["3", "4", "0", "2", "5", "1"]


def test_candidates_that_the_judge_does_not_see_promise_nothing() -> None:
    rows = pool({"5_A": [0.5, 0.4, 0.3, 0.3]})
    assert first(rows, depth=2) == list("012345")
    assert first(rows, depth=4) == list("501234")


def test_the_order_of_the_rows_changes_nothing() -> None:
    rows = pool({"0_A": [0.5, 0.1], "3_B": [0.5, 0.5], "4_A": [0.2, 0.2]})
    wanted = by_promise(QUERIES, rows, DEPTH)
    assert by_promise(QUERIES.reverse(), rows.reverse(), DEPTH).equals(wanted)


def test_a_chunk_holds_whole_questions(engine: Engine, judged: Callable[..., pl.DataFrame]) -> None:
    assert ids(judged()) == QUERIES["query_id"].to_list()
    assert [len(chunk) for chunk in engine.asked] == [4, 4, 4]
    assert all(f"Question: {2 * i} A" in chunk[0] for i, chunk in enumerate(engine.asked))


def test_a_question_with_more_prompts_than_a_chunk_is_not_cut_in_two(engine: Engine, spec: Listwise, tmp_path: Path) -> None:
    rerank(QUERIES, CATALOG, pool(), spec.model_copy(update={"chunk": 1}), Store(tmp_path / "store"))
    assert [len(chunk) for chunk in engine.asked] == [2] * 6


def test_no_query_is_no_chunk(engine: Engine, spec: Listwise, tmp_path: Path) -> None:
    assert rerank(QUERIES.clear(), CATALOG, pool(), spec, Store(tmp_path / "store")).is_empty()
    assert not engine.asked


@pytest.mark.parametrize(
    ("settings", "prompts"),
    [({"depth": 10}, 1), ({"depth": 10, "orders": 3}, 3), ({"depth": 50, "window": 10, "none": True, "orders": 2}, 10)],
    ids=str,
)
def test_a_query_s_prompts_are_counted(settings: dict[str, int], prompts: int) -> None:
    assert prompts_of(Listwise.model_validate(settings)) == prompts
    assert prompts_of(Pointwise(depth=7)) == 7


def test_the_first_chunk_is_tried_and_the_rest_is_judged_as_far_as_it_fits(
    engine: Engine, judged: Callable[..., pl.DataFrame], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    first = judged(seconds=14)  # five to start, four a chunk: the third would end in time, and no second later
    assert ids(first) == QUERIES["query_id"].head(8).to_list()
    assert engine.asked == engine.asked[:2]
    assert "of the 8 answers that are still to be judged: 62% within 5 s, all would take 8 s" in caplog.text


def test_what_is_kept_costs_no_time_and_what_was_cut_off_is_gone_on_with(
    engine: Engine, judged: Callable[..., pl.DataFrame]
) -> None:
    cut = judged(seconds=14)
    assert judged(seconds=-1).equals(cut)
    whole = judged()
    assert ids(whole) == QUERIES["query_id"].to_list() and len(engine.asked) == 3
    assert whole.equals(judged(store="another"))


def test_with_no_time_left_no_engine_is_started(engine: Engine, judged: Callable[..., pl.DataFrame]) -> None:
    assert judged(seconds=0).is_empty()
    assert engine.starts == 0


def test_what_comes_later_keeps_its_time(engine: Engine, judged: Callable[..., pl.DataFrame]) -> None:
    assert len(ids(judged(seconds=25, later=2))) == 12
    assert len(ids(judged(seconds=25, later=10, store="another"))) == 12, "the engine is up already"
    assert len(ids(judged(seconds=20, later=10**6, store="third"))) == 8


def test_an_engine_that_dies_once_is_started_anew_and_asked_the_same(
    engine: Engine, judged: Callable[..., pl.DataFrame]
) -> None:
    engine.deaths = 1
    found = judged()
    assert engine.starts == 2 and [len(chunk) for chunk in engine.asked] == [4, 4, 4, 4]
    assert found.equals(judged(store="another"))


def test_an_engine_without_memory_for_a_chunk_gets_its_halves(engine: Engine, judged: Callable[..., pl.DataFrame]) -> None:
    engine.most = 2
    found = judged()
    assert [len(chunk) for chunk in engine.asked[:4]] == [4, 4, 2, 2]
    engine.most = 100
    assert found.equals(judged(store="another"))


def test_a_judge_whose_engine_does_not_live_is_lost_and_what_it_said_before_stays(
    engine: Engine, judged: Callable[..., pl.DataFrame], spec: Listwise, tmp_path: Path
) -> None:
    cut, budget = judged(seconds=14), Budget()
    engine.deaths, engine.starts = 10**6, 0
    memory.release()
    found = rerank(QUERIES, CATALOG, pool(), spec, Store(tmp_path / "store"), Pace(budget, "judge"))
    assert found.equals(cut) and budget.lost == {"judge": "its engine died"} and engine.starts == 3


def test_a_judge_that_cannot_be_asked_is_lost_where_the_run_is_to_keep_going(
    engine: Engine, judged: Callable[..., pl.DataFrame], spec: Listwise, tmp_path: Path
) -> None:
    cut, other = judged(seconds=14), Store(tmp_path / "store")
    engine.most = "few"  # type: ignore[assignment]
    budget = Budget(keep_going=True)
    assert rerank(QUERIES, CATALOG, pool(), spec, other, Pace(budget, "judge")).equals(cut)
    assert budget.lost["judge"].startswith("TypeError: ")
    with pytest.raises(TypeError):
        rerank(QUERIES, CATALOG, pool(), spec, other, Pace(Budget(), "judge"))


def test_where_nothing_may_be_missing_an_engine_that_does_not_live_is_an_error(
    engine: Engine, judged: Callable[..., pl.DataFrame]
) -> None:
    engine.deaths = 10**6
    with pytest.raises(EngineDied, match="no memory"):
        judged(strict=True)


def test_a_prior_weighs_a_margin_by_the_candidate_s_place(engine: Engine) -> None:
    """What a judge says, less `prior` times the logarithm of the rank, 1 for the pool's best."""
    lists = pool()
    spec = Pointwise(engine="transformers", weights="tiny", depth=DEPTH)

    def asked(**settings: float) -> pl.DataFrame:
        return score(QUERIES, CATALOG, lists, engine, spec.model_copy(update=settings))

    plain, weighed = asked(), asked(prior=2)
    places = ranked(lists).select(*RUN.key, "rank")
    both = plain.join(weighed, on=RUN.key).join(places, on=RUN.key)
    assert both.height == QUERIES.height * DEPTH
    wanted = both["score"] - 2 * both["rank"].log()
    assert both["score_right"].to_numpy() == pytest.approx(wanted.to_numpy(), abs=1e-5)
