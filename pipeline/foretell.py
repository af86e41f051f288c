"""What cross-validation foretells of questions that were put aside, and what they then score.

Each part of the questions is a test once: everything is fitted on the others, whose out-of-fold score, at that test's share of
unseen labels, is what a Kaggler would have gone by.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import polars as pl

from pipeline import flow
from pipeline.config import Config
from pipeline.data import Competition
from pipeline.errors import InputError
from pipeline.folds import make_folds, one_out
from pipeline.metrics import interval, per_query, reweighted
from pipeline.scoring import FUSION
from pipeline.store import Store
from pipeline.train.rows import labelled

log = logging.getLogger(__name__)


def foretold(competition: Competition, config: Config, parts: int, unseen: float, store: Store) -> list[dict[str, Any]]:
    """A row a part and stage, the retrievers' fusion and the blend, then one for all parts together.

    Columns: part, stage, answers, unseen (the share that was reached), foretold and scored (MAP@25), low and high (the interval
    of scored), difference (scored minus foretold). Raises `InputError` without a blender, and where the parts cannot be made.
    """
    if config.blend is None:
        raise InputError("blend=null", found="no blender", wanted="one, whose score is foretold", remedy="Leave it out.")
    train, qrels = labelled(competition)
    folds = make_folds(train, parts, config.fit.seed)
    rows: list[dict[str, Any]] = []
    scored: dict[str, list[pl.DataFrame]] = {FUSION: [], flow.BLEND: []}
    for part in range(parts):
        log.info("part %d of %d is put aside", part + 1, parts)
        aside = train.join(folds.filter(pl.col("fold") == part), on="question_id", how="semi", maintain_order="left")
        sides = one_out(qrels, folds, part, unseen, config.fit.seed, strict=True)
        others = train.join(aside, on="question_id", how="anti", maintain_order="left")
        there = replace(competition, test=aside, train=others, train_qrels=sides.train, truth=sides.held)
        bundle = flow.fit(there, config, store)
        predicted, study = flow.predict(there, bundle, store), bundle.study
        assert study
        for stage, values in scored.items():
            told = reweighted(per_query(study.stages[stage], study.qrels), study.seen, sides.unseen)[0]
            values.append(per_query(predicted.stages[stage], sides.held).with_columns(foretold=told, unseen=sides.unseen))
            rows.append(_row(part, stage, values[-1]))
    return [*rows, *(_row("all", stage, pl.concat(values)) for stage, values in scored.items())]


def _row(part: int | str, stage: str, values: pl.DataFrame) -> dict[str, Any]:
    (told, share, got), (low, high) = values.select("foretold", "unseen", "ap").mean().row(0), interval(values)
    counts = {"part": str(part), "stage": stage, "answers": values.height, "unseen": share}
    return counts | {"foretold": told, "scored": got, "low": low, "high": high, "difference": got - told}
