"""A judge computed on trees of tokens: the prompts of a query share all but their candidates.

This is how a judge of Yes or No is trained, and what the engine `tree` serves; the others serve the same tokens (`judge.Chat`)
in their own ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import prompts
from pipeline.config import Judge as Spec
from pipeline.errors import InputError
from pipeline.models.device import device, dtype_of
from pipeline.models.judge import Chat
from pipeline.models.packed import PROBE, Layers
from pipeline.models.tree import Batch, grow, lay

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer


class Answers(Layers):
    """What a causal language model makes of a prompt: the options' logits. `computed` are its nodes so far, with padding."""

    def __init__(self, language_model: Any, chat: Chat, options: Sequence[str] = (prompts.YES, prompts.NO)) -> None:
        super().__init__(language_model.base_model)
        self.language_model, self.chat = language_model, chat
        self.options = chat.option_ids(options)
        self.dim, self.computed = len(options), 0

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Each prompt's tokens, as every engine is sent them."""
        return [self.chat.encode(text) for text in texts]

    def vectors(self, batch: Batch, hidden: torch.Tensor | None = None, layers: slice = slice(None)) -> torch.Tensor:
        """(m, options) float32: the logits, from the options' rows of the output embedding alone."""
        self.computed += batch.tokens.size
        ends = self.states(batch, hidden, layers).flatten(0, 1)[batch.ends].float()
        rows = self.language_model.get_output_embeddings().weight[self.options].float()
        return (ends[:, None] * rows).sum(2)  # no matrix product, which autocast would round to 16 bits

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


class TreeJudge(Answers):
    """What a causal language model makes of a prompt is one number: its logit of Yes minus that of No."""

    def __init__(self, language_model: Any, chat: Chat) -> None:
        super().__init__(language_model, chat)
        self.dim = 1

    def vectors(self, batch: Batch, hidden: torch.Tensor | None = None, layers: slice = slice(None)) -> torch.Tensor:
        """(m, 1) float32: the prompts' margins."""
        yes, no = super().vectors(batch, hidden, layers).split(1, dim=1)
        return yes - no


def misfit(weights: str, remedy: str) -> InputError:
    """What says that a model cannot be computed so."""
    return InputError(
        f"weights {weights}",
        found="a language model that does not take masks and positions of ours",
        wanted="Qwen, Llama, Mistral or one of their kind",
        remedy=remedy,
    )


def load(folder: Path, spec: Spec) -> SentenceTransformer:
    """The language model in `folder`, as a module of sentence-transformers, whose trainer wants it so; safetensors only."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Transformer

    arguments = {"dtype": dtype_of(spec.dtype), "use_safetensors": True}
    body = Transformer(str(folder), transformer_task="text-generation", model_kwargs=arguments)
    return SentenceTransformer(modules=[body], device=device()).eval()
