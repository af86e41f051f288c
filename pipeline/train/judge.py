"""Fine-tuning the judge: lists of candidates, a fold to hold out or none, and a PEFT adapter that every engine lays on.

Beside the adapter lie a model card, `training.json` and, for a fold, its run, as for the bi-encoder.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import polars as pl
import torch

from pipeline.config import Config, Pointwise
from pipeline.data import Competition, text_hashes
from pipeline.errors import InputError
from pipeline.models import adapters, sources
from pipeline.models.judge import Chat
from pipeline.models.tree_judge import TreeJudge, load, misfit
from pipeline.schema import QUERIES
from pipeline.scoring import shots_of
from pipeline.train.candidates import candidates, hard_first, taught, wrong
from pipeline.train.card import judge_card
from pipeline.train.folder import Folder, known_before, stage_of
from pipeline.train.held import Held
from pipeline.train.loop import Places, Task
from pipeline.train.pointwise import Lists, Ranking, Wording, lists
from pipeline.train.rows import repeated, rows_for
from pipeline.train.units import Embedder, refuse_frozen

log = logging.getLogger(__name__)


def train(competition: Competition, config: Config, fold: int | None, out: Path) -> list[dict[str, Any]]:
    """Train the judge that the recipe names into the new folder `out`; the fold's scores, none if all was learnt.

    They are those of the stages "candidates", the order in which they came, and "judge". What is under way lies beside `out` in
    a hidden folder, and the same command goes on from there. Raises `InputError` for a stage that is no pointwise judge, for
    data without labels, for candidates that are not to be learnt from, and for settings that do not fit the weights.
    """
    recipe = config.train.judge
    spec = stage_of(recipe, config.rerank, Pointwise, "judge")
    if spec.reasoning:
        raise InputError(
            "the judge's training",
            found=f"reasoning={spec.reasoning}",
            wanted="prompts without the model's own explanations, which would be written for each question that is learnt",
            remedy="Set it to 0.",
        )
    rows = rows_for(recipe, competition, config.fit, fold)
    before = known_before(recipe, spec, rows)
    place = Folder(out, config, fold, rows)
    place.refuse_others()
    catalog = competition.catalog
    asked = pl.concat([rows.train.select(*QUERIES.columns), rows.queries]).unique("query_id", maintain_order=True)
    told = candidates(asked, competition, config)
    negatives = wrong(rows.train, told, catalog, spec.depth, recipe.negatives, recipe.seed)
    base = sources.resolve(spec.weights)
    torch.manual_seed(recipe.seed)
    model = load(base, spec)
    judge = TreeJudge(model[0].model, Chat(base, spec.max_tokens))
    if not judge.fits():
        raise misfit(spec.weights, "Choose other weights.")
    refuse_frozen(judge, recipe)
    # the states of a single epoch would be read once: computed in passing they cost the same, and no disk
    learning = Embedder(judge, recipe.frozen if recipe.epochs > 1 else 0, sources.fingerprint(base))
    shown = [[label, *others] for label, others in zip(rows.train["label_id"], negatives, strict=True)]
    odds = taught(rows.train, shown, catalog, recipe)
    wording = Wording(dict(catalog.iter_rows()), shots_of(competition, spec), spec)
    units = lists(learning, rows.train, shown, wording)
    held = ranking = None
    scores: list[dict[str, Any]] = []
    if fold is not None:
        known = told.join(rows.queries, on="query_id", how="semi")
        held = Held(rows, Ranking(Embedder(judge, 0, learning.weights), rows.queries, known, catalog, wording))
        scores = [{"stage": "candidates"} | row for row in held.scores(known)]
    adapters.add(model, recipe.lora, recipe.frozen, recipe.room)
    if recipe.start:
        adapters.begin(model, sources.shipped(recipe.start), recipe.room)
    log.info("learning from %d answers of %d questions", rows.train.height, rows.train["question_id"].n_unique())
    places = repeated(rows.train["question_id"].to_list(), recipe.repeat)
    if hard := recipe.order == "hard":
        places = hard_first(places, rows.train, told, spec.depth, recipe.seed)
    task = Task(Lists(model, learning, units, odds, recipe), {"place": places}, Places(), ordered=hard)
    seconds = place.train(model, task, held, recipe)

    if held:
        ranking = held.run()
        scores += [{"stage": "judge"} | row for row in held.scores(ranking)]
    record = place.record(seconds, scores, before | set(text_hashes(rows.train)))
    card = judge_card(record, spec, recipe, rows.train, wording.about)
    place.write(record, card, ranking, lambda folder: adapters.save(model, spec.weights, folder))
    return scores
