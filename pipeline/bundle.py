"""The folder that `fit` writes and `submit` reads: booster, label statistics, resolved config, scores, versions.

config.yaml  booster.txt (LightGBM's text model)  label_stats.parquet  scores.json  bundle.json, and the examples of labels
that the stages read: a bundle can be moved.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from pipeline import __version__
from pipeline.config import Bm25, Config, dump, resolved
from pipeline.data import labels_of
from pipeline.errors import InputError
from pipeline.models.sources import shipped
from pipeline.schema import LABEL_STATS, SchemaError, check
from pipeline.shift import Shift
from pipeline.store import digest, new_folder, versions
from pipeline.study import Study

if TYPE_CHECKING:
    from lightgbm import Booster

log = logging.getLogger(__name__)

EXAMPLES = "examples*.csv"


@dataclass(frozen=True)
class Bundle:
    """Everything fitted. `booster` and `shift` are None without a blender; `scores` is a row a stage and subset."""

    config: Config
    booster: Booster | None
    label_stats: pl.DataFrame
    shift: Shift | None
    scores: list[dict[str, Any]]
    trained_on: list[str]  # `data.text_hashes` of the training questions
    study: Study | None = None  # of a fit that was just made; not kept with the bundle


def save(bundle: Bundle, folder: Path) -> None:
    """Write the bundle as a new folder."""
    made: dict[str, Any] = {"version": __version__, "packages": versions(), "trained_on": bundle.trained_on}
    with new_folder(folder) as new:
        (new / "config.yaml").write_text(dump(_with_examples(bundle.config, new)), encoding="utf-8")
        if bundle.booster is not None:
            text = bundle.booster.model_to_string()
            (new / "booster.txt").write_text(text, encoding="utf-8")
            made["booster"] = digest(text)
        made["shift"] = asdict(bundle.shift) if bundle.shift else None
        bundle.label_stats.write_parquet(new / "label_stats.parquet")
        (new / "scores.json").write_text(json.dumps(bundle.scores, indent=1), encoding="utf-8")
        (new / "bundle.json").write_text(json.dumps(made, indent=1), encoding="utf-8")


def _with_examples(config: Config, folder: Path) -> Config:
    """The config with its stages' examples as files in the bundle's own folder, where they are copied to."""
    names: dict[str, str] = {}
    for reference in sorted({each for spec in config.stages.values() for each in getattr(spec, "examples", ())}):
        names[reference] = f"examples{len(names)}.csv"
        source, copy = shipped(reference), folder / names[reference]
        shutil.copy(source, copy)
        if labels_of(source).is_file():
            shutil.copy(labels_of(source), labels_of(copy))
    return _renamed(config, names)


def _renamed(config: Config, names: Mapping[str, str]) -> Config:
    rooms = {
        room: {
            stage: spec
            if isinstance(spec, Bm25)
            else spec.model_copy(update={"examples": tuple(names.get(each, each) for each in spec.examples)})
            for stage, spec in stages.items()
        }
        for room, stages in (("retrieve", config.retrieve), ("rerank", config.rerank))
    }
    return config.model_copy(update=rooms)


def movable(config: Config, folder: Path) -> Config:
    """The config of a bundle that was loaded from `folder`, with its files there by their names alone: they can be moved."""
    return _renamed(config, {str(path): path.name for path in folder.glob(EXAMPLES)})


def load(folder: Path) -> Bundle:
    """Read a bundle. Raises `InputError` for a folder that is none, or is not whole."""
    from lightgbm import Booster

    try:
        config = resolved(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")), str(folder / "config.yaml"))
        config = _renamed(config, {path.name: str(path) for path in folder.glob(EXAMPLES)})
        stats = check(pl.read_parquet(folder / "label_stats.parquet"), LABEL_STATS)
        scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
        made = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        trained_on, packages = made["trained_on"], made["packages"]
        shift = Shift(**made["shift"]) if made["shift"] else None
        booster = None
        if config.blend is not None:
            text = (folder / "booster.txt").read_text(encoding="utf-8")
            if digest(text) != made["booster"]:  # LightGBM ends the process on a model that is cut off
                raise ValueError("booster.txt is not the one that was written")
            booster = Booster(model_str=text)
    except (OSError, ValueError, KeyError, TypeError, SchemaError, yaml.YAMLError, pl.exceptions.PolarsError) as error:
        raise InputError(
            folder,
            found=str(error).splitlines()[0],
            wanted="a folder written by `eedi fit`",
            remedy="Check --bundle, or fit again.",
        ) from None
    if packages != versions():
        log.info("the bundle was made with %s; here are %s", packages, versions())
    return Bundle(config, booster, stats, shift, scores, trained_on)
