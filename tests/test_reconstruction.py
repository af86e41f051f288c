"""The seed model's loss and the mended one: what each teaches the embedding, on a Qwen2 of four layers."""

from __future__ import annotations

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


class Prepared:
    """A recipe's task on the tiny Qwen2."""

    def __init__(self, folder: Path, recipe: Seed) -> None:
        from pipeline.models.encoder import SentenceEncoder, load
        from pipeline.train import reconstruction

        spec = Dense(weights=str(folder), template="seed", pooling="mean", dtype="float32")
        encoder = SentenceEncoder(load(folder, spec), spec)
        told = [dict.fromkeys(QUERIES.columns, "of") | {"query_id": f"{i}_A", "wrong": wrong} for i, wrong in enumerate(WRONG)]
        train = pl.DataFrame(told, schema=QUERIES.columns).with_columns(label_id=pl.int_range(len(WRONG), dtype=pl.Int32))
        catalog = pl.DataFrame(list(enumerate(LABELS)), schema=CATALOG.columns, orient="row")
        self.model = encoder.model
        task = reconstruction.prepared(encoder, train, catalog, folder, recipe, spec)
        self.loss: Any = task.loss
        self.columns = task.columns


class Published(Prepared):
    """The seed's recipe."""

    def of(self, answers: list[str]) -> Any:
        """The loss of the labels with these answers, whose embeddings, and the loss's effect on them, are `self.embeddings`."""

        def note(_: object, __: object, out: dict[str, Any]) -> None:
            self.embeddings = out["sentence_embedding"]
            self.embeddings.retain_grad()

        hook = self.model[1].register_forward_hook(note)
        value = self.loss([dict(self.model.preprocess(texts)) for texts in (answers, self.columns["sentence_1"])], None)
        hook.remove()
        return value


class Mended(Prepared):
    """The mended one."""

    def of(self, places: list[int]) -> Any:
        """The loss of the pairs at `places`."""
        import torch

        return self.loss([{"input_ids": torch.tensor(places)}])

    def embeddings(self) -> Any:
        """The answers', without gradients."""
        import torch

        with torch.no_grad():
            return self.loss.embedder.read(self.loss.answers)

    def texts(self) -> list[list[int]]:
        return [unit.tree.tokens.tolist() for unit in self.loss.labels]


@pytest.fixture
def seed(tiny_qwen: Path) -> Published:
    return Published(tiny_qwen, Seed())


@pytest.fixture
def mended(tiny_qwen: Path) -> Mended:
    return Mended(tiny_qwen, SeedMended())


def gradient(weight: Any) -> float:
    return 0.0 if weight.grad is None else float(weight.grad.abs().max())


def test_the_pairs_are_answers_and_their_labels_as_the_seed_reads_them(seed: Published) -> None:
    assert seed.columns["sentence_0"] == [f"of {wrong}" for wrong in WRONG]
    assert seed.columns["sentence_1"] == [label.lower() for label in LABELS]


def test_mended_the_pairs_are_the_same(seed: Published, mended: Mended) -> None:
    tokens = mended.loss.embedder.packed.tokens
    assert [unit.tree.tokens.tolist() for unit in mended.loss.answers] == tokens(seed.columns["sentence_0"])
    assert mended.texts() == tokens(seed.columns["sentence_1"])
    assert mended.columns == {"place": [0, 1, 2, 3]}


def test_the_seed_s_loss_gives_the_embedding_no_gradient_though_the_weights_have_one(seed: Published) -> None:
    """The flaw, kept to the letter: what is trained is a language model of labels, whatever the answer."""
    seed.of(seed.columns["sentence_0"]).backward()
    assert gradient(seed.embeddings) == 0
    assert gradient(seed.model[0].model.layers[0].mlp.up_proj.weight) > 0


def test_the_seed_s_loss_is_the_same_for_any_answer(seed: Published) -> None:
    answers = seed.columns["sentence_0"]
    assert seed.of(answers).item() == seed.of(answers[::-1]).item()


def test_the_seed_trains_the_encoder_s_own_weights(seed: Published) -> None:
    own = {id(weight) for weight in seed.model.parameters()}
    trained = {id(weight) for weight in seed.loss.decoder.model.parameters()}
    assert own == trained
    assert {str(weight.dtype) for weight in seed.model.parameters()} == {"torch.float32"}


def test_mended_every_embedding_has_a_gradient_and_it_reaches_the_encoder(
    mended: Mended, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    read = mended.loss.embedder.read

    def noted(units: list[Any]) -> Any:
        made.append(read(units))
        made[-1].retain_grad()
        return made[-1]

    monkeypatch.setattr(mended.loss.embedder, "read", noted)
    mended.of([0, 1, 2, 3]).backward()
    (embeddings,) = made
    assert embeddings.shape[0] == 2 * len(WRONG)  # the answers' and the labels'
    assert (embeddings.grad.abs().amax(dim=1) > 1e-6).all()
    weight = mended.model[0].model.layers[0].mlp.up_proj.weight
    weight.grad = None
    read(mended.loss.answers).backward(embeddings.grad[: len(WRONG)])
    assert gradient(weight) > 1e-6


def test_mended_the_loss_depends_on_which_answer_is_which_label_s(mended: Mended) -> None:
    embeddings, texts = mended.embeddings(), mended.texts()
    one, other = (mended.loss.reconstruct(each, texts).item() for each in (embeddings, embeddings.flip(0)))
    assert abs(one - other) > 1e-6


def test_mended_the_loss_is_the_model_s_own_of_a_label_behind_an_embedding(mended: Mended) -> None:
    """Packed side by side, against one text at a time, computed here from the seed's idea: the mean is over tokens."""
    import torch

    body = mended.model[0].model
    table = body.get_input_embeddings().weight
    losses = []
    with torch.no_grad():
        for embedding, text in zip(mended.embeddings(), mended.texts(), strict=True):
            prefix = embedding / embedding.norm() * table.norm(dim=1).mean()
            entry = torch.cat([prefix[None], table[text[:-1]]])[None]
            logits = body(inputs_embeds=entry).last_hidden_state[0] @ table.T
            losses += (-logits.log_softmax(dim=1)[range(len(text)), text]).tolist()
        together = mended.loss.reconstruct(mended.embeddings(), mended.texts()).item()
    assert len({len(text) for text in mended.texts()}) > 1
    assert together == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_mended_a_label_is_written_from_its_own_answer_s_embedding_and_not_from_another_s(mended: Mended) -> None:
    import torch

    optimizer = torch.optim.Adam(mended.model.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        mended.of([0, 1, 2, 3]).backward()
        optimizer.step()
    with torch.no_grad():
        embeddings = mended.embeddings()
        losses = torch.stack(
            [torch.stack([mended.loss.reconstruct(each[None], [text]) for each in embeddings]) for text in mended.texts()]
        )
    own = losses.diagonal()
    others = losses.masked_fill(torch.eye(len(own), dtype=torch.bool), torch.inf).amin(dim=1)
    assert (own < others).all(), losses


@pytest.mark.parametrize("recipe", [Seed(), SeedMended()], ids=lambda recipe: recipe.kind)
def test_an_encoder_that_cannot_write_is_refused(tiny_bert: Path, recipe: Seed) -> None:
    with pytest.raises(InputError, match=r"(?s)weights .*found: +BertModel\n.*wanted: .*decoder.*remedy: .*contrastive"):
        Prepared(tiny_bert, recipe)
