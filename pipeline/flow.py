"""The page: `fit` and `predict`, top to bottom.

`fit` learns on out-of-fold rows; `predict` runs the same stages on the test. What the heavy stages make is kept by the
store, so a second run, or one that was killed, only makes what is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import polars as pl

from pipeline import blend, shift, submission
from pipeline.budget import Budget, OutOfTime, stopped_after
from pipeline.bundle import Bundle
from pipeline.chain import Chain, out_of_fold
from pipeline.config import Config, Dense, Judge, Spec
from pipeline.data import Competition, queries_of, text_hashes
from pipeline.errors import InputError
from pipeline.features import features, label_stats, votes
from pipeline.folds import make_folds, one_out
from pipeline.metrics import evaluate
from pipeline.models import encoder
from pipeline.near import answers_of, near_of, told_of
from pipeline.rerank import by_promise, prompts_of
from pipeline.schema import LABEL_STATS, QRELS
from pipeline.scoring import Scored, Told, pooled, reranked
from pipeline.store import Store
from pipeline.study import Study
from pipeline.train.rows import labelled, training_rows

log = logging.getLogger(__name__)

BLEND = "blend"


@dataclass(frozen=True)
class Prediction:
    """The test, answered: the submission as Kaggle wants it, every stage's ranking, and, where the test's labels are known,
    the scores."""

    queries: pl.DataFrame
    catalog: pl.DataFrame
    stages: Mapping[str, pl.DataFrame]
    submission: pl.DataFrame
    scores: list[dict[str, Any]]


def predict(
    competition: Competition,
    bundle: Bundle,
    store: Store,
    begun: Scored | None = None,
    budget: Budget | None = None,
    better: Callable[[pl.DataFrame], None] = lambda ranking: None,
) -> Prediction:
    """Every stage on the test's queries; the last is the blend or, without a blender, reciprocal rank fusion.

    `begun` is stage one, where it is done already. The judges take the most promising queries first, as far as the
    budget reaches. `better` is given each ranking that is better than the ones before it.
    """
    queries, catalog, truth = queries_of(competition.test), competition.catalog, competition.truth
    done = begun or pooled(queries, competition, bundle.config, store, None, budget, better, told_to(competition))
    judged = by_promise(queries, done.pool, max((spec.depth for spec in bundle.config.rerank.values()), default=0))
    reranked(done, judged, competition, bundle.config, store, budget)
    better(list(done.stages.values())[-1])
    if bundle.booster is not None:
        try:
            done.stages[BLEND] = done.timed(BLEND, store, _blended, competition, bundle, queries, done, store)
        except Exception as error:
            if budget is None:
                raise
            budget.warn(f"{BLEND} is left out: {budget.lose(BLEND, error)}")
        else:
            better(done.stages[BLEND])
    final = submission.rows(list(done.stages.values())[-1], queries, catalog)
    if truth is None:
        return Prediction(queries, catalog, done.stages, final, [])
    learnt = {*bundle.trained_on, *_known(bundle.config.stages)}
    if known := learnt & set(text_hashes(competition.test)):
        log.warning("the bundle or a model was fitted on %d of these questions: the scores below flatter it", len(known))
    seen = truth.join(bundle.label_stats, on="label_id", how="semi")
    return Prediction(queries, catalog, done.stages, final, table(done, truth, seen))


def told_to(competition: Competition) -> list[Told]:
    """The test's queries, and the training answers that are examples of labels to them: all."""
    return [(queries_of(competition.test), answers_of(competition, competition.train_qrels))]


def _blended(competition: Competition, bundle: Bundle, queries: pl.DataFrame, done: Scored, store: Store) -> pl.DataFrame:
    """The booster's ranking, brought to the share of unseen labels that the config assumes of the test."""
    config, shown = bundle.config, competition.train_qrels
    shown = pl.DataFrame(schema=QRELS.columns) if shown is None else shown
    told = {name: votes(each, shown) for name, each in near_of(queries, competition, config, store).items()}
    told |= told_of(queries, competition, config, store)
    rows = features(queries, competition.catalog, done.pool, done.runs, bundle.label_stats, told)
    assert bundle.booster and config.blend
    ranking = blend.apply(bundle.booster, rows)
    if bundle.shift is None or config.blend.unseen is None:
        return ranking
    marked = shift.marked(ranking, bundle.label_stats, competition.catalog.height)
    share = bundle.shift.share if config.blend.unseen == "folds" else config.blend.unseen
    share = shift.estimate(marked, bundle.shift) if share == "estimate" else share
    log.info("%.0f%% of the answers are taken to have labels that training never shows", 100 * share)
    return shift.corrected(marked, bundle.shift, share)


def fit(competition: Competition, config: Config, store: Store, budget: Budget | None = None) -> Bundle:
    """Fit what the config says on the training questions, and score every stage on their out-of-fold rows.

    With a budget the judges leave time for the test.
    Raises `InputError` when there is a blender and nothing to fit it on.
    """
    refuse_unfittable(competition, config)
    train, qrels = competition.train, competition.train_qrels
    if train is None or qrels is None or qrels.is_empty():
        return Bundle(config, None, pl.DataFrame(schema=LABEL_STATS.columns), None, [], [])
    stats = label_stats(qrels, queries_of(train))
    if config.blend is None and _not_learnt(train, config.retrieve).is_empty():
        return Bundle(config, None, stats, None, [], text_hashes(train))
    done, chain = out_of_fold_stages(competition, config, store, budget=budget)
    booster = moved = None
    if config.blend is not None:
        done.stages[BLEND] = done.timed(BLEND, store, lambda: out_of_fold(chain.parts()))
        booster, moved = chain.booster(), shift.fit(chain.marked(done.stages[BLEND]), chain.golds)
    made = study_of(done, chain)
    return Bundle(config, booster, stats, moved, [dict(row) for row in made.scores], text_hashes(train), made)


def refuse_unfittable(competition: Competition, config: Config) -> None:
    """Raise `InputError` when there is a blender and no label to fit it on."""
    if config.blend is not None and (competition.train_qrels is None or competition.train_qrels.is_empty()):
        raise InputError(
            "the training data",
            found="no train.csv with labels",
            wanted="one, to fit the blender on",
            remedy="Add train.csv, give --bundle, or set blend=null.",
        )


def fit_within(competition: Competition, config: Config, store: Store, budget: Budget) -> Bundle:
    """`fit`; where the time does not reach, nothing fitted, so that the stages' fusion is what will be submitted."""
    try:
        with stopped_after(budget.left):
            return fit(competition, config, store, budget)
    except OutOfTime:
        budget.warn("the time is short: no blender was fitted, all stages are fused instead")
        return Bundle(config, None, pl.DataFrame(schema=LABEL_STATS.columns), None, [], [])


def study_of(done: Scored, chain: Chain) -> Study:
    """What the stages made of the chain's queries, and its scores."""
    seen = chain.seen()
    scores = table(done, chain.golds, seen)
    return Study(chain.config, chain.queries, chain.catalog, chain.golds, seen, done.stages, scores)


def out_of_fold_stages(
    competition: Competition,
    config: Config,
    store: Store,
    given: Mapping[str, pl.DataFrame] | None = None,
    strict: bool = False,
    budget: Budget | None = None,
) -> tuple[Scored, Chain]:
    """Every stage before the blender on training questions that no retriever was trained on, and the chain of their folds.

    What a judge was trained on it does not judge. `given` are out-of-fold runs of retrievers and judges that were trained fold
    by fold. Raises `InputError` where no question is left and, if `strict`, where a fold does not reach its share of unseen
    labels.
    """
    train, qrels = labelled(competition)
    retrievers, judges = (
        {name: spec for name, spec in stages.items() if not given or name not in given}
        for stages in (config.retrieve, config.rerank)
    )
    everything, fresh = queries_of(train), _not_learnt(train, retrievers)
    if queries_of(fresh).join(qrels, on="query_id", how="semi").is_empty():
        raise _all_learnt()
    folds = make_folds(fresh, config.fit.folds, config.fit.seed)
    unseen, seed = config.fit.unseen, config.fit.seed
    sides = [one_out(qrels, folds, fold, unseen, seed, strict) for fold in range(config.fit.folds)]
    counted = pl.concat([side.held for side in sides])
    answers = queries_of(fresh).join(counted, on="query_id", how="semi", maintain_order="left")
    queries = answers.join(
        draw(answers, config.fit.questions, config.fit.seed), on="query_id", how="semi", maintain_order="left"
    )
    strange = queries.join(_not_learnt(train, judges), on="question_id", how="semi", maintain_order="left")
    judged = draw(strange, config.fit.judged, config.fit.seed) if config.rerank else queries.clear()
    log.info("fitting on %d labelled answers, of which the judge is to score %d", queries.height, judged.height)
    shown = [(side.held.select("query_id"), answers_of(competition, side.train)) for side in sides]
    done = pooled(queries, competition, config, store, given, budget, told=shown)
    later = queries_of(competition.test).height * sum(map(prompts_of, config.rerank.values()))
    reranked(done, judged, competition, config, store, budget, later, given)
    near, told = (ask(queries, competition, config, store) for ask in (near_of, told_of))
    return done, Chain(config, everything, queries, competition.catalog, qrels, folds, done.pool, done.runs, near, told)


def retrieved(competition: Competition, config: Config, fold: int | None, store: Store) -> list[dict[str, Any]]:
    """Stage one alone on the labelled training answers, of one fold or of each: a row a retriever, and their fusion.

    What counts as seen is what the fold's training side shows. Questions that a retriever was trained on are left out.
    """
    config = config.model_copy(update={"rerank": {}})
    queries, qrels, seen, told = held_out(competition, config, fold)
    return table(pooled(queries, competition, config, store, told=told), qrels, seen)


def held_out(
    competition: Competition, config: Config, fold: int | None
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame, list[Told]]:
    """The labelled training answers, of one fold or of each, as QUERIES; their QRELS; those of them that count as seen; and
    what is told of labels to each fold.

    Raises `InputError` where a model was trained on all of them.
    """
    train, _ = labelled(competition)
    fresh = _not_learnt(train, config.stages)
    parts = [training_rows(competition, config.fit, k) for k in (range(config.fit.folds) if fold is None else (fold,))]
    queries = pl.concat([part.queries for part in parts]).join(fresh, on="question_id", how="semi", maintain_order="left")
    qrels, seen = (pl.concat(frames) for frames in zip(*((part.qrels, part.seen) for part in parts), strict=True))
    if queries.is_empty():
        raise _all_learnt()
    told = [(part.queries, answers_of(competition, part.shown)) for part in parts]
    return queries, qrels.join(queries, on="query_id", how="semi"), seen, told


def _not_learnt(questions: pl.DataFrame, stages: Mapping[str, Spec]) -> pl.DataFrame:
    """The questions that none of the stages was trained on: its ranking of the others says nothing of how it ranks a test."""
    known = _known(stages)
    fresh = questions.filter(pl.Series([text not in known for text in text_hashes(questions)], dtype=pl.Boolean))
    if fresh.height < questions.height:
        count = questions.height - fresh.height
        log.info("%s: trained on %d of the training questions, which are left out", " or ".join(stages), count)
    return fresh


def _all_learnt() -> InputError:
    return InputError(
        "the training data",
        found="no labelled question but those that a model was trained on",
        wanted="others as well, to fit or to score on",
        remedy="Give --bundle, an adapter that was trained with --fold, or blend=null.",
    )


def _known(stages: Mapping[str, Spec]) -> set[str]:
    """The hashes of the questions that retrievers and judges were trained on."""
    return {text for spec in stages.values() if isinstance(spec, Dense | Judge) for text in encoder.learnt(spec)}


def draw(queries: pl.DataFrame, questions: int | None, seed: int) -> pl.DataFrame:
    """The queries of so many questions, drawn by `seed`, in the order of the draw: a smaller one begins a larger one.

    Judged in this order, those that there was time for say of the others what they would have said themselves; the most
    doubtful ones would not.
    """
    names = queries["question_id"].unique(maintain_order=True).to_list()
    Random(seed).shuffle(names)
    drawn = pl.DataFrame({"question_id": names[:questions]}, schema=queries.select("question_id").schema)
    return drawn.join(queries, on="question_id", maintain_order="left_right").select(queries.columns)


def table(done: Scored, qrels: pl.DataFrame, seen: pl.DataFrame | None) -> list[dict[str, Any]]:
    """A row a stage and subset: what `evaluate` says of it, its seconds, and whether it came from the store."""
    rows = []
    for stage, ranking in done.stages.items():
        timing = {"stage": stage, "seconds": round(done.seconds[stage], 2), "kept": stage in done.kept}
        rows += [timing | scores for scores in evaluate(ranking, qrels, seen).iter_rows(named=True)]
    return rows
