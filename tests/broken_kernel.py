"""Ways to break a built kernel, each of one file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import yaml

BASE, SOURCE = "Some/Qwen-Tiny", "some-lab/qwen/transformers/tiny/2"
KERNEL, DATASET = "kernel/kernel-metadata.json", "dataset/dataset-metadata.json"
MODEL, ADAPTER = "adapters/model-metadata.json", "adapters/dense"
CONFIG, NOTEBOOK = "dataset/config.yaml", "kernel/eedi.ipynb"
Break = Callable[[Path], object]


def key(file: str, name: str, change: Callable[[Any], object]) -> Break:
    """One key of a metadata file, changed."""

    def broken(folder: Path) -> None:
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        content[name] = change(content[name])
        (folder / file).write_text(json.dumps(content), encoding="utf-8")

    return broken


def stage(name: str, setting: str, value: object, room: str = "retrieve") -> Break:
    """One setting of a stage in the uploaded config, changed."""

    def broken(folder: Path) -> None:
        settings = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
        settings[room][name][setting] = value
        (folder / CONFIG).write_text(yaml.safe_dump(settings), encoding="utf-8")

    return broken


def cell(change: Callable[[Any], object]) -> Break:
    """The notebook's last cell, changed."""

    def broken(folder: Path) -> None:
        notebook = nbformat.read(folder / NOTEBOOK, as_version=4)
        change(notebook.cells[-1])
        nbformat.write(notebook, folder / NOTEBOOK)

    return broken


def line(text: str) -> Break:
    """One line more in the notebook."""
    return cell(lambda last: last.update(source=f"{last.source}\n{text}"))


def text(file: str, old: str, new: str) -> Break:
    """Some text of a file, replaced."""

    def broken(folder: Path) -> None:
        content = (folder / file).read_text(encoding="utf-8")
        assert old in content
        (folder / file).write_text(content.replace(old, new), encoding="utf-8")

    return broken


def many_cells(folder: Path) -> None:
    notebook = nbformat.read(folder / NOTEBOOK, as_version=4)
    notebook.cells += [nbformat.v4.new_markdown_cell("more", id=f"more-{i}") for i in range(4)]
    nbformat.write(notebook, folder / NOTEBOOK)


def wheel(folder: Path) -> Path:
    (found,) = (folder / "dataset").glob("*.whl")
    return found


def other_wheel(folder: Path) -> None:
    with zipfile.ZipFile(wheel(folder), "w") as archive:
        archive.writestr("pipeline/__init__.py", "")


def added(file: str, size: int = 1) -> Break:
    return lambda folder: (folder / file).write_bytes(bytes(size))
