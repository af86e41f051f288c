"""Yes for the right label, No for wrong ones: a judge's loss over lists of candidates, on the two options' tokens alone.

A list's softmax says which candidate is best, and that none is where all margins are below 0, the margin of "none of these";
each candidate's own cross entropy says the same of one. A larger judge's odds may be learnt besides. The prompts of a list are
one tree, so that the list costs one reading of its question. A training sees the same wrong candidates in every epoch: the
states of frozen layers are kept by tree.
Source: Hinton et al., "Distilling the Knowledge in a Neural Network" (2015), for a larger judge's odds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from pipeline import prompts
from pipeline.config import Pointwise, YesNo
from pipeline.rerank.listwise import candidates
from pipeline.rerank.pointwise import placed
from pipeline.runs import stack
from pipeline.train.units import AT_ONCE, Embedder, Unit

NODES = 1024  # computed at a time where there are gradients: more trees a batch are filled up to longer ones


@dataclass(frozen=True)
class Wording:
    """How a judge that learns is asked: as it will be, but no label has an example of the question that is asked about."""

    names: Mapping[int, str]
    shots: Mapping[int, Sequence[Mapping[str, str]]]  # each label's examples
    spec: Pointwise

    def about(self, row: Mapping[str, str], label: int) -> str:
        """The prompt of a row of QUERIES and a label."""
        others = [shot for shot in self.shots.get(label, ()) if shot["question"] != row["question"]]
        return prompts.pointwise(row, prompts.candidate(self.names[label], others[: self.spec.shots]), self.spec.prompt)


def lists(embedder: Embedder, queries: pl.DataFrame, shown: Sequence[Sequence[int]], wording: Wording) -> list[Unit]:
    """A unit for each row of `queries`: the prompts that ask about the labels `shown` to it."""
    rows = zip(queries.iter_rows(named=True), shown, strict=True)
    return embedder.units([[wording.about(row, label) for label in labels] for row, labels in rows], shown)


class Lists(nn.Module):
    """The loss of lists, given by their places in `units`; the first candidate of each is the right one.

    `taught` are a teacher's scores of each list's candidates (n,), NaN where it has none.
    """

    def __init__(
        self, model: nn.Module, embedder: Embedder, units: Sequence[Unit], taught: Sequence[np.ndarray], spec: YesNo
    ) -> None:
        super().__init__()
        self.model = model  # the trainer looks for it
        self.embedder, self.units, self.taught, self.spec = embedder, units, taught, spec

    def forward(self, features: list[dict[str, Any]], _: Tensor | None = None) -> Tensor:
        """The batch's mean loss; `features` are one mapping, whose "input_ids" are the lists' places."""
        places = features[0]["input_ids"].tolist()
        units = [self.units[place] for place in places]
        margins = self.embedder.read(units, NODES)[:, 0].split([len(unit.labels) for unit in units])
        taught = [torch.as_tensor(self.taught[place]).to(margins[0]) for place in places]
        return torch.stack([self.of(*each) for each in zip(margins, taught, strict=True)]).mean()

    def of(self, margins: Tensor, taught: Tensor) -> Tensor:
        """The loss of one list, from its margins and its teacher's scores, both (n,)."""
        right, wrong = margins[0], margins[1:]
        none = margins.new_zeros(1)
        listed = torch.cat([none, margins]).logsumexp(0) - right
        without = torch.cat([none, wrong]).logsumexp(0)
        alone = (nn.functional.softplus(-right) + nn.functional.softplus(wrong).sum()) / len(margins)
        told = ~taught.isnan()
        odds = torch.softmax(taught[told], 0)
        imitated = -(odds * torch.log_softmax(margins[told], 0)).sum()  # 0 where the teacher told of one alone, or of none
        return listed + self.spec.none * without + self.spec.binary * alone + self.spec.distil * imitated


class Ranking:
    """How a judge that learns orders the candidates of queries."""

    def __init__(
        self, embedder: Embedder, queries: pl.DataFrame, told: pl.DataFrame, catalog: pl.DataFrame, wording: Wording
    ) -> None:
        self.embedder, self.told, self.prior = embedder, told, wording.spec.prior
        self.rows = candidates(queries, catalog, told, wording.spec.depth)
        self.units = lists(embedder, self.rows, self.rows["label_id"].to_list(), wording)

    def __call__(self) -> pl.DataFrame:
        """The run: the `depth` best by their margins and `prior`, what lies deeper as it was told."""
        with torch.no_grad():
            margins = self.embedder.read(self.units, AT_ONCE)[:, 0].cpu().numpy()
        pairs = self.rows.select("query_id", "label_id").explode("label_id")
        return stack(placed(pairs, margins, self.prior), self.told)
