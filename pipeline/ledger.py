"""submissions/: one write-once folder each, with the CSV, what made it and what it scored; and the table of them.

A leaderboard's scores come later, in a file of their own: leaderboard.json is all that changes in a folder.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline import __version__, study, submission
from pipeline.config import dump
from pipeline.errors import InputError
from pipeline.store import new_folder, replacing, versions

if TYPE_CHECKING:
    from pipeline.bundle import Bundle
    from pipeline.flow import Prediction

FOLDER = Path("submissions")
CSV, SCORES, RECORD, LEADERBOARD = "submission.csv", "scores.json", "submission.json", "leaderboard.json"
BOARDS = ("public", "private")
ENOUGH = 3  # submissions, before a correlation is told


@dataclass(frozen=True)
class Entry:
    """A submission's row. Of a folder that cannot be read, `note` says why, and the rest is empty.

    `cv` and `unseen` are of the final stage, out of fold, for all labels and for unseen ones: map@25, low, high.
    """

    name: str
    date: str = ""  # ISO 8601, in UTC
    note: str = ""
    cv: dict[str, float] | None = None
    unseen: dict[str, float] | None = None
    public: float | None = None
    private: float | None = None


def new_name(name: str) -> Path:
    """The folder of a new submission: its settings' name and the time in UTC."""
    return FOLDER / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def enter(predicted: Prediction, bundle: Bundle, folder: Path, note: str = "", warnings: Sequence[str] = ()) -> Path:
    """Write the folder and return the CSV's path. `warnings` say what the run had to do without.

    submission.csv  submission.json  config.yaml  scores.json  runs/  and, of a fit just made, its study: cv/
    """
    with new_folder(folder) as new:
        csv = new / CSV
        submission.write(predicted.submission, csv)
        submission.validate(csv, predicted.queries, predicted.catalog)
        (new / "config.yaml").write_text(dump(bundle.config), encoding="utf-8")
        scores = {"cv": bundle.scores, "test": predicted.scores}
        (new / SCORES).write_text(json.dumps(scores, indent=1), encoding="utf-8")
        (new / "runs").mkdir()
        for stage, run in predicted.stages.items():
            run.write_parquet(new / "runs" / f"{stage.replace(' ', '-')}.parquet")
        if bundle.study:
            study.write(bundle.study, new / "cv")
        made = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "note": note,
            "warnings": list(warnings),
            "sha256": hashlib.sha256(csv.read_bytes()).hexdigest(),
            "version": __version__,
            "packages": versions(),
        }
        (new / RECORD).write_text(json.dumps(made, indent=1), encoding="utf-8")
    return folder / CSV


def entries() -> list[Entry]:
    """A row for every folder, the newest last."""
    return sorted(map(_entry, _folders()), key=lambda entry: (entry.date, entry.name))


def score(name: str, public: float | None = None, private: float | None = None) -> None:
    """Keep what the leaderboards said of a submission; a score that is not given stays as it was.

    Raises `InputError` for none at all, for one that no MAP@25 can be, and for a name that no submission has.
    """
    given = {board: value for board, value in zip(BOARDS, (public, private), strict=True) if value is not None}
    if not given:
        raise InputError(f"the scores of {name}", found="none", wanted="one at least", remedy="Give --public or --private.")
    for board, value in given.items():
        if not 0 <= value <= 1:
            raise InputError(
                f"--{board}", found=str(value), wanted="MAP@25, from 0 to 1", remedy="Write it as Kaggle shows it: 0.61."
            )
    names = [folder.name for folder in _folders()]
    if name not in names:
        near = difflib.get_close_matches(name, names, cutoff=0)
        raise InputError(
            FOLDER / name,
            found="no such submission",
            wanted=f"one that is there, such as {', '.join(near)}" if near else "one that is there, and there is none",
            remedy="`eedi ledger` prints them all.",
        )
    path = FOLDER / name / LEADERBOARD
    try:
        known = _leaderboard(path)
    except (ValueError, TypeError) as error:
        raise InputError(
            path, found=str(error), wanted="what `eedi ledger score` wrote", remedy="Remove it, and give both scores again."
        ) from None
    with replacing(path) as file:
        file.write(json.dumps(known | given, indent=1).encode())


def correlations(shown: Sequence[Entry]) -> list[dict[str, Any]]:
    """How CV foretells each leaderboard that scored three or more of the submissions: a row of score, submissions, pearson,
    spearman. Both are None where the CV, or the leaderboard's score, is the same for all.
    """
    rows = []
    for board in BOARDS:
        pairs = [(entry.cv["map@25"], value) for entry in shown if entry.cv and (value := getattr(entry, board)) is not None]
        if len(pairs) >= ENOUGH:
            frame = pl.DataFrame(pairs, schema=["cv", "board"], orient="row")
            # asked first, because rounding gives a constant column a correlation
            varies = min(frame.n_unique("cv"), frame.n_unique("board")) > 1
            kinds = {"pearson": pl.corr("cv", "board"), "spearman": pl.corr("cv", "board", method="spearman")}
            told = frame.select(**kinds).row(0, named=True) if varies else dict.fromkeys(kinds)
            rows.append({"score": board, "submissions": len(pairs), **told})
    return rows


def _folders() -> list[Path]:
    """The submissions; one that is being written, or was cut off, has a hidden name."""
    return sorted(FOLDER.glob("[!.]*/"))


def _entry(folder: Path) -> Entry:
    try:
        made = {"date": "", "note": ""} | _json(folder / RECORD)
        rows = _json(folder / SCORES)["cv"]
        final = {
            row["subset"]: {name: float(row[name]) for name in ("map@25", "low", "high")}
            for row in rows
            if row["stage"] == rows[-1]["stage"]
        }
        boards = _leaderboard(folder / LEADERBOARD)
    except (ValueError, TypeError) as error:
        return Entry(folder.name, note=f"damaged: {error}")
    except KeyError as error:
        return Entry(folder.name, note=f"of another version: {SCORES} has no {error}")
    return Entry(folder.name, str(made["date"]), str(made["note"]), final.get("all"), final.get("unseen"), **boards)


def _leaderboard(path: Path) -> dict[str, float]:
    told = _json(path) if path.exists() else {}
    return {board: float(told[board]) for board in BOARDS if board in told}


def _json(path: Path) -> dict[str, Any]:
    """What a file says. Raises `ValueError` with the file's name for one that is not there or holds something else."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ValueError(f"{path.name}: {error.strerror}") from None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path.name}: {error}") from None
