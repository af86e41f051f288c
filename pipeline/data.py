"""Kaggle's CSVs to frames: questions, queries, qrels, catalog.

Only here and in `submission.py` are Kaggle's names spelled. A file is checked as a whole and every fault has its row.
`read_qrels` is the door through which truth enters; nothing else reads a misconception column.
"""

from __future__ import annotations

import csv
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline.config import Data
from pipeline.csvfile import read_table
from pipeline.errors import InputError
from pipeline.schema import CATALOG, EXAMPLES, LETTERS, QRELS, QUERIES, QUESTIONS, check, question_of

log = logging.getLogger(__name__)

COLUMNS = {
    "question_id": "QuestionId",
    "construct": "ConstructName",
    "subject": "SubjectName",
    "question": "QuestionText",
    "correct": "CorrectAnswer",
    **{f"answer_{letter}": f"Answer{letter}Text" for letter in LETTERS},
}
WRITTEN = ":"  # stands in the ids of questions that were written for a label, and in no other
LABEL_COLUMNS = {letter: f"Misconception{letter}Id" for letter in LETTERS}


@dataclass(frozen=True)
class Competition:
    """What a run starts from. `train` and `truth` may be missing: Kaggle's kernels have no labels for their test."""

    test: pl.DataFrame  # QUESTIONS
    catalog: pl.DataFrame  # CATALOG
    train: pl.DataFrame | None  # QUESTIONS
    train_qrels: pl.DataFrame | None  # QRELS
    truth: pl.DataFrame | None  # QRELS of the test questions; for scoring only


def _refuse(path: Path, bad: pl.DataFrame, column: str, wanted: str, remedy: str) -> None:
    """Raise for the first row of `bad`, which carries `row` (from 1, the header not counted) and `column`."""
    if bad.height:
        first = bad.row(0, named=True)
        more = f" (and {bad.height - 1} rows more)" if bad.height > 1 else ""
        raise InputError(
            f"{path}, row {first['row']}, column {column}", found=f"{first[column]!r}{more}", wanted=wanted, remedy=remedy
        )


def read_questions(path: Path, sparse: bool = False) -> pl.DataFrame:
    """QUESTIONS from a train.csv or test.csv. Empty texts are warned of and kept: their rows are answered too.

    A `sparse` file is meant to leave answers out.
    """
    return _questions(path, read_table(path, list(COLUMNS.values())), sparse)


def _questions(path: Path, table: pl.DataFrame, sparse: bool) -> pl.DataFrame:
    table = table.with_row_index("row", offset=1)
    if table.is_empty():
        raise InputError(path, found="a header and no row", wanted="one question a row", remedy="Give a file with questions.")
    key, correct = COLUMNS["question_id"], COLUMNS["correct"]
    _refuse(path, table.filter(pl.col(key) == ""), key, "an id", "Give each question its id.")
    _refuse(path, table.filter(~pl.col(key).is_first_distinct()), key, "each id once", "Remove the repeated question.")
    _refuse(path, table.filter(~pl.col(correct).is_in(LETTERS)), correct, "A, B, C or D", "Correct the letter.")
    answers = () if sparse else tuple(COLUMNS[f"answer_{letter}"] for letter in LETTERS)
    for column in (COLUMNS["question"], *answers):
        empty = table.filter(pl.col(column).str.strip_chars() == "")
        if empty.height:
            log.warning(
                "%s, row %d, column %s: empty in %d row(s); answered all the same", path, empty["row"][0], column, empty.height
            )
    return check(table.select(pl.col(name).alias(ours) for ours, name in COLUMNS.items()), QUESTIONS)


def read_catalog(path: Path) -> pl.DataFrame:
    """CATALOG from a misconception_mapping.csv."""
    table = read_table(path, ["MisconceptionId", "MisconceptionName"]).with_row_index("row", offset=1)
    if table.is_empty():
        raise InputError(path, found="no row", wanted="one misconception a row", remedy="Give the whole catalogue.")
    ids = table.with_columns(label_id=_label_id("MisconceptionId"))
    _refuse(path, ids.filter(pl.col("label_id").is_null()), "MisconceptionId", "a whole number", "Correct the id.")
    twice = ids.filter(~pl.col("label_id").is_first_distinct())
    _refuse(path, twice, "MisconceptionId", "each id once", "Remove the repeated misconception.")
    empty = ids.filter(pl.col("MisconceptionName").str.strip_chars() == "")
    _refuse(path, empty, "MisconceptionName", "a text", "Name the misconception.")
    return check(ids.select("label_id", pl.col("MisconceptionName").alias("label")), CATALOG)


def read_notes(path: Path) -> dict[int, str]:
    """What a CSV says of some labels, by MisconceptionId."""
    table = read_table(path, ["MisconceptionId", "Note"]).with_row_index("row", offset=1)
    ids = table.with_columns(label_id=_label_id("MisconceptionId"))
    _refuse(path, ids.filter(pl.col("label_id").is_null()), "MisconceptionId", "a whole number", "Correct the id.")
    return dict(ids.select("label_id", "Note").iter_rows())


def _label_id(column: str) -> pl.Expr:
    """Kaggle writes ids as floats ("1672.0") where a column has gaps; null where the text is not a whole number."""
    number = pl.col(column).cast(pl.Float64, strict=False)
    return pl.when(number == number.floor()).then(number).cast(pl.Int32, strict=False)


def has_labels(path: Path) -> bool:
    """Whether the file is there and its header names misconceptions."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        return set(LABEL_COLUMNS.values()) <= set(next(csv.reader(lines), []))


def read_qrels(path: Path, catalog: pl.DataFrame | None = None) -> pl.DataFrame:
    """QRELS from a file in train.csv's layout; every label must stand in `catalog` where one is given."""
    return _qrels(path, read_table(path, [COLUMNS["question_id"], *LABEL_COLUMNS.values()]), catalog)


def read_labelled(path: Path, catalog: pl.DataFrame | None = None, sparse: bool = False) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`read_questions` and `read_qrels` of one file, which is read once."""
    table = read_table(path, [*COLUMNS.values(), *LABEL_COLUMNS.values()])
    return _questions(path, table, sparse), _qrels(path, table, catalog)


def _qrels(path: Path, table: pl.DataFrame, catalog: pl.DataFrame | None) -> pl.DataFrame:
    key, table = COLUMNS["question_id"], table.with_row_index("row", offset=1)
    _refuse(path, table.filter(~pl.col(key).is_first_distinct()), key, "each id once", "Remove the repeated question.")
    known = None if catalog is None else catalog["label_id"].implode()
    parts = []
    for letter, column in LABEL_COLUMNS.items():
        given = table.filter(pl.col(column) != "").with_columns(label_id=_label_id(column))
        bad = given.filter(pl.col("label_id").is_null())
        _refuse(path, bad, column, "a misconception's id or nothing", "Correct the id.")
        if known is not None:
            bad = given.filter(~pl.col("label_id").is_in(known))
            _refuse(path, bad, column, "an id that the catalogue holds", "Correct the id, or complete the catalogue.")
        parts.append(given.select("row", query_id=pl.col(key) + f"_{letter}", label_id="label_id"))
    return check(pl.concat(parts).sort("row", "query_id").drop("row"), QRELS)


def read_examples(paths: Sequence[Path], catalog: pl.DataFrame, apart: pl.DataFrame) -> pl.DataFrame:
    """EXAMPLES from files in train.csv's layout, whose answers may be sparse; those that read like `apart`'s do not count.

    They stay, because what is computed of a file's examples then holds for every competition that the file is used in.
    A file's `labels_of` (MisconceptionId, Sha256: `label_hash`) says which catalogue it was written for: an example counts
    where the label still has the same name. Files count their ids anew; here each file's get a prefix.
    """
    parts = [pl.DataFrame(schema=EXAMPLES.columns)]
    for number, path in enumerate(paths):
        name = pl.lit(f"{number}{WRITTEN}")
        if labels_of(path).is_file():
            hashes = read_table(labels_of(path), ["MisconceptionId", "Sha256"])
            hashes = hashes.with_columns(label_id=_label_id("MisconceptionId"))
            named = catalog.with_columns(Sha256=pl.Series(map(label_hash, catalog["label"]), dtype=pl.String))
            same = named.join(hashes, on=["label_id", "Sha256"], how="semi")
            if same.is_empty():
                log.info("%s is of another catalogue: not used", path)
                continue
            questions, qrels = read_labelled(path, sparse=True)
            qrels = qrels.join(same, on="label_id", how="semi")
        else:
            questions, qrels = read_labelled(path, catalog, sparse=True)
        questions = questions.with_columns(question_id=name + pl.col("question_id"))
        labels = qrels.with_columns(query_id=name + pl.col("query_id"))
        counts = ~same_text().is_in(apart.select(same_text()).to_series().implode())
        parts.append(queries_of(questions).join(labels, on="query_id", maintain_order="left").with_columns(counts=counts))
    return check(pl.concat(parts), EXAMPLES)


def labels_of(path: Path) -> Path:
    """The file beside a file of examples that names its labels."""
    return path.with_suffix(".labels.csv")


def label_hash(label: str) -> str:
    """What tells a label's name apart."""
    return hashlib.sha256(label.encode()).hexdigest()[:16]


def queries_of(questions: pl.DataFrame) -> pl.DataFrame:
    """QUERIES: each wrong answer of each question, in the questions' order, then by letter."""
    per_letter = [
        questions.with_row_index("row")
        .filter(pl.col("correct") != letter)
        .select(
            "row",
            query_id=pl.col("question_id") + f"_{letter}",
            question_id="question_id",
            construct="construct",
            subject="subject",
            question="question",
            correct=pl.coalesce(pl.when(pl.col("correct") == each).then(f"answer_{each}") for each in LETTERS),
            wrong=f"answer_{letter}",
        )
        for letter in LETTERS
    ]
    return check(pl.concat(per_letter).sort("row", "query_id").drop("row"), QUERIES)


def same_text() -> pl.Expr:
    """A question's text as folds and leak checks compare it: lower case, white space folded."""
    return pl.col("question").str.to_lowercase().str.replace_all(r"\s+", " ").str.strip_chars()


def text_hashes(questions: pl.DataFrame) -> list[str]:
    """One short hash a question's text: what a bundle may carry of the questions that it was trained on."""
    return [hashlib.sha256(text.encode()).hexdigest()[:16] for text in questions.select(same_text()).to_series()]


def leave_out(train: pl.DataFrame, qrels: pl.DataFrame, test: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """`train` and its `qrels` without the questions that `test` holds too, by id or by text."""
    by_id = pl.col("question_id").is_in(test["question_id"].implode())
    by_text = same_text().is_in(test.select(same_text()).to_series().implode())
    kept = train.filter(~(by_id | by_text))
    if kept.height < train.height:
        log.warning("%d training questions are the test's too (by id or text): left out", train.height - kept.height)
    return kept, qrels.filter(question_of(pl.col("query_id")).is_in(kept["question_id"].implode()))


def load(folder: Path, names: Data, limit: int | None = None) -> Competition:
    """Read a folder in Kaggle's layout; `limit` takes the test's first questions.

    Test questions that train holds too (Kaggle's visible test does) are taken out of train, so that a score is honest. The
    test's labels are read where there are any: from a test file that is a training file, or from the solution file.
    """
    if not folder.is_dir():
        raise InputError(folder, found="no such folder", wanted="a folder in Kaggle's layout", remedy="Check --data.")
    catalog = read_catalog(folder / names.catalog)
    test = read_questions(folder / names.test)[:limit]
    truth = train = train_qrels = None
    answers = next((name for name in (names.test, names.solution) if has_labels(folder / name)), None)
    if answers:
        asked = question_of(pl.col("query_id")).is_in(test["question_id"].implode())
        truth = read_qrels(folder / answers, catalog).filter(asked)
    if (folder / names.train).is_file():
        train, train_qrels = leave_out(*read_labelled(folder / names.train, catalog), test)
    return Competition(test, catalog, train, train_qrels, truth)
