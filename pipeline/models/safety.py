"""Whether a folder of weights can be loaded without running anything of it: no pickle, no code, no foreign module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.errors import InputError

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.h5", "*.msgpack")


MARKERS = ("config.json", "modules.json", "adapter_config.json")  # one of them makes a folder a model or an adapter


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

    if not any((folder / marker).is_file() for marker in MARKERS):
        raise refuse(f"none of {', '.join(MARKERS)}", "a model's or an adapter's folder in Hugging Face's layout")
    whole = (folder / "modules.json").is_file()
    if not any(folder.rglob("*.safetensors") if whole else folder.glob("*.safetensors")):
        pickles = sorted(str(path.relative_to(folder)) for pattern in PICKLES for path in folder.rglob(pattern))
        raise refuse(f"no safetensors{f', but {pickles}, which can run code' if pickles else ''}", "weights as safetensors")
    for config in folder.rglob("*config.json"):
        if not isinstance(settings := read(config, dict if config.name == "config.json" else object), dict):
            continue  # a record of its training, say
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
