"""How a vLLM engine is started: what a judge wants, what an old GPU wants, and over both the config's own arguments."""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import Any

from pipeline.config import Judge as Spec
from pipeline.errors import InputError
from pipeline.models import adapters, sources
from pipeline.models.device import capability, dtype_of
from pipeline.models.vllm_reading import Vllm, reading

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # that vLLM has kernels for


def arguments(folder: Path, spec: Spec, vllm: Vllm) -> dict[str, Any]:
    """Every argument of the engine that serves the weights in `folder`.

    Raises `InputError` for an argument that this vLLM does not have, and for an adapter of other weights.
    """
    refuse_unknown(spec.engine_args, vllm)
    return {
        "model": str(folder),
        "dtype": dtype_of(spec.dtype),  # float16 on a GPU that has no bfloat16
        "max_model_len": spec.max_tokens,
        "enable_prefix_caching": True,
        "enforce_eager": True,  # one token a prompt: a graph's compilation is never earned back
        "trust_remote_code": False,
        "load_format": "safetensors",
        **reading(vllm).arguments(),
        **for_device(capability(), vllm),
        **(for_adapter(sources.resolve(spec.adapter), spec.weights) if spec.adapter else {}),
        **spec.engine_args,
    }


def for_device(capability: tuple[int, int] | None, vllm: Vllm) -> dict[str, Any]:
    """What a GPU of that compute capability, or a processor, needs to be told; nothing for an Ampere or newer.

    A processor's cache has blocks of 128 tokens where nothing is said, and only whole ones are shared by prompts that begin
    alike: its kernels want multiples of 32. FlashAttention 2 needs 8.0. FlashInfer says that it runs below and versions before
    0.24 would take it, so the kernels that do run on a T4 are named.
    """
    if capability is None:
        return {"block_size": 32}
    if capability >= (8, 0) or "attention_backend" not in vllm.engine:
        return {}
    return {"attention_backend": "TRITON_ATTN"}


def for_adapter(folder: Path, weights: str) -> dict[str, Any]:
    """What an engine needs to be told to lay the adapter in `folder` on `weights`."""
    rank = adapters.rank_of(folder, weights)
    return {"enable_lora": True, "max_lora_rank": next((room for room in RANKS if room >= rank), rank)}


def refuse_unknown(engine_args: dict[str, Any], vllm: Vllm) -> None:
    """Raise `InputError`, which names the nearest ones, for arguments that this vLLM's engine does not have."""
    if unknown := sorted(set(engine_args) - vllm.engine):
        near = {close for name in unknown for close in difflib.get_close_matches(name, sorted(vllm.engine))}
        raise InputError(
            "engine_args",
            found=", ".join(unknown),
            wanted=f"arguments of vLLM {vllm.version}'s EngineArgs",
            remedy=f"The nearest are {', '.join(sorted(near))}." if near else "Remove them.",
        )


def flags(settings: dict[str, Any]) -> list[str]:
    """The same arguments as vLLM's command line takes them; None is left to its default."""
    words: list[str] = []
    for name, value in settings.items():
        flag = name.replace("_", "-")
        match value:
            case None:
                continue
            case bool():
                words.append(f"--{flag}" if value else f"--no-{flag}")
            case dict():
                words += [f"--{flag}", json.dumps(value)]
            case list():
                words += [f"--{flag}", *map(str, value)]
            case _:
                words += [f"--{flag}", str(value)]
    return words
