"""The doors through which truth enters, as a list: a new one must be put here on purpose."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

import pipeline
from pipeline import flow, near, scoring
from pipeline.chain import Chain, out_of_fold
from pipeline.config import Config, load
from pipeline.data import Competition, queries_of
from pipeline.folds import make_folds
from pipeline.sample import opened
from pipeline.store import Store

PACKAGE = Path(pipeline.__file__).parent
TRUTH = {"qrels", "train_qrels", "truth", "gold", "golds", "read_qrels", "read_labelled", "LABEL_COLUMNS"}
DOORS = {
    "data.py",  # reads it
    "folds.py",  # splits it
    "features.py",  # label_stats and votes, fitted things; `features` itself takes none
    "blend.py",  # fit; `apply` takes none
    "shift.py",  # fit; `corrected` and `estimate` take none
    "importance.py",  # scores
    "cv.py",  # scores
    "foretell.py",  # puts questions aside, and scores them
    "study.py",  # keeps it for reports
    "report/content.py",  # shows it
    "metrics.py",  # scores
    "evaluation.py",  # scores
    "judging.py",  # scores judges
    "bench.py",  # scores, by others' ways too
    "chain.py",  # fits on it, fold by fold
    "flow.py",  # hands it from data to the above
    "near.py",  # says which training answers are labelled; the examples' labels are no truth of the competition
    "train/rows.py",  # lays it beside what a model learns from, and keeps a fold's apart
    "train/contrastive.py",  # learns it
    "train/bank.py",  # lays what is learnt beside its label
    "train/held.py",  # scores a fold
    "train/each_fold.py",  # scores all folds
    "sample/competition.py",  # makes it
}
BLIND = {  # functions that rank, and therefore may not be handed truth
    "retrieve/__init__.py": {"retrieve"},
    "rerank/__init__.py": {"rerank", "by_promise"},
    "features.py": {"features"},
    "blend.py": {"apply"},
    "shift.py": {"corrected", "estimate"},
    "retrieve/neighbours.py": {"neighbours"},
    "scoring.py": {"pooled", "reranked"},
    "submission.py": {"rows"},
}


def names(tree: ast.AST) -> set[str]:
    """Every name, argument and attribute that the code uses."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                found.add(name)
    return found


def test_only_the_doors_name_the_truth() -> None:
    using = {
        str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if names(ast.parse(path.read_text("utf-8"))) & TRUTH
    }
    assert using == DOORS


@pytest.mark.parametrize("file", BLIND)
def test_what_ranks_is_blind(file: str) -> None:
    tree = ast.parse((PACKAGE / file).read_text("utf-8"))
    functions = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert functions.keys() >= BLIND[file]
    for name in BLIND[file]:
        assert not names(functions[name]) & TRUTH, name


@pytest.fixture(scope="module")
def settings() -> Config:
    hashed = Path(__file__).parent.parent / "configs" / "hashed.yaml"
    return load(hashed, ["sample.train=60", "sample.test=15", "blend.rounds=20", "blend.min_rows=5"])


@pytest.fixture(scope="module")
def competition(settings: Config) -> Competition:
    return opened(settings, None)


def test_the_test_s_own_labels_change_no_rank(settings: Config, competition: Competition, tmp_path: Path) -> None:
    store = Store(tmp_path)
    bundle = flow.fit(competition, settings, store)
    told = flow.predict(competition, bundle, store)
    blind = flow.predict(replace(competition, truth=None), bundle, store)
    assert told.scores and not blind.scores
    assert told.submission.equals(blind.submission)


def test_a_fold_s_own_labels_change_no_out_of_fold_rank(settings: Config, competition: Competition, tmp_path: Path) -> None:
    """Planted leak: the labels of one fold are mixed up among its answers; that fold's out-of-fold ranking must not move."""
    store = Store(tmp_path)
    assert competition.train is not None and competition.train_qrels is not None
    everything, catalog = queries_of(competition.train), competition.catalog
    done = scoring.pooled(everything, competition, settings, store)
    answers = near.near_of(everything, competition, settings, store)
    folds = make_folds(competition.train, settings.fit.folds, settings.fit.seed)
    chain = Chain(settings, everything, everything, catalog, competition.train_qrels, folds, done.pool, done.runs, answers)
    fold = chain.numbers[0]
    inside = chain.part(fold)["query_id"].implode()
    of_fold = pl.col("query_id").is_in(inside)
    mine = chain.qrels.filter(of_fold)
    mixed = mine.with_columns(mine["label_id"].shuffle(seed=1))
    assert not mixed.equals(mine)
    spoiled = pl.concat([chain.qrels.filter(~of_fold), mixed])
    honest, planted = (out_of_fold(each.parts()) for each in (chain, replace(chain, qrels=spoiled)))
    assert honest.filter(of_fold).equals(planted.filter(of_fold))
    assert not honest.equals(planted)  # the other folds do learn from those labels


def test_a_fold_s_own_labels_change_no_retriever_s_ranking_of_it(
    settings: Config, competition: Competition, tmp_path: Path
) -> None:
    """Planted leak, as above: training answers are examples of labels, but never to their own fold."""
    assert competition.train_qrels is not None
    honest, chain = flow.out_of_fold_stages(competition, settings, Store(tmp_path))
    inside = pl.col("query_id").is_in(chain.part(chain.numbers[0])["query_id"].implode())
    mine = competition.train_qrels.filter(inside)
    mixed = mine.with_columns(mine["label_id"].shuffle(seed=1))
    spoiled = pl.concat([competition.train_qrels.filter(~inside), mixed])
    planted, _ = flow.out_of_fold_stages(replace(competition, train_qrels=spoiled), settings, Store(tmp_path))
    for name in settings.retrieve:
        assert honest.runs[name].filter(inside).equals(planted.runs[name].filter(inside)), name
    assert not honest.runs["lexical"].equals(planted.runs["lexical"]), "the other folds are told of them"
