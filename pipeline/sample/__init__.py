"""The embedded competition: questions whose wrong answers are made by faulty procedures.

The idea is Brown and Burton's ("Diagnostic models for procedural bugs in basic mathematical skills", 1978): a pupil's
wrong answer is seldom random, it is the right answer of a wrong procedure. Everything here is the project's own text.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from pipeline.config import Config
from pipeline.data import Competition, load


def opened(config: Config, folder: Path | None, limit: int | None = None) -> Competition:
    """The competition in `folder` or, without one, the embedded one, which goes the same way through CSVs."""
    if folder is not None:
        return load(folder, config.data, limit)
    from pipeline.sample.competition import write

    with tempfile.TemporaryDirectory() as temporary:
        write(Path(temporary), config.sample)
        return load(Path(temporary), config.data, limit)
