"""What an engine is started with: ours, the GPU's, the adapter's, and over all the config's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Listwise
from pipeline.errors import InputError
from pipeline.models.vllm_reading import Vllm
from pipeline.models.vllm_settings import arguments, flags, for_device

pytest.importorskip("torch", reason="the models' packages are not installed")

ENGINE = frozenset({"model", "dtype", "attention_backend", "enforce_eager", "max_model_len", "quantization", "logprobs_mode"})
VLLM = Vllm("0.19.1", frozenset({"allowed_token_ids"}), ENGINE)
BEFORE = Vllm("0.10.0", VLLM.sampling, ENGINE - {"attention_backend"})


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """A LoRA adapter of rank 12, as far as an engine's arguments go."""
    config = {"peft_type": "LORA", "base_model_name_or_path": "Qwen/Tiny", "r": 12}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    return tmp_path


def settings(**judge: Any) -> dict[str, Any]:
    return arguments(Path("weights"), Listwise(**judge), VLLM)


@pytest.mark.parametrize(
    ("capability", "vllm", "wanted"),
    [
        ((7, 5), VLLM, {"attention_backend": "TRITON_ATTN"}),
        ((7, 5), BEFORE, {}),
        ((8, 0), VLLM, {}),
        ((9, 0), VLLM, {}),
        (None, VLLM, {"block_size": 32}),
    ],
)
def test_a_gpu_older_than_ampere_is_given_kernels_that_run_on_it_and_a_processor_its_smallest_blocks(
    capability: tuple[int, int] | None, vllm: Vllm, wanted: dict[str, Any]
) -> None:
    assert for_device(capability, vllm) == wanted


def test_what_the_reading_needs_is_among_the_arguments() -> None:
    assert settings()["logprobs_mode"] == "processed_logprobs"


def test_the_user_s_own_arguments_win() -> None:
    own = {"enforce_eager": False, "max_model_len": 777, "dtype": "float32", "quantization": "awq"}
    assert settings(engine_args=own).items() >= own.items()
    assert settings()["enforce_eager"] is True


def test_an_argument_that_the_engine_does_not_have_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match=r"quantisation[^$]*0\.19\.1[^$]*nearest are quantization\."):
        settings(engine_args={"quantisation": "awq"})
    with pytest.raises(InputError, match="Remove them"):
        settings(engine_args={"zzz": 1})


def test_an_adapter_s_rank_is_made_room_for(adapter: Path) -> None:
    given = settings(adapter=str(adapter), weights="Qwen/Tiny")
    assert (given["enable_lora"], given["max_lora_rank"]) == (True, 16)
    assert "enable_lora" not in settings()


def test_an_adapter_of_other_weights_is_refused_before_an_engine_starts(adapter: Path) -> None:
    with pytest.raises(InputError, match="Set weights to Qwen/Tiny"):
        settings(adapter=str(adapter), weights="Qwen/Another")


def test_arguments_become_flags() -> None:
    given = {"model": "a b", "enforce_eager": True, "enable_prefix_caching": False, "max_model_len": 5, "quantization": None}
    given |= {"hf_overrides": {"a": 1}, "allowed_origins": ["x", "y"]}
    assert flags(given) == [
        *("--model", "a b"),
        "--enforce-eager",
        "--no-enable-prefix-caching",
        *("--max-model-len", "5"),
        *("--hf-overrides", '{"a": 1}'),
        *("--allowed-origins", "x", "y"),
    ]
