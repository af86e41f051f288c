"""The published seed model's loss, and the same idea with the flaw mended.

The seed learns to reconstruct a misconception from an answer, hoping that the embedding becomes what is needed for that. Its
denoising auto-encoder hands the embedding to the decoder through cross-attention. Qwen2 has none and ignores what comes that
way, so the embedding gets no gradient: what is trained is a language model of misconceptions. Mended, the embedding stands
before the text as if it were its first token, where a decoder of any kind must read it.
Sources: Wang et al., "TSDAE" (2021), for the loss; Li and Liang, "Prefix-Tuning" (2021), for vectors as a beginning.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from pipeline.config import Dense, Seed, SeedMended
from pipeline.errors import InputError
from pipeline.models.encoder import SentenceEncoder
from pipeline.retrieve.dense import label_texts, query_texts
from pipeline.train.loop import Task


def prepared(
    encoder: SentenceEncoder, train: pl.DataFrame, catalog: pl.DataFrame, base: Path, recipe: Seed, spec: Dense
) -> Task:
    """What the trainer needs: its columns are the answers' texts and their labels'.

    Raises `InputError` for a backbone without a language model's head.
    """
    names = dict(zip(catalog["label_id"], label_texts(catalog, spec), strict=True))
    columns = {"sentence_0": query_texts(train, spec), "sentence_1": [names[label] for label in train["label_id"]]}
    if not hasattr(encoder.model[0].model, "layers"):
        raise InputError(
            f"weights {spec.weights}",
            found=type(encoder.model[0].model).__name__,
            wanted="a decoder such as Qwen2.5, which can write a text",
            remedy="Choose other weights, or the recipe contrastive.",
        )
    encoder.model.tokenizer.padding_side = "right"
    if isinstance(recipe, SeedMended):
        return Task(SoftPrefix(encoder.model), columns)
    from sentence_transformers.sentence_transformer.losses import DenoisingAutoEncoderLoss

    loss = DenoisingAutoEncoderLoss(encoder.model, decoder_name_or_path=str(base), tie_encoder_decoder=True)
    return Task(loss.float(), columns)


class SoftPrefix(nn.Module):
    """The loss of writing a label when nothing but an embedding goes before it; the writer is the encoder itself.

    A label is written from its answer's embedding and from its own, so that both are drawn to the same place.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model  # the trainer may put a wrapper here
        self.body = model[0].model

    def forward(self, features: list[dict[str, Tensor]], _: Tensor | None = None) -> Tensor:
        """The mean of both losses; `features` are the answers' and the labels' tokens."""
        answers, labels = features
        tokens = {name: labels[name] for name in ("input_ids", "attention_mask")}
        from_answers, from_labels = (self.model(dict(side))["sentence_embedding"] for side in (answers, labels))
        return (self.reconstruct(from_answers, tokens) + self.reconstruct(from_labels, tokens)) / 2

    def reconstruct(self, embeddings: Tensor, tokens: dict[str, Any]) -> Tensor:
        """The mean loss of a token; `embeddings` (n, dim), `tokens` padded on the right (n, length)."""
        table = self.body.get_input_embeddings().weight
        ids, real = tokens["input_ids"], tokens["attention_mask"].bool()
        words = self.body.get_input_embeddings()(ids)
        # of a word's length, for that is what the first layer expects
        prefix = nn.functional.normalize(embeddings, dim=-1) * table.norm(dim=-1).mean().detach()
        entry = torch.cat([prefix[:, None].to(words.dtype), words[:, :-1]], dim=1)
        seen = torch.cat([torch.ones_like(real[:, :1]), real[:, :-1]], dim=1)
        states = self.body(inputs_embeds=entry, attention_mask=seen, use_cache=False).last_hidden_state
        logits = nn.functional.linear(states[real], table)  # the head of a small Qwen2 is its embedding table
        return nn.functional.cross_entropy(logits.float(), ids[real])
