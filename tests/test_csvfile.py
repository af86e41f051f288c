"""A CSV read in blocks: the same table and the same places of its faults, wherever a block ends."""

from __future__ import annotations

import csv
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pipeline import csvfile
from pipeline.csvfile import read_blocks, read_table
from pipeline.errors import InputError

NAMES = ["id", "text", "note"]
TEXTS = st.text(st.sampled_from('a ,"\n\r\t\u00e9'), max_size=6)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of two rows."""
    monkeypatch.setattr(csvfile, "BLOCK", 2)


@settings(deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), max_size=7))
def test_blocks_make_up_what_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]) -> None:
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([NAMES, *rows])
    wanted = pl.DataFrame(rows, schema=dict.fromkeys(NAMES, pl.String()), orient="row").select("note", "id")
    assert_frame_equal(read_table(path, ["note", "id"]), wanted)
    assert max(block.height for block in read_blocks(path, ["id"])) <= 2


@pytest.mark.parametrize(
    ("text", "told"),
    {
        "a row too short": (b"id,text\n1,a\n2,b\n\n3,c\n4\n5,e\n", r"row 4\n.*1 fields"),
        "a row too long": (b"id,text\n1,a\n2,b\n3,c,d\n", r"row 3\n.*3 fields"),
        "a byte that is no UTF-8": (b"id,text\n" + b"1,a\n" * 9000 + b"2,\xff\n", r"line 9002\n.*0xff"),
        "a quote that is not closed": (b'id,text\n1,a\n2,b\n3,"c\n', r"\n.*\n.*quote closed"),
    }.values(),
    ids=lambda case: None,
)
def test_a_fault_has_its_place_beyond_the_first_block(tmp_path: Path, text: bytes, told: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(text)
    with pytest.raises(InputError, match=rf"table\.csv(, )?{told}"):
        read_table(path, ["id"])
