"""Vectors that lie beside an adapter: short, whole again, and given for their own texts alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml

from pipeline import plan
from pipeline.config import Config, Dense, Lora, load
from pipeline.errors import InputError
from pipeline.models import sources
from pipeline.models.adapters import WEIGHTS
from pipeline.models.encoder import KeptEncoder
from pipeline.models.vectors import VECTORS, beside, write
from pipeline.sample import opened
from pipeline.store import Store

pytestmark = pytest.mark.usefixtures("own_cache")

TEXTS = [f"What is {number} and a half? Wrong answer: {2 * number}/3" for number in range(12)]
WRITTEN = Path(__file__).parent / "golden" / "written.csv"


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Unit rows."""
    drawn = np.random.default_rng(seed).normal(size=(count, 64)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter as far as it matters here, and the vectors of TEXTS as queries."""
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / WEIGHTS).write_bytes(b"weights")
    write(tmp_path / "adapter", Dense(), {"query": (TEXTS, rows(12))})
    return tmp_path / "adapter"


def test_vectors_take_a_byte_a_number_and_come_back_as_unit_rows_by_text(folder: Path) -> None:
    places, found = beside(folder, Dense(), "query", ["another", TEXTS[7], TEXTS[2], TEXTS[7]])
    assert places.tolist() == [1, 2, 3] and found.dtype == np.float32
    assert np.allclose(np.linalg.norm(found, axis=1), 1)
    assert (found * rows(12)[[7, 2, 7]]).sum(1).min() > 0.9999
    assert pl.read_parquet(folder / VECTORS)["vector"].bin.size().unique().to_list() == [64]


@pytest.mark.parametrize("settings", [{"pooling": "mean"}, {"attention": "bidirectional"}])
def test_vectors_are_not_given_for_what_they_were_not_made_of(folder: Path, settings: dict[str, Any]) -> None:
    assert beside(folder, Dense(template="seed", max_tokens=99), "query", TEXTS)[0].size == 12  # a template is in the text
    assert beside(folder, Dense(**settings), "query", TEXTS)[0].size == 0
    assert beside(folder, Dense(), "label", TEXTS)[0].size == 0
    assert beside(folder, Dense(), "query", [])[0].size == 0
    (folder / WEIGHTS).write_bytes(b"others")
    assert beside(folder, Dense(), "query", TEXTS)[0].size == 0


def test_vectors_that_are_there_are_not_written_over(folder: Path) -> None:
    with pytest.raises(InputError, match="it exists"):
        write(folder, Dense(), {"query": (TEXTS, rows(12, seed=1))})


@pytest.mark.parametrize("content", [b"", b"PAR1 and no more", None])
def test_a_file_that_is_no_such_is_named(folder: Path, content: bytes | None) -> None:
    if content is None:
        pl.DataFrame({"name": ["x"]}).write_parquet(folder / VECTORS)
    else:
        (folder / VECTORS).write_bytes(content)
    with pytest.raises(InputError, match=r"vectors.parquet(?s:.*)Remove it"):
        beside(folder, Dense(), "query", TEXTS)


@pytest.fixture(scope="module")
def adapted(tiny_qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stored adapter of tiny Qwen's upper two layers."""
    torch = pytest.importorskip("torch", reason="the models' packages are not installed")
    from pipeline.models import adapters
    from pipeline.models import encoder as encoders

    model = encoders.load(tiny_qwen, Dense(weights=str(tiny_qwen), dtype="float32"))
    adapters.add(model, Lora(rank=4), 2)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model[0].model.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.3)
    adapters.save(model, str(tiny_qwen), folder := tmp_path_factory.mktemp("adapted"))
    return folder


def test_only_texts_without_a_vector_are_read(adapted: Path, tiny_qwen: Path, tmp_path: Path) -> None:
    shutil.copytree(adapted, tmp_path / "adapter")
    spec = Dense(weights=str(tiny_qwen), adapter=str(tmp_path / "adapter"), dtype="float32")
    alone = KeptEncoder(spec, Store(tmp_path / "alone")).encode(TEXTS, "query")
    others = np.roll(alone[3:5], 5, axis=1)  # not what the model makes of the texts
    write(tmp_path / "adapter", spec, {"query": (TEXTS[3:5], others)})
    mixed = KeptEncoder(spec, Store(tmp_path / "mixed")).encode(TEXTS, "query")
    assert np.allclose(mixed[3:5], others, atol=0.01)
    untouched = [*range(3), *range(5, 12)]
    assert np.allclose(mixed[untouched], alone[untouched], atol=1e-5)
    sources.fingerprint.cache_clear()  # another process would see the new file
    assert np.allclose(KeptEncoder(spec, Store(tmp_path / "alone")).encode(TEXTS, "query")[3:5], others, atol=0.01)


def test_the_verb_puts_labels_and_examples_there_and_nothing_of_them_is_left_to_read(
    adapted: Path, tiny_qwen: Path, tmp_path: Path, eedi: Callable[..., CompletedProcess[str]]
) -> None:
    shutil.copytree(adapted, tmp_path / "adapter")
    dense = {"kind": "dense", "weights": str(tiny_qwen), "adapter": "adapter", "dtype": "float32", "examples": [str(WRITTEN)]}
    settings = {"sample": {"train": 8, "test": 4}, "retrieve": {"lexical": None, "minilm": None, "dense": dense}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(settings | {"rerank": {"judge": None}}), encoding="utf-8")

    def read(config: Config) -> float:
        return plan.readings(config, opened(config, None), 1)["dense"].texts

    config = load(tmp_path / "tiny.yaml", [f"retrieve.dense.adapter={tmp_path / 'adapter'}"])
    before = read(config)
    told = eedi("train", "vectors", "dense", "--config", tmp_path / "tiny.yaml")
    assert told.returncode == 0, told.stderr
    assert f"{opened(config, None).catalog.height + 3} vectors" in told.stdout
    assert before - read(config) == opened(config, None).catalog.height + 3
    again = eedi("train", "vectors", "dense", "--config", tmp_path / "tiny.yaml")
    assert again.returncode == 2 and "it exists" in again.stderr


def test_a_retriever_without_an_adapter_has_no_place_for_them(eedi: Callable[..., CompletedProcess[str]]) -> None:
    for stage in ("lexical", "dense", "nothing"):
        told = eedi("train", "vectors", stage, "retrieve.dense.adapter=null")
        assert told.returncode == 2 and "found:  no adapter" in told.stderr and "Traceback" not in told.stderr
