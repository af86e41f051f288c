"""A training for each fold in turn, and the out-of-fold run that they make together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.config import Config
from pipeline.data import Competition
from pipeline.errors import InputError
from pipeline.metrics import evaluate
from pipeline.models.encoder import RECORD
from pipeline.runs import run
from pipeline.store import refuse_existing, replacing
from pipeline.train.folder import RUN
from pipeline.train.rows import training_rows

Training = Callable[[Competition, Config, int, Path], object]


def each_fold(train: Training, competition: Competition, config: Config, out: Path) -> list[dict[str, Any]]:
    """`train` with each fold held out in turn, into `out`/fold0 and so on; the out-of-fold run, there too, and its scores.

    Folds that are there already are taken as they are, so that a killed command goes on. Raises `InputError` for one that was
    trained with other settings, and where the run stands already.
    """
    refuse_existing(out / RUN)
    runs, golds, seen = [], [], []
    for fold in range(config.fit.folds):
        if not (folder := out / f"fold{fold}").is_dir():
            train(competition, config, fold, folder)
        elif json.loads((folder / RECORD).read_text(encoding="utf-8"))["config"] != json.loads(json.dumps(config.model_dump())):
            raise InputError(
                folder,
                found="a training with other settings",
                wanted="this command's",
                remedy="Choose another --out, or remove the folder.",
            )
        rows = training_rows(competition, config.fit, fold)
        runs.append(pl.read_parquet(out / f"fold{fold}" / RUN))
        golds.append(rows.qrels)
        seen.append(rows.seen)
    ranking = run(pl.concat(runs))
    with replacing(out / RUN) as file:
        ranking.write_parquet(file)
    return evaluate(ranking, pl.concat(golds), pl.concat(seen)).to_dicts()
