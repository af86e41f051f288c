"""Cross-validation: the whole chain out of fold, the blend beside its rivals, and what its score hangs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from pipeline import blend, flow, shift
from pipeline.chain import Chain, out_of_fold
from pipeline.config import Config
from pipeline.data import Competition
from pipeline.errors import InputError
from pipeline.importance import importance
from pipeline.metrics import per_query, reweighted
from pipeline.runs import run, stored_run
from pipeline.store import Store
from pipeline.study import Study

if TYPE_CHECKING:
    from pipeline.train.each_fold import Training

LINEAR, OTHER = "linear blend", {"lambdarank": "binary", "binary": "lambdarank"}
CORRECTED = "blend, corrected"
SHARES = tuple(step / 10 for step in range(10))


def cross_validate(
    competition: Competition, config: Config, store: Store, encoders: Path | None = None, judges: Path | None = None
) -> Study:
    """Every stage out of fold, the blend last; and the blend's importances, and the score by the share of unseen labels.

    With `encoders` the retriever that the config trains is trained anew for each fold, into that folder, with `judges` the
    judge; without them both are taken as they are. Raises `InputError` where there is nothing to fit a blender on.
    """
    if config.blend is None:
        raise InputError(
            "blend=null", found="no blender", wanted="one to validate", remedy="Leave it out, or use `eedi retrieve`."
        )
    given = {}
    if encoders:
        from pipeline.train import encoder

        given[config.train.encoder.stage] = _trained(encoder.train, competition, config, encoders)
    if judges:
        from pipeline.train import judge

        given[config.train.judge.stage] = _trained(judge.train, competition, config, judges)
    done, chain = flow.out_of_fold_stages(competition, config, store, given, strict=True)
    parts = chain.parts()
    rival = OTHER[config.blend.objective]
    other = replace(chain, config=config.model_copy(update={"blend": config.blend.model_copy(update={"objective": rival})}))
    done.stages[LINEAR] = done.timed(LINEAR, store, blend.linear, chain.sides(parts))
    done.stages[f"{rival} blend"] = done.timed(f"{rival} blend", store, lambda: out_of_fold(other.parts()))
    done.stages[flow.BLEND] = done.timed(flow.BLEND, store, out_of_fold, parts)
    return replace(
        flow.study_of(done, chain),
        folds=[_told(chain, fold) for fold in chain.numbers],
        importance=importance(parts, chain.booster(), chain.golds),
        shift=by_share(chain, done.stages),
    )


def _told(chain: Chain, fold: int) -> dict[str, float]:
    sides, queries = chain.split(fold), chain.part(fold)
    sides = replace(sides, held=sides.held.join(queries, on="query_id", how="semi"))
    return {"fold": fold, "questions": queries["question_id"].n_unique(), "answers": queries.height, "unseen": sides.unseen}


def _trained(train: Training, competition: Competition, config: Config, folder: Path) -> pl.DataFrame:
    """The out-of-fold run of what the config trains, a training a fold; what is there already is taken."""
    from pipeline.train.each_fold import each_fold
    from pipeline.train.folder import RUN

    if not (folder / RUN).is_file():
        each_fold(train, competition, config, folder)
    return stored_run(folder / RUN, "Remove the folder, and train again.")


def by_share(chain: Chain, stages: Mapping[str, pl.DataFrame]) -> list[dict[str, float]]:
    """MAP@25 as it would be at each share of unseen labels: each stage's, and the blend's corrected for that very share.

    The correction of a fold is fitted on the other folds.
    """
    marked, seen, golds = chain.marked(stages[flow.BLEND]), chain.seen(), chain.golds
    inside = {fold: marked.join(chain.part(fold), on="query_id", how="semi") for fold in chain.numbers}
    moves = {fold: shift.fit(marked.join(own, on="query_id", how="anti"), golds) for fold, own in inside.items()}
    values = {name: per_query(ranking, golds) for name, ranking in stages.items()}
    rows = []
    for share in SHARES:
        moved = run(pl.concat(shift.corrected(own, moves[fold], share) for fold, own in inside.items()))
        each = {**values, CORRECTED: per_query(moved, golds)}
        rows.append({"share": share} | {name: reweighted(value, seen, share)[0] for name, value in each.items()})
    return rows
