"""Seeded folds, grouped by question text and even in subjects, with a target share of unseen labels.

It knows nothing of features or models: it says which questions form a fold, which labels that fold's makers may see, and
which answers of the fold count.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from random import Random

import polars as pl

from pipeline.data import same_text
from pipeline.errors import InputError
from pipeline.schema import FOLDS, check, question_of

log = logging.getLogger(__name__)

TOLERANCE = 0.1  # how far a fold's share of unseen labels may stay from its target: small folds have few labels to move


@dataclass(frozen=True)
class Split:
    """QRELS on the two sides of what is held out: what its makers may learn from, and the answers that count."""

    train: pl.DataFrame
    held: pl.DataFrame

    @property
    def unseen(self) -> float:
        """The share of the held answers whose label the training side never shows."""
        return self.held.join(self.train, on="label_id", how="anti").height / self.held.height


def make_folds(questions: pl.DataFrame, n: int, seed: int) -> pl.DataFrame:
    """FOLDS: every question in one of `n` folds, questions with the same normalised text in the same one.

    Each subject's texts, in an order drawn by `seed`, are dealt out in turn, so the folds are of one size and mixture.
    Raises `InputError` for fewer texts than folds.
    """
    texts = questions.select("question_id", "subject", text=same_text())
    groups = texts.group_by("text").agg(pl.col("subject").min()).sort("text")
    if groups.height < n:
        raise InputError(
            "the training questions",
            found=f"{groups.height} different texts",
            wanted=f"one for each of {n} folds at least",
            remedy="Lower fit.folds, or give more of train.csv.",
        )
    order = list(range(groups.height))
    Random(seed).shuffle(order)
    dealt = groups[order].sort("subject", maintain_order=True).with_columns(fold=pl.int_range(pl.len(), dtype=pl.Int32) % n)
    return check(texts.join(dealt, on="text", maintain_order="left").select(*FOLDS.columns), FOLDS)


def split(qrels: pl.DataFrame, folds: pl.DataFrame, held: set[int], unseen: float, seed: int) -> Split:
    """The two sides when the folds `held` are held out, brought to a share of unseen labels, drawn by `seed`.

    A hidden test has labels that training never shows; a plain fold has too few of them, and what is fitted under it learns
    to favour the seen. So whole labels are hidden from the training side until the share of the held answers whose label is
    unseen is as near to `unseen` as it gets. Where a plain fold has more of them than wanted, held answers are left out.
    """
    where = qrels.with_columns(question_id=question_of(pl.col("query_id"))).join(
        folds, on="question_id", how="left", maintain_order="left"
    )
    inside = where["fold"].is_in(list(held)).fill_null(False)
    train, rows = qrels.filter(~inside), qrels.filter(inside)
    shown, random = set(train["label_id"]), Random(f"{seed}:{sorted(held)}")
    count = Counter(rows["label_id"].sort().to_list())
    seen, strange = ([label for label in count if (label in shown) is known] for known in (True, False))
    random.shuffle(seen)
    random.shuffle(strange)
    total, lacking = rows.height, sum(count[label] for label in strange)
    hidden, dropped = set(), set()
    for label in seen:
        if lacking + count[label] / 2 <= unseen * total:
            hidden.add(label)
            lacking += count[label]
    if not hidden and lacking < total:  # where none is seen, leaving answers out would leave none
        for label in strange:
            if (lacking - count[label] / 2) >= unseen * (total - count[label] / 2):
                dropped.add(label)
                lacking, total = lacking - count[label], total - count[label]
    return Split(
        train.filter(~pl.col("label_id").is_in(list(hidden))),
        rows.filter(~pl.col("label_id").is_in(list(dropped))),
    )


def one_out(qrels: pl.DataFrame, folds: pl.DataFrame, fold: int, unseen: float, seed: int, strict: bool) -> Split:
    """`split` for one fold that is to be scored; it says, or `strict` raises `InputError`, that a share is out of reach."""
    sides = split(qrels, folds, {fold}, unseen, seed)
    if sides.held.height and abs(sides.unseen - unseen) > TOLERANCE:
        if strict:
            raise InputError(
                f"the share of unseen labels in fold {fold}",
                found=f"{sides.unseen:.2f} as the nearest share, of {sides.held.height} answers",
                wanted=f"{unseen:.2f}",
                remedy="Set fit.unseen near to that, lower fit.folds, or give more of train.csv.",
            )
        log.warning("fold %d has %.0f%% unseen labels, %.0f%% wanted: no nearer", fold, 100 * sides.unseen, 100 * unseen)
    return sides
