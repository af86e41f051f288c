"""How fast the bi-encoder reads a test, against the library's own way, in one run on one machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from pipeline.config import Dense
from pipeline.models import sources
from pipeline.retrieve.dense import query_texts

SIDE = 2048  # of the square matrices whose product is the measure of the machine
REPEATS = 8


def encoding(queries: pl.DataFrame, spec: Dense) -> list[dict[str, Any]]:
    """A row a way: seconds, texts a second, tokens computed, the least cosine with the library's vectors, share of the peak.

    The library's way is `SentenceTransformer.encode` in its default settings, in float32; ours is measured in float32 and in
    what this machine computes best. The peak is a matrix product of torch in the same number format, measured now; what is
    counted against it are the products of the linear layers alone.
    """
    import torch

    from pipeline.models.device import best_dtype
    from pipeline.models.encoder import SentenceEncoder, load
    from pipeline.models.tree import families, grow

    texts = query_texts(queries, spec)
    folder = sources.resolve(spec.weights)
    rows: list[dict[str, Any]] = []
    reference: np.ndarray | None = None
    for dtype in dict.fromkeys(("float32", best_dtype())):
        encoder = SentenceEncoder(load(folder, spec.model_copy(update={"dtype": dtype})), spec)
        body, packed = encoder.model[0].model, encoder.packed
        tokens = packed.tokens(texts)
        nodes = sum(len(grow([tokens[i] for i in group], packed.causal)) for group in families(tokens, packed.causal))
        work = 2 * sum(m.weight.numel() for m in body.modules() if isinstance(m, torch.nn.Linear))
        most = peak(dtype)
        ways: dict[str, tuple[int, Callable[[], np.ndarray]]] = {"ours": (nodes, partial(encoder.encode, texts, "query"))}
        if reference is None:
            stock = partial(encoder.model.encode, texts, show_progress_bar=True)
            ways = {"sentence-transformers": (sum(map(len, tokens)), stock), **ways}
        for way, (computed, make) in ways.items():
            began = time.monotonic()
            vectors = make()
            seconds = time.monotonic() - began
            vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
            reference = vectors if reference is None else reference
            rows.append(
                {
                    "way": f"{way}, {dtype}",
                    "seconds": round(seconds, 1),
                    "texts/s": round(len(texts) / seconds, 2),
                    "tokens": computed,
                    "least cosine": round(float((vectors * reference).sum(1).min()), 6),
                    "share of peak": round(work * computed / seconds / most, 2),
                }
            )
    return rows


def peak(dtype: str) -> float:
    """Operations a second of torch's product of two square matrices."""
    import torch

    from pipeline.models.device import device

    a = torch.randn(SIDE, SIDE).to(device(), getattr(torch, dtype))
    best = 0.0
    for _ in range(REPEATS):
        began = time.monotonic()
        (a @ a)[0, 0].item()  # read, so that a GPU is waited for
        best = max(best, 2 * SIDE**3 / (time.monotonic() - began))
    return best
