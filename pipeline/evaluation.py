"""A file against labels: which questions count, and which labels training showed."""

from __future__ import annotations

import logging
from pathlib import Path

import polars as pl

from pipeline.data import leave_out, read_qrels, read_questions
from pipeline.errors import InputError
from pipeline.metrics import compare, evaluate
from pipeline.runs import stored_run
from pipeline.schema import question_of
from pipeline.submission import read

log = logging.getLogger(__name__)


def evaluate_file(file: Path, labels: Path, train: Path | None = None) -> pl.DataFrame:
    """The scores of a submission or a stored run; see `metrics.evaluate`.

    Only the questions that `file` answers count, and the others are counted in a warning. `train` defaults to the train.csv
    beside `labels`; the evaluated questions are left out of it before its labels count as seen.
    """
    answers = _answers(file)
    answered = answers.select(question_of(pl.col("query_id"))).to_series().unique()
    qrels, questions = read_qrels(labels), read_questions(labels)
    asked = qrels.filter(question_of(pl.col("query_id")).is_in(answered.implode()))
    if asked.is_empty():
        raise InputError(
            file,
            found=f"no question of {labels}",
            wanted="answers to labelled questions",
            remedy="Check that the two files belong together.",
        )
    if asked.height < qrels.height:
        log.warning(
            "%d of the %d labelled answers belong to questions that %s does not hold: not counted",
            qrels.height - asked.height,
            qrels.height,
            file,
        )
    train = train or labels.with_name("train.csv")
    if not train.is_file():
        log.warning("no %s: seen and unseen labels cannot be told apart", train)
        return evaluate(answers, asked, None)
    test = questions.filter(pl.col("question_id").is_in(answered.implode()))
    _, shown = leave_out(read_questions(train), read_qrels(train), test)
    return evaluate(answers, asked, asked.join(shown, on="label_id", how="semi"))


def compare_files(first: Path, second: Path, labels: Path) -> dict[str, float]:
    """`metrics.compare` of two submissions or stored runs, on the labelled answers that both hold, and their number."""
    one, other, qrels = _answers(first), _answers(second), read_qrels(labels)
    both = qrels.join(one, on="query_id", how="semi").join(other, on="query_id", how="semi")
    if both.is_empty():
        raise InputError(
            f"{first} and {second}",
            found=f"no answer of {labels} that both hold",
            wanted="runs over the same labelled questions",
            remedy="Check that the three files belong together.",
        )
    return {"answers": both.height, **compare(one, other, both)}


def _answers(file: Path) -> pl.DataFrame:
    if file.suffix == ".parquet":
        return stored_run(file, "Give a run that `eedi submit` stored, or a submission as CSV.")
    return read(file)
