"""The wheelhouse: the wheels of the lock, which an offline kernel installs for vLLM's process alone.

The lock is a list of requirements, closed below vLLM, so nothing is resolved where it is installed. What the image itself has
plays no part in it: vLLM's pins and the image's disagree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from pipeline.errors import InputError
from pipeline.kernel.built import DATASET, KERNEL
from pipeline.kernel.metadata import DatasetMetadata, KernelMetadata
from pipeline.kernel.notebook import wheels_notebook
from pipeline.kernel.settings import Settings
from pipeline.store import new_folder

LOCK = Path(__file__).parents[2] / "kaggle_kernel" / "wheels.txt"
NAME = LOCK.name  # under which a wheelhouse carries its lock
# Kaggle's image: Python 3.12 on Ubuntu 22.04, whose glibc takes wheels for every older one
PYTHON, GLIBC = (3, 12), 35
PLATFORMS = (
    *(f"manylinux_2_{minor}_x86_64" for minor in range(GLIBC, 4, -1)),
    *(f"{name}_x86_64" for name in ("manylinux2014", "manylinux2010", "manylinux1", "linux")),
)
REMEDY = "Build the wheelhouse again, by `eedi kernel wheels`."

Faults = Iterator[InputError]


def pins(lock: Path) -> dict[str, Version]:
    """The version of each package in a lock. Raises `InputError` for a line that is no exact version."""
    found: dict[str, Version] = {}
    for number, line in enumerate(_read(lock), 1):
        if not (text := line.partition("#")[0].strip()):
            continue
        try:
            wanted = Requirement(text)
        except InvalidRequirement:
            wanted = None
        versions = list(wanted.specifier) if wanted and not (wanted.marker or wanted.url) else []
        if not wanted or len(versions) != 1 or versions[0].operator != "==" or versions[0].version.endswith("*"):
            raise InputError(
                f"{lock}, line {number}",
                found=text,
                wanted="a package's exact version, name==1.2.3",
                remedy="Lock it anew.",
            )
        found[canonicalize_name(wanted.name)] = Version(versions[0].version)
    return found


def _read(lock: Path) -> list[str]:
    try:
        return lock.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(
            lock, found=error.strerror or str(error), wanted="a lock, as kaggle_kernel/wheels.txt is one", remedy=REMEDY
        ) from None


def download(settings: Settings, lock: Path, out: Path) -> None:
    """Write the wheelhouse of `lock` for Kaggle's image as a new folder: dataset/, with the dataset's metadata.

    That of the shipped lock is several gigabytes. Raises `InputError` for a version of which the index has no wheel for that
    image.
    """
    pins(lock)
    with new_folder(out) as new:
        wheelhouse = new / DATASET
        wheelhouse.mkdir()
        DatasetMetadata.wheels(settings).write(wheelhouse)
        shutil.copy(lock, wheelhouse / NAME)
        _pip("download", "--no-deps", "--dest", str(wheelhouse), "--requirement", str(lock), *_target())
        if faults := [fault for found in check(wheelhouse).values() for fault in found]:
            raise faults[0]


def draw_up(settings: Settings, lock: Path, out: Path) -> None:
    """Write the notebook that builds the wheelhouse of `lock` on Kaggle's image as a new folder: kernel/, with its metadata."""
    import nbformat

    pins(lock)
    with new_folder(out) as new:
        (kernel := new / KERNEL).mkdir()
        metadata = KernelMetadata.wheels(settings)
        metadata.write(kernel)
        nbformat.write(wheels_notebook(metadata.title, lock.read_text(encoding="utf-8")), kernel / metadata.code_file)


def install(wheelhouse: Path, to: Path) -> None:
    """Install a wheelhouse into a new folder, as it is locked. Raises `InputError` where this Python cannot take its wheels."""
    options = ("--no-index", "--no-deps", "--no-compile", "--only-binary", ":all:", "--find-links", str(wheelhouse))
    with new_folder(to) as new:
        _pip("install", *options, "--requirement", str(wheelhouse / NAME), "--target", str(new))


def tags() -> set[Tag]:
    """What a wheel's name may say for Kaggle's image to take it."""
    abi = f"cp{PYTHON[0]}{PYTHON[1]}"
    return {*cpython_tags(PYTHON, [abi], PLATFORMS), *compatible_tags(PYTHON, abi, PLATFORMS)}


def there(wheelhouse: Path) -> Faults:
    """A wheel for each line of the lock."""
    found = {(name, version) for name, version, _, _ in _wheels(wheelhouse)}
    for name, version in pins(wheelhouse / NAME).items():
        if (name, version) not in found:
            others = ", ".join(str(other) for each, other in sorted(found) if each == name)
            yield InputError(f"{wheelhouse / NAME}, {name}", found=others or "no wheel", wanted=str(version), remedy=REMEDY)


def fitting(wheelhouse: Path) -> Faults:
    """Each wheel is for the kernel's Python and platform."""
    taken = tags()
    for _, _, told, path in _wheels(wheelhouse):
        if taken.isdisjoint(told):
            wanted = f"Python {PYTHON[0]}.{PYTHON[1]} on x86-64 Linux with a glibc of 2.{GLIBC} at most"
            yield InputError(path, found=", ".join(sorted(map(str, told))), wanted=wanted, remedy=REMEDY)


def resolving(wheelhouse: Path) -> Faults:
    """The wheels' own requirements are met by one another.

    pip reads the conditions in them for the Python that it runs in, whichever it is told to resolve for.
    """
    here, lock = str(wheelhouse), str(wheelhouse / NAME)
    try:  # nothing is written to the target: with one, what is installed here does not count
        _pip("install", "--dry-run", "--no-index", "--find-links", here, "--requirement", lock, "--target", here, *_target())
    except InputError as fault:
        yield fault


def _wheels(wheelhouse: Path) -> Iterator[tuple[str, Version, frozenset[Tag], Path]]:
    """Name, version, tags and file of each wheel; what is not named as one is none."""
    for path in sorted(wheelhouse.glob("*.whl")):
        try:
            name, version, _, told = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        yield name, version, told, path


def _target() -> list[str]:
    """Kaggle's image, for pip."""
    python = [f"--python-version={PYTHON[0]}.{PYTHON[1]}", "--implementation=cp", f"--abi=cp{PYTHON[0]}{PYTHON[1]}"]
    return ["--only-binary=:all:", *python, *(f"--platform={platform}" for platform in PLATFORMS)]


def _pip(command: str, *arguments: str) -> None:
    """Run pip; without an index, without this machine's settings of it too, which may name folders of other wheels."""
    environment = dict(os.environ)
    if "--no-index" in arguments:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        environment["PIP_CONFIG_FILE"] = os.devnull
    words = [sys.executable, "-m", "pip", "--disable-pip-version-check", command, "--quiet", *arguments]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        told = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
        raise InputError(
            f"pip {command}",
            found=" ".join(told) or done.stderr.strip().rpartition("\n")[2] or "no message",
            wanted="every wheel of the lock, and with it all that it requires",
            remedy=REMEDY,
        )


RULES: dict[str, Callable[[Path], Faults]] = {
    "the wheelhouse has every wheel of the lock": there,
    "its wheels fit Kaggle's image": fitting,
    "its wheels are all that they require": resolving,
}


def check(wheelhouse: Path) -> dict[str, list[InputError]]:
    """What each rule finds wrong with a wheelhouse; where its lock cannot be read, that alone."""
    try:
        pins(wheelhouse / NAME)
    except InputError as fault:
        return {next(iter(RULES)): [fault]}
    return {name: list(rule(wheelhouse)) for name, rule in RULES.items()}
