"""The verbs that fit and submit."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import ConfigFile, DataFolder, Overrides, show
from pipeline.errors import InputError

if TYPE_CHECKING:
    import polars as pl

app = typer.Typer()
STARTED = time.time()  # nothing heavy was loaded yet


@app.command()
def submit(
    overrides: Overrides = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    bundle: Annotated[Path | None, typer.Option(help="What `eedi fit` wrote. Without it: fit first, on train.csv.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Take the test's first N questions.")] = None,
    out: Annotated[Path | None, typer.Option(help="The CSV. Without it: submissions/<run name>/submission.csv.")] = None,
    note: Annotated[str, typer.Option(help="What was tried, for the ledger.")] = "",
    deadline: Annotated[
        str | None, typer.Option(help="Be done by then: 2h, 90m, 45s from the start, or 14:30. The judge takes what fits.")
    ] = None,
    since: Annotated[
        float | None,
        typer.Option(help="When a deadline's hours began, in seconds since 1970. Without it: with this command."),
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Leave out whatever fails, and say so, as long as there is a CSV.")
    ] = False,
) -> None:
    """Rank the catalogue for every wrong answer of the test and write the validated CSV."""
    from dataclasses import replace

    from pipeline import budget as budgets
    from pipeline import bundle as bundles
    from pipeline import draft as drafts
    from pipeline import flow, ledger, tables
    from pipeline.config import load
    from pipeline.data import queries_of
    from pipeline.sample import opened
    from pipeline.scoring import pooled
    from pipeline.store import Store

    if bundle and config:
        raise InputError(
            "--config with --bundle",
            found="both",
            wanted="one: a bundle has its own settings",
            remedy="Change single ones with key=value.",
        )
    if note and out:
        raise InputError(
            "--note with --out", found="both", wanted="one: a CSV alone is not in the ledger", remedy="Drop one of them."
        )
    if since is not None and deadline is None:
        raise InputError("--since", found="no --deadline", wanted="one, which it says the start of", remedy="Give both.")
    budget = budgets.Budget(keep_going=keep_going)
    if deadline is not None:
        budget = budgets.until(deadline, STARTED if since is None else since, keep_going=keep_going)
    fitted = bundles.load(bundle) if bundle else None
    settings = load(config, overrides or [], fitted.config if fitted else None)
    folder = ledger.new_name(settings.name)
    path = out or folder.with_name(f"{folder.name}.partial.csv")
    drafts.claim(path)
    competition, store = opened(settings, data, limit), Store()
    if fitted is None:
        flow.refuse_unfittable(competition, settings)
    draft = drafts.Draft(path, queries_of(competition.test), competition.catalog)

    def better(ranking: pl.DataFrame) -> None:
        try:
            draft.better(ranking)
        except OSError as error:
            if not path.is_file():
                raise
            budget.warn(f"{path} stays as it was: {budget.lose(path.name, error)}")

    begun = pooled(draft.queries, competition, settings, store, None, budget, better, flow.told_to(competition))
    if fitted is None:
        fitted = flow.fit_within(competition, settings, store, budget)
        show(tables.stages, "out of fold, on training questions", fitted.scores)
    fitted = replace(fitted, config=settings)
    predicted = flow.predict(competition, fitted, store, begun, budget, better)
    show(tables.stages, "the test's own answers", predicted.scores)
    if out:
        draft.done()
    else:
        path = ledger.enter(predicted, fitted, folder, note, budget.warnings)
        draft.superseded()
    for stage, why in budget.lost.items():
        print(f"lost: {stage}: {why}")
    print(f"{path}: {predicted.submission.height} rows, validated")


@app.command()
def fit(
    bundle: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
    overrides: Overrides = None,
    config: ConfigFile = None,
    data: DataFolder = None,
) -> None:
    """Fit what the config says on train.csv and write the bundle that `submit` reads."""
    from pipeline import bundle as bundles
    from pipeline import flow, tables
    from pipeline.config import load
    from pipeline.sample import opened
    from pipeline.store import Store, refuse_existing

    refuse_existing(bundle)
    settings = load(config, overrides or [])
    fitted = flow.fit(opened(settings, data), settings, Store())
    bundles.save(fitted, bundle)
    show(tables.stages, "out of fold, on training questions", fitted.scores)
    print(f"{bundle}: fitted on {len(fitted.trained_on)} questions")


@app.command()
def data(
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
    train: Annotated[int | None, typer.Option(min=1, help="Training questions.")] = None,
    test: Annotated[int | None, typer.Option(min=1, help="Test questions.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed, another competition.")] = None,
    unseen: Annotated[float | None, typer.Option(min=0, max=1, help="Share of the test's labels that train lacks.")] = None,
) -> None:
    """Write the embedded competition as Kaggle-style CSVs; without options, the one that `submit` runs on."""
    from pipeline.config import Sample
    from pipeline.sample.competition import write
    from pipeline.store import new_folder

    given = {"train": train, "test": test, "seed": seed, "unseen": unseen}
    with new_folder(out) as folder:
        write(folder, Sample(**{name: value for name, value in given.items() if value is not None}))
    print(f"{out}: " + ", ".join(sorted(path.name for path in out.iterdir())))
