"""Questions that are put aside: a test of their own each, foretold by nothing but the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import polars as pl
import pytest

from pipeline import flow
from pipeline.config import Config, load
from pipeline.data import Competition, queries_of
from pipeline.errors import InputError
from pipeline.folds import make_folds, one_out
from pipeline.foretell import foretold
from pipeline.metrics import evaluate, per_query, reweighted
from pipeline.sample import opened
from pipeline.scoring import FUSION
from pipeline.store import Store

HASHED = Path(__file__).parent.parent / "configs" / "hashed.yaml"
SMALL = ["sample.train=80", "sample.test=5", "blend.rounds=20", "blend.min_rows=5", "rerank.judge=null", "fit.folds=2"]
PARTS, UNSEEN = 2, 0.7


@pytest.fixture(scope="module")
def settings() -> Config:
    return load(HASHED, SMALL)


@pytest.fixture(scope="module")
def competition(settings: Config) -> Competition:
    return opened(settings, None)


@pytest.fixture(scope="module")
def made(competition: Competition, settings: Config, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return foretold(competition, settings, PARTS, UNSEEN, Store(tmp_path_factory.mktemp("store")))


def test_each_answer_is_put_aside_once_at_the_share_that_was_asked_for(made: list[dict[str, Any]]) -> None:
    assert [(row["part"], row["stage"]) for row in made] == [
        (part, stage) for part in ("0", "1", "all") for stage in (FUSION, flow.BLEND)
    ]
    assert sum(row["answers"] for row in made[:4]) == sum(row["answers"] for row in made[4:])
    assert all(row["unseen"] == pytest.approx(UNSEEN, abs=0.1) for row in made)


def test_a_part_scores_what_a_test_scores_and_is_foretold_by_the_others_out_of_fold(
    made: list[dict[str, Any]], competition: Competition, settings: Config, tmp_path: Path
) -> None:
    train, qrels = competition.train, competition.train_qrels
    assert train is not None and qrels is not None
    folds = make_folds(train, PARTS, settings.fit.seed)
    sides = one_out(qrels, folds, 1, UNSEEN, settings.fit.seed, strict=True)
    inside = train["question_id"].is_in(folds.filter(pl.col("fold") == 1)["question_id"].implode())
    alone = replace(competition, test=train.filter(inside), train=train.filter(~inside), train_qrels=sides.train, truth=None)
    bundle = flow.fit(alone, settings, Store(tmp_path))
    stages = flow.predict(alone, bundle, Store(tmp_path)).stages
    assert bundle.study
    assert bundle.study.queries.join(queries_of(alone.test), on="query_id", how="semi").is_empty()
    for row in made[2:4]:
        assert row["scored"] == pytest.approx(evaluate(stages[row["stage"]], sides.held, None)["map@25"].item())
        values = per_query(bundle.study.stages[row["stage"]], bundle.study.qrels)
        assert row["foretold"] == pytest.approx(reweighted(values, bundle.study.seen, sides.unseen)[0])
        assert row["low"] < row["scored"] < row["high"]


def test_all_parts_together_are_their_answers_mean(made: list[dict[str, Any]]) -> None:
    for whole in made[4:]:
        parts = [row for row in made[:4] if row["stage"] == whole["stage"]]
        for column in ("foretold", "scored"):
            wanted = sum(row["answers"] * row[column] for row in parts) / whole["answers"]
            assert whole[column] == pytest.approx(wanted)
        assert whole["difference"] == pytest.approx(whole["scored"] - whole["foretold"])


def test_without_a_blender_nothing_is_foretold(competition: Competition, settings: Config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no blender"):
        foretold(competition, settings.model_copy(update={"blend": None}), PARTS, UNSEEN, Store(tmp_path))


def test_the_verb_prints_the_table(eedi: Callable[..., CompletedProcess[str]], hashed: tuple[str, ...]) -> None:
    told = eedi("foretell", *hashed, "--parts", 2, "--unseen", 0.6, "sample.train=40", "sample.test=5")
    assert told.returncode == 0, told.stderr
    assert "foretold" in told.stdout and "all" in told.stdout
    refused = eedi("foretell", *hashed, "--parts", 41, "sample.train=40", "sample.test=5")
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
