"""How fast the bi-encoder reads a test and a submission is scored, each against others' ways, in one run on one machine."""

from __future__ import annotations

import csv
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipeline.config import Dense
from pipeline.data import read_qrels
from pipeline.evaluation import evaluate_file
from pipeline.metrics import CUTOFF
from pipeline.models import sources
from pipeline.retrieve.dense import query_texts
from pipeline.submission import LABELS, ROW

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
                    "least cosine": f"{(vectors * reference).sum(1).min():.6f}",
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


def evaluating(file: Path, labels: Path) -> list[dict[str, Any]]:
    """A row a way: seconds from the files to the score, the most memory held in GB, and the score of a submission.

    What it does not answer scores zero; ours leaves whole questions out. Each way is a process of its own. Ours also tells
    seen from unseen labels, the recall ladder and the intervals; ranx is asked where it is installed.
    """
    ways = {"ours": ours, "plain Python": plain} | ({"ranx": by_ranx} if find_spec("ranx") else {})
    rows = []
    for way, score in ways.items():
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            seconds, memory, value = process.submit(measured, score, file, labels).result()
        rows.append({"way": way, "seconds": round(seconds, 1), "GB": round(memory / 1e9, 2), "MAP@25": f"{value:.10f}"})
    return rows


def measured(score: Callable[[Path, Path], float], file: Path, labels: Path) -> tuple[float, int, float]:
    """Seconds, this process's most bytes of memory, and the score."""
    began = time.monotonic()
    value = score(file, labels)
    return time.monotonic() - began, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, value


def ours(file: Path, labels: Path) -> float:
    """What `eedi evaluate` does."""
    return float(evaluate_file(file, labels)["map@25"][0])


def plain(file: Path, labels: Path) -> float:
    """Loops over rows and ids."""
    golds: dict[str, set[str]] = {}
    for query_id, label in read_qrels(labels).iter_rows():
        golds.setdefault(query_id, set()).add(str(label))
    total = 0.0
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            gold, found = golds.get(row[ROW], set()), 0
            for rank, label in enumerate(row[LABELS].split(" ")[:CUTOFF] if gold else (), 1):
                if label in gold:
                    found += 1
                    total += found / rank / min(len(gold), CUTOFF)
    return total / len(golds)


def by_ranx(file: Path, labels: Path) -> float:
    """ranx, from the dictionaries that it takes."""
    import ranx

    golds: dict[str, dict[str, int]] = {}
    for query_id, label in read_qrels(labels).iter_rows():
        golds.setdefault(query_id, {})[str(label)] = 1
    with file.open(encoding="utf-8", newline="") as lines:
        asked = (row for row in csv.DictReader(lines) if row[ROW] in golds)
        run = {row[ROW]: {label: -float(rank) for rank, label in enumerate(row[LABELS].split(" "))} for row in asked}
    return float(ranx.evaluate(ranx.Qrels(golds), ranx.Run(run), f"map@{CUTOFF}", make_comparable=True))
