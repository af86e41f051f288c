"""The reference engine: each prompt's answer is its own, and an adapter's answers are PEFT's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import Listwise
from pipeline.errors import InputError
from pipeline.models import memory
from pipeline.models.judge import KeptJudge
from pipeline.models.transformers_engine import TransformersJudge
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
