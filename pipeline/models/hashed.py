"""Weightless stand-ins that keep the two protocols: real scores of a poor kind, in milliseconds.

They make the whole flow run in tests and on machines without weights; they are chosen in a config like any other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np


class HashedEncoder:
    """Character n-grams hashed into unit rows: near words are near, no more is claimed."""

    def encode(self, texts: Sequence[str], kind: str) -> np.ndarray:
        """(n, 1024) float32, unit rows; `kind` makes no difference here."""
        from sklearn.feature_extraction.text import HashingVectorizer

        vectorizer = HashingVectorizer(analyzer="char_wb", ngram_range=(3, 4), n_features=1024, dtype=np.float32)
        dense: np.ndarray = vectorizer.transform(texts).toarray()
        dense[~dense.any(axis=1), 0] = 1.0  # an empty text still has a direction
        return dense


class HashedJudge:
    """Prefers the option whose line shares most words with what stands above the options."""

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """(n, n_options) float32 log-probabilities."""
        scores = np.array([[self._shared(prompt, option) for option in options] for prompt in prompts], dtype=np.float32)
        return np.asarray(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True), dtype=np.float32)

    @staticmethod
    def _shared(prompt: str, option: str) -> float:
        head, _, tail = prompt.partition("\n\n")
        line = re.search(rf"^{re.escape(option)}\. (.*)$", tail, re.MULTILINE)
        text = line[1] if line else tail.splitlines()[-1] if option == "Yes" else ""
        words = set(re.findall(r"\w+", text.lower()))
        return 4.0 * len(words & set(re.findall(r"\w+", head.lower()))) / (len(words) or 1)
