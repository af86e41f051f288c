"""What a label looks like: the mean of the vectors of questions that were written for it, of training answers, and of its name.

A name says what a pupil thinks, a question what a pupil meets; a query is far nearer to other questions than to any name. A
label that real answers show is nearer still, so much that it would be found where a label that they do not show is right: it
bears a handicap.
Sources: Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning" (2017); for words, documents expanded by
questions: Nogueira et al., "Document Expansion by Query Prediction" (2019); for the handicap: Chao et al., "An Empirical Study
and Analysis of Generalized Zero-Shot Learning for Object Recognition in the Wild" (2016).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from pipeline.config import Examples
from pipeline.schema import EXAMPLES


def weighted(examples: pl.DataFrame | None, answers: pl.DataFrame | None, spec: Examples) -> pl.DataFrame:
    """EXAMPLES, then training answers in the same columns, with a `weight` each: 0 for those that do not count."""
    parts = [pl.DataFrame(schema=EXAMPLES.columns) if part is None else part for part in (examples, answers)]
    worth = (1.0, spec.answers)
    return pl.concat(
        part.with_columns(weight=pl.col("counts") * pl.lit(each, pl.Float64)) for part, each in zip(parts, worth, strict=True)
    )


def prototypes(names: Any, vectors: Any, catalog: pl.DataFrame, told: pl.DataFrame, spec: Examples) -> Any:
    """(labels, dim) unit rows in the catalogue's order, dense or sparse as what comes in.

    `names` (labels, dim) and `vectors` (`told`'s rows, dim) have unit rows; `told` has a `label_id` and a `weight`. A label of
    which nothing is told is its name.
    """
    from scipy.sparse import csr_matrix, diags
    from sklearn.preprocessing import normalize

    place = {label: i for i, label in enumerate(catalog["label_id"])}
    own = np.array([place[label] for label in told["label_id"]], dtype=int)
    weight = told["weight"].to_numpy()
    total = np.bincount(own, weights=weight, minlength=len(place))
    counts = np.flatnonzero(weight)
    shares = weight[counts] / total[own[counts]]
    mean = csr_matrix((shares, (own[counts], counts)), shape=(len(place), len(own)))
    share = np.where(total > 0, spec.name_share, 1.0)
    return normalize(mean @ vectors + diags(share) @ names)


def handicaps(catalog: pl.DataFrame, answers: pl.DataFrame | None, spec: Examples) -> np.ndarray:
    """(labels,): what is taken off each label's cosine: the handicap of those that training answers show."""
    shown = set() if answers is None else set(answers.filter("counts")["label_id"])
    return spec.handicap * np.array([label in shown for label in catalog["label_id"]], dtype=np.float64)
