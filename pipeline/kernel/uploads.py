"""What a folder holds for Kaggle, and what Kaggle has of it already: asked before anything is uploaded."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError
from pipeline.kernel import wheels
from pipeline.kernel.account import Client, Missing
from pipeline.kernel.built import ADAPTERS, DATASET, KERNEL
from pipeline.kernel.check import check
from pipeline.kernel.metadata import DatasetMetadata, KernelMetadata, ModelMetadata, VariationMetadata


@dataclass(frozen=True)
class Uploads:
    """The metadata of what lies in `folder` for Kaggle; variations by their own folders."""

    folder: Path
    dataset: DatasetMetadata | None
    model: ModelMetadata | None
    variations: dict[Path, VariationMetadata]
    kernel: KernelMetadata | None

    @property
    def owners(self) -> set[str]:
        """Whose they are to be."""
        owners = {each.id.partition("/")[0] for each in (self.dataset, self.kernel) if each}
        return owners | {each.owner_slug for each in (self.model, *self.variations.values()) if each}

    @property
    def competition(self) -> str | None:
        """That the kernel enters."""
        return next(iter(self.kernel.competition_sources), None) if self.kernel else None

    @property
    def earlier(self) -> dict[str, int]:
        """The version of each variation before that which the kernel takes."""
        return {each.source: self.version(each) - 1 for each in self.variations.values()}

    def version(self, variation: VariationMetadata) -> int:
        """That the kernel takes of a variation; the first where it takes none."""
        for source in self.kernel.model_sources if self.kernel else ():
            name, _, number = source.rpartition("/")
            if name == variation.source:
                return int(number)
        return 1


def read(folder: Path) -> Uploads:
    """What `eedi kernel build` or `eedi kernel wheels` wrote.

    Raises `InputError` for the first thing that the check finds wrong, and for a folder that holds nothing to upload.
    """
    dataset, adapters, kernel = (folder / name if (folder / name).is_dir() else None for name in (DATASET, ADAPTERS, KERNEL))
    if dataset:
        found = wheels.check(dataset) if (dataset / wheels.NAME).is_file() else check(folder)
        for fault in (fault for faults in found.values() for fault in faults):
            raise fault
    elif not kernel:
        raise InputError(folder, found="nothing to upload", wanted="what `eedi kernel build` wrote", remedy="Build it first.")
    return Uploads(
        folder,
        DatasetMetadata.read(dataset) if dataset else None,
        ModelMetadata.read(adapters) if adapters else None,
        {path: VariationMetadata.read(path) for path in sorted(adapters.iterdir()) if path.is_dir()} if adapters else {},
        KernelMetadata.read(kernel) if kernel else None,
    )


def there(kaggle: Client, uploads: Uploads, skip_existing: bool) -> dict[str, int]:
    """The newest version that Kaggle has of each upload, by its reference; nothing where it has none.

    Raises `InputError` for one that has another title there, and for a variation whose next version is not the one that the
    kernel takes; with `skip_existing` only where that one would leave a gap.
    """
    found = {}
    if (dataset := uploads.dataset) and _same(kaggle, dataset.id, dataset.title, "dataset_metadata", dataset=dataset.id):
        found[dataset.id] = status(kaggle, dataset.id)["current_version_number"]
    if (model := uploads.model) and _same(kaggle, model.reference, model.title, "model_get", model=model.reference):
        found[model.reference] = 1
    if kernel := uploads.kernel:
        _same(kaggle, kernel.id, kernel.title, "kernels_pull", kernel=kernel.id, metadata=True)
    for path, variation in uploads.variations.items():
        try:
            newest = kaggle("model_instance_get", model_instance=variation.source).version_number
        except Missing:
            newest = 0
        wanted, following = uploads.version(variation), newest + 1
        if wanted > following or (wanted < following and not skip_existing):
            raise InputError(
                f"{ADAPTERS}/{path.name}, the version that the kernel takes",
                found=f"{wanted}, where Kaggle has {newest or 'none'}",
                wanted=str(following),
                remedy=f"Set adapters.version to {following} in kernel.yaml and build again, or push with --skip-existing.",
            )
        found[variation.source] = newest
    return found


def status(kaggle: Client, dataset: str) -> dict[str, Any]:
    """A dataset's `status` ("ready" in the end) and its `current_version_number`."""
    try:
        told: dict[str, Any] = json.loads(kaggle("dataset_status", dataset=dataset, format="json"))
    except Missing:  # Kaggle takes a moment to know a new one
        return {"status": "missing", "current_version_number": 0}
    return told


def _same(kaggle: Client, reference: str, title: str, method: str, **arguments: Any) -> bool:
    """Whether Kaggle has it. Raises `InputError` where that is something else, which an upload would bury."""
    with tempfile.TemporaryDirectory() as temporary:
        try:
            answer = kaggle(method, **arguments, **({} if method == "model_get" else {"path": temporary}))
        except Missing:
            return False
        files = list(Path(temporary).glob("*-metadata.json"))
        told = json.loads(files[0].read_text(encoding="utf-8")) if files else {"title": answer.title}
    if (found := told.get("info", told)["title"]) != title:
        raise InputError(
            f"{reference} on Kaggle",
            found=f"the title {found!r}",
            wanted=repr(title),
            remedy="Choose another title and slug in kernel.yaml and build again, or rename it on Kaggle.",
        )
    return True
