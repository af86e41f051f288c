"""The verbs that say what a ranking is worth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import ConfigFile, DataFolder, Overrides, show

app = typer.Typer()


@app.command()
def retrieve(
    overrides: Overrides = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    fold: Annotated[int | None, typer.Option(help="Of this fold's questions alone. Without it: each fold's.")] = None,
) -> None:
    """Score every retriever of the config, as it is, on train.csv's labelled answers, fold by fold."""
    from pipeline import tables
    from pipeline.config import load
    from pipeline.flow import retrieved
    from pipeline.sample import opened
    from pipeline.store import Store

    settings = load(config, overrides or [])
    show(tables.stages, "retrievers, as they are", retrieved(opened(settings, data), settings, fold, Store()))


@app.command()
def rerank(
    overrides: Overrides = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    fold: Annotated[int | None, typer.Option(help="Of this fold's questions alone. Without it: each fold's.")] = None,
    questions: Annotated[int, typer.Option(min=1, help="How many of them, drawn by fit.seed.")] = 60,
    naive: Annotated[
        int, typer.Option(min=0, help="Ask so many answers by plain transformers too: a prompt at a time, in float32.")
    ] = 0,
) -> None:
    """Compare the config's judges, as they are, on labelled answers of train.csv: what they gain, and what they cost."""
    from pipeline import tables
    from pipeline.config import load
    from pipeline.judging import judged
    from pipeline.sample import opened
    from pipeline.store import Store

    settings = load(config, overrides or [])
    made = judged(opened(settings, data), settings, fold, questions, naive, Store())
    show(tables.stages, "judges, as they are", made.scores)
    show(tables.plain, "MAP@25 against the retrievers'", made.gains)
    show(tables.plain, "what they cost", made.costs)


@app.command()
def cv(
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
    overrides: Overrides = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    encoders: Annotated[
        Path | None,
        typer.Option(help="Train the config's retriever for each fold, in this folder; a killed command goes on from it."),
    ] = None,
    judges: Annotated[Path | None, typer.Option(help="The same for the config's judge.")] = None,
) -> None:
    """Cross-validate the whole chain on train.csv: every stage out of fold, the blend beside its rivals, a study to report."""
    from pipeline import study, tables
    from pipeline.config import load
    from pipeline.cv import cross_validate
    from pipeline.sample import opened
    from pipeline.store import Store, refuse_existing

    refuse_existing(out)
    settings = load(config, overrides or [])
    made = cross_validate(opened(settings, data), settings, Store(), encoders, judges)
    study.write(made, out)
    show(tables.plain, "folds", made.folds)
    show(tables.stages, "out of fold", made.scores)
    show(tables.plain, "MAP@25 by the share of unseen labels", made.shift)
    print(f"{out}: {made.queries.height} answers of {made.queries['question_id'].n_unique()} questions")


@app.command()
def foretell(
    overrides: Overrides = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    parts: Annotated[int, typer.Option(min=2, help="Into how many parts train.csv is dealt.")] = 5,
    unseen: Annotated[
        float, typer.Option(min=0, max=0.9, help="The share of labels in each part that the others do not show.")
    ] = 0.74,
) -> None:
    """Put each part of train.csv aside in turn: what cross-validation of the others foretells of it, and what it scores."""
    from pipeline import tables
    from pipeline.config import load
    from pipeline.foretell import foretold
    from pipeline.sample import opened
    from pipeline.store import Store

    settings = load(config, overrides or [])
    show(tables.plain, "MAP@25 of what was put aside", foretold(opened(settings, data), settings, parts, unseen, Store()))


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A stored run (parquet) or a submission (CSV).")],
    second: Annotated[Path, typer.Argument(help="Another, over the same questions.")],
    labels: Annotated[Path, typer.Option(help="The answers, in train.csv's layout.")],
) -> None:
    """Compare two runs in pairs: the difference of MAP@25, its interval, and how many answers are better, worse, the same."""
    from pipeline import tables
    from pipeline.evaluation import compare_files

    show(tables.plain, f"{second} against {first}", [compare_files(first, second, labels)])


@app.command()
def evaluate(
    file: Annotated[Path, typer.Argument(help="A submission (CSV) or a stored run (parquet).")],
    labels: Annotated[Path, typer.Option(help="The answers, in train.csv's layout.")],
    train: Annotated[
        Path | None, typer.Option(help="What training showed, for seen and unseen. Default: train.csv beside the labels.")
    ] = None,
) -> None:
    """Score a submission or a run: MAP@25 as Kaggle computes it, the recall ladder, for all, seen and unseen labels."""
    from pipeline import tables
    from pipeline.evaluation import evaluate_file

    show(tables.subsets, f"{file}", evaluate_file(file, labels, train).to_dicts())


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders that hold a study; the others are compared with the first.")],
    out: Annotated[
        Path | None, typer.Option(help="The page to write; it must not exist. Default: the first RUN's path and .html.")
    ] = None,
) -> None:
    """Write one HTML page that shows what every stage made of the queries, and lets one look at each."""
    from pipeline.report import build
    from pipeline.store import refuse_existing, replacing
    from pipeline.study import read

    page = out or Path(f"{runs[0]}.html")
    refuse_existing(page)
    names = [run.name for run in runs]
    studies = {run.name if names.count(run.name) == 1 else str(run): read(run) for run in runs}
    with replacing(page) as file:
        file.write(build(studies).encode())
    print(f"{page}: open it in a browser")
