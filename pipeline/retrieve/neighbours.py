"""The training answers most like a query. What their labels are is not known here: whoever may know joins them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from pipeline import prompts
from pipeline.config import Dense, Tfidf
from pipeline.data import same_text
from pipeline.runs import nearest
from pipeline.schema import NEIGHBOURS, check
from pipeline.store import Store

Cosine = Callable[[slice], np.ndarray]


def neighbours(queries: pl.DataFrame, others: pl.DataFrame, spec: Tfidf | Dense, k: int, store: Store) -> pl.DataFrame:
    """NEIGHBOURS: the `k` of `others` (QUERIES) nearest to each query, none of a question that reads like its own."""
    cosine = _dense(queries, others, spec, store) if isinstance(spec, Dense) else _tfidf(queries, others, spec)
    texts = pl.concat([queries, others]).select(same_text().rank("dense")).to_series().to_numpy()
    asked, told = texts[: queries.height], texts[queries.height :]

    def apart(rows: slice) -> np.ndarray:
        return np.where(asked[rows, None] == told[None, :], -np.inf, cosine(rows))

    numbered = others.select(
        label_id=pl.int_range(pl.len(), dtype=pl.Int32), other_id="query_id", subject="subject", construct="construct"
    )
    found = nearest(queries, numbered, apart, k).filter(pl.col("score").is_finite())
    mine = queries.select("query_id", own_subject="subject", own_construct="construct")
    return check(
        found.join(numbered, on="label_id", maintain_order="left")
        .join(mine, on="query_id", maintain_order="left")
        .with_columns(
            same_subject=pl.col("subject") == pl.col("own_subject"),
            same_construct=pl.col("construct") == pl.col("own_construct"),
        )
        .select(*NEIGHBOURS.columns),
        NEIGHBOURS,
    )


def _tfidf(queries: pl.DataFrame, others: pl.DataFrame, spec: Tfidf) -> Cosine:
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, spec.ngrams), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    known = vectorizer.fit_transform([prompts.lexical_query(row) for row in others.iter_rows(named=True)])
    asked = vectorizer.transform([prompts.lexical_query(row) for row in queries.iter_rows(named=True)])
    return lambda rows: (asked[rows] @ known.T).toarray()


def _dense(queries: pl.DataFrame, others: pl.DataFrame, spec: Dense, store: Store) -> Cosine:
    from pipeline.models.encoder import KeptEncoder
    from pipeline.retrieve.dense import vectors

    asked, known = vectors(queries, others, KeptEncoder(spec, store), spec)
    return lambda rows: asked[rows].astype(np.float64) @ known.T.astype(np.float64)
