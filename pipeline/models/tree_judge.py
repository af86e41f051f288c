"""A judge of Yes or No computed on trees of tokens: the prompts of a query share all but their candidates.

This is how a judge is trained; the engines serve the same tokens (`judge.Chat`) in their own ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import prompts
from pipeline.config import Judge as Spec
from pipeline.models.device import device, dtype_of
from pipeline.models.judge import Chat
from pipeline.models.packed import PROBE, Layers
from pipeline.models.tree import Batch, grow, lay

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


class TreeJudge(Layers):
    """What a causal language model makes of a prompt is one number: its logit of Yes minus that of No."""

    dim = 1

    def __init__(self, model: SentenceTransformer, chat: Chat) -> None:
        self.language_model = model[0].model
        super().__init__(self.language_model.base_model)
        self.chat = chat
        self.options = chat.option_ids((prompts.YES, prompts.NO))

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Each prompt's tokens, as every engine is sent them."""
        return [self.chat.encode(text) for text in texts]

    def vectors(self, batch: Batch, hidden: torch.Tensor | None = None, layers: slice = slice(None)) -> torch.Tensor:
        """(m, 1) float32: the prompts' margins, from the two options' rows of the output embedding alone."""
        ends = self.states(batch, hidden, layers).flatten(0, 1)[batch.ends].float()
        yes, no = self.language_model.get_output_embeddings().weight[self.options].float()
        return (ends * (yes - no)).sum(1, keepdim=True)  # no matrix product, which autocast would round to 16 bits

    def fits(self) -> bool:
        """Whether the logits of this way are the model's own: some place or mask tokens, or bend logits, in their own ways."""
        import torch

        tokens = self.tokens(PROBE)
        batch = lay([[grow(tokens, self.causal)]])
        with torch.inference_mode():
            try:
                ends = self.states(batch).flatten(0, 1)[batch.ends]
            except (TypeError, ValueError, AttributeError):  # an argument that it does not know
                return False
            ours = self.language_model.get_output_embeddings()(ends)
            one_by_one = [self.language_model(torch.tensor([ids], device=ends.device), logits_to_keep=1) for ids in tokens]
            own = torch.cat([each.logits[:, -1] for each in one_by_one])
        return bool(torch.cosine_similarity(ours.float(), own.float()).min() > 0.999)


def load(folder: Path, spec: Spec) -> SentenceTransformer:
    """The language model in `folder`, as a module of sentence-transformers, whose trainer wants it so; safetensors only."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer

    arguments = {"dtype": dtype_of(spec.dtype), "use_safetensors": True}
    body = Transformer(str(folder), transformer_task="text-generation", model_kwargs=arguments)
    return SentenceTransformer(modules=[body], device=device()).eval()
