"""What a contrastive training is prepared from: mined runs, questions that repeat, and the backbones that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipeline.config import Contrastive, Dense
from pipeline.errors import InputError
from pipeline.models.encoder import SentenceEncoder, load
from pipeline.runs import run
from pipeline.schema import CATALOG, QUERIES

torch = pytest.importorskip("torch", reason="the models' packages are not installed")

IDS = [70, 10, 30, 20, 60, 50, 40, 80]  # not in order: a label's place is not its id
LABELS = {"1_B": 70, "1_C": 10, "1_D": 20, "2_A": 10, "0:5_A": 50}
CATALOGUE = pl.DataFrame({"label_id": IDS, "label": [f"Believes in {i}" for i in IDS]}, schema=CATALOG.columns)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EEDI_CACHE", str(tmp_path / "cache"))


def prepared(folder: Path, **recipe: Any) -> Any:
    """The trainer's task for the rows of LABELS."""
    from pipeline.train import contrastive

    rows = [dict.fromkeys(QUERIES.columns, name) | {"question_id": name.rpartition("_")[0]} for name in LABELS]
    train = pl.DataFrame(rows, schema=QUERIES.columns).with_columns(label_id=pl.Series(LABELS.values(), dtype=pl.Int32))
    spec = Dense(weights=str(folder), dtype="float32", template="short", max_tokens=recipe.pop("max_tokens", 512))
    encoder = SentenceEncoder(load(folder, spec), spec)
    return contrastive.prepared(encoder, train, CATALOGUE, "these", Contrastive(**{"frozen": 0, **recipe}), spec)


def mined_run(path: Path, scores: dict[str, dict[int, float]]) -> str:
    """A stored run of these scores."""
    rows = [(query, label, score) for query, told in scores.items() for label, score in told.items()]
    run(pl.DataFrame(rows, schema=["query_id", "label_id", "score"], orient="row")).write_parquet(path)
    return str(path)


@pytest.mark.parametrize(("each", "wanted"), [(1, {60, 80}), (2, {60, 50, 80, 40})])
def test_mined_labels_are_each_answer_s_best_of_a_stored_run_that_are_none_of_the_question_s_own(
    each: int, wanted: set[int], tiny_qwen: Path, tmp_path: Path
) -> None:
    scores = {
        "1_B": {70: 0.9, 10: 0.8, 60: 0.7, 50: 0.6, 40: 0.5},  # 70 is its own, 10 a sister's
        "1_D": {80: 0.9, 20: 0.8, 40: 0.7, 60: 0.6},
        "9_A": {50: 0.9},  # not a question that is learnt
    }
    loss = prepared(tiny_qwen, mined=mined_run(tmp_path / "run.parquet", scores), mined_each=each).loss
    assert [{IDS[place] for place in places} for places in loss.mined] == [wanted, set(), set()]


def test_mined_labels_are_computed_anew_with_their_question(tiny_qwen: Path, tmp_path: Path) -> None:
    stored = mined_run(tmp_path / "run.parquet", {"1_B": {60: 0.9, 80: 0.8}, "2_A": {40: 0.7}})
    loss = prepared(tiny_qwen, mined=stored, hard=0).loss
    loss.steps = 1  # else the first step makes the memory
    stale = torch.nn.functional.normalize(torch.randn(len(IDS), 32), dim=-1)
    for place, wanted in ((0, {70, 10, 20, 60, 80}), (1, {10, 40}), (2, {50})):
        loss.memory = stale.clone()
        with torch.no_grad():
            loss([{"input_ids": torch.tensor([place])}])
        assert {IDS[i] for i in range(len(IDS)) if not torch.equal(loss.memory[i], stale[i])} == wanted


@pytest.mark.parametrize("what", ["nothing", "no parquet", "no run"])
def test_a_mined_run_that_is_none_is_told_with_its_setting(what: str, tiny_qwen: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.parquet"
    if what == "no parquet":
        path.write_bytes(b"PAR1 and no more")
    if what == "no run":
        CATALOGUE.write_parquet(path)
    with pytest.raises(InputError, match=r"train\.encoder\.mined") as told:
        prepared(tiny_qwen, mined=str(path))
    assert str(path) in str(told.value)


def test_a_mined_run_of_another_catalogue_is_told_with_its_setting(tiny_qwen: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train\.encoder\.mined"):
        prepared(tiny_qwen, mined=mined_run(tmp_path / "run.parquet", {"1_B": {999: 0.9}}))


def test_the_competition_s_own_questions_stand_in_an_epoch_as_often_as_it_is_said_and_written_ones_once(
    tiny_qwen: Path,
) -> None:
    assert prepared(tiny_qwen).columns == {"place": [0, 1, 2]}
    assert prepared(tiny_qwen, repeat=3).columns == {"place": [0, 0, 0, 1, 1, 1, 2]}


def test_a_backbone_that_cannot_be_computed_on_trees_is_refused_with_a_remedy(tmp_path: Path, tiny_family: Any) -> None:
    with pytest.raises(InputError, match="seed recipe"):
        prepared(tiny_family("MPNet", "mean", tmp_path, max_position_embeddings=514))


def test_frozen_layers_on_a_backbone_that_is_no_decoder_are_refused_with_a_remedy(tiny_bert: Path) -> None:
    with pytest.raises(InputError, match=r"train\.encoder\.frozen=0"):
        prepared(tiny_bert, frozen=1)


def test_frozen_layers_are_right_or_refused_where_a_backbone_has_layers_but_is_no_decoder(
    tmp_path: Path, tiny_family: Any
) -> None:
    folder = tiny_family("ModernBert", "mean", tmp_path, max_position_embeddings=512)
    shorter = 60  # than its window
    whole = prepared(folder, max_tokens=shorter).loss.remembered()
    try:
        upper = prepared(folder, max_tokens=shorter, frozen=1).loss.remembered()
    except InputError as error:
        assert "train.encoder.frozen=0" in str(error)
    else:
        assert torch.allclose(upper, whole, atol=1e-4)


@pytest.mark.parametrize("frozen", [4, 16])
def test_as_many_frozen_layers_as_there_are_are_refused_with_a_remedy(frozen: int, tiny_qwen: Path) -> None:
    with pytest.raises(InputError, match=rf"train\.encoder\.frozen={frozen}"):
        prepared(tiny_qwen, frozen=frozen)
