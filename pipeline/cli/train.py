"""The verbs that train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, DataFolder, Overrides, show
from pipeline.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Fine-tune a model that the stages use.")


@app.command()
def encoder(
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
    overrides: Overrides = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    fold: Annotated[
        str | None, typer.Option(help="Hold out this fold, or each in turn: all. Without it: learn everything.")
    ] = None,
) -> None:
    """Fine-tune the bi-encoder by the config's recipe; a killed training goes on when the command is repeated."""
    from pipeline import tables
    from pipeline.config import load
    from pipeline.sample import opened
    from pipeline.train.encoder import train, train_folds

    settings = load(config, overrides or [])
    competition = opened(settings, data)
    if fold == "all":
        scores = train_folds(competition, settings, out)
    elif fold is None or fold.isdecimal():
        scores = train(competition, settings, None if fold is None else int(fold), out)
    else:
        raise InputError("--fold", found=fold, wanted="a fold's number, or all", remedy="Folds count from 0.")
    show(tables.subsets, "answers that were held out", scores)
    print(f"{out}: trained")


@app.command()
def judge(
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
    overrides: Overrides = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    fold: Annotated[int | None, typer.Option(help="Hold out this fold. Without it: learn everything.")] = None,
) -> None:
    """Fine-tune the pointwise judge by the config's recipe; a killed training goes on when the command is repeated."""
    from pipeline import tables
    from pipeline.config import load
    from pipeline.sample import opened
    from pipeline.train.judge import train

    settings = load(config, overrides or [])
    scores = train(opened(settings, data), settings, fold, out)
    for stage in dict.fromkeys(row["stage"] for row in scores):
        show(tables.subsets, f"answers that were held out, {stage}", [row for row in scores if row["stage"] == stage])
    print(f"{out}: trained")
