"""Texts as trees of tokens: a beginning that several texts share stands there once, and is computed once.

Under causal attention a token's state depends on the tokens before it alone, so the three wrong answers of a question can
have their question in common, exactly: the vectors are those of the texts one by one. Many texts lie in one row, without
padding, and `attends` says who sees whom. Under bidirectional attention nothing can be shared, and each text sees itself.

It knows no model: numbers in, numbers out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Tokens = Sequence[int]


@dataclass(frozen=True)
class Tree:
    """n nodes that hold m texts, as one row of a batch."""

    tokens: np.ndarray  # (n,) int64
    positions: np.ndarray  # (n,) int64: the node's place in its text, from 0
    parents: np.ndarray  # (n,) int64: the node before it, -1 where there is none
    starts: np.ndarray  # (m,) int64: each text's first node, in the texts' order
    ends: np.ndarray  # (m,) int64: each text's last node
    causal: bool

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def attends(self) -> np.ndarray:
        """(n, n) bool: row i is what node i sees. Made when it is asked for: of many trees it would fill the memory."""
        seen = np.eye(len(self), dtype=bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] |= seen[parent]
        return seen if self.causal else seen | seen.T  # not causal, every text is one path of its own: who is seen sees


@dataclass(frozen=True)
class Batch:
    """Trees as the rows of a batch, r of them, filled up to the longest with nodes that see themselves alone."""

    tokens: np.ndarray  # (r, n) int64
    positions: np.ndarray  # (r, n) int64
    attends: np.ndarray  # (r, n, n) bool
    offsets: np.ndarray  # (trees,) int64: each tree's first node, as a place in the flattened rows
    starts: np.ndarray  # (m,) int64: each text's first node, likewise
    ends: np.ndarray  # (m,) int64: each text's last node


def shared(a: Sequence[object], b: Sequence[object]) -> int:
    """How many tokens, or letters, the two begin with in common."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def grow(texts: Sequence[Tokens], causal: bool) -> Tree:
    """The tree of `texts`, none of them empty."""
    tokens: list[int] = []
    positions: list[int] = []
    parents: list[int] = []
    starts, ends = np.zeros((2, len(texts)), dtype=np.int64)
    before: Tokens = ()
    path: list[int] = []
    for i in sorted(range(len(texts)), key=lambda i: list(texts[i])):  # what begins alike comes together
        text = texts[i]
        path = path[: shared(text, before) if causal else 0]
        for token in text[len(path) :]:
            parents.append(path[-1] if path else -1)
            positions.append(len(path))
            path.append(len(tokens))
            tokens.append(token)
        starts[i], ends[i], before = path[0], path[-1], text
    return Tree(np.array(tokens), np.array(positions), np.array(parents), starts, ends, causal)


def lay(lines: Sequence[Sequence[Tree]]) -> Batch:
    """A batch with a row for each line of trees, laid side by side; trees and texts count in the lines' order."""
    longest = max(sum(map(len, line)) for line in lines)
    tokens, positions = np.zeros((2, len(lines), longest), dtype=np.int64)
    attends = np.repeat(np.eye(longest, dtype=bool)[None], len(lines), axis=0)
    offsets, starts, ends = [], [], []
    for row, line in enumerate(lines):
        at = 0
        for tree in line:
            place = slice(at, at + len(tree))
            tokens[row, place], positions[row, place], attends[row, place, place] = tree.tokens, tree.positions, tree.attends
            offsets.append(row * longest + at)
            starts.append(tree.starts + offsets[-1])
            ends.append(tree.ends + offsets[-1])
            at += len(tree)
    return Batch(tokens, positions, attends, np.array(offsets), np.concatenate(starts), np.concatenate(ends))


def families(texts: Sequence[Tokens], causal: bool) -> list[list[int]]:
    """The texts' places in groups that begin alike: at least half of a text is its forerunner's beginning too."""
    groups: list[list[int]] = []
    before: Tokens = ()
    for i in sorted(range(len(texts)), key=lambda i: list(texts[i])):
        if causal and groups and 2 * shared(texts[i], before) >= len(texts[i]):
            groups[-1].append(i)
        else:
            groups.append([i])
        before = texts[i]
    return groups


def rows(sizes: Sequence[int], width: int) -> list[list[int]]:
    """Which of trees of these `sizes` share a row of `width`: first fit, the longest first."""
    filled: list[tuple[int, list[int]]] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        for at, (used, row) in enumerate(filled):
            if used + sizes[i] <= width:
                filled[at] = (used + sizes[i], [*row, i])
                break
        else:
            filled.append((sizes[i], [i]))
    return [row for _, row in filled]


def alike(sizes: Sequence[int], most: int, full: float = 0.0) -> list[list[int]]:
    """Which of `sizes` are a batch together, the longest first: at `most` so many when all are filled up to its longest, or one
    alone, and none that has less than the share `full` of that."""
    batches: list[list[int]] = []
    for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        longest = sizes[batches[-1][0]] if batches else 0
        if not batches or (len(batches[-1]) + 1) * longest > most or sizes[i] < full * longest:
            batches.append([])
        batches[-1].append(i)
    return batches
