"""A contrastive loss on a few questions, ready for its first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import torch

from pipeline.config import Contrastive, Dense, Lora
from pipeline.models import adapters
from pipeline.models.encoder import SentenceEncoder, load
from pipeline.retrieve.dense import label_texts, query_texts
from pipeline.schema import CATALOG, QUERIES

NAMES = {
    70: "Adds the tops and the bottoms",
    10: "Takes the smaller from the larger digit",
    30: "adds  the tops and the bottoms ",  # a twin of 70
    20: "Believes that a longer number is larger",
    60: "Reads a ratio as a fraction of the whole",
    50: "Believes that angles in a triangle sum to 360",
    40: "Multiplies instead of squaring",
    80: "Counts the first term twice",
}
PLACE = {label: place for place, label in enumerate(NAMES)}
LABELS = {"1_B": 70, "1_C": 10, "1_D": 20, "2_A": 10, "0:5_A": 50}
HELD = [("1_B", 70), ("1_C", 10), ("1_D", 20), ("2_A", 10)]  # of the first two questions, as the loss has them
RIGHT = {"1": {70, 30, 10, 20}, "2": {10}}  # what answers of the question may not be pushed away from: labels and their twins


def catalog() -> pl.DataFrame:
    """The names, as a CATALOG."""
    return pl.DataFrame({"label_id": list(NAMES), "label": list(NAMES.values())}, schema=CATALOG.columns)


def train() -> pl.DataFrame:
    """QUERIES of the answers, with their labels."""
    rows = []
    for query, label in LABELS.items():
        question = query.rpartition("_")[0]
        told = {"question": f"What is {question} and a half?", "correct": "3/2", "wrong": f"{query[-1]} {label}"}
        rows.append({"query_id": query, "question_id": question, "construct": "Add", "subject": "Fractions", **told})
    return pl.DataFrame(rows, schema=QUERIES.columns).with_columns(label_id=pl.Series(LABELS.values(), dtype=pl.Int32))


class Set:
    """A loss on a model's rows, ready for its first step."""

    def __init__(
        self, folder: Path, train: pl.DataFrame, catalog: pl.DataFrame, lora: Lora | None = None, **recipe: Any
    ) -> None:
        from pipeline.train.contrastive import prepared

        dtype = recipe.pop("dtype", "float32")
        examples = recipe.pop("examples", ())
        self.spec = Dense(weights=str(folder), dtype=dtype, template="short", examples=examples, name_share=0.5)
        self.recipe = Contrastive(**{"frozen": 0, "hard": 0, "temperature": 0.5, "lora": lora, **recipe})
        torch.manual_seed(0)
        self.encoder = SentenceEncoder(load(folder, self.spec), self.spec)
        if lora:
            adapters.add(self.encoder.model, lora, self.recipe.frozen)
        self.task = prepared(self.encoder, train, catalog, "these", self.recipe, self.spec)
        self.loss: Any = self.task.loss
        self.loss.steps = 1  # else the first step makes the memory anew, and none can be planted
        self.queries = torch.as_tensor(self.encoder.encode(query_texts(train, self.spec), "query"))
        self.labels = torch.as_tensor(self.encoder.encode(label_texts(catalog, self.spec), "label"))

    def __call__(self, *places: int) -> Any:
        """The loss of the questions at `places`, handed over as the trainer does it."""
        batch = self.task.collator([{"place": place} for place in places])
        return self.loss([{"input_ids": batch["at_input_ids"]}])

    def with_memory(self, label: int, vector: Any, *places: int) -> float:
        """The loss when the memory, exact but for that, holds `vector` for `label`."""
        self.loss.memory = self.labels.clone()
        self.loss.memory[PLACE[label]] = vector
        with torch.no_grad():
            return self(*places).item()

    def wanted(self, denominators: dict[str, set[int]]) -> float:
        """The first two questions' loss by its formula, from the encoder's own vectors; which labels each answer is
        told from, by question."""
        losses = []
        for row, (query, gold) in enumerate(HELD):
            logits = self.labels @ self.queries[row] / self.recipe.temperature
            told = [PLACE[label] for label in denominators[query[0]] | {gold}]
            losses.append(torch.logsumexp(logits[told], 0) - logits[PLACE[gold]])
        return torch.stack(losses).mean().item()
