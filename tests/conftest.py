"""What several test files need: a tiny competition in Kaggle's layout, and the command as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Sample
from pipeline.sample.competition import write

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """A folder in Kaggle's layout: 24 training questions, 4 for the test, and the whole catalogue."""
    folder = tmp_path / "kaggle"
    folder.mkdir()
    write(folder, Sample(train=24, test=4))
    return folder


@pytest.fixture
def eedi(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command, run in `tmp_path` with a cache there and no hub to ask; `environment` is laid over the usual one."""

    def call(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {"EEDI_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
        command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
        return subprocess.run(
            command, cwd=tmp_path, env=os.environ | own | environment, capture_output=True, text=True, check=False, timeout=300
        )

    return call


@pytest.fixture
def hashed() -> tuple[str, ...]:
    """Arguments for a whole run without weights, in seconds."""
    settings = str(REPOSITORY / "configs" / "hashed.yaml")
    return ("--config", settings, "fit.folds=2", "blend.rounds=5", "blend.min_rows=5")
