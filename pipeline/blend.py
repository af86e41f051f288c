"""The blender: LightGBM's lambdarank over the features, a group a query.

Source of the objective: Burges, "From RankNet to LambdaRank to LambdaMART" (2010).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipeline.config import Blend
from pipeline.errors import InputError
from pipeline.metrics import CUTOFF
from pipeline.runs import run
from pipeline.schema import QRELS

if TYPE_CHECKING:
    from lightgbm import Booster

KEY = list(QRELS.key)


def fit(features: pl.DataFrame, qrels: pl.DataFrame, spec: Blend) -> Booster:
    """A booster that ranks the golds of `qrels` up. Queries whose gold is not among their candidates teach nothing and go.

    Raises `InputError` when none is left.
    """
    import lightgbm

    rows = features.join(qrels.select(*KEY, gold=1), on=KEY, how="left", maintain_order="left")
    rows = rows.with_columns(pl.col("gold").fill_null(0)).filter(pl.col("gold").max().over("query_id") == 1).sort(KEY)
    if rows.is_empty():
        raise InputError(
            "the blender's training rows",
            found="no query whose label is among its candidates",
            wanted="some",
            remedy="Raise fit.questions or pool, or set blend=null.",
        )
    groups = rows.group_by("query_id", maintain_order=True).len()["len"].to_numpy()
    names = [name for name in features.columns if name not in KEY]
    table = lightgbm.Dataset(matrix(rows, names), rows["gold"].to_numpy(), group=groups, feature_name=names)
    settings = {
        "objective": "lambdarank",
        "lambdarank_truncation_level": CUTOFF + 5,
        "learning_rate": spec.learning_rate,
        "num_leaves": spec.leaves,
        "min_data_in_leaf": spec.min_rows,
        "feature_fraction": 0.8,
        "seed": spec.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,  # small tables; and sums in one order, so that the same rows give the same trees
        "verbosity": -1,
    }
    return lightgbm.train(settings, table, num_boost_round=spec.rounds)


def apply(booster: Booster, features: pl.DataFrame) -> pl.DataFrame:
    """The run of the booster's scores. Raises `InputError` when the features are not those that it was fitted on."""
    names = booster.feature_name()
    if missing := [name for name in names if name not in features.columns]:
        raise InputError(
            "the bundle's booster",
            found=f"no columns {missing} among the features",
            wanted="the stages that it was fitted on",
            remedy="Use the bundle's own config, or fit again.",
        )
    scores = np.asarray(booster.predict(matrix(features, names), num_threads=1))
    return run(features.select(KEY).with_columns(score=pl.Series(scores)))


def matrix(features: pl.DataFrame, names: list[str]) -> np.ndarray:
    """(n, n_features) float64 with NaN for null, as LightGBM wants it."""
    return features.select(pl.col(names).cast(pl.Float64).fill_null(float("nan"))).to_numpy()
