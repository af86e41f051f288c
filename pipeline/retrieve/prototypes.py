"""How like a label a query is: what a retriever makes of the label's name, of questions that were written for it, and of
training answers.

A name says what a pupil thinks, a question what a pupil meets; a query is far nearer to other questions than to any name. So a
label is a prototype, the mean of its questions and its name, and the nearest of its questions counts beside it. A training
answer that reads nearly like the query says more than any mean: a kernel adds it. Labels that training answers show would then
be found where one is right that they do not show: they bear a handicap.
Sources: Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning" (2017); for words, documents expanded by
questions: Nogueira et al., "Document Expansion by Query Prediction" (2019); for the kernel: Zhang et al., "Tip-Adapter:
Training-free Adaption of CLIP for Few-shot Classification" (2022); for the handicap: Chao et al., "An Empirical Study and
Analysis of Generalized Zero-Shot Learning for Object Recognition in the Wild" (2016).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from pipeline.config import Examples
from pipeline.schema import EXAMPLES


def weighted(examples: pl.DataFrame | None, answers: pl.DataFrame | None, spec: Examples) -> pl.DataFrame:
    """EXAMPLES, then training answers, which are marked as `real`, in the same columns, with a `weight` each: 0 for those that
    do not count."""
    none = pl.DataFrame(schema=EXAMPLES.columns)
    return pl.concat(
        (none if part is None else part).with_columns(weight=pl.col("counts") * pl.lit(worth, pl.Float64), real=pl.lit(real))
        for part, worth, real in ((examples, 1.0, False), (answers, spec.answers, True))
    )


class Labels:
    """The labels of a catalogue, in its order, as a retriever knows them.

    `names` (labels, dim) and `vectors` (`told`'s rows, dim) have unit rows, dense or sparse; `told` is what `weighted` gives. A
    label of which nothing is told is its name.
    """

    def __init__(self, names: Any, vectors: Any, catalog: pl.DataFrame, told: pl.DataFrame, spec: Examples) -> None:
        self.spec = spec
        place = {label: i for i, label in enumerate(catalog["label_id"])}
        own = np.array([place[label] for label in told["label_id"]], dtype=int)
        weight, real = told["weight"].to_numpy(), told["real"].to_numpy()
        self.prototypes = _means(names, vectors, own, weight, spec.name_share)
        written, answers = (np.flatnonzero((weight > 0) & (real == kind)) for kind in (False, True))
        self.written = _Nearest(vectors[written], own[written])
        self.answers = _Nearest(vectors[answers], own[answers])

    def likeness(self, texts: Any) -> np.ndarray:
        """(n, labels) float64, from the queries' unit rows (n, dim)."""
        spec, cosines = self.spec, _dense(texts @ self.prototypes.T)
        found = cosines.copy()
        if spec.nearest:
            nearest = cosines.copy()  # of a label without written questions
            nearest[:, self.written.labels] = self.written.cosines(texts)
            found += spec.nearest * nearest
        if len(shown := self.answers.labels):
            near = np.exp((self.answers.cosines(texts) - 1) / spec.bandwidth) if spec.kernel else 0.0
            found[:, shown] += spec.kernel * near - spec.handicap
        return found


class _Nearest:
    """Vectors (m, dim) by their labels' places `own` (m,): `labels` are those that have any."""

    def __init__(self, vectors: Any, own: np.ndarray) -> None:
        order = np.argsort(own, kind="stable")
        self.vectors = vectors[order]
        self.labels, self.first = np.unique(own[order], return_index=True)

    def cosines(self, texts: Any) -> np.ndarray:
        """(n, labels) float64: each query's largest cosine with a label's vectors."""
        if not len(self.labels):
            return np.empty((texts.shape[0], 0))
        return np.asarray(np.maximum.reduceat(_dense(texts @ self.vectors.T), self.first, axis=1))


def _means(names: Any, vectors: Any, own: np.ndarray, weight: np.ndarray, name_share: float) -> Any:
    """(labels, dim) unit rows: the weighted mean of each label's vectors and a share of its name, or its name alone."""
    from scipy.sparse import csr_matrix, diags
    from sklearn.preprocessing import normalize

    labels, counts = names.shape[0], np.flatnonzero(weight)
    total = np.bincount(own, weights=weight, minlength=labels)
    shares = weight[counts] / total[own[counts]]
    mean = csr_matrix((shares, (own[counts], counts)), shape=(labels, len(own)))
    return normalize(mean @ vectors + diags(np.where(total > 0, name_share, 1.0)) @ names)


def _dense(product: Any) -> np.ndarray:
    return np.asarray(product.toarray() if hasattr(product, "toarray") else product)
