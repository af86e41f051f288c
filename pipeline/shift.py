"""Label shift: a test shows more labels that training never did than the folds, or fewer, and the blend must know.

On out-of-fold rows the blend's scores become probabilities within a query, by a scale and the odds of the unseen labels.
Another share of unseen labels is then another prior, and the share itself can be read off a test without labels. A fold
shows fewer labels than all of training does, so the same share falls to more labels there: a prior is a class's, and every
label of the class has an even part of it.
Source: Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities" (2002).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.blend import with_golds
from pipeline.errors import InputError
from pipeline.runs import run
from pipeline.schema import QRELS

LEAST = 0.01  # a share of none or all would rule labels out for ever
ROUNDS, ENOUGH = 500, 1e-5


@dataclass(frozen=True)
class Shift:
    """Within a query, P(label) is in proportion to exp(scale * score + odds where unseen) / the labels of its class.

    `share` is the folds' own of unseen labels, at which scale and odds were fitted.
    """

    scale: float
    odds: float
    share: float


def marked(ranking: pl.DataFrame, shown: pl.DataFrame, labels: int) -> pl.DataFrame:
    """The RUN with two columns: `unseen`, whether no row of the frame `shown` has the label, and `even`, the logarithm of the
    label's even part of its class. There are so many `labels` in all."""
    known = shown.select("label_id").unique().with_columns(unseen=pl.lit(False))
    seen, unseen = (-math.log(max(count, 1)) for count in (known.height, labels - known.height))
    return ranking.join(known, on="label_id", how="left", maintain_order="left").with_columns(
        pl.col("unseen").fill_null(True),
        even=pl.when(pl.col("unseen").is_null()).then(unseen).otherwise(seen),
    )


def fit(ranking: pl.DataFrame, qrels: pl.DataFrame) -> Shift:
    """The likeliest scale and odds for a `marked` out-of-fold run: a conditional logit with two weights.

    Queries whose gold the run lacks say nothing. Raises `InputError` when none is left.
    """
    from scipy.optimize import minimize

    rows = with_golds(ranking, qrels)
    if rows.is_empty():
        raise InputError(
            "the out-of-fold ranking",
            found="no query whose label it holds",
            wanted="some",
            remedy="Raise pool or fit.questions.",
        )
    table, even, gold, starts = _table(rows), rows["even"].to_numpy(), rows["gold"].to_numpy() == 1, _starts(rows)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        chance, log_chance = _chances(table @ weights + even, starts)
        expected = np.add.reduceat(table * chance[:, None], starts)
        slope = table[gold] - np.repeat(expected, np.add.reduceat(gold.astype(int), starts), axis=0)
        return -float(log_chance[gold].mean()), -slope.mean(axis=0)

    found = minimize(loss, np.array([1.0, 0.0]), jac=True, bounds=[(1e-3, None), (None, None)], method="L-BFGS-B").x
    share = float(rows.filter(pl.col("gold") == 1)["unseen"].mean())  # type: ignore[arg-type]
    return Shift(float(found[0]), float(found[1]), min(max(share, LEAST), 1 - LEAST))


def corrected(ranking: pl.DataFrame, shift: Shift, share: float) -> pl.DataFrame:
    """The RUN of a `marked` one as it would be where `share` of the answers have unseen labels: log-probabilities, unnormed."""
    return run(ranking.with_columns(score=_logits(shift, share)))


def estimate(ranking: pl.DataFrame, shift: Shift) -> float:
    """The share of unseen labels among the queries of a `marked` run, from its scores alone, by expectation maximisation."""
    rows = ranking.sort(QRELS.key)
    starts, unseen, share = _starts(rows), rows["unseen"].to_numpy(), shift.share
    for _ in range(ROUNDS):
        chance, _ = _chances(rows.select(_logits(shift, share)).to_series().to_numpy(), starts)
        before, share = share, float(np.clip(chance[unseen].sum() / len(starts), LEAST, 1 - LEAST))
        if abs(share - before) < ENOUGH:
            break
    return share


def _logits(shift: Shift, share: float) -> pl.Expr:
    wanted = min(max(share, LEAST), 1 - LEAST)
    move = np.log(wanted / (1 - wanted)) - np.log(shift.share / (1 - shift.share))
    return pl.col("score").cast(pl.Float64) * shift.scale + pl.col("unseen") * float(shift.odds + move) + pl.col("even")


def _table(rows: pl.DataFrame) -> np.ndarray:
    return rows.select(pl.col("score").cast(pl.Float64), pl.col("unseen").cast(pl.Float64)).to_numpy()


def _starts(rows: pl.DataFrame) -> np.ndarray:
    """Where each query's rows begin, in rows sorted by query."""
    return np.flatnonzero(rows["query_id"].is_first_distinct().to_numpy())


def _chances(logits: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row's probability within its query, and its logarithm."""
    sizes = np.diff(np.append(starts, len(logits)))
    top = logits - np.repeat(np.maximum.reduceat(logits, starts), sizes)
    log_chance = top - np.repeat(np.log(np.add.reduceat(np.exp(top), starts)), sizes)
    return np.exp(log_chance), log_chance
