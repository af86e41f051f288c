"""The verbs that say what a machine has, and what it is good for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli.options import ConfigFile, DataFolder, Overrides, show
from pipeline.errors import InputError

if TYPE_CHECKING:
    from pipeline.config import Config

app = typer.Typer()
bench = typer.Typer(help="Time a part of the pipeline against others' ways of doing it.")
app.add_typer(bench, name="bench")


@app.command()
def doctor(
    overrides: Overrides = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    bundle: Annotated[Path | None, typer.Option(help="What `eedi fit` wrote, for its settings.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Estimate memory and time for a test, here and on GPUs.")] = False,
    on: Annotated[str | None, typer.Option(help="For --plan: T4x2, L4x4, H100 or here. Without it: all of them.")] = None,
    questions: Annotated[int, typer.Option(min=1, help="For --plan: of the test.")] = 685,
    hours: Annotated[float, typer.Option(min=0, help="For --plan: that a run may take.")] = 9,
) -> None:
    """Say what this machine has, what each stage would therefore use, and why; or what a config would cost."""
    from pipeline import bundle as bundles
    from pipeline import tables
    from pipeline.config import load
    from pipeline.doctor import examine

    settings = load(config, overrides or [], bundles.load(bundle).config if bundle else None)
    if plan:
        _plan(settings, data, on, questions, hours)
        return
    for title, rows in examine(settings, data).items():
        show(tables.plain, title, [{"what": what, "found": found} for what, found in rows])


def _plan(settings: Config, data: Path | None, on: str | None, questions: int, hours: float) -> None:
    """Print what the config would cost. Exit code 2 where no machine that was asked for can run it."""
    from pipeline import plan, tables
    from pipeline.sample import opened

    machines = plan.machines(on)
    read = plan.readings(settings, opened(settings, data), questions)
    estimates = [plan.estimate(settings, read, machine, hours) for machine in machines]
    show(tables.plain, f"{settings.name}, a test of {questions} questions", [row for rows, _ in estimates for row in rows])
    for machine, (_, fault) in zip(machines, estimates, strict=True):
        print(f"refused: {fault}" if fault else f"{machine.name}: fits")
    if all(fault for _, fault in estimates):
        raise typer.Exit(2)


@bench.command()
def encode(
    overrides: Overrides = None,
    config: ConfigFile = None,
    data: DataFolder = None,
    questions: Annotated[
        int, typer.Option(min=1, help="How many questions of train.csv; the hidden test has about 685.")
    ] = 685,
) -> None:
    """Time the bi-encoder's reading of a test against sentence-transformers' own way, in one run."""
    from pipeline import tables
    from pipeline.bench import encoding
    from pipeline.config import Dense, load
    from pipeline.data import queries_of
    from pipeline.sample import opened

    settings = load(config, overrides or [])
    spec = settings.retrieve.get("dense")
    train = opened(settings, data).train
    if not isinstance(spec, Dense) or train is None:
        raise InputError(
            "eedi bench encode",
            found="no such",
            wanted="a retriever dense and a train.csv",
            remedy="Check --config and --data.",
        )
    show(tables.plain, f"{min(questions, train.height)} questions", encoding(queries_of(train.head(questions)), spec))


@bench.command()
def evaluate(
    file: Annotated[Path, typer.Argument(help="A submission; `eedi data --test 333334` writes one of a million answers.")],
    labels: Annotated[Path, typer.Option(help="The answers, in train.csv's layout.")],
) -> None:
    """Time the scoring of a submission against plain Python and, where it is installed, ranx, in one run."""
    from pipeline import tables
    from pipeline.bench import evaluating

    show(tables.plain, f"{file}", evaluating(file, labels))
