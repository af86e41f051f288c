"""Which labels a judge that learns is shown beside the right one: those that retrievers take for right.

A retriever ranks what it has learnt as it will rank nothing else, and finds what is an example of a label by itself. So
candidates come from runs whose makers learnt none of their rows, or from retrievers that learnt nothing of them, and know
the labels by other examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from pipeline import prompts
from pipeline.config import Bm25, Config, Dense, Tfidf, YesNo
from pipeline.data import Competition, text_hashes
from pipeline.errors import InputError
from pipeline.models.encoder import learnt, recorded
from pipeline.retrieve import retrieve
from pipeline.runs import fuse, ranked, run, stored_run
from pipeline.schema import RUN
from pipeline.scoring import examples_of
from pipeline.store import Store

PARTS = 10  # of the questions that are examples


def candidates(queries: pl.DataFrame, competition: Competition, config: Config) -> pl.DataFrame:
    """A RUN of the `queries`: from the stored runs that the recipe names and, where none holds a query, by its retrievers.

    Raises `InputError` for a run that is none, that holds labels of another catalogue, or whose maker learnt its questions;
    for runs that hold the same query; and for a retriever that there is not, or that has learnt a query.
    """
    recipe = config.train.judge
    known = _stored(recipe.runs, f"{recipe.room}.runs", queries, competition.catalog)
    silent = queries.join(known, on="query_id", how="anti", maintain_order="left")
    if silent.is_empty():
        return run(known)
    made = {name: _crossed(silent, competition, _stranger(silent, name, config)) for name in recipe.by}
    return run(pl.concat([known, fuse(made, config.rrf_k)]))


def _stranger(queries: pl.DataFrame, name: str, config: Config) -> Bm25 | Tfidf | Dense:
    """The settings of the retriever `name`, which has learnt none of the `queries`."""
    spec = config.retrieve.get(name)
    known = learnt(spec) & set(text_hashes(queries)) if isinstance(spec, Dense) else set()
    if spec and not known:
        return spec
    raise InputError(
        f"{config.train.judge.room}.by={name}",
        found=f"one that has learnt {len(known)} of them" if spec else "no such retriever",
        wanted=f"a retriever for {queries.height} answers that no run holds",
        remedy=f"Name another, or runs that hold them in {config.train.judge.room}.runs.",
    )


def _crossed(queries: pl.DataFrame, competition: Competition, spec: Bm25 | Tfidf | Dense) -> pl.DataFrame:
    """The retriever's run; a query whose question is a label's example is ranked by the examples of other questions.

    These are ranked in ten parts, each by the examples of the other nine.
    """
    store, told = Store(), examples_of(competition, spec)
    part = {text: i % PARTS for i, text in enumerate(sorted(set(text_hashes(told))))}
    of = pl.Series([part.get(text, PARTS) for text in text_hashes(queries)], dtype=pl.Int64)
    own = pl.Series([part[text] for text in text_hashes(told)], dtype=pl.Int64)
    parts = [(queries.filter(of == i), told.with_columns(pl.col("counts") & (own != i))) for i in of.unique().sort()]
    return pl.concat(retrieve(asked, competition.catalog, spec, store, known) for asked, known in parts)


def taught(train: pl.DataFrame, shown: Sequence[Sequence[int]], catalog: pl.DataFrame, recipe: YesNo) -> list[np.ndarray]:
    """For each row of `train`, QUERIES with a `label_id`, the teachers' scores of the labels `shown` to it, NaN where they have
    none. Raises `InputError` as `candidates` does for runs."""
    told = _stored(recipe.teachers, f"{recipe.room}.teachers", train, catalog)
    scores = {(query, label): score for query, label, score in told.iter_rows()}
    return [
        np.array([scores.get((query, label), np.nan) for label in labels], dtype=np.float32)
        for query, labels in zip(train["query_id"], shown, strict=True)
    ]


def hard_first(places: Sequence[int], train: pl.DataFrame, told: pl.DataFrame, depth: int, seed: int) -> list[int]:
    """The `places` of rows in `train`, QUERIES with a `label_id`, those first whose label stands deepest in `told`.

    A label below `depth` counts as one at the top: no judge can mend that. Equals come in an order drawn by `seed`.
    """
    deep = ranked(told).filter(pl.col("rank") <= depth).select("query_id", "label_id", "rank")
    ranks = train.join(deep, on=["query_id", "label_id"], how="left", maintain_order="left")["rank"].fill_null(1)
    return sorted(np.random.default_rng(seed).permutation(places).tolist(), key=lambda place: -ranks[place])


def _stored(names: Sequence[str], setting: str, queries: pl.DataFrame, catalog: pl.DataFrame) -> pl.DataFrame:
    """What the stored runs `names` say of `queries`, each query in one of them at the most. Raises as `candidates` does, and
    names the `setting`."""
    remedy = f"Check {setting}."
    told = [pl.DataFrame(schema=RUN.columns), *(_held(Path(name), queries, remedy) for name in names)]
    known, held = pl.concat(told), pl.concat([each["query_id"].unique() for each in told])
    if held.is_duplicated().any():
        raise InputError(
            setting,
            found=f"{held.filter(held.is_duplicated())[0]} in several",
            wanted="each query in one run",
            remedy="Fuse them, or name one of them.",
        )
    strange = known.join(catalog, on="label_id", how="anti")
    if strange.height:
        raise InputError(setting, found=f"label {strange['label_id'][0]}", wanted="labels of this catalogue", remedy=remedy)
    return known


def _held(file: Path, queries: pl.DataFrame, remedy: str) -> pl.DataFrame:
    """The part of a stored run that ranks `queries`."""
    held = stored_run(file, remedy).join(queries, on="query_id", how="semi")
    asked = queries.join(held, on="query_id", how="semi")
    if overlap := recorded(file.parent) & set(text_hashes(asked)):
        raise InputError(
            file,
            found=f"a ranking of {len(overlap)} questions by a model that has learnt them",
            wanted="a run of held-out questions",
            remedy="Name the run of a training with --fold, or of --fold all.",
        )
    return held


def wrong(train: pl.DataFrame, told: pl.DataFrame, catalog: pl.DataFrame, depth: int, each: int, seed: int) -> list[list[int]]:
    """For each row of `train`, QUERIES with a `label_id`, `each` labels of its `depth` best in `told` that are not right.

    They are drawn without replacement, a candidate of rank r in proportion to 1 / r. No label of the same question is drawn,
    nor one that reads like it. Source: Kool et al., "Stochastic Beams and Where to Find Them" (2019), for drawing by Gumbel
    noise.
    """
    named = catalog.select(
        "label_id", name=pl.col("label").map_elements(lambda label: prompts.tidy(label).lower(), return_dtype=pl.String)
    )
    own = train.join(named, on="label_id").select("question_id", "name").unique()
    false = (
        ranked(told)
        .filter(pl.col("rank") <= depth)
        .join(train.select("query_id", "question_id").unique(), on="query_id", maintain_order="left")
        .join(named, on="label_id", maintain_order="left")
        .join(own, on=["question_id", "name"], how="anti", maintain_order="left")
    )
    noise = np.random.default_rng(seed).gumbel(size=false.height)
    drawn = (
        false.with_columns(luck=noise - np.log(false["rank"].to_numpy()))
        .sort("query_id", "luck", descending=[False, True])
        .group_by("query_id", maintain_order=True)
        .agg(pl.col("label_id").head(each))
    )
    found = dict(drawn.iter_rows())
    return [found.get(query, []) for query in train["query_id"]]
