"""What a blend's score hangs on: each feature's gain in the trees, and what is lost when its values are mixed up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from pipeline import blend
from pipeline.chain import Part
from pipeline.features import group
from pipeline.metrics import per_query
from pipeline.runs import run

if TYPE_CHECKING:
    from lightgbm import Booster


def importance(parts: Sequence[Part], booster: Booster, golds: pl.DataFrame, seed: int = 0) -> list[dict[str, Any]]:
    """A row a feature: `feature`, `group`, `gain` (its share of the final booster's) and `permutation`.

    `permutation` is the MAP@25 that the out-of-fold ranking loses when the feature's values are drawn anew from its fold.
    Source: Breiman, "Random Forests" (2001), on whole groups' score instead of a tree's.
    """
    names, gains = booster.feature_name(), booster.feature_importance("gain")
    whole = _score(parts, golds, None, seed)
    rows = [
        {
            "feature": name,
            "group": group(name),
            "gain": float(gain / (gains.sum() or 1)),
            "permutation": whole - _score(parts, golds, name, seed),
        }
        for name, gain in tqdm(list(zip(names, gains, strict=True)), desc="importance", unit="feature")
    ]
    return sorted(rows, key=lambda row: -row["gain"])


def _score(parts: Sequence[Part], golds: pl.DataFrame, mixed: str | None, seed: int) -> float:
    rng = np.random.default_rng(seed)
    runs = []
    for part in parts:
        rows = part.rows
        if mixed:
            rows = rows.with_columns(rows[mixed].gather(rng.permutation(rows.height)))
        runs.append(blend.apply(part.booster, rows))
    return float(per_query(run(pl.concat(runs)), golds)["ap"].mean())  # type: ignore[arg-type]
