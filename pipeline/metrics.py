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
POOLED = 10_000


def per_query(run: pl.DataFrame, qrels: pl.DataFrame) -> pl.DataFrame:
    """One row a query of `qrels`: what `of_hits` says of the golds that the run holds."""
    return of_hits(ranked(run).join(qrels, on=QRELS.key, how="semi"), qrels)


def of_hits(hits: pl.DataFrame, qrels: pl.DataFrame) -> pl.DataFrame:
    """One row a query of `qrels`: `ap` (average precision at 25) and `recall@k` for each k of the ladder.

    `hits` are the golds that a run holds, with `rank`. Average precision is Kaggle's `apk`: the precisions at the hits'
    ranks, summed and divided by min(golds, 25). A query that the run does not hold scores zero.
    """
    golds = qrels.group_by("query_id", maintain_order=True).agg(golds=pl.len())
    hits = (
        hits.sort("query_id", "rank")
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


def _resampled(values: pl.DataFrame, names: list[str], seed: int) -> np.ndarray:
    """(RESAMPLES, names) float64: the sums of columns over questions drawn with replacement.

    Rows of one question share its text and often its fate, so they are drawn together. More than POOLED questions are first
    put together by lot in so many groups, which changes the spread of a sum by nothing that shows, and bounds the work.
    Source: Efron's percentile bootstrap, with the question as the cluster.
    """
    by_question = values.group_by(question_of(pl.col("query_id")), maintain_order=True).agg(pl.col(names).sum())
    sums = by_question.select(pl.col(names).cast(pl.Float64)).to_numpy()
    rng = np.random.default_rng(seed)
    if len(sums) > POOLED:
        starts = np.linspace(0, len(sums), POOLED, endpoint=False).astype(int)
        sums = np.add.reduceat(rng.permutation(sums), starts)
    return np.stack([sums[rng.integers(0, len(sums), len(sums))].sum(axis=0) for _ in range(RESAMPLES)])


def _bounds(means: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def interval(values: pl.DataFrame, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """The bootstrap interval of the mean of `ap`, questions (not rows) drawn with replacement."""
    sums = _resampled(values.with_columns(rows=1), ["ap", "rows"], seed)
    return _bounds(sums[:, 0] / sums[:, 1], level)


def reweighted(values: pl.DataFrame, seen: pl.DataFrame, share: float, seed: int = 0) -> tuple[float, float, float]:
    """The mean of `ap` and its interval, as if the share of unseen labels were `share`.

    It is (1 - share) times the mean of the seen queries plus share times the unseen ones'; NaN where a part that counts has no
    query. `seen` are the QRELS that count as seen. Source: post-stratification.
    """
    known = values.join(seen, on="query_id", how="semi").select("query_id", known=1)
    both = values.join(known, on="query_id", how="left").with_columns(pl.col("known").fill_null(0))
    parts = both.with_columns(
        seen_ap=pl.col("ap") * pl.col("known"), strange=1 - pl.col("known"), strange_ap=pl.col("ap") * (1 - pl.col("known"))
    )
    names = ["seen_ap", "known", "strange_ap", "strange"]

    def mean(sums: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # a draw without one of the kinds says nothing
            old, new = sums[..., 0] / sums[..., 1], sums[..., 2] / sums[..., 3]
        return np.asarray(old if share == 0 else new if share == 1 else (1 - share) * old + share * new)

    draws = mean(_resampled(parts, names, seed))
    draws = draws[np.isfinite(draws)]
    low, high = _bounds(draws) if len(draws) else (float("nan"), float("nan"))
    return float(mean(parts.select(pl.col(names).sum()).to_numpy()[0])), low, high


def compare(a: pl.DataFrame, b: pl.DataFrame, qrels: pl.DataFrame, seed: int = 0) -> dict[str, float]:
    """`paired` of two runs on the same queries."""
    return paired(per_query(a, qrels), per_query(b, qrels), seed)


def paired(a: pl.DataFrame, b: pl.DataFrame, seed: int = 0) -> dict[str, float]:
    """The queries' values `b` against `a`: the difference of MAP@25 (b minus a), its interval by paired bootstrap over
    questions, and on how many queries b is better, worse, or the same."""
    values = a.join(b, on="query_id", suffix="_b")
    values = values.select("query_id", difference=pl.col("ap_b") - pl.col("ap"), rows=1)
    sums = _resampled(values, ["difference", "rows"], seed)
    low, high = _bounds(sums[:, 0] / sums[:, 1])
    apart = values["difference"]
    better, worse = int((apart > 0).sum()), int((apart < 0).sum())
    mean = float(apart.mean())  # type: ignore[arg-type]
    return {"difference": mean, "low": low, "high": high, "better": better, "worse": worse, "same": len(apart) - better - worse}


def evaluate(run: pl.DataFrame, qrels: pl.DataFrame, seen: pl.DataFrame | None) -> pl.DataFrame:
    """The `summary` of a run. `seen` is the part of `qrels` whose labels the run's makers could learn."""
    return summary(per_query(run, qrels), seen)


def summary(values: pl.DataFrame, seen: pl.DataFrame | None) -> pl.DataFrame:
    """The scores of the queries' values for all labels and, where the QRELS `seen` are given, for seen and unseen ones.

    A query counts as seen when one of its golds is. A row each: subset, queries, map@25, low, high (95% interval), recall@1
    to recall@100. An empty subset is left out.
    """
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
