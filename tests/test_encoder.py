"""Folders of weights as the bi-encoder meets them: a plain language model's, and sentence-transformers' of two ages."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline.config import Config, Dense
from pipeline.data import Competition, queries_of
from pipeline.models import memory
from pipeline.models.encoder import SentenceEncoder, load
from pipeline.retrieve import retrieve
from pipeline.sample import opened
from pipeline.store import Store

pytest.importorskip("torch", reason="the models' packages are not installed")

TEXTS = ["Add the fractions. Wrong answer: 2/5", "Add the fractions. Wrong answer: 1/6", "Believes that adding is multiplying"]
CHAT = "{% for message in messages %}<{{ message['role'] }}>{{ message['content'] }}<end>{% endfor %}"
POOLINGS = {
    "cls": "cls_token",
    "mean": "mean_tokens",
    "max": "max_tokens",
    "mean_sqrt": "mean_sqrt_len_tokens",
    "weightedmean": "weightedmean_tokens",
    "lasttoken": "lasttoken",
}


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("EEDI_CACHE", str(tmp_path / "cache"))
    yield
    memory.release()


@pytest.fixture(scope="module")
def competition() -> Competition:
    return opened(Config.model_validate({"sample": {"train": 4, "test": 4}}), None)


def spec_of(folder: Path, **settings: Any) -> Dense:
    return Dense(weights=str(folder), **{"dtype": "float32", "template": "seed", **settings})


def encoded(folder: Path, **settings: Any) -> np.ndarray:
    spec = spec_of(folder, **settings)
    return SentenceEncoder(load(folder, spec), spec).encode(TEXTS, "query")


def furthest(one: pl.DataFrame, other: pl.DataFrame) -> float:
    """The largest difference of two runs' scores, over the pairs that both hold."""
    both = one.join(other, on=["query_id", "label_id"], suffix="_other")
    return float(both.select((pl.col("score") - pl.col("score_other")).abs().max()).item())


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")


def with_chat(folder: Path) -> Path:
    """The folder, whose tokenizer now has a chat template, as those of instruction-tuned models do."""
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    write(folder / "tokenizer_config.json", settings | {"chat_template": CHAT})
    return folder


def of_version_3(folder: Path, weights: Path, pooling: str) -> Path:
    """The weights as sentence-transformers 3.3.1 and transformers 4.47 wrote them, the published seed's age."""
    from transformers import AutoModel

    shutil.copytree(weights, folder)
    AutoModel.from_pretrained(weights).save_pretrained(folder)  # without the language model's head and prefix
    now = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kept = (
        "hidden_act hidden_size initializer_range intermediate_size max_position_embeddings model_type num_attention_heads "
        "num_hidden_layers num_key_value_heads rms_norm_eps tie_word_embeddings use_cache vocab_size"
    )
    then = {"architectures": ["Qwen2Model"], "torch_dtype": "float32", "transformers_version": "4.47.0", "rope_scaling": None}
    then |= {"rope_theta": now["rope_parameters"]["rope_theta"], "sliding_window": None, "use_sliding_window": False}
    write(folder / "config.json", then | {name: now[name] for name in kept.split()})
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    write(
        folder / "modules.json",
        [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (path, kind) in enumerate(modules)
        ],
    )
    modes = {f"pooling_mode_{key}": name == pooling for name, key in POOLINGS.items()}
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **modes, "include_prompt": True})
    write(folder / "sentence_bert_config.json", {"max_seq_length": 512, "do_lower_case": False})
    versions = {"sentence_transformers": "3.3.1", "transformers": "4.47.0", "pytorch": "2.5.1+cu121"}
    told = {"__version__": versions, "prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
    write(folder / "config_sentence_transformers.json", told)
    return folder


@pytest.mark.parametrize(("pooling", "unlike"), [("mean", "lasttoken"), ("lasttoken", "mean")])
def test_a_folder_of_version_3_serves_in_the_retriever_with_its_own_pooling(
    pooling: str, unlike: str, tiny_qwen: Path, tmp_path: Path, competition: Competition
) -> None:
    folder = of_version_3(tmp_path / "old", tiny_qwen, pooling)
    queries = queries_of(competition.test)
    run, wanted, other = (
        retrieve(queries, competition.catalog, spec_of(each, pooling=setting), Store())
        for each, setting in ((folder, unlike), (tiny_qwen, pooling), (tiny_qwen, unlike))
    )
    assert run.height == 100 * queries.height
    assert run.join(wanted, on=["query_id", "label_id"]).height > 0.98 * run.height
    assert furthest(run, wanted) < 1e-5 < 1e-2 < furthest(run, other)


def test_a_folder_of_version_3_with_a_chat_template_is_given_the_text_alone(tiny_qwen: Path, tmp_path: Path) -> None:
    folder = with_chat(of_version_3(tmp_path / "old", tiny_qwen, "mean"))
    assert np.allclose(encoded(folder), encoded(tiny_qwen, pooling="mean"), atol=1e-5)
    (folder / "sentence_bert_config.json").unlink()  # some do without it
    assert np.allclose(encoded(folder), encoded(tiny_qwen, pooling="mean"), atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "lasttoken"])
def test_a_language_model_with_a_chat_template_is_given_the_text_alone_before_and_after_it_was_saved(
    pooling: str, tiny_qwen: Path, tmp_path: Path
) -> None:
    folder = with_chat(shutil.copytree(tiny_qwen, tmp_path / "chat"))
    assert np.allclose(encoded(folder, pooling=pooling), encoded(tiny_qwen, pooling=pooling), atol=1e-5)
    load(folder, spec_of(folder, pooling=pooling)).save_pretrained(str(tmp_path / "saved"), create_model_card=False)
    assert np.allclose(encoded(tmp_path / "saved"), encoded(tiny_qwen, pooling=pooling), atol=1e-5)


def test_the_length_is_the_setting_s_and_not_the_folder_s(tiny_qwen: Path, tmp_path: Path) -> None:
    folder = of_version_3(tmp_path / "old", tiny_qwen, "lasttoken")
    spec = spec_of(folder, max_tokens=16)
    encoder = SentenceEncoder(load(folder, spec), spec)
    assert {len(tokens) for tokens in encoder.packed.tokens(TEXTS)} == {16}
    vectors = encoder.encode(TEXTS, "query")
    assert np.allclose(vectors[0], vectors[1], atol=1e-5)  # what tells them apart comes later


def test_a_folder_s_default_prompt_stands_before_each_text(tiny_bert: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bert, tmp_path / "prompted")
    told = json.loads((folder / "config_sentence_transformers.json").read_text(encoding="utf-8"))
    told |= {"prompts": {"query": "Find what this is about: "}, "default_prompt_name": "query"}
    write(folder / "config_sentence_transformers.json", told)
    vectors = encoded(folder)
    own = load(folder, spec_of(folder)).encode(TEXTS, normalize_embeddings=True)
    assert np.allclose(vectors, own, atol=1e-5)
    assert not np.allclose(vectors, encoded(tiny_bert), atol=1e-3)


def test_an_encoder_that_is_spread_over_all_devices_gives_the_same_vectors(tiny_qwen: Path) -> None:
    texts, spec = ["a half", "a third", ""], Dense(weights=str(tiny_qwen), dtype="float32")
    whole, spread = (
        SentenceEncoder(load(tiny_qwen, each), each).encode(texts, "query")
        for each in (spec, spec.model_copy(update={"spread": True}))
    )
    np.testing.assert_allclose(spread, whole, atol=1e-6)
