"""The contrastive loss: against the whole catalogue, but never against what is right, and with gradients where they belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.config import Lora
from pipeline.retrieve.dense import label_texts, query_texts

torch = pytest.importorskip("torch", reason="the models' packages are not installed")

import contrast  # noqa: E402
from contrast import LABELS, NAMES, PLACE, RIGHT, Set  # noqa: E402


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EEDI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def catalog() -> pl.DataFrame:
    return contrast.catalog()


@pytest.fixture
def train() -> pl.DataFrame:
    return contrast.train()


def own(frozen: int) -> dict[str, Any]:
    return {"lora": Lora(rank=4, alpha=8), "frozen": frozen}


@pytest.mark.parametrize("frozen", [0, 2])
def test_an_answer_is_told_from_the_whole_catalogue_but_for_its_question_s_labels_and_what_reads_like_them(
    frozen: int, tiny_qwen: Path, train: pl.DataFrame, catalog: pl.DataFrame
) -> None:
    set_ = Set(tiny_qwen, train, catalog, frozen=frozen)
    everything = set(NAMES)
    wanted = set_.wanted({question: everything - right for question, right in RIGHT.items()})
    unguarded = set_.wanted({"1": everything, "2": everything})
    with torch.no_grad():
        assert set_(0, 1).item() == pytest.approx(wanted, abs=1e-4)
    assert abs(wanted - unguarded) > 0.01


def test_against_the_batch_an_answer_is_told_from_the_other_questions_labels_alone(
    tiny_qwen: Path, train: pl.DataFrame, catalog: pl.DataFrame
) -> None:
    set_ = Set(tiny_qwen, train, catalog, negatives="batch")
    seen = {70, 10, 20}
    with torch.no_grad():
        told = set_(0, 1).item()
    assert told == pytest.approx(set_.wanted({question: seen - right for question, right in RIGHT.items()}), abs=1e-4)
    assert told > 0.1  # the second question's answer is told from the first's labels


def test_a_twin_of_a_right_label_pushes_nothing_away_and_a_wrong_label_does(
    tiny_qwen: Path, train: pl.DataFrame, catalog: pl.DataFrame
) -> None:
    set_ = Set(tiny_qwen, train, catalog)
    query, away = set_.queries[0], -set_.queries[0]
    assert set_.with_memory(30, query, 0) == pytest.approx(set_.with_memory(30, away, 0), abs=1e-6)
    assert set_.with_memory(60, query, 0) > set_.with_memory(60, away, 0) + 0.01
    # the same label is a negative like any other for a question that does not have its twin
    assert set_.with_memory(30, set_.queries[3], 1) > set_.with_memory(30, -set_.queries[3], 1) + 0.01


def test_what_the_batch_computes_is_fresh_and_remembered_and_the_rest_stays_as_it_was(
    tiny_qwen: Path, train: pl.DataFrame, catalog: pl.DataFrame
) -> None:
    set_ = Set(tiny_qwen, train, catalog)
    stale = torch.nn.functional.normalize(torch.randn_like(set_.labels), dim=-1)
    set_.loss.memory = stale.clone()
    set_(0).backward()
    for label, place in PLACE.items():
        now = set_.labels if label in (70, 10, 20) else stale
        assert torch.allclose(set_.loss.memory[place], now[place], atol=1e-5), label
    assert not set_.loss.memory.requires_grad


@pytest.mark.parametrize("weights", ["tiny_qwen", "tiny_bert"])
def test_the_first_memory_is_the_whole_catalogue_without_dropout(
    weights: str, train: pl.DataFrame, catalog: pl.DataFrame, request: pytest.FixtureRequest
) -> None:
    set_ = Set(request.getfixturevalue(weights), train, catalog)
    set_.encoder.model.train()
    assert torch.allclose(set_.loss.remembered(), set_.labels, atol=1e-5)
    assert set_.encoder.model.training and set_.encoder.packed.body.training


def test_the_memory_is_made_anew_every_so_many_steps(tiny_qwen: Path, train: pl.DataFrame, catalog: pl.DataFrame) -> None:
    set_ = Set(tiny_qwen, train, catalog, refresh=3)
    stale = torch.nn.functional.normalize(torch.randn_like(set_.labels), dim=-1)
    kept = []
    set_.loss.steps = 0
    for _ in range(7):
        set_.loss.memory = stale.clone()
        with torch.no_grad():
            set_(1)
        kept.append(torch.equal(set_.loss.memory[PLACE[80]], stale[PLACE[80]]))
    assert kept == [False, True, True, False, True, True, False]
    assert torch.allclose(set_.loss.memory, set_.labels, atol=1e-5)


def refreshed(set_: Set, near: dict[int, Any], *places: int) -> set[int]:
    """Which labels a step computes anew when the memory holds `near`, and for the others what is far from every query."""
    far = -set_.queries.mean(0)
    set_.loss.memory = torch.stack([near.get(label, far) for label in NAMES])
    before = set_.loss.memory.clone()
    with torch.no_grad():
        set_(*places)
    return {label for label, place in PLACE.items() if not torch.equal(set_.loss.memory[place], before[place])}


def test_the_nearest_wrong_labels_are_computed_anew(tiny_qwen: Path, train: pl.DataFrame, catalog: pl.DataFrame) -> None:
    set_ = Set(tiny_qwen, train, catalog, hard=1)
    query = set_.queries[3]  # the second question's only answer, whose label is 10
    assert refreshed(set_, {80: query}, 1) == {10, 80}
    assert refreshed(set_, {40: query, 80: 0.9 * query, 10: 2 * query}, 1) == {10, 40}  # its own label takes no place
    more = Set(tiny_qwen, train, catalog, hard=2)
    assert refreshed(more, {40: query, 80: 0.9 * query}, 1) == {10, 40, 80}


def test_what_reads_like_a_right_label_is_never_a_hard_negative(
    tiny_qwen: Path, train: pl.DataFrame, catalog: pl.DataFrame
) -> None:
    set_ = Set(tiny_qwen, train, catalog, hard=1)
    first = set_.queries[0]
    assert refreshed(set_, {30: 2 * first, 60: first}, 0) == {70, 10, 20, 60}


@pytest.mark.parametrize("frozen", [0, 2])
def test_the_gradient_reaches_the_adapter_and_nothing_else(
    frozen: int, tiny_qwen: Path, train: pl.DataFrame, catalog: pl.DataFrame
) -> None:
    set_ = Set(tiny_qwen, train, catalog, **own(frozen))
    body = set_.encoder.packed.body
    with torch.no_grad():  # B begins as zeros, and would keep the gradient from A
        for name, weight in body.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    set_(0, 1).backward()
    reached = {name for name, weight in body.named_parameters() if weight.grad is not None and weight.grad.abs().max() > 0}
    assert reached == {name for name, _ in body.named_parameters() if "lora_" in name}
    assert {int(name.split(".")[1]) for name in reached} == set(range(frozen, 4))


def test_without_an_adapter_the_gradient_reaches_all_weights_above_the_frozen_layers(
    tiny_qwen: Path, train: pl.DataFrame, catalog: pl.DataFrame
) -> None:
    set_ = Set(tiny_qwen, train, catalog, frozen=3)
    set_(0, 1).backward()
    body = set_.encoder.packed.body
    reached = {name for name, weight in body.named_parameters() if weight.grad is not None}
    assert reached == {name for name, _ in body.named_parameters() if name.startswith(("layers.3.", "norm."))}


def test_the_answers_and_their_labels_both_get_a_gradient(tiny_qwen: Path, train: pl.DataFrame, catalog: pl.DataFrame) -> None:
    set_ = Set(tiny_qwen, train, catalog)
    set_.loss.memory = set_.labels.clone()
    made: list[Any] = []
    vectors = set_.loss.embedder.vectors

    def watched(*arguments: Any) -> Any:
        made.append(vectors(*arguments))
        made[-1].retain_grad()
        return made[-1]

    set_.loss.embedder.vectors = watched
    set_(0, 1).backward()
    assert [len(each) for each in made] == [4, 3]  # answers; labels
    assert all(each.grad.abs().max() > 1e-4 for each in made)


@pytest.mark.parametrize("negatives", ["catalog", "batch"])
@pytest.mark.parametrize("weights", ["tiny_qwen", "tiny_bert", "tiny_roberta"])
def test_steps_lower_the_loss_until_each_answer_s_label_is_nearest(
    weights: str, negatives: str, train: pl.DataFrame, catalog: pl.DataFrame, request: pytest.FixtureRequest
) -> None:
    recipe = {**own(0), "negatives": negatives, "hard": 1, "temperature": 0.1}
    set_ = Set(request.getfixturevalue(weights), train, catalog, **recipe)
    learning = [weight for weight in set_.encoder.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=0.02)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        losses.append(set_(0, 1, 2))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 4
    queries, labels = (
        set_.encoder.encode(texts, "query") for texts in (query_texts(train, set_.spec), label_texts(catalog, set_.spec))
    )
    barred = [[PLACE[label] for label in RIGHT.get(name, ())] for name in train["question_id"]]
    scores = queries @ labels.T
    for row, gold in enumerate(LABELS.values()):
        scores[row, [place for place in barred[row] if place != PLACE[gold]]] = -1
        if negatives == "batch":  # nobody told it from the others
            scores[row, [PLACE[label] for label in set(NAMES) - set(LABELS.values())]] = -1
        assert scores[row].argmax() == PLACE[gold]


def test_an_adapter_in_32_bits_learns_and_computes_on_weights_of_16(
    tiny_qwen: Path, train: pl.DataFrame, catalog: pl.DataFrame
) -> None:
    exact, mixed = (Set(tiny_qwen, train, catalog, dtype=dtype, **own(2)) for dtype in ("float32", "bfloat16"))
    computed: set[Any] = set()
    for name, module in mixed.encoder.packed.body.named_modules():
        if name.endswith("lora_A.default"):
            module.register_forward_hook(lambda _, given, out: computed.update((given[0].dtype, out.dtype)))
    losses = [set_(0, 1) for set_ in (exact, mixed)]
    assert computed == {torch.bfloat16}  # both compute in 16, and no input is copied
    assert losses[1].item() == pytest.approx(losses[0].item(), abs=0.05)
    losses[1].backward()
    body = mixed.encoder.packed.body
    assert {weight.dtype for weight in body.parameters() if weight.requires_grad} == {torch.float32}
    assert {weight.dtype for weight in body.parameters() if not weight.requires_grad} == {torch.bfloat16}
    grads = [weight.grad for name, weight in body.named_parameters() if "lora_B" in name]
    assert all(grad is not None and grad.isfinite().all() and grad.abs().max() > 0 for grad in grads)
