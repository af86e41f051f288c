"""Label shift: what is planted is found, and a run is moved as the arithmetic of priors says."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from pipeline import shift
from pipeline.errors import InputError
from pipeline.metrics import per_query
from pipeline.runs import run
from pipeline.schema import QRELS
from pipeline.shift import Shift

LABELS = 20


def shown(seen: int) -> pl.DataFrame:
    """Training's QRELS, which show the first labels."""
    return pl.DataFrame([("0_A", label) for label in range(seen)], schema=QRELS.columns, orient="row")


def planted(share: float, queries: int = 3000, seed: int = 1, seen: int = 10) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A run of twenty candidates a query and its golds, unseen ones among them at the share given.

    A gold's score is drawn two higher than the others', so that P(label) is in proportion to its prior times exp(2 * score).
    """
    rng = np.random.default_rng(seed)
    rows, golds = [], []
    for number in range(queries):
        gold = rng.integers(seen, LABELS) if rng.random() < share else rng.integers(seen)
        golds.append((f"{number}_A", gold))
        rows += [(f"{number}_A", label, rng.normal() + 2 * (label == gold)) for label in range(LABELS)]
    ranking = run(pl.DataFrame(rows, schema=["query_id", "label_id", "score"], orient="row"))
    return shift.marked(ranking, shown(seen), LABELS), pl.DataFrame(golds, schema=QRELS.columns, orient="row")


def test_marked_tells_what_training_never_showed() -> None:
    ranking, _ = planted(0.5, queries=1, seen=4)
    told = {label: (unseen, even) for label, unseen, even in ranking.select("label_id", "unseen", "even").iter_rows()}
    assert told == {n: (n >= 4, pytest.approx(-np.log(16 if n >= 4 else 4))) for n in range(LABELS)}


def test_the_scale_the_prior_and_the_share_of_the_rows_are_found() -> None:
    found = shift.fit(*planted(0.65, seen=6))
    assert found.scale == pytest.approx(2.0, abs=0.1)
    assert found.odds == pytest.approx(np.log(0.65 / 0.35), abs=0.15)
    assert found.share == pytest.approx(0.65, abs=0.03)


def test_a_constant_on_the_unseen_scores_is_taken_back_by_the_odds() -> None:
    ranking, golds = planted(0.65)
    plain = shift.fit(ranking, golds)
    lowered = ranking.with_columns(score=pl.col("score") - 1.5 * pl.col("unseen"))
    found = shift.fit(lowered, golds)
    assert found.odds == pytest.approx(plain.odds + 1.5 * plain.scale, abs=0.05)
    one, other = (shift.corrected(each, by, 0.65) for each, by in ((ranking, plain), (lowered, found)))
    assert per_query(one, golds)["ap"].mean() == pytest.approx(per_query(other, golds)["ap"].mean(), abs=0.002)


def test_at_the_folds_own_share_and_at_even_odds_the_order_stays() -> None:
    ranking, _ = planted(0.65, queries=50)
    same = shift.corrected(ranking, Shift(2.0, 0.0, 0.65), 0.65)
    assert same.select(*QRELS.columns).equals(run(ranking).select(*QRELS.columns))


@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 1.0])
def test_a_higher_assumed_share_lifts_the_unseen(share: float) -> None:
    ranking, _ = planted(0.65, queries=200)
    moved = shift.marked(shift.corrected(ranking, Shift(2.0, 0.0, 0.65), share), shown(10), LABELS)
    first = moved.group_by("query_id", maintain_order=True).first()["unseen"].mean()
    assert isinstance(first, float)
    assert first < 0.6 if share < 0.5 else first > 0.7


@pytest.mark.parametrize("seen", [4, 10, 15])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.65, 0.9])
def test_the_share_of_a_test_is_read_off_its_scores_alone_however_many_labels_are_shown_there(share: float, seen: int) -> None:
    fitted = shift.fit(*planted(0.65, seed=1))
    fresh, _ = planted(share, seed=2, seen=seen)
    assert shift.estimate(fresh, fitted) == pytest.approx(share, abs=0.05)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_correcting_for_the_true_share_ranks_better_than_not(share: float) -> None:
    fitted = shift.fit(*planted(0.65, seed=1))
    fresh, golds = planted(share, seed=2)
    as_it_was, moved = (per_query(shift.corrected(fresh, fitted, each), golds)["ap"].mean() for each in (0.65, share))
    assert isinstance(moved, float) and isinstance(as_it_was, float)
    assert moved > as_it_was + 0.01


def test_queries_without_their_gold_say_nothing_and_none_at_all_is_refused() -> None:
    ranking, golds = planted(0.65, queries=300)
    more = pl.concat([golds, pl.DataFrame([("x_A", 3)], schema=QRELS.columns, orient="row")])
    assert shift.fit(ranking, more) == shift.fit(ranking, golds)
    with pytest.raises(InputError, match="pool"):
        shift.fit(ranking, golds.with_columns(label_id=pl.lit(99, pl.Int32)))
