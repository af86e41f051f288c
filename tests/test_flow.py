"""The page, end to end, without weights: CSVs in, a validated submission out, and what a second run finds kept."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline import bundle as bundles
from pipeline import flow, ledger, scoring, submission
from pipeline.chain import Chain
from pipeline.config import Config, Dense, load
from pipeline.data import Competition, queries_of, text_hashes
from pipeline.errors import InputError
from pipeline.features import label_stats
from pipeline.folds import make_folds
from pipeline.models.encoder import RECORD, learnt
from pipeline.sample import opened
from pipeline.store import Store

HASHED = Path(__file__).parent.parent / "configs" / "hashed.yaml"
SMALL = ["sample.train=60", "sample.test=15", "blend.rounds=20", "blend.min_rows=5", "fit.judged=20"]


@pytest.fixture(scope="module")
def settings() -> Config:
    return load(HASHED, SMALL)


@pytest.fixture(scope="module")
def competition(settings: Config) -> Competition:
    return opened(settings, None)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def test_every_wrong_answer_gets_a_row_and_every_stage_a_score(
    settings: Config, competition: Competition, store: Store, tmp_path: Path
) -> None:
    bundle = flow.fit(competition, settings, store)
    predicted = flow.predict(competition, bundle, store)
    csv = ledger.enter(predicted, bundle, tmp_path / "submissions" / "first")
    submission.validate(csv, predicted.queries, predicted.catalog)
    assert predicted.submission.height == 3 * competition.test.height
    stages = ["lexical", "dense", scoring.FUSION, "judge", scoring.ALL, flow.BLEND]
    for scores in (bundle.scores, predicted.scores):
        assert [row["stage"] for row in scores if row["subset"] == "all"] == stages
        assert {row["subset"] for row in scores} == {"all", "seen", "unseen"}


def test_fit_is_deterministic_and_a_bundle_gives_the_same_submission(
    settings: Config, competition: Competition, store: Store, tmp_path: Path
) -> None:
    bundles.save(flow.fit(competition, settings, store), tmp_path / "bundle")
    again = flow.fit(competition, settings, store)
    kept = flow.predict(competition, bundles.load(tmp_path / "bundle"), store)
    assert kept.submission.equals(flow.predict(competition, again, store).submission)


def test_the_order_of_the_test_file_is_the_order_of_the_submission_and_changes_no_rank(
    settings: Config, competition: Competition, store: Store
) -> None:
    bundle = flow.fit(competition, settings, store)
    turned = replace(competition, test=competition.test.reverse(), truth=None)
    one, other = (flow.predict(each, bundle, store).submission for each in (competition, turned))
    assert other[submission.ROW].to_list() != one[submission.ROW].to_list()
    assert one.sort(submission.ROW).equals(other.sort(submission.ROW))


@pytest.mark.parametrize(
    ("override", "last"),
    [("blend=null", scoring.ALL), ("rerank.judge=null", flow.BLEND), ("retrieve.dense=null", flow.BLEND)],
)
def test_a_stage_is_ablated_by_null(override: str, last: str, competition: Competition, store: Store) -> None:
    bundle = flow.fit(competition, load(HASHED, [*SMALL, override]), store)
    predicted = flow.predict(competition, bundle, store)
    assert list(predicted.stages)[-1] == last
    assert predicted.submission.height == 3 * competition.test.height


def test_a_stage_is_swapped_by_its_kind(competition: Competition, store: Store) -> None:
    swapped = ["rerank.judge={kind: listwise, engine: hashed, weights: hashed}"]
    bundle = flow.fit(competition, load(HASHED, [*SMALL, *swapped]), store)
    assert {"judge_score", "judge_rank"} <= set(bundle.booster.feature_name() if bundle.booster else ())


def test_label_statistics_are_free_of_the_folds_they_describe(settings: Config, competition: Competition, store: Store) -> None:
    assert competition.train is not None and competition.train_qrels is not None
    train, qrels = competition.train, competition.train_qrels
    queries = queries_of(train)
    folds = make_folds(train, settings.fit.folds, settings.fit.seed)
    done = scoring.pooled(queries, competition, settings, store)
    chain = Chain(settings, queries, queries, competition.catalog, qrels, folds, done.pool, done.runs, {})
    for fold in chain.numbers:
        inside = set(chain.part(fold)["query_id"])
        assert not inside & set(chain.split(fold).train["query_id"])
        counted = label_stats(chain.split(fold).train, chain.everything)["count"].sum()
        assert counted == chain.split(fold).train.height < qrels.height


def test_the_ranking_is_brought_to_the_share_of_unseen_labels_that_the_config_assumes(
    settings: Config, competition: Competition, store: Store
) -> None:
    bundle = flow.fit(competition, settings, store)
    assert bundle.shift

    def ranked_first(unseen: Any) -> tuple[pl.DataFrame, float]:
        assert settings.blend
        assumed = settings.model_copy(update={"blend": settings.blend.model_copy(update={"unseen": unseen})})
        ranking = flow.predict(competition, replace(bundle, config=assumed), store).stages[flow.BLEND]
        first = ranking.group_by("query_id", maintain_order=True).first()
        return ranking, first.join(bundle.label_stats, on="label_id", how="anti").height / first.height

    few, many = ranked_first(0.05)[1], ranked_first(0.95)[1]
    assert few < ranked_first("estimate")[1] < many
    assert ranked_first("folds")[0].equals(ranked_first(bundle.shift.share)[0])
    plain, moved = (ranked_first(each)[0].sort("query_id", "label_id") for each in (None, "folds"))
    assert not np.allclose(plain["score"], moved["score"])


def test_gold_is_never_added_to_a_pool(settings: Config, competition: Competition, store: Store) -> None:
    bundle = flow.fit(competition, settings, store)
    predicted = flow.predict(competition, bundle, store)
    assert competition.truth is not None
    pool = predicted.stages[scoring.FUSION]
    final = predicted.stages[flow.BLEND]
    assert set(final.select("query_id", "label_id").rows()) == set(pool.select("query_id", "label_id").rows())
    missed = competition.truth.join(pool, on=["query_id", "label_id"], how="anti")
    assert missed.height, "the lexical pool finds all golds: this test shows nothing, make the sample harder"


def test_without_labels_there_is_nothing_to_fit_a_blender_on(settings: Config, competition: Competition, store: Store) -> None:
    bare = Competition(competition.test, competition.catalog, None, None, None)
    with pytest.raises(InputError, match=r"train\.csv"):
        flow.fit(bare, settings, store)
    unblended = flow.predict(bare, flow.fit(bare, load(HASHED, ["blend=null"]), store), store)
    assert unblended.submission.height == 3 * competition.test.height


def test_scores_told_of_questions_that_the_bundle_was_fitted_on_are_warned_of(
    settings: Config, competition: Competition, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    assert competition.train is not None
    bundle = flow.fit(competition, settings, store)
    own = Competition(competition.train.head(3), competition.catalog, None, None, competition.train_qrels)
    flow.predict(own, bundle, store)
    assert "flatter" in caplog.text


def test_a_fold_of_one_question_text_is_refused_with_a_remedy(settings: Config, competition: Competition) -> None:
    assert competition.train is not None and competition.train_qrels is not None
    one = competition.train.head(1)
    some = competition.train_qrels.filter(pl.col("query_id").str.starts_with(f"{one['question_id'][0]}_"))
    with pytest.raises(InputError, match="questions"):
        flow.fit(Competition(competition.test, competition.catalog, one, some, None), settings, Store())


def trained(folder: Path, questions: pl.DataFrame) -> Path:
    """What `eedi train encoder` leaves beside weights that it trained on some questions."""
    folder.mkdir(parents=True)
    (folder / RECORD).write_text(json.dumps({"trained_on": text_hashes(questions)}), encoding="utf-8")
    return folder


def with_adapter(folder: Path) -> Config:
    return load(HASHED, [*SMALL, "rerank.judge=null", "fit.questions=null", f"retrieve.dense.adapter={folder}"])


def test_the_blender_is_fitted_on_questions_that_no_retriever_was_trained_on(
    competition: Competition, store: Store, tmp_path: Path
) -> None:
    assert competition.train is not None and competition.train_qrels is not None
    spelt = competition.train.head(40).with_columns("\n" + pl.col("question").str.to_uppercase() + "  ")
    bundle = flow.fit(competition, with_adapter(trained(tmp_path / "adapter", spelt)), store)
    fresh = queries_of(competition.train.tail(-40)).join(competition.train_qrels, on="query_id", how="semi")
    told = {row["stage"]: row["queries"] for row in bundle.scores if row["subset"] == "all"}
    assert told == dict.fromkeys(["lexical", "dense", scoring.FUSION, flow.BLEND], fresh.height)
    assert 0 < fresh.height < competition.train_qrels.height


def test_what_two_retrievers_were_trained_on_is_left_out_together(
    competition: Competition, store: Store, tmp_path: Path
) -> None:
    assert competition.train is not None
    half, rest = competition.train.head(30), competition.train.tail(30)
    other = {"weights": "hashed", "kind": "dense", "adapter": str(trained(tmp_path / "other", rest))}
    both = load(HASHED, [*SMALL, f"retrieve.dense.adapter={trained(tmp_path / 'adapter', half)}", f"retrieve.other={other}"])
    with pytest.raises(InputError, match="a model was trained on"):
        flow.fit(competition, both, store)


def test_what_a_judge_was_trained_on_it_does_not_judge_and_the_blender_is_fitted_on_all(
    competition: Competition, store: Store, tmp_path: Path
) -> None:
    assert competition.train is not None and competition.train_qrels is not None
    learnt, rest = competition.train.head(40), competition.train.tail(-40)
    adapter = f"rerank.judge.adapter={trained(tmp_path / 'adapter', learnt)}"
    done, chain = flow.out_of_fold_stages(competition, load(HASHED, [*SMALL, adapter, "fit.judged=null"]), store)
    judged = done.runs["judge"]["query_id"].unique()
    asked = chain.queries.join(rest, on="question_id", how="semi")["query_id"]
    assert set(judged) == set(asked) and 0 < len(asked) < chain.queries.height == competition.train_qrels.height


def test_where_a_retriever_was_trained_on_everything_there_is_nothing_to_fit_a_blender_on(
    competition: Competition, store: Store, tmp_path: Path
) -> None:
    assert competition.train is not None
    settings = with_adapter(trained(tmp_path / "adapter", competition.train))
    with pytest.raises(InputError, match=r"(?s)found: .*a model was trained on.*wanted: .*remedy: .*--bundle.*--fold"):
        flow.fit(competition, settings, store)


def test_without_a_blender_a_retriever_that_was_trained_on_everything_is_no_hindrance(
    competition: Competition, store: Store, tmp_path: Path
) -> None:
    """It is the remedy that the refusal names."""
    assert competition.train is not None
    settings = load(None, ["blend=null"], under=with_adapter(trained(tmp_path / "adapter", competition.train)))
    predicted = flow.predict(competition, flow.fit(competition, settings, store), store)
    assert list(predicted.stages)[-1] == scoring.FUSION


def test_scores_told_of_questions_that_a_retriever_was_trained_on_are_warned_of(
    competition: Competition, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert competition.train is not None
    for name, questions in (("train", competition.train.head(40)), ("test", competition.test.head(2))):
        settings = with_adapter(trained(tmp_path / name, questions))
        flow.predict(competition, flow.fit(competition, settings, store), store)
        assert ("on 2 of these questions" in caplog.text) == (name == "test"), caplog.text


def test_what_an_adapter_learnt_and_what_the_weights_below_it_learnt_are_both_known(
    competition: Competition, tmp_path: Path
) -> None:
    weights, adapter = (trained(tmp_path / name, competition.test[i]) for i, name in enumerate(("weights", "adapter")))
    known = learnt(Dense(weights=str(weights), adapter=str(adapter)))
    assert known == set(text_hashes(competition.test.head(2)))


def test_what_weights_on_a_kaggle_mount_learnt_is_known(
    competition: Competition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = trained(tmp_path / "input" / "our-weights", competition.test.head(1))
    (mount / "config.json").write_text("{}", encoding="utf-8")
    (mount / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setenv("EEDI_KAGGLE_INPUT", str(mount.parent))
    assert learnt(Dense(weights="somebody/our-weights")) == set(text_hashes(competition.test.head(1)))
