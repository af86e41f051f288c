"""Texts as a training loop wants them: grouped by question, the states of frozen lower layers computed once and kept.

Where only upper layers learn, what the lower ones say of a text never changes. Those states are made once, kept on disk
under a hash of tokens and weights, and every epoch starts from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.config import Training
from pipeline.errors import InputError
from pipeline.models.packed import Layers, batches
from pipeline.models.tree import Batch, Tree, grow
from pipeline.store import cache_folder, replacing

if TYPE_CHECKING:
    import torch

AT_ONCE = 4096  # nodes in a batch that needs no gradient
CHUNK = 128  # units whose states are made at a time


@dataclass(frozen=True)
class Unit:
    """Texts that are learnt together, a question's answers, one label or a judge's prompts, and the label of each."""

    tree: Tree
    labels: tuple[int, ...]  # one a text
    states: Path | None = None  # where those behind the frozen layers lie, (nodes, width)


class Embedder:
    """A model and the number of its lower layers whose states are kept; it makes units and reads them."""

    def __init__(self, packed: Layers, frozen: int, weights: str) -> None:
        self.packed, self.frozen = packed, frozen
        self.weights = weights  # a fingerprint: the states depend on it

    def units(self, groups: Sequence[Sequence[str]], labels: Sequence[Sequence[int]]) -> list[Unit]:
        """A unit for each group of texts, with the frozen layers' states if there are any."""
        tokens = iter(self.packed.tokens([text for group in groups for text in group]))
        made = [
            Unit(grow([next(tokens) for _ in group], self.packed.causal), tuple(own))
            for group, own in zip(groups, labels, strict=True)
        ]
        if self.frozen:
            self._keep([unit.tree for unit in made])
            made = [replace(unit, states=self._path(unit.tree)) for unit in made]
        return made

    def _path(self, tree: Tree) -> Path:
        """Where a tree's states lie: a file a unit, because another fold has the same questions in another order."""
        key = hashlib.sha256(f"{self.weights} {self.frozen} {self.packed.causal} {self.packed.body.dtype}".encode())
        key.update(tree.tokens.tobytes() + tree.positions.tobytes())
        return cache_folder() / "states" / f"{key.hexdigest()[:32]}.safetensors"

    def _keep(self, trees: Sequence[Tree]) -> None:
        """Make the states that do not lie there yet."""
        import torch
        from safetensors.torch import save
        from tqdm import trange

        missing = list({path: tree for tree in trees if not (path := self._path(tree)).is_file()}.items())
        for start in trange(0, len(missing), CHUNK, desc=f"states behind {self.frozen} layers", disable=not missing):
            part = missing[start : start + CHUNK]
            with torch.no_grad():
                for batch, places in batches([tree for _, tree in part], AT_ONCE):
                    flat = self.packed.states(batch, layers=slice(0, self.frozen)).flatten(0, 1).cpu()
                    for place, at in zip(places, batch.offsets, strict=True):
                        path, tree = part[place]
                        with replacing(path) as file:
                            file.write(save({"states": flat[at : at + len(tree)].clone()}))

    def vectors(self, units: Sequence[Unit], nodes: int | None = None) -> torch.Tensor:
        """(texts, dim) float32: unit rows of what `read` gives."""
        import torch

        return torch.nn.functional.normalize(self.read(units, nodes), dim=-1)

    def read(self, units: Sequence[Unit], nodes: int | None = None) -> torch.Tensor:
        """(texts, dim) float32 in the units' order: what the model makes of each text, from batches of at most `nodes` nodes,
        or from as few as there can be."""
        import torch

        nodes = nodes or 2 * sum(len(unit.tree) for unit in units)
        ends = np.cumsum([len(unit.labels) for unit in units])
        parts: list[torch.Tensor] = []
        order: list[int] = []
        for batch, places in batches([unit.tree for unit in units], nodes):
            entry = _spread(batch, [units[i] for i in places]) if self.frozen else None
            parts.append(self.packed.vectors(batch, entry, slice(self.frozen, None) if self.frozen else slice(None)))
            order += [k for i in places for k in range(ends[i] - len(units[i].labels), ends[i])]
        return torch.cat(parts)[np.argsort(order)]


def _spread(batch: Batch, units: Sequence[Unit]) -> torch.Tensor:
    """(r, n, width): the units' states at their nodes' places in the batch."""
    import torch
    from safetensors.torch import load

    own = [load(unit.states.read_bytes())["states"] for unit in units if unit.states]
    flat = torch.zeros(batch.tokens.size, own[0].shape[1], dtype=own[0].dtype)
    for at, states in zip(batch.offsets, own, strict=True):
        flat[at : at + len(states)] = states
    return flat.view(*batch.tokens.shape, -1)


def refuse_frozen(packed: Layers, recipe: Training) -> None:
    """Raise `InputError` where as many layers as `recipe` freezes cannot be computed apart from the others."""
    body = packed.body
    if recipe.frozen and (recipe.frozen >= body.config.num_hidden_layers or not packed.splits(recipe.frozen)):
        raise InputError(
            f"{recipe.room}.frozen={recipe.frozen}",
            found=f"{type(body).__name__} of {body.config.num_hidden_layers} layers",
            wanted="fewer than all layers, of a decoder such as Qwen2: others' lower layers cannot be computed apart",
            remedy=f"Lower it, or set {recipe.room}.frozen=0.",
        )
