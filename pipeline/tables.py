"""Rows as tables for a terminal. It prints nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Column, Table

if TYPE_CHECKING:
    from pipeline.ledger import Entry


def plain(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """The rows as they are, under their keys; fractions to three places, a dash where nothing is known."""
    table = _titled(title, *rows[0])
    for row in rows:
        told = ("–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values())
        table.add_row(*map(escape, told))
    return table


def stages(title: str, scores: Sequence[Mapping[str, Any]]) -> Table:
    """A row a stage: MAP@25, recall@25 and seconds for all labels, MAP@25 for the seen and the unseen ones."""
    by_subset = {subset: [row for row in scores if row["subset"] == subset] for subset in ("all", "seen", "unseen")}
    counts = {subset: rows[0]["queries"] for subset, rows in by_subset.items() if rows}
    heads = [f"MAP@25 {subset}, {count}" for subset, count in counts.items() if subset != "all"]
    title = f"{title}: {counts['all']} wrong answers"
    table = _titled(title, "stage", "MAP@25 [95%]", "recall@25", "@100", "seconds", *heads)
    for row in by_subset["all"]:
        told = {each["subset"]: _with_interval(each) for each in scores if each["stage"] == row["stage"]}
        seconds = f"{row['seconds']:.1f}" + (" (kept)" if row["kept"] else "")
        table.add_row(
            row["stage"], told.pop("all"), f"{row['recall@25']:.3f}", f"{row['recall@100']:.3f}", seconds, *told.values()
        )
    return table


def subsets(title: str, scores: Sequence[Mapping[str, Any]]) -> Table:
    """A row for all labels, for the seen and for the unseen ones: MAP@25 and the recall ladder."""
    ladder = [name for name in scores[0] if name.startswith("recall")]
    table = _titled(title, "labels", "answers", "MAP@25 [95%]", *ladder)
    for row in scores:
        table.add_row(row["subset"], str(row["queries"]), _with_interval(row), *(f"{row[name]:.3f}" for name in ladder))
    return table


def submissions(title: str, entries: Sequence[Entry]) -> Table:
    """A row a submission; a dash where nothing is known. A long name is folded: `eedi ledger score` wants it whole."""
    date, *heads = (Column(head, no_wrap=True) for head in ("date, UTC", "CV [95%]", "CV, unseen labels", "public", "private"))
    table = _titled(title, Column("name", overflow="fold"), date, Column("note", overflow="fold"), *heads)
    for entry in entries:
        cv = (_with_interval(score) if score else "–" for score in (entry.cv, entry.unseen))
        boards = (f"{score:g}" if score is not None else "–" for score in (entry.public, entry.private))
        table.add_row(escape(entry.name), entry.date[:10], escape(entry.note), *cv, *boards)
    return table


def correlations(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """A row a leaderboard: Pearson's and Spearman's correlation with CV."""
    table = _titled(title, "score", "submissions", "Pearson", "Spearman")
    for row in rows:
        told = ("cannot be told" if row[kind] is None else f"{row[kind]:.3f}" for kind in ("pearson", "spearman"))
        table.add_row(row["score"], str(row["submissions"]), *told)
    return table


def _titled(title: str, *heads: str | Column) -> Table:
    return Table(*heads, title=escape(title), title_justify="left", show_edge=False)


def _with_interval(row: Mapping[str, float]) -> str:
    return f"{row['map@25']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
