"""The frames that stages hand to each other: columns, types, keys, and one check for all of them.

It knows nothing of files or of Kaggle's names: those are in `data.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

LETTERS = ("A", "B", "C", "D")


class SchemaError(ValueError):
    """A frame broke its contract; the message lists everything that is wrong with it."""


@dataclass(frozen=True)
class Schema:
    """A frame's name, its columns with their types, and the columns that together name a row once."""

    name: str
    columns: dict[str, pl.DataType]
    key: tuple[str, ...]


QUESTIONS = Schema(
    "questions",
    {
        "question_id": pl.String(),
        "construct": pl.String(),
        "subject": pl.String(),
        "question": pl.String(),
        "correct": pl.String(),  # a letter
        **{f"answer_{letter}": pl.String() for letter in LETTERS},
    },
    ("question_id",),
)
QUERIES = Schema(
    "queries",
    {
        "query_id": pl.String(),  # "1869_B": the question and its wrong answer's letter
        "question_id": pl.String(),
        "construct": pl.String(),
        "subject": pl.String(),
        "question": pl.String(),
        "correct": pl.String(),  # the right answer's text
        "wrong": pl.String(),
    },
    ("query_id",),
)
EXAMPLES = Schema("examples", {**QUERIES.columns, "label_id": pl.Int32(), "counts": pl.Boolean()}, ("query_id", "label_id"))
CATALOG = Schema("catalog", {"label_id": pl.Int32(), "label": pl.String()}, ("label_id",))
QRELS = Schema("qrels", {"query_id": pl.String(), "label_id": pl.Int32()}, ("query_id", "label_id"))
RUN = Schema("run", {**QRELS.columns, "score": pl.Float32()}, QRELS.key)
FOLDS = Schema("folds", {"question_id": pl.String(), "fold": pl.Int32()}, ("question_id",))
LABEL_STATS = Schema(
    "label statistics",
    {"label_id": pl.Int32(), "subject": pl.String(), "construct": pl.String(), "count": pl.Int32()},
    ("label_id", "subject", "construct"),
)
NEIGHBOURS = Schema(
    "neighbours",
    {
        "query_id": pl.String(),
        "other_id": pl.String(),  # a training answer's query_id
        "score": pl.Float32(),
        "same_subject": pl.Boolean(),
        "same_construct": pl.Boolean(),
    },
    ("query_id", "other_id"),
)


def check(frame: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """Return `frame` if it keeps `schema`; else raise `SchemaError` with every breach at once.

    Columns and their order are exact; no value is null or NaN; the key is unique.
    """
    wrong = []
    if list(frame.columns) != list(schema.columns):
        wrong.append(f"columns {frame.columns}, wanted {list(schema.columns)}")
    for name, dtype in schema.columns.items():
        if name not in frame.columns:
            continue
        column = frame[name]
        if column.dtype != dtype:
            wrong.append(f"{name} is {column.dtype}, wanted {dtype}")
        if nulls := column.null_count():
            wrong.append(f"{name} has {nulls} nulls")
        if column.dtype.is_float() and (nans := int(column.is_nan().sum())):
            wrong.append(f"{name} has {nans} NaNs")
    if set(schema.key) <= set(frame.columns):
        twice = frame.height - frame.n_unique(list(schema.key))
        if twice:
            wrong.append(f"{twice} rows repeat a key {schema.key}")
    if wrong:
        raise SchemaError(f"{schema.name}: " + "; ".join(wrong))
    return frame


def question_of(query_id: pl.Expr) -> pl.Expr:
    """The question's id inside a query's id: all before the last underscore."""
    return query_id.str.replace(r"_[^_]*$", "")
