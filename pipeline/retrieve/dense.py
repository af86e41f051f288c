"""Nearest labels by the cosine of a bi-encoder's vectors, exact: a few thousand labels need no index."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from pipeline import prompts
from pipeline.models.encoder import Encoder
from pipeline.runs import run

BLOCK = 1024  # queries scored at a time, so that memory does not grow with the test
DECIMALS = 6  # of a cosine: what lies below depends on where in a batch a row stood, and may not decide a tie


def search(queries: pl.DataFrame, catalog: pl.DataFrame, encoder: Encoder, template: str, top_k: int) -> pl.DataFrame:
    """The run of the `top_k` labels by cosine for each query."""
    labels = encoder.encode([prompts.dense_label(label, template) for label in catalog["label"]], "label")
    texts = encoder.encode([prompts.dense_query(row, template) for row in queries.iter_rows(named=True)], "query")
    return best(queries, catalog, lambda rows: texts[rows] @ labels.T, top_k)


def best(queries: pl.DataFrame, catalog: pl.DataFrame, score: Callable[[slice], np.ndarray], top_k: int) -> pl.DataFrame:
    """The run of the `top_k` labels a query, given the score matrix (block, n_labels) of a slice of queries.

    At the cut the tie rule holds: of equal scores the smaller label_id stays.
    """
    ordered = catalog.with_row_index("column").sort("label_id")
    columns, ids = ordered["column"].to_numpy(), ordered["label_id"].to_numpy()
    parts = []
    for start in range(0, queries.height, BLOCK):
        names = queries["query_id"][start : start + BLOCK]
        scores = score(slice(start, start + len(names)))[:, columns].astype(np.float32).round(DECIMALS)
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
