"""The engine for pointwise prompts on a processor: what prompts share, to the token, is computed once (see `tree.py`).

The model is the reference engine's. A prefix cache shares whole blocks, which a candidate of thirty tokens seldom fills.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.config import Judge as Spec
from pipeline.errors import EngineDied
from pipeline.models.packed import encode
from pipeline.models.transformers_engine import BATCH_TOKENS, TransformersJudge
from pipeline.models.tree_judge import Answers, misfit


class TreeEngine(TransformersJudge):
    """A causal language model in this process. Raises `InputError` for one that cannot be computed on trees."""

    def __init__(self, folder: Path, spec: Spec) -> None:
        super().__init__(folder, spec)
        if not Answers(self.model, self.chat).fits():
            raise misfit(spec.weights, "Choose other weights, or another engine.")

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """See `Judge`. Raises `EngineDied` when a GPU's memory is too small."""
        import torch

        answers = Answers(self.model, self.chat, options)
        try:
            logits = encode(answers, prompts, BATCH_TOKENS)
        except torch.OutOfMemoryError as error:
            raise EngineDied(str(error)) from None
        self.computed += answers.computed
        return np.asarray(torch.from_numpy(logits).log_softmax(-1))
