import polars as pl
import pytest

from pipeline import schema
from pipeline.schema import QUERIES, QUESTIONS, RUN, Schema, SchemaError, check, question_of

SCHEMAS = [value for value in vars(schema).values() if isinstance(value, Schema)]


def a_run(scores: list[float | None] | None = None) -> pl.DataFrame:
    return pl.DataFrame({"query_id": ["1_A", "1_B"], "label_id": [3, 3], "score": scores or [0.5, 0.25]}, schema=RUN.columns)


def test_a_frame_that_keeps_its_schema_comes_back_as_it_is() -> None:
    frame = a_run()
    assert check(frame, RUN) is frame


@pytest.mark.parametrize("each", SCHEMAS, ids=lambda each: each.name)
def test_every_schema_has_its_key_among_its_columns_and_accepts_an_empty_frame(each: Schema) -> None:
    assert set(each.key) <= set(each.columns)
    check(pl.DataFrame(schema=each.columns), each)


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        (a_run().drop("score"), "columns ['query_id', 'label_id'], wanted ['query_id', 'label_id', 'score']"),
        (a_run().with_columns(rank=1), "columns ['query_id', 'label_id', 'score', 'rank']"),
        (a_run().select("label_id", "query_id", "score"), "columns ['label_id', 'query_id', 'score']"),
        (a_run().with_columns(pl.col("score").cast(pl.Float64)), "score is Float64, wanted Float32"),
        (a_run().with_columns(pl.col("label_id").cast(pl.String)), "label_id is String, wanted Int32"),
        (a_run([0.5, None]), "score has 1 nulls"),
        (a_run([0.5, float("nan")]), "score has 1 NaNs"),
        (a_run().with_columns(query_id=pl.lit("1_A")), "1 rows repeat a key ('query_id', 'label_id')"),
    ],
    ids=["missing", "extra", "order", "float type", "integer type", "null", "NaN", "key"],
)
def test_a_breach_is_named(frame: pl.DataFrame, told: str) -> None:
    with pytest.raises(SchemaError) as error:
        check(frame, RUN)
    assert str(error.value).startswith("run: ")
    assert told in str(error.value)


def test_every_breach_is_told_at_once() -> None:
    frame = pl.DataFrame({"query_id": ["1_A", "1_A", None], "score": [float("nan")] * 3, "label_id": [7, 7, 8]})
    with pytest.raises(SchemaError) as error:
        check(frame, RUN)
    told = ["columns", "query_id has 1 nulls", "label_id is Int64", "score is Float64", "score has 3 NaNs", "1 rows repeat"]
    assert [fault for fault in told if fault not in str(error.value)] == []


def test_an_infinite_score_is_a_score() -> None:
    check(a_run([float("inf"), float("-inf")]), RUN)


@pytest.mark.parametrize(("query", "question"), [("1869_B", "1869"), ("set_2_17_D", "set_2_17"), ("é_A", "é"), ("9_", "9")])
def test_a_query_belongs_to_the_question_before_its_last_underscore(query: str, question: str) -> None:
    assert pl.select(question_of(pl.lit(query))).item() == question


def test_neither_questions_nor_queries_can_carry_the_truth() -> None:
    assert [name for each in (QUESTIONS, QUERIES) for name in each.columns if "label" in name or "misconception" in name] == []
