"""Each answer's misconception against the rest of the catalogue: InfoNCE with a memory of label vectors.

A catalogue of a few thousand labels is small enough to be the softmax's whole denominator. The labels of the batch and its
hardest negatives are computed anew, with gradients; all others count with the vector they had when last computed. Where the
retriever knows labels by examples, they are prototypes here too.
Sources: van den Oord et al., "Representation Learning with Contrastive Predictive Coding" (2018), for the loss; Wang et al.,
"Cross-Batch Memory for Embedding Learning" (2020), for the memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn

from pipeline import prompts
from pipeline.config import Contrastive, Dense
from pipeline.errors import InputError
from pipeline.models.encoder import SentenceEncoder
from pipeline.retrieve.dense import label_texts, query_texts
from pipeline.runs import ranked, stored_run
from pipeline.train.bank import Bank
from pipeline.train.loop import Places, Task
from pipeline.train.rows import repeated
from pipeline.train.units import AT_ONCE, Embedder, Unit, refuse_frozen


def prepared(
    encoder: SentenceEncoder, train: pl.DataFrame, catalog: pl.DataFrame, weights: str, recipe: Contrastive, spec: Dense
) -> Task:
    """What the trainer needs: its column is the questions' places.

    `train` are QUERIES with a `label_id`; `weights` is the fingerprint of the backbone's.

    Raises `InputError` for a backbone that cannot be computed on trees.
    """
    if not encoder.fits:
        raise InputError(
            f"weights {spec.weights}",
            found="a backbone that does not take masks and positions of ours",
            wanted="BERT, RoBERTa, Qwen, Llama, Mistral or one of their kind",
            remedy="Choose other weights, or train with a seed recipe.",
        )
    refuse_frozen(encoder.packed, recipe)
    for module in encoder.packed.body.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # of attention it costs several times the attention itself
    embedder = Embedder(encoder.packed, recipe.frozen, weights)
    place = {label: i for i, label in enumerate(catalog["label_id"])}
    names = catalog["label"].to_list()
    labels = embedder.units([[text] for text in label_texts(catalog, spec)], [[i] for i in range(len(names))])
    groups = [group for _, group in train.group_by("question_id", maintain_order=True)]
    questions = embedder.units(
        [query_texts(group, spec) for group in groups], [[place[label] for label in group["label_id"]] for group in groups]
    )
    by_text: dict[str, set[int]] = {}
    for i, name in enumerate(names):
        by_text.setdefault(prompts.tidy(name).lower(), set()).add(i)
    twins = {i: same - {i} for same in by_text.values() if len(same) > 1 for i in same}
    mined = _mined(Path(recipe.mined), groups, place, recipe.mined_each) if recipe.mined else [[] for _ in groups]
    bank = Bank(questions, len(names), spec.name_share) if spec.examples else None
    loss = Contrast(encoder.model, embedder, questions, labels, twins, mined, recipe, bank)
    return Task(loss, {"place": repeated([group["question_id"][0] for group in groups], recipe.repeat)}, Places())


def _mined(run: Path, groups: Sequence[pl.DataFrame], place: Mapping[int, int], each: int) -> list[list[int]]:
    """For each question the best labels of a stored run that are none of its own, as places; none where the run is silent."""
    ranking = ranked(stored_run(run, "Check train.encoder.mined."))
    told = pl.concat([group.select("question_id", "query_id", "label_id") for group in groups])
    own = told.select("question_id", "label_id").unique()
    best = (
        ranking.join(told.select("question_id", "query_id").unique(), on="query_id")
        .join(own, on=["question_id", "label_id"], how="anti")
        .sort("query_id", "rank")
        .group_by("query_id", maintain_order=True)
        .head(each)
        .group_by("question_id")
        .agg("label_id")
    )
    found = dict(best.iter_rows())
    try:
        return [[place[label] for label in found.get(group["question_id"][0], [])] for group in groups]
    except KeyError as error:
        raise InputError(
            run, found=f"label {error}", wanted="labels of this catalogue", remedy="Check train.encoder.mined and --data."
        ) from None


class Contrast(nn.Module):
    """The loss of questions, given by their places in `questions`.

    No label of the same question is a negative of another of its answers, nor is one of the `twins`, which read the same.
    `mined` are each question's further labels to be computed anew, as places in the catalogue.
    """

    def __init__(
        self,
        model: nn.Module,
        embedder: Embedder,
        questions: Sequence[Unit],
        catalog: Sequence[Unit],
        twins: Mapping[int, set[int]],
        mined: Sequence[Sequence[int]],
        spec: Contrastive,
        bank: Bank | None = None,
    ) -> None:
        super().__init__()
        self.model = model  # the trainer looks for it
        self.embedder, self.questions, self.catalog = embedder, questions, catalog
        self.twins, self.mined, self.spec = twins, mined, spec
        self.bank = bank
        self.memory: Tensor | None = None  # (labels, dim) unit rows of their names, without gradients
        self.steps = 0

    def forward(self, features: list[dict[str, Any]], _: Tensor | None = None) -> Tensor:
        """The batch's mean loss; `features` are one mapping, whose "input_ids" are the questions' places."""
        if self.memory is None or self.steps % self.spec.refresh == 0:
            self.memory = self.remembered()
        self.steps += self.training
        places = features[0]["input_ids"].tolist()
        units = [self.questions[place] for place in places]
        queries = self.embedder.vectors(units)
        golds = torch.tensor([gold for unit in units for gold in unit.labels], device=queries.device)
        barred = torch.zeros(len(golds), len(self.catalog), dtype=torch.bool, device=queries.device)
        answers = [(unit, gold) for unit in units for gold in unit.labels]
        for row, (unit, gold) in enumerate(answers):
            barred[row, [label for own in unit.labels for label in (own, *self.twins.get(own, ()))]] = True
            barred[row, gold] = False

        fresh = sorted(
            {*golds.tolist(), *self._hard(queries, golds, barred), *(label for place in places for label in self.mined[place])}
        )
        vectors = self.embedder.vectors([self.catalog[label] for label in fresh])
        index = torch.tensor(fresh, device=queries.device)
        names = self.memory.index_copy(0, index, vectors)
        logits = queries @ self._seen(names).T
        if self.bank:
            own = (queries * self.bank.others(names, places)).sum(1, keepdim=True)
            logits = logits.scatter(1, golds[:, None], own)
            self.bank.remember(places, queries)
        if self.spec.negatives == "batch":
            logits, barred = logits[:, index], barred[:, index]
            golds = torch.searchsorted(index, golds)
        self.memory[index] = vectors.detach()
        return nn.functional.cross_entropy((logits / self.spec.temperature).masked_fill(barred, -torch.inf), golds)

    def _seen(self, names: Tensor) -> Tensor:
        """(labels, dim): what answers are compared with, by the labels' names."""
        return self.bank.prototypes(names) if self.bank else names

    def remembered(self) -> Tensor:
        """(labels, dim): the whole catalogue's names, computed now, and with the first of them the bank."""
        learning = self.model.training
        self.model.eval()  # no dropout in what is remembered
        with torch.no_grad():
            vectors = self.embedder.vectors(self.catalog, AT_ONCE)
            if self.bank and self.bank.vectors is None:
                self.bank.fill(self.embedder)
        self.model.train(learning)
        return vectors

    def _hard(self, queries: Tensor, golds: Tensor, barred: Tensor) -> list[int]:
        """The labels nearest to each query by the memory, without its own and the barred."""
        if not self.spec.hard or self.memory is None:
            return []
        with torch.no_grad():
            near = (queries @ self._seen(self.memory).T).masked_fill(barred, -torch.inf).scatter(1, golds[:, None], -torch.inf)
            return [int(label) for label in near.topk(self.spec.hard, dim=1).indices.flatten()]
