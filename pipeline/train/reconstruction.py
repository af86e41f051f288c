"""The published seed model's loss, and the same idea with the flaw mended.

The seed learns to reconstruct a misconception from an answer, hoping that the embedding becomes what is needed for that. Its
denoising auto-encoder hands the embedding to the decoder through cross-attention. Qwen2 has none and ignores what comes that
way, so the embedding gets no gradient: what is trained is a language model of misconceptions. Mended, the embedding stands
before the text as if it were its first token, where a decoder of any kind must read it; what is read and what is written are
trees without padding, which more than halves a step.
Sources: Wang et al., "TSDAE" (2021), for the loss; Li and Liang, "Prefix-Tuning" (2021), for vectors as a beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn

from pipeline.config import Dense, Seed, SeedMended
from pipeline.errors import InputError
from pipeline.models.encoder import SentenceEncoder
from pipeline.models.packed import batches
from pipeline.models.tree import Tokens, grow
from pipeline.retrieve.dense import label_texts, query_texts
from pipeline.train.loop import Places, Task
from pipeline.train.units import Embedder, Unit


def prepared(
    encoder: SentenceEncoder, train: pl.DataFrame, catalog: pl.DataFrame, base: Path, recipe: Seed, spec: Dense
) -> Task:
    """What the trainer needs: its columns are the answers' texts and their labels', or, mended, the pairs' places.

    Raises `InputError` for a backbone without a language model's head.
    """
    names = dict(zip(catalog["label_id"], label_texts(catalog, spec), strict=True))
    answers, labels = query_texts(train, spec), [names[label] for label in train["label_id"]]
    if not hasattr(encoder.packed.body, "layers") or (isinstance(recipe, SeedMended) and not encoder.fits):
        raise InputError(
            f"weights {spec.weights}",
            found=type(encoder.packed.body).__name__,
            wanted="a decoder such as Qwen2.5, which can write a text",
            remedy="Choose other weights, or the recipe contrastive.",
        )
    if isinstance(recipe, SeedMended):
        embedder = Embedder(encoder.packed, frozen=0, weights="")
        sides = (embedder.units([[text] for text in texts], [[0]] * len(texts)) for texts in (answers, labels))
        return Task(SoftPrefix(encoder.model, embedder, *sides), {"place": list(range(len(answers)))}, Places())
    from sentence_transformers.sentence_transformer.losses import DenoisingAutoEncoderLoss

    encoder.model.tokenizer.padding_side = "right"
    loss = DenoisingAutoEncoderLoss(encoder.model, decoder_name_or_path=str(base), tie_encoder_decoder=True)
    return Task(loss.float(), {"sentence_0": answers, "sentence_1": labels})


class SoftPrefix(nn.Module):
    """The loss of writing a label when nothing but an embedding goes before it; the writer is the encoder itself.

    A label is written from its answer's embedding and from its own, so that both are drawn to the same place.
    """

    def __init__(self, model: nn.Module, embedder: Embedder, answers: Sequence[Unit], labels: Sequence[Unit]) -> None:
        super().__init__()
        self.model = model  # the trainer looks for it
        self.embedder, self.answers, self.labels = embedder, answers, labels

    def forward(self, features: list[dict[str, Tensor]], _: Tensor | None = None) -> Tensor:
        """The mean loss of a token; `features` are one mapping, whose "input_ids" are the pairs' places."""
        places = features[0]["input_ids"].tolist()
        answers, labels = ([side[place] for place in places] for side in (self.answers, self.labels))
        written = [label.tree.tokens.tolist() for label in labels]
        return self.reconstruct(self.embedder.read([*answers, *labels]), [*written, *written])

    def reconstruct(self, embeddings: Tensor, texts: Sequence[Tokens]) -> Tensor:
        """The mean loss of a token; `embeddings` (n, dim), `texts` the n that they are to become."""
        packed = self.embedder.packed
        embed = packed.body.get_input_embeddings()
        table = embed.weight
        # of a word's length, for that is what the first layer expects
        prefixes = nn.functional.normalize(embeddings, dim=-1) * table.norm(dim=-1).mean().detach()
        trees = [grow([[0, *text[:-1]]], packed.causal) for text in texts]  # where 0 stands, an embedding will
        losses = []
        for batch, order in batches(trees, 2 * sum(map(len, trees))):
            words = embed(torch.as_tensor(batch.tokens, device=table.device))
            starts = torch.as_tensor(batch.starts, device=table.device)
            entry = words.flatten(0, 1).index_copy(0, starts, prefixes[order].to(words.dtype)).view_as(words)
            nodes = np.concatenate([start + np.arange(len(texts[i])) for start, i in zip(batch.starts, order, strict=True)])
            states = packed.states(batch, entry).flatten(0, 1)[nodes]
            logits = nn.functional.linear(states, table)  # the head of a small Qwen2 is its embedding table
            wanted = torch.tensor([token for i in order for token in texts[i]], device=logits.device)
            losses.append(nn.functional.cross_entropy(logits.float(), wanted, reduction="sum"))
        return torch.stack(losses).sum() / sum(map(len, trees))
