"""The fold that is held out, as the trainer's evaluator."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import polars as pl
from sentence_transformers.base.evaluation import BaseEvaluator

from pipeline.metrics import evaluate
from pipeline.train.rows import Rows

log = logging.getLogger(__name__)


class Held(BaseEvaluator):
    """MAP@25 and recall of the fold for all, seen and unseen labels; `rank` gives its run by the model as it is."""

    def __init__(self, rows: Rows, rank: Callable[[], pl.DataFrame]) -> None:
        super().__init__()
        self.rows, self.rank = rows, rank
        self.primary_metric = "all_map@25"
        self.last: pl.DataFrame | None = None  # the run, as last ranked

    def __call__(self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1) -> dict[str, float]:
        """The scores, as the trainer logs them."""
        self.last = self.rank()
        told = ("map@25", "recall@25", "recall@100")
        flat = {f"{row['subset']}_{name}": row[name] for row in self.scores(self.last) for name in told}
        log.info("epoch %.2f: %s", epoch, ", ".join(f"{name} {value:.3f}" for name, value in flat.items()))
        return flat

    def run(self) -> pl.DataFrame:
        """The run as the last epoch left it: ranked then, unless that was before this process began."""
        return self.rank() if self.last is None else self.last

    def scores(self, run: pl.DataFrame) -> list[dict[str, Any]]:
        """A row a subset; see `metrics.evaluate`."""
        return evaluate(run, self.rows.qrels, self.rows.seen).to_dicts()
