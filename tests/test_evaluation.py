"""Files against labels: what is read in blocks scores to the last digit as the whole run does."""

from __future__ import annotations

from pathlib import Path
from random import Random

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline import csvfile
from pipeline.bench import evaluating
from pipeline.data import leave_out, read_qrels, read_questions
from pipeline.errors import InputError
from pipeline.evaluation import compare_files, evaluate_file
from pipeline.metrics import compare, evaluate
from pipeline.submission import LABELS, ROW, read, write


@pytest.fixture
def files(kaggle: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two submissions of drawn labels, the gold often among them, in blocks of five rows; the first as a stored run too."""
    monkeypatch.setattr(csvfile, "BLOCK", 5)
    asked = pl.read_csv(kaggle / "sample_submission.csv")[ROW].to_list()
    golds = dict(read_qrels(kaggle / "solution.csv").iter_rows())
    random = Random(0)
    for name in ("one", "other"):
        drawn = {query: random.sample(range(600, 682), 25) for query in asked}
        for query, gold in golds.items():
            if random.random() < 0.7 and gold not in drawn[query]:
                drawn[query][random.randrange(25)] = gold
        lists = [" ".join(map(str, drawn[query])) for query in asked]
        write(pl.DataFrame({ROW: asked, LABELS: lists}), kaggle / f"{name}.csv")
    read(kaggle / "one.csv").write_parquet(kaggle / "one.parquet")
    return [kaggle / name for name in ("one.csv", "other.csv", "one.parquet")]


def test_a_file_scores_as_its_run(files: list[Path]) -> None:
    one, _, stored = files
    labels, train = one.with_name("solution.csv"), one.with_name("train.csv")
    qrels = read_qrels(labels)
    _, shown = leave_out(read_questions(train), read_qrels(train), read_questions(labels))
    wanted = evaluate(read(one), qrels, qrels.join(shown, on="label_id", how="semi"))
    assert wanted["map@25"][0] > 0
    for file in (one, stored):
        assert_frame_equal(evaluate_file(file, labels), wanted, check_exact=True)


def test_two_files_compare_as_their_runs(files: list[Path]) -> None:
    one, other, stored = files
    labels = one.with_name("solution.csv")
    qrels = read_qrels(labels)
    wanted = {"answers": qrels.height, **compare(read(one), read(other), qrels)}
    assert wanted["difference"] != 0
    assert compare_files(one, other, labels) == compare_files(stored, other, labels) == wanted


def test_others_ways_of_scoring_agree(files: list[Path]) -> None:
    labels = files[0].with_name("solution.csv")
    ours, *others = evaluating(files[0], labels)
    assert ours["MAP@25"] == f"{evaluate_file(files[0], labels)['map@25'][0]:.10f}"
    assert others and {row["MAP@25"] for row in others} == {ours["MAP@25"]}


def test_only_the_questions_that_a_file_answers_count(files: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    one, labels = files[0], files[0].with_name("solution.csv")
    kept = [line for line in one.read_text().splitlines(keepends=True) if not line.startswith("24_")]
    one.write_text("".join(kept))
    qrels = read_qrels(labels).filter(~pl.col("query_id").str.starts_with("24_"))
    assert evaluate_file(one, labels)["queries"][0] == qrels.height
    assert "belong to questions that" in caplog.text


@pytest.mark.parametrize(
    ("row", "text", "told"),
    [(7, "x", "'x': not a whole number"), (11, "{}", "an id given twice"), (12, None, "the same row again")],
)
def test_a_fault_has_its_row_beyond_the_first_block(files: list[Path], row: int, text: str | None, told: str) -> None:
    lines = files[0].read_text().splitlines(keepends=True)
    name, ids = lines[row].split(",")
    first = ids.split(" ")[0]
    lines[row] = lines[1] if text is None else f"{name},{text.format(first)} {ids}"
    files[0].write_text("".join(lines))
    with pytest.raises(InputError, match=rf"one\.csv, row {row}\n.*{told}"):
        evaluate_file(files[0], files[0].with_name("solution.csv"))
