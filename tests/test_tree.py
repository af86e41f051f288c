"""Trees of tokens: the texts come out of them again, whole, and nobody sees what is not theirs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.tree import families, grow, lay, rows, shared

TEXTS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=8), min_size=1, max_size=6)


def path(tree, text):  # noqa: ANN001, ANN201
    """The nodes that a text's last node sees."""
    return np.flatnonzero(tree.attends[tree.ends[text]])


@given(TEXTS, st.booleans())
def test_every_text_is_what_its_last_node_sees(texts: list[list[int]], causal: bool) -> None:
    tree = grow(texts, causal)
    for i, text in enumerate(texts):
        nodes = path(tree, i)
        assert tree.tokens[nodes].tolist() == text
        assert tree.positions[nodes].tolist() == list(range(len(text)))
        assert nodes[0] == tree.starts[i]


@given(TEXTS)
def test_under_causal_attention_no_node_sees_a_later_one_and_no_beginning_stands_twice(texts: list[list[int]]) -> None:
    tree = grow(texts, causal=True)
    assert not np.triu(tree.attends, 1).any()
    beginnings = {tuple(text[: i + 1]) for text in texts for i in range(len(text))}
    assert len(tree) == len(beginnings)


@given(TEXTS)
def test_under_bidirectional_attention_a_text_sees_all_of_itself_and_nothing_else(texts: list[list[int]]) -> None:
    tree = grow(texts, causal=False)
    assert len(tree) == sum(map(len, texts))
    for i in range(len(texts)):
        own = slice(tree.starts[i], tree.ends[i] + 1)
        assert tree.attends[own, own].all()
        assert tree.attends[own].sum() == len(texts[i]) ** 2


@given(st.lists(TEXTS, min_size=1, max_size=5), st.integers(1, 3))
def test_a_batch_holds_its_trees_unchanged_and_apart(groups: list[list[list[int]]], lines: int) -> None:
    trees = [grow(texts, causal=True) for texts in groups]
    layout = [list(range(len(trees)))[i::lines] for i in range(lines)]
    layout = [line for line in layout if line]
    batch = lay([[trees[i] for i in line] for line in layout])
    width = batch.tokens.shape[1]
    order = [i for line in layout for i in line]
    text = 0
    for i, offset in zip(order, batch.offsets, strict=True):
        row, column = divmod(int(offset), width)
        place = slice(column, column + len(trees[i]))
        assert (batch.tokens[row, place] == trees[i].tokens).all()
        assert (batch.attends[row, place, place] == trees[i].attends).all()
        assert batch.attends[row, place].sum() == trees[i].attends.sum()  # and sees nothing outside
        for own in range(len(groups[i])):
            assert batch.tokens.reshape(-1)[batch.ends[text]] == groups[i][own][-1]
            text += 1
    assert batch.attends.any(axis=2).all()  # a node that sees nothing would be NaN


@given(TEXTS, st.booleans())
def test_families_hold_each_text_once(texts: list[list[int]], causal: bool) -> None:
    groups = families(texts, causal)
    assert sorted(i for group in groups for i in group) == list(range(len(texts)))


def test_the_answers_of_a_question_are_a_family_and_another_question_is_not() -> None:
    texts = [[1, 2, 3, 4, 9], [5, 6, 7, 8], [1, 2, 3, 4, 8, 8]]
    assert [sorted(group) for group in families(texts, causal=True)] == [[0, 2], [1]]
    assert families(texts, causal=False) == [[2], [0], [1]]


@given(st.lists(st.integers(1, 20), max_size=30))
def test_rows_hold_each_tree_once_and_are_not_too_wide(sizes: list[int]) -> None:
    filled = rows(sizes, 16)
    assert sorted(i for row in filled for i in row) == list(range(len(sizes)))
    assert all(sum(sizes[i] for i in row) <= 16 or len(row) == 1 for row in filled)


def test_what_two_texts_share() -> None:
    assert (shared([1, 2, 3], [1, 2, 4]), shared([1], [1, 2]), shared([], [1])) == (2, 1, 0)
