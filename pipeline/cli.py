"""The verbs. The only place that prints; everything heavy is imported inside a verb, so that --help is quick."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import EngineDied, InputError
from pipeline.kernel.cli import app as kernel

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.config import Config

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a competition's raw CSVs to a ranked, validated submission.csv.",
)
training = typer.Typer(no_args_is_help=True, help="Fine-tune a model that the stages use.")
app.add_typer(training, name="train")
submissions = typer.Typer()
app.add_typer(submissions, name="ledger")
app.add_typer(kernel, name="kernel")

STARTED = time.time()  # nothing heavy was loaded yet
WIDTH = 132  # of a table, also where nobody watches
# not of the core install
MODELS = (
    "torch",
    "transformers",
    "sentence_transformers",
    "vllm",
    "gguf",
    "accelerate",
    "filelock",
    "peft",
    "datasets",
    "openai",
)

ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML file of settings; see configs/.")]
DataFolder = Annotated[
    Path | None, typer.Option("--data", help="A folder in Kaggle's layout. Without it: the embedded competition.")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings as key=value, e.g. retrieve.dense.top_k=50", metavar="[KEY=VALUE]...")
]


@app.callback()
def _settings(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also say what the libraries say.")] = False,
) -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO if verbose else logging.WARNING, stream=sys.stderr)
    logging.getLogger("pipeline").setLevel(logging.INFO)
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it tells every step as a fault
    if not verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


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
    budget = budgets.Budget() if deadline is None else budgets.until(deadline, STARTED if since is None else since)
    fitted = bundles.load(bundle) if bundle else None
    settings = load(config, overrides or [], fitted.config if fitted else None)
    folder = ledger.new_name(settings.name)
    path = out or folder.with_name(f"{folder.name}.partial.csv")
    drafts.claim(path)
    competition, store = opened(settings, data, limit), Store()
    if fitted is None:
        flow.refuse_unfittable(competition, settings)
    draft = drafts.Draft(path, queries_of(competition.test), competition.catalog)
    begun = pooled(draft.queries, competition, settings, store)
    draft.better(begun.pool)
    if fitted is None:
        fitted = flow.fit_within(competition, settings, store, budget)
        _show(tables.stages, "out of fold, on training questions", fitted.scores)
    fitted = replace(fitted, config=settings)
    predicted = flow.predict(competition, fitted, store, begun, budget, draft.better)
    _show(tables.stages, "the test's own answers", predicted.scores)
    if out:
        draft.done()
    else:
        path = ledger.enter(predicted, fitted, folder, note, budget.warnings)
        draft.superseded()
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
    _show(tables.stages, "out of fold, on training questions", fitted.scores)
    print(f"{bundle}: fitted on {len(fitted.trained_on)} questions")


@training.command()
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
    _show(tables.subsets, "answers that were held out", scores)
    print(f"{out}: trained")


@training.command()
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
        _show(tables.subsets, f"answers that were held out, {stage}", [row for row in scores if row["stage"] == stage])
    print(f"{out}: trained")


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
    _show(tables.stages, "retrievers, as they are", retrieved(opened(settings, data), settings, fold, Store()))


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
) -> None:
    """Cross-validate the whole chain on train.csv: every stage out of fold, the blend beside its rivals, a study to report."""
    from pipeline import study, tables
    from pipeline.config import load
    from pipeline.cv import cross_validate
    from pipeline.sample import opened
    from pipeline.store import Store, refuse_existing

    refuse_existing(out)
    settings = load(config, overrides or [])
    made = cross_validate(opened(settings, data), settings, Store(), encoders)
    study.write(made, out)
    _show(tables.plain, "folds", made.folds)
    _show(tables.stages, "out of fold", made.scores)
    _show(tables.plain, "MAP@25 by the share of unseen labels", made.shift)
    print(f"{out}: {made.queries.height} answers of {made.queries['question_id'].n_unique()} questions")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="A stored run (parquet) or a submission (CSV).")],
    second: Annotated[Path, typer.Argument(help="Another, over the same questions.")],
    labels: Annotated[Path, typer.Option(help="The answers, in train.csv's layout.")],
) -> None:
    """Compare two runs in pairs: the difference of MAP@25, its interval, and how many answers are better, worse, the same."""
    from pipeline import tables
    from pipeline.evaluation import compare_files

    _show(tables.plain, f"{second} against {first}", [compare_files(first, second, labels)])


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

    _show(tables.subsets, f"{file}", evaluate_file(file, labels, train).to_dicts())


@submissions.callback(invoke_without_command=True)
def ledger(context: typer.Context) -> None:
    """Print the submissions with their CV and leaderboard scores, and how CV and leaderboard go together."""
    from pipeline import ledger, tables

    if context.invoked_subcommand:
        return
    entries = ledger.entries()
    _show(tables.submissions, "submissions, MAP@25", entries)
    _show(tables.correlations, "CV and leaderboard", ledger.correlations(entries))
    if not entries:
        print(f"{ledger.FOLDER}: no submission yet; `eedi submit` writes one")


@submissions.command("score")
def leaderboard_score(
    name: Annotated[str, typer.Argument(help="The submission, as `eedi ledger` names it.")],
    public: Annotated[float | None, typer.Option(help="The public leaderboard's score.")] = None,
    private: Annotated[float | None, typer.Option(help="The private leaderboard's score.")] = None,
) -> None:
    """Fill in what a leaderboard said of a submission; what is not given stays as it was."""
    from pipeline import ledger

    ledger.score(name, public, private)
    print(f"{ledger.FOLDER / name / ledger.LEADERBOARD}: noted")


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
        _show(tables.plain, title, [{"what": what, "found": found} for what, found in rows])


def _plan(settings: Config, data: Path | None, on: str | None, questions: int, hours: float) -> None:
    """Print what the config would cost. Exit code 2 where no machine that was asked for can run it."""
    from pipeline import plan, tables
    from pipeline.sample import opened

    machines = plan.machines(on)
    read = plan.readings(settings, opened(settings, data), questions)
    estimates = [plan.estimate(settings, read, machine, hours) for machine in machines]
    _show(tables.plain, f"{settings.name}, a test of {questions} questions", [row for rows, _ in estimates for row in rows])
    for machine, (_, fault) in zip(machines, estimates, strict=True):
        print(f"refused: {fault}" if fault else f"{machine.name}: fits")
    if all(fault for _, fault in estimates):
        raise typer.Exit(2)


@app.command()
def bench(
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
            "eedi bench", found="no such", wanted="a retriever dense and a train.csv", remedy="Check --config and --data."
        )
    _show(tables.plain, f"{min(questions, train.height)} questions", encoding(queries_of(train.head(questions)), spec))


def _show(table: Callable[[str, Any], Table], title: str, rows: Sequence[Any]) -> None:
    """Print rows as one of `tables` has them; nothing where there are none."""
    from rich.console import Console

    if rows:
        Console(width=WIDTH).print(table(title, rows), "")


def main() -> None:
    """Run the command; what the user can mend ends with one message and exit code 2."""
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except EngineDied as error:
        print(f"error: {error}\nWhat was scored before is kept: the same command goes on from there.", file=sys.stderr)
        sys.exit(1)
    except ModuleNotFoundError as error:
        if error.name not in MODELS:
            raise
        fault = InputError(
            "this installation",
            found=f"no package {error.name}",
            wanted="what the models run on",
            remedy="Install this project's extra: pip install '.[cpu]', or '.[gpu]'. `eedi doctor` says what is here.",
        )
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        told = re.search(r"\(os error (\d+)\)", str(error))  # polars sets no errno
        number = error.errno or (int(told[1]) if told else None)
        if number not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
            raise
        fault = InputError(
            error.filename or "the disk",
            found=os.strerror(number or 0),
            wanted="room to write",
            remedy="Free space, or write elsewhere (--out, $EEDI_CACHE); nothing half-written was left.",
        )
        print(f"error: {fault}", file=sys.stderr)
        sys.exit(2)
