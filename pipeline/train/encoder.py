"""Fine-tuning the bi-encoder: a recipe, a fold to hold out or none, and a folder in Hugging Face's layout.

With LoRA the folder is a PEFT adapter, without it a sentence-transformers model. Beside the weights lie a model card,
`training.json` (settings, versions, scores, which questions were learnt) and, for a fold, its run.
"""

from __future__ import annotations

import json
import logging
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from sentence_transformers.base.evaluation import BaseEvaluator

from pipeline.config import Config, Contrastive, Dense
from pipeline.data import WRITTEN, Competition, text_hashes
from pipeline.errors import InputError
from pipeline.metrics import evaluate
from pipeline.models import adapters, sources
from pipeline.models.device import device
from pipeline.models.encoder import RECORD, SentenceEncoder, learnt, load
from pipeline.retrieve.dense import search
from pipeline.runs import run
from pipeline.schema import question_of
from pipeline.store import digest, new_folder, refuse_existing, replacing, versions
from pipeline.train import contrastive, loop, reconstruction
from pipeline.train.card import card
from pipeline.train.rows import Rows, training_rows

log = logging.getLogger(__name__)

RUN = "run.parquet"
ASKED = "asked.json"  # beside the checkpoints: what they are of


class Held(BaseEvaluator):
    """The fold that is held out, ranked by the model as it is: MAP@25 and recall for all, seen and unseen labels."""

    def __init__(self, rows: Rows, catalog: pl.DataFrame, encoder: SentenceEncoder) -> None:
        super().__init__()
        self.rows, self.catalog, self.encoder = rows, catalog, encoder
        self.primary_metric = "all_map@25"
        self.ranking: pl.DataFrame | None = None  # RUN of the fold's queries, as last ranked

    def rank(self) -> pl.DataFrame:
        """RUN of the fold's queries by the model as it is."""
        self.ranking = search(self.rows.queries, self.catalog, self.encoder, self.encoder.spec)
        return self.ranking

    def __call__(self, model: Any, output_path: str | None = None, epoch: float = -1, steps: int = -1) -> dict[str, float]:
        """The scores, as the trainer logs them."""
        scores = evaluate(self.rank(), self.rows.qrels, self.rows.seen)
        told = ("map@25", "recall@25", "recall@100")
        flat = {f"{row['subset']}_{name}": row[name] for row in scores.iter_rows(named=True) for name in told}
        log.info("epoch %.2f: %s", epoch, ", ".join(f"{name} {value:.3f}" for name, value in flat.items()))
        return flat


def train(competition: Competition, config: Config, fold: int | None, out: Path) -> list[dict[str, Any]]:
    """Train the retriever that the recipe names into the new folder `out`; the fold's scores, none if all was learnt.

    What is under way lies beside `out` in a hidden folder, and the same command goes on from there. Raises `InputError` for a
    stage that is no bi-encoder, for data without labels, and for settings that do not fit the backbone.
    """
    refuse_existing(out)
    recipe, spec = config.train.encoder, _retriever(config)
    rows = training_rows(competition, config.fit, fold, [sources.shipped(name) for name in recipe.written])
    if not recipe.repeat:
        rows = replace(rows, train=rows.train.filter(pl.col("question_id").str.contains(WRITTEN, literal=True)))
    if rows.train.is_empty():
        raise InputError(
            "train.encoder.repeat=0",
            found="no written question for this catalogue",
            wanted="something to learn from",
            remedy="Name files in train.encoder.written, or raise repeat.",
        )
    before = _known_before(recipe.start, spec, rows)
    asked = {"config": config.model_dump(), "fold": fold, "rows": digest(rows.train.rows())}
    work, told = out.with_name(f".{out.name}.training"), json.dumps(asked)
    _refuse_anothers(work, told)
    base = sources.resolve(spec.weights)
    torch.manual_seed(recipe.seed)
    model = load(base, spec.model_copy(update={"adapter": None, "dtype": spec.dtype if recipe.lora else "float32"}))
    encoder = SentenceEncoder(model, spec)
    if recipe.lora:
        adapters.add(model, recipe.lora, recipe.frozen)
        if recipe.start:
            adapters.begin(model, sources.shipped(recipe.start))
    log.info("learning from %d answers of %d questions", rows.train.height, rows.train["question_id"].n_unique())
    if isinstance(recipe, Contrastive):
        weights = sources.fingerprint(base)
        task = contrastive.prepared(encoder, rows.train, competition.catalog, weights, recipe, spec)
    else:
        task = reconstruction.prepared(encoder, rows.train, competition.catalog, base, recipe, spec)
    held = Held(rows, competition.catalog, encoder) if fold is not None else None
    with replacing(work / ASKED) as file:
        file.write(told.encode())
    began = time.monotonic()
    loop.run(model, task, held, recipe, work)
    seconds = round(time.monotonic() - began)

    ranking = None
    if held:  # ranked at the last epoch's end, unless that was before this process began
        ranking = held.rank() if held.ranking is None else held.ranking
    scores = [] if ranking is None else evaluate(ranking, rows.qrels, rows.seen).to_dicts()
    made = {"seconds": seconds, "device": device(), "packages": versions(), "scores": scores}
    record = {**asked, **made, "trained_on": sorted({*before, *_learnt(competition, rows)})}
    with new_folder(out) as folder:
        if recipe.lora:
            adapters.save(model, spec.weights, folder)
        else:
            model.save_pretrained(str(folder), create_model_card=False)
        (folder / RECORD).write_text(json.dumps(record, indent=1), encoding="utf-8")
        (folder / "README.md").write_text(card(record, spec, recipe, rows.train), encoding="utf-8")
        if ranking is not None:
            ranking.write_parquet(folder / RUN)
    shutil.rmtree(work)
    return scores


def train_folds(competition: Competition, config: Config, out: Path) -> list[dict[str, Any]]:
    """Train with each fold held out in turn, into `out`/fold0 and so on; the out-of-fold run and its scores.

    Folds that are there already are taken as they are, so that a killed command goes on.
    """
    refuse_existing(out / RUN)
    runs, golds, seen = [], [], []
    for fold in range(config.fit.folds):
        if not (folder := out / f"fold{fold}").is_dir():
            train(competition, config, fold, folder)
        elif json.loads((folder / RECORD).read_text(encoding="utf-8"))["config"] != json.loads(json.dumps(config.model_dump())):
            raise InputError(
                folder,
                found="a training with other settings",
                wanted="this command's",
                remedy="Choose another --out, or remove the folder.",
            )
        rows = training_rows(competition, config.fit, fold)
        runs.append(pl.read_parquet(out / f"fold{fold}" / RUN))
        golds.append(rows.qrels)
        seen.append(rows.seen)
    ranking = run(pl.concat(runs))
    with replacing(out / RUN) as file:
        ranking.write_parquet(file)
    return evaluate(ranking, pl.concat(golds), pl.concat(seen)).to_dicts()


def _retriever(config: Config) -> Dense:
    stage = config.train.encoder.stage
    spec = config.retrieve.get(stage)
    if not isinstance(spec, Dense) or spec.weights == sources.HASHED:
        found = "no such retriever" if spec is None else f"kind {spec.kind}"
        raise InputError(
            f"train.encoder.stage={stage}",
            found="weights hashed" if isinstance(spec, Dense) else found,
            wanted="a retriever of kind dense, with weights",
            remedy=f"The retrievers are {', '.join(config.retrieve)}.",
        )
    return spec


def _known_before(start: str | None, spec: Dense, rows: Rows) -> set[str]:
    """The hashes of the questions that the adapter to go on from has learnt; none of them may be held out."""
    known = learnt(spec.model_copy(update={"adapter": start})) if start else set()
    if overlap := known & set(text_hashes(rows.queries)):
        raise InputError(
            f"train.encoder.start={start}",
            found=f"an adapter that has learnt {len(overlap)} of the questions that are held out",
            wanted="one that was trained with the same --fold",
            remedy="Name another, or leave --fold out.",
        )
    return known


def _refuse_anothers(work: Path, told: str) -> None:
    """Raise `InputError` if checkpoints lie in `work` that another command began."""
    note = work / ASKED
    if any(work.glob("checkpoint-*")) and not (note.is_file() and note.read_text(encoding="utf-8") == told):
        raise InputError(
            work,
            found="checkpoints of a training with other settings or rows",
            wanted="those of this command",
            remedy="Repeat the command that began it, choose another --out, or remove the folder.",
        )


def _learnt(competition: Competition, rows: Rows) -> list[str]:
    """The hashes of the competition's own training questions that were learnt from."""
    assert competition.train is not None
    mine = rows.train.select(question_id=question_of(pl.col("query_id")))
    return text_hashes(competition.train.join(mine, on="question_id", how="semi"))
