"""Cross-validation end to end without weights, the study that it leaves, and the leaks that its guards must catch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline import flow, study
from pipeline.chain import Chain, out_of_fold
from pipeline.config import Config, load
from pipeline.cv import CORRECTED, LINEAR, SHARES, cross_validate
from pipeline.data import Competition
from pipeline.errors import InputError
from pipeline.features import GROUPS
from pipeline.metrics import evaluate, per_query, reweighted
from pipeline.runs import ranked
from pipeline.sample import opened
from pipeline.schema import QRELS
from pipeline.store import Store
from pipeline.study import Study

HASHED = Path(__file__).parent.parent / "configs" / "hashed.yaml"
SMALL = ["sample.train=80", "sample.test=5", "blend.rounds=20", "blend.min_rows=5", "rerank.judge=null"]


@pytest.fixture(scope="module")
def settings() -> Config:
    return load(HASHED, SMALL)


@pytest.fixture(scope="module")
def competition(settings: Config) -> Competition:
    return opened(settings, None)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def made(competition: Competition, settings: Config, store: Store) -> Study:
    return cross_validate(competition, settings, store)


@pytest.fixture(scope="module")
def chain(competition: Competition, settings: Config, store: Store) -> Chain:
    return flow.out_of_fold_stages(competition, settings, store)[1]


def test_the_rivals_are_ranked_beside_the_blend_over_the_same_answers(made: Study) -> None:
    assert list(made.stages)[-3:] == [LINEAR, "binary blend", flow.BLEND]
    for ranking in made.stages.values():
        assert ranking.join(made.qrels, on="query_id", how="anti").is_empty()
    scores = {row["stage"]: row["map@25"] for row in made.scores if row["subset"] == "all"}
    assert scores[flow.BLEND] == pytest.approx(evaluate(made.stages[flow.BLEND], made.qrels, None)["map@25"].item())
    assert len({round(scores[name], 9) for name in (LINEAR, "binary blend", flow.BLEND)}) == 3


def test_each_fold_says_what_share_of_unseen_labels_it_reached(made: Study) -> None:
    assert [row["fold"] for row in made.folds] == list(range(5))
    assert sum(row["answers"] for row in made.folds) == made.qrels.height
    unseen = made.qrels.join(made.seen, on="query_id", how="anti").height / made.qrels.height
    weighted = sum(row["answers"] * row["unseen"] for row in made.folds) / made.qrels.height
    assert weighted == pytest.approx(unseen)
    assert all(row["unseen"] == pytest.approx(0.65, abs=0.05) for row in made.folds)


def test_every_share_has_each_stage_s_score_as_it_would_be_there(made: Study) -> None:
    assert [row["share"] for row in made.shift] == list(SHARES)
    assert made.shift[0].keys() == {"share", *made.stages, CORRECTED}
    values = per_query(made.stages[flow.BLEND], made.qrels)
    assert made.shift[3][flow.BLEND] == pytest.approx(reweighted(values, made.seen, 0.3)[0])
    assert made.shift[0][CORRECTED] > made.shift[0][flow.BLEND] - 0.02


def test_importances_add_up_and_a_feature_that_counts_costs_when_it_is_mixed_up(made: Study) -> None:
    assert sum(row["gain"] for row in made.importance) == pytest.approx(1)
    assert {row["group"] for row in made.importance} <= set(GROUPS)
    gains = [row["gain"] for row in made.importance]
    assert gains == sorted(gains, reverse=True)
    assert max(row["permutation"] for row in made.importance) > 0.02


def test_a_study_comes_back_as_it_was(made: Study, tmp_path: Path) -> None:
    study.write(made, tmp_path / "study")
    back = study.read(tmp_path / "study")
    assert back.config == made.config
    assert list(back.stages) == list(made.stages)
    for name in ("queries", "catalog", "qrels", "seen"):
        assert_frame_equal(getattr(back, name), getattr(made, name))
    assert [dict(row) for row in back.shift] == [dict(row) for row in made.shift]


@pytest.mark.parametrize("lost", ["study.json", "qrels.parquet", "runs/blend.parquet", "config.yaml"])
def test_a_study_that_is_not_whole_is_refused(made: Study, tmp_path: Path, lost: str) -> None:
    study.write(made, tmp_path / "study")
    (tmp_path / "study" / lost).unlink()
    with pytest.raises(InputError, match="eedi cv"):
        study.read(tmp_path / "study")


def ranks(chain: Chain, fold: int) -> pl.DataFrame:
    """The out-of-fold ranking of one fold."""
    return out_of_fold([part for part in chain.parts() if part.fold == fold])


def test_a_fold_s_label_counts_do_not_stand_behind_its_own_rows(chain: Chain) -> None:
    """Planted leak: were the fold's own golds counted, its rows' counts would be higher."""
    fold = chain.numbers[0]
    held = chain.split(fold).held
    rows = chain.rows(fold).join(held, on=QRELS.key, how="semi")
    leaky = replace(chain, folds=chain.folds.with_columns(fold=(pl.col("fold") + 1) % 5))  # the fold's golds become training's
    assert chain.split(fold).train.join(held, on="query_id", how="semi").is_empty()
    counted = leaky.split(fold).train.join(held, on="query_id", how="semi")
    assert not counted.is_empty()
    assert rows.filter(pl.col("label_count") == 0).height >= 0.5 * rows.height


def test_a_query_s_own_question_is_none_of_its_neighbours(chain: Chain) -> None:
    """Planted leak: with itself as neighbour each query would be told its own label."""
    own = chain.near["lexical"].with_columns(other_id=pl.col("query_id"), score=pl.lit(1.0, pl.Float32)).unique("query_id")
    assert chain.near["lexical"].join(own, on=["query_id", "other_id"], how="semi").is_empty()
    both = pl.concat([chain.near["lexical"], own.select(chain.near["lexical"].columns)])
    planted = replace(chain, near={**chain.near, "lexical": both})
    honest, leaking = chain.rows(chain.numbers[0]), planted.rows(chain.numbers[0])
    assert_frame_equal(honest, leaking)  # even so: what a fold's own answers are labelled is on no training side


def test_gold_in_the_pool_comes_from_the_retrievers_alone(chain: Chain) -> None:
    """Planted leak: with gold added to the pool recall would be whole; and what is added is not ranked by the stages."""
    missing = chain.golds.join(chain.pool, on=QRELS.key, how="anti")
    assert not missing.is_empty()
    planted = pl.concat([chain.pool, missing.with_columns(score=pl.lit(0.0, pl.Float32))])
    for name, each in chain.runs.items():
        assert each.join(missing, on=QRELS.key, how="semi").height < missing.height, name
    whole = replace(chain, pool=planted)
    assert chain.golds.join(whole.pool, on=QRELS.key, how="anti").is_empty()
    assert ranks(chain, chain.numbers[0]).join(missing, on=QRELS.key, how="semi").is_empty()


def test_without_a_blender_there_is_nothing_to_validate(competition: Competition, settings: Config, store: Store) -> None:
    with pytest.raises(InputError, match="blend"):
        cross_validate(competition, settings.model_copy(update={"blend": None}), store)


def test_a_blender_without_any_feature_is_refused(competition: Competition, settings: Config, store: Store) -> None:
    nothing = load(HASHED, [*SMALL, f"blend.without=[{', '.join(GROUPS)}]"])
    with pytest.raises(InputError, match="every group"):
        flow.fit(competition, nothing, store)


def test_a_group_of_features_is_ablated_by_the_config(competition: Competition, store: Store) -> None:
    ablated = flow.fit(competition, load(HASHED, [*SMALL, "blend.without=[texts, siblings]"]), store)
    assert ablated.booster
    names = set(ablated.booster.feature_name())
    assert "label_count" in names
    assert not names & {"label_words", "shared_question", "sibling_rank"}


def test_an_encoder_is_trained_for_each_fold_once_and_its_runs_are_the_stage_s(
    tiny_bert: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="the models' packages are not installed")
    monkeypatch.setenv("EEDI_CACHE", str(tmp_path / "cache"))
    dense = {"kind": "dense", "weights": str(tiny_bert), "template": "plain", "dtype": "float32"}
    config = Config.model_validate(
        {
            "sample": {"train": 24, "test": 4},
            "fit": {"folds": 2},
            "retrieve": {"lexical": {"kind": "tfidf"}, "dense": dense},
            "rerank": {},
            "blend": {"rounds": 5, "min_rows": 5},
            "train": {"encoder": {"kind": "contrastive", "lora": None, "frozen": 0, "batch": 8}},
        }
    )
    competition, encoders = opened(config, None), tmp_path / "encoders"
    made = cross_validate(competition, config, store, encoders)
    kept = pl.concat(pl.read_parquet(encoders / f"fold{fold}" / "run.parquet") for fold in range(2))
    assert made.stages["dense"].sort(*QRELS.columns).equals(kept.sort(*QRELS.columns))
    written = (encoders / "fold0" / "model.safetensors").stat().st_mtime_ns
    again = cross_validate(competition, config, store, encoders)
    assert again.stages[flow.BLEND].equals(made.stages[flow.BLEND])
    assert (encoders / "fold0" / "model.safetensors").stat().st_mtime_ns == written


def test_a_judge_is_trained_for_each_fold_too_and_has_judged_every_answer(
    tiny_judge: Path, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch", reason="the models' packages are not installed")
    monkeypatch.setenv("EEDI_CACHE", str(tmp_path / "cache"))
    judge = {"kind": "pointwise", "engine": "transformers", "weights": str(tiny_judge), "dtype": "float32", "depth": 3}
    config = Config.model_validate(
        {
            "sample": {"train": 12, "test": 2},
            "fit": {"folds": 2, "judged": 2},
            "retrieve": {"lexical": {"kind": "tfidf"}},
            "rerank": {"judge": judge},
            "blend": {"rounds": 5, "min_rows": 5},
            "train": {"judge": {"batch": 4, "frozen": 2, "negatives": 2}},
        }
    )
    made = cross_validate(opened(config, None), config, store, judges=tmp_path / "judges")
    own = pl.concat(pl.read_parquet(tmp_path / "judges" / f"fold{fold}" / "run.parquet") for fold in range(2))
    assert set(own["query_id"]) >= set(made.queries["query_id"])
    best = ranked(own).filter(pl.col("rank") == 1).join(made.queries, on="query_id", how="semi")
    shown = ranked(made.stages["judge"]).filter(pl.col("rank") == 1)
    assert shown.join(best, on=["query_id", "label_id"]).height == made.queries.height
    assert {"judge_score", "judge_rank"} & {row["feature"] for row in made.importance}
