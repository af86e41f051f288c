"""Pointwise: each candidate is asked about alone, last in the prompt, and its score is log P(Yes) - log P(No)."""

from __future__ import annotations

import polars as pl

from pipeline import prompts
from pipeline.config import Pointwise
from pipeline.models.judge import Judge
from pipeline.rerank.listwise import candidates
from pipeline.runs import run


def score(queries: pl.DataFrame, catalog: pl.DataFrame, pool: pl.DataFrame, judge: Judge, spec: Pointwise) -> pl.DataFrame:
    """A run over the `depth` best candidates of each query."""
    pairs = candidates(queries, catalog, pool, spec.depth).explode("label_id", "label")
    asked = [prompts.pointwise(row, row["label"], spec.prompt) for row in pairs.iter_rows(named=True)]
    answers = judge.logprobs(asked, (prompts.YES, prompts.NO))
    return run(pairs.select("query_id", "label_id").with_columns(score=pl.Series(answers[:, 0] - answers[:, 1])))
