"""The reference engine: each prompt's answer is its own, an adapter's answers are PEFT's, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from pipeline.config import Listwise, Pointwise
from pipeline.errors import InputError
from pipeline.models import memory
from pipeline.models.judge import KeptJudge
from pipeline.models.transformers_engine import TransformersJudge
from pipeline.prompts import tidy
from pipeline.rerank import rerank
from pipeline.runs import run
from pipeline.schema import CATALOG, QUERIES
from pipeline.store import Store

torch = pytest.importorskip("torch", reason="the models' packages are not installed")

PROMPTS = [f"{'Some words. ' * (7 * i % 5)}Which of A, B and C stands at place {i}?" for i in range(9)]
LETTERS = ("A", "B", "C")


def judge(folder: Path, **settings: Any) -> TransformersJudge:
    return TransformersJudge(folder, Listwise(**{"weights": str(folder), "dtype": "float32"} | settings))


def by_itself(judge: TransformersJudge, model: Any) -> np.ndarray:
    """The same, one prompt at a time and of any model of those tokens."""
    tokens = judge.chat.option_ids(LETTERS)
    with torch.inference_mode():
        rows = [model(torch.tensor([judge.chat.encode(prompt)])).logits[0, -1, tokens] for prompt in PROMPTS]
    found: np.ndarray = torch.stack(rows).log_softmax(-1).numpy()
    return found


@pytest.fixture
def adapter(tiny_chat: Path, tmp_path: Path) -> Path:
    """A LoRA adapter that changes much."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(2)
    settings = LoraConfig(r=4, lora_alpha=16, init_lora_weights=False, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_chat), settings).save_pretrained(tmp_path)
    return tmp_path


def test_an_answer_does_not_depend_on_the_prompts_beside_it(tiny_chat: Path) -> None:
    asked = judge(tiny_chat)
    found = asked.logprobs(PROMPTS, LETTERS)
    np.testing.assert_allclose(found, by_itself(asked, asked.model), atol=1e-4)
    np.testing.assert_allclose(np.exp(found).sum(1), 1, atol=1e-5)


def test_an_adapter_s_answers_are_peft_s_own(tiny_chat: Path, adapter: Path) -> None:
    from peft import AutoPeftModelForCausalLM

    asked = judge(tiny_chat, adapter=str(adapter))
    found = asked.logprobs(PROMPTS, LETTERS)
    np.testing.assert_allclose(found, by_itself(asked, AutoPeftModelForCausalLM.from_pretrained(adapter).eval()), atol=1e-3)
    assert np.abs(found - judge(tiny_chat).logprobs(PROMPTS, LETTERS)).max() > 0.1


def test_an_adapter_of_other_weights_is_refused(tiny_chat: Path, adapter: Path) -> None:
    with pytest.raises(InputError, match="Set weights to"):
        judge(tiny_chat, adapter=str(adapter), weights="Qwen/Another")


def test_answers_that_are_kept_of_one_adapter_are_not_given_for_another(tiny_chat: Path, adapter: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "results")
    for name in (None, str(adapter), None):
        spec = Listwise(engine="transformers", weights=str(tiny_chat), dtype="float32", adapter=name)
        KeptJudge(spec, store).logprobs(PROMPTS, LETTERS)
    memory.release()
    assert (store.made, store.found) == (2, 1)


def test_what_it_writes_does_not_depend_on_the_prompts_beside_it_and_is_the_likeliest(tiny_chat: Path) -> None:
    asked, tokens = judge(tiny_chat), 6
    written = asked.write(PROMPTS, tokens)
    end = asked.chat.tokenizer.eos_token_id
    for prompt, text in zip(PROMPTS, written, strict=True):
        ids = asked.chat.encode(prompt)
        for _ in range(tokens):
            with torch.inference_mode():
                ids.append(int(asked.model(torch.tensor([ids])).logits[0, -1].argmax()))
            if ids[-1] == end:
                break
        assert text == asked.chat.tokenizer.decode(ids[len(asked.chat.encode(prompt)) :], skip_special_tokens=True)
    assert len(set(written)) > 1


def test_an_explanation_is_written_once_an_answer_and_stands_in_its_prompts(tiny_judge: Path, tmp_path: Path) -> None:
    catalog = pl.DataFrame({"label_id": [1, 2, 3], "label": ["one", "two", "three"]}, schema=CATALOG.columns)
    row = dict.fromkeys(QUERIES.columns, "a word")
    queries = pl.DataFrame([row | {"query_id": f"{i}_A", "question_id": str(i), "wrong": f"{i}"} for i in range(3)])
    pool = run(queries.select("query_id").join(catalog.select("label_id"), how="cross").with_columns(score=0.0))
    store = Store(tmp_path)
    for depth in (2, 3):
        settings = {"engine": "transformers", "weights": str(tiny_judge), "dtype": "float32"}
        rerank(queries, catalog, pool, Pointwise(**settings, depth=depth, reasoning=5), store)
    memory.release()
    written = [pl.read_parquet(file).item() for file in (tmp_path / "reasoning").glob("*.parquet")]
    assert len(written) == 3 and all(written)
    asked = [json.loads(file.read_text())["inputs"]["prompts"] for file in (tmp_path / "judge").glob("*.json")]
    prompts = {prompt for each in asked for prompt in each}
    assert len(prompts) == 9
    assert all(sum(f"What may have led to it: {tidy(text)}\n" in prompt for text in written) == 1 for prompt in prompts)


@pytest.mark.parametrize("settings", [{"engine": "server"}, {"engine": "ray"}, {"engine": "transformers", "adapter": "one"}])
def test_explanations_are_refused_where_the_weights_alone_cannot_write_them(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="reasoning is written by engine=vllm"):
        Listwise(**settings, reasoning=50)
    with pytest.raises(ValidationError, match="half of max_tokens"):
        Listwise(max_tokens=128, reasoning=64)
