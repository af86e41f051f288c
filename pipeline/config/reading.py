"""Settings from YAML files and dotted overrides, which are sparse, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config.tree import Config
from pipeline.errors import InputError


def merge(under: Any, over: Any) -> Any:
    """`over` laid on `under`: mappings key by key, null deletes a stage, a block of another kind replaces the old one."""
    if not (isinstance(under, Mapping) and isinstance(over, Mapping)):
        return over
    if over.get("kind", under.get("kind")) != under.get("kind"):
        return dict(over)
    return {**under, **{key: merge(under.get(key), value) for key, value in over.items()}}


def load(path: Path | None = None, overrides: Sequence[str] = (), under: Config | None = None) -> Config:
    """`under` (the defaults), then the YAML file, then `key.sub=value` overrides (values read as YAML).

    Raises `InputError` for a file that is not there or not YAML, and for a key or value that no setting has.
    """
    settings: Any = (under or Config()).model_dump()
    where = str(path) if path else "the settings"
    if path:
        settings = merge(settings, _read(path))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(
                f"override {override!r}",
                found="no key=value",
                wanted="e.g. retrieve.dense.top_k=50",
                remedy="Write it so.",
            )
        value: Any = _yaml(text, f"override {override!r}")
        for part in reversed(key.split(".")):
            value = {part: value}
        settings = merge(settings, value)
        where = f"{where} with {override}"
    for room in ("retrieve", "rerank"):
        if isinstance(settings.get(room), dict):
            settings[room] = {name: block for name, block in settings[room].items() if block is not None}
    return resolved(settings, where)


def resolved(settings: Any, where: str) -> Config:
    """Complete settings, checked; `where` names them in the error."""
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        faults = []
        for one in error.errors():
            # where there are kinds, the third part of the place is one, which nobody wrote there
            kinds = one["loc"][:1] in (("retrieve",), ("rerank",)) or one["loc"][:2] == ("train", "encoder")
            place = [str(part) for i, part in enumerate(one["loc"]) if i != 2 or not kinds]
            unknown = one["type"] == "extra_forbidden"
            value = f"={one['input']!r}" if isinstance(one["input"], str | int | float) and not unknown else ""
            fault = "no such setting" if unknown else one["msg"]
            faults.append(f"{'.'.join(place)}{value}: {fault}".removeprefix(": "))
        raise InputError(
            where,
            found="; ".join(faults),
            wanted="the settings of pipeline/config/",
            remedy="Correct or remove the keys that are named.",
        ) from None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, found=str(error), wanted="a YAML file", remedy="Check --config.") from None
    settings = _yaml(text, str(path)) or {}
    if not isinstance(settings, Mapping):
        raise InputError(
            path, found=type(settings).__name__, wanted="keys and values", remedy="See configs/minilm.yaml for one."
        )
    return settings


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(where, found=str(error).replace("\n", " "), wanted="YAML", remedy="Correct the syntax.") from None


def dump(config: Config) -> str:
    """The resolved settings as YAML, complete: `resolved` takes them back as they are."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
