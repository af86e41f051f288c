"""What a model may learn from: the training side of a fold, and questions that were written for training.

It knows no model. Truth comes in by `data.read_qrels`, and leaves as one label a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from pipeline.config import Fit, Training
from pipeline.data import WRITTEN, Competition, queries_of, read_examples
from pipeline.errors import InputError
from pipeline.folds import make_folds, one_out
from pipeline.models import sources
from pipeline.schema import QUERIES


@dataclass(frozen=True)
class Rows:
    """`train`: QUERIES with a `label_id`, a row for each label. `queries` and `qrels`: the fold that is held out, if any.

    `shown` are the QRELS of the training side, `seen` is the part of `qrels` whose labels stand there. A label that only
    written questions show counts as unseen: no pupil's answer taught it.
    """

    train: pl.DataFrame
    queries: pl.DataFrame
    qrels: pl.DataFrame
    shown: pl.DataFrame
    seen: pl.DataFrame


def training_rows(competition: Competition, fit: Fit, fold: int | None, written: Sequence[Path] = ()) -> Rows:
    """The rows to learn from when the questions of `fold` are held out (none, where it is null).

    Raises `InputError` for a folder without labelled questions, and for a fold that there is not.
    """
    train, qrels = labelled(competition)
    queries = queries_of(train)
    held, side = qrels.clear(), qrels
    outside = train.clear()
    if fold is not None:
        if not 0 <= fold < fit.folds:
            raise InputError("--fold", found=str(fold), wanted=f"0 to {fit.folds - 1}", remedy="Or raise fit.folds.")
        folds = make_folds(train, fit.folds, fit.seed)
        sides = one_out(qrels, folds, fold, fit.unseen, fit.seed, strict=True)
        held, side = sides.held, sides.train
        outside = train.join(folds.filter(pl.col("fold") == fold), on="question_id", how="semi")
    parts = [_labelled(queries, side)]
    asked = pl.concat([competition.test, outside])
    parts.append(read_examples(written, competition.catalog, asked).filter("counts").drop("counts"))
    return Rows(
        train=pl.concat(parts),
        queries=queries.join(held, on="query_id", how="semi", maintain_order="left"),
        qrels=held,
        shown=side,
        seen=held.join(side, on="label_id", how="semi"),
    )


def rows_for(recipe: Training, competition: Competition, fit: Fit, fold: int | None) -> Rows:
    """`training_rows` that `recipe` wants. Raises `InputError` where nothing is left to learn from."""
    rows = training_rows(competition, fit, fold, [sources.shipped(name) for name in recipe.written])
    if not recipe.repeat:
        rows = replace(rows, train=rows.train.filter(pl.col("question_id").str.contains(WRITTEN, literal=True)))
    if rows.train.is_empty():
        raise InputError(
            f"{recipe.room}.repeat=0",
            found="no written question for this catalogue",
            wanted="something to learn from",
            remedy=f"Name files in {recipe.room}.written, or raise repeat.",
        )
    return rows


def repeated(question_ids: Sequence[str], repeat: int) -> list[int]:
    """Their places as they stand in an epoch: the competition's own `repeat` times."""
    return [i for i, name in enumerate(question_ids) for _ in range(1 if WRITTEN in name else repeat)]


def labelled(competition: Competition) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The training QUESTIONS and their QRELS. Raises `InputError` where there are none."""
    train, qrels = competition.train, competition.train_qrels
    if train is None or qrels is None or qrels.is_empty():
        raise InputError(
            "the training data",
            found="no train.csv with labels",
            wanted="questions whose wrong answers name misconceptions",
            remedy="Give --data a folder with the competition's train.csv.",
        )
    return train, qrels


def _labelled(queries: pl.DataFrame, qrels: pl.DataFrame) -> pl.DataFrame:
    return queries.join(qrels, on="query_id", maintain_order="left").select(*QUERIES.columns, "label_id")
