"""Every stage before the blender: retrievers, their fusion, the pool, and the judges' order of it. It knows no truth."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from pipeline import prompts
from pipeline.budget import LEAST, Budget, OutOfTime, Pace, stopped_after
from pipeline.config import Bm25, Config, Dense, Judge, Tfidf
from pipeline.data import Competition, read_examples
from pipeline.errors import InputError
from pipeline.models import sources
from pipeline.rerank import prompts_of, rerank
from pipeline.retrieve import retrieve
from pipeline.runs import fuse, run, stack, top_k
from pipeline.schema import RUN
from pipeline.store import Store

log = logging.getLogger(__name__)

FUSION, ALL = "fusion of retrievers", "fusion of all"
Told = tuple[pl.DataFrame, pl.DataFrame]  # query_ids, and training answers as EXAMPLES: those count that may be known there


@dataclass
class Scored:
    """What the stages made of some queries.

    `runs` are the single stages' own, as the features want them; `stages` are full rankings, a row each in the tables, the
    last of them the one to submit. A judge's ranking is "last stage wins": its order, then the pool's, and the pool's alone for
    a query that it was not given. `seconds` are of this process; a stage in `kept` came from the store.
    """

    pool: pl.DataFrame = field(default_factory=pl.DataFrame)
    runs: dict[str, pl.DataFrame] = field(default_factory=dict)
    stages: dict[str, pl.DataFrame] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)

    def timed(self, name: str, store: Store, make: Callable[..., pl.DataFrame], *inputs: Any) -> pl.DataFrame:
        """`make(*inputs)`, its seconds noted under `name`."""
        log.info("stage: %s", name)
        began, made, found = time.monotonic(), store.made, store.found
        frame = make(*inputs)
        self.seconds[name] = time.monotonic() - began
        log.info("%s took %.1f s", name, self.seconds[name])
        if store.made == made and store.found > found:
            self.kept.add(name)
        return frame


def examples_of(competition: Competition, spec: Bm25 | Tfidf | Dense | Judge) -> pl.DataFrame:
    """The stage's EXAMPLES; none that counts reads like a question of the competition, whose labels it is not to know."""
    asked = [competition.test] if competition.train is None else [competition.test, competition.train]
    files = [sources.shipped(file) for file in (() if isinstance(spec, Bm25) else spec.examples)]
    return read_examples(files, competition.catalog, pl.concat(asked))


def shots_of(competition: Competition, spec: Judge) -> dict[int, list[dict[str, str]]]:
    """Each label's examples in their order, as rows of QUERIES; none for a judge that is shown none."""
    shots: dict[int, list[dict[str, str]]] = {}
    if spec.shots:
        for row in examples_of(competition, spec).filter("counts").iter_rows(named=True):
            shots.setdefault(row["label_id"], []).append(row)
    return shots


def shown_to(competition: Competition, spec: Judge) -> pl.DataFrame:
    """The CATALOG as a judge reads it: each label with its first `shots` examples."""
    if not (shots := shots_of(competition, spec)):
        return competition.catalog
    told = [prompts.candidate(label, shots.get(i, [])[: spec.shots]) for i, label in competition.catalog.iter_rows()]
    return competition.catalog.with_columns(label=pl.Series(told))


def pooled(
    queries: pl.DataFrame,
    competition: Competition,
    config: Config,
    store: Store,
    given: Mapping[str, pl.DataFrame] | None = None,
    budget: Budget | None = None,
    better: Callable[[pl.DataFrame], None] = lambda ranking: None,
    told: Sequence[Told] = (),
) -> Scored:
    """Stage one: retrieve, fuse, and cut to the pool. A retriever whose run is `given` is not asked.

    `told` are parts of the queries, each with the training answers that are examples of labels there.

    With a budget, a retriever that fails may be lost (`Budget.lose`), and all but the first are stopped when the time is up,
    though not before they could find what is kept: their runs are empty then, and this is said. `better` is given the fusion
    each time that a retriever was added to it.
    """
    done = Scored()
    budget = budget or Budget()
    for name, spec in config.retrieve.items():
        if given and name in given:
            done.seconds[name] = 0.0
            done.stages[name] = done.runs[name] = given[name].join(queries, on="query_id", how="semi")
            continue
        try:
            with stopped_after(max(budget.left, LEAST) if done.stages else math.inf):
                done.stages[name] = done.runs[name] = done.timed(
                    name, store, _retrieved, queries, competition, spec, store, told
                )
        except OutOfTime:
            budget.warn(f"{name}: the time is short, it is left out")
        except Exception as error:
            budget.warn(f"{name} is left out: {budget.lose(name, error)}")
        else:
            better(_fusion(done.runs, config))
        done.runs.setdefault(name, pl.DataFrame(schema=RUN.columns))
    if not done.stages:
        raise InputError(
            "retrieve", found="; ".join(budget.lost.values()), wanted="one retriever that runs", remedy="Repair one of them."
        )
    done.pool = done.stages[FUSION] = done.timed(FUSION, store, _fusion, done.runs, config)
    return done


def _retrieved(
    queries: pl.DataFrame, competition: Competition, spec: Bm25 | Tfidf | Dense, store: Store, told: Sequence[Told]
) -> pl.DataFrame:
    examples, runs, rest = examples_of(competition, spec), [pl.DataFrame(schema=RUN.columns)], queries
    for part, answers in told:
        mine = rest.join(part, on="query_id", how="semi", maintain_order="left")
        rest = rest.join(part, on="query_id", how="anti", maintain_order="left")
        if mine.join(answers.filter("counts"), on="question_id", how="semi").height:
            raise ValueError("answers to a question among the examples that it is ranked by")
        if mine.height:
            runs.append(retrieve(mine, competition.catalog, spec, store, examples, answers))
    if rest.height:
        runs.append(retrieve(rest, competition.catalog, spec, store, examples))
    return run(pl.concat(runs))


def reranked(
    done: Scored,
    judged: pl.DataFrame,
    competition: Competition,
    config: Config,
    store: Store,
    budget: Budget | None = None,
    later: int = 0,
    given: Mapping[str, pl.DataFrame] | None = None,
) -> None:
    """Stage two, laid upon `done`: the judges' runs over the queries `judged`, and the fusion of all. A judge whose run is
    `given` is not asked; that may be over other queries too.

    With a budget, over the first of them that fit, where `later` prompts are still to come after these; what was left out is
    said.
    """
    to_come = later + judged.height * sum(map(prompts_of, config.rerank.values()))
    for name, spec in config.rerank.items():
        to_come -= judged.height * prompts_of(spec)
        if given and name in given:
            done.seconds[name] = 0.0
            done.runs[name] = given[name].join(done.pool, on="query_id", how="semi")
            done.stages[name] = stack(done.runs[name], done.pool)
        elif judged.height:
            pace = Pace(budget, name, to_come) if budget else None
            run = done.timed(name, store, rerank, judged, shown_to(competition, spec), done.pool, spec, store, pace)
            done.runs[name] = run
            if run.height:
                done.stages[name] = stack(run, done.pool)
            if budget and (missed := judged.height - run["query_id"].n_unique()):
                why = budget.lost.get(name, "the time is short")
                budget.warn(f"{name}: {why}, {missed} of {judged.height} answers are not judged")
    if config.rerank:
        done.stages[ALL] = done.timed(ALL, store, _fusion, done.runs, config)


def _fusion(runs: Mapping[str, pl.DataFrame], config: Config) -> pl.DataFrame:
    return top_k(fuse(runs, config.rrf_k), config.pool)
