"""What `eedi kernel build` wrote, read back: the metadata, the notebook, the config, and the files of each upload."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import bundle as bundles
from pipeline.config import Config, Spec
from pipeline.errors import InputError
from pipeline.kernel.metadata import DatasetMetadata, KernelMetadata, ModelMetadata, VariationMetadata
from pipeline.models.sources import HASHED

if TYPE_CHECKING:
    from nbformat import NotebookNode

DATASET, ADAPTERS, KERNEL = "dataset", "adapters", "kernel"  # the folders that are uploaded
REBUILD = "Change kernel.yaml or the bundle, and build again."


@dataclass(frozen=True)
class Built:
    """A built kernel, read. `variations` are by their folder's name."""

    folder: Path
    kernel: KernelMetadata
    notebook: NotebookNode
    dataset: DatasetMetadata
    config: Config
    model: ModelMetadata | None
    variations: Mapping[str, VariationMetadata]

    @property
    def code(self) -> list[str]:
        """The code cells' sources."""
        return [cell.source for cell in self.notebook.cells if cell.cell_type == "code"]

    @property
    def wheelhouse(self) -> str | None:
        """What is attached besides the bundle: the packages of vLLM."""
        attached = (*self.kernel.dataset_sources, *self.kernel.kernel_sources)
        return next((source for source in attached if source != self.dataset.id), None)

    def stages(self) -> Iterator[tuple[str, Spec]]:
        """Each retriever and judge, by where its settings stand."""
        for room, stages in (("retrieve", self.config.retrieve), ("rerank", self.config.rerank)):
            for stage, spec in stages.items():
                yield f"{DATASET}/config.yaml, {room}.{stage}", spec

    def references(self) -> Iterator[tuple[str, str]]:
        """Each setting that names weights or an adapter, and what it names."""
        for place, spec in self.stages():
            for field in ("weights", "adapter"):
                if (reference := getattr(spec, field, None)) not in (None, HASHED):
                    yield f"{place}.{field}", reference


def read(folder: Path) -> Built:
    """Read what `eedi kernel build` wrote. Raises `InputError` for the first file that is missing or not as it was written."""
    dataset, adapters, kernel = folder / DATASET, folder / ADAPTERS, KernelMetadata.read(folder / KERNEL)
    there = adapters.is_dir()
    return Built(
        folder,
        kernel,
        _notebook(folder / KERNEL / kernel.code_file),
        DatasetMetadata.read(dataset),
        bundles.load(dataset).config,
        ModelMetadata.read(adapters) if there else None,
        {path.name: VariationMetadata.read(path) for path in sorted(adapters.iterdir()) if path.is_dir()} if there else {},
    )


def _notebook(path: Path) -> NotebookNode:
    import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
    except (OSError, ValueError, AttributeError, nbformat.ValidationError) as error:  # AttributeError: JSON, but no object
        raise InputError(
            f"{KERNEL}/{path.name}, the metadata's code_file",
            found=str(error).splitlines()[0],
            wanted="a notebook",
            remedy=REBUILD,
        ) from None
    return notebook


def uploads(folder: Path) -> dict[str, list[Path]]:
    """What lies in each folder that is uploaded, by its path in the build."""
    variations = sorted(path for path in (folder / ADAPTERS).glob("*") if path.is_dir())
    return {str(each.relative_to(folder)): sorted(each.iterdir()) for each in (folder / DATASET, *variations, folder / KERNEL)}


def size(paths: list[Path]) -> int:
    """Bytes of some files."""
    return sum(path.stat().st_size for path in paths if path.is_file())
