"""Stage two: every reranker takes queries, the catalogue and a pool, and gives a run over exactly the pairs it was to score."""

from __future__ import annotations

import polars as pl

from pipeline.config import Listwise, Pointwise
from pipeline.models.judge import KeptJudge
from pipeline.rerank import listwise, pointwise
from pipeline.store import Store


def rerank(
    queries: pl.DataFrame, catalog: pl.DataFrame, pool: pl.DataFrame, spec: Listwise | Pointwise, store: Store
) -> pl.DataFrame:
    """The run of the judge that `spec` names over the `depth` best candidates of each query in `pool`."""
    judge = KeptJudge(spec, store)
    if isinstance(spec, Listwise):
        return listwise.score(queries, catalog, pool, judge, spec)
    return pointwise.score(queries, catalog, pool, judge, spec.depth)
