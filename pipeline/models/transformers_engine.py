"""The reference engine: plain transformers, length-sorted batches, the options' log-softmax at the last position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Judge as Spec
from pipeline.errors import EngineDied
from pipeline.models import adapters, sources
from pipeline.models.device import device, dtype_of
from pipeline.models.judge import Chat
from pipeline.models.tree import alike

BATCH_TOKENS = 4096  # padding included
LIKELIEST = {"do_sample": False, "repetition_penalty": 1.0}  # whatever the weights' own generation_config says


class TransformersJudge:
    """A causal language model in this process."""

    def __init__(self, folder: Path, spec: Spec) -> None:
        from transformers import AutoModelForCausalLM

        self.chat = Chat(folder, spec.max_tokens)
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype_of(spec.dtype), use_safetensors=True, trust_remote_code=False
        )
        if spec.adapter:
            model = adapters.merged(model, sources.resolve(spec.adapter), spec.weights)
        self.model = model.to(device()).eval()
        self.computed = 0

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """See `Judge`. Raises `EngineDied` when a GPU's memory is too small."""
        import torch

        wanted = self.chat.option_ids(options)
        ids = [self.chat.encode(prompt) for prompt in prompts]
        answers = np.empty((len(ids), len(options)), dtype=np.float32)
        for batch, rows, mask in self._padded(ids):
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            try:
                with torch.inference_mode():
                    logits = self.model(rows, attention_mask=mask, position_ids=positions, logits_to_keep=1).logits[:, -1]
                    answers[batch] = logits[:, wanted].float().log_softmax(-1).cpu().numpy()
            except torch.OutOfMemoryError as error:
                raise EngineDied(str(error)) from None
            self.computed += rows.numel()  # the padding too
        return answers

    def write(self, prompts: Sequence[str], tokens: int) -> list[str]:
        """The likeliest answer to each prompt, so many tokens at the most. Raises as `logprobs` does."""
        import torch

        written, end = [""] * len(prompts), self.chat.tokenizer.eos_token_id
        for batch, rows, mask in self._padded([self.chat.encode(prompt, tokens) for prompt in prompts]):
            try:
                found = self.model.generate(rows, attention_mask=mask, max_new_tokens=tokens, **LIKELIEST, pad_token_id=end)
            except torch.OutOfMemoryError as error:
                raise EngineDied(str(error)) from None
            texts = self.chat.tokenizer.batch_decode(found[:, rows.shape[1] :], skip_special_tokens=True)
            for i, text in zip(batch, texts, strict=True):
                written[i] = text
        return written

    def _padded(self, ids: Sequence[list[int]]) -> Iterator[tuple[list[int], Any, Any]]:
        """Batches: which of `ids` are in it, their tokens with zeros before them, and 0 where those are."""
        import torch

        for batch in alike([len(one) for one in ids], BATCH_TOKENS):
            longest = len(ids[batch[0]])
            rows = torch.tensor([[0] * (longest - len(ids[i])) + ids[i] for i in batch], device=self.model.device)
            lengths = torch.tensor([len(ids[i]) for i in batch], device=self.model.device)
            yield batch, rows, (torch.arange(longest, device=rows.device) >= (longest - lengths)[:, None]).long()

    def close(self) -> None:
        """Free the model."""
        del self.model
