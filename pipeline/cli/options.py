"""What many verbs take, and how all of them show a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

WIDTH = 132  # of a table, also where nobody watches

ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML file of settings; see configs/.")]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="A folder in Kaggle's layout. Without it: the embedded competition.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings as key=value, e.g. retrieve.dense.top_k=50", metavar="[KEY=VALUE]...")
]


def show(table: Callable[[str, Any], Table], title: str, rows: Sequence[Any]) -> None:
    """Print rows as one of `tables` has them; nothing where there are none."""
    from rich.console import Console

    if rows:
        Console(width=WIDTH).print(table(title, rows), "")
