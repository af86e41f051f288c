"""Nearest labels by the cosine of a bi-encoder's vectors, exact: a few thousand labels need no index."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline import prompts
from pipeline.config import Dense
from pipeline.data import read_notes
from pipeline.models import sources
from pipeline.models.encoder import Encoder
from pipeline.retrieve.prototypes import Labels, weighted
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
    queries: pl.DataFrame,
    catalog: pl.DataFrame,
    encoder: Encoder,
    spec: Dense,
    examples: pl.DataFrame | None = None,
    answers: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The run of the `top_k` labels by cosine for each query, of which EXAMPLES tell, and training answers as such."""
    answers = answers if spec.answers else None
    # in double precision, because in single the last digits, and so ties, hang on the order of the rows
    names = encoder.encode(label_texts(catalog, spec), "label").astype(np.float64)
    texts, others = vectors(queries, answers, encoder, spec)
    written = [] if examples is None or examples.is_empty() else [encoder.encode(query_texts(examples, spec), "query")]
    told = np.concatenate([*written, others]).astype(np.float64)
    labels = Labels(names, told, catalog, weighted(examples, answers, spec), spec)
    return nearest(queries, catalog, lambda rows: labels.likeness(texts[rows].astype(np.float64)), spec.top_k)


def vectors(queries: pl.DataFrame, others: pl.DataFrame | None, encoder: Encoder, spec: Dense) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of the queries (n, dim) and of other QUERIES (m, dim); where these hold all of those, they are read once."""
    if others is None or others.is_empty():
        asked = encoder.encode(query_texts(queries, spec), "query")
        return asked, asked[:0]
    known = encoder.encode(query_texts(others, spec), "query")
    place = {query: i for i, query in enumerate(others["query_id"])}
    if all(query in place for query in queries["query_id"]):
        return known[[place[query] for query in queries["query_id"]]], known
    return encoder.encode(query_texts(queries, spec), "query"), known
