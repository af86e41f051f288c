"""Nearest labels by the cosine of a bi-encoder's vectors, exact: a few thousand labels need no index."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline import prompts
from pipeline.config import Dense
from pipeline.data import read_notes
from pipeline.models import sources
from pipeline.models.encoder import Encoder
from pipeline.retrieve.prototypes import prototypes
from pipeline.runs import nearest


def query_texts(queries: pl.DataFrame, spec: Dense) -> list[str]:
    """What the encoder reads of each query."""
    return [spec.instruction + prompts.dense_query(row, spec.template) for row in queries.iter_rows(named=True)]


def label_texts(catalog: pl.DataFrame, spec: Dense) -> list[str]:
    """What the encoder reads of each label: its name and, where the spec names a file of notes, its note."""
    notes = read_notes(sources.shipped(spec.notes)) if spec.notes else {}
    named = catalog.select("label_id", "label").iter_rows()
    return [prompts.dense_label(f"{label} {notes.get(label_id, '')}", spec.template) for label_id, label in named]


def search(
    queries: pl.DataFrame, catalog: pl.DataFrame, encoder: Encoder, spec: Dense, examples: pl.DataFrame | None = None
) -> pl.DataFrame:
    """The run of the `top_k` labels by cosine for each query; with EXAMPLES a label is its prototype."""
    # in double precision, because in single the last digits, and so ties, hang on the order of the rows
    labels = encoder.encode(label_texts(catalog, spec), "label").astype(np.float64)
    if examples is not None and examples.height:
        told = encoder.encode(query_texts(examples, spec), "query").astype(np.float64)[examples["counts"].to_numpy()]
        labels = prototypes(labels, told, catalog, examples.filter("counts"), spec)
    texts = encoder.encode(query_texts(queries, spec), "query")
    return nearest(queries, catalog, lambda rows: texts[rows].astype(np.float64) @ labels.T, spec.top_k)
