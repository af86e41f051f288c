"""Labelled training answers, and the examples of labels: what there is, and what is near a query by a likeness."""

from __future__ import annotations

import logging

import polars as pl

from pipeline.config import Bm25, Config, Dense, Tfidf
from pipeline.data import Competition, queries_of
from pipeline.features import votes
from pipeline.retrieve.neighbours import neighbours
from pipeline.schema import EXAMPLES, NEIGHBOURS, QRELS, QUERIES, check
from pipeline.scoring import examples_of
from pipeline.store import Store

log = logging.getLogger(__name__)


def near_of(queries: pl.DataFrame, competition: Competition, config: Config, store: Store) -> dict[str, pl.DataFrame]:
    """NEIGHBOURS of the queries among the labelled training answers, by retriever; none without a train.csv."""
    specs = _by(config)
    if competition.train is None or competition.train_qrels is None:
        if specs:
            log.warning("no train.csv: nothing is known of the answers like these")
        return {name: pl.DataFrame(schema=NEIGHBOURS.columns) for name in specs}
    others = answers_of(competition, competition.train_qrels).select(*QUERIES.columns)
    return {name: neighbours(queries, others, spec, k, store) for name, (spec, k) in specs.items()}


def answers_of(competition: Competition, shown: pl.DataFrame | None) -> pl.DataFrame:
    """The labelled training answers as EXAMPLES; those count whose labels are among the QRELS `shown`."""
    if competition.train is None or competition.train_qrels is None or shown is None:
        return pl.DataFrame(schema=EXAMPLES.columns)
    told = queries_of(competition.train).join(competition.train_qrels, on="query_id", maintain_order="left")
    known = shown.select(*QRELS.key, counts=pl.lit(True))
    marked = told.join(known, on=QRELS.key, how="left", maintain_order="left").with_columns(pl.col("counts").fill_null(False))
    return check(marked.select(*EXAMPLES.columns), EXAMPLES)


def told_of(queries: pl.DataFrame, competition: Competition, config: Config, store: Store) -> dict[str, pl.DataFrame]:
    """The `votes` of the labels' examples near the queries, by retriever and `_example`.

    They are the same in every fold: no answer of the competition is among them.
    """
    found = {}
    for name, (spec, k) in _by(config).items():
        examples = examples_of(competition, spec)
        counted = examples.filter("counts").select(*QRELS.columns)
        if counted.height:
            near = neighbours(queries, examples.select(*QUERIES.columns), spec, k, store)
            found[f"{name}_example"] = votes(near, counted)
    return found


def _by(config: Config) -> dict[str, tuple[Tfidf | Dense, int]]:
    """The retrievers by whose likeness neighbours are found, and how many."""
    if config.neighbours is None:
        return {}
    by, k = config.neighbours.by, config.neighbours.k
    return {
        name: (spec, k) for name, spec in config.retrieve.items() if not isinstance(spec, Bm25) and (by is None or name in by)
    }
