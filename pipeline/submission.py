"""A run to Kaggle's CSV and back, and the check that Kaggle would accept it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from pipeline.csvfile import read_blocks
from pipeline.errors import InputError
from pipeline.metrics import CUTOFF
from pipeline.runs import ranked, run, stack
from pipeline.store import replacing

log = logging.getLogger(__name__)

ROW, LABELS = "QuestionId_Answer", "MisconceptionId"


def rows(a_run: pl.DataFrame, queries: pl.DataFrame, catalog: pl.DataFrame) -> pl.DataFrame:
    """The submission: one row a query in the queries' order, its 25 best labels as ids with a space between.

    A query with fewer candidates is filled up with the catalogue in the order of its ids; a catalogue of fewer than 25 is
    given whole, and said.
    """
    if catalog.height < CUTOFF:
        log.warning("the catalogue holds %d labels: all of them are given for every answer", catalog.height)
    filler = queries.select("query_id").join(catalog.sort("label_id").head(2 * CUTOFF).select("label_id"), how="cross")
    full = stack(a_run, run(filler.with_columns(score=-pl.col("label_id"))))
    lists = (
        ranked(full)
        .filter(pl.col("rank") <= CUTOFF)
        .group_by("query_id", maintain_order=True)
        .agg(pl.col("label_id").cast(pl.String).str.join(" ").alias(LABELS))
    )
    return queries.select(pl.col("query_id").alias(ROW)).join(
        lists.rename({"query_id": ROW}), on=ROW, how="left", maintain_order="left"
    )


def write(submission: pl.DataFrame, path: Path) -> None:
    """Write the CSV under a temporary name and rename it."""
    with replacing(path) as file:
        submission.write_csv(file)


def ranks(path: Path) -> Iterator[pl.DataFrame]:
    """What a submission says, in blocks of rows, so that memory does not grow by its ids: query_id, label_id, rank from 1.

    Raises `InputError` for what is no submission.
    """
    names, last = [], 0
    for block in read_blocks(path, [ROW, LABELS]):
        lists = block.select(query_id=ROW, text=pl.col(LABELS).str.split(" ")).with_row_index("row", offset=last + 1)
        lists = lists.with_columns(
            label_id=pl.col("text").cast(pl.List(pl.Int32), strict=False),
            rank=pl.int_ranges(1, pl.col("text").list.len() + 1, dtype=pl.Int32),
        )
        distinct = pl.col("label_id").list.drop_nulls().list.n_unique()
        bad = lists.filter(distinct < pl.col("text").list.len()).head(1).explode("text", "label_id", "rank")
        _refuse(path, bad.filter(pl.col("label_id").is_null()), "not a whole number")
        _refuse(path, bad.filter(~pl.col("label_id").is_first_distinct()), "an id given twice")
        names.append(lists.select("row", text="query_id"))
        last += block.height
        yield lists.select("query_id", "label_id", "rank").explode("label_id", "rank")
    _refuse(path, pl.concat(names).filter(~pl.col("text").is_first_distinct()), "the same row again")


def _refuse(path: Path, bad: pl.DataFrame, fault: str) -> None:
    """Raise for the first row of `bad`: row, text."""
    if bad.height:
        raise InputError(
            f"{path}, row {bad['row'][0]}",
            found=f"{bad['text'][0]!r}: {fault}",
            wanted="up to 25 distinct ids with one space between",
            remedy="Repair the row.",
        )


def read(path: Path) -> pl.DataFrame:
    """A submission as a run: scores are minus the ranks. Raises `InputError` for what is not one."""
    return run(pl.concat(ranks(path)).with_columns(score=-pl.col("rank")))


def validate(path: Path, queries: pl.DataFrame, catalog: pl.DataFrame) -> None:
    """Raise `InputError` unless the file answers every query, in order, with 25 (or all) distinct ids of the catalogue."""
    pairs = pl.concat(ranks(path))
    wanted = min(CUTOFF, catalog.height)
    asked, given = queries["query_id"].to_list(), pairs["query_id"].unique(maintain_order=True).to_list()
    sizes = pairs.group_by("query_id").len().filter(pl.col("len") != wanted)
    foreign = pairs.join(catalog, on="label_id", how="anti")
    remedy = "Make the submission again; if it comes back, report it."
    if asked != given:
        at = next((i for i, (a, b) in enumerate(zip(asked, given, strict=False)) if a != b), min(len(asked), len(given)))
        raise InputError(
            f"{path}, row {at + 1}",
            found=f"{given[at] if at < len(given) else 'the end'!r} of {len(given)} rows",
            wanted=f"{asked[at] if at < len(asked) else 'the end'!r} of {len(asked)}",
            remedy=remedy,
        )
    if sizes.height:
        raise InputError(f"{path}, {sizes['query_id'][0]}", found=f"{sizes['len'][0]} ids", wanted=f"{wanted}", remedy=remedy)
    if foreign.height:
        raise InputError(
            f"{path}, {foreign['query_id'][0]}",
            found=f"the id {foreign['label_id'][0]}",
            wanted="ids of the catalogue",
            remedy=remedy,
        )
