"""Stage one: every retriever takes queries and the catalogue and gives a run."""

from __future__ import annotations

import polars as pl

from pipeline.config import Bm25, Dense, Tfidf
from pipeline.store import Store


def retrieve(
    queries: pl.DataFrame,
    catalog: pl.DataFrame,
    spec: Bm25 | Tfidf | Dense,
    store: Store,
    examples: pl.DataFrame | None = None,
    answers: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The run of the retriever that `spec` names: its `top_k` labels for every query.

    `examples` are EXAMPLES of labels, `answers` training answers in the same columns, for retrievers that take them as such.
    """
    if not isinstance(spec, Dense):
        from pipeline.retrieve import lexical

        if isinstance(spec, Bm25):
            return lexical.bm25(queries, catalog, spec)
        return lexical.tfidf(queries, catalog, spec, examples, answers)
    from pipeline.models.encoder import KeptEncoder
    from pipeline.retrieve import dense

    return dense.search(queries, catalog, KeptEncoder(spec, store), spec, examples, answers)
