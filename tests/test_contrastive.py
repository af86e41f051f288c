"""The contrastive loss: against the whole catalogue, but never against what is right, and with gradients where they belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.config import Contrastive, Dense, Lora
from pipeline.models import adapters
from pipeline.models.encoder import SentenceEncoder, load
from pipeline.retrieve.dense import label_texts, query_texts
from pipeline.schema import CATALOG, QUERIES

torch = pytest.importorskip("torch", reason="the models' packages are not installed")

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


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EEDI_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def catalog() -> pl.DataFrame:
    return pl.DataFrame({"label_id": list(NAMES), "label": list(NAMES.values())}, schema=CATALOG.columns)


@pytest.fixture
def train() -> pl.DataFrame:
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


def test_by_examples_an_answer_is_told_from_prototypes_and_drawn_to_its_own_label_s_without_its_question(
    tiny_qwen: Path, train: pl.DataFrame, catalog: pl.DataFrame
) -> None:
    set_ = Set(tiny_qwen, train, catalog, examples=("any.csv",))
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
    tiny_qwen: Path, train: pl.DataFrame, catalog: pl.DataFrame
) -> None:
    set_ = Set(tiny_qwen, train, catalog, examples=("any.csv",))
    set_(0).backward()
    bank = set_.loss.bank
    assert torch.allclose(bank.vectors, set_.queries, atol=1e-5) and not bank.vectors.requires_grad
    bank.vectors = -set_.queries.clone()
    set_(0)
    assert torch.allclose(bank.vectors[:3], set_.queries[:3], atol=1e-5)
    assert torch.equal(bank.vectors[3:], -set_.queries[3:])


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
