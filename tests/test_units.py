"""Frozen layers computed once: the same vectors, from states that lie on disk and are nobody else's."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Dense
from pipeline.models.encoder import SentenceEncoder, load
from pipeline.models.packed import Packed
from pipeline.models.sources import fingerprint
from pipeline.train.units import CHUNK, Embedder, Unit

torch = pytest.importorskip("torch", reason="the models' packages are not installed")

GROUPS = [
    [f"Add the fractions: 1/2 + 1/3. Wrong answer: {answer}" for answer in ("2/5", "2/6", "1/6")],
    ["Believes that fractions are added by parts"],
    ["What is a half of nine? Wrong answer: 4", "What is a half of nine? Wrong answer: 5"],
    ["x"],
]
LABELS = [[0, 1, 2], [3], [4, 5], [6]]


@pytest.fixture(autouse=True)
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the states lie."""
    monkeypatch.setenv("EEDI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "states"


def packed_of(folder: Path, **settings: Any) -> Packed:
    spec = Dense(weights=str(folder), **{"dtype": "float32", **settings})
    return SentenceEncoder(load(folder, spec), spec).packed


@contextmanager
def passes(packed: Packed, layer: int) -> Iterator[list[int]]:
    """How many nodes go through a layer, a number for each pass."""
    counted: list[int] = []
    hook = packed.body.layers[layer].register_forward_hook(lambda _, __, out: counted.append(out.shape[:-1].numel()))
    yield counted
    hook.remove()


def files(folder: Path) -> dict[str, int]:
    """Each file's name and when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} if folder.is_dir() else {}


@torch.no_grad()
def vectors(packed: Packed, frozen: int, weights: str = "these", nodes: int | None = None) -> torch.Tensor:
    embedder = Embedder(packed, frozen, weights)
    return embedder.vectors(embedder.units(GROUPS, LABELS), nodes)


@pytest.mark.parametrize("nodes", [None, 1, 4096], ids=["one batch", "a row a batch", "as for the catalogue"])
@pytest.mark.parametrize("attention", ["own", "bidirectional"])
def test_the_vectors_from_kept_states_are_those_of_all_layers_and_of_the_encoder_itself(
    tiny_qwen: Path, attention: str, nodes: int | None
) -> None:
    packed = packed_of(tiny_qwen, attention=attention)
    whole, upper = (vectors(packed, frozen, nodes=nodes) for frozen in (0, 2))
    texts = [text for group in GROUPS for text in group]
    own = SentenceEncoder(packed.model, Dense(weights=str(tiny_qwen), attention=attention)).encode(texts, "query")
    assert torch.allclose(upper, whole, atol=1e-5)
    assert torch.allclose(whole, torch.as_tensor(own), atol=1e-5)
    assert (whole @ whole.T - torch.eye(len(texts))).max() < 0.999, "the texts are alike: this test shows nothing"


def test_units_of_several_rows_come_back_in_their_order(tiny_qwen: Path) -> None:
    embedder = Embedder(packed_of(tiny_qwen), 0, "these")
    groups = [[f"{i} {'is a number ' * (i % 7)}{answer}" for answer in range(1 + i % 3)] for i in range(40)]
    units = embedder.units(groups, [[0] * len(group) for group in groups])
    with torch.no_grad():
        one_by_one = torch.cat([embedder.vectors([unit]) for unit in units])
        assert torch.allclose(embedder.vectors(units), one_by_one, atol=1e-5)
        assert torch.allclose(embedder.vectors(units[::-1]).flip(0)[:1], one_by_one[:1], atol=1e-5)


def test_without_frozen_layers_nothing_is_kept(tiny_qwen: Path, states: Path) -> None:
    vectors(packed_of(tiny_qwen), 0)
    assert not files(states)


def test_states_are_made_once_and_the_second_time_no_frozen_layer_runs(tiny_qwen: Path, states: Path) -> None:
    first = vectors(packed_of(tiny_qwen), 2)
    written = files(states)
    packed = packed_of(tiny_qwen)
    with passes(packed, 1) as frozen, passes(packed, 2) as learning:
        second = vectors(packed, 2)
    assert len(written) == len(GROUPS) and files(states) == written
    assert torch.equal(first, second)
    assert not frozen and learning


def test_units_in_another_order_and_company_find_their_states(tiny_qwen: Path, states: Path) -> None:
    """As another fold's would; and more of them than are made at a time."""
    packed = packed_of(tiny_qwen)
    texts = [[str(i)] for i in range(CHUNK + 3)]
    Embedder(packed, 2, "these").units(texts, [[0]] * len(texts))
    written = files(states)
    assert len(written) == len(texts)
    embedder, whole = Embedder(packed, 2, "these"), Embedder(packed, 0, "these")
    some = [texts[-1], *GROUPS, texts[5]]
    units = embedder.units(some, [[0] * len(group) for group in some])
    assert files(states).items() >= written.items()
    assert len(files(states)) == len(texts) + len(GROUPS)
    with torch.no_grad():
        wanted = whole.vectors(whole.units(some, [[0] * len(group) for group in some]))
        assert torch.allclose(embedder.vectors(units), wanted, atol=1e-5)


def test_states_of_other_texts_layers_attention_or_number_formats_are_others(tiny_qwen: Path, states: Path) -> None:
    packed, both, short = (packed_of(tiny_qwen, **each) for each in ({}, {"attention": "bidirectional"}, {"dtype": "bfloat16"}))
    kinds = [(packed, 2, "x y"), (packed, 2, "x z"), (packed, 3, "x y"), (both, 2, "x y"), (short, 2, "x y")]
    for number, (each, frozen, text) in enumerate(kinds, 1):
        Embedder(each, frozen, "these").units([[text]], [[0]])
        assert len(files(states)) == number


def test_states_of_other_weights_are_not_taken(tiny_qwen: Path, tmp_path: Path) -> None:
    """The weights' fingerprint is what tells two backbones of one shape apart."""
    from safetensors.torch import load_file, save_file

    other = tmp_path / "other"
    shutil.copytree(tiny_qwen, other)
    weights = load_file(other / "model.safetensors")
    weights["model.layers.0.mlp.down_proj.weight"] += 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    vectors(packed_of(tiny_qwen), 2, fingerprint(tiny_qwen))
    packed = packed_of(other)
    upper, whole = vectors(packed, 2, fingerprint(other)), vectors(packed, 0)
    assert torch.allclose(upper, whole, atol=1e-5)
    wrong = vectors(packed, 2, fingerprint(tiny_qwen))  # with the other's name, the other's states
    assert not torch.allclose(wrong, whole, atol=1e-2)


def test_states_that_could_not_be_written_to_their_end_are_not_taken_for_whole(tiny_qwen: Path, states: Path) -> None:
    packed = packed_of(tiny_qwen)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # as if the disk were full
    try:
        with pytest.raises(OSError):
            vectors(packed, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not files(states)
    assert torch.allclose(vectors(packed, 2), vectors(packed, 0), atol=1e-5)


def test_a_unit_s_labels_and_tree_are_those_it_was_given(tiny_qwen: Path) -> None:
    packed = packed_of(tiny_qwen)
    units: list[Unit] = Embedder(packed, 0, "these").units(GROUPS, LABELS)
    assert [list(unit.labels) for unit in units] == LABELS
    tokens = packed.tokens(GROUPS[0])
    ends = units[0].tree.ends
    assert [units[0].tree.tokens[end] for end in ends] == [text[-1] for text in tokens]
    assert [units[0].tree.positions[end] + 1 for end in ends] == [len(text) for text in tokens]
