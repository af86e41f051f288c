import re

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.config import load
from pipeline.errors import InputError
from pipeline.features import GROUPS, NUMBER, OPERATION, features, group, label_stats, votes
from pipeline.runs import run
from pipeline.schema import CATALOG, LABEL_STATS, NEIGHBOURS, QRELS, QUERIES, RUN, check

Frames = dict[str, pl.DataFrame]


def run_of(*rows: tuple[str, int, float]) -> pl.DataFrame:
    return run(pl.DataFrame(rows, schema=RUN.columns, orient="row"))


def query(query_id: str, subject: str, question: str, correct: str, wrong: str) -> tuple[str, ...]:
    return query_id, query_id[:-2], "Add fractions", subject, question, correct, wrong


@pytest.fixture
def frames() -> Frames:
    queries = [
        query("1_A", "Fractions", "Add the halves", "one", "two denominators"),
        query("1_C", "Fractions", "Add the halves", "one", "three"),
        query("2_B", "Angles", "Name this angle", "acute", "right"),
    ]
    catalog = [(5, "Adds the denominators"), (6, "Confuses angles"), (7, "Adds the denominators of the fractions")]
    return {
        "queries": pl.DataFrame(queries, schema=QUERIES.columns, orient="row"),
        "catalog": pl.DataFrame(catalog, schema=CATALOG.columns, orient="row"),
        "pool": run_of(("1_A", 7, 0.9), ("1_A", 5, 0.8), ("1_C", 5, 0.7), ("2_B", 6, 0.6), ("2_B", 5, 0.6)),
        "lexical": run_of(("1_A", 5, 3.0), ("1_A", 6, 2.0), ("1_A", 7, 0.5), ("1_C", 5, 1.0), ("2_B", 6, 1.0)),
        "judge": run_of(("1_A", 7, -0.25)),
        "near": pl.DataFrame(
            [("1_A", "2_B", 0.5, False, True), ("1_A", "8_C", 0.25, True, False), ("1_C", "9_D", 0.75, True, True)],
            schema=NEIGHBOURS.columns,
            orient="row",
        ),
        "qrels": pl.DataFrame([("1_A", 5), ("1_C", 5), ("2_B", 5), ("2_B", 6)], schema=QRELS.columns, orient="row"),
    }


def made(frames: Frames) -> pl.DataFrame:
    runs = {name: frames[name] for name in ("lexical", "judge")}
    stats = label_stats(frames["qrels"], frames["queries"])
    shown = pl.concat([frames["qrels"], pl.DataFrame([("8_C", 5), ("8_C", 9)], schema=QRELS.columns, orient="row")])
    near = {"lexical": votes(frames["near"], shown)}
    return features(frames["queries"], frames["catalog"], frames["pool"], runs, stats, near)


def column(frame: pl.DataFrame, name: str) -> dict[tuple[str, int], object]:
    return {(query_id, label): value for query_id, label, value in frame.select("query_id", "label_id", name).iter_rows()}


def test_every_pair_of_the_pool_is_one_row_in_the_pools_order(frames: Frames) -> None:
    rows = made(frames)
    assert_frame_equal(rows.select(*QRELS.columns), frames["pool"].select(*QRELS.columns))
    assert rows["pool_rank"].to_list() == [1, 2, 1, 1, 2]


def test_besides_the_key_every_column_is_a_number(frames: Frames) -> None:
    rows = made(frames).drop(*QRELS.columns)
    assert [name for name, dtype in rows.schema.items() if not dtype.is_numeric()] == []


@pytest.mark.parametrize("name", ["judge_score", "judge_rank", "judge_gap"])
def test_what_a_stage_did_not_score_is_null(frames: Frames, name: str) -> None:
    values = column(made(frames), name)
    assert values.pop(("1_A", 7)) is not None
    assert set(values.values()) == {None}


def test_a_runs_columns_are_its_score_its_own_rank_and_the_gap_to_its_best(frames: Frames) -> None:
    rows = made(frames)
    assert column(rows, "lexical_score") | {("2_B", 5): None} == {
        ("1_A", 7): 0.5, ("1_A", 5): 3.0, ("1_C", 5): 1.0, ("2_B", 6): 1.0, ("2_B", 5): None,
    }  # fmt: skip
    assert [column(rows, "lexical_rank")["1_A", label] for label in (5, 7)] == [1, 3]
    assert [column(rows, "lexical_gap")["1_A", label] for label in (5, 7)] == [0.0, 2.5]


@pytest.mark.parametrize(("rank", "runs"), [(10, 2), (11, 1)])
def test_agreement_counts_the_runs_with_the_pair_among_their_ten_best(frames: Frames, rank: int, runs: int) -> None:
    frames["judge"] = run_of(*(("1_A", label, float(label)) for label in range(5, 7 + rank)))
    rows = made(frames)
    assert column(rows, "judge_rank")["1_A", 7] == rank
    assert column(rows, "agreement") == {("1_A", 7): runs, ("1_A", 5): 1, ("1_C", 5): 1, ("2_B", 6): 1, ("2_B", 5): 0}


def test_the_best_and_the_worst_rank_are_among_the_stages_that_scored(frames: Frames) -> None:
    rows = made(frames)
    assert [column(rows, name)["1_A", 7] for name in ("best_rank", "worst_rank")] == [1, 3]
    assert [column(rows, name)["1_A", 5] for name in ("best_rank", "worst_rank")] == [1, 1]
    assert [column(rows, name)["2_B", 5] for name in ("best_rank", "worst_rank")] == [None, None]


def test_label_statistics_count_labels_by_subject(frames: Frames) -> None:
    stats = check(label_stats(frames["qrels"], frames["queries"]), LABEL_STATS)
    named = "Add fractions"
    assert stats.rows() == [(5, "Angles", named, 1), (5, "Fractions", named, 2), (6, "Angles", named, 1)]


def test_a_label_that_training_never_shows_counts_zero(frames: Frames) -> None:
    rows = made(frames)
    pairs = [("1_A", 7), ("1_A", 5), ("1_C", 5), ("2_B", 6), ("2_B", 5)]
    assert [column(rows, "label_count")[pair] for pair in pairs] == [0, 3, 3, 1, 3]
    assert [column(rows, "label_subject_count")[pair] for pair in pairs] == [0, 2, 2, 1, 1]
    assert [column(rows, "label_construct_count")[pair] for pair in pairs] == [0, 3, 3, 1, 3]


def test_without_any_statistics_every_count_is_zero(frames: Frames) -> None:
    frames["qrels"] = frames["qrels"].clear()
    rows = made(frames)
    assert rows.select("label_count", "label_subject_count").sum().row(0) == (0, 0)


def test_text_columns_measure_the_label_against_each_part_of_its_own_query(frames: Frames) -> None:
    rows = made(frames)
    assert column(rows, "label_words")["1_A", 7] == 5  # adds, the (once), denominators, of, fractions
    assert column(rows, "shared_question")["1_A", 5] == pytest.approx(2 / 3)  # add, the
    assert column(rows, "shared_answers")["1_A", 5] == pytest.approx(1 / 3)  # denominators
    assert column(rows, "shared_answers")["1_C", 5] == 0
    assert column(rows, "shared_topic")["2_B", 6] == pytest.approx(1 / 2)  # angles
    assert [column(rows, name)["2_B", 6] for name in ("question_chars", "wrong_chars")] == [15, 5]


def test_text_columns_are_what_their_definition_says_of_each_pair_alone(frames: Frames) -> None:
    texts = ["Add two and 12", "half of twelve", "Rotates 2 halves", "", "Add the cubes", "12 quarters"]
    frames["queries"] = frames["queries"].with_columns(question=pl.Series(texts[:3]), wrong=pl.Series(texts[3:]))
    frames["catalog"] = frames["catalog"].with_columns(label=pl.Series(["Adds 12 to half", "!", "Cubes the rotated quarter"]))

    def words(text: str) -> set[str]:
        return {word[:-1] if len(word) > 3 and word[-1] == "s" else word for word in re.findall(r"\w+", text.lower())}

    asked = {row["query_id"]: row for row in frames["queries"].iter_rows(named=True)}
    labels = dict(frames["catalog"].iter_rows())
    for row in made(frames).iter_rows(named=True):
        label, query = words(labels[row["label_id"]]), asked[row["query_id"]]
        question, answers = words(query["question"]), words(query["correct"]) | words(query["wrong"])
        topic = words(query["construct"]) | words(query["subject"])
        assert row["shared_numbers"] == sum(bool(NUMBER.fullmatch(word)) for word in label & (question | answers))
        assert row["shared_operations"] == sum(bool(OPERATION.fullmatch(word)) for word in label & question)
        for name, part in (("question", question), ("topic", topic), ("answers", answers)):
            assert row[f"shared_{name}"] == np.float32(len(label & part) / max(len(label), 1))


def test_neighbours_vote_for_their_labels_as_far_as_those_are_told(frames: Frames) -> None:
    """2_B has the labels 5 and 6, 8_C has 5 and 9; what 9_D has is not known."""
    rows = made(frames)
    assert column(rows, "lexical_near_best") == {
        ("1_A", 7): None, ("1_A", 5): 0.5, ("1_C", 5): None, ("2_B", 6): None, ("2_B", 5): None,
    }  # fmt: skip
    sums = {name: column(rows, f"lexical_near_{name}")["1_A", 5] for name in ("sum", "same_subject", "same_construct")}
    assert sums == {"sum": 0.75, "same_subject": 0.25, "same_construct": 0.5}


def test_a_runs_shares_add_up_to_one_within_a_query_and_follow_its_scores(frames: Frames) -> None:
    rows = made(frames)
    shares = [column(rows, "lexical_share")["1_A", label] for label in (5, 7)]
    assert 1 > shares[0] > shares[1] > 0
    assert shares[0] + shares[1] < 1  # the label 6 is not in the pool
    assert column(rows, "judge_share")["1_A", 7] == 1


def test_siblings_tell_where_the_label_stands_in_the_question_s_other_answers(frames: Frames) -> None:
    rows = made(frames)
    assert column(rows, "sibling_rank") == {
        ("1_A", 7): None, ("1_A", 5): 1, ("1_C", 5): 2, ("2_B", 6): None, ("2_B", 5): None,
    }  # fmt: skip
    assert column(rows, "sibling_lead")["1_A", 5] == -1
    assert column(rows, "sibling_lead")["1_C", 5] == 1


def test_numbers_and_operations_that_label_and_texts_share_are_counted(frames: Frames) -> None:
    queries, catalog = frames["queries"], frames["catalog"]
    frames["queries"] = queries.with_columns(question=pl.lit("Add two and 12"), wrong=pl.lit("half"))
    frames["catalog"] = catalog.with_columns(label=pl.lit("Adds 12 and half, not 7, subtracts"))
    rows = made(frames)
    assert set(rows["shared_numbers"]) == {2}
    assert set(rows["shared_operations"]) == {1}


def test_every_feature_belongs_to_a_group_and_no_group_is_empty(frames: Frames) -> None:
    assert {group(name) for name in made(frames).drop(*QRELS.columns).columns} == set(GROUPS)


@pytest.mark.parametrize("shuffled", ["queries", "catalog", "pool", "lexical", "qrels", "near"])
def test_shuffled_rows_give_the_same_features(frames: Frames, shuffled: str) -> None:
    expected = made(frames)
    frames[shuffled] = frames[shuffled].reverse()
    assert_frame_equal(made(frames), expected)


@pytest.mark.parametrize("name", ["pool", "best", "worst", "blend", "judge", "two words", "a:b"])
def test_a_stage_name_that_would_spoil_the_columns_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=name):
        load(None, [f"retrieve.{name}={{kind: tfidf}}"])
