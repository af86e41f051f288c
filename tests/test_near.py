"""What is near a query: which retrievers are asked, and what the examples of labels say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from pipeline.config import Config, load
from pipeline.data import COLUMNS, LABEL_COLUMNS, Competition, queries_of
from pipeline.features import features, group, label_stats
from pipeline.near import near_of, told_of
from pipeline.sample import opened
from pipeline.schema import QRELS, RUN
from pipeline.store import Store

HASHED = Path(__file__).parent.parent / "configs" / "hashed.yaml"


@pytest.fixture(scope="module")
def competition() -> Competition:
    return opened(load(HASHED, ["sample.train=12", "sample.test=3"]), None)


def written(folder: Path, questions: dict[str, int]) -> str:
    """A file of questions, each an example of a label."""
    rows = [
        {name: "" for name in (*COLUMNS.values(), *LABEL_COLUMNS.values())}
        | {"QuestionId": str(i), "CorrectAnswer": "A", "AnswerAText": "1", "AnswerBText": "2"}
        | {"QuestionText": text, LABEL_COLUMNS["B"]: str(label)}
        for i, (text, label) in enumerate(questions.items())
    ]
    pl.DataFrame(rows).write_csv(folder / "written.csv")
    return str(folder / "written.csv")


def settings(folder: Path, questions: dict[str, int], *overrides: str) -> Config:
    return load(HASHED, [f"retrieve.lexical.examples=['{written(folder, questions)}']", *overrides])


def test_an_example_that_reads_nearly_like_a_query_speaks_for_its_label_and_one_that_reads_just_like_it_does_not(
    competition: Competition, tmp_path: Path
) -> None:
    queries = queries_of(competition.test)
    first = queries["question"][0]
    config = settings(tmp_path, {first: 3, f"Now: {first}": 5, "Which day follows Monday?": 7})
    (name, told), *others = told_of(queries, competition, config, Store(tmp_path / "store")).items()
    assert (name, others) == ("lexical_example", [])
    mine = told.filter(query_id=queries["query_id"][0]).sort("near_best", descending=True)
    assert mine["label_id"][0] == 5 and mine["near_best"][0] > 0.5 and 3 not in mine["label_id"]
    none = pl.DataFrame(schema=RUN.columns)
    stats = label_stats(pl.DataFrame(schema=QRELS.columns), queries)
    pool = mine.select("query_id", "label_id", score=pl.col("near_best").cast(pl.Float32))
    rows = features(queries, competition.catalog, pool, {"lexical": none}, stats, {name: told})
    assert rows["lexical_example_near_best"][0] == mine["near_best"][0]
    assert group("lexical_example_near_best") == "neighbours"


def test_all_retrievers_but_bm25_have_neighbours_unless_some_are_named_or_none_is_wanted(
    competition: Competition, tmp_path: Path
) -> None:
    queries, store = queries_of(competition.test), Store(tmp_path / "store")
    for override, wanted in {
        "retrieve.second={kind: bm25}": {"lexical", "dense"},
        "neighbours.by=[dense]": {"dense"},
        "neighbours=null": set(),
    }.items():
        config = settings(tmp_path, {"Which day follows Monday?": 7}, override)
        assert set(near_of(queries, competition, config, store)) == wanted
        assert set(told_of(queries, competition, config, store)) == {"lexical_example"} & {f"{name}_example" for name in wanted}


def test_without_a_train_csv_the_examples_speak_alone(
    competition: Competition, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = replace(competition, train=None, train_qrels=None)
    config, store = settings(tmp_path, {"Which day follows Monday?": 7}), Store(tmp_path / "store")
    queries = queries_of(bare.test)
    assert all(each.is_empty() for each in near_of(queries, bare, config, store).values()) and "no train.csv" in caplog.text
    assert told_of(queries, bare, config, store)["lexical_example"]["label_id"].unique().to_list() == [7]
