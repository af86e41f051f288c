"""The out-of-fold chain: who may learn from what, so that no row is ranked by something that knew it.

It knows no model but the blender: the stages before it were not fitted on labels, and their runs are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from pipeline import blend
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.features import features, label_stats
from pipeline.folds import Split, split
from pipeline.runs import run

if TYPE_CHECKING:
    from lightgbm import Booster


@dataclass(frozen=True)
class Chain:
    """The blender's out-of-fold chain over scored training queries.

    The blender that ranks a fold was fitted on the other folds and never shown a label that counts as unseen there; the
    label statistics behind any row come neither from that row's fold nor from the fold being ranked.
    """

    config: Config
    everything: pl.DataFrame  # QUERIES of all training questions
    queries: pl.DataFrame  # those that were scored
    catalog: pl.DataFrame
    qrels: pl.DataFrame
    folds: pl.DataFrame
    pool: pl.DataFrame  # what the stages made of them
    runs: Mapping[str, pl.DataFrame]

    @property
    def numbers(self) -> list[int]:
        """The folds that hold scored queries."""
        return self.folds.join(self.queries, on="question_id", how="semi")["fold"].unique().sort().to_list()

    def split(self, *held: int) -> Split:
        """The two sides of the folds `held`: the labels that may stand behind their rows, and their answers that count."""
        return split(self.qrels, self.folds, set(held), self.config.fit.unseen, self.config.fit.seed)

    def part(self, fold: int) -> pl.DataFrame:
        """The scored queries of a fold."""
        inside = self.folds.filter(pl.col("fold") == fold)
        return self.queries.join(inside, on="question_id", how="semi", maintain_order="left")

    def rows(self, fold: int, *without: int) -> pl.DataFrame:
        """The features of a fold's queries, their label statistics free of it and of the folds `without`."""
        queries = self.part(fold)
        pool = self.pool.join(queries, on="query_id", how="semi")
        stats = label_stats(self.split(fold, *without).train, self.everything)
        return features(queries, self.catalog, pool, self.runs, stats)

    def booster(self, *without: int) -> Booster:
        """A booster fitted on all folds but those `without`, on the labels alone that are seen there."""
        assert self.config.blend
        rows = [self.rows(fold, *without) for fold in self.numbers if fold not in without]
        return blend.fit(pl.concat(rows), self.split(*without).train, self.config.blend)

    def out_of_fold(self) -> pl.DataFrame:
        """The run of every scored query, each fold ranked by the booster of the others."""
        if len(self.numbers) < 2:
            raise InputError(
                "the blender's training questions",
                found="all in one fold",
                wanted="two folds at least",
                remedy="Raise fit.questions, or give more of train.csv.",
            )
        return run(pl.concat(blend.apply(self.booster(fold), self.rows(fold)) for fold in self.numbers))

    def seen(self) -> pl.DataFrame:
        """The part of the scored queries' QRELS whose labels stand on their fold's training side."""
        parts = []
        for fold in self.numbers:
            gold = self.qrels.join(self.part(fold), on="query_id", how="semi")
            parts.append(gold.join(self.split(fold).train, on="label_id", how="semi"))
        return pl.concat(parts)
