"""Words in common: TF-IDF and BM25. Fitted on labels and their examples alone, so that no query shapes its own score."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline import prompts
from pipeline.config import Bm25, Tfidf
from pipeline.retrieve.prototypes import Labels, weighted
from pipeline.runs import nearest


def bm25(queries: pl.DataFrame, catalog: pl.DataFrame, spec: Bm25) -> pl.DataFrame:
    """The run of Lucene's BM25 over lower-cased words, by bm25s."""
    import bm25s

    def words(texts: list[str]) -> list[list[str]]:
        split: list[list[str]] = bm25s.tokenize(texts, stopwords=None, return_ids=False, show_progress=False)
        return split

    index = bm25s.BM25(k1=spec.k1, b=spec.b)
    index.index(words(catalog["label"].to_list()), show_progress=False)
    texts = words([prompts.lexical_query(row) for row in queries.iter_rows(named=True)])
    return nearest(queries, catalog, lambda rows: np.stack([index.get_scores(text) for text in texts[rows]]), spec.top_k)


def tfidf(
    queries: pl.DataFrame,
    catalog: pl.DataFrame,
    spec: Tfidf,
    examples: pl.DataFrame | None = None,
    answers: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """The run of the cosine between TF-IDF rows (sublinear term frequency), of which EXAMPLES tell, and training answers as
    such."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, spec.ngrams), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    answers = answers if spec.answers else None
    told = weighted(examples, answers, spec).filter(pl.col("weight") > 0)
    known = [prompts.lexical_query(row) for row in told.iter_rows(named=True)]
    rows = vectorizer.fit_transform([*catalog["label"], *known])
    labels = Labels(rows[: catalog.height], rows[catalog.height :], catalog, told, spec)
    texts = vectorizer.transform([prompts.lexical_query(row) for row in queries.iter_rows(named=True)])
    return nearest(queries, catalog, lambda rows: labels.likeness(texts[rows]), spec.top_k)
