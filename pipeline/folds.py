"""Seeded folds, grouped by question text, with a target share of unseen labels.

It knows nothing of features or models: it says which questions form a fold and which labels that fold's makers may see.
"""

from __future__ import annotations

from random import Random

import numpy as np
import polars as pl

from pipeline.data import same_text
from pipeline.errors import InputError
from pipeline.schema import FOLDS, check, question_of


def make_folds(questions: pl.DataFrame, n: int, seed: int) -> pl.DataFrame:
    """FOLDS: every question in one of `n` folds, questions with the same normalised text in the same one.

    Raises `InputError` for fewer texts than folds.
    """
    from sklearn.model_selection import GroupKFold

    groups = questions.select(same_text().rank("dense")).to_series().to_numpy()
    if (texts := len(set(groups))) < n:
        raise InputError(
            "the training questions",
            found=f"{texts} different texts",
            wanted=f"one for each of {n} folds at least",
            remedy="Lower fit.folds, or give more of train.csv.",
        )
    fold = np.empty(questions.height, dtype=np.int32)
    for i, (_, held) in enumerate(GroupKFold(n, shuffle=True, random_state=seed).split(groups, groups=groups)):
        fold[held] = i
    return check(questions.select("question_id").with_columns(fold=pl.Series(fold)), FOLDS)


def training_side(qrels: pl.DataFrame, folds: pl.DataFrame, held: set[int], unseen: float, seed: int) -> pl.DataFrame:
    """The QRELS that whoever scores the folds `held` may learn from.

    Those folds' rows go, and then whole labels, drawn by `seed`, until the share of the held rows whose label is left
    unseen reaches `unseen`. A hidden test has labels that training never shows; a plain fold has too few of them, and
    what is fitted under it learns to favour the seen.
    """
    where = qrels.with_columns(question_id=question_of(pl.col("query_id"))).join(
        folds, on="question_id", how="left", maintain_order="left"
    )
    inside = where["fold"].is_in(list(held)).fill_null(False)
    kept, rows = qrels.filter(~inside), qrels.filter(inside)["label_id"].value_counts().sort("label_id")
    seen = rows.filter(pl.col("label_id").is_in(kept["label_id"].unique().implode()))
    labels = [(row["label_id"], row["count"]) for row in seen.iter_rows(named=True)]
    Random(f"{seed}:{sorted(held)}").shuffle(labels)
    allowed = (1 - unseen) * int(rows["count"].sum())
    hidden, still_seen = set(), sum(count for _, count in labels)
    for label, count in labels:
        if still_seen <= allowed:
            break
        hidden.add(label)
        still_seen -= count
    return kept.filter(~pl.col("label_id").is_in(list(hidden)))
