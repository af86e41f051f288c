"""Listwise: candidates stand in a prompt under letters, and the letters' log-probabilities are their scores.

A small model reads the slot more than the candidate: showing a list in both directions takes the slot's part out to first
order, further shuffles the rest. Letters of one prompt share one probability, so that scores of two windows say nothing of
each other, until both are measured against the same "none of these".
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import polars as pl

from pipeline import prompts
from pipeline.config import Listwise
from pipeline.models.judge import Judge
from pipeline.runs import ranked, run


def score(queries: pl.DataFrame, catalog: pl.DataFrame, pool: pl.DataFrame, judge: Judge, spec: Listwise) -> pl.DataFrame:
    """A run over the `depth` best candidates of each query: the mean, over the prompts that show a candidate, of
    log P(letter | one of the letters) or, with `none`, of log P(letter) - log P(none)."""
    shown: dict[int, list[tuple[str, list[int], str]]] = {}  # by their number: the query, its labels as shown, the prompt
    for row in candidates(queries, catalog, pool, spec.depth).iter_rows(named=True):
        for slots in _showings(row["query_id"], len(row["label"]), spec):
            prompt = prompts.listwise(row, [row["label"][i] for i in slots], spec.none, spec.prompt)
            shown.setdefault(len(slots), []).append((row["query_id"], [row["label_id"][i] for i in slots], prompt))
    parts = []
    for size, group in sorted(shown.items()):
        query_ids, label_ids, asked = zip(*group, strict=True)
        answers = judge.logprobs(asked, prompts.OPTIONS[: size + spec.none])
        rest = answers[:, -1:] if spec.none else np.logaddexp.reduce(answers, axis=1, keepdims=True)
        scores = pl.Series((answers[:, :size] - rest).tolist(), dtype=pl.List(pl.Float32))
        parts.append(pl.DataFrame({"query_id": query_ids, "label_id": label_ids, "score": scores}).explode("label_id", "score"))
    return run(pl.concat(parts).group_by("query_id", "label_id", maintain_order=True).agg(pl.col("score").mean()))


def windows(size: int, window: int, stride: int) -> list[range]:
    """Full windows that together hold `size` candidates; the last one is pulled back to end with them."""
    starts = [*range(0, size - window, stride), size - window] if size > window else [0]
    return [range(start, min(start + window, size)) for start in starts]


def _showings(query_id: str, size: int, spec: Listwise) -> Iterator[list[int]]:
    """Each window in each order: as it is, reversed, then shuffled, for each query differently."""
    for window in windows(size, spec.window, spec.stride or spec.window):
        for turn in range(spec.orders):
            match turn:
                case 0:
                    yield list(window)
                case 1:
                    yield list(window)[::-1]
                case _:
                    dice = np.random.default_rng([spec.seed, turn, window.start, zlib.crc32(query_id.encode())])
                    yield dice.permutation(window).tolist()


def candidates(queries: pl.DataFrame, catalog: pl.DataFrame, pool: pl.DataFrame, depth: int) -> pl.DataFrame:
    """One row a query, in the queries' order (a question's prompts stand together): its fields, `label_id` and `label` as
    lists, best first. A query that the pool does not hold is left out."""
    lists = (
        ranked(pool)
        .filter(pl.col("rank") <= depth)
        .join(catalog, on="label_id", how="left", maintain_order="left")
        .group_by("query_id", maintain_order=True)
        .agg("label_id", "label")
    )
    return queries.join(lists, on="query_id", how="inner", maintain_order="left")
