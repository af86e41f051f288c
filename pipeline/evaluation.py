"""A file against labels: which questions count, and which labels training showed."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from pipeline.data import leave_out, read_labelled, read_qrels
from pipeline.errors import InputError
from pipeline.metrics import of_hits, paired, summary
from pipeline.runs import ranked, stored_run
from pipeline.schema import QRELS, question_of
from pipeline.submission import ranks

log = logging.getLogger(__name__)


def evaluate_file(file: Path, labels: Path, train: Path | None = None) -> pl.DataFrame:
    """The scores of a submission or a stored run; see `metrics.summary`.

    Only the questions that `file` answers count, and the others are counted in a warning. `train` defaults to the train.csv
    beside `labels`; the evaluated questions are left out of it before its labels count as seen.
    """
    questions, qrels = read_labelled(labels)
    queries, hits = _answers(file, qrels)
    answered = queries.select(question_of(pl.col("query_id"))).to_series().unique()
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
        return summary(of_hits(hits, asked), None)
    test = questions.filter(pl.col("question_id").is_in(answered.implode()))
    _, shown = leave_out(*read_labelled(train), test)
    return summary(of_hits(hits, asked), asked.join(shown, on="label_id", how="semi"))


def compare_files(first: Path, second: Path, labels: Path) -> dict[str, float]:
    """`metrics.paired` of two submissions or stored runs, on the labelled answers that both hold, and their number."""
    qrels = read_qrels(labels)
    (answered, one), (by_other, other) = _answers(first, qrels), _answers(second, qrels)
    both = qrels.join(answered, on="query_id", how="semi").join(by_other, on="query_id", how="semi")
    if both.is_empty():
        raise InputError(
            f"{first} and {second}",
            found=f"no answer of {labels} that both hold",
            wanted="runs over the same labelled questions",
            remedy="Check that the three files belong together.",
        )
    return {"answers": both.height, **paired(of_hits(one, both), of_hits(other, both))}


def _answers(file: Path, qrels: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The queries that a file answers, each once (query_id), and the golds that it holds, with their rank."""
    remedy = "Give a run that `eedi submit` stored, or a submission as CSV."
    stored = file.suffix == ".parquet"
    blocks: Iterable[pl.DataFrame] = [ranked(stored_run(file, remedy))] if stored else ranks(file)
    parts = [(block.select("query_id").unique(), block.join(qrels, on=QRELS.key, how="semi")) for block in blocks]
    queries, hits = zip(*parts, strict=True)
    return pl.concat(queries), pl.concat(hits).select(*QRELS.key, "rank")
