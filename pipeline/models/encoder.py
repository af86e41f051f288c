"""The bi-encoder: its protocol, sentence-transformers behind it, and the vectors kept by text, so that none is made twice."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import polars as pl
from tqdm import tqdm

from pipeline.config import Dense, Examples, Judge
from pipeline.models import adapters, memory, sources
from pipeline.models.device import device, dtype_of
from pipeline.models.hashed import HashedEncoder
from pipeline.models.packed import Packed, encode
from pipeline.models.vectors import beside
from pipeline.store import Parts, Store, code, digest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

log = logging.getLogger(__name__)

# Without this, sentence-transformers writes each text as a chat turn where the tokenizer has a chat template, and the last
# token is then the template's line end.
PLAIN_TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}

AT_ONCE = 512  # texts read, and kept, at a time: those of a question stand together and share their beginning
RECORD = "training.json"  # what `eedi train` leaves beside the weights

Kind = Literal["query", "label"]


class Encoder(Protocol):
    """Texts to unit vectors."""

    def encode(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """(n, dim) float32, unit rows, in the texts' order."""
        ...


class SentenceEncoder:
    """A sentence-transformers model: its own folder as it is, or a plain language model with pooling put on it."""

    def __init__(self, model: SentenceTransformer, spec: Dense) -> None:
        self.model, self.spec = model, spec
        self.packed = Packed(self.model, causal=False if spec.attention == "bidirectional" else None)
        self.fits = spec.attention == "bidirectional" or self.packed.fits()

    def encode(self, texts: Sequence[str], kind: Kind, bar: tqdm[Any] | None = None) -> np.ndarray:
        """See `Encoder`. Texts that begin alike are computed once (`packed.py`), where the backbone allows that.

        A `bar` that is given is moved on, else there is one for these texts.
        """
        with nullcontext(bar) if bar is not None else progress(len(texts)) as shown:
            if self.fits:
                vectors = encode(self.packed, texts, self.spec.batch_tokens, shown.update)
            else:
                vectors = np.array(self.model.encode(list(texts), batch_size=16, show_progress_bar=False), dtype=np.float32)
                shown.update(len(texts))
        # here, because in bfloat16 a norm is off by half a percent
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    def close(self) -> None:
        """Free the model."""
        del self.model, self.packed


def progress(texts: int) -> tqdm[Any]:
    """The bar of so many texts."""
    return tqdm(total=texts, unit="text", desc="encoding")


def load(folder: Path, spec: Dense) -> SentenceTransformer:
    """The sentence-transformers model in `folder`, its adapter merged, in eval mode, on the best device or spread over all.

    Safetensors only, no code from it. Raises `InputError` for an adapter of another backbone.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    where = None if spec.spread else device()
    arguments = {"dtype": dtype_of(spec.dtype), "use_safetensors": True, "device_map": "auto" if spec.spread else None}
    if (folder / "modules.json").is_file():
        model = SentenceTransformer(str(folder), device=where, trust_remote_code=False, model_kwargs=arguments)
    else:
        body = Transformer(
            str(folder), model_kwargs=arguments, modality_config=PLAIN_TEXT, module_output_name="token_embeddings"
        )
        model = SentenceTransformer(
            modules=[body, Pooling(body.get_embedding_dimension(), spec.pooling)], device=where, model_kwargs=arguments
        )
    model.max_seq_length = min(spec.max_tokens, model.max_seq_length or spec.max_tokens)  # no more than its own positions
    if spec.adapter:
        model[0].model = adapters.merged(model[0].model, sources.resolve(spec.adapter), spec.weights)
    return model.eval()


def learnt(spec: Dense | Judge) -> set[str]:
    """The hashes (`data.text_hashes`) of the questions that a model of ours was trained on; of others nothing is known."""
    known: set[str] = set()
    for reference in (spec.weights, spec.adapter):
        if reference and (found := sources.here(reference)):
            known |= recorded(found[1])
    return known


def recorded(folder: Path) -> set[str]:
    """The hashes of the questions that a training of ours says it learnt in `folder`; none where no training wrote there."""
    record = folder / RECORD
    return set(json.loads(record.read_text(encoding="utf-8"))["trained_on"]) if record.is_file() else set()


# settings that are told otherwise, or that no vector hangs on
APART = {*Examples.model_fields, "weights", "adapter", "batch_tokens", "spread", "workers", "ray_args", "top_k"}


class KeptEncoder:
    """The encoder of a spec, whose vectors are kept by weights, settings and texts; it loads only when one is missing."""

    def __init__(self, spec: Dense, store: Store) -> None:
        self.spec, self.store = spec, store

    def encode(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
        """See `Encoder`."""
        if self.spec.weights == sources.HASHED:
            return HashedEncoder().encode(texts, kind)
        if not texts:
            return np.empty((0, 0), np.float32)
        where = f"{device()}, {dtype_of(self.spec.dtype)}"  # before any weights are fetched: torch may be missing
        folder = sources.resolve(self.spec.weights)
        inputs = {
            "code": code(Path(__file__).parent),
            "weights": sources.fingerprint(folder),
            "adapter": self.spec.adapter and sources.fingerprint(sources.resolve(self.spec.adapter)),
            "spec": self.spec.model_dump(exclude=APART),
            "device": where,
            "kind": kind,
        }
        keys = [digest(text)[:32] for text in texts]
        made = partial(self._made, folder, texts, kind)
        return self.store.rows(f"vectors-{kind}", inputs, keys, made)["vector"].to_numpy()

    def _made(self, folder: Path, texts: Sequence[str], kind: Kind, places: Sequence[int]) -> Parts:
        """The vectors of the texts at `places`, in parts."""
        asked = np.array(places)
        there, known = beside(
            sources.resolve(self.spec.adapter) if self.spec.adapter else folder, self.spec, kind, [texts[i] for i in places]
        )
        if there.size:
            yield asked[there].tolist(), _frame(known)
        others = np.delete(asked, there).tolist()
        if not others:
            return
        log.info("encoding %d %s texts", len(others), kind)
        parts = [others[at : at + AT_ONCE] for at in range(0, len(others), AT_ONCE)]
        tasks = [[texts[i] for i in part] for part in parts]
        with progress(len(others)) as bar:
            if self.spec.workers:
                for number, vectors in self._spread(tasks, kind):
                    yield parts[number], _frame(vectors)
                    bar.update(len(vectors))
                return
            encoder = memory.held(
                (folder, self.spec.model_dump_json()), lambda: SentenceEncoder(load(folder, self.spec), self.spec)
            )
            for part, task in zip(parts, tasks, strict=True):
                yield part, _frame(encoder.encode(task, kind, bar))

    def _spread(self, tasks: Sequence[list[str]], kind: Kind) -> Iterator[tuple[int, np.ndarray]]:
        from pipeline.models.ray_pool import spread

        memory.release()  # the workers may be on this machine's GPU
        # this machine chooses the number format, because what is kept says that it did
        spec = self.spec.model_copy(update={"dtype": dtype_of(self.spec.dtype)})
        return spread(
            lambda: partial(SentenceEncoder(load(sources.resolve(spec.weights), spec), spec).encode, kind=kind),
            [[task] for task in tasks],
            spec.workers,
            spec.ray_args,
        )


def _frame(vectors: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({"vector": pl.Series(vectors, dtype=pl.Array(pl.Float32, vectors.shape[1]))})
