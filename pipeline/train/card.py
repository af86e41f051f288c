"""The model card that lies beside trained weights, in the hub's own form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import yaml

from pipeline.config import Dense, Training
from pipeline.data import WRITTEN
from pipeline.retrieve.dense import query_texts

SAMPLES = 3
_WRITTEN = pl.col("question_id").str.contains(WRITTEN, literal=True)
TERMS = (
    'Trained on data of the Kaggle competition "Eedi - Mining Misconceptions in Mathematics", which may be used for '
    "non-commercial purposes only; the same holds for these weights. The base's own licence (Apache-2.0 for Qwen2.5-0.5B) "
    "applies besides."
)


def card(record: Mapping[str, Any], spec: Dense, recipe: Training, train: pl.DataFrame) -> str:
    """The card's Markdown: what it is, how to use it, what it learnt from, the recipe, the figures, the terms."""
    head = {
        "base_model": spec.weights,
        "library_name": "peft" if recipe.lora else "sentence-transformers",
        "pipeline_tag": "sentence-similarity",
        "license": "other",
        "license_name": "non-commercial",
        "language": "en",
        "tags": ["sentence-transformers", "feature-extraction", "education", "misconceptions"],
    }
    real = train.filter(~_WRITTEN).height
    fold = "all labelled questions" if record["fold"] is None else f"all folds but {record['fold']}"
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---",
        f"# Maths misconceptions behind wrong answers: {spec.weights}, {record['config']['train']['encoder']['kind']}",
        "A bi-encoder: the vector of a question with one wrong answer lies near the vector of the misconception that explains "
        "the answer. Vectors are compared by cosine.",
        f"## Data\n\n{real} labelled answers of the competition ({fold}) and {train.height - real} that were written for "
        f"training.\n\n{TERMS}",
        "## Samples\n\n" + _samples(train, spec),
        "## Recipe\n\n```yaml\n"
        + yaml.safe_dump({"retrieve": {recipe.stage: spec.model_dump()}, "train": record["config"]["train"]}, sort_keys=False)
        + f"```\n\nCommand: `{command(record)}`. {record['seconds']} s on {record['device']}; "
        + ", ".join(f"{name} {version}" for name, version in record["packages"].items())
        + ".",
        "## Figures\n\n" + _figures(record["scores"]),
    ]
    return "\n\n".join(parts) + "\n"


def command(record: Mapping[str, Any]) -> str:
    """What to type for the same weights."""
    fold = "" if record["fold"] is None else f" --fold {record['fold']}"
    return f"eedi train encoder --data DATA --config {record['config']['name']}.yaml{fold} --out OUT"


def _samples(train: pl.DataFrame, spec: Dense) -> str:
    """Some rows; where there are written ones, of them: the competition's own texts need not travel with the weights."""
    written = train.filter(_WRITTEN)
    some = (train if written.is_empty() else written).head(SAMPLES)
    return "\n\n".join(
        f"> {text}\n\nmisconception {label}" for text, label in zip(query_texts(some, spec), some["label_id"], strict=True)
    )


def _figures(scores: list[dict[str, Any]]) -> str:
    if not scores:
        return "All was learnt, so nothing is left to measure on: the same recipe with a fold held out has figures."
    heads = ("labels", "answers", "MAP@25 [95%]", "recall@25", "recall@100")
    lines = [f"| {' | '.join(heads)} |", "| --- " * len(heads) + "|"]
    for row in scores:
        interval = f"{row['map@25']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        lines.append(f"| {row['subset']} | {row['queries']} | {interval} | {row['recall@25']:.3f} | {row['recall@100']:.3f} |")
    return "On the fold that was held out:\n\n" + "\n".join(lines)
