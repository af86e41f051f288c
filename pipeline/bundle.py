"""The folder that `fit` writes and `submit` reads: booster, label statistics, resolved config, scores, versions.

config.yaml  booster.txt (LightGBM's text model)  label_stats.parquet  scores.json  bundle.json
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from pipeline import __version__
from pipeline.config import Config, dump, resolved
from pipeline.errors import InputError
from pipeline.schema import LABEL_STATS, SchemaError, check
from pipeline.store import versions

if TYPE_CHECKING:
    from lightgbm import Booster

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """Everything fitted. `booster` is None where the config has no blender; `scores` is a row a stage and subset."""

    config: Config
    booster: Booster | None
    label_stats: pl.DataFrame
    scores: list[dict[str, Any]]
    trained_on: list[str]  # `data.text_hashes` of the training questions


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends well, and vanishes when it does not.

    Raises `InputError` if `folder` exists: what was written once is never written over.
    """
    refuse_existing(folder)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        refuse_existing(folder)
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def refuse_existing(path: Path) -> None:
    """Raise `InputError` if something is there."""
    if path.exists():
        raise InputError(path, found="it exists", wanted="a new name", remedy="Choose another, or remove it yourself.")


def save(bundle: Bundle, folder: Path) -> None:
    """Write the bundle as a new folder."""
    made = {"version": __version__, "packages": versions(), "trained_on": bundle.trained_on}
    with new_folder(folder) as new:
        (new / "config.yaml").write_text(dump(bundle.config), encoding="utf-8")
        if bundle.booster is not None:
            bundle.booster.save_model(new / "booster.txt")
        bundle.label_stats.write_parquet(new / "label_stats.parquet")
        (new / "scores.json").write_text(json.dumps(bundle.scores, indent=1), encoding="utf-8")
        (new / "bundle.json").write_text(json.dumps(made, indent=1), encoding="utf-8")


def load(folder: Path) -> Bundle:
    """Read a bundle. Raises `InputError` for a folder that is none, or is not whole."""
    from lightgbm import Booster

    try:
        config = resolved(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")), str(folder / "config.yaml"))
        stats = check(pl.read_parquet(folder / "label_stats.parquet"), LABEL_STATS)
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        made = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        booster = Booster(model_file=folder / "booster.txt") if config.blend is not None else None
    except (OSError, ValueError, SchemaError, yaml.YAMLError, pl.exceptions.PolarsError) as error:
        raise InputError(
            folder,
            found=str(error).splitlines()[0],
            wanted="a folder written by `eedi fit`",
            remedy="Check --bundle, or fit again.",
        ) from None
    if made["packages"] != versions():
        log.info("the bundle was made with %s; here are %s", made["packages"], versions())
    return Bundle(config, booster, stats, scores, made["trained_on"])
