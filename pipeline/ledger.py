"""submissions/: one write-once folder each, with the CSV, what made it and what it scored."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

from pipeline import __version__, study, submission
from pipeline.bundle import Bundle
from pipeline.config import dump
from pipeline.flow import Prediction
from pipeline.store import new_folder, versions

FOLDER = Path("submissions")
CSV = "submission.csv"


def new_name(name: str) -> Path:
    """The folder of a new submission: its settings' name and the time in UTC."""
    return FOLDER / f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"


def write_csv(predicted: Prediction, path: Path) -> Path:
    """Write the CSV alone and validate what was written."""
    submission.write(predicted.submission, path)
    submission.validate(path, predicted.queries, predicted.catalog)
    return path


def enter(predicted: Prediction, bundle: Bundle, folder: Path) -> Path:
    """Write the folder and return the CSV's path.

    submission.csv  submission.json  config.yaml  scores.json  runs/  and, of a fit just made, its study: cv/
    """
    with new_folder(folder) as new:
        csv = write_csv(predicted, new / CSV)
        (new / "config.yaml").write_text(dump(bundle.config), encoding="utf-8")
        scores = {"cv": bundle.scores, "test": predicted.scores}
        (new / "scores.json").write_text(json.dumps(scores, indent=1), encoding="utf-8")
        (new / "runs").mkdir()
        for stage, run in predicted.stages.items():
            run.write_parquet(new / "runs" / f"{stage.replace(' ', '-')}.parquet")
        if bundle.study:
            study.write(bundle.study, new / "cv")
        made = {"sha256": hashlib.sha256(csv.read_bytes()).hexdigest(), "version": __version__, "packages": versions()}
        (new / "submission.json").write_text(json.dumps(made, indent=1), encoding="utf-8")
    return folder / CSV
