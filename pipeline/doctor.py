"""What this machine has, and what each stage would therefore use. It looks and downloads nothing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from pathlib import Path

from pipeline.config import Bm25, Config, Dense, Listwise, Pointwise, Tfidf
from pipeline.errors import InputError
from pipeline.models import sources, vllm_process, vllm_reading
from pipeline.models.device import best_dtype, device, dtype_of, settled
from pipeline.store import cache_folder, versions

Rows = list[tuple[str, str]]


def examine(config: Config, data: Path | None) -> dict[str, Rows]:
    """Rows of (what, found) under two titles: what is here, and what the stages of `config` would do with it."""
    return {"this machine": [*_machine(), *_places(data)], "the stages": _stages(config)}


def _machine() -> Rows:
    found = versions()
    rows = [("Python", platform.python_version()), ("processors", str(os.cpu_count()))]
    rows += [
        (name, found.get(name, "not installed")) for name in ("torch", "transformers", "sentence-transformers", "lightgbm")
    ]
    rows.append(("vLLM", _vllm()))
    try:
        import torch
    except ImportError as error:
        return [*rows, ("GPU", f"not looked for: torch cannot be imported ({error})")]
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    rows.append(("GPU", ", ".join(gpus) or "none that torch sees"))
    rows.append(("number format", f"{best_dtype()} (what this {'GPU' if gpus else 'processor'} computes in)"))
    return rows


def _vllm() -> str:
    try:
        found = vllm_reading.installed()
    except ModuleNotFoundError:
        return "not installed"
    except InputError as error:
        return " ".join(str(error).split())
    return f"{found.version}: {vllm_reading.WAYS[vllm_reading.reading(found).way]}"


def _places(data: Path | None) -> Rows:
    cache = cache_folder()
    here = (
        f"{data}: " + (", ".join(sorted(path.name for path in data.glob("*.csv"))) or "no CSV") if data else "the embedded one"
    )
    return [("competition", here)] + [
        (name, f"{folder}, {_free(folder) / 2**30:.0f} GiB free")
        for name, folder in (("cache", cache), ("submissions", Path("submissions").absolute()))
    ]


def _stages(config: Config) -> Rows:
    rows: Rows = []
    for name, spec in config.stages.items():
        if isinstance(spec, Tfidf):
            rows.append((name, "TF-IDF by scikit-learn, on the processor: needs no weights"))
        elif isinstance(spec, Bm25):
            rows.append((name, "BM25 by bm25s, on the processor: needs no weights"))
        elif isinstance(spec, Dense):
            rows.append((name, f"{_model(spec)}; {sources.whereabouts(spec.weights)}"))
        else:
            rows.append((name, f"{spec.kind}, {_engine(spec)}; {sources.whereabouts(spec.weights)}"))
    blender = "LightGBM lambdarank, on the processor" if config.blend else "none: reciprocal rank fusion is the last stage"
    return [*rows, ("blend", blender)]


def _engine(spec: Listwise | Pointwise) -> str:
    if spec.engine == "hashed":
        return "a weightless stand-in, as the config says"
    if spec.url:
        return f"a vLLM server at {spec.url}"
    model = _model(spec)
    if spec.engine != "ray":
        return model
    if importlib.util.find_spec("ray") is None:
        return "CANNOT RUN: ray is not installed (pip install '.[ray]')"
    return f"{model}, by {spec.workers} workers of Ray on {os.environ.get('RAY_ADDRESS', 'this machine')}"


def _model(spec: Dense | Listwise | Pointwise) -> str:
    if spec.weights == sources.HASHED:
        return "a weightless stand-in, as the config says"
    try:
        package = _package(spec)
        find = vllm_process.find if package == "vllm" else importlib.util.find_spec
        if find(package.replace("-", "_")) is None:
            return f"CANNOT RUN: {package} is not installed (pip install '.[cpu]' or '.[gpu]')"
        return f"{package} on {device()} in {dtype_of(spec.dtype)}"
    except ImportError as error:
        return f"CANNOT RUN: torch cannot be imported ({error})"


def _package(spec: Dense | Listwise | Pointwise) -> str:
    if isinstance(spec, Dense):
        return "sentence-transformers"
    return "vllm" if settled(spec).engine in ("vllm", "server") else "transformers"


def _free(folder: Path) -> int:
    """Free bytes where `folder` is or would be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
