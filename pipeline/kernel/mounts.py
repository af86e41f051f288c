"""What Kaggle would mount for a built kernel, and what this machine has in place of it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pipeline.errors import InputError
from pipeline.kernel import wheels
from pipeline.kernel.built import ADAPTERS, DATASET, KERNEL, Built
from pipeline.kernel.settings import Settings
from pipeline.models import sources

REMEDY = "Give it as --wheelhouse, its wheels for this Python; with an empty wheels.txt, this environment's vLLM is taken."

Layout = Literal["old", "new"]


def mounts(built: Built, settings: Settings, test: Path, layout: Layout, wheelhouse: Path | None = None) -> dict[str, Path]:
    """The folder of this machine behind each place below /kaggle/input.

    Raises `InputError` for an input that is not on this machine, and for a `wheelhouse` that has no lock or no name.
    """
    new, kernel = layout == "new", built.kernel
    own = {
        f"{each.source}/{settings.adapters.version}": built.folder / ADAPTERS / name for name, each in built.variations.items()
    }
    hub = {source: name for name, source in settings.weights.items()}
    found = {}
    for source in kernel.competition_sources:
        found[f"{'competitions/' if new else ''}{source}"] = test
    folders = {built.dataset.id: built.folder / DATASET}
    if wheelhouse:
        wheels.pins(wheelhouse / wheels.NAME)
        if not settings.wheelhouse:
            wanted = "its name on Kaggle, for the notebook to install it"
            raise InputError("kernel.yaml, wheelhouse", found="null", wanted=wanted, remedy="Name it and build again.")
        folders[settings.wheels] = wheelhouse
    for key, room in (("dataset_sources", "datasets"), ("kernel_sources", "notebooks")):
        for source in getattr(kernel, key):
            if source not in folders:
                raise _absent(key, source, REMEDY)
            found[f"{room}/{source}" if new else source.rpartition("/")[2]] = folders[source]
    for source in kernel.model_sources:
        if source not in own and source not in hub:
            raise _absent("model_sources", source, "Give the settings that it was built with.")
        found[f"models/{source}" if new else source.partition("/")[2]] = own.get(source) or sources.resolve(hub[source])
    return found


def _absent(key: str, source: str, remedy: str) -> InputError:
    wanted = "an input of which this machine has a copy"
    return InputError(f"{KERNEL}/kernel-metadata.json, {key}", found=source, wanted=wanted, remedy=remedy)
