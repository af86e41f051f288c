"""The seed model's loss and the mended one: what each teaches the embedding, on a Qwen2 of four layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.config import Dense, Seed, SeedMended
from pipeline.errors import InputError
from pipeline.schema import CATALOG, QUERIES

pytest.importorskip("torch", reason="the models' packages are not installed")

LABELS = ("Adds the tops and the bottoms", "Thinks a square has three sides", "Reads minus as plus", "Rounds down")
WRONG = ("2/5", "three", "9", "4")


@dataclass
class Recipe:
    """A recipe's loss on the tiny Qwen2, and its pairs, an answer's text and its label's."""

    model: Any
    loss: Any
    answers: list[str]
    labels: list[str]

    def tokens(self, texts: list[str]) -> dict[str, Any]:
        return dict(self.model.preprocess(texts))

    def of(self, answers: list[str], labels: list[str]) -> Any:
        """The loss, with what it does to the embeddings of the answers in `self.embeddings`."""

        def note(_: object, __: object, out: dict[str, Any]) -> None:
            made.append(out["sentence_embedding"])
            made[-1].retain_grad()

        made: list[Any] = []
        hook = self.model[1].register_forward_hook(note)
        value = self.loss([self.tokens(answers), self.tokens(labels)], None)
        hook.remove()
        self.embeddings = made[0]
        return value


def prepared(folder: Path, recipe: Seed) -> Recipe:
    from pipeline.models.encoder import SentenceEncoder, load
    from pipeline.train import reconstruction

    spec = Dense(weights=str(folder), template="seed", pooling="mean", dtype="float32")
    encoder = SentenceEncoder(load(folder, spec), spec)
    told = [dict.fromkeys(QUERIES.columns, "of") | {"query_id": f"{i}_A", "wrong": wrong} for i, wrong in enumerate(WRONG)]
    train = pl.DataFrame(told, schema=QUERIES.columns).with_columns(label_id=pl.int_range(len(WRONG), dtype=pl.Int32))
    catalog = pl.DataFrame(list(enumerate(LABELS)), schema=CATALOG.columns, orient="row")
    task = reconstruction.prepared(encoder, train, catalog, folder, recipe, spec)
    return Recipe(encoder.model, task.loss, task.columns["sentence_0"], task.columns["sentence_1"])


@pytest.fixture
def seed(tiny_qwen: Path) -> Recipe:
    return prepared(tiny_qwen, Seed())


@pytest.fixture
def mended(tiny_qwen: Path) -> Recipe:
    return prepared(tiny_qwen, SeedMended())


def gradient(weight: Any) -> float:
    return 0.0 if weight.grad is None else float(weight.grad.abs().max())


def test_the_pairs_are_answers_and_their_labels_as_the_seed_reads_them(seed: Recipe) -> None:
    assert seed.answers == [f"of {wrong}" for wrong in WRONG]
    assert seed.labels == [label.lower() for label in LABELS]


def test_the_seed_s_loss_gives_the_embedding_no_gradient_though_the_weights_have_one(seed: Recipe) -> None:
    """The flaw, kept to the letter: what is trained is a language model of labels, whatever the answer."""
    seed.of(seed.answers, seed.labels).backward()
    assert gradient(seed.embeddings) == 0
    assert gradient(seed.model[0].model.layers[0].mlp.up_proj.weight) > 0


def test_the_seed_s_loss_is_the_same_for_any_answer(seed: Recipe) -> None:
    assert seed.of(seed.answers, seed.labels).item() == seed.of(seed.answers[::-1], seed.labels).item()


def test_the_seed_trains_the_encoder_s_own_weights(seed: Recipe) -> None:
    own = {id(weight) for weight in seed.model.parameters()}
    trained = {id(weight) for weight in seed.loss.decoder.model.parameters()}
    assert own == trained
    assert {str(weight.dtype) for weight in seed.model.parameters()} == {"torch.float32"}


def test_mended_the_embedding_has_a_gradient_in_every_answer(mended: Recipe) -> None:
    mended.of(mended.answers, mended.labels).backward()
    assert (mended.embeddings.grad.abs().amax(dim=1) > 1e-6).all()


def test_mended_the_loss_depends_on_which_answer_is_which_label_s(mended: Recipe) -> None:
    one, other = (mended.of(answers, mended.labels).item() for answers in (mended.answers, mended.answers[::-1]))
    assert abs(one - other) > 1e-6


def test_a_label_s_loss_is_the_same_alone_and_padded_among_longer_ones(mended: Recipe) -> None:
    """The mean is over tokens, so a batch's loss is the mean of the labels' own, weighted by their lengths."""
    import torch

    assert mended.model.tokenizer.padding_side == "right"  # as `reconstruct` asks
    with torch.no_grad():
        embeddings = mended.model(mended.tokens(mended.answers))["sentence_embedding"]
        tokens = mended.tokens(mended.labels)
        lengths = tokens["attention_mask"].sum(1)
        assert len(set(lengths.tolist())) > 1
        alone = torch.stack(
            [mended.loss.reconstruct(embeddings[i : i + 1], mended.tokens([label])) for i, label in enumerate(mended.labels)]
        )
        together = mended.loss.reconstruct(embeddings, tokens)
    assert together.item() == pytest.approx(((alone * lengths).sum() / lengths.sum()).item(), rel=1e-5)


def test_mended_a_label_is_written_from_its_own_answer_s_embedding_and_not_from_another_s(mended: Recipe) -> None:
    import torch

    optimizer = torch.optim.Adam(mended.model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        mended.of(mended.answers, mended.labels).backward()
        optimizer.step()
    with torch.no_grad():
        embeddings = mended.model(mended.tokens(mended.answers))["sentence_embedding"]
        losses = torch.stack(
            [
                torch.stack([mended.loss.reconstruct(each[None], mended.tokens([label])) for each in embeddings])
                for label in mended.labels
            ]
        )
    own = losses.diagonal()
    others = losses.masked_fill(torch.eye(len(own), dtype=torch.bool), torch.inf).amin(dim=1)
    assert (own < others).all(), losses


@pytest.mark.parametrize("recipe", [Seed(), SeedMended()], ids=lambda recipe: recipe.kind)
def test_an_encoder_that_cannot_write_is_refused(tiny_bert: Path, recipe: Seed) -> None:
    with pytest.raises(InputError, match=r"(?s)weights .*found: +BertModel\n.*wanted: .*decoder.*remedy: .*contrastive"):
        prepared(tiny_bert, recipe)
