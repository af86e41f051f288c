"""Stage two: every reranker takes queries, the catalogue and a pool, and gives a run over the pairs that it was to score.

Which queries come first matters where time is short: `by_promise` says it for a test.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager

import polars as pl
from tqdm.auto import tqdm

from pipeline.budget import OutOfTime, Pace
from pipeline.config import Listwise, Pointwise
from pipeline.models.judge import Judge, KeptJudge, Reader
from pipeline.rerank import listwise, pointwise
from pipeline.runs import DECIMALS, ranked, run
from pipeline.schema import RUN
from pipeline.store import Store

log = logging.getLogger(__name__)


def rerank(
    queries: pl.DataFrame,
    catalog: pl.DataFrame,
    pool: pl.DataFrame,
    spec: Listwise | Pointwise,
    store: Store,
    pace: Pace | None = None,
) -> pl.DataFrame:
    """The run of the judge that `spec` names over the `depth` best candidates of each query in `pool`.

    With a `pace`, of the first queries that fit into it, and of those that were scored before; and a judge that fails may be
    lost to the run (`Budget.lose`), where else its error is raised.
    """
    judge, parts = KeptJudge(spec, store, pace), [pl.DataFrame(schema=RUN.columns)]
    each, left = prompts_of(spec), queries.height
    chunks = list(chunked(queries, pool, spec))
    if spec.engine == "ray":
        with _as_far_as_it_goes(pace):
            reader = Reader()
            for chunk, candidates in chunks:
                score(chunk, catalog, candidates, reader, spec)
            judge.fill(reader.asked)
    with tqdm(total=left, unit="answer", desc="judge", disable=None) as bar:
        for chunk, candidates in chunks:
            told = judge.pace.prompts > 0
            with _as_far_as_it_goes(pace):  # what is kept of the rest costs no time
                parts.append(score(judge.explained(chunk), catalog, candidates, judge, spec))
                left -= chunk.height
                bar.update(chunk.height)
                if left and (forecast := judge.pace.forecast(left * each)):
                    bar.set_postfix_str(forecast)
                    if not told:
                        log.info("of the %d answers that are still to be judged: %s", left, forecast)
    return run(pl.concat(parts))


def score(
    queries: pl.DataFrame, catalog: pl.DataFrame, pool: pl.DataFrame, judge: Judge, spec: Listwise | Pointwise
) -> pl.DataFrame:
    """The run of `judge`, asked in the way of `spec`."""
    if isinstance(spec, Listwise):
        return listwise.score(queries, catalog, pool, judge, spec)
    return pointwise.score(queries, catalog, pool, judge, spec)


@contextmanager
def _as_far_as_it_goes(pace: Pace | None) -> Iterator[None]:
    """The block ends where the time does and, with a pace, where the stage fails for good."""
    try:
        yield
    except OutOfTime:
        pass
    except Exception as error:
        if pace is None:
            raise
        pace.budget.lose(pace.name, error)


def prompts_of(spec: Listwise | Pointwise) -> int:
    """How many prompts a query takes, where its pool is as deep as the judge looks."""
    if isinstance(spec, Pointwise):
        return spec.depth
    return spec.orders * len(listwise.windows(spec.depth, spec.window, spec.stride or spec.window))


def by_promise(queries: pl.DataFrame, pool: pl.DataFrame, depth: int) -> pl.DataFrame:
    """The queries with those first for which a judge of the `depth` best candidates promises most, whole questions at a time.

    A judge that finds the right candidate at rank r wins 1 - 1/r, and how likely it is to stand there is taken to go with the
    fused score: so a query promises much where the retrievers agree on many candidates but not on the first. A question
    promises the mean of its answers, which stay together because the beginning of their prompts is computed once.
    """
    wins = ranked(pool).filter(pl.col("rank") <= depth).with_columns(win=pl.col("score") * (1 - 1 / pl.col("rank")))
    found = queries.join(wins.group_by("query_id").agg(pl.col("win").sum()), on="query_id", how="left")
    promise = pl.col("win").mean().over("question_id").round(DECIMALS)
    return found.sort(-promise, "question_id", "query_id", nulls_last=True).select(queries.columns)


def chunked(
    queries: pl.DataFrame, pool: pl.DataFrame, spec: Listwise | Pointwise
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """The queries in their order, `chunk` prompts' worth at a time, each part with its own of the pool.

    A question's stay together, also where one has more, because the beginning of their prompts is computed once.
    """
    begin, most = 0, max(1, spec.chunk // prompts_of(spec))
    ends = queries["question_id"].rle().struct.field("len").cum_sum().to_list()
    for end, after in zip(ends, [*ends[1:], math.inf], strict=False):
        if after - begin > most:
            part = queries[begin:end]
            yield part, pool.join(part, on="query_id", how="semi")
            begin = end
