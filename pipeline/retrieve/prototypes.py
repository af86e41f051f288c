"""What a label looks like: the mean of the vectors of questions that were written for it, and of its name.

A name says what a pupil thinks, a question what a pupil meets; a query is far nearer to other questions than to any name.
Source: Snell, Swersky and Zemel, "Prototypical Networks for Few-shot Learning" (2017); for words, documents expanded by
questions: Nogueira et al., "Document Expansion by Query Prediction" (2019).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from pipeline.config import Examples


def prototypes(names: Any, vectors: Any, catalog: pl.DataFrame, examples: pl.DataFrame, spec: Examples) -> Any:
    """(labels, dim) unit rows in the catalogue's order, dense or sparse as what comes in.

    `names` (labels, dim) and `vectors` (EXAMPLES' rows, dim) have unit rows. A label without an example is its name.
    """
    from scipy.sparse import csr_matrix, diags
    from sklearn.preprocessing import normalize

    place = {label: i for i, label in enumerate(catalog["label_id"])}
    own = np.array([place[label] for label in examples["label_id"]], dtype=int)
    count = np.bincount(own, minlength=len(place))
    mean = csr_matrix((1 / count[own], (own, np.arange(len(own)))), shape=(len(place), len(own)))
    share = np.where(count > 0, spec.name_share, 1.0)
    return normalize(mean @ vectors + diags(share) @ names)
