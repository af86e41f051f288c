"""The lint of a built kernel: a rule a function, each told in one message, all of them before anything is uploaded.

It looks at what was built alone: whether a slug is free or a model's version exists, only Kaggle knows.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

from pipeline.config import Data, Dense
from pipeline.errors import InputError
from pipeline.kernel import wheels
from pipeline.kernel.built import ADAPTERS, DATASET, KERNEL, REBUILD, Built, read, size, uploads
from pipeline.kernel.metadata import DatasetMetadata, KernelMetadata, ModelMetadata
from pipeline.kernel.notebook import CELLS, ENGINE
from pipeline.kernel.settings import Accelerator
from pipeline.models.adapters import WEIGHTS, base_of
from pipeline.models.sources import MODEL_SOURCE, slug

READABLE = "every file is there and can be read"

# bytes an upload, as Kaggle's pages have it: 1 MB for a notebook, 200 GB for a dataset or a model
LIMITS = {KERNEL: 10**6, DATASET: 200 * 10**9, ADAPTERS: 200 * 10**9}
PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.+-]{0,99}", re.ASCII)  # Kaggle turns down @ and &, for example
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")

NETWORK = {
    "an address": r"https?://|\bwww\.",
    "a download": r"\b(kagglehub|snapshot_download|hf_hub_download|load_dataset|urlopen|urlretrieve|requests|curl|wget)\b",
    "a clone": r"\bgit\W+clone\b",
    "a tracker": r"\b(wandb|mlflow|comet_ml|neptune|clearml|tensorboard)\b",
    "pip with an index": r"\bpip\W+(install|download)\b(?!.*--no-index)",
    "a hub's name": r"""["'][A-Za-z0-9][\w.-]*/[\w.-]+["']""",
}
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")

Faults = Iterator[InputError]


def internet(built: Built) -> Faults:
    """The competition runs notebooks without a network, and takes no other."""
    if built.kernel.enable_internet:
        yield _key("enable_internet", found="true", wanted="false")


def accelerator(built: Built) -> Faults:
    """The client checks no name, and Kaggle replaces one that it does not have."""
    shape, known = built.kernel.machine_shape, get_args(Accelerator)
    if shape is not None and shape not in known:
        yield _key("machine_shape", found=shape, wanted=f"one of {', '.join(known)}, or null")
    if built.kernel.enable_gpu != (shape is not None):
        yield _key("enable_gpu", found=f"{built.kernel.enable_gpu} with machine_shape {shape}", wanted="true with a GPU alone")


def slugs(built: Built) -> Faults:
    """Kaggle makes the slug from the title: with another, the upload lands somewhere else."""
    named = {
        f"{KERNEL}/{KernelMetadata.FILE}": (built.kernel.id, built.kernel.title),
        f"{DATASET}/{DatasetMetadata.FILE}": (built.dataset.id, built.dataset.title),
    }
    if built.model:
        named[f"{ADAPTERS}/{ModelMetadata.FILE}"] = (built.model.slug, built.model.title)
    for file, (name, title) in named.items():
        if name.rpartition("/")[2] != slug(title):
            yield InputError(
                f"{file}, title",
                found=f"{title!r} with the slug of {name!r}",
                wanted=f"the slug {slug(title)!r}",
                remedy=REBUILD,
            )


def versions(built: Built) -> Faults:
    """A model source without a version is none."""
    for source in built.kernel.model_sources:
        if not MODEL_SOURCE.fullmatch(source):
            yield _key("model_sources", found=source, wanted="owner/model/framework/variation/version, the version a number")


def attached(built: Built) -> Faults:
    """What the notebook and the config look for must be mounted."""
    kernel = built.kernel
    if built.dataset.id not in kernel.dataset_sources:
        yield _key("dataset_sources", found=", ".join(kernel.dataset_sources) or "none", wanted=f"{built.dataset.id} as well")
    if ENGINE.strip() in built.code and not built.wheelhouse:
        yield _key("kernel_sources", found="no wheelhouse", wanted="it, because the notebook installs it")
    if len(kernel.competition_sources) != 1:
        yield _key("competition_sources", found=", ".join(kernel.competition_sources) or "none", wanted="one competition")
    for setting, reference in built.references():
        if MODEL_SOURCE.fullmatch(reference) and reference not in kernel.model_sources:
            yield _key("model_sources", found=f"no {reference}", wanted=f"it, because {setting} names it")
    for place, spec in built.stages():
        for file in getattr(spec, "examples", ()):
            if Path(file).parent != built.folder / DATASET:
                yield InputError(f"{place}.examples", found=file, wanted="a file of the dataset", remedy=REBUILD)


def mounted(built: Built) -> Faults:
    """A hub's name or a path of this machine is not found on Kaggle."""
    for setting, reference in built.references():
        if not MODEL_SOURCE.fullmatch(reference):
            wanted = "a model source of Kaggle's, owner/model/framework/variation/version"
            yield InputError(setting, found=reference, wanted=wanted, remedy="Give it one under weights in kernel.yaml.")
    for place, spec in built.stages():
        if isinstance(spec, Dense) and spec.notes:
            yield InputError(
                f"{place}.notes",
                found=spec.notes,
                wanted="null: a kernel carries no file of notes",
                remedy="Fit without notes.",
            )


def adapters(built: Built) -> Faults:
    """Each adapter that the config names is uploaded, and was made for the weights beside it."""
    named = dict(built.references())
    own = {variation.source: name for name, variation in built.variations.items()}
    for setting, reference in named.items():
        if not setting.endswith(".adapter"):
            continue
        if (name := own.get(reference.rpartition("/")[0])) is None:
            yield InputError(setting, found=reference, wanted=f"one of {sorted(own)}, with its version", remedy=REBUILD)
            continue
        weights, folder = named.get(setting.removesuffix("adapter") + "weights"), built.folder / ADAPTERS / name
        try:
            base = base_of(folder)
        except InputError as fault:
            yield fault
            continue
        if base != weights or not (folder / WEIGHTS).is_file():
            found = f"an adapter of {base}" if base != weights else f"no {WEIGHTS}"
            yield InputError(f"{ADAPTERS}/{name}", found=found, wanted=f"{WEIGHTS} of {weights}", remedy=REBUILD)


def outputs(built: Built) -> Faults:
    """A notebook that has run says what it was, not what it will be."""
    for number, cell in enumerate(built.notebook.cells):
        if cell.get("outputs") or cell.get("execution_count"):
            yield _cell(built, number, found="outputs of a run", wanted="none")


def cells(built: Built) -> Faults:
    """A notebook is read by people: few cells, each of which says what it does."""
    if (count := len(built.notebook.cells)) >= CELLS:
        yield _cell(built, count - 1, found=f"{count} cells", wanted=f"fewer than {CELLS}")
    for number, cell in enumerate(built.notebook.cells):
        if cell.cell_type == "code" and not cell.source.startswith("# "):
            yield _cell(built, number, found=cell.source.partition("\n")[0], wanted="a comment that says what the cell does")


def offline(built: Built) -> Faults:
    """Nothing that asks the network: offline it fails at once or, worse, waits."""
    for number, cell in enumerate(built.notebook.cells):
        for what, pattern in NETWORK.items():
            if cell.cell_type == "code" and (hit := re.search(pattern, cell.source)):
                yield _cell(built, number, found=f"{what}: {hit[0]}", wanted="inputs that are mounted, and nothing else")
    for name in OFFLINE:
        if not any(f'"{name}": "1"' in source for source in built.code):
            yield _cell(built, 0, found=f"{name} is not set", wanted=f'"{name}": "1" in the environment')


def names(built: Built) -> Faults:
    """Kaggle's client skips folders, Kaggle unpacks archives and turns down names."""
    for upload, paths in uploads(built.folder).items():
        for path in paths:
            if path.is_dir():
                yield _file(upload, path, found="a folder, which the upload would skip", wanted="files alone")
            elif path.name.endswith(ARCHIVES):
                yield _file(upload, path, found="an archive, which Kaggle would unpack", wanted="plain files and wheels")
            elif not PLAIN_NAME.fullmatch(path.name):
                yield _file(
                    upload, path, found="signs that Kaggle may turn down", wanted="letters, digits, and . _ + - behind them"
                )


def sizes(built: Built) -> Faults:
    """As large as Kaggle takes."""
    for upload, paths in uploads(built.folder).items():
        if (found := size(paths)) > (limit := LIMITS[upload.partition("/")[0]]):
            yield InputError(upload, found=f"{found:,} bytes", wanted=f"{limit:,} at most", remedy="Take smaller weights.")


def wheel(built: Built) -> Faults:
    """One wheel of the project, for any Python, whole, with what the notebook imports from it."""
    found = sorted((built.folder / DATASET).glob("*.whl"))
    if len(found) != 1 or not re.fullmatch(r"eedi-.+-py3-none-any\.whl", found[0].name):
        listed = ", ".join(path.name for path in found) or "none"
        yield InputError(f"{DATASET}/*.whl", found=listed, wanted="one, eedi-…-py3-none-any.whl", remedy=REBUILD)
        return
    try:
        members = set(zipfile.ZipFile(found[0]).namelist())
    except zipfile.BadZipFile as error:
        yield _file(DATASET, found[0], found=str(error), wanted="a whole wheel")
        return
    if (module := "pipeline/kernel/inputs.py") not in members:
        yield _file(DATASET, found[0], found=f"no {module}", wanted="this version's wheel")


def competition(built: Built) -> Faults:
    """A bundle that was fitted with another file as its test would rank that one."""
    if built.config.data != Data():
        found = json.dumps(built.config.data.model_dump())
        yield InputError(
            f"{DATASET}/config.yaml, data",
            found=found,
            wanted="the competition's own names",
            remedy="Fit without data.… settings.",
        )


def engine(built: Built) -> Faults:
    """Kaggle's image has no vLLM: a judge that runs by it is left out there, and the rest is submitted."""
    for stage, spec in built.config.rerank.items():
        served = spec.on(built.kernel.enable_gpu).engine in ("vllm", "server") and not spec.url
        if served and not built.wheelhouse:
            yield InputError(
                "kernel.yaml, wheelhouse",
                found=f"null, so that Kaggle runs the notebook without {stage}",
                wanted="vLLM's packages, which its image lacks",
                remedy="Make them by `eedi kernel wheels`, name them, and build again; or take engine=tree.",
            )


def _key(key: str, *, found: str, wanted: str) -> InputError:
    return InputError(f"{KERNEL}/{KernelMetadata.FILE}, {key}", found=found, wanted=wanted, remedy=REBUILD)


def _cell(built: Built, number: int, *, found: str, wanted: str) -> InputError:
    return InputError(
        f"{KERNEL}/{built.kernel.code_file}, cell {number + 1}", found=found, wanted=wanted, remedy="Build again."
    )


def _file(upload: str, path: Path, *, found: str, wanted: str) -> InputError:
    return InputError(
        f"{upload}/{path.name}", found=found, wanted=wanted, remedy="Rename it or take it out of the bundle, and build again."
    )


RULES: dict[str, Callable[[Built], Faults]] = {
    "the internet is off": internet,
    "the accelerator is one that Kaggle has": accelerator,
    "slugs are those of the titles": slugs,
    "models have versions": versions,
    "what the kernel reads is attached": attached,
    "weights come from Kaggle's models": mounted,
    "adapters are uploaded and fit their weights": adapters,
    "the notebook has no outputs": outputs,
    "its cells are few and say what they do": cells,
    "nothing on its path asks the network": offline,
    "Kaggle takes the files' names": names,
    "Kaggle takes the uploads' sizes": sizes,
    "the wheel is there and whole": wheel,
    "the test is the competition's": competition,
}

# what costs a stage and not the submission
DOUBTS: dict[str, Callable[[Built], Faults]] = {"a judge by vLLM has its packages": engine}


def check(folder: Path, wheelhouse: Path | None = None) -> dict[str, list[InputError]]:
    """What each rule finds wrong, with the wheelhouse too if there is one; where the files cannot be read, that alone."""
    try:
        built = read(folder)
    except InputError as fault:
        return {READABLE: [fault]}
    found = {READABLE: [], **{name: list(rule(built)) for name, rule in RULES.items()}}
    return found | wheels.check(wheelhouse) if wheelhouse else found


def doubts(folder: Path) -> dict[str, list[InputError]]:
    """What each rule finds that Kaggle runs, though less than was meant. Raises `InputError` for files that cannot be read."""
    built = read(folder)
    return {name: list(rule(built)) for name, rule in DOUBTS.items()}
