"""The out-of-fold chain: who may learn from what, so that no row is ranked by something that knew it.

It knows no model but the blender: the stages before it were not fitted on these labels, and their runs are handed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import polars as pl

from pipeline import blend, shift
from pipeline.config import Config
from pipeline.errors import InputError
from pipeline.features import features, label_stats, votes
from pipeline.folds import Split, split
from pipeline.runs import run

if TYPE_CHECKING:
    from lightgbm import Booster


@dataclass(frozen=True)
class Part:
    """A fold as the blender ranks it: its features, and the booster of the other folds."""

    fold: int
    rows: pl.DataFrame
    booster: Booster


@dataclass(frozen=True)
class Chain:
    """The blender's out-of-fold chain over scored training queries.

    The blender that ranks a fold was fitted on the other folds and never shown a label that counts as unseen there; the
    label statistics and the neighbours' labels behind any row come neither from that row's fold nor from the one being ranked.
    """

    config: Config
    everything: pl.DataFrame  # QUERIES of all training questions
    queries: pl.DataFrame  # those that were scored
    catalog: pl.DataFrame
    qrels: pl.DataFrame
    folds: pl.DataFrame
    pool: pl.DataFrame  # what the stages made of them
    runs: Mapping[str, pl.DataFrame]
    near: Mapping[str, pl.DataFrame]  # NEIGHBOURS, by the retriever that found them
    told: Mapping[str, pl.DataFrame] = field(default_factory=dict)  # the `votes` of the labels' examples
    _splits: dict[frozenset[int], Split] = field(default_factory=dict, init=False, repr=False)
    _rows: dict[tuple[int, ...], pl.DataFrame] = field(default_factory=dict, init=False, repr=False)

    @property
    def golds(self) -> pl.DataFrame:
        """The QRELS of the scored queries."""
        return self.qrels.join(self.queries, on="query_id", how="semi")

    @property
    def numbers(self) -> list[int]:
        """The folds that hold scored queries."""
        return self.folds.join(self.queries, on="question_id", how="semi")["fold"].unique().sort().to_list()

    def split(self, *held: int) -> Split:
        """The two sides of the folds `held`: the labels that may stand behind their rows, and their answers that count."""
        if (key := frozenset(held)) not in self._splits:
            self._splits[key] = split(self.qrels, self.folds, set(held), self.config.fit.unseen, self.config.fit.seed)
        return self._splits[key]

    def part(self, fold: int) -> pl.DataFrame:
        """The scored queries of a fold."""
        inside = self.folds.filter(pl.col("fold") == fold)
        return self.queries.join(inside, on="question_id", how="semi", maintain_order="left")

    def rows(self, fold: int, *without: int) -> pl.DataFrame:
        """The features of a fold's queries; what training labels say in them is free of it and of the folds `without`."""
        if (key := (fold, *sorted(without))) not in self._rows:
            queries, shown = self.part(fold), self.split(fold, *without).train
            pool = self.pool.join(queries, on="query_id", how="semi")
            near = {**{name: votes(each, shown) for name, each in self.near.items()}, **self.told}
            stats = label_stats(shown, self.everything)
            self._rows[key] = features(queries, self.catalog, pool, self.runs, stats, near)
        return self._rows[key]

    def booster(self, *without: int) -> Booster:
        """A booster fitted on all folds but those `without`, on the labels alone that are seen there."""
        assert self.config.blend
        rows = [self.rows(fold, *without) for fold in self.numbers if fold not in without]
        return blend.fit(pl.concat(rows), self.split(*without).train, self.config.blend)

    def parts(self) -> list[Part]:
        """Each fold with the booster of the others. Raises `InputError` where all scored queries are in one fold."""
        if len(self.numbers) < 2:
            raise InputError(
                "the blender's training questions",
                found="all in one fold",
                wanted="two folds at least",
                remedy="Raise fit.questions, or give more of train.csv.",
            )
        return [Part(fold, self.rows(fold), self.booster(fold)) for fold in self.numbers]

    def sides(self, parts: Sequence[Part]) -> list[tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]]:
        """For each part its features, those of the other folds free of it, and the QRELS that they may be fitted on."""
        others = [pl.concat(self.rows(fold, part.fold) for fold in self.numbers if fold != part.fold) for part in parts]
        return [(part.rows, rows, self.split(part.fold).train) for part, rows in zip(parts, others, strict=True)]

    def marked(self, ranking: pl.DataFrame) -> pl.DataFrame:
        """The run `shift.marked` by what counts as unseen in each query's own fold."""
        of = {fold: ranking.join(self.part(fold), on="query_id", how="semi") for fold in self.numbers}
        return pl.concat(shift.marked(each, self.split(fold).train, self.catalog.height) for fold, each in of.items())

    def seen(self) -> pl.DataFrame:
        """The part of the scored queries' QRELS whose labels stand on their fold's training side."""
        parts = []
        for fold in self.numbers:
            gold = self.qrels.join(self.part(fold), on="query_id", how="semi")
            parts.append(gold.join(self.split(fold).train, on="label_id", how="semi"))
        return pl.concat(parts)


def out_of_fold(parts: Sequence[Part]) -> pl.DataFrame:
    """The run of every scored query, each fold ranked by the booster of the others."""
    return run(pl.concat(blend.apply(part.booster, part.rows) for part in parts))
