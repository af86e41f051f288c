"""Vectors computed on trees of tokens are sentence-transformers' own, and cost fewer tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import Dense
from pipeline.models.encoder import SentenceEncoder, load
from pipeline.models.packed import Packed, batches, encode, part
from pipeline.models.tree import grow, lay

QUESTION = "Add the fractions: 1/2 + 1/3."
ANSWERS = [f"{QUESTION} Wrong answer: {answer}" for answer in ("2/5", "2/6", "1/6")]
LONG = "What is a third of " + "nine and of " * 12
TEXTS = [
    ANSWERS[0],
    "x",
    LONG + "a dozen?",  # beyond 64 tokens, as the next
    LONG + "a score?",
    ANSWERS[1],
    " ",
    "Believes that fractions are added by parts",
    ANSWERS[0],  # again
    QUESTION,  # a beginning of others
    "Größer ≥ ¾",
    ANSWERS[2],
]
OURS = [
    ("tiny_qwen", {"pooling": "lasttoken"}),
    ("tiny_qwen", {"pooling": "mean"}),
    ("tiny_bert", {}),
    ("tiny_roberta", {}),
]
backbones = pytest.mark.parametrize(("weights", "settings"), OURS, ids=["qwen, last token", "qwen, mean", "bert", "roberta"])


def encoder_of(folder: Path, **settings: Any) -> SentenceEncoder:
    """In float32; texts are cut at 64 tokens."""
    spec = Dense(weights=str(folder), **{"dtype": "float32", "max_tokens": 64, **settings})
    return SentenceEncoder(load(folder, spec), spec)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Row by row."""
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def own(encoder: SentenceEncoder, texts: list[str]) -> np.ndarray:
    """sentence-transformers' own vectors, one text at a time, so that no padding can matter."""
    return np.concatenate([encoder.model.encode([text], show_progress_bar=False) for text in texts])


@backbones
def test_the_vectors_are_sentence_transformers_own(
    weights: str, settings: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    encoder = encoder_of(request.getfixturevalue(weights), **settings)
    assert encoder.fits
    vectors = encoder.encode(TEXTS, "query")
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert cosines(vectors, own(encoder, TEXTS)).min() > 0.99999
    differ = vectors[[0, 1, 2, 5, 6]]
    assert (differ @ differ.T - np.eye(5)).max() < 0.999, "the tiny weights tell no text from another: this test shows nothing"
    assert cosines(vectors[[0, 2]], vectors[[7, 3]]).min() > 0.99999  # the same text, and the same up to the cut


@backbones
def test_a_text_s_vector_does_not_depend_on_its_neighbours_nor_on_the_batch(
    weights: str, settings: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    encoder = encoder_of(request.getfixturevalue(weights), **settings)
    together = encode(encoder.packed, TEXTS, nodes=4096)
    assert cosines(together, encode(encoder.packed, TEXTS, nodes=1)).min() > 0.99999
    assert cosines(together, encode(encoder.packed, TEXTS[::-1], nodes=4096)[::-1]).min() > 0.99999
    assert cosines(together, np.concatenate([encode(encoder.packed, [text], 4096) for text in TEXTS])).min() > 0.99999


def test_a_text_without_a_token_is_answered_too(tiny_qwen: Path) -> None:
    """The seed's template makes one of an empty question with an empty answer, and `data` keeps such rows."""
    encoder = encoder_of(tiny_qwen)
    vectors = encoder.encode(["", "x"], "query")
    assert np.isfinite(vectors).all()
    assert cosines(vectors[1:], own(encoder, ["x"])).min() > 0.99999


def test_what_texts_share_is_computed_once(tiny_qwen: Path) -> None:
    encoder = encoder_of(tiny_qwen)
    computed: list[int] = []
    encoder.packed.body.embed_tokens.register_forward_hook(lambda _, given, __: computed.append(given[0].numel()))
    encode(encoder.packed, ANSWERS, nodes=4096)
    tokens = encoder.packed.tokens(ANSWERS)
    beginnings = {tuple(text[: i + 1]) for text in tokens for i in range(len(text))}
    assert computed == [len(beginnings)]
    assert 2 * len(beginnings) < sum(map(len, tokens))


def test_a_backbone_with_positions_of_its_own_is_left_to_sentence_transformers(tmp_path: Path, tiny_family: Any) -> None:
    encoder = encoder_of(tiny_family("MPNet", "mean", tmp_path, max_position_embeddings=512))
    assert not encoder.fits
    assert cosines(encode(encoder.packed, TEXTS, 4096), own(encoder, TEXTS)).min() < 0.99
    assert cosines(encoder.encode(TEXTS, "query"), own(encoder, TEXTS)).min() > 0.99999


def test_a_pooling_that_is_not_known_here_is_left_to_sentence_transformers(tmp_path: Path, tiny_family: Any) -> None:
    encoder = encoder_of(tiny_family("Bert", "max", tmp_path, max_position_embeddings=512))
    assert not encoder.fits
    vectors = encoder.encode(TEXTS, "query")
    assert cosines(vectors, own(encoder, TEXTS)).min() > 0.99999
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_backbone_whose_tokens_see_only_those_near_them_gets_its_own_vectors_for_long_texts_too(
    tmp_path: Path, tiny_family: Any
) -> None:
    """ModernBERT's lower layers look 64 tokens to each side."""
    folder = tiny_family("ModernBert", "mean", tmp_path, max_position_embeddings=512)
    encoder = encoder_of(folder, max_tokens=512)
    texts = [QUESTION * 10 + answer for answer in ("2/5", "1/6")]
    assert len(encoder.packed.tokens(texts)[0]) > 2 * encoder.packed.body.config.local_attention
    assert cosines(encoder.encode(texts, "query"), own(encoder, texts)).min() > 0.999


def test_a_length_beyond_the_backbone_s_positions_hinders_no_shorter_text(tiny_bert: Path) -> None:
    encoder = encoder_of(tiny_bert, max_tokens=1024)
    assert cosines(encoder.encode(TEXTS, "query"), own(encoder, TEXTS)).min() > 0.99999


def test_layers_in_two_parts_are_all_layers_and_the_model_stays_whole(tiny_qwen: Path) -> None:
    import torch

    packed = encoder_of(tiny_qwen).packed
    batch = lay([[grow(packed.tokens(ANSWERS), causal=True)], [grow(packed.tokens(["x", LONG]), causal=True)]])
    with torch.inference_mode():
        whole = packed.states(batch)
        lower = packed.states(batch, layers=slice(0, 2))
        assert torch.allclose(packed.states(batch, lower, slice(2, None)), whole, atol=1e-5)
        assert not torch.allclose(lower, whole, atol=0.1)
        assert torch.allclose(packed.vectors(batch, lower, slice(2, None)), packed.vectors(batch), atol=1e-5)
        assert torch.equal(packed.states(batch), whole)
    assert len(packed.body.layers) == 4


def test_a_part_of_the_layers_shares_their_weights_and_has_the_norm_only_with_the_last(tiny_qwen: Path) -> None:
    body = encoder_of(tiny_qwen).packed.body
    lower, upper = part(body, slice(0, 2)), part(body, slice(2, None))
    assert [*lower.layers, *upper.layers] == list(body.layers)
    assert upper.norm is body.norm and not list(lower.norm.parameters())


def test_bidirectional_attention_sees_what_comes_later(tiny_qwen: Path) -> None:
    import torch

    causal, both = (encoder_of(tiny_qwen, pooling="mean", attention=kind) for kind in ("own", "bidirectional"))
    assert causal.packed.causal and not both.packed.causal
    assert cosines(causal.encode(ANSWERS, "query"), both.encode(ANSWERS, "query")).max() < 0.99
    first = []
    for packed in (causal.packed, both.packed):
        lone = [lay([[grow(packed.tokens([text]), packed.causal)]]) for text in ANSWERS[:2]]
        with torch.inference_mode():
            first.append(np.concatenate([packed.states(batch)[0, :1].numpy() for batch in lone]))
    assert np.allclose(first[0][0], first[0][1], atol=1e-5)  # the two texts differ at their ends alone
    assert not np.allclose(first[1][0], first[1][1], atol=1e-2)


def test_bidirectional_attention_does_not_depend_on_neighbours(tiny_qwen: Path) -> None:
    packed = encoder_of(tiny_qwen, pooling="mean", attention="bidirectional").packed
    together = encode(packed, TEXTS, nodes=4096)
    assert cosines(together, np.concatenate([encode(packed, [text], 4096) for text in TEXTS])).min() > 0.99999


def test_bidirectional_attention_is_the_backbone_s_own_under_a_mask_that_hides_nothing(tiny_qwen: Path) -> None:
    import torch

    encoder = encoder_of(tiny_qwen, pooling="mean", attention="bidirectional")
    ids = torch.tensor(encoder.packed.tokens(ANSWERS[:1]))
    with torch.inference_mode():
        nothing = torch.zeros(1, 1, ids.shape[1], ids.shape[1])  # added to the attention's logits
        wanted = encoder.packed.body(input_ids=ids, attention_mask=nothing).last_hidden_state.mean(1)
    assert cosines(encoder.encode(ANSWERS[:1], "query"), wanted.numpy()).min() > 0.99999


def test_batches_hold_every_tree_once_say_which_and_are_not_too_wide() -> None:
    sizes = [1 + i % 60 for i in range(1100)]  # more than are looked through together
    trees = [grow([range(size)], causal=True) for size in sizes]
    seen = []
    for batch, places in batches(trees, 512):
        lengths = batch.positions.reshape(-1)[batch.ends] + 1
        assert lengths.tolist() == [sizes[place] for place in places]
        assert batch.tokens.size <= 512
        seen += places
    assert sorted(seen) == list(range(1100))


def test_rows_are_not_filled_up_to_much_longer_ones() -> None:
    sizes = [300, 900, 290, 880]
    made = list(batches([grow([range(size)], causal=True) for size in sizes], 10_000))
    assert [places for _, places in made] == [[1, 3], [0, 2]]
    assert [batch.tokens.size for batch, _ in made] == [2 * 900, 2 * 300]


def test_the_causality_is_the_backbone_s_own_unless_it_is_told(tiny_qwen: Path, tiny_bert: Path) -> None:
    qwen, bert = encoder_of(tiny_qwen).model, encoder_of(tiny_bert).model
    assert [Packed(qwen).causal, Packed(bert).causal, Packed(qwen, causal=False).causal] == [True, False, False]
