"""kernel.yaml: whose the kernel is, what its parts are called on Kaggle, and where it finds its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, model_validator

from pipeline.budget import duration
from pipeline.config import Spec
from pipeline.errors import InputError
from pipeline.models.sources import MODEL_SOURCE, slug

FILE = Path(__file__).parents[2] / "kaggle_kernel" / "kernel.yaml"  # the example, and the default
NOTEBOOKS = "notebooks/"  # before what is no dataset, as in Kaggle's mounts
FRAMEWORK = "transformers"  # of the adapters, as Kaggle names it

# a retired one (NvidiaTeslaP100) is silently replaced, and the client checks no name
Accelerator = Literal["NvidiaTeslaT4", "NvidiaL4", "NvidiaL4X1", "NvidiaTeslaA100", "NvidiaH100"]


def _model_source(text: str) -> str:
    if not MODEL_SOURCE.fullmatch(text):
        raise ValueError(f"{text!r} is not owner/model/framework/variation/version, the version a number")
    return text


ModelSource = Annotated[str, AfterValidator(_model_source)]

LONGEST = 12  # hours that Kaggle lets any notebook run


def _deadline(text: str) -> str:
    if not 0 < (duration(text) or 0) <= 3600 * LONGEST:
        raise ValueError(f"{text!r} is not a duration such as 8h30m, {LONGEST} hours at most")
    return text


class Upload(Spec):
    """What Kaggle calls one of the things that are uploaded; it makes the slug from the title."""

    slug: str = Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$", min_length=6, max_length=50)
    title: str = Field(pattern=r"^[ -~]+$", min_length=6, max_length=50)

    @model_validator(mode="after")
    def _fit(self) -> Upload:
        if slug(self.title) != self.slug:
            raise ValueError(f"of the title {self.title!r} Kaggle makes the slug {slug(self.title)!r}, not {self.slug!r}")
        return self


class Adapters(Upload):
    """The Kaggle model whose variations are the bundle's adapters."""

    version: int = Field(1, ge=1)  # that the kernel takes; Kaggle counts the uploads


class Settings(Spec):
    """One kernel."""

    owner: str = Field(pattern=r"^[a-z0-9]+([_-][a-z0-9]+)*$")
    competition: str = "eedi-mining-misconceptions-in-mathematics"
    accelerator: Accelerator | None = "NvidiaTeslaT4"  # T4 x2; null for none
    deadline: Annotated[str, AfterValidator(_deadline)] = "8h30m"  # from the notebook's start; Kaggle's is usually 9h
    image: str | None = None  # the Docker image to pin, as `kaggle kernels pull -m` writes it; null for Kaggle's newest
    kernel: Upload = Upload(slug="eedi-kernel", title="Eedi kernel")
    dataset: Upload = Upload(slug="eedi-bundle", title="Eedi bundle")
    adapters: Adapters = Adapters(slug="eedi-adapters", title="Eedi adapters")
    weights: dict[str, ModelSource] = Field(default_factory=dict)  # Kaggle's model for each name in the config
    # third-party wheels: a dataset, owner/slug, or what a notebook has left, notebooks/owner/slug
    wheelhouse: str | None = Field(None, pattern=r"^(notebooks/)?[\w-]+/[a-z0-9-]{6,50}$")

    @property
    def wheels(self) -> str:
        """What Kaggle calls the wheelhouse, owner/slug."""
        return (self.wheelhouse or f"{self.owner}/eedi-wheels").removeprefix(NOTEBOOKS)

    def adapter_source(self, stage: str) -> str:
        """The Kaggle model that carries the adapter of a stage."""
        return f"{self.owner}/{self.adapters.slug}/{FRAMEWORK}/{slug(stage)}/{self.adapters.version}"


def told(error: ValidationError) -> str:
    """Every fault that pydantic found, in one line."""
    faults = [(".".join(map(str, one["loc"])), one["msg"].removeprefix("Value error, ")) for one in error.errors()]
    return "; ".join(f"{place}: {fault}" if place else fault for place, fault in faults)


def load(path: Path) -> Settings:
    """The settings in a YAML file. Raises `InputError` for one that is not there or does not say what a kernel needs."""
    try:
        return Settings.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        found = str(error).replace("\n", " ")
    except ValidationError as error:
        found = told(error)
    raise InputError(path, found=found, wanted=f"the settings of {FILE.name}", remedy=f"See kaggle_kernel/{FILE.name}.")
