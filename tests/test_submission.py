"""A run to Kaggle's CSV and back, and what the check after writing does not let through."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.metrics import CUTOFF
from pipeline.runs import ranked, run
from pipeline.schema import CATALOG
from pipeline.submission import LABELS, ROW, read, rows, validate, write

ASKED = ["20_A", "20_B", "20_D", "3_C", "3_D", "100_A"]
QUERIES = pl.DataFrame({"query_id": ASKED})
IDS = [3 * n + 1 for n in range(40)]  # 1, 4, 7, ...: an id is not a place

# what is wrong: a pattern in a good file, what it becomes, and what is told of it
FAULTS = {
    "a row is missing": (r"3_C,.*\n", "", r"row 4\n.*'3_D' of 5 rows\n.*'3_C' of 6"),
    "the last row is missing": (r"100_A,.*\n", "", r"row 6\n.*'the end' of 5 rows\n.*'100_A' of 6"),
    "a row too many": (r"\Z", f"101_A,{' '.join(map(str, IDS[:25]))}\n", r"row 7\n.*'101_A' of 7 rows\n.*'the end' of 6"),
    "two rows change places": (r"(3_C,.*\n)(3_D,.*\n)", r"\2\1", r"row 4\n.*'3_D'.*\n.*'3_C'"),
    "a row twice": (r"(3_C,.*\n)", r"\1\1", r"row 5\n.*'3_C': the same row again"),
    "24 labels": (r"(3_C,.*) \d+\n", r"\1\n", r"3_C\n.*24 ids\n.*25"),
    "26 labels": (r"(3_C,.*)\n", r"\1 1\n", r"3_C\n.*26 ids\n.*25"),
    "a label twice": (r"3_C,(\d+) (\d+)", r"3_C,\1 \1", r"row 4\n.*'10': an id given twice"),
    "a label twice, written differently": (r"3_C,(\d+) (\d+)", r"3_C,\1 0\1", r"row 4\n.*'010': an id given twice"),
    "a label that the catalogue lacks": (r"3_C,(\d+)", "3_C,5", r"3_C\n.*the id 5\n.*ids of the catalogue"),
    "a label that is no number": (r"3_C,(\d+)", "3_C,x", r"row 4\n.*'x': not a whole number"),
    "a label with a point": (r"3_C,(\d+)", r"3_C,\1.0", r"row 4\n.*'10.0': not a whole number"),
    "two spaces": (r"3_C,(\d+) ", r"3_C,\1  ", r"row 4\n.*'': not a whole number"),
    "no label": (r"3_C,.*\n", "3_C,\n", r"row 4\n.*'': not a whole number"),
    "another column": ("MisconceptionId", "Misconceptions", r"header\n.*Misconceptions"),
}


def catalog(ids: list[int]) -> pl.DataFrame:
    return pl.DataFrame({"label_id": ids, "label": [f"fault {n}" for n in ids]}, schema=CATALOG.columns)


def scored(lists: dict[str, list[int]]) -> pl.DataFrame:
    """A run with each query's labels in the order given."""
    triples = [(query, label, -place) for query, labels in lists.items() for place, label in enumerate(labels)]
    return run(pl.DataFrame(triples, schema=["query_id", "label_id", "score"], orient="row"))


def labels_of(submission: pl.DataFrame) -> dict[str, list[int]]:
    return {row[ROW]: [int(text) for text in row[LABELS].split(" ")] for row in submission.iter_rows(named=True)}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A file that answers `QUERIES` from a catalogue of `IDS`."""
    write(rows(scored({query: IDS[i:] for i, query in enumerate(ASKED)}), QUERIES, catalog(IDS)), tmp_path / "good.csv")
    return tmp_path / "good.csv"


def test_every_query_gets_its_25_best_labels_in_the_queries_order() -> None:
    wanted = {query: IDS[::-1][i : i + 30] for i, query in enumerate(ASKED)}
    submission = rows(scored(dict(reversed(wanted.items()))), QUERIES, catalog(IDS))
    assert submission.columns == [ROW, LABELS]
    assert list(labels_of(submission).items()) == [(query, labels[:CUTOFF]) for query, labels in wanted.items()]


def test_what_a_query_lacks_is_filled_up_with_the_catalogue_by_id_and_nothing_twice() -> None:
    few = {"20_A": [118, 7, 1], "3_C": IDS[5:40]}
    lists = labels_of(rows(scored(few), QUERIES, catalog(IDS[::-1])))
    assert lists["20_A"] == [118, 7, 1, *(n for n in IDS if n not in (118, 7, 1))][:CUTOFF]
    assert lists["100_A"] == IDS[:CUTOFF]
    assert lists["3_C"] == IDS[5:30]


def test_a_small_catalogue_is_given_whole_and_said(caplog: pytest.LogCaptureFixture) -> None:
    lists = labels_of(rows(scored({"3_D": [4]}), QUERIES, catalog([1, 4, 7])))
    assert list(lists) == ASKED
    assert lists["3_D"] == [4, 1, 7] and lists["3_C"] == [1, 4, 7]
    assert "the catalogue holds 3 labels" in caplog.text


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(ASKED), st.lists(st.sampled_from(IDS), unique=True, min_size=1)))
def test_what_is_written_is_valid_and_reads_back_as_the_same_ranking(
    tmp_path_factory: pytest.TempPathFactory, lists: dict[str, list[int]]
) -> None:
    path = tmp_path_factory.mktemp("round") / "submission.csv"
    submission = rows(scored({"20_A": [1], **lists}), QUERIES, catalog(IDS))
    write(submission, path)
    validate(path, QUERIES, catalog(IDS))
    back = ranked(read(path))
    assert {query: back.filter(query_id=query)["label_id"].to_list() for query in ASKED} == labels_of(submission)
    for query, labels in lists.items():
        assert labels_of(submission)[query][: len(labels)] == labels[:CUTOFF]


def test_the_file_is_what_kaggle_reads(good: Path) -> None:
    header, first, *rest = good.read_text(encoding="utf-8").splitlines()
    assert header == "QuestionId_Answer,MisconceptionId"
    assert re.fullmatch(r"20_A,(\d+ ){24}\d+", first) and len(rest) == len(ASKED) - 1


@pytest.mark.parametrize(("pattern", "replacement", "told"), FAULTS.values(), ids=FAULTS)
def test_a_file_that_kaggle_would_not_score_as_meant_is_refused(good: Path, pattern: str, replacement: str, told: str) -> None:
    text, changes = re.subn(pattern, replacement, good.read_text(encoding="utf-8"), count=1)
    assert changes == 1
    good.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"good\.csv, {told}"):
        validate(good, QUERIES, catalog(IDS))


def test_all_of_a_small_catalogue_is_wanted_and_not_less(tmp_path: Path) -> None:
    path = tmp_path / "small.csv"
    write(pl.DataFrame({ROW: ASKED, LABELS: ["4 1 7"] * 5 + ["1 7"]}), path)
    with pytest.raises(InputError, match=r"100_A\n.*2 ids\n.*3"):
        validate(path, QUERIES, catalog([1, 4, 7]))


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    nested = pl.DataFrame({ROW: ASKED, LABELS: [[1]] * 6})  # a CSV has no lists
    with pytest.raises(pl.exceptions.PolarsError):
        write(nested, tmp_path / "none.csv")
    assert list(tmp_path.iterdir()) == []
