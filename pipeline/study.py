"""A study: queries whose answers are known, what every stage made of them, and what follows. A folder that reports read.

study.json (stages in their order, scores, importance, shift, seconds)  config.yaml  queries, catalog, qrels, seen: parquet
runs/<stage>.parquet
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from pipeline.config import Config, dump, resolved
from pipeline.errors import InputError
from pipeline.runs import stored_run
from pipeline.schema import CATALOG, QRELS, QUERIES, SchemaError, check
from pipeline.store import new_folder

RECORD = "study.json"
FRAMES = {"queries": QUERIES, "catalog": CATALOG, "qrels": QRELS, "seen": QRELS}
REMEDY = "Give a folder that `eedi cv` or `eedi submit` wrote."


@dataclass(frozen=True)
class Study:
    """`stages` are full rankings in the order of the tables, the last of them the one to submit.

    `seen` is the part of `qrels` whose labels the makers of the runs could learn. `scores` are `metrics.evaluate`'s rows with
    `stage`, `seconds` and `kept`; `folds` has a row a fold (fold, questions, answers, and unseen, the share that was reached),
    `importance` a row a feature (feature, group, gain, permutation), `shift` a row an assumed share of unseen labels (share,
    then a MAP@25 for each way of ranking).
    """

    config: Config
    queries: pl.DataFrame
    catalog: pl.DataFrame
    qrels: pl.DataFrame
    seen: pl.DataFrame
    stages: Mapping[str, pl.DataFrame]
    scores: Sequence[Mapping[str, Any]]
    folds: Sequence[Mapping[str, Any]] = field(default=())
    importance: Sequence[Mapping[str, Any]] = field(default=())
    shift: Sequence[Mapping[str, float]] = field(default=())


def file_name(stage: str) -> str:
    """A stage's file under runs/."""
    return f"{stage.replace(' ', '-')}.parquet"


def write(study: Study, folder: Path) -> None:
    """Write a new folder. Raises `InputError` if it exists."""
    with new_folder(folder) as new:
        (new / "config.yaml").write_text(dump(study.config), encoding="utf-8")
        for name in FRAMES:
            getattr(study, name).write_parquet(new / f"{name}.parquet")
        (new / "runs").mkdir()
        for stage, ranking in study.stages.items():
            ranking.write_parquet(new / "runs" / file_name(stage))
        told = {name: list(getattr(study, name)) for name in ("scores", "folds", "importance", "shift")}
        record = json.dumps({"stages": list(study.stages), **told}, indent=1)
        (new / RECORD).write_text(record, encoding="utf-8")


def read(folder: Path) -> Study:
    """The study of a folder, or of a submission's.

    Raises `InputError` for a folder that holds none, or not all of it.
    """
    folder = folder if (folder / RECORD).is_file() or not (folder / "cv").is_dir() else folder / "cv"
    try:
        told = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        config = resolved(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")), str(folder / "config.yaml"))
        frames: dict[str, Any] = {
            name: check(pl.read_parquet(folder / f"{name}.parquet"), schema) for name, schema in FRAMES.items()
        }
        stages = {stage: stored_run(folder / "runs" / file_name(stage), REMEDY) for stage in told.pop("stages")}
        return Study(config=config, stages=stages, **frames, **told)
    except (OSError, ValueError, KeyError, TypeError, SchemaError, yaml.YAMLError, pl.exceptions.PolarsError) as error:
        raise InputError(folder, found=str(error).splitlines()[0], wanted="a study", remedy=REMEDY) from None
