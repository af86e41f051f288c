"""Runs, label statistics and texts to one row of named columns a candidate. The only join of scores.

Null means "not scored by that stage", never zero; LightGBM reads it as such. It knows no truth: the label statistics are a
fitted thing that is handed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import polars as pl

from pipeline.runs import ranked
from pipeline.schema import LABEL_STATS, QRELS, check

KEY = list(QRELS.key)
TOP = 10  # agreement counts the runs that have a candidate among so many


def label_stats(qrels: pl.DataFrame, queries: pl.DataFrame) -> pl.DataFrame:
    """LABEL_STATS: how often training shows a label, by subject."""
    counts = qrels.join(queries.select("query_id", "subject"), on="query_id").group_by("label_id", "subject")
    return check(
        counts.agg(pl.len().cast(pl.Int32).alias("count")).sort("label_id", "subject").select(*LABEL_STATS.columns),
        LABEL_STATS,
    )


def features(
    queries: pl.DataFrame, catalog: pl.DataFrame, pool: pl.DataFrame, runs: Mapping[str, pl.DataFrame], stats: pl.DataFrame
) -> pl.DataFrame:
    """FEATURES: `query_id`, `label_id` for every pair of `pool`, in its order, then a column a feature."""
    rows = ranked(pool).select(*KEY, pl.col("rank").alias("pool_rank"), pl.col("score").alias("pool_score"))
    for name, each in runs.items():
        rows = rows.join(_of_run(name, each), on=KEY, how="left", maintain_order="left")
    ranks = [pl.col(f"{name}_rank") for name in runs]
    rows = rows.with_columns(
        agreement=pl.sum_horizontal((rank <= TOP).fill_null(False).cast(pl.Int32) for rank in ranks),
        best_rank=pl.min_horizontal(ranks),
        worst_rank=pl.max_horizontal(ranks),
    )
    rows = rows.join(queries, on="query_id", how="left", maintain_order="left").join(
        catalog, on="label_id", how="left", maintain_order="left"
    )
    rows = _with_label_stats(rows, stats)
    return rows.with_columns(_texts(rows)).drop(*[c for c in queries.columns if c != "query_id"], "label")


def _of_run(name: str, run: pl.DataFrame) -> pl.DataFrame:
    """A run's own view of a pair: its score, its rank, and how far it is from the query's best."""
    return ranked(run).select(
        *KEY,
        pl.col("score").alias(f"{name}_score"),
        pl.col("rank").alias(f"{name}_rank"),
        (pl.col("score").max().over("query_id") - pl.col("score")).alias(f"{name}_gap"),
    )


def _with_label_stats(rows: pl.DataFrame, stats: pl.DataFrame) -> pl.DataFrame:
    """How often training shows the label at all, and in the query's subject. Zero is a count here, not a gap."""
    everywhere = stats.group_by("label_id").agg(label_count=pl.col("count").sum())
    here = stats.rename({"count": "label_subject_count"})
    return (
        rows.join(everywhere, on="label_id", how="left", maintain_order="left")
        .join(here, on=["label_id", "subject"], how="left", maintain_order="left")
        .with_columns(pl.col("label_count", "label_subject_count").fill_null(0))
    )


def _texts(rows: pl.DataFrame) -> list[pl.Series]:
    """What the texts alone say of a pair: lengths, and the label's share of words that the question's parts hold too."""
    words = {text: _words(text) for name in ("label", "question", "correct", "wrong") for text in rows[name].unique()}
    topics = {pair: _words(" ".join(pair)) for pair in rows.select("construct", "subject").unique().iter_rows()}
    label = [words[text] for text in rows["label"]]

    def share(name: str, others: list[frozenset[str]]) -> pl.Series:
        return pl.Series(name, [len(a & b) / (len(a) or 1) for a, b in zip(label, others, strict=True)], dtype=pl.Float32)

    return [
        pl.Series("label_words", [len(each) for each in label], dtype=pl.Int32),
        rows["question"].str.len_chars().alias("question_chars"),
        rows["wrong"].str.len_chars().alias("wrong_chars"),
        share("shared_question", [words[text] for text in rows["question"]]),
        share("shared_topic", [topics[pair] for pair in rows.select("construct", "subject").iter_rows()]),
        share("shared_answers", [words[a] | words[b] for a, b in rows.select("correct", "wrong").iter_rows()]),
    ]


def _words(text: str) -> frozenset[str]:
    """Lower-case words and numbers, with a plural's s taken off."""
    return frozenset(word[:-1] if len(word) > 3 and word.endswith("s") else word for word in re.findall(r"\w+", text.lower()))
