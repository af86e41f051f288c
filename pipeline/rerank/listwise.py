"""Listwise: the best candidates stand in one prompt under letters, and the letters' log-probabilities are their scores.

A small model reads the slot more than the candidate; showing the list in both directions and taking the mean takes the
slot's part out to first order.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline import prompts
from pipeline.models.judge import Judge
from pipeline.runs import ranked, run


def score(
    queries: pl.DataFrame, catalog: pl.DataFrame, pool: pl.DataFrame, judge: Judge, depth: int, orders: int
) -> pl.DataFrame:
    """A run: the mean over orders of log P(letter | one of the letters)."""
    lists = candidates(queries, catalog, pool, depth)
    parts = []
    # a query may have fewer candidates than `depth`; each length is asked with its own letters
    for size in lists["size"].unique().sort():
        group = lists.filter(pl.col("size") == size)
        total = np.zeros((group.height, size), dtype=np.float32)
        asked = []
        for row in group.iter_rows(named=True):
            for step in (1, -1)[:orders]:
                asked.append(prompts.listwise(row, row["label"][::step]))
        answers = judge.logprobs(asked, prompts.OPTIONS[:size])
        answers = answers - np.logaddexp.reduce(answers, axis=1, keepdims=True)
        for turn, step in enumerate((1, -1)[:orders]):
            total += answers[turn::orders, ::step]
        scored = group.select("query_id", "label_id", score=pl.Series(total / orders, dtype=pl.Array(pl.Float32, size)))
        parts.append(scored.with_columns(pl.col("score").arr.to_list()).explode("label_id", "score"))
    return run(pl.concat(parts))


def candidates(queries: pl.DataFrame, catalog: pl.DataFrame, pool: pl.DataFrame, depth: int) -> pl.DataFrame:
    """One row a query, in the queries' order (a question's prompts stand together): its fields, `label_id` and `label` as
    lists, best first, and their `size`. A query that the pool does not hold is left out."""
    lists = (
        ranked(pool)
        .filter(pl.col("rank") <= depth)
        .join(catalog, on="label_id", how="left", maintain_order="left")
        .group_by("query_id", maintain_order=True)
        .agg("label_id", "label")
        .with_columns(size=pl.col("label_id").list.len())
    )
    return queries.join(lists, on="query_id", how="inner", maintain_order="left")
