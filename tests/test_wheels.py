"""The wheelhouse: its lock, what is found wrong with it, and what is installed from it. pip is real, its index is a folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from pipeline.errors import InputError
from pipeline.kernel import inputs, wheels
from pipeline.kernel.settings import Settings

SETTINGS = Settings(owner="me", wheelhouse="notebooks/me/some-wheels")
VLLM, HELPER = "vllm-0.19.1-cp38-abi3-manylinux_2_31_x86_64.whl", "helper-1.0-py3-none-any.whl"
THERE, FIT, RESOLVE = wheels.RULES
Wheel = Callable[..., Path]


@pytest.fixture
def index(tmp_path: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All that pip can download: a vLLM that requires a helper, and two more versions of that."""
    folder = tmp_path / "index"
    wheel(folder / VLLM, {"vllm/__init__.py": b"import helper; __version__ = '0.19.1'"}, "helper>=1")
    for version in ("1.0", "2.0"):
        wheel(folder / HELPER.replace("1.0", version), {"helper.py": f"version = {version}".encode()})
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / "lock.txt"
    path.write_text("# both\nVLLM==0.19.1\nhelper==1  # the first\n", encoding="utf-8")
    return path


@pytest.fixture
def wheelhouse(index: Path, lock: Path, tmp_path: Path) -> Path:
    """What a download leaves, without the download."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    for source in (index / VLLM, index / HELPER, lock):
        shutil.copy(source, folder / ("wheels.txt" if source == lock else source.name))
    return folder


def test_the_lock_that_is_shipped_names_exact_versions_and_the_vllm_that_fits_the_image() -> None:
    found = {name: str(version) for name, version in wheels.pins(wheels.LOCK).items()}
    assert (found["vllm"], found["torch"]) == ("0.19.1", "2.10.0")
    assert len(found) > 150 and not any(name.endswith("-cu13") for name in found)


@pytest.mark.parametrize("line", ["vllm", "vllm>=0.19", "vllm==0.19.*", "vllm==0.19.1; python_version<'3'", "-r more.txt"])
def test_a_line_that_leaves_the_version_open_is_no_lock(tmp_path: Path, line: str) -> None:
    (tmp_path / "lock.txt").write_text(f"helper==1\n{line}\n", encoding="utf-8")
    with pytest.raises(InputError) as refused:
        wheels.pins(tmp_path / "lock.txt")
    assert f"lock.txt, line 2\n  found:  {line}\n" in str(refused.value)


def test_the_image_takes_wheels_of_its_python_and_of_older_systems_alone() -> None:
    names = {str(tag) for tag in wheels.tags()}
    assert {"cp312-cp312-manylinux_2_28_x86_64", "cp38-abi3-manylinux2014_x86_64", "py3-none-any"} <= names
    assert names.isdisjoint(
        {"cp313-cp313-manylinux_2_28_x86_64", "cp312-cp312-manylinux_2_39_x86_64", "cp311-cp311-linux_x86_64"}
    )


def test_what_is_downloaded_is_what_the_lock_says_with_the_metadata_of_a_dataset(
    index: Path, lock: Path, tmp_path: Path
) -> None:
    wheels.download(SETTINGS, lock, tmp_path / "wheels")
    wheelhouse = tmp_path / "wheels" / "dataset"
    assert {path.name for path in wheelhouse.iterdir()} == {VLLM, HELPER, "wheels.txt", "dataset-metadata.json"}
    told = json.loads((wheelhouse / "dataset-metadata.json").read_text(encoding="utf-8"))
    assert (told["id"], told["title"]) == ("me/some-wheels", "Some wheels")


def test_a_whole_wheelhouse_passes_every_rule(wheelhouse: Path) -> None:
    assert wheels.check(wheelhouse) == {THERE: [], FIT: [], RESOLVE: []}


def test_a_version_that_no_index_has_for_the_image_leaves_nothing(index: Path, lock: Path, tmp_path: Path) -> None:
    (index / HELPER).rename(index / "helper-1.0-cp39-cp39-win_amd64.whl")
    with pytest.raises(InputError, match=r"pip download\n  found:  .*helper==1"):
        wheels.download(SETTINGS, lock, tmp_path / "wheels")
    assert not (tmp_path / "wheels").exists()


FAULTS: dict[str, tuple[Callable[[Path, Path], object], set[str], str]] = {
    "a wheel is missing": (
        lambda here, _: (here / HELPER).unlink(),
        {THERE, RESOLVE},
        "wheels.txt, helper\n  found:  no wheel",
    ),
    "another version": (
        lambda here, index: (here / HELPER).unlink() or shutil.copy(index / "helper-2.0-py3-none-any.whl", here),
        {THERE, RESOLVE},
        "wheels.txt, helper\n  found:  2.0\n  wanted: 1",
    ),
    "a newer glibc": (
        lambda here, _: (here / VLLM).rename(here / VLLM.replace("2_31", "2_39")),
        {FIT, RESOLVE},
        "found:  cp38-abi3-manylinux_2_39_x86_64",
    ),
    "another processor": (
        lambda here, _: (here / VLLM).rename(here / VLLM.replace("x86_64", "aarch64")),
        {FIT, RESOLVE},
        "found:  cp38-abi3-manylinux_2_31_aarch64",
    ),
    "no lock": (lambda here, _: (here / "wheels.txt").unlink(), {THERE}, "wheels.txt\n  found:  No such file"),
}


@pytest.mark.parametrize(("broken", "rules", "told"), FAULTS.values(), ids=FAULTS)
def test_a_wheelhouse_that_would_not_install_is_told_by_the_rule(
    wheelhouse: Path, index: Path, broken: Callable[[Path, Path], object], rules: set[str], told: str
) -> None:
    broken(wheelhouse, index)
    found = {rule: "\n".join(map(str, faults)) for rule, faults in wheels.check(wheelhouse).items() if faults}
    assert found.keys() == rules
    assert any(told in fault for fault in found.values()), found


def test_a_requirement_that_only_this_machine_has_is_missing(wheelhouse: Path, index: Path, wheel: Wheel) -> None:
    wheel(wheelhouse / HELPER, {"helper.py": b""}, "other>=3", "pytest")
    wheel(index / "other-3.0-py3-none-any.whl", {"other.py": b""})
    ((rule, (fault,)),) = ((rule, faults) for rule, faults in wheels.check(wheelhouse).items() if faults)
    assert rule == RESOLVE and "No matching distribution found for other>=3" in str(fault)


def test_a_wheelhouse_is_found_by_its_lock_and_installed_where_only_one_process_looks(
    wheelhouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(wheelhouse, tmp_path / "input" / "notebooks" / "me" / "some-wheels")
    monkeypatch.setenv("EEDI_KAGGLE_INPUT", str(tmp_path / "input"))
    wheels.install(inputs.wheelhouse(), tmp_path / "engine")
    command = [sys.executable, "-c", "import vllm; print(vllm.helper.version, vllm.__file__)"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(tmp_path / "engine")}, capture_output=True, text=True)
    assert done.stdout.split() == ["1.0", str(tmp_path / "engine" / "vllm" / "__init__.py")], done.stderr
    (wheelhouse / HELPER).unlink()
    with pytest.raises(InputError, match=r"pip install\n  found:  .*helper==1"):
        wheels.install(wheelhouse, tmp_path / "second")
    assert not (tmp_path / "second").exists()


def test_the_notebook_leaves_the_same_wheelhouse_as_its_output(wheelhouse: Path, lock: Path, tmp_path: Path) -> None:
    wheels.draw_up(SETTINGS, lock, tmp_path / "notebook")
    told = json.loads((tmp_path / "notebook/kernel/kernel-metadata.json").read_text(encoding="utf-8"))
    assert told["enable_internet"] is True and told["machine_shape"] == "NvidiaTeslaT4"
    assert (told["id"], told["title"], told["dataset_sources"]) == ("me/some-wheels", "Some wheels", [])
    notebook = nbformat.read(tmp_path / "notebook" / "kernel" / told["code_file"], as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    (working := tmp_path / "working").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=working,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == "0.19.1", done.stderr
    assert {path.name: path.read_bytes() for path in working.iterdir() if path.suffix == ".whl"} == {
        path.name: path.read_bytes() for path in wheelhouse.glob("*.whl")
    }
    assert wheels.pins(working / "wheels.txt") == wheels.pins(lock)
