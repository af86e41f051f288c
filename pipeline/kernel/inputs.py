"""Where Kaggle has mounted what a kernel was given: found by what lies in it, because Kaggle has changed its paths before."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Data
from pipeline.errors import InputError
from pipeline.models.sources import kaggle_input


def bundle() -> Path:
    """The folder of the bundle."""
    return _holding("bundle.json", "config.yaml")


def competition() -> Path:
    """The folder of the competition's CSVs."""
    return _holding(Data().test, Data().catalog)


def wheelhouse() -> Path:
    """The folder of the third-party wheels."""
    return _holding("wheels.txt")


def _holding(*names: str) -> Path:
    """The one input that holds all of `names`. Raises `InputError` where none does, or several do."""
    root = kaggle_input()
    found = sorted({path.parent for path in root.rglob(names[0]) if all(path.with_name(name).is_file() for name in names)})
    if len(found) != 1:
        raise InputError(
            root,
            found=", ".join(map(str, found)) or f"no folder with {' and '.join(names)}",
            wanted=f"exactly one folder with {' and '.join(names)}",
            remedy="Attach what is missing to the notebook, or detach what is there twice.",
        )
    return found[0]
