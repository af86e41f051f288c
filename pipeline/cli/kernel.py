"""The verbs of the Kaggle kernel: build it, check it, rehearse it, and check what it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Make what a bundle needs to run in an offline Kaggle notebook.")


@app.command()
def build(
    bundle: Annotated[Path, typer.Option(help="What `eedi fit` wrote.")],
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
    settings: Annotated[Path | None, typer.Option(help="A YAML file; without it, kaggle_kernel/kernel.yaml.")] = None,
) -> None:
    """Write everything to upload: the wheel and the bundle, the adapters, the notebook, and Kaggle's metadata for each."""
    from pipeline.kernel import settings as settings_of
    from pipeline.kernel.build import build
    from pipeline.kernel.built import size, uploads

    build(bundle, settings_of.load(settings or settings_of.FILE), out)
    for upload, paths in uploads(out).items():
        for path in paths:
            print(f"{size([path]) / 2**20:10.2f} MiB  {out / upload / path.name}")
        print(f"{size(paths) / 2**20:10.2f} MiB  {out / upload} in all")


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="What `eedi kernel build` wrote.")],
    wheelhouse: Annotated[Path | None, typer.Option(help="Its wheels' folder, to be looked through as well.")] = None,
) -> None:
    """Say whether Kaggle would take the kernel and run it offline, rule by rule; nothing is asked of Kaggle."""
    from pipeline.kernel.check import READABLE, check, doubts

    found = check(folder, wheelhouse)
    doubted = {} if found[READABLE] else doubts(folder)
    for word, rules in (("FAULT", found), ("DOUBT", doubted)):
        for rule, faults in rules.items():
            print(f"{word if faults else 'ok':5}  {rule}")
    for word, rules in (("error", found), ("warning", doubted)):
        for fault in (fault for faults in rules.values() for fault in faults):
            print(f"{word}: {fault}")
    if any(found.values()):
        raise typer.Exit(2)


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="What `eedi kernel build` or `eedi kernel wheels` wrote.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say each call; no account is needed.")] = False,
    notes: Annotated[str, typer.Option(help="Of the dataset's and the adapters' versions.")] = "",
    submit: Annotated[str | None, typer.Option(metavar="MESSAGE", help="Submit the output, with this message.")] = None,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave adapters alone whose version is on Kaggle already.")
    ] = False,
) -> None:
    """Upload it all to Kaggle, run the notebook there, follow its log, fetch its output, and submit that if told to."""
    from pipeline.kernel.account import Account, NewAccount
    from pipeline.kernel.push import push
    from pipeline.kernel.uploads import read

    uploads = read(folder)
    if dry_run:
        push(NewAccount(print, uploads.earlier), uploads, notes=notes, message=submit)
        return
    kaggle = Account()
    output = push(kaggle, uploads, user=kaggle.user, notes=notes, message=submit, skip_existing=skip_existing)
    print(f"the notebook's output is in {output}" if output else "uploaded, and processed by Kaggle")


@app.command()
def wheels(
    out: Annotated[Path, typer.Option(help="The folder to write; it must not exist.")],
    notebook: Annotated[
        bool, typer.Option("--notebook", help="Write a notebook that does it on Kaggle's own image, with internet.")
    ] = False,
    lock: Annotated[Path | None, typer.Option(help="Exact versions. Without it: kaggle_kernel/wheels.txt.")] = None,
    settings: Annotated[Path | None, typer.Option(help="A YAML file; without it, kaggle_kernel/kernel.yaml.")] = None,
) -> None:
    """Download the wheels that the offline notebook installs for vLLM, several gigabytes, for Kaggle's Python and platform."""
    from pipeline.kernel import settings as settings_of
    from pipeline.kernel.built import size
    from pipeline.kernel.wheels import LOCK, download, draw_up

    make = draw_up if notebook else download
    make(settings_of.load(settings or settings_of.FILE), lock or LOCK, out)
    (written,) = out.iterdir()
    print(f"{size(list(written.iterdir())) / 2**20:10.2f} MiB  {written} in all")


@app.command()
def install(to: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")]) -> None:
    """Install the wheels that Kaggle has mounted into a folder, which $EEDI_ENGINE_PATH shows to vLLM's process alone."""
    from pipeline.kernel import inputs
    from pipeline.kernel.wheels import install

    install(inputs.wheelhouse(), to)


@app.command()
def rehearse(
    folder: Annotated[
        Path | None, typer.Argument(help="What `eedi kernel build` wrote. Without it: the default bundle's, built now.")
    ] = None,
    settings: Annotated[
        Path | None, typer.Option(help="That it was built with. Without it: kaggle_kernel/kernel.yaml.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A folder in Kaggle's layout. Without it: the embedded competition.")
    ] = None,
    wheelhouse: Annotated[
        Path | None, typer.Option(help="Its wheels' folder, from which the notebook installs; they must fit this Python.")
    ] = None,
    hidden: Annotated[bool, typer.Option("--hidden", help="Rehearse the rerun on a hidden test as well.")] = False,
    questions: Annotated[int, typer.Option(min=1, help="Of the hidden test.")] = 685,
    hours: Annotated[float, typer.Option(min=0, help="That Kaggle lets a notebook run.")] = 9,
) -> None:
    """Run the notebook as Kaggle does, on the visible test and on a hidden one, and say how that went, stage by stage."""
    import tempfile

    from rich.console import Console

    from pipeline import tables
    from pipeline.kernel import rehearse
    from pipeline.kernel import settings as settings_of
    from pipeline.kernel.built import read

    chosen = settings_of.load(settings or settings_of.FILE)
    with tempfile.TemporaryDirectory(prefix="eedi-") as temporary:
        built = read(folder or rehearse.default(Path(temporary) / "default", chosen))
        tests = rehearse.tests(Path(temporary), data, questions if hidden else None)
        ahead = rehearse.forecast(built, chosen, next(iter(tests)), questions, hours)
        outcomes = rehearse.rehearse_all(built, chosen, tests, hours, wheelhouse)
    for outcome in outcomes:
        if outcome.bad:
            print(f"{outcome.play}, the end of its log:", *outcome.log.splitlines()[-20:], sep="\n  ")
    rows = [row for outcome in outcomes for row in rehearse.rows(outcome, ahead)]
    Console(width=132).print(tables.plain(f"rehearsed {rehearse.manner()}", rows))
    if ahead.fault or any(outcome.bad for outcome in outcomes):
        raise typer.Exit(1)


@app.command()
def validate(
    file: Annotated[Path, typer.Argument(help="A submission.")],
    data: Annotated[Path, typer.Option(help="A folder in Kaggle's layout, with the test that it answers.")],
) -> None:
    """Check that a submission answers every row of the test, in order, with 25 distinct ids of the catalogue."""
    from pipeline import submission
    from pipeline.config import Data
    from pipeline.data import queries_of, read_catalog, read_questions

    names = Data()
    queries = queries_of(read_questions(data / names.test))
    submission.validate(file, queries, read_catalog(data / names.catalog))
    print(f"{file}: {queries.height} rows, valid")
