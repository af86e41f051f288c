"""The verbs of the submissions' ledger."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.options import show

app = typer.Typer()


@app.callback(invoke_without_command=True)
def ledger(context: typer.Context) -> None:
    """Print the submissions with their CV and leaderboard scores, and how CV and leaderboard go together."""
    from pipeline import ledger, tables

    if context.invoked_subcommand:
        return
    entries = ledger.entries()
    show(tables.submissions, "submissions, MAP@25", entries)
    show(tables.correlations, "CV and leaderboard", ledger.correlations(entries))
    if not entries:
        print(f"{ledger.FOLDER}: no submission yet; `eedi submit` writes one")


@app.command("score")
def leaderboard_score(
    name: Annotated[str, typer.Argument(help="The submission, as `eedi ledger` names it.")],
    public: Annotated[float | None, typer.Option(help="The public leaderboard's score.")] = None,
    private: Annotated[float | None, typer.Option(help="The private leaderboard's score.")] = None,
) -> None:
    """Fill in what a leaderboard said of a submission; what is not given stays as it was."""
    from pipeline import ledger

    ledger.score(name, public, private)
    print(f"{ledger.FOLDER / name / ledger.LEADERBOARD}: noted")
