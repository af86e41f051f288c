"""Windows and orders: every candidate is shown, in whatever slot, and windows are measured with the same measure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline.config import Listwise
from pipeline.prompts import NONE, OPTIONS
from pipeline.rerank.listwise import score, windows
from pipeline.runs import ranked, run

SIZE = 23
IDS = ("1_A", "1_C", "2_B")
QUERIES = pl.DataFrame(
    [{"query_id": each} | dict.fromkeys(("construct", "subject", "question", "correct", "wrong"), each) for each in IDS]
)
# what a label is worth has nothing to do with where the pool has it
WORTH = {i: i * 7 % SIZE for i in range(SIZE)}
CATALOG = pl.DataFrame(
    {"label_id": list(WORTH), "label": [f"worth {value}" for value in WORTH.values()]}, schema_overrides={"label_id": pl.Int32}
)
POOL = run(pl.DataFrame({"query_id": IDS}).join(CATALOG, how="cross").with_columns(score=-pl.col("label_id")))


class Reader:
    """A judge that reads what a candidate is worth, and of its slot as much as it is told to; "none" is worth 5."""

    def __init__(self, slot: float = 0.0) -> None:
        self.slot, self.asked = slot, list[str]()

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """(n, n_options)."""
        self.asked += prompts
        rows = [[5.0 if text == NONE else float(text.split()[1]) for text in shown(prompt)] for prompt in prompts]
        logits = np.array(rows, dtype=np.float32) - self.slot * np.arange(len(options), dtype=np.float32)
        return np.asarray(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True), dtype=np.float32)


def shown(prompt: str) -> list[str]:
    """The texts behind the letters."""
    lines = re.findall(r"^([A-Z])\. (.*)$", prompt, re.MULTILINE)
    assert [letter for letter, _ in lines] == list(OPTIONS[: len(lines)])
    return [text for _, text in lines]


def judged(reader: Reader, **settings: Any) -> pl.DataFrame:
    return score(QUERIES, CATALOG, POOL, reader, Listwise(**settings))


@pytest.mark.parametrize("size", [1, 4, 5, 6, 10, 11, 23])
@pytest.mark.parametrize("stride", [1, 2, 5])
def test_windows_hold_every_candidate_and_are_full(size: int, stride: int) -> None:
    cut = windows(size, 5, stride)
    assert {i for window in cut for i in window} == set(range(size))
    assert {len(window) for window in cut} == {min(size, 5)}
    assert len(cut) == len({window.start for window in cut}) == 1 + max(0, -(-(size - 5) // stride))


@pytest.mark.parametrize("settings", [{}, {"stride": 3}, {"orders": 4}, {"stride": 2, "orders": 3}], ids=str)
def test_windows_of_one_list_are_ranked_as_one(settings: dict[str, int]) -> None:
    found = judged(Reader(), depth=SIZE, window=5, none=True, **settings)
    wanted = [WORTH[label] - 5.0 for label in found["label_id"]]
    np.testing.assert_allclose(found["score"], wanted, atol=1e-4)
    assert found.height == SIZE * len(IDS)


def test_without_none_a_list_s_probabilities_sum_to_one() -> None:
    found = judged(Reader(), depth=10)
    sums = found.group_by("query_id").agg(pl.col("score").exp().sum())["score"]
    np.testing.assert_allclose(sums, 1, atol=1e-5)


def test_many_orders_take_out_what_the_slot_says() -> None:
    def off(orders: int) -> float:
        found = judged(Reader(slot=0.5), depth=10, none=True, orders=orders)
        error = found["score"] - pl.Series([float(WORTH[label]) for label in found["label_id"]])
        return float(found.with_columns(error=error).group_by("query_id").agg(pl.col("error").std())["error"].mean())  # type: ignore[arg-type]

    assert off(1) > 1
    assert off(2) < 1e-4
    assert off(40) < off(1) / 2


def test_the_first_orders_stay_when_more_are_asked_and_a_seed_draws_the_rest() -> None:
    def asked(**settings: int) -> set[str]:
        reader = Reader()
        judged(reader, **settings)
        return set(reader.asked)

    assert asked() < asked(orders=2) < asked(orders=4) == asked(orders=4, seed=0)
    assert asked(orders=4) & asked(orders=4, seed=1) == asked(orders=2)


def test_shuffles_differ_from_query_to_query() -> None:
    reader = Reader()
    judged(reader, orders=3)
    assert len({tuple(shown(prompt)) for prompt in reader.asked}) == 2 + len(IDS)


def test_the_judge_goes_as_deep_as_it_is_told() -> None:
    found = judged(Reader(), depth=12, window=5, none=True)
    assert set(found["label_id"]) == set(range(12))
    assert ranked(found).filter(rank=1)["label_id"].to_list() == [max(range(12), key=WORTH.__getitem__)] * len(IDS)


@pytest.mark.parametrize(
    "settings",
    [
        {"depth": 30},
        {"depth": 30, "window": 26},
        {"window": 26, "none": True},
        {"window": 5, "depth": 5, "stride": 6},
        {"window": 4},
    ],
    ids=str,
)
def test_windows_that_cannot_be_compared_or_lettered_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Listwise(**settings)
