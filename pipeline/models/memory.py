"""Which models are loaded. On a GPU one at a time, because each wants the whole card; on a processor they stay side by side."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

from pipeline.models.device import device


class Model(Protocol):
    """Something that holds weights."""

    def close(self) -> None:
        """Free them."""
        ...


M = TypeVar("M", bound=Model)
_held: dict[Hashable, Any] = {}


def held(key: Hashable, load: Callable[[], M]) -> M:
    """The model that `key` names, loaded if it is not there; fit and predict share it so."""
    if key not in _held:
        if device() == "cuda":
            release()
        _held[key] = load()
    model: M = _held[key]
    return model


def drop(key: Hashable) -> None:
    """Close the model that `key` names, if it is there."""
    if key in _held:
        _held.pop(key).close()


@atexit.register
def release() -> None:
    """Close every model."""
    if not _held:
        return
    while _held:
        _held.popitem()[1].close()
    gc.collect()
    if device() == "cuda":
        import torch

        torch.cuda.empty_cache()  # else the memory stays with this process, and an engine in another finds the card full
