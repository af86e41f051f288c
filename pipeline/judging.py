"""Judges side by side on the same answers: what each makes of the retrievers' order, and what that costs.

Each is started by itself, with an empty prefix cache, and asked in chunks as a run asks it. No score that a run kept is
taken, and none is kept; what a judge writes about the answers, if it does, is written before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from pipeline.config import Config, Listwise, Pointwise
from pipeline.data import Competition
from pipeline.errors import InputError
from pipeline.flow import draw, held_out, table
from pipeline.metrics import compare
from pipeline.models import memory, sources
from pipeline.models.judge import Chat, Judge, KeptJudge, start
from pipeline.models.tree import grow
from pipeline.rerank import chunked, score
from pipeline.runs import stack
from pipeline.schema import RUN
from pipeline.scoring import pooled, shown_to
from pipeline.store import Store

log = logging.getLogger(__name__)

NAIVE = {"engine": "transformers", "dtype": "float32"}


@dataclass
class _Asking:
    """A judge that keeps what it asked its engine, which gets a prompt at a time if it is `naive`."""

    engine: Judge
    naive: bool
    asked: list[str] = field(default_factory=list)

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        self.asked += prompts
        if self.naive:
            return np.concatenate([self.engine.logprobs([prompt], options) for prompt in prompts])
        return self.engine.logprobs(prompts, options)


@dataclass(frozen=True)
class Comparison:
    """`scores` of stage one and of each judge upon it, as `flow.table` has them; a row a judge of its gain over the retrievers'
    fusion, in pairs, and of what it costs."""

    scores: list[dict[str, Any]]
    gains: list[dict[str, Any]]
    costs: list[dict[str, Any]]


def judged(competition: Competition, config: Config, fold: int | None, questions: int, naive: int, store: Store) -> Comparison:
    """The config's judges compared, but for hashed ones.

    They are asked about the labelled training answers of so many questions, drawn by `fit.seed`, of one fold or of each. With
    `naive`, each judge's first so many answers are also asked of plain transformers, one prompt at a time in float32, and it is
    told how far apart the two's scores are at most.
    """
    specs = {name: spec for name, spec in config.rerank.items() if spec.engine != "hashed"}
    if not specs:
        raise InputError(
            "rerank", found="no judge that holds a model", wanted="one at least", remedy="Take configs/judges.yaml."
        )
    queries, qrels, seen, told = held_out(competition, config, fold)
    queries = draw(queries, questions, config.fit.seed)
    qrels = qrels.join(queries, on="query_id", how="semi")
    done = pooled(queries, competition, config, store, told=told)
    gains: list[dict[str, Any]] = []
    costs: list[dict[str, Any]] = []
    for name, spec in specs.items():
        asked, catalog = KeptJudge(spec, store).explained(queries), shown_to(competition, spec)
        run, cost = _ask(name, spec, asked, catalog, done.pool)
        done.stages[name], done.seconds[name] = stack(run, done.pool), cost["seconds"]
        gains.append({"judge": name, **compare(done.pool, done.stages[name], qrels)})
        costs.append(cost)
        if naive:
            plain, first = spec.model_copy(update=NAIVE), asked.head(naive)
            again, slow = _ask(f"{name}, naive", plain, first, catalog, done.pool, naive=True)
            apart = run.join(again, on=RUN.key).select((pl.col("score") - pl.col("score_right")).abs().max()).item()
            cost |= {"times naive": cost["answers/s"] / slow["answers/s"], "apart": apart}
            costs.append(slow | {"times naive": None, "apart": None})
    return Comparison(table(done, qrels, seen), gains, costs)


def _ask(
    name: str,
    spec: Listwise | Pointwise,
    queries: pl.DataFrame,
    catalog: pl.DataFrame,
    pool: pl.DataFrame,
    naive: bool = False,
) -> tuple[pl.DataFrame, dict[str, Any]]:
    """The judge's run over the queries, and what that cost. `least` are the tokens of the prompts' tree: what all of them begin
    with in common counts once."""
    log.info("judge: %s", name)
    memory.release()
    folder, began = sources.resolve(spec.weights), time.monotonic()
    engine = start(folder, spec)
    try:
        judge, before, ready = _Asking(engine, naive), engine.computed or 0, time.monotonic()
        chunks = tqdm(list(chunked(queries, pool, spec)), unit="chunk", desc="judge", disable=None)
        run = pl.concat([score(chunk, catalog, candidates, judge, spec) for chunk, candidates in chunks])
        seconds = time.monotonic() - ready
        computed = engine.computed and engine.computed - before
    finally:
        engine.close()
    chat = Chat(folder, spec.max_tokens)
    tokens = [chat.encode(prompt) for prompt in judge.asked]
    least = len(grow(tokens, causal=True))
    return run, {
        "judge": name,
        "prompts": len(tokens),
        "start": round(ready - began),
        "seconds": round(seconds, 1),
        "answers/s": queries.height / seconds,
        "sent": sum(map(len, tokens)),
        "computed": computed,
        "least": least,
        "of least": computed and computed / least,
    }
