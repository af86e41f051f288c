"""Models computed on trees of tokens (see `tree.py`) instead of padded batches: their layers, and a bi-encoder's vectors."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.models.tree import Batch, Tree, alike, families, grow, lay, rows

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

# Nodes in a row: longer rows waste attention on texts that do not see each other, shorter ones make small matrix products.
WIDTH = 256
FULL = 0.8  # of a batch's longest row, at least, is what its shortest has: what fills it up is computed too
# The last is longer than windows of attention usually are.
PROBE = ("Add the fractions. Wrong answer: 2/5", "Add the fractions. Wrong answer: 1/6", " ".join(map(str, range(400))))


class Layers(ABC):
    """A transformer's layers on trees, and what a text's last states are turned into."""

    dim: int  # of what a text is turned into

    def __init__(self, body: Any, causal: bool | None = None) -> None:
        self.body = body
        own = any(getattr(module, "is_causal", False) for module in body.modules())
        self.causal = own if causal is None else causal
        # RoBERTa's positions begin behind its padding token's
        offset = getattr(getattr(body, "embeddings", None), "padding_idx", None)
        self.first = 0 if offset is None else offset + 1

    @abstractmethod
    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's tokens, one at least."""

    @abstractmethod
    def vectors(self, batch: Batch, hidden: torch.Tensor | None = None, layers: slice = slice(None)) -> torch.Tensor:
        """(m, dim) float32: what the texts are turned into, with gradients where the weights want them; see `states`."""

    def states(self, batch: Batch, hidden: torch.Tensor | None = None, layers: slice = slice(None)) -> torch.Tensor:
        """(r, n, width): the nodes' states behind `layers`; `hidden`, where given, are those before them."""
        import torch

        def here(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array, device=self.body.device)

        entry: dict[str, Any] = (
            {"input_ids": here(batch.tokens)} if hidden is None else {"inputs_embeds": hidden.to(self.body.device)}
        )
        positions, attends = here(batch.positions + self.first), here(batch.attends)[:, None]
        body = self.body if layers == slice(None) else part(self.body, layers)
        with mixed(self.body):
            return body(**entry, position_ids=positions, attention_mask=attends, use_cache=False).last_hidden_state

    def splits(self, at: int) -> bool:
        """Whether the layers before `at` and those from it on, one after the other, give the whole model's states."""
        import torch

        batch = lay([[grow(self.tokens(PROBE[:2]), self.causal)]])
        with torch.inference_mode():
            try:
                apart = self.states(batch, self.states(batch, layers=slice(0, at)), slice(at, None))
            except (TypeError, ValueError, AttributeError):  # layers in another place, or of another kind
                return False
            return bool(torch.cosine_similarity(apart.float(), self.states(batch).float(), dim=-1).min() > 0.999)


class Packed(Layers):
    """A sentence-transformers model's vectors of trees."""

    def __init__(self, model: SentenceTransformer, causal: bool | None = None) -> None:
        self.model = model
        transformer, self.pooling, *self.rest = model
        super().__init__(transformer.model, causal)
        self.dim = model.get_embedding_dimension()

    def tokens(self, texts: Sequence[str]) -> list[list[int]]:
        """Each text's tokens as the model's own preprocessing makes them, cut to its length."""
        features = self.model.preprocess(list(texts))
        pairs = zip(features["input_ids"].tolist(), features["attention_mask"].tolist(), strict=True)
        found = [[token for token, real in zip(ids, mask, strict=True) if real] for ids, mask in pairs]
        return [own or [self.model.tokenizer.pad_token_id or 0] for own in found]  # an empty text needs a vector too

    def vectors(self, batch: Batch, hidden: torch.Tensor | None = None, layers: slice = slice(None)) -> torch.Tensor:
        """(m, dim) float32: the texts' vectors, normalised if the model does that."""
        import torch

        states = self.states(batch, hidden, layers).flatten(0, 1).float()
        match self.pooling.pooling_mode:
            case "mean":
                row, node = np.divmod(batch.ends, batch.tokens.shape[1])
                seen = torch.as_tensor(batch.attends[row, node], device=states.device).float()[:, None]
                pooled = (seen @ states.view(*batch.tokens.shape, -1)[row])[:, 0] / seen.sum(2)
            case "lasttoken":
                pooled = states[batch.ends]
            case "cls":
                pooled = states[batch.starts]
            case other:
                raise ValueError(f"pooling {other!r}")
        features = {"sentence_embedding": pooled}
        for module in self.rest:
            features = module(features)
        return features["sentence_embedding"]

    def fits(self) -> bool:
        """Whether this way gives the model's own vectors: some backbones place or mask tokens in ways of their own."""
        import torch

        with torch.inference_mode():
            try:
                ours = self.vectors(lay([[grow(self.tokens(PROBE), self.causal)]])).cpu()
            except (TypeError, ValueError, AttributeError, KeyError):  # an argument or a pooling that it does not know
                return False
            own = self.model.encode(list(PROBE), convert_to_tensor=True, show_progress_bar=False).float().cpu()
        return bool(torch.cosine_similarity(ours, own).min() > 0.999)


def batches(trees: Sequence[Tree], nodes: int) -> Iterator[tuple[Batch, list[int]]]:
    """All trees as batches of `nodes` nodes at the most, or of one row, each with the places of its trees in the order in which
    it holds them."""
    block = 1024  # trees that look for a row together
    for at in range(0, len(trees), block):
        sizes = [len(tree) for tree in trees[at : at + block]]
        filled = rows(sizes, WIDTH)
        for some in alike([sum(sizes[i] for i in row) for row in filled], nodes, FULL):
            held = [[at + i for i in filled[row]] for row in some]
            yield lay([[trees[i] for i in row] for row in held]), [i for row in held for i in row]


def part(body: Any, layers: slice) -> Any:
    """A view of a decoder that runs only `layers`; its last norm belongs to the last layer. It shares the weights."""
    import torch

    view = copy.copy(body)
    view._modules = dict(body._modules)
    view._modules["layers"] = body.layers[layers]
    if layers.stop is not None and layers.stop < len(body.layers):
        view._modules["norm"] = torch.nn.Identity()
    return view


@contextmanager
def mixed(body: Any) -> Iterator[None]:
    """While an adapter learns in float32 on weights of 16 bits: both compute in 16, without a copy of every input in 32."""
    import torch

    if len({weight.dtype for weight in body.parameters()}) == 1:
        yield
        return
    from peft.helpers import disable_input_dtype_casting

    with torch.autocast(body.device.type, body.dtype), disable_input_dtype_casting(body):
        yield


def encode(packed: Layers, texts: Sequence[str], nodes: int, told: Callable[[int], object] = lambda done: None) -> np.ndarray:
    """(n, dim) float32 in the texts' order, `nodes` nodes computed at a time; `told` hears how many texts each time did."""
    import torch

    tokens = packed.tokens(texts)
    groups = families(tokens, packed.causal)
    trees = [grow([tokens[i] for i in group], packed.causal) for group in groups]
    vectors = np.zeros((len(texts), packed.dim), dtype=np.float32)
    with torch.inference_mode():
        for batch, places in batches(trees, nodes):
            which = [i for place in places for i in groups[place]]
            vectors[which] = packed.vectors(batch).float().cpu().numpy()
            told(len(which))
    return vectors
