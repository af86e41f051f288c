"""The CSV that is there from early on: valid from the first ranking, then replaced by each better one, and never removed.

Beside it lies a note of what was written, until the run ends: so that a run that was killed may go on over its own draft,
and nobody else's file is ever written over.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline import submission
from pipeline.store import refuse_existing, replacing


def claim(path: Path) -> None:
    """Raise `InputError` where something is at `path` that is not the draft of a run that never ended."""
    if not (path.is_file() and _hash(path.read_bytes()) in _written(path)):
        refuse_existing(path)


@dataclass(frozen=True)
class Draft:
    """A submission's CSV at `path`, for the QUERIES and the CATALOG of a test."""

    path: Path
    queries: pl.DataFrame
    catalog: pl.DataFrame

    def better(self, ranking: pl.DataFrame) -> None:
        """Put the submission that a run makes in the place of the one that was there, and validate it."""
        content = submission.rows(ranking, self.queries, self.catalog).write_csv().encode()
        with replacing(_note(self.path)) as file:  # before the CSV: one that is not noted would not be known again
            file.write("\n".join([*_written(self.path), _hash(content)]).encode())
        with replacing(self.path) as file:
            file.write(content)
        submission.validate(self.path, self.queries, self.catalog)

    def done(self) -> None:
        """The CSV is a submission now, and not to be written over any more."""
        _note(self.path).unlink()

    def superseded(self) -> None:
        """The submission stands elsewhere: remove the draft."""
        self.path.unlink()
        self.done()


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.draft")


def _written(path: Path) -> list[str]:
    return _note(path).read_text(encoding="utf-8").splitlines() if _note(path).is_file() else []


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
