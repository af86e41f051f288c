"""MAP@25 as Kaggle computes it, the recall ladder, and bootstrap intervals over questions.

A label is "seen" when those who made the run could learn it; who calls says which those are.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.runs import ranked
from pipeline.schema import QRELS, question_of

CUTOFF = 25
LADDER = (1, 5, 10, 25, 50, 100)
RESAMPLES = 2000


def per_query(run: pl.DataFrame, qrels: pl.DataFrame) -> pl.DataFrame:
    """One row a query of `qrels`: `ap` (average precision at 25) and `recall@k` for each k of the ladder.

    Average precision is Kaggle's `apk`: the precisions at the hits' ranks, summed and divided by min(golds, 25). A query
    that the run does not hold scores zero.
    """
    golds = qrels.group_by("query_id", maintain_order=True).agg(golds=pl.len())
    hits = (
        ranked(run)
        .join(qrels, on=QRELS.key, how="semi")
        .sort("query_id", "rank")
        .with_columns(hit=pl.int_range(1, pl.len() + 1).over("query_id"))
        .group_by("query_id")
        .agg(
            precision=(pl.col("hit") / pl.col("rank")).filter(pl.col("rank") <= CUTOFF).sum(),
            **{f"found@{k}": (pl.col("rank") <= k).sum() for k in LADDER},
        )
    )
    return golds.join(hits, on="query_id", how="left", maintain_order="left").select(
        "query_id",
        ap=pl.col("precision").fill_null(0.0) / pl.min_horizontal("golds", pl.lit(CUTOFF)),
        **{f"recall@{k}": pl.col(f"found@{k}").fill_null(0) / pl.col("golds") for k in LADDER},
    )


def interval(values: pl.DataFrame, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The bootstrap interval of the mean of `ap`, questions (not rows) drawn with replacement.

    Rows of one question share its text and often its fate, so they are drawn together. Source: Efron's percentile
    bootstrap, with the question as the cluster.
    """
    clusters = values.group_by(question_of(pl.col("query_id")), maintain_order=True).agg(pl.col("ap").sum(), rows=pl.len())
    sums, rows = clusters["ap"].to_numpy(), clusters["rows"].to_numpy()
    rng = np.random.default_rng(seed)
    means = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        draw = rng.integers(0, len(sums), len(sums))
        means[i] = sums[draw].sum() / rows[draw].sum()
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def evaluate(run: pl.DataFrame, qrels: pl.DataFrame, seen: pl.DataFrame | None) -> pl.DataFrame:
    """The scores of `run` for all labels and, where `seen` is given, for seen and unseen ones.

    `seen` is the part of `qrels` whose labels the run's makers could learn; a query counts as seen when one of its golds is.
    A row each: subset, queries, map@25, low, high (95% interval), recall@1 to recall@100. An empty subset is left out.
    """
    values = per_query(run, qrels)
    subsets = {"all": values}
    if seen is not None:
        subsets["seen"] = values.join(seen, on="query_id", how="semi")
        subsets["unseen"] = values.join(seen, on="query_id", how="anti")
    rows = []
    for subset, part in subsets.items():
        if part.height:
            low, high = interval(part)
            recalls = part.select(pl.col("^recall@.*$").mean()).row(0, named=True)
            means = {"map@25": part["ap"].mean(), "low": low, "high": high, **recalls}
            rows.append({"subset": subset, "queries": part.height, **means})
    return pl.DataFrame(rows)
