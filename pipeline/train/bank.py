"""Labels as a retriever that knows them by examples will see them, while it learns: prototypes of remembered vectors.

An answer is told from other labels by their prototypes, and drawn to its own label's without itself and its question's others:
what it would have met were it not an example.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.train.units import AT_ONCE, Embedder, Unit


class Bank:
    """The vectors of the answers that are learnt from, as last computed, by questions; see `retrieve.prototypes`."""

    def __init__(self, questions: Sequence[Unit], labels: int, name_share: float) -> None:
        self.questions, self.name_share = questions, name_share
        self.golds = torch.tensor([gold for unit in questions for gold in unit.labels])
        self.starts = [0]
        for unit in questions:
            self.starts.append(self.starts[-1] + len(unit.labels))
        self.counts = torch.bincount(self.golds, minlength=labels).float()[:, None]
        self.vectors: Tensor | None = None  # (answers, dim) unit rows, without gradients

    def fill(self, embedder: Embedder) -> None:
        """Compute all vectors now."""
        self.vectors = embedder.vectors(self.questions, AT_ONCE)
        self.golds, self.counts = self.golds.to(self.vectors.device), self.counts.to(self.vectors.device)

    def remember(self, places: Sequence[int], vectors: Tensor) -> None:
        """Take over the `vectors` of the answers of the questions at `places`."""
        assert self.vectors is not None
        self.vectors[self._rows(places)] = vectors.detach()

    def prototypes(self, names: Tensor) -> Tensor:
        """(labels, dim): the labels' prototypes, from their names' vectors (labels, dim)."""
        return self._prototypes(self._sums(), self.counts, names)

    def others(self, names: Tensor, places: Sequence[int]) -> Tensor:
        """(answers, dim): the prototype of each answer's own label, without the answers of its question."""
        assert self.vectors is not None
        rows = self._rows(places)
        question = torch.tensor([place for place in places for _ in self.questions[place].labels], device=rows.device)
        golds = self.golds[rows]
        same = ((golds[:, None] == golds) & (question[:, None] == question)).float()
        sums = self._sums()[golds] - same @ self.vectors[rows]
        return self._prototypes(sums, self.counts[golds] - same.sum(1, keepdim=True), names[golds])

    def _rows(self, places: Sequence[int]) -> Tensor:
        rows = [row for place in places for row in range(self.starts[place], self.starts[place + 1])]
        return torch.tensor(rows, device=self.golds.device)

    def _sums(self) -> Tensor:
        assert self.vectors is not None
        return self.vectors.new_zeros(len(self.counts), self.vectors.shape[1]).index_add(0, self.golds, self.vectors)

    def _prototypes(self, sums: Tensor, counts: Tensor, names: Tensor) -> Tensor:
        shares = torch.where(counts > 0, self.name_share, 1.0)
        return torch.nn.functional.normalize(sums / counts.clamp(min=1) + shares * names, dim=-1)
