"""A kernel for rehearsals in seconds: without weights, or with tiny ones, and no blender."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from pipeline import bundle as bundles
from pipeline.config import Config, Dense, Listwise, Tfidf
from pipeline.kernel import rehearse
from pipeline.kernel.build import build
from pipeline.kernel.built import Built, read
from pipeline.kernel.settings import Settings
from pipeline.models import sources
from pipeline.schema import LABEL_STATS

BASE, SOURCE = "Some/Judge", "some-lab/judge/transformers/tiny/2"
SETTINGS = Settings(owner="me", accelerator=None, weights={BASE: SOURCE})
HASHED = {"weights": sources.HASHED}


def kernel(
    folder: Path, judge: dict[str, Any] | None = None, dense: dict[str, Any] | None = None, settings: Settings = SETTINGS
) -> Built:
    """The kernel of a bundle whose encoder and judge have no weights, unless they are told otherwise."""
    config = Config(
        retrieve={"lexical": Tfidf(), "dense": Dense(**(dense or HASHED))},
        rerank={"judge": Listwise(**(judge or {"engine": "hashed", **HASHED}))},
        blend=None,
        neighbours=None,
    )
    bundles.save(bundles.Bundle(config, None, pl.DataFrame(schema=LABEL_STATS.columns), None, [], []), folder / "bundle")
    build(folder / "bundle", settings, folder / "kernel")
    return read(folder / "kernel")


def visible(folder: Path) -> Path:
    """The visible test, of three questions and nine answers."""
    return rehearse.test_folder(folder / "visible test", None, None)
