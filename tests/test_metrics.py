import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline import metrics
from pipeline.metrics import CUTOFF, LADDER, compare, evaluate, interval, per_query, reweighted
from pipeline.runs import run
from pipeline.schema import QRELS, RUN

Rankings = dict[str, list[int]]
Golds = dict[str, set[int]]
Scores = dict[str, dict[int, float]]

QUERY_IDS = [f"{question}_{letter}" for question in (1, 2, 3) for letter in "ABC"]
# more labels than the cut-off, and few distinct scores, so that cuts and ties are common
SCORES = st.dictionaries(
    st.sampled_from(QUERY_IDS), st.dictionaries(st.integers(0, 60), st.integers(0, 4).map(float), min_size=1), min_size=1
)
GOLDS = st.dictionaries(st.sampled_from(QUERY_IDS), st.sets(st.integers(0, 60), min_size=1, max_size=40), min_size=1)


def run_of(scores: Scores) -> pl.DataFrame:
    rows = [(query, label, score) for query, each in scores.items() for label, score in each.items()]
    return run(pl.DataFrame(rows, schema=RUN.columns, orient="row"))


def ranking(**queries: list[int]) -> pl.DataFrame:
    return run_of({query[1:]: {label: -rank for rank, label in enumerate(each)} for query, each in queries.items()})


def qrels_of(golds: Golds) -> pl.DataFrame:
    rows = [(query, label) for query, each in golds.items() for label in each]
    return pl.DataFrame(rows, schema=QRELS.columns, orient="row")


def values_of(ap: dict[str, float]) -> pl.DataFrame:
    return pl.DataFrame({"query_id": list(ap), "ap": list(ap.values())})


def apk(actual: set[int], predicted: list[int], k: int) -> float:
    """Kaggle's published average precision at k."""
    score, hits = 0.0, 0.0
    for i, label in enumerate(predicted[:k]):
        if label in actual and label not in predicted[:i]:
            hits += 1.0
            score += hits / (i + 1.0)
    return score / min(len(actual), k) if actual else 0.0


def mapk(golds: Golds, rankings: Rankings, k: int) -> float:
    """Kaggle's published mean average precision at k; a query without a ranking scores zero."""
    return sum(apk(actual, rankings.get(query, []), k) for query, actual in golds.items()) / len(golds)


def sorted_labels(scores: Scores) -> Rankings:
    return {query: sorted(each, key=lambda label: (-each[label], label)) for query, each in scores.items()}


@given(SCORES, GOLDS)
@settings(deadline=None, max_examples=200)
def test_map_at_25_is_kaggles(scores: Scores, golds: Golds) -> None:
    result = evaluate(run_of(scores), qrels_of(golds), None)
    assert result["queries"].item() == len(golds)
    assert result["map@25"].item() == pytest.approx(mapk(golds, sorted_labels(scores), CUTOFF))


@given(SCORES, GOLDS)
@settings(deadline=None)
def test_recall_is_the_share_of_golds_found_and_grows_with_k(scores: Scores, golds: Golds) -> None:
    rankings = sorted_labels(scores)
    for row in per_query(run_of(scores), qrels_of(golds)).iter_rows(named=True):
        query = row["query_id"]
        expected = [len(golds[query] & set(rankings.get(query, [])[:k])) / len(golds[query]) for k in LADDER]
        assert [row[f"recall@{k}"] for k in LADDER] == pytest.approx(expected)
        assert expected == sorted(expected)


@given(st.permutations(range(40)), st.sets(st.integers(0, 39), min_size=1), st.integers(1, 39))
@settings(deadline=None)
def test_moving_a_gold_up_one_place_never_costs(order: list[int], golds: set[int], place: int) -> None:
    if order[place] not in golds:
        golds = golds | {order[place]}
    lifted = [*order[: place - 1], order[place], order[place - 1], *order[place + 1 :]]
    before, after = (per_query(ranking(_1_A=each), qrels_of({"1_A": golds})).row(0, named=True) for each in (order, lifted))
    assert all(after[name] >= before[name] - 1e-12 for name in before if name != "query_id")


@given(SCORES, GOLDS)
@settings(deadline=None)
def test_what_stands_below_every_other_label_and_is_no_gold_changes_nothing(scores: Scores, golds: Golds) -> None:
    longer = {query: {**each, 99: -1.0} for query, each in scores.items()}
    assert_frame_equal(per_query(run_of(longer), qrels_of(golds)), per_query(run_of(scores), qrels_of(golds)))


@pytest.mark.parametrize(
    ("rank", "ap", "found_at"),
    [
        (1, 1.0, 1),
        (2, 1 / 2, 5),
        (5, 1 / 5, 5),
        (6, 1 / 6, 10),
        (25, 1 / 25, 25),
        (26, 0.0, 50),
        (100, 0.0, 100),
        (101, 0.0, 999),
    ],
)
def test_one_gold_scores_the_reciprocal_of_its_rank_down_to_25(rank: int, ap: float, found_at: int) -> None:
    row = per_query(ranking(_1_A=list(range(1, 121))), qrels_of({"1_A": {rank}})).row(0, named=True)
    assert row["ap"] == pytest.approx(ap)
    assert {k: row[f"recall@{k}"] for k in LADDER} == {k: float(k >= found_at) for k in LADDER}


def test_more_golds_than_the_cut_off_can_still_score_one() -> None:
    assert per_query(ranking(_1_A=list(range(30))), qrels_of({"1_A": set(range(30))}))["ap"].item() == pytest.approx(1)


def test_a_query_that_the_run_does_not_hold_scores_zero_and_counts() -> None:
    result = evaluate(ranking(_1_A=[4]), qrels_of({"1_A": {4}, "2_B": {4}}), None).row(0, named=True)
    assert (result["queries"], result["map@25"], result["recall@100"]) == (2, 0.5, 0.5)


def test_a_query_without_gold_does_not_count() -> None:
    assert evaluate(ranking(_1_A=[4], _2_A=[5]), qrels_of({"1_A": {4}}), None)["queries"].item() == 1


def test_of_tied_labels_the_smaller_id_comes_first() -> None:
    tied = run_of({"1_A": {7: 0.5, 3: 0.5, 5: 0.5}})
    assert [per_query(tied, qrels_of({"1_A": {gold}}))["ap"].item() for gold in (3, 5, 7)] == pytest.approx([1, 1 / 2, 1 / 3])


@given(SCORES, GOLDS, st.integers(0, 9))
@settings(deadline=None, max_examples=20)
def test_a_shuffled_run_has_the_same_scores(scores: Scores, golds: Golds, seed: int) -> None:
    one, qrels = run_of(scores), qrels_of(golds)
    assert_frame_equal(evaluate(one.sample(fraction=1, shuffle=True, seed=seed), qrels, None), evaluate(one, qrels, None))


@given(st.dictionaries(st.sampled_from(QUERY_IDS), st.floats(0, 1), min_size=1), st.integers(0, 5))
@settings(deadline=None, max_examples=25)
def test_the_interval_contains_the_mean_and_is_deterministic(ap: dict[str, float], seed: int) -> None:
    values = values_of(ap)
    low, high = interval(values, seed=seed)
    mean = sum(ap.values()) / len(ap)
    assert 0 <= low <= mean + 1e-9
    assert mean - 1e-9 <= high <= 1 + 1e-9
    assert interval(values, seed=seed) == (low, high)


def test_a_higher_level_makes_a_wider_interval_and_another_seed_another_one() -> None:
    values = values_of({f"{i}_A": i % 7 / 7 for i in range(60)})
    (low, high), (lower, higher) = interval(values, 0.8), interval(values, 0.99)
    assert lower < low < high < higher
    assert interval(values, seed=1) != interval(values, seed=0)


def test_the_wrong_answers_of_a_question_are_drawn_together() -> None:
    ap = {f"{i}": i % 5 / 5 for i in range(40)}
    one_each = interval(values_of({f"{i}_A": score for i, score in ap.items()}))
    copied = interval(values_of({f"{i}_{letter}": score for i, score in ap.items() for letter in "ABC"}))
    apart = interval(values_of({f"{i}{letter}_A": score for i, score in ap.items() for letter in "ABC"}))
    assert copied == pytest.approx(one_each)
    assert apart[1] - apart[0] < 0.75 * (copied[1] - copied[0])


def test_seen_and_unseen_queries_are_scored_apart_and_together() -> None:
    golds = {"1_A": {1}, "1_B": {2}, "2_A": {3}, "3_C": {4}}
    answers = ranking(_1_A=[1], _1_B=[9, 2], _2_A=[3])
    result = evaluate(answers, qrels_of(golds), qrels_of({"1_A": {1}, "3_C": {4}}))
    assert result.select("subset", "queries", "map@25", "recall@1").rows() == [
        ("all", 4, 0.625, 0.5),
        ("seen", 2, 0.5, 0.5),
        ("unseen", 2, 0.75, 0.5),
    ]


def test_a_query_with_one_seen_gold_counts_as_seen() -> None:
    result = evaluate(ranking(_1_A=[1, 2]), qrels_of({"1_A": {1, 2}}), qrels_of({"1_A": {2}}))
    assert result["subset"].to_list() == ["all", "seen"]


@pytest.mark.parametrize(("seen", "subsets"), [(None, ["all"]), ({}, ["all", "unseen"]), ({"1_A": {1}}, ["all", "seen"])])
def test_an_empty_subset_is_left_out(seen: Golds | None, subsets: list[str]) -> None:
    shown = None if seen is None else qrels_of(seen)
    assert evaluate(ranking(_1_A=[1]), qrels_of({"1_A": {1}}), shown)["subset"].to_list() == subsets


def of_two_kinds(seen: float, unseen: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Forty queries with a seen label and sixty with an unseen one, and the seen ones' QRELS; the means are given."""
    values = {f"{i}_A": (seen if i < 40 else unseen) + (0.1 if i % 2 else -0.1) for i in range(100)}
    return values_of(values), qrels_of({f"{i}_A": {1} for i in range(40)})


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
def test_a_reweighted_score_is_the_mixture_at_that_share_within_its_interval(share: float) -> None:
    mean, low, high = reweighted(*of_two_kinds(0.6, 0.2), share)
    assert mean == pytest.approx((1 - share) * 0.6 + share * 0.2)
    assert low < mean < high
    assert high - low < 0.1


def test_at_its_own_share_a_score_is_what_it_was() -> None:
    values, seen = of_two_kinds(0.6, 0.2)
    assert reweighted(values, seen, 0.6)[0] == pytest.approx(values["ap"].mean())


def test_a_share_of_what_is_not_there_has_no_score() -> None:
    values, seen = of_two_kinds(0.6, 0.2)
    only_seen = values.join(seen, on="query_id", how="semi")
    assert reweighted(only_seen, seen, 0.0)[0] == pytest.approx(0.6)
    assert all(value != value for value in reweighted(only_seen, seen, 0.5))


def test_two_runs_are_compared_query_by_query() -> None:
    golds = qrels_of({"1_A": {1}, "2_A": {2}, "3_A": {3}, "4_A": {4}})
    one, other = ranking(_1_A=[1], _2_A=[9, 2], _3_A=[3]), ranking(_1_A=[1], _2_A=[2], _3_A=[9, 8, 3])
    told = compare(one, other, golds)
    assert (told["better"], told["worse"], told["same"]) == (1, 1, 2)
    assert told["difference"] == pytest.approx((1 / 2 - 2 / 3) / 4)
    assert told["low"] < told["difference"] < told["high"]
    back = compare(other, one, golds)
    assert (back["difference"], back["low"], back["high"]) == pytest.approx((-told["difference"], -told["high"], -told["low"]))


def test_a_pair_that_differs_alike_everywhere_is_told_apart_where_single_intervals_overlap() -> None:
    """What pairing is for."""
    golds = qrels_of({f"{i}_A": {1} for i in range(80)})

    def run_with_gold_at(rank: int) -> pl.DataFrame:
        """On every other query; the others have it first."""
        return ranking(**{f"_{i}_A": [1] if i % 2 else [*range(100, 99 + rank), 1] for i in range(80)})

    worse, better = run_with_gold_at(8), run_with_gold_at(7)
    told = compare(worse, better, golds)
    assert told["low"] > 0
    (_, high), (low, _) = interval(per_query(worse, golds)), interval(per_query(better, golds))
    assert low < high


def test_many_questions_are_pooled_without_moving_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values = values_of({f"{i}_A": (i * 37 % 101) / 101 for i in range(3000)})
    plain = interval(values)
    monkeypatch.setattr(metrics, "POOLED", 1000)
    pooled = interval(values)
    assert pooled != plain
    assert pooled == pytest.approx(plain, abs=0.003)
