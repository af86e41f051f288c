"""The verbs that train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import ConfigFile, DataFolder, Overrides, show
from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.models.encoder import Kind

ALL = "all"
Fold = Annotated[str | None, typer.Option(help=f"Hold out this fold, or each in turn: {ALL}. Without it: learn everything.")]

app = typer.Typer(no_args_is_help=True, help="Fine-tune a model that the stages use.")


@app.command()
def encoder(
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
    overrides: Overrides = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    fold: Fold = None,
) -> None:
    """Fine-tune the bi-encoder by the config's recipe; a killed training goes on when the command is repeated."""
    from pipeline import tables
    from pipeline.config import load
    from pipeline.sample import opened
    from pipeline.train.each_fold import each_fold
    from pipeline.train.encoder import train

    settings, number = load(config, overrides or []), _number(fold)
    competition = opened(settings, data)
    scores = each_fold(train, competition, settings, out) if fold == ALL else train(competition, settings, number, out)
    show(tables.subsets, "answers that were held out", scores)
    print(f"{out}: trained")


@app.command()
def vectors(
    stage: Annotated[str, typer.Argument(help="A retriever of the config, with an adapter that is a folder.")],
    overrides: Overrides = None,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Put the vectors of a retriever's labels and examples beside its adapter, so that nobody has to read them anew."""
    from pipeline.config import Dense, load
    from pipeline.models import sources
    from pipeline.models import vectors as kept
    from pipeline.models.encoder import KeptEncoder
    from pipeline.retrieve.dense import label_texts, query_texts
    from pipeline.sample import opened
    from pipeline.scoring import examples_of
    from pipeline.store import Store

    settings = load(config, overrides or [])
    spec = settings.retrieve.get(stage)
    if not isinstance(spec, Dense) or not spec.adapter:
        raise InputError(
            f"retrieve.{stage}", found="no adapter", wanted="a bi-encoder with one", remedy=f"Set retrieve.{stage}.adapter."
        )
    competition, encoder = opened(settings, data), KeptEncoder(spec, Store())
    told = query_texts(examples_of(competition, spec), spec)
    texts: dict[Kind, list[str]] = {"label": label_texts(competition.catalog, spec), "query": told}
    made = {kind: (each, encoder.encode(each, kind)) for kind, each in texts.items() if each}
    file = kept.write(sources.resolve(spec.adapter), spec, made)
    print(f"{file}: {sum(map(len, texts.values()))} vectors, {file.stat().st_size / 1e6:.1f} MB")


@app.command()
def judge(
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
    overrides: Overrides = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    fold: Fold = None,
) -> None:
    """Fine-tune the pointwise judge by the config's recipe; a killed training goes on when the command is repeated."""
    from pipeline import tables
    from pipeline.config import load
    from pipeline.sample import opened
    from pipeline.train.each_fold import each_fold
    from pipeline.train.judge import train

    settings, number = load(config, overrides or []), _number(fold)
    competition = opened(settings, data)
    scores = each_fold(train, competition, settings, out) if fold == ALL else train(competition, settings, number, out)
    for stage in dict.fromkeys(row.get("stage", "judge") for row in scores):
        part = [row for row in scores if row.get("stage", stage) == stage]
        show(tables.subsets, f"answers that were held out, {stage}", part)
    print(f"{out}: trained")


def _number(fold: str | None) -> int | None:
    if fold is None or fold == ALL:
        return None
    if fold.isdecimal():
        return int(fold)
    raise InputError("--fold", found=fold, wanted=f"a fold's number, or {ALL}", remedy="Folds count from 0.")
