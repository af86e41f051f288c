"""Kaggle's CSVs to frames: order, letters, ids, what is left out of training, and where truth comes from."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config import Data
from pipeline.csvfile import read_table
from pipeline.data import (
    COLUMNS,
    LABEL_COLUMNS,
    has_labels,
    leave_out,
    load,
    queries_of,
    read_catalog,
    read_qrels,
    read_questions,
    text_hashes,
)
from pipeline.errors import InputError
from pipeline.schema import CATALOG, LETTERS, QRELS, QUERIES, QUESTIONS, check

PLAIN = list(COLUMNS.values())
LABELLED = [*PLAIN, *LABEL_COLUMNS.values()]
CATALOGUE = "MisconceptionId,MisconceptionName\n3,Adds instead of multiplies\n1672,Forgets the carry\n7,Halves twice\n"


def row(number: int, correct: str = "A", text: str = "", labels: Iterable[str] = ("",) * 4) -> list[str]:
    texts = [f"right or wrong {letter} of {number}" for letter in LETTERS]
    return [str(number), "add", "number", text or f"What is {number}?", correct, *texts, *labels]


def written(path: Path, rows: Iterable[list[str]], columns: list[str] = PLAIN, encoding: str = "utf-8") -> Path:
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([columns, *(each[: len(columns)] for each in rows)])
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Training questions 1 to 4, of which the test asks 4 by id and 9 by the text of 2; 8 is new."""
    labels = ["", "3", "1672.0", ""]
    written(tmp_path / "train.csv", [row(n, labels=labels) for n in (1, 2, 3, 4)], LABELLED)
    written(tmp_path / "test.csv", [row(9, text="what is\n 2?"), row(8), row(4, text="Another text?")])
    (tmp_path / "misconception_mapping.csv").write_text(CATALOGUE, encoding="utf-8")
    return tmp_path


def test_every_wrong_answer_is_a_query_in_the_files_order_then_by_letter(tmp_path: Path) -> None:
    asked = queries_of(read_questions(written(tmp_path / "test.csv", [row(20, "C"), row(3, "A"), row(100, "D")])))
    wanted = ["20_A", "20_B", "20_D", "3_B", "3_C", "3_D", "100_A", "100_B", "100_C"]
    assert check(asked, QUERIES)["query_id"].to_list() == wanted


@pytest.mark.parametrize("correct", LETTERS)
def test_a_query_carries_the_text_of_its_own_letter_and_of_the_correct_one(tmp_path: Path, correct: str) -> None:
    asked = queries_of(read_questions(written(tmp_path / "test.csv", [row(5, correct)])))
    for query in asked.iter_rows(named=True):
        assert query["wrong"] == f"right or wrong {query['query_id'][-1]} of 5"
        assert query["correct"] == f"right or wrong {correct} of 5"
    assert correct not in asked["query_id"].str.tail(1)


def test_label_ids_are_read_from_whole_numbers_and_from_floats_and_gaps_are_no_labels(folder: Path) -> None:
    qrels = check(read_qrels(folder / "train.csv", read_catalog(folder / "misconception_mapping.csv")), QRELS)
    assert qrels.rows()[:4] == [("1_B", 3), ("1_C", 1672), ("2_B", 3), ("2_C", 1672)]
    assert qrels.height == 8


@pytest.mark.parametrize("text", ["1672.5", "1e99", "nan", "inf", "none", "99999999999"])
def test_a_label_that_is_no_whole_number_is_refused_with_its_row_and_column(tmp_path: Path, text: str) -> None:
    train = written(tmp_path / "train.csv", [row(1), row(2, labels=["", text, "", ""])], LABELLED)
    with pytest.raises(InputError, match=r"train\.csv, row 2, column MisconceptionBId"):
        read_qrels(train)


def test_the_catalogue_keeps_the_files_order(folder: Path) -> None:
    catalog = check(read_catalog(folder / "misconception_mapping.csv"), CATALOG)
    assert catalog.rows() == [(3, "Adds instead of multiplies"), (1672, "Forgets the carry"), (7, "Halves twice")]


def test_a_byte_order_mark_is_no_part_of_the_first_columns_name(tmp_path: Path) -> None:
    marked = written(tmp_path / "train.csv", [row(1, labels=["", "3", "", ""])], LABELLED, encoding="utf-8-sig")
    assert has_labels(marked)
    assert read_questions(marked)["question_id"].to_list() == ["1"]
    assert read_qrels(marked).rows() == [("1_B", 3)]


@settings(deadline=None)
@given(text=st.text(st.characters(codec="utf-8"), max_size=40).map("x{}x".format))
def test_a_text_comes_back_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = written(tmp_path_factory.mktemp("texts") / "test.csv", [row(1, text=text), row(2)])
    questions = check(read_questions(path), QUESTIONS)
    assert questions["question"].to_list() == [text, "What is 2?"]


def test_quoted_line_ends_commas_and_quotes_stay_in_their_field(tmp_path: Path) -> None:
    text = 'Which is right?\n\n1, 2 or "3"\r\n'
    table = read_table(written(tmp_path / "test.csv", [row(1, text=text), row(2)]), ["QuestionText", "QuestionId"])
    assert table.rows() == [(text, "1"), ("What is 2?", "2")]


@pytest.mark.parametrize(
    "damage",
    {
        "too many fields": lambda text: text.replace("of 2\r", "of 2,more\r"),
        "too few fields": lambda text: text.replace(",right or wrong D of 2", ""),
        "a quote that never closes": lambda text: text.replace("right or wrong D of 2", '"right'),
        "a long file whose header opens a quote": lambda text: '"' + text + "and so on\n" * 20_000,
    }.items(),
    ids=lambda case: case[0],
)
def test_a_broken_row_is_refused_not_mended(tmp_path: Path, damage: tuple[str, Callable[[str], str]]) -> None:
    path = written(tmp_path / "test.csv", [row(1), row(2)])
    path.write_bytes(damage[1](path.read_bytes().decode()).encode())
    with pytest.raises(InputError, match=r"test\.csv"):
        read_questions(path)


def test_labels_for_the_same_question_twice_are_refused(tmp_path: Path) -> None:
    twice = written(tmp_path / "labels.csv", [row(1, labels=["", "3", "", ""])] * 2, LABELLED)
    with pytest.raises(InputError, match=r"labels\.csv, row 2, column QuestionId"):
        read_qrels(twice)


def test_training_leaves_out_what_the_test_asks_by_id_or_by_text(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, test = read_questions(folder / "train.csv"), read_questions(folder / "test.csv")
    kept, qrels = leave_out(train, read_qrels(folder / "train.csv"), test)
    assert kept["question_id"].to_list() == ["1", "3"]
    assert qrels["query_id"].to_list() == ["1_B", "1_C", "3_B", "3_C"]
    assert "2 training questions are the test's too" in caplog.text


def test_the_hash_of_a_question_is_that_of_its_text_without_case_and_spacing(tmp_path: Path) -> None:
    texts = ["What is 2?", " what  IS\n2? ", "What is 3?"]
    hashes = text_hashes(read_questions(written(tmp_path / "test.csv", [row(n, text=each) for n, each in enumerate(texts)])))
    assert hashes[0] == hashes[1] != hashes[2]


def test_kaggles_layout_has_no_truth_and_trains_on_what_the_test_does_not_ask(folder: Path) -> None:
    competition = load(folder, Data())
    assert competition.truth is None
    assert competition.train is not None and competition.train["question_id"].to_list() == ["1", "3"]
    assert competition.test["question_id"].to_list() == ["9", "8", "4"]


def test_a_folder_without_training_file_loads_for_a_bundle(folder: Path) -> None:
    (folder / "train.csv").unlink()
    competition = load(folder, Data())
    assert (competition.train, competition.train_qrels, competition.truth) == (None, None, None)


def test_a_test_file_that_is_a_training_file_brings_its_truth_and_is_not_trained_on(folder: Path) -> None:
    competition = load(folder, Data(test="train.csv"), limit=2)
    assert competition.truth is not None and competition.train is not None and competition.train_qrels is not None
    assert competition.truth.rows() == [("1_B", 3), ("1_C", 1672), ("2_B", 3), ("2_C", 1672)]
    assert competition.train["question_id"].to_list() == ["3", "4"]
    assert competition.train_qrels["query_id"].to_list() == ["3_B", "3_C", "4_B", "4_C"]


def test_a_solution_file_brings_the_truth_of_the_questions_that_are_asked(folder: Path) -> None:
    written(folder / "solution.csv", [row(n, labels=["", "7", "", ""]) for n in (8, 9, 77)], LABELLED)
    truth = load(folder, Data()).truth
    assert truth is not None and sorted(truth.rows()) == [("8_B", 7), ("9_B", 7)]


@pytest.mark.parametrize(("limit", "asked"), [(1, ["9"]), (2, ["9", "8"]), (99, ["9", "8", "4"]), (None, ["9", "8", "4"])])
def test_a_limit_takes_the_first_questions(folder: Path, limit: int | None, asked: list[str]) -> None:
    assert load(folder, Data(), limit).test["question_id"].to_list() == asked


def test_columns_that_nobody_reads_change_nothing(tmp_path: Path) -> None:
    plain = read_questions(written(tmp_path / "plain.csv", [row(1), row(2)]))
    more = [["a note, \N{SNOWMAN}", *row(n, labels=["not", "read", "", ""])] for n in (1, 2)]
    assert read_questions(written(tmp_path / "more.csv", more, ["Note", *LABELLED])).equals(plain)
