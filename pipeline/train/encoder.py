"""Fine-tuning the bi-encoder: a recipe, a fold to hold out or none, and a folder in Hugging Face's layout.

With LoRA the folder is a PEFT adapter, without it a sentence-transformers model. Beside the weights lie a model card,
`training.json` (settings, versions, scores, which questions were learnt) and, for a fold, its run.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from pipeline.config import Config, Contrastive, Dense
from pipeline.data import Competition, text_hashes
from pipeline.models import adapters, sources
from pipeline.models.encoder import SentenceEncoder, load
from pipeline.near import answers_of
from pipeline.retrieve.dense import search
from pipeline.scoring import examples_of
from pipeline.train import contrastive, reconstruction
from pipeline.train.card import encoder_card
from pipeline.train.folder import Folder, known_before, stage_of
from pipeline.train.held import Held
from pipeline.train.rows import rows_for

log = logging.getLogger(__name__)


def train(competition: Competition, config: Config, fold: int | None, out: Path) -> list[dict[str, Any]]:
    """Train the retriever that the recipe names into the new folder `out`; the fold's scores, none if all was learnt.

    What is under way lies beside `out` in a hidden folder, and the same command goes on from there. Raises `InputError` for a
    stage that is no bi-encoder, for data without labels, and for settings that do not fit the backbone.
    """
    recipe = config.train.encoder
    spec = stage_of(recipe, config.retrieve, Dense, "retriever")
    rows = rows_for(recipe, competition, config.fit, fold)
    before = known_before(recipe, spec, rows)
    place = Folder(out, config, fold, rows)
    place.refuse_others()
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
    held = None
    if fold is not None:
        told = examples_of(competition, spec)
        answers = answers_of(competition, rows.shown)
        held = Held(rows, lambda: search(rows.queries, competition.catalog, encoder, spec, told, answers))
    seconds = place.train(model, task, held, recipe)

    def save(folder: Path) -> None:
        if recipe.lora:
            adapters.save(model, spec.weights, folder)
        else:
            model.save_pretrained(str(folder), create_model_card=False)

    ranking = held.run() if held else None
    scores = held.scores(ranking) if held and ranking is not None else []
    record = place.record(seconds, scores, before | set(text_hashes(rows.train)))
    place.write(record, encoder_card(record, spec, recipe, rows.train), ranking, save)
    return scores
