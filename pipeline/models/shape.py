"""A transformer's shape, and what follows from it: bytes of weights, of keys and values, and operations a token.

It reads a config.json where the weights are, and no weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import InputError
from pipeline.models import sources

BITS = {"awq": 4, "gptq": 4, "bitsandbytes": 4, "fp8": 8}
GROUP = 0.16  # bits more a quantised weight: a scale and a zero point for each group of 128


@dataclass(frozen=True)
class Shape:
    """A transformer's. `bits` are those of its layers' weights, None where they are in the format that it computes in."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool
    gated: bool = True
    bits: int | None = None

    @property
    def linear(self) -> int:
        """Weights of the layers' matrices."""
        attention = 2 * self.hidden * self.hidden * (self.heads + self.kv_heads) // self.heads
        return self.layers * (attention + (3 if self.gated else 2) * self.hidden * self.intermediate)

    def weights(self, width: int, head: bool) -> float:
        """Bytes of all weights; `head`: with the output's matrix, which a judge has and an encoder has not."""
        bits = 8 * width if self.bits is None else self.bits + GROUP
        return self.linear * bits / 8 + self.vocabulary * self.hidden * (2 if head and not self.tied else 1) * width

    def cache(self, width: int) -> int:
        """Bytes of keys and values, a token."""
        return 2 * self.layers * self.hidden * self.kv_heads // self.heads * width

    def activations(self, tokens: int, width: int, parts: int) -> float:
        """Bytes that so many tokens take on their way through a layer that is split into `parts`."""
        return tokens * width * (4 * self.hidden + 3 * self.intermediate / parts)

    def operations(self, tokens: float, context: float) -> float:
        """Additions and multiplications for `tokens` of texts that are `context` long."""
        return 2 * tokens * (self.linear + self.layers * self.hidden * context)


# layers, hidden, intermediate, heads, kv_heads of Qwen2.5, Coder and Math alike: their config.json
QWEN = {
    "0.5": (24, 896, 4864, 14, 2),
    "1.5": (28, 1536, 8960, 12, 2),
    "3": (36, 2048, 11008, 16, 2),
    "7": (28, 3584, 18944, 28, 4),
    "14": (48, 5120, 13824, 40, 8),
    "32": (64, 5120, 27648, 40, 8),
    "72": (80, 8192, 29568, 64, 8),
}

MINILM = Shape(6, 384, 1536, 12, 12, 30522, tied=True, gated=False)  # all-MiniLM-L6, likewise


def shape(reference: str, engine_args: Mapping[str, Any] | None = None) -> Shape:
    """The shape of the weights that `reference` names: by their config.json where they are on this machine, else as published.

    Raises `InputError` for weights that are neither.
    """
    given = (engine_args or {}).get("quantization")
    bits = next((bits for name, bits in BITS.items() if given and name in given), None)
    if found := sources.here(reference):
        try:
            return _read(json.loads((found[1] / "config.json").read_text(encoding="utf-8")), bits)
        except (OSError, ValueError, KeyError) as error:
            fault = f"{found[1]}/config.json: {type(error).__name__} {error}"
    else:
        name = sources.slug(reference)
        if (size := re.search(r"qwen2-5-(?:[a-z]+-)*(\d+(?:-5)?)b\b", name)) and (key := size[1].replace("-", ".")) in QWEN:
            small = float(key) < 7
            own = 4 if re.search("awq|int4", name) else 8 if "int8" in name else bits
            return Shape(*QWEN[key], vocabulary=151936 if small else 152064, tied=small, bits=own)
        if "all-minilm-l6" in name:
            return MINILM
        fault = "not on this machine"
    raise InputError(
        f"weights {reference!r}",
        found=fault,
        wanted=f"their config.json, all-MiniLM-L6, or a Qwen2.5 of {', '.join(QWEN)} billion weights",
        remedy="Put the folder here that holds their config.json; the weights themselves are not read.",
    )


def _read(told: Mapping[str, Any], bits: int | None) -> Shape:
    """A config.json's shape. Models that know grouped heads have gated layers; BERT and its kin have neither."""
    heads, quantised = told["num_attention_heads"], told.get("quantization_config", {})
    return Shape(
        told["num_hidden_layers"],
        told["hidden_size"],
        told["intermediate_size"],
        heads,
        told.get("num_key_value_heads", heads),
        told["vocab_size"],
        tied=told.get("tie_word_embeddings", True),
        gated="num_key_value_heads" in told,
        bits=quantised.get("bits") or (4 if quantised.get("load_in_4bit") else bits),
    )
