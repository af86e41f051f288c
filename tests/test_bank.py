"""Prototypes of remembered vectors: what an answer is compared with where labels are known by examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the models' packages are not installed")

from contrast import HELD, LABELS, NAMES, PLACE, RIGHT, Set, catalog, train  # noqa: E402

pytestmark = pytest.mark.usefixtures("own_cache")


def test_by_examples_an_answer_is_told_from_prototypes_and_drawn_to_its_own_label_s_without_its_question(
    tiny_qwen: Path,
) -> None:
    set_ = Set(tiny_qwen, train(), catalog(), examples=("any.csv",))
    golds = list(LABELS.values())

    def prototype(label: int, without: str = "") -> Any:
        told = [i for i, query in enumerate(LABELS) if golds[i] == label and query.rpartition("_")[0] != without]
        name = set_.labels[PLACE[label]]
        mean = set_.queries[told].mean(0) + 0.5 * name if told else name
        return torch.nn.functional.normalize(mean, dim=0)

    losses = []
    for row, (query, gold) in enumerate(HELD):
        question = query[0]
        others = [prototype(label) @ set_.queries[row] for label in set(NAMES) - RIGHT[question]]
        own = prototype(gold, question) @ set_.queries[row]
        logits = torch.stack([own, *others]) / set_.recipe.temperature
        losses.append(torch.logsumexp(logits, 0) - logits[0])
    with torch.no_grad():
        assert set_(0, 1).item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-4)


def test_an_answer_s_vector_is_remembered_for_the_others_of_its_label(
    tiny_qwen: Path,
) -> None:
    set_ = Set(tiny_qwen, train(), catalog(), examples=("any.csv",))
    set_(0).backward()
    bank = set_.loss.bank
    assert torch.allclose(bank.vectors, set_.queries, atol=1e-5) and not bank.vectors.requires_grad
    bank.vectors = -set_.queries.clone()
    set_(0)
    assert torch.allclose(bank.vectors[:3], set_.queries[:3], atol=1e-5)
    assert torch.equal(bank.vectors[3:], -set_.queries[3:])
