"""A run: what a stage thinks of (query, label) pairs. Casting, order, cuts and fusion are written here, once.

The one tie rule: score down, then label_id up. A rank is derived from it and never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.errors import InputError
from pipeline.schema import QRELS, RUN, SchemaError, check

BLOCK = 1024  # queries scored at a time, so that memory does not grow with the test
DECIMALS = 6  # of a cosine: what lies below depends on where in a batch a row stood, and may not decide a tie
ORDER = {"by": ["query_id", "score", "label_id"], "descending": [False, True, False]}


def run(frame: pl.DataFrame) -> pl.DataFrame:
    """Any frame with RUN's columns as a run: cast, in the one order, checked.

    Raises `SchemaError` on a null, a NaN or a pair given twice.
    """
    cast = frame.select(pl.col(name).cast(dtype) for name, dtype in RUN.columns.items())
    return check(cast.sort(**ORDER), RUN)  # type: ignore[arg-type]


def ranked(a_run: pl.DataFrame) -> pl.DataFrame:
    """The run with a column `rank`, from 1, inside each query."""
    return a_run.sort(**ORDER).with_columns(  # type: ignore[arg-type]
        (pl.int_range(pl.len(), dtype=pl.Int32).over("query_id") + 1).alias("rank")
    )


def top_k(a_run: pl.DataFrame, k: int) -> pl.DataFrame:
    """The k best pairs of each query."""
    return ranked(a_run).filter(pl.col("rank") <= k).drop("rank")


def fuse(runs: Mapping[str, pl.DataFrame], k: int) -> pl.DataFrame:
    """Reciprocal rank fusion: the sum over runs of 1 / (k + rank).

    Source: Cormack, Clarke and Büttcher, "Reciprocal rank fusion outperforms Condorcet ..." (SIGIR 2009); k = 60 there.
    """
    shares = [ranked(each).select(*QRELS.columns, score=1.0 / (k + pl.col("rank"))) for each in runs.values()]
    # sorted, because the order of three summands can change the last bit, and with it a tie
    return run(pl.concat(shares).group_by(list(QRELS.key)).agg(pl.col("score").sort().sum()))


def stack(upper: pl.DataFrame, lower: pl.DataFrame) -> pl.DataFrame:
    """Last stage wins: `upper`'s pairs in its order, then what only `lower` has, in its order. Scores become -rank."""
    first = ranked(upper).select(*QRELS.columns, "rank", layer=pl.lit(0))
    rest = ranked(lower).join(upper, on=QRELS.key, how="anti").select(*QRELS.columns, "rank", layer=pl.lit(1))
    both = pl.concat([first, rest]).sort("query_id", "layer", "rank")
    return run(both.with_columns(score=-pl.int_range(pl.len()).over("query_id").cast(pl.Float32)))


def nearest(queries: pl.DataFrame, catalog: pl.DataFrame, cosine: Callable[[slice], np.ndarray], top_k: int) -> pl.DataFrame:
    """The run of the `top_k` labels a query; `cosine` gives the matrix (block, n_labels) of a slice of the queries.

    At the cut the tie rule holds: of equal scores the smaller label_id stays.
    """
    ordered = catalog.with_row_index("column").sort("label_id")
    columns, ids = ordered["column"].to_numpy(), ordered["label_id"].to_numpy()
    parts = []
    for start in range(0, queries.height, BLOCK):
        names = queries["query_id"][start : start + BLOCK]
        scores = cosine(slice(start, start + len(names)))[:, columns].astype(np.float32).round(DECIMALS)
        chosen = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        parts.append(
            pl.DataFrame(
                {
                    "query_id": np.repeat(names.to_numpy(), chosen.shape[1]),
                    "label_id": ids[chosen].ravel(),
                    "score": np.take_along_axis(scores, chosen, 1).ravel(),
                }
            )
        )
    return run(pl.concat(parts))


def stored_run(file: Path, remedy: str) -> pl.DataFrame:
    """The run of a parquet file. Raises `InputError`, which ends with `remedy`, for a file that holds none."""
    try:
        return run(pl.read_parquet(file))
    except (OSError, SchemaError, pl.exceptions.PolarsError) as error:
        raise InputError(
            file, found=str(error).splitlines()[0], wanted="a run: query_id, label_id, score", remedy=remedy
        ) from None
