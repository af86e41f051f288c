"""What several test files need: a tiny competition in Kaggle's layout, and the command as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
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
    """The command, run in `tmp_path` with a cache there and no hub to ask. `environment` is laid over the usual
    one, and `start` is called in the new process before the command."""

    def call(
        *arguments: object, start: Callable[[], None] | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        own = {"EEDI_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | own | environment,
            preexec_fn=start,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return call


@pytest.fixture
def hashed() -> tuple[str, ...]:
    """Arguments for a whole run without weights, in seconds."""
    settings = str(REPOSITORY / "configs" / "hashed.yaml")
    return ("--config", settings, "fit.folds=2", "blend.rounds=5", "blend.min_rows=5")


@pytest.fixture
def wheel() -> Callable[[Path, dict[str, bytes]], Path]:
    """Writes a wheel of some members that pip takes; its path says the package's name and version."""

    def write(path: Path, members: dict[str, bytes]) -> Path:
        name, version, *_ = *path.stem.split("-"), "1"
        told = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
            for file, text in told.items():
                archive.writestr(f"{name}-{version}.dist-info/{file}", text)
        return path

    return write
