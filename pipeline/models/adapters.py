"""PEFT adapters: a new one on a model, one written as a folder, one read and made part of the weights that it fits."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config import Lora
from pipeline.errors import InputError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."  # PEFT's name for the model that it wraps; transformers wraps none and leaves it out


def base_of(adapter: Path) -> str:
    """The weights that the adapter in a folder was trained on, as its own config names them."""
    return str(_setting(adapter, "base_model_name_or_path"))


def rank_of(adapter: Path, weights: str) -> int:
    """The rank of an adapter that an engine is to lay on `weights`; `InputError` where it is known to be of others."""
    if not _fits_by_name(adapter, weights):
        raise _misfit(adapter, weights, f"an adapter of {base_of(adapter)}")
    return int(_setting(adapter, "r"))


def _setting(adapter: Path, name: str) -> Any:
    file = adapter / "adapter_config.json"
    try:
        return json.loads(file.read_text(encoding="utf-8"))[name]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            file,
            found=f"{type(error).__name__}: {error}",
            wanted="a PEFT adapter's config",
            remedy="Name the adapter's folder.",
        ) from None


def merged(body: Any, adapter: Path, weights: str) -> Any:
    """`body`, loaded from `weights`, with the adapter's updates added to its own weights.

    Raises `InputError`, which names the base that the adapter wants, when the two do not fit.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    base = base_of(adapter)
    try:
        if not _fits_by_name(adapter, weights):
            raise ValueError(f"an adapter of {base}")
        model = PeftModel.from_pretrained(body, str(adapter))
        with safe_open(adapter / WEIGHTS, "pt") as file:
            # PEFT would only warn of them
            if strange := set(file.keys()) ^ set(get_peft_model_state_dict(model, save_embedding_layers=False)):
                raise ValueError(f"weights that it has or lacks: {', '.join(sorted(strange)[:3])}")
        return model.merge_and_unload()
    except (ValueError, RuntimeError, OSError, KeyError, SafetensorError) as error:  # other layers, other shapes, not whole
        raise _misfit(adapter, weights, str(error).strip().splitlines()[0][:200]) from None


def _fits_by_name(adapter: Path, weights: str) -> bool:
    """Weights that lie in a folder have no name to tell."""
    return Path(weights).expanduser().is_dir() or weights == base_of(adapter)


def _misfit(adapter: Path, weights: str, found: str) -> InputError:
    base = base_of(adapter)
    return InputError(
        f"adapter {adapter}",
        found=found,
        wanted=f"one that was trained on {weights}; this one wants {base}",
        remedy=f"Set weights to {base}, name another adapter, or set adapter=null.",
    )


def add(model: SentenceTransformer, lora: Lora, frozen: int, room: str = "train.encoder") -> None:
    """Put a new adapter on every linear layer from the layer `frozen` on; it alone will learn, in float32.

    Raises `InputError`, which names the setting in `room`, when that leaves no layer.
    """
    from peft import LoraConfig
    from torch import nn

    body = model[0].model
    body.requires_grad_(False)
    linear = [name for name, module in body.named_modules() if isinstance(module, nn.Linear)]
    above = [name for name in linear if (at := re.search(r"\.(\d+)\.", f".{name}")) and int(at[1]) >= frozen]
    if not above:
        raise InputError(
            f"{room}.frozen={frozen}",
            found="no linear layer above it",
            wanted="fewer frozen layers than the backbone has",
            remedy="Lower it.",
        )
    settings = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=above)
    model.add_adapter(settings)
    for weight in body.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def begin(model: SentenceTransformer, folder: Path, room: str = "train.encoder") -> None:
    """Give the new adapter of `model` the weights of a stored one.

    Raises `InputError` when they are not the same ones.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    body = model[0].model
    own = get_peft_model_state_dict(body, save_embedding_layers=False)
    try:
        stored = {name.removeprefix(PREFIX): weight.float() for name, weight in load_file(folder / WEIGHTS).items()}
        if strange := {n for n in {*own, *stored} if n not in own or n not in stored or own[n].shape != stored[n].shape}:
            raise ValueError(f"weights that it has or lacks, or of another shape: {', '.join(sorted(strange)[:3])}")
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{room}.start={folder}",
            found=str(error).splitlines()[0][:200],
            wanted="an adapter of the rank and the layers that are to learn",
            remedy=f"Set {room}.lora and {room}.frozen as it was trained, or start=null.",
        ) from None
    set_peft_model_state_dict(body, stored)


def save(model: SentenceTransformer, base: str, folder: Path) -> None:
    """Write the adapter in float16, PEFT's two files, under its base's own name."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    body = model[0].model
    settings = body.peft_config[body.active_adapters()[0]]
    settings.base_model_name_or_path, settings.inference_mode = base, True
    settings.save_pretrained(str(folder))
    state = get_peft_model_state_dict(body, save_embedding_layers=False)  # else it asks the hub about the base
    weights = {f"{PREFIX}{name}": weight.half().contiguous().cpu() for name, weight in state.items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
