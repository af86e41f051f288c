"""A bundle to a folder of uploads: dataset/ (wheel, bundle), adapters/ (a Kaggle model), kernel/ (notebook, metadata)."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline import bundle as bundles
from pipeline.config import Config, dump, resolved
from pipeline.errors import InputError
from pipeline.kernel.built import ADAPTERS, DATASET, KERNEL
from pipeline.kernel.check import check, doubts
from pipeline.kernel.metadata import NOTEBOOK, DatasetMetadata, KernelMetadata, ModelMetadata, VariationMetadata
from pipeline.kernel.notebook import notebook
from pipeline.kernel.settings import Settings
from pipeline.models.adapters import WEIGHTS, base_of
from pipeline.models.safety import checked
from pipeline.models.sources import HASHED, here, slug
from pipeline.models.vectors import VECTORS
from pipeline.store import new_folder

log = logging.getLogger(__name__)

ROOT = Path(__file__).parents[2]
SOURCE = ("pyproject.toml", "README.md", "LICENSE")  # with the package, all that a wheel is made of


def build(bundle: Path, settings: Settings, out: Path) -> None:
    """Write all that is uploaded for the bundle as a new folder, which has passed `check`.

    Raises `InputError` for a bundle whose adapters are not here, for weights without a Kaggle model, and for the first fault
    that the check finds; nothing is left then. What it doubts is logged.
    """
    config, adapters, models = _placed(bundle, settings)
    with new_folder(out) as new:
        shutil.copytree(bundle, new / DATASET)
        (new / DATASET / "config.yaml").write_text(dump(config), encoding="utf-8")
        DatasetMetadata.of(settings).write(new / DATASET)
        _wheel(new / DATASET)
        for stage, (folder, weights) in adapters.items():
            _adapter(folder, weights, new / ADAPTERS / slug(stage))
            VariationMetadata.of(settings, stage).write(new / ADAPTERS / slug(stage))
        if adapters:
            ModelMetadata.of(settings).write(new / ADAPTERS)
        _kernel(settings, models, new / KERNEL)
        if faults := [fault for found in check(new).values() for fault in found]:
            raise faults[0]
        for doubt in (doubt for found in doubts(new).values() for doubt in found):
            log.warning("%s", doubt)


def _placed(bundle: Path, settings: Settings) -> tuple[Config, dict[str, tuple[Path, str]], set[str]]:
    """The bundle's config as the kernel will read it, each stage's adapter and the weights below it, and Kaggle's models.

    Weights and adapters are named by the Kaggle models that carry them there.
    """
    told, adapters, homeless = bundles.movable(bundles.load(bundle).config, bundle).model_dump(), {}, set()
    models = set()
    for stage, spec in {**told["retrieve"], **told["rerank"]}.items():
        weights, adapter = spec.get("weights", HASHED), spec.get("adapter")
        if weights == HASHED:
            continue
        if weights not in settings.weights:
            homeless.add(weights)
            continue
        spec["weights"] = settings.weights[weights]
        if adapter:
            adapters[stage] = (_here(adapter, f"{bundle}, the adapter of {stage}"), spec["weights"])
            spec["adapter"] = settings.adapter_source(stage)
        models |= {spec["weights"], *filter(None, [spec.get("adapter")])}
    if homeless:
        raise InputError(
            "kernel.yaml, weights",
            found=f"no {', '.join(sorted(homeless))}",
            wanted="the Kaggle model of all weights in the bundle, owner/model/framework/variation/version",
            remedy="Add them; weights of your own are uploaded as a Kaggle model first.",
        )
    return resolved(told, str(bundle)), adapters, models


def _here(adapter: str, where: str) -> Path:
    """The adapter's folder on this machine."""
    found = here(adapter)
    if found is None:
        raise InputError(
            where,
            found=f"{adapter}, which is not on this machine",
            wanted="the folder that the bundle was fitted with",
            remedy="Build where it lies, or bring it here under the same path.",
        )
    return checked(found[1])


def _adapter(folder: Path, weights: str, to: Path) -> None:
    """Copy an adapter and name its base as the kernel's config does, since the two are compared when it is loaded."""
    log.info("adapter %s of %s", folder, base_of(folder))
    to.mkdir(parents=True)
    for file in (WEIGHTS, VECTORS):
        if (folder / file).is_file():
            shutil.copy(folder / file, to)
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = weights
    (to / "adapter_config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")


def _kernel(settings: Settings, models: set[str], to: Path) -> None:
    import nbformat

    to.mkdir()
    KernelMetadata.of(settings, models).write(to)
    nbformat.write(notebook(settings), to / NOTEBOOK)


def _wheel(to: Path) -> None:
    """Build the project's wheel, from a copy, because setuptools packs what an earlier build left beside the sources."""
    if not (ROOT / "pyproject.toml").is_file():
        raise InputError(
            ROOT,
            found="no pyproject.toml",
            wanted="the project's own folder",
            remedy="Build from a clone, installed with pip -e.",
        )
    with tempfile.TemporaryDirectory() as temporary:
        for name in SOURCE:
            shutil.copy(ROOT / name, temporary)
        shutil.copytree(ROOT / "pipeline", Path(temporary) / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "-w",
            str(to),
            temporary,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(
            "pip wheel",
            found=(done.stderr.strip().splitlines() or ["no message"])[-1],
            wanted="the project's wheel",
            remedy="Install this project's extra: pip install -e '.[kernel]'.",
        )
