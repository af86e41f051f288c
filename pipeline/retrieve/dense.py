"""Nearest labels by the cosine of a bi-encoder's vectors, exact: a few thousand labels need no index."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline import prompts
from pipeline.models.encoder import Encoder
from pipeline.runs import nearest


def search(queries: pl.DataFrame, catalog: pl.DataFrame, encoder: Encoder, template: str, top_k: int) -> pl.DataFrame:
    """The run of the `top_k` labels by cosine for each query."""
    labels = encoder.encode([prompts.dense_label(label, template) for label in catalog["label"]], "label")
    texts = encoder.encode([prompts.dense_query(row, template) for row in queries.iter_rows(named=True)], "query")
    # in double precision, because in single the last digits, and so ties, hang on the order of the rows
    wide = labels.T.astype(np.float64)
    return nearest(queries, catalog, lambda rows: texts[rows].astype(np.float64) @ wide, top_k)
