"""The JSON files that the `kaggle` client reads, key by key: every one is written out, none is left to its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from pipeline.config import Spec
from pipeline.errors import InputError
from pipeline.kernel.settings import FRAMEWORK, NOTEBOOKS, Settings, told
from pipeline.models.sources import slug

NOTEBOOK = "eedi.ipynb"
# non-commercial, as the competition's data is; Kaggle has a list of names for datasets and another for models
DATASET_LICENCE, MODEL_LICENCE = "CC-BY-NC-SA-4.0", "CC BY-NC-SA 4.0"


def _title(reference: str) -> str:
    """A title of which Kaggle makes the slug of owner/slug."""
    return reference.rpartition("/")[2].replace("-", " ").capitalize()


class Metadata(Spec):
    """A metadata file; `FILE` is the name that the client looks for."""

    FILE: ClassVar[str]

    def write(self, folder: Path) -> None:
        """Write the file into a folder."""
        (folder / self.FILE).write_text(self.model_dump_json(indent=1, by_alias=True) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The file of a folder. Raises `InputError` for one that lacks a key, or has one or a type that is not known."""
        try:
            return cls.model_validate_json((folder / cls.FILE).read_bytes(), strict=True, by_name=False)
        except OSError as error:
            found = error.strerror or str(error)
        except ValidationError as error:
            found = told(error)
        raise InputError(
            f"{folder.name}/{cls.FILE}",
            found=found,
            wanted="the file as `eedi kernel build` writes it",
            remedy="Change kernel.yaml instead, and build again.",
        )


class KernelMetadata(Metadata):
    """kernel-metadata.json. A missing `enable_internet` would mean true."""

    FILE = "kernel-metadata.json"

    id: str
    title: str
    code_file: str
    language: Literal["python"]
    kernel_type: Literal["notebook"]
    is_private: bool
    enable_gpu: bool
    enable_internet: bool
    machine_shape: str | None
    competition_sources: tuple[str, ...]
    dataset_sources: tuple[str, ...]
    kernel_sources: tuple[str, ...]
    model_sources: tuple[str, ...]
    docker_image: str | None
    docker_image_pinning_type: Literal["original", "latest"] | None

    @classmethod
    def of(cls, settings: Settings, models: set[str]) -> KernelMetadata:
        """A private offline notebook that is given the competition, the bundle, the wheelhouse and `models`."""
        wheels = (settings.wheels,) if settings.wheelhouse else ()
        built_there = (settings.wheelhouse or "").startswith(NOTEBOOKS)
        return cls(
            id=f"{settings.owner}/{settings.kernel.slug}",
            title=settings.kernel.title,
            code_file=NOTEBOOK,
            language="python",
            kernel_type="notebook",
            is_private=True,
            enable_gpu=settings.accelerator is not None,
            enable_internet=False,
            machine_shape=settings.accelerator,
            competition_sources=(settings.competition,),
            dataset_sources=(f"{settings.owner}/{settings.dataset.slug}", *(() if built_there else wheels)),
            kernel_sources=wheels if built_there else (),
            model_sources=tuple(sorted(models)),
            docker_image=settings.image,
            docker_image_pinning_type="original" if settings.image else None,
        )

    @classmethod
    def wheels(cls, settings: Settings) -> KernelMetadata:
        """The notebook that builds the wheelhouse: on the kernel's image, with internet, given nothing."""
        told = {"id": settings.wheels, "title": _title(settings.wheels), "enable_internet": True}
        return cls.of(settings, set()).model_copy(
            update={**told, "competition_sources": (), "dataset_sources": (), "kernel_sources": ()}
        )


class DatasetMetadata(Metadata):
    """dataset-metadata.json."""

    FILE = "dataset-metadata.json"

    id: str
    title: str
    licenses: Annotated[tuple[dict[str, str], ...], Field(min_length=1, max_length=1)]

    @classmethod
    def of(cls, settings: Settings) -> DatasetMetadata:
        """The dataset that carries the wheel and the bundle."""
        name = settings.dataset
        return cls(id=f"{settings.owner}/{name.slug}", title=name.title, licenses=({"name": DATASET_LICENCE},))

    @classmethod
    def wheels(cls, settings: Settings) -> DatasetMetadata:
        """The dataset of a wheelhouse, whose packages have licences of their own."""
        return cls(id=settings.wheels, title=_title(settings.wheels), licenses=({"name": "other"},))


class ModelMetadata(Metadata):
    """model-metadata.json."""

    FILE = "model-metadata.json"
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)

    owner_slug: str
    slug: str
    title: str
    is_private: bool
    description: str

    @classmethod
    def of(cls, settings: Settings) -> ModelMetadata:
        """The Kaggle model that the adapters are variations of."""
        return cls(
            owner_slug=settings.owner,
            slug=settings.adapters.slug,
            title=settings.adapters.title,
            is_private=True,
            description="PEFT adapters, a variation each stage.",
        )

    @property
    def reference(self) -> str:
        """As Kaggle's client names it."""
        return f"{self.owner_slug}/{self.slug}"


class VariationMetadata(Metadata):
    """model-instance-metadata.json: a variation of a model, which Kaggle's client also calls an instance."""

    FILE = "model-instance-metadata.json"
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)

    owner_slug: str
    model_slug: str
    instance_slug: str
    framework: str
    license_name: str

    @classmethod
    def of(cls, settings: Settings, stage: str) -> VariationMetadata:
        """The variation that carries the adapter of a stage."""
        return cls(
            owner_slug=settings.owner,
            model_slug=settings.adapters.slug,
            instance_slug=slug(stage),
            framework=FRAMEWORK,
            license_name=MODEL_LICENCE,
        )

    @property
    def source(self) -> str:
        """As a kernel names it, without the version."""
        return "/".join((self.owner_slug, self.model_slug, self.framework, self.instance_slug))
