"""TF-IDF over words and word pairs. Fitted on the catalogue alone, so that a query never shapes its own score."""

from __future__ import annotations

import polars as pl

from pipeline import prompts
from pipeline.config import Tfidf
from pipeline.runs import nearest


def search(queries: pl.DataFrame, catalog: pl.DataFrame, spec: Tfidf) -> pl.DataFrame:
    """The run of the cosine between TF-IDF rows (sublinear term frequency)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(ngram_range=(1, spec.ngrams), sublinear_tf=True, token_pattern=r"(?u)\b\w+\b")
    labels = vectorizer.fit_transform(catalog["label"].to_list())
    texts = vectorizer.transform([prompts.lexical_query(row) for row in queries.iter_rows(named=True)])
    return nearest(queries, catalog, lambda rows: (texts[rows] @ labels.T).toarray(), spec.top_k)
