"""The folder that a training writes, and the hidden one beside it where the training is under way."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
from sentence_transformers import SentenceTransformer

from pipeline.config import Config, Dense, Judge, Pointwise, Spec, Training
from pipeline.data import text_hashes
from pipeline.errors import InputError
from pipeline.models import sources
from pipeline.models.device import device
from pipeline.models.encoder import RECORD, learnt
from pipeline.store import digest, new_folder, refuse_existing, replacing, versions
from pipeline.train import loop
from pipeline.train.held import Held
from pipeline.train.rows import Rows

RUN = "run.parquet"
Trained = TypeVar("Trained", Dense, Pointwise)
ASKED = "asked.json"  # beside the checkpoints: what they are of


@dataclass(frozen=True)
class Folder:
    """What is asked, and where its answer will lie."""

    out: Path
    config: Config
    fold: int | None
    rows: Rows

    @property
    def work(self) -> Path:
        """Where the checkpoints lie."""
        return self.out.with_name(f".{self.out.name}.training")

    @cached_property
    def asked(self) -> dict[str, Any]:
        """What a training that goes on must have in common with the one that began."""
        return {"config": self.config.model_dump(), "fold": self.fold, "rows": digest(self.rows.train.rows())}

    def refuse_others(self) -> None:
        """Raise `InputError` if `out` exists, or if another command's checkpoints lie where this one's would."""
        refuse_existing(self.out)
        note = self.work / ASKED
        ours = note.is_file() and note.read_text(encoding="utf-8") == json.dumps(self.asked)
        if any(self.work.glob("checkpoint-*")) and not ours:
            raise InputError(
                self.work,
                found="checkpoints of a training with other settings or rows",
                wanted="those of this command",
                remedy="Repeat the command that began it, choose another --out, or remove the folder.",
            )

    def train(self, model: SentenceTransformer, task: loop.Task, held: Held | None, recipe: Training) -> int:
        """`loop.run`, in the seconds that it took this time."""
        with replacing(self.work / ASKED) as file:
            file.write(json.dumps(self.asked).encode())
        began = time.monotonic()
        loop.run(model, task, held, recipe, self.work)
        return round(time.monotonic() - began)

    def record(self, seconds: int, scores: Sequence[Any], trained_on: set[str]) -> dict[str, Any]:
        """What training.json says; `trained_on` as `data.text_hashes` has it."""
        made = {"seconds": seconds, "device": device(), "packages": versions(), "scores": scores}
        return {**self.asked, **made, "trained_on": sorted(trained_on)}

    def write(self, record: dict[str, Any], card: str, run: pl.DataFrame | None, save: Callable[[Path], None]) -> None:
        """Put the weights, by `save`, and what is said of them into `out`; the checkpoints vanish."""
        with new_folder(self.out) as folder:
            save(folder)
            (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
            (folder / "README.md").write_text(card, encoding="utf-8")
            if run is not None:
                run.write_parquet(folder / RUN)
        shutil.rmtree(self.work)


def stage_of(recipe: Training, stages: Mapping[str, Spec], kind: type[Trained], noun: str) -> Trained:
    """The settings of the stage that is to be trained; `InputError` for one that is not of its kind, or has no weights."""
    spec = stages.get(recipe.stage)
    if isinstance(spec, kind) and spec.weights != sources.HASHED:
        return spec
    found = "weights hashed" if isinstance(spec, kind) else f"kind {getattr(spec, 'kind', None)}"
    raise InputError(
        f"{recipe.room}.stage={recipe.stage}",
        found=f"no such {noun}" if spec is None else found,
        wanted=f"a {noun} of kind {kind.model_fields['kind'].default}, with weights",
        remedy=f"There are {', '.join(stages)}: name another, or change its kind.",
    )


def known_before(recipe: Training, spec: Dense | Judge, rows: Rows) -> set[str]:
    """The hashes of the questions that the adapter to go on from has learnt; `InputError` where one of them is held out."""
    known = learnt(spec.model_copy(update={"adapter": recipe.start})) if recipe.start else set()
    if overlap := known & set(text_hashes(rows.queries)):
        raise InputError(
            f"{recipe.room}.start={recipe.start}",
            found=f"an adapter that has learnt {len(overlap)} of the questions that are held out",
            wanted="one that was trained with the same --fold",
            remedy="Name another, or leave --fold out.",
        )
    return known
