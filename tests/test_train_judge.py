"""Training the judge on the embedded competition, tiny weights: what lies in the folder, that engines serve it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from pipeline.config import Config, Judge, resolved
from pipeline.data import Competition, read_examples, text_hashes
from pipeline.errors import InputError
from pipeline.metrics import evaluate
from pipeline.rerank import rerank
from pipeline.runs import ranked
from pipeline.sample import opened
from pipeline.schema import QUERIES
from pipeline.scoring import shown_to
from pipeline.store import Store, cache_folder
from pipeline.train.candidates import candidates
from pipeline.train.rows import Rows, training_rows

torch = pytest.importorskip("torch", reason="the models' packages are not installed")
pytestmark = pytest.mark.usefixtures("own_cache")

FOLD, DEPTH = 0, 3
WRITTEN = Path(__file__).parent / "golden" / "written.csv"  # one question, three labelled answers


def settings(weights: Path, judge: dict[str, Any], spec: dict[str, Any] | None = None) -> Config:
    """A pointwise judge of these weights, 12 questions in 2 folds, lists of 3 candidates."""
    own = {"kind": "pointwise", "engine": "transformers", "weights": str(weights), "dtype": "float32", "depth": DEPTH}
    return Config.model_validate(
        {
            "name": "tiny",
            "sample": {"train": 12, "test": 2},
            "fit": {"folds": 2},
            "rerank": {"judge": {**own, **(spec or {})}},
            "train": {"judge": {"batch": 4, "epochs": 1, "frozen": 2, "negatives": 2, "learning_rate": 3e-3, **judge}},
        }
    )


class Trained:
    """A training and what it made."""

    def __init__(self, config: Config, fold: int | None, out: Path) -> None:
        from pipeline.train.judge import train

        self.config, self.out = config, out
        self.competition: Competition = opened(config, None)
        written = [Path(name) for name in config.train.judge.written]
        self.rows: Rows = training_rows(self.competition, config.fit, fold, written)
        self.scores = train(self.competition, config, fold, out)
        self.record = json.loads((out / "training.json").read_text(encoding="utf-8"))
        self.card = (out / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def adapter(tiny_judge: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The upper two of four layers, a fold held out."""
    return Trained(settings(tiny_judge, {}), FOLD, tmp_path_factory.mktemp("judge") / "out")


def test_the_folder_holds_an_adapter_of_16_bits_for_the_upper_layers_and_what_is_said_of_it(adapter: Trained) -> None:
    from safetensors.torch import load_file

    files = {"adapter_config.json", "adapter_model.safetensors", "README.md", "training.json", "run.parquet"}
    assert {path.name for path in adapter.out.iterdir()} == files
    assert list(adapter.out.parent.iterdir()) == [adapter.out]  # no checkpoint is left
    weights = load_file(adapter.out / "adapter_model.safetensors")
    assert {str(weight.dtype) for weight in weights.values()} == {"torch.float16"}
    assert {int(name.partition("model.model.layers.")[2].partition(".")[0]) for name in weights} == {2, 3}
    assert all(weight.abs().max() > 0 for weight in weights.values())  # B begins as zeros


def test_peft_itself_finds_each_of_the_adapter_s_weights_in_a_causal_language_model(adapter: Trained, tiny_judge: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_judge), str(adapter.out))


def test_the_stage_with_the_adapter_orders_as_the_stored_run_says(adapter: Trained, tmp_path: Path) -> None:
    agrees(adapter, tmp_path)


def agrees(adapter: Trained, store: Path, spec: Judge | None = None) -> None:
    """Through an engine that merges the adapter, over the same candidates; it scores the best of them alone."""
    pool = candidates(adapter.rows.queries, adapter.competition, adapter.config)
    spec = (spec or adapter.config.rerank["judge"]).model_copy(update={"adapter": str(adapter.out)})
    catalog = shown_to(adapter.competition, spec)
    served = ranked(rerank(adapter.rows.queries, catalog, pool, spec, Store(store)))
    told = ranked(pl.read_parquet(adapter.out / "run.parquet"))
    both = served.join(told, on=["query_id", "label_id"], suffix="_told", validate="1:1")
    assert both.height == served.height == DEPTH * adapter.rows.queries.height
    near = both.filter(pl.col("rank") != pl.col("rank_told"))  # 16 bits are rounded: what is nearly equal may change places
    assert near.height <= 0.1 * both.height
    deeper = told.filter(pl.col("rank") > DEPTH).select("query_id", "label_id")
    assert deeper.equals(ranked(pool).filter(pl.col("rank") > DEPTH).select("query_id", "label_id"))


def test_the_scores_are_those_of_the_candidates_and_of_the_stored_run(adapter: Trained) -> None:
    pool = candidates(adapter.rows.queries, adapter.competition, adapter.config)
    run = pl.read_parquet(adapter.out / "run.parquet")
    assert set(run["query_id"]) == set(adapter.rows.queries["query_id"])
    wanted = [
        {"stage": stage} | row
        for stage, each in (("candidates", pool), ("judge", run))
        for row in evaluate(each, adapter.rows.qrels, adapter.rows.seen).to_dicts()
    ]
    assert adapter.scores == wanted == adapter.record["scores"]


def test_the_record_gives_settings_that_load_and_the_learnt_questions(adapter: Trained) -> None:
    from pipeline.models.encoder import learnt

    assert resolved(adapter.record["config"], "the record") == adapter.config
    assert adapter.record["fold"] == FOLD
    known = learnt(adapter.config.rerank["judge"].model_copy(update={"adapter": str(adapter.out)}))
    assert adapter.competition.train is not None
    asked, taught = (
        set(text_hashes(adapter.competition.train.join(part, on="question_id", how="semi")))
        for part in (adapter.rows.queries, adapter.rows.train)
    )
    assert known == taught and not known & asked


def test_what_a_judge_has_learnt_it_is_not_asked_about_and_the_blender_does_without_it(
    adapter: Trained, tmp_path: Path
) -> None:
    from pipeline import flow

    everything = Trained(settings(Path(adapter.config.rerank["judge"].weights), {}), None, tmp_path / "all")
    told = {"retrieve": {"lexical": {"kind": "tfidf"}}, "rerank": {"judge": {"kind": "pointwise", "engine": "hashed"}}}
    told["rerank"]["judge"]["adapter"] = str(everything.out)
    config, store = Config.model_validate({**told, "sample": {"train": 12, "test": 2}}), Store(tmp_path)
    bundle = flow.fit(everything.competition, config, store)
    assert bundle.booster and not [name for name in bundle.booster.feature_name() if name.startswith("judge")]
    predicted = flow.predict(everything.competition, bundle, store)
    assert {"judge", flow.BLEND} <= set(predicted.stages) and predicted.submission.height
    assert everything.scores == [] and not (everything.out / "run.parquet").exists()
    assert "nothing is left to measure on" in everything.card


def test_the_card_has_front_matter_the_recipe_both_stages_figures_and_a_prompt(adapter: Trained) -> None:
    empty, head, body = adapter.card.split("---\n", 2)
    told = yaml.safe_load(head)
    assert not empty and told["base_model"] == adapter.config.rerank["judge"].weights
    assert (told["library_name"], told["pipeline_tag"]) == ("peft", "text-ranking")
    recipe = yaml.safe_load(body.split("```yaml\n")[1].partition("```")[0])
    assert recipe["train"]["judge"]["frozen"] == 2 and recipe["rerank"]["judge"]["depth"] == DEPTH
    assert "Command: `eedi train judge --data DATA --config tiny.yaml --fold 0 --out OUT`" in body
    for row in adapter.scores:
        assert f"| {row['stage']} | {row['subset']} | {row['queries']} | {row['map@25']:.3f} [" in body
    assert "> Does this misconception explain the wrong answer? Answer Yes or No." in body


def test_written_questions_alone_are_learnt_where_the_competition_s_own_are_not_to_be(tiny_judge: Path, tmp_path: Path) -> None:
    done = Trained(settings(tiny_judge, {"repeat": 0, "written": [str(WRITTEN)]}), None, tmp_path / "out")
    learnt = read_examples([WRITTEN], done.competition.catalog, done.competition.test)
    assert set(done.record["trained_on"]) == set(text_hashes(learnt))
    assert "0 labelled answers of the competition (all labelled questions) and 3 " in done.card
    assert "How much is two and two by our own hand?" in done.card


def test_with_examples_the_stage_is_asked_as_the_training_was(
    adapter: Trained, tiny_judge: Path, tmp_path: Path, examples_file: Callable[..., Path]
) -> None:
    told = {"shots": 1, "examples": [str(examples_file(*adapter.competition.catalog["label_id"]))]}
    done = Trained(settings(tiny_judge, {"repeat": 0, "written": [str(WRITTEN)]}, told), FOLD, tmp_path / "out")
    agrees(done, tmp_path)
    assert '(for example: asked "What is ' in done.card
    with pytest.raises(AssertionError):
        agrees(done, tmp_path, done.config.rerank["judge"].model_copy(update={"shots": 0}))


def test_states_are_kept_where_an_epoch_will_read_them_again(adapter: Trained, tiny_judge: Path, tmp_path: Path) -> None:
    states = cache_folder() / "states"
    assert not states.exists()
    done = Trained(settings(tiny_judge, {"epochs": 1.5}), FOLD, tmp_path / "out")
    assert len(list(states.iterdir())) == done.rows.train.height


def test_hard_lists_come_first_and_a_teacher_changes_what_is_learnt(
    adapter: Trained, tiny_judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher, another judge's run, takes each label for the likelier the larger its number."""
    from safetensors.torch import load_file

    from pipeline.train.candidates import hard_first
    from pipeline.train.pointwise import Lists

    pool = candidates(adapter.rows.train.select(*QUERIES.columns), adapter.competition, adapter.config)
    pool.with_columns(score=pl.col("label_id").cast(pl.Float32)).write_parquet(tmp_path / "teacher.parquet")
    seen: list[int] = []
    forward = Lists.forward

    def noted(self: Lists, features: list[dict[str, Any]], rest: Any = None) -> Any:
        seen.extend(features[0]["input_ids"].tolist())
        return forward(self, features, rest)

    monkeypatch.setattr(Lists, "forward", noted)
    weights = []
    for name, more in {"hard": {}, "taught": {"teachers": [str(tmp_path / "teacher.parquet")]}}.items():
        seen.clear()
        done = Trained(settings(tiny_judge, {"order": "hard", **more}), FOLD, tmp_path / name)
        assert seen == hard_first(range(done.rows.train.height), done.rows.train, pool, DEPTH, 0)
        weights.append(load_file(done.out / "adapter_model.safetensors"))
    assert any((one != other).any() for one, other in zip(*(each.values() for each in weights), strict=True))


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a listwise judge": ({}, {"kind": "listwise"}, "train.judge.stage=judge.*kind listwise.*of kind pointwise"),
    "a judge that there is not": ({"stage": "second"}, {}, "train.judge.stage=second.*no such judge"),
    "weights without weights": ({}, {"weights": "hashed", "engine": "hashed"}, "weights hashed"),
    "nothing to learn from": ({"repeat": 0}, {}, "train.judge.repeat=0"),
    "a retriever that there is not": ({"by": ["sense"]}, {}, "train.judge.by=sense"),
    "explanations of answers": ({}, {"reasoning": 40}, "reasoning=40"),
}


@pytest.mark.parametrize(("judge", "spec", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_trained_with_is_refused_before_any_weights_are_loaded(
    judge: dict[str, Any], spec: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=rf"(?s){told}.*remedy: "):
        Trained(settings(Path("nowhere"), judge, spec), FOLD, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("frozen", [4, 30])
def test_frozen_layers_that_leave_none_to_learn_are_refused(frozen: int, tiny_judge: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"(?s)train\.judge\.frozen={frozen}.*remedy: "):
        Trained(settings(tiny_judge, {"frozen": frozen}), FOLD, tmp_path / "out")
    assert not list(tmp_path.iterdir())
