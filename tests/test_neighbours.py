"""Neighbours: the answers most like a query, never its own question's."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipeline.config import Dense, Tfidf
from pipeline.retrieve.neighbours import neighbours
from pipeline.schema import NEIGHBOURS, QUERIES, check
from pipeline.store import Store

SPECS = [Tfidf(), Dense(weights="hashed", template="plain")]
TEXTS = {
    "1": ("Add fractions", "Fractions", "Add a half and a third"),
    "2": ("Add fractions", "Fractions", "Add a half and a quarter"),
    "3": ("Name angles", "Angles", "Which angle is obtuse"),
    "4": ("Add halves", "Fractions", "ADD a half  and a third"),  # the first one's text again
}


def answers(*numbers: str) -> pl.DataFrame:
    rows = [(f"{n}_{letter}", n, *TEXTS[n], "one", f"wrong {letter}") for n in numbers for letter in "AB"]
    return pl.DataFrame(rows, schema=QUERIES.columns, orient="row")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_the_nearest_answers_come_first_and_none_of_a_question_that_reads_the_same(spec: Tfidf | Dense, store: Store) -> None:
    found = check(neighbours(answers("1"), answers("1", "2", "3", "4"), spec, 10, store), NEIGHBOURS)
    first = found.filter(pl.col("query_id") == "1_A")
    assert set(first["other_id"]) == {"2_A", "2_B", "3_A", "3_B"}
    assert set(first["other_id"][:2]) == {"2_A", "2_B"}
    assert first["score"].is_sorted(descending=True)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_so_many_are_kept_and_each_says_whether_topic_and_skill_are_the_query_s(spec: Tfidf | Dense, store: Store) -> None:
    found = neighbours(answers("1", "3"), answers("1", "2", "3"), spec, 3, store)
    assert set(found.group_by("query_id").len()["len"]) == {3}
    same = found.join(answers("1", "2", "3").select(other_id="query_id", other="subject"), on="other_id").join(
        answers("1", "3").select("query_id", own="subject"), on="query_id"
    )
    assert (same["same_subject"] == (same["other"] == same["own"])).all()
    assert found.filter(query_id="1_A", other_id="2_B")["same_construct"].item()


def test_queries_that_nothing_is_like_have_no_neighbours_but_their_own(store: Store) -> None:
    assert neighbours(answers("1"), answers("1", "4"), Tfidf(), 5, store).is_empty()
