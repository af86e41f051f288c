from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline.runs import fuse, ranked, run, stack, top_k
from pipeline.schema import RUN, SchemaError

Rows = list[tuple[str, int, float]]
# few distinct values, so that ties are common
ROWS = st.dictionaries(
    st.tuples(st.sampled_from(["1_A", "1_B", "10_A", "2_C"]), st.integers(0, 12)), st.integers(-2, 2).map(float), min_size=1
).map(lambda scores: [(query, label, score) for (query, label), score in scores.items()])


def run_of(rows: Rows) -> pl.DataFrame:
    return run(pl.DataFrame(rows, schema=list(RUN.columns), orient="row"))


def labels(a_run: pl.DataFrame, query: str = "1_A") -> list[int]:
    return a_run.filter(pl.col("query_id") == query)["label_id"].to_list()


def test_a_run_is_cast_and_sheds_other_columns() -> None:
    frame = pl.DataFrame({"note": ["x"], "score": [1], "label_id": [5], "query_id": ["1_A"]})
    assert dict(run(frame).schema) == RUN.columns


@given(ROWS)
@settings(deadline=None)
def test_the_order_is_query_up_then_score_down_then_label_up(rows: Rows) -> None:
    assert run_of(rows).rows() == sorted(rows, key=lambda row: (row[0], -row[2], row[1]))


@given(ROWS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_shuffled_rows_make_the_same_run(rows: Rows, rng: Random) -> None:
    shuffled = rng.sample(rows, len(rows))
    assert_frame_equal(run_of(shuffled), run_of(rows))


@pytest.mark.parametrize(("first", "second"), [(0.5, 0.5 + 1e-12), (-0.0, 0.0), (1e9, 1e9 + 1)])
def test_scores_that_are_one_number_in_32_bits_are_tied(first: float, second: float) -> None:
    assert labels(run_of([("1_A", 2, second), ("1_A", 1, first)])) == [1, 2]
    assert labels(run_of([("1_A", 2, first), ("1_A", 1, second)])) == [1, 2]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("1_A", 1, 0.5), ("1_A", 1, 0.25)], "1 rows repeat a key"),
        ([("1_A", 1, float("nan"))], "score has 1 NaNs"),
        ([("1_A", 1, None)], "score has 1 nulls"),
        ([("1_A", None, 0.5)], "label_id has 1 nulls"),
        ([(None, 1, 0.5)], "query_id has 1 nulls"),
    ],
)
def test_repeated_pairs_gaps_and_nans_are_refused(rows: Rows, told: str) -> None:
    with pytest.raises(SchemaError, match=told):
        run_of(rows)


@given(ROWS)
@settings(deadline=None)
def test_ranks_count_from_one_inside_each_query(rows: Rows) -> None:
    for _, part in ranked(run_of(rows)).group_by("query_id"):
        assert part["rank"].to_list() == list(range(1, part.height + 1))


@given(ROWS, st.integers(1, 5), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_top_k_keeps_the_first_k_of_each_query_whatever_the_rows_order(rows: Rows, k: int, rng: Random) -> None:
    whole = run_of(rows)
    cut = top_k(whole.sample(fraction=1, shuffle=True, seed=rng.randrange(99)), k)
    assert_frame_equal(cut, whole.group_by("query_id", maintain_order=True).head(k))


def test_at_the_cut_the_smaller_label_stays() -> None:
    assert labels(top_k(run_of([("1_A", label, 1.0) for label in (9, 4, 7)]), 2)) == [4, 7]


def test_fusion_adds_the_reciprocals_of_the_ranks() -> None:
    one = run_of([("1_A", 5, 9.0), ("1_A", 6, 8.0), ("1_A", 7, 7.0)])
    other = run_of([("1_A", 7, 0.2), ("1_A", 5, 0.1), ("1_B", 8, -3.0)])
    expected = run_of([("1_A", 5, 1 / 61 + 1 / 62), ("1_A", 7, 1 / 63 + 1 / 61), ("1_A", 6, 1 / 62), ("1_B", 8, 1 / 61)])
    assert_frame_equal(fuse({"one": one, "other": other}, k=60), expected)


def test_a_small_k_lets_one_first_place_outweigh_two_second_places() -> None:
    runs = {
        "a": run_of([("1_A", 1, 1.0), ("1_A", 2, 0.0)]),
        "b": run_of([("1_A", 3, 1.0), ("1_A", 2, 0.0)]),
    }
    assert labels(fuse(runs, k=60)) == [2, 1, 3]
    assert fuse(runs, k=1)["score"].to_list() == pytest.approx([2 / 3, 1 / 2, 1 / 2])


@given(st.lists(ROWS, min_size=3, max_size=3), st.permutations(range(3)))
@settings(deadline=None)
def test_fusion_knows_neither_the_names_nor_the_order_of_its_runs(tables: list[Rows], order: list[int]) -> None:
    runs = [run_of(rows) for rows in tables]
    assert_frame_equal(fuse({str(i): runs[i] for i in order}, 60), fuse(dict(zip("abc", runs, strict=True)), 60))


def test_a_stacked_run_is_the_upper_in_its_order_then_what_only_the_lower_has() -> None:
    upper = run_of([("1_A", 3, -9.0), ("1_A", 1, -8.0)])
    lower = run_of([("1_A", 1, 0.9), ("1_A", 2, 0.8), ("1_A", 3, 0.7), ("1_A", 4, 0.8), ("1_B", 5, 0.1)])
    stacked = stack(upper, lower)
    assert labels(stacked) == [1, 3, 2, 4]
    assert labels(stacked, "1_B") == [5]


@given(ROWS, ROWS)
@settings(deadline=None)
def test_a_stacked_run_holds_every_pair_of_both_once_and_no_ties(upper: Rows, lower: Rows) -> None:
    stacked = stack(run_of(upper), run_of(lower))
    assert {row[:2] for row in stacked.rows()} == {row[:2] for row in upper + lower}
    assert stacked.select("query_id", "score").is_unique().all()
