"""Vectors that lie beside an adapter: of the labels and their examples, which everyone would otherwise have to read anew.

A number takes eight bits: a row is scaled to ±127, and has its length of one again when it is read. A vector is found by the
adapter's weights, the pooling, the attention and the text, so none is given for another text, or by another model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipeline.config import Dense
from pipeline.errors import InputError
from pipeline.models.adapters import WEIGHTS
from pipeline.store import digest, refuse_existing, replacing

if TYPE_CHECKING:
    from pipeline.models.encoder import Kind

VECTORS = "vectors.parquet"


def write(folder: Path, spec: Dense, made: Mapping[Kind, tuple[Sequence[str], np.ndarray]]) -> Path:
    """The file, with texts' vectors (n, dim), unit rows, both by the texts' kind, beside the adapter in `folder`.

    Raises `InputError` where there are some already.
    """
    refuse_existing(folder / VECTORS)
    names = [name for kind, (texts, _) in made.items() for name in _names(folder, spec, kind, texts)]
    rows = np.concatenate([vectors for _, vectors in made.values()])
    short = np.rint(127 * rows / np.abs(rows).max(axis=1, keepdims=True)).astype(np.int8)
    frame = pl.DataFrame({"name": names, "vector": [row.tobytes() for row in short]})
    with replacing(folder / VECTORS) as file:
        frame.unique("name", maintain_order=True).write_parquet(file, compression="zstd")
    return folder / VECTORS


def beside(folder: Path, spec: Dense, kind: Kind, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which of the texts have vectors in `folder`, as places (m,), and those vectors (m, dim) float32, unit rows.

    Raises `InputError` for a file that is not what `write` wrote.
    """
    nothing = np.empty(0, dtype=int), np.empty((0, 0), dtype=np.float32)
    if not texts or not (folder / VECTORS).is_file():
        return nothing
    asked = pl.DataFrame({"name": _names(folder, spec, kind, texts)}).with_row_index("place")
    try:
        found = asked.join(pl.read_parquet(folder / VECTORS).select("name", "vector"), on="name", maintain_order="left")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(
            folder / VECTORS,
            found=str(error).splitlines()[0],
            wanted="what `eedi train vectors` wrote",
            remedy="Remove it: the texts are then read anew.",
        ) from None
    if found.is_empty():
        return nothing
    rows = np.array([np.frombuffer(row, dtype=np.int8) for row in found["vector"]], dtype=np.float32)
    return found["place"].to_numpy(), rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _names(folder: Path, spec: Dense, kind: Kind, texts: Sequence[str]) -> list[str]:
    with (folder / WEIGHTS).open("rb") as file:
        weights = hashlib.file_digest(file, "sha256").hexdigest()
    about = {name: getattr(spec, name) for name in ("pooling", "attention")}
    return [digest([weights, about, kind, text])[:32] for text in texts]
