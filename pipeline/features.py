"""Runs, label statistics and texts to one row of named columns a candidate. The only join of scores.

Null means "not scored by that stage", never zero; LightGBM reads it as such. It knows no truth: the label statistics are a
fitted thing that is handed in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import polars as pl

from pipeline.runs import ranked
from pipeline.schema import LABEL_STATS, QRELS, check

KEY = list(QRELS.key)
# the groups of features, each by what its columns' names hold
GROUPS = {
    "neighbours": r"_near_",
    "labels": r"^label_.*count$",
    "siblings": r"^sibling_",
    "agreement": r"^(agreement|best_rank|worst_rank|spread_rank)$",
    "texts": r"^(label_words|question_chars|wrong_chars|shared_\w+)$",
    "scores": r"_(score|rank|gap|share)$",
}
NUMBER = re.compile(r"\d+|zero|one|two|three|four|five|six|seven|eight|nine|ten|half|quarter|third")
OPERATION = re.compile(r"(add|subtract|multipl|divid|squar|cub|root|round|factor|expand|simplif|rotat|reflect|translat)\w*")
TOP = 10  # agreement counts the runs that have a candidate among so many


def label_stats(qrels: pl.DataFrame, queries: pl.DataFrame) -> pl.DataFrame:
    """LABEL_STATS: how often training shows a label, by subject and construct."""
    key = ["label_id", "subject", "construct"]
    counts = qrels.join(queries.select("query_id", "subject", "construct"), on="query_id").group_by(key)
    return check(
        counts.agg(pl.len().cast(pl.Int32).alias("count")).sort(key).select(*LABEL_STATS.columns),
        LABEL_STATS,
    )


def votes(neighbours: pl.DataFrame, shown: pl.DataFrame) -> pl.DataFrame:
    """What a query's NEIGHBOURS say for each of their labels, as far as the QRELS `shown` tell them: a row a pair.

    `near_best` and `near_sum` of their likenesses, and the sums over those of the query's own subject and construct.
    """
    told = neighbours.join(shown, left_on="other_id", right_on="query_id").sort("query_id", "label_id", "other_id")
    likeness = pl.col("score")
    return told.group_by(KEY, maintain_order=True).agg(
        near_best=likeness.max(),
        near_sum=likeness.sum(),
        near_same_subject=likeness.filter("same_subject").sum(),
        near_same_construct=likeness.filter("same_construct").sum(),
    )


def features(
    queries: pl.DataFrame,
    catalog: pl.DataFrame,
    pool: pl.DataFrame,
    runs: Mapping[str, pl.DataFrame],
    stats: pl.DataFrame,
    near: Mapping[str, pl.DataFrame],
) -> pl.DataFrame:
    """FEATURES: `query_id`, `label_id` for every pair of `pool`, in its order, then a column a feature.

    `near` are `votes`, by the name of the retriever that found the neighbours. `group` says what a column belongs to.
    """
    rows = ranked(pool).select(*KEY, pl.col("rank").alias("pool_rank"), pl.col("score").alias("pool_score"))
    for name, each in runs.items():
        rows = rows.join(_of_run(name, each), on=KEY, how="left", maintain_order="left")
    for name, each in near.items():
        told = each.rename({column: f"{name}_{column}" for column in each.columns if column not in KEY})
        rows = rows.join(told, on=KEY, how="left", maintain_order="left")
    ranks = [pl.col(f"{name}_rank") for name in runs]
    rows = rows.with_columns(
        agreement=pl.sum_horizontal((rank <= TOP).fill_null(False).cast(pl.Int32) for rank in ranks),
        best_rank=pl.min_horizontal(ranks),
        worst_rank=pl.max_horizontal(ranks),
        spread_rank=pl.max_horizontal(ranks) - pl.min_horizontal(ranks),
    )
    rows = rows.join(queries, on="query_id", how="left", maintain_order="left").join(
        catalog, on="label_id", how="left", maintain_order="left"
    )
    rows = _with_siblings(_with_label_stats(rows, stats))
    return rows.with_columns(_texts(rows)).drop(*[c for c in queries.columns if c != "query_id"], "label")


def group(feature: str) -> str:
    """What a feature belongs to: one of GROUPS, which a config can leave out."""
    for name, mark in GROUPS.items():
        if re.search(mark, feature):
            return name
    raise KeyError(feature)


def _of_run(name: str, run: pl.DataFrame) -> pl.DataFrame:
    """A run's own view of a pair: its score, its rank, and how far it is from the query's best."""
    return ranked(run).select(
        *KEY,
        pl.col("score").alias(f"{name}_score"),
        pl.col("rank").alias(f"{name}_rank"),
        (pl.col("score").max().over("query_id") - pl.col("score")).alias(f"{name}_gap"),
        (_scaled().exp() / _scaled().exp().sum().over("query_id")).alias(f"{name}_share"),
    )


def _scaled() -> pl.Expr:
    """A score in standard deviations from its query's mean: stages' scores have units of their own."""
    spread = pl.col("score").std().over("query_id").fill_null(0)
    return (pl.col("score") - pl.col("score").mean().over("query_id")) / pl.when(spread > 0).then(spread).otherwise(1)


def _with_siblings(rows: pl.DataFrame) -> pl.DataFrame:
    """Where the label stands in the pools of the question's other wrong answers: which answer it fits best."""
    others = rows.select("question_id", "query_id", "label_id", "pool_rank")
    pairs = others.join(others, on=["question_id", "label_id"], suffix="_else")
    best = (
        pairs.filter(pl.col("query_id") != pl.col("query_id_else"))
        .group_by(KEY)
        .agg(sibling_rank=pl.col("pool_rank_else").min())
    )
    return rows.join(best, on=KEY, how="left", maintain_order="left").with_columns(
        sibling_lead=pl.col("sibling_rank") - pl.col("pool_rank")
    )


def _with_label_stats(rows: pl.DataFrame, stats: pl.DataFrame) -> pl.DataFrame:
    """How often training shows the label: at all, in the query's subject, in its construct. Zero is a count here, no gap."""
    for column, place in {
        "label_count": [],
        "label_subject_count": ["subject"],
        "label_construct_count": ["construct"],
    }.items():
        counts = stats.group_by("label_id", *place).agg(pl.col("count").sum().alias(column))
        rows = rows.join(counts, on=["label_id", *place], how="left", maintain_order="left").with_columns(
            pl.col(column).fill_null(0)
        )
    return rows


def _texts(rows: pl.DataFrame) -> list[pl.Series]:
    """What the texts alone say of a pair: lengths, and the label's share of words that the question's parts hold too."""
    parts = {}
    for row in rows.unique("query_id").iter_rows(named=True):
        question, answers = _words(row["question"]), _words(row["correct"]) | _words(row["wrong"])
        topic = _words(f"{row['construct']} {row['subject']}")
        numbers, operations = filter(NUMBER.fullmatch, question | answers), filter(OPERATION.fullmatch, question)
        parts[row["query_id"]] = (question, topic, answers, frozenset(numbers), frozenset(operations))
    words = {label: _words(label) for label in rows["label"].unique()}
    pairs = zip(rows["label"], rows["query_id"], strict=True)
    shared = [[len(words[label] & part) for part in parts[query_id]] for label, query_id in pairs]
    counts = np.array(shared, dtype=np.int32).reshape(-1, 5)
    sizes = np.array([len(words[label]) for label in rows["label"]], dtype=np.int32)
    shares = counts / np.maximum(sizes, 1)[:, None]
    return [
        pl.Series("label_words", sizes, dtype=pl.Int32),
        rows["question"].str.len_chars().alias("question_chars"),
        rows["wrong"].str.len_chars().alias("wrong_chars"),
        pl.Series("shared_question", shares[:, 0], dtype=pl.Float32),
        pl.Series("shared_topic", shares[:, 1], dtype=pl.Float32),
        pl.Series("shared_answers", shares[:, 2], dtype=pl.Float32),
        pl.Series("shared_numbers", counts[:, 3], dtype=pl.Int32),
        pl.Series("shared_operations", counts[:, 4], dtype=pl.Int32),
    ]


def _words(text: str) -> frozenset[str]:
    """Lower-case words and numbers, with a plural's s taken off."""
    return frozenset(word[:-1] if len(word) > 3 and word.endswith("s") else word for word in re.findall(r"\w+", text.lower()))
