"""Pointwise: each candidate is asked about alone, last in the prompt, and its score is log P(Yes) - log P(No).

A judge that was trained among wrong candidates drawn in proportion to 1 / rank says how much likelier a candidate is than its
rank makes it, and knows no rank. The two together are the candidate's probability: the correction of a sampled softmax.
Source: Jean et al., "On Using Very Large Target Vocabulary for Neural Machine Translation" (2015).
"""

from __future__ import annotations

import numpy as np
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
    return placed(pairs, answers[:, 0] - answers[:, 1], spec.prior)


def placed(pairs: pl.DataFrame, margins: np.ndarray, prior: float) -> pl.DataFrame:
    """The run of `pairs`, each query's together and best first, by their `margins` (n,) less `prior` times the logarithm of
    their place."""
    rank = pl.int_range(1, pl.len() + 1).over("query_id")
    score = pl.Series(margins, dtype=pl.Float64) - prior * rank.log()
    return run(pairs.select("query_id", "label_id", score=score))
