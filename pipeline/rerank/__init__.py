"""Stage two: every reranker takes queries, the catalogue and a pool, and gives a run over the pairs that it was to score.

Which queries come first matters where time is short: `by_doubt` says it for a test.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import polars as pl
from tqdm.auto import tqdm

from pipeline.budget import OutOfTime, Pace
from pipeline.config import Listwise, Pointwise
from pipeline.errors import EngineDied
from pipeline.models.judge import KeptJudge
from pipeline.rerank import listwise, pointwise
from pipeline.runs import DECIMALS, run
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

    With a `pace`, of the first queries that fit into it, and of those that were scored before; and a judge whose engine dies
    for good is lost to the run, where else `EngineDied` is raised.
    """
    judge, parts = KeptJudge(spec, store, pace), [pl.DataFrame(schema=RUN.columns)]
    each, left = prompts_of(spec), queries.height
    with tqdm(total=left, unit="answer", desc="judge", disable=None) as bar:
        for chunk in _chunks(queries, max(1, spec.chunk // each)):
            candidates, told = pool.join(chunk, on="query_id", how="semi"), judge.pace.prompts > 0
            try:
                if isinstance(spec, Listwise):
                    parts.append(listwise.score(chunk, catalog, candidates, judge, spec))
                else:
                    parts.append(pointwise.score(chunk, catalog, candidates, judge, spec.depth))
            except OutOfTime:
                continue  # what is kept of the rest costs no time
            except EngineDied:
                if pace is None:
                    raise
                pace.budget.lost.add(pace.name)
                continue
            left -= chunk.height
            bar.update(chunk.height)
            if forecast := judge.pace.forecast(left * each):
                bar.set_postfix_str(forecast)
                if not told:
                    log.info("of the %d answers that are still to be judged: %s", left, forecast)
    return run(pl.concat(parts))


def prompts_of(spec: Listwise | Pointwise) -> int:
    """How many prompts a query takes, where its pool is as deep as the judge looks."""
    if isinstance(spec, Pointwise):
        return spec.depth
    return spec.orders * len(listwise.windows(spec.depth, spec.window, spec.stride or spec.window))


def by_doubt(queries: pl.DataFrame, pool: pl.DataFrame) -> pl.DataFrame:
    """The queries with those first whose order in the pool is most in doubt, whole questions at a time.

    Doubt is a small margin between the pool's first and second, in standard deviations of the query's scores; a question's
    is the mean of its answers', because they are judged together: the beginning that their prompts share is computed once.
    """
    best = pl.col("score").top_k(2)
    margin = (best.max() - best.min()) / pl.col("score").std()
    margins = pool.group_by("query_id").agg(margin=margin.fill_nan(0).fill_null(0))
    found = queries.join(margins, on="query_id", how="left", maintain_order="left")
    mean = pl.col("margin").mean().over("question_id").round(DECIMALS)
    return found.sort(mean, "question_id", "query_id", nulls_last=True).select(queries.columns)


def _chunks(queries: pl.DataFrame, most: int) -> Iterator[pl.DataFrame]:
    """The queries in their order, so many at a time; a question's stay together, also where one has more."""
    begin = end = 0
    for size in queries["question_id"].rle().struct.field("len"):
        if end > begin and end + size - begin > most:
            yield queries[begin:end]
            begin = end
        end += size
    if end > begin:
        yield queries[begin:end]
