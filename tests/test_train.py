"""Training the bi-encoder on the embedded competition, tiny weights: what lies in the folder, and that it serves."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from pipeline.config import Config, Dense, resolved
from pipeline.data import Competition, queries_of, text_hashes
from pipeline.errors import InputError
from pipeline.metrics import evaluate
from pipeline.retrieve import retrieve
from pipeline.runs import ranked
from pipeline.sample import opened
from pipeline.store import Store
from pipeline.train.rows import Rows, training_rows

pytest.importorskip("torch", reason="the models' packages are not installed")
pytestmark = pytest.mark.usefixtures("own_cache")

FOLD = 0
WRITTEN = Path(__file__).parent / "golden" / "written.csv"  # one question, three labelled answers


def settings(weights: Path, encoder: dict[str, Any], **dense: Any) -> Config:
    """A retriever of these weights alone, 24 questions in 2 folds, batches of 4 questions."""
    spec = {"kind": "dense", "weights": str(weights), "template": "short", "dtype": "float32", **dense}
    return Config.model_validate(
        {
            "name": "tiny",
            "sample": {"train": 24, "test": 4},
            "fit": {"folds": 2},
            "retrieve": {"dense": spec},
            "neighbours": None,
            "train": {"encoder": {"batch": 4, "epochs": 1, **encoder}},
        }
    )


@dataclass(frozen=True)
class Trained:
    """What a training was asked and what it made."""

    config: Config
    competition: Competition
    rows: Rows
    out: Path
    scores: list[dict[str, Any]]

    @property
    def record(self) -> dict[str, Any]:
        return json.loads((self.out / "training.json").read_text(encoding="utf-8"))

    @property
    def card(self) -> str:
        return (self.out / "README.md").read_text(encoding="utf-8")

    def ranking(self, queries: pl.DataFrame, **spec: Any) -> pl.DataFrame:
        """How a retriever with other settings ranks the whole catalogue."""
        dense = self.config.retrieve["dense"].model_copy(update={"top_k": self.competition.catalog.height, **spec})
        return retrieve(queries, self.competition.catalog, dense, Store())


def train(config: Config, fold: int | None, out: Path) -> Trained:
    from pipeline.train import encoder

    competition = opened(config, None)
    written = [Path(name) for name in config.train.encoder.written]
    rows = training_rows(competition, config.fit, fold, written)
    return Trained(config, competition, rows, out, encoder.train(competition, config, fold, out))


@pytest.fixture(scope="module")
def adapter(tiny_qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The upper two of four layers, with LoRA, a fold held out."""
    recipe = {"kind": "contrastive", "frozen": 2, "learning_rate": 3e-3, "epochs": 2}
    return train(settings(tiny_qwen, recipe), FOLD, tmp_path_factory.mktemp("adapter") / "out")


@pytest.fixture(scope="module")
def everything(tiny_qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """All weights, all questions and a written one."""
    recipe = {"kind": "contrastive", "frozen": 0, "lora": None, "learning_rate": 1e-3, "epochs": 12, "written": [str(WRITTEN)]}
    return train(settings(tiny_qwen, recipe, template="plain"), None, tmp_path_factory.mktemp("everything") / "out")


def furthest(run: pl.DataFrame, served: pl.DataFrame) -> float:
    """The largest difference of the scores that two retrievers give the pairs of `run`."""
    both = run.join(served, on=["query_id", "label_id"], how="left", suffix="_served", validate="1:1")
    assert both["score_served"].null_count() == 0
    return float((both["score"] - both["score_served"]).abs().max())


def test_with_lora_the_folder_holds_an_adapter_and_what_is_said_of_it(adapter: Trained) -> None:
    files = {"adapter_config.json", "adapter_model.safetensors", "README.md", "training.json", "run.parquet"}
    assert {path.name for path in adapter.out.iterdir()} == files
    assert list(adapter.out.parent.iterdir()) == [adapter.out]  # no checkpoint is left


def test_the_adapter_is_of_16_bits_names_its_base_and_leaves_the_frozen_layers_alone(adapter: Trained) -> None:
    from safetensors.torch import load_file

    settings = json.loads((adapter.out / "adapter_config.json").read_text(encoding="utf-8"))
    assert settings["base_model_name_or_path"] == adapter.config.retrieve["dense"].weights
    weights = load_file(adapter.out / "adapter_model.safetensors")
    assert {str(weight.dtype) for weight in weights.values()} == {"torch.float16"}
    assert {int(name.partition("layers.")[2].partition(".")[0]) for name in weights} == {2, 3}
    assert len(weights) == 2 * 7 * 2  # layers, linear layers in each, and the two matrices of each
    assert all(weight.abs().max() > 0 for weight in weights.values())  # B begins as zeros


def test_peft_itself_finds_each_of_the_adapter_s_weights(adapter: Trained, tiny_qwen: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PeftModel.from_pretrained(AutoModel.from_pretrained(tiny_qwen), str(adapter.out))


def test_the_adapter_ranks_as_its_run_says(adapter: Trained) -> None:
    run = pl.read_parquet(adapter.out / "run.parquet")
    served = adapter.ranking(adapter.rows.queries, adapter=str(adapter.out))
    base = adapter.ranking(adapter.rows.queries)
    assert furthest(run, served) < 0.002 < 0.05 < furthest(run, base)  # 16 bits are rounded, and the base is another model
    first = [ranked(each).filter(pl.col("rank") == 1).select("query_id", "label_id") for each in (run, served)]
    assert first[0].join(first[1], on=["query_id", "label_id"]).height >= 0.8 * first[0].height


def test_the_scores_are_those_of_the_stored_run_for_all_seen_and_unseen_labels(adapter: Trained) -> None:
    run = pl.read_parquet(adapter.out / "run.parquet")
    assert set(run["query_id"]) == set(adapter.rows.queries["query_id"])
    wanted = evaluate(run, adapter.rows.qrels, adapter.rows.seen).to_dicts()
    assert adapter.scores == wanted == adapter.record["scores"]
    assert [row["subset"] for row in wanted] == ["all", "seen", "unseen"]


def test_the_record_gives_settings_that_load_versions_and_what_was_learnt(adapter: Trained) -> None:
    record = adapter.record
    assert resolved(record["config"], "the record") == adapter.config
    assert record["fold"] == FOLD and record["seconds"] >= 0
    assert {"torch", "transformers", "sentence-transformers"} <= record["packages"].keys()


def test_the_record_names_the_learnt_questions_and_none_of_the_fold_that_was_held_out(adapter: Trained) -> None:
    from pipeline.models.encoder import learnt

    known = learnt(Dense(weights="some/base", adapter=str(adapter.out)))
    assert adapter.competition.train is not None
    asked = adapter.competition.train.join(adapter.rows.queries, on="question_id", how="semi")
    taught = adapter.competition.train.join(adapter.rows.train, on="question_id", how="semi")
    assert known == set(text_hashes(taught)) and not known & set(text_hashes(asked))


def test_the_card_has_front_matter_the_recipe_and_the_figures(adapter: Trained) -> None:
    empty, head, body = adapter.card.split("---\n", 2)
    told = yaml.safe_load(head)
    assert not empty and told["base_model"] == adapter.config.retrieve["dense"].weights
    assert (told["library_name"], told["license"]) == ("peft", "other")
    recipe = yaml.safe_load(body.split("```yaml\n")[1].partition("```")[0])
    assert recipe["train"]["encoder"]["frozen"] == 2
    for row in adapter.scores:
        assert f"| {row['subset']} | {row['queries']} | {row['map@25']:.3f} [" in body
    assert f"{adapter.rows.train.height} labelled answers of the competition (all folds but {FOLD}) and 0 " in body


def test_where_all_was_learnt_there_is_no_run_and_no_score(everything: Trained) -> None:
    assert everything.scores == everything.record["scores"] == []
    assert everything.record["fold"] is None
    assert not (everything.out / "run.parquet").exists()
    assert "nothing is left to measure on" in everything.card


def test_written_questions_are_learnt_shown_in_the_card_and_keep_the_competition_s_texts_out_of_it(
    everything: Trained,
) -> None:
    assert everything.competition.train is not None
    assert (
        f"{everything.rows.train.height - 3} labelled answers of the competition (all labelled questions) and 3 "
        in everything.card
    )
    assert everything.card.count("How much is two and two by our own hand?") == 3
    assert not [text for text in everything.competition.train["question"] if text in everything.card]
    assert set(everything.record["trained_on"]) == set(text_hashes(everything.rows.train))


def test_without_lora_the_folder_is_a_model_that_serves_and_ranks_what_it_learnt_better_than_its_base(
    everything: Trained,
) -> None:
    assert everything.competition.train is not None and everything.competition.train_qrels is not None
    queries, qrels = queries_of(everything.competition.train), everything.competition.train_qrels
    after = evaluate(everything.ranking(queries, weights=str(everything.out)), qrels, None)
    before = evaluate(everything.ranking(queries), qrels, None)
    assert after["recall@25"].item() > before["recall@25"].item() + 0.4


def test_without_lora_a_decoder_becomes_a_folder_with_the_pooling_that_it_was_trained_with(
    tiny_qwen: Path, tmp_path: Path
) -> None:
    recipe = {"kind": "contrastive", "frozen": 0, "lora": None, "learning_rate": 1e-3, "epochs": 1.5}
    done = train(settings(tiny_qwen, recipe, pooling="mean"), FOLD, tmp_path / "out")
    served = done.ranking(done.rows.queries, weights=str(done.out), pooling="lasttoken")
    run = pl.read_parquet(done.out / "run.parquet")
    assert furthest(run, served) < 2e-5 < furthest(run, done.ranking(done.rows.queries))


def test_a_sentence_transformers_folder_stays_one_and_keeps_its_modules(tiny_bert: Path, tmp_path: Path) -> None:
    recipe = {"kind": "contrastive", "frozen": 0, "lora": None, "learning_rate": 1e-3}
    done = train(settings(tiny_bert, recipe, template="plain"), FOLD, tmp_path / "out")
    for file in ("modules.json", "1_Pooling/config.json"):
        assert json.loads((done.out / file).read_text("utf-8")) == json.loads((tiny_bert / file).read_text("utf-8"))
    served = done.ranking(done.rows.queries, weights=str(done.out))
    run = pl.read_parquet(done.out / "run.parquet")
    assert furthest(run, served) < 2e-5 < furthest(run, done.ranking(done.rows.queries))


@pytest.mark.parametrize("kind", ["seed", "seed-mended"])
def test_a_seed_recipe_s_folder_is_laid_out_as_the_published_seed_model_s_and_serves(
    kind: str, tiny_qwen: Path, tmp_path: Path
) -> None:
    config = settings(tiny_qwen, {"kind": kind, "learning_rate": 1e-3}, pooling="mean", template="seed")
    done = train(config, FOLD, tmp_path / "out")
    modules = json.loads((done.out / "modules.json").read_text(encoding="utf-8"))
    assert [module["path"] for module in modules] == ["", "1_Pooling"]
    pooling = json.loads((done.out / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    assert pooling["pooling_mode"] == "mean"
    served = done.ranking(done.rows.queries, weights=str(done.out))
    run = pl.read_parquet(done.out / "run.parquet")
    assert furthest(run, served) < 2e-5 < furthest(run, done.ranking(done.rows.queries))


def test_the_same_command_gives_the_same_weights_and_another_seed_gives_others(
    adapter: Trained, tiny_qwen: Path, tmp_path: Path
) -> None:
    recipe = adapter.config.train.encoder.model_dump()
    again = train(settings(tiny_qwen, recipe), FOLD, tmp_path / "again")
    other = train(settings(tiny_qwen, recipe | {"seed": 1}), FOLD, tmp_path / "other")
    bytes_ = [(done.out / "adapter_model.safetensors").read_bytes() for done in (adapter, again, other)]
    assert bytes_[0] == bytes_[1] != bytes_[2]


def test_a_folder_that_is_there_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it exists"):
        train(settings(Path("nowhere"), {"kind": "contrastive"}), FOLD, tmp_path)
