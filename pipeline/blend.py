"""The blender: LightGBM over the features, its lambdarank with a group a query, or each pair as right or wrong.

Source of the objective: Burges, "From RankNet to LambdaRank to LambdaMART" (2010).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipeline.config import Blend
from pipeline.errors import InputError
from pipeline.features import group
from pipeline.metrics import CUTOFF
from pipeline.runs import run
from pipeline.schema import QRELS

if TYPE_CHECKING:
    from lightgbm import Booster

KEY = list(QRELS.key)


def fit(features: pl.DataFrame, qrels: pl.DataFrame, spec: Blend) -> Booster:
    """A booster that ranks the golds of `qrels` up. Queries whose gold is not among their candidates teach nothing and go.

    Raises `InputError` when none is left, or no feature.
    """
    import lightgbm

    names = [name for name in features.columns if name not in KEY and group(name) not in spec.without]
    if not names:
        raise InputError(
            "blend.without", found="every group of features", wanted="some left", remedy="Name fewer, or set blend=null."
        )
    rows = with_golds(features, qrels)
    if rows.is_empty():
        raise InputError(
            "the blender's training rows",
            found="no query whose label is among its candidates",
            wanted="some",
            remedy="Raise fit.questions or pool, or set blend=null.",
        )
    sizes = rows.group_by("query_id", maintain_order=True).len()["len"].to_numpy()
    table = lightgbm.Dataset(matrix(rows, names), rows["gold"].to_numpy(), group=sizes, feature_name=names)
    settings = {
        "objective": spec.objective,
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


def with_golds(pairs: pl.DataFrame, qrels: pl.DataFrame) -> pl.DataFrame:
    """The pairs of the queries whose gold is among them, with a column `gold` (0 or 1), query by query."""
    rows = pairs.join(qrels.select(*KEY, gold=1), on=KEY, how="left").with_columns(pl.col("gold").fill_null(0))
    return rows.filter(pl.col("gold").max().over("query_id") == 1).sort(KEY)


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


def linear(folds: Sequence[tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]]) -> pl.DataFrame:
    """The rival that has no trees: a sum of the runs' scores with weights that are never negative, by least squares.

    `folds` are (the fold's features, the others' features, the others' golds). Scores count in standard deviations from their
    query's mean; what a stage did not score counts as its query's least.
    """
    from sklearn.linear_model import LinearRegression

    runs = []
    for rows, others, qrels in folds:
        names = [name for name in rows.columns if name.endswith("_score")]
        gold = others.join(qrels.select(*KEY, gold=1), on=KEY, how="left", maintain_order="left")["gold"].fill_null(0)
        model = LinearRegression(positive=True).fit(_standard(others, names), gold.to_numpy())
        runs.append(rows.select(KEY).with_columns(score=pl.Series(model.predict(_standard(rows, names)))))
    return run(pl.concat(runs))


def _standard(rows: pl.DataFrame, names: list[str]) -> np.ndarray:
    mean, spread, least = (getattr(pl.col(names), each)().over("query_id") for each in ("mean", "std", "min"))
    filled = rows.with_columns(pl.col(names).fill_null(least).fill_null(0.0))
    return filled.select(((pl.col(names) - mean) / (spread + 1e-9)).fill_null(0.0)).to_numpy()
