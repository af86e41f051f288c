"""A CSV as strings, in blocks of rows, and every fault with its place. It knows no competition's names."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import polars as pl

from pipeline.errors import InputError

BLOCK = 20_000  # rows that are read at a time


def read_blocks(path: Path, wanted: list[str]) -> Iterator[pl.DataFrame]:
    """`read_table`, in blocks of rows, so that memory does not grow with the file; the first has none."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            rows = csv.reader(lines, strict=True)
            header = next(rows, [])
            _check_header(path, header, wanted)
            places, last = [header.index(name) for name in wanted], 0
            yield pl.DataFrame(schema=dict.fromkeys(wanted, pl.String()))
            filled = filter(None, rows)  # an empty line is no row
            while block := list(islice(filled, BLOCK)):
                for number, row in enumerate(block, last + 1):
                    if len(row) != len(header):
                        raise InputError(
                            f"{path}, row {number}",
                            found=f"{len(row)} fields",
                            wanted=f"rows of {len(header)} fields, texts with commas or line ends in double quotes",
                            remedy="Repair the quoting of the row, or fetch the file again.",
                        )
                last += len(block)
                columns = list(zip(*block, strict=True))
                yield pl.DataFrame([pl.Series(name, columns[place]) for name, place in zip(wanted, places, strict=True)])
    except OSError as error:
        raise InputError(
            path, found=error.strerror or str(error), wanted="a CSV file in Kaggle's layout", remedy="Check the path."
        ) from None
    except UnicodeDecodeError:
        _refuse_bytes(path)
        raise
    except csv.Error as error:
        raise InputError(path, found=str(error), wanted="each text's quote closed", remedy="Repair the quoting.") from None


def read_table(path: Path, wanted: list[str]) -> pl.DataFrame:
    """The columns `wanted` of a CSV, all as strings, empty where nothing stands.

    Raises `InputError` for a missing file, bytes that are not UTF-8, a missing or doubled column, a broken row.
    """
    return pl.concat(read_blocks(path, wanted))


def _check_header(path: Path, header: list[str], wanted: list[str]) -> None:
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(
            f"{path}, header", found=f"{twice} more than once", wanted="each column once", remedy="Remove the copy."
        )
    if missing := [name for name in wanted if name not in header]:
        near = {name: difflib.get_close_matches(name, header, 1) for name in missing}
        hint = "; ".join(f"is {found[0]!r} meant to be {name!r}?" for name, found in near.items() if found)
        raise InputError(
            f"{path}, header",
            found=f"columns {header}",
            wanted=f"{missing} as well",
            remedy=f"Rename the column: {hint}" if hint else "Take the file as the competition gives it.",
        )


def _refuse_bytes(path: Path) -> None:
    """Raise for the first line that is not UTF-8; a decoder that reads ahead does not know its number."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}, line {number}",
                    found=f"the byte 0x{line[error.start]:02x}, which is not UTF-8",
                    wanted="UTF-8 text",
                    remedy="Save the file as UTF-8 (iconv -f latin1 -t utf-8, if it came from an older program).",
                ) from None
