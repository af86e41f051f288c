"""The model card that lies beside trained weights, in the hub's own form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import polars as pl
import yaml

from pipeline import prompts
from pipeline.config import Dense, Judge, Training
from pipeline.data import WRITTEN
from pipeline.retrieve.dense import query_texts

SAMPLES = 3
_WRITTEN = pl.col("question_id").str.contains(WRITTEN, literal=True)
TERMS = (
    'Trained on data of the Kaggle competition "Eedi - Mining Misconceptions in Mathematics", which may be used for '
    "non-commercial purposes only; the same holds for these weights. The base's own licence (Apache-2.0 for Qwen2.5-0.5B) "
    "applies besides."
)


def encoder_card(record: Mapping[str, Any], spec: Dense, recipe: Training, train: pl.DataFrame) -> str:
    """A bi-encoder's card; `record` is its training.json."""
    head = {
        "library_name": "peft" if recipe.lora else "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "tags": ["sentence-transformers", "feature-extraction", "education", "misconceptions"],
    }
    about = (
        "A bi-encoder: the vector of a question with one wrong answer lies near the vector of the misconception that explains "
        "the answer. Vectors are compared by cosine."
    )
    stage = {"retrieve": {recipe.stage: spec.model_dump()}}
    return _card(record, spec.weights, recipe, train, head, about, query_texts(_shown(train), spec), stage)


def judge_card(
    record: Mapping[str, Any],
    spec: Judge,
    recipe: Training,
    train: pl.DataFrame,
    asked: Callable[[Mapping[str, Any], int], str],
) -> str:
    """A judge's card; `record` is its training.json, `asked` gives the prompt of a row and a label."""
    head = {
        "library_name": "peft",
        "pipeline_tag": "text-ranking",
        "tags": ["lora", "reranker", "education", "misconceptions"],
    }
    about = (
        "A pointwise reranker: asked whether a misconception explains a wrong answer, the model says Yes or No; the score is "
        "log P(Yes) - log P(No). The prompts stand in a conversation by the base's own chat template, with this system prompt: "
        f"{prompts.JUDGE_SYSTEM}"
    )
    texts = [asked(row, row["label_id"]) for row in _shown(train).iter_rows(named=True)]
    stage = {"rerank": {recipe.stage: spec.model_dump()}}
    return _card(record, spec.weights, recipe, train, head, about, texts, stage)


def _card(
    record: Mapping[str, Any],
    weights: str,
    recipe: Training,
    train: pl.DataFrame,
    head: Mapping[str, Any],
    about: str,
    texts: Sequence[str],
    stage: Mapping[str, Any],
) -> str:
    """The card's Markdown: what it is, how to use it, what it learnt from, the recipe, the figures, the terms."""
    license = {"license": "other", "license_name": "non-commercial", "language": "en"}
    model = recipe.room.removeprefix("train.")
    real = train.filter(~_WRITTEN).height
    fold = "all labelled questions" if record["fold"] is None else f"all folds but {record['fold']}"
    own = record["config"]["train"][model]
    samples = "\n\n".join(
        "\n".join(f"> {line}" for line in text.splitlines()) + f"\n\nmisconception {label}"
        for text, label in zip(texts, _shown(train)["label_id"], strict=True)
    )
    parts = [
        f"---\n{yaml.safe_dump({'base_model': weights, **head, **license}, sort_keys=False)}---",
        f"# Maths misconceptions behind wrong answers: {weights}, {own['kind']}",
        about,
        f"## Data\n\n{real} labelled answers of the competition ({fold}) and {train.height - real} that were written for "
        f"training.\n\n{TERMS}",
        "## Samples\n\n" + samples,
        "## Recipe\n\n```yaml\n"
        + yaml.safe_dump({**stage, "train": {model: own}}, sort_keys=False)
        + f"```\n\nCommand: `{command(record, model)}`. {record['seconds']} s on {record['device']}; "
        + ", ".join(f"{name} {version}" for name, version in record["packages"].items())
        + ".",
        "## Figures\n\n" + _figures(record["scores"]),
    ]
    return "\n\n".join(parts) + "\n"


def command(record: Mapping[str, Any], model: str) -> str:
    """What to type for the same weights of an "encoder" or a "judge"."""
    fold = "" if record["fold"] is None else f" --fold {record['fold']}"
    return f"eedi train {model} --data DATA --config {record['config']['name']}.yaml{fold} --out OUT"


def _shown(train: pl.DataFrame) -> pl.DataFrame:
    """Some rows; where there are written ones, of them: the competition's own texts need not travel with the weights."""
    written = train.filter(_WRITTEN)
    return (train if written.is_empty() else written).head(SAMPLES)


def _figures(scores: Sequence[Mapping[str, Any]]) -> str:
    if not scores:
        return "All was learnt, so nothing is left to measure on: the same recipe with a fold held out has figures."
    told = ["stage"] if "stage" in scores[0] else []
    heads = (*told, "labels", "answers", "MAP@25 [95%]", "recall@25", "recall@100")
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in scores:
        interval = f"{row['map@25']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        cells = [*(row[name] for name in told), row["subset"], row["queries"], interval]
        lines.append(f"| {' | '.join(map(str, cells))} | {row['recall@25']:.3f} | {row['recall@100']:.3f} |")
    return "On the fold that was held out:\n\n" + "\n".join(lines)
