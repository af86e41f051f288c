"""The verbs. The only place that prints; everything heavy is imported inside a verb, so that --help is quick."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from typing import Annotated

import typer

from pipeline.cli import kernel, ledger, machine, submit, train, validate
from pipeline.errors import EngineDied, InputError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From a competition's raw CSVs to a ranked, validated submission.csv.",
)
for verbs in (submit, validate, machine):
    app.add_typer(verbs.app)
app.add_typer(train.app, name="train")
app.add_typer(ledger.app, name="ledger")
app.add_typer(kernel.app, name="kernel")

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
    "ray",
)


@app.callback()
def _settings(
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Also say what the libraries say.")] = False,
) -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO if verbose else logging.WARNING, stream=sys.stderr)
    logging.getLogger("pipeline").setLevel(logging.INFO)
    logging.getLogger("bm25s").setLevel(logging.WARNING)  # it tells every step as a fault
    if not verbose:
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


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
        extra = "'.[ray]'" if error.name == "ray" else "'.[cpu]', or '.[gpu]'"
        fault = InputError(
            "this installation",
            found=f"no package {error.name}",
            wanted="what the models run on",
            remedy=f"Install this project's extra: pip install {extra}. `eedi doctor` says what is here.",
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
