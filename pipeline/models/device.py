"""Which device and number format the models run on."""

from __future__ import annotations

from functools import cache

from pipeline.config import Judge


@cache
def device() -> str:
    """ "cuda" where torch sees a GPU, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@cache
def capability() -> tuple[int, int] | None:
    """The GPU's compute capability: (7, 5) for a T4, (8, 0) for an A100; None without a GPU."""
    import torch

    found: tuple[int, int] | None = torch.cuda.get_device_capability() if device() == "cuda" else None
    return found


@cache
def best_dtype() -> str:
    """bfloat16 where the processor computes in it; on older GPUs float16; else float32."""
    import torch

    if gpu := capability():
        return "bfloat16" if gpu >= (8, 0) else "float16"
    # not every processor that can emulate bfloat16 is faster for it
    native = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if native else "float32"


def dtype_of(setting: str) -> str:
    """The number format that a config's `dtype` means here, by the name that torch and vLLM share."""
    return best_dtype() if setting == "auto" else setting


def settled(spec: Judge) -> Judge:
    """The judge's settings with what "auto" means here: the engine that reads its prompts, and the number format."""
    return spec.on(gpu=device() == "cuda").model_copy(update={"dtype": dtype_of(spec.dtype)})
