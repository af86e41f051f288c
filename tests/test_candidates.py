"""Candidates that a judge learns from: of makers that learnt none of their rows, and never a right label for a wrong one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline.config import Config, load
from pipeline.data import COLUMNS, LABEL_COLUMNS, Competition, text_hashes
from pipeline.errors import InputError
from pipeline.retrieve import retrieve
from pipeline.runs import fuse, ranked, run
from pipeline.schema import CATALOG, QUERIES
from pipeline.schema import QUESTIONS as ASKED
from pipeline.scoring import examples_of
from pipeline.store import Store
from pipeline.train.candidates import candidates, hard_first, taught, wrong

NAMES = {
    1: "Adds the tops and the bottoms",
    2: "Takes the smaller from the larger digit",
    3: "adds  the tops and the bottoms ",  # reads as 1 does
    4: "Believes that a longer number is larger",
    5: "Reads a ratio as a fraction of the whole",
    6: "Multiplies instead of squaring",
}
CATALOGUE = pl.DataFrame({"label_id": list(NAMES), "label": list(NAMES.values())}, schema=CATALOG.columns)
RIGHT = {"1_A": 1, "1_B": 4, "2_A": 2}


def rows(names: list[str]) -> pl.DataFrame:
    """QUERIES of these ids; the text says which."""
    told = [
        {
            "query_id": name,
            "question_id": name[:-2],
            "construct": "Add",
            "subject": "Fractions",
            "question": f"What are the tops and the bottoms of {name[:-2]}?",
            "correct": "3/2",
            "wrong": name,
        }
        for name in names
    ]
    return pl.DataFrame(told, schema=QUERIES.columns)


QUESTIONS = rows(list(RIGHT))
TRAIN = QUESTIONS.with_columns(label_id=pl.Series(RIGHT.values(), dtype=pl.Int32))
COMPETITION = Competition(pl.DataFrame(schema=ASKED.columns), CATALOGUE, None, None, None)


def ranking(lists: dict[str, list[int]]) -> pl.DataFrame:
    pairs = [(query, label, -i) for query, labels in lists.items() for i, label in enumerate(labels)]
    return run(pl.DataFrame(pairs, schema=["query_id", "label_id", "score"], orient="row"))


def settings(*overrides: str) -> Config:
    """A retriever of words by the labels' names, unless told otherwise."""
    return load(overrides=("retrieve.lexical.examples=[]", *overrides))


def examples(folder: Path, labels: dict[str, int]) -> str:
    """A file of examples of labels, by the names of the questions that they read like."""
    told = [
        {name: "" for name in (*COLUMNS.values(), *LABEL_COLUMNS.values())}
        | {"QuestionId": str(i), "CorrectAnswer": "B", "AnswerAText": "a"}
        | {"QuestionText": rows([f"{name}_A"])["question"][0], LABEL_COLUMNS["A"]: str(label)}
        for i, (name, label) in enumerate(labels.items())
    ]
    pl.DataFrame(told).write_csv(folder / "examples.csv")
    return str(folder / "examples.csv")


def stored(folder: Path, lists: dict[str, list[int]], trained_on: list[str] | None = None) -> str:
    """A run's file and, where it is given, what its maker learnt."""
    folder.mkdir()
    ranking(lists).write_parquet(folder / "run.parquet")
    if trained_on is not None:
        (folder / "training.json").write_text(json.dumps({"trained_on": trained_on}), encoding="utf-8")
    return str(folder / "run.parquet")


def test_no_label_of_the_question_is_wrong_nor_one_that_reads_like_it() -> None:
    told = ranking({query: list(NAMES) for query in RIGHT})
    assert [sorted(each) for each in wrong(TRAIN, told, CATALOGUE, 6, 6, 0)] == [[2, 5, 6], [2, 5, 6], [1, 3, 4, 5, 6]]


def test_what_lies_deeper_is_not_drawn_and_no_more_than_wanted_is() -> None:
    told = ranking({"1_A": [2, 5, 6], "1_B": [1, 4, 3, 2], "2_A": [1, 5, 6]})
    assert [sorted(each) for each in wrong(TRAIN, told, CATALOGUE, 2, 6, 0)] == [[2, 5], [], [1, 5]]
    assert [len(each) for each in wrong(TRAIN, told, CATALOGUE, 3, 1, 0)] == [1, 0, 1]


def test_an_answer_that_nothing_ranks_has_no_wrong_candidate() -> None:
    assert wrong(TRAIN, ranking({"2_A": [1]}), CATALOGUE, 2, 6, 0) == [[], [], [1]]


def test_draws_are_the_seed_s_and_prefer_the_better_in_proportion_to_one_over_the_rank() -> None:
    names = [f"{i}_A" for i in range(2000)]
    train = rows(names).with_columns(label_id=pl.lit(6, dtype=pl.Int32))
    told = ranking({name: [1, 2, 4, 5] for name in names})
    first = wrong(train, told, CATALOGUE, 4, 1, 0)
    assert first == wrong(train, told, CATALOGUE, 4, 1, 0) != wrong(train, told, CATALOGUE, 4, 1, 1)
    counted = Counter(label for [label] in first)
    shares = {label: count / len(names) for label, count in counted.items()}
    assert shares == pytest.approx({1: 12 / 25, 2: 6 / 25, 4: 4 / 25, 5: 3 / 25}, abs=0.04)


def test_the_hard_ones_come_first_and_what_no_judge_can_mend_with_the_easy_ones() -> None:
    told = ranking({"1_A": [1, 2, 3], "1_B": [1, 2, 4], "2_A": [1, 2, 3]})
    assert hard_first([0, 1, 2, 2], TRAIN, told, 6, 0) == [1, 2, 2, 0]
    assert hard_first([0, 1, 2, 2], TRAIN, told, 2, 0)[:2] == [2, 2]  # the label of 1_B is third
    easy = ranking({query: [label] for query, label in RIGHT.items()})
    drawn = [hard_first(range(3), TRAIN, easy, 6, seed) for seed in range(20)]
    assert drawn[0] == hard_first(range(3), TRAIN, easy, 6, 0) and len(set(map(tuple, drawn))) > 3


def test_teachers_tell_of_the_labels_that_are_shown_what_they_have(tmp_path: Path) -> None:
    one, two = stored(tmp_path / "one", {"1_A": [5, 6]}), stored(tmp_path / "two", {"2_A": [2, 1], "9_A": [3]})
    shown = [[1, 6, 5], [4, 2], [2, 1]]
    told = taught(TRAIN, shown, CATALOGUE, settings(f"train.judge.teachers=[{one}, {two}]").train.judge)
    np.testing.assert_array_equal(told[0], [np.nan, -1, 0])
    np.testing.assert_array_equal(told[1], [np.nan, np.nan])
    np.testing.assert_array_equal(told[2], [0, -1])
    silent = taught(TRAIN, shown, CATALOGUE, settings().train.judge)
    assert [len(each) for each in silent] == [3, 2, 2] and np.isnan(np.concatenate(silent)).all()


def test_without_runs_the_retrievers_find_the_candidates_and_several_are_fused(tmp_path: Path) -> None:
    words, store = settings("retrieve.second={kind: bm25}"), Store(tmp_path)
    by = {name: retrieve(QUESTIONS, CATALOGUE, words.retrieve[name], store) for name in ("lexical", "second")}
    assert ranked(candidates(QUESTIONS, COMPETITION, words)).drop("score").equals(ranked(by["lexical"]).drop("score"))
    both = settings("retrieve.second={kind: bm25}", "train.judge.by=[lexical, second]")
    assert candidates(QUESTIONS, COMPETITION, both).equals(fuse(by, both.rrf_k))


def test_a_question_that_is_an_example_is_not_found_by_itself_but_by_the_others(tmp_path: Path) -> None:
    """Question 1 is an example of 6, which has no word of it, and question 7, which asks nearly the same, is one of 5."""
    config = settings(f"retrieve.lexical.examples=[{examples(tmp_path, {'1': 6, '7': 5})}]", "retrieve.lexical.name_share=0")
    spec, store = config.retrieve["lexical"], Store(tmp_path / "store")
    told = examples_of(COMPETITION, spec)
    naive = ranked(retrieve(QUESTIONS, CATALOGUE, spec, store, told)).filter(query_id="1_A")["label_id"]
    crossed = ranked(candidates(QUESTIONS, COMPETITION, config))
    assert naive[0] == 6
    assert crossed.filter(query_id="1_A")["label_id"][0] == 5
    others = crossed.filter(query_id="2_A")["label_id"].to_list()
    assert others == ranked(retrieve(QUESTIONS, CATALOGUE, spec, store, told)).filter(query_id="2_A")["label_id"].to_list()


def test_a_run_s_candidates_are_taken_as_they_are_and_what_it_lacks_is_retrieved(tmp_path: Path) -> None:
    file = stored(tmp_path / "a", {"1_A": [5, 6], "9_A": [1]})
    told = candidates(QUESTIONS, COMPETITION, settings(f"train.judge.runs=[{file}]"))
    assert told.filter(query_id="1_A")["label_id"].to_list() == [5, 6]
    assert {name: told.filter(query_id=name).height for name in ("1_B", "2_A", "9_A")} == {"1_B": 6, "2_A": 6, "9_A": 0}


def test_a_run_whose_maker_learnt_other_questions_is_taken(tmp_path: Path) -> None:
    file = stored(tmp_path / "a", {"1_A": [5, 6]}, trained_on=text_hashes(QUESTIONS.filter(query_id="2_A")))
    assert candidates(QUESTIONS.head(1), COMPETITION, settings(f"train.judge.runs=[{file}]")).height == 2


REFUSED: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "its maker learnt its question": ({"trained_on": text_hashes(QUESTIONS.head(1))}, [], r"1 questions by a model that has"),
    "a query in two runs": ({}, ["again"], "each query in one run"),
    "labels of another catalogue": ({"lists": {"1_A": [5, 77]}}, [], "label 77"),
    "no such file": ({}, ["none"], r"none.*run\.parquet"),
}


@pytest.mark.parametrize(("made", "others", "told"), REFUSED.values(), ids=REFUSED)
def test_runs_that_are_not_to_be_learnt_from_are_refused(
    made: dict[str, Any], others: list[str], told: str, tmp_path: Path
) -> None:
    files = [stored(tmp_path / "a", **{"lists": {"1_A": [5, 6]}, **made})]
    if others == ["again"]:
        files.append(stored(tmp_path / "again", {"1_A": [1, 2]}))
    elif others:
        files.append(str(tmp_path / "none" / "run.parquet"))
    named = ", ".join(files)
    with pytest.raises(InputError, match=rf"(?s){told}.*remedy: "):
        candidates(QUESTIONS, COMPETITION, settings(f"train.judge.runs=[{named}]"))
    with pytest.raises(InputError, match=rf"(?s){told}.*remedy: "):
        taught(TRAIN, [[1]] * 3, CATALOGUE, settings(f"train.judge.teachers=[{named}]").train.judge)


def test_a_retriever_that_has_learnt_a_query_is_refused_where_it_would_be_asked(tmp_path: Path) -> None:
    (tmp_path / "training.json").write_text(json.dumps({"trained_on": text_hashes(QUESTIONS.head(1))}), encoding="utf-8")
    file = stored(tmp_path / "a", {query: [5, 6] for query in RIGHT})
    learnt = f"retrieve.dense={{kind: dense, weights: hashed, adapter: {tmp_path}}}"
    for name, told in {"dense": "one that has learnt 1 of them", "sense": "no such retriever"}.items():
        config = settings(learnt, f"train.judge.by=[{name}]")
        with pytest.raises(InputError, match=rf"(?s)train\.judge\.by={name}.*{told}.*for 3 answers"):
            candidates(QUESTIONS, COMPETITION, config)
        everything = settings(learnt, f"train.judge.by=[{name}]", f"train.judge.runs=[{file}]")
        assert candidates(QUESTIONS, COMPETITION, everything).height == 2 * len(RIGHT)
    strangers = QUESTIONS.filter(pl.col("query_id") == "2_A")
    assert candidates(strangers, COMPETITION, settings(learnt, "train.judge.by=[dense]")).height == len(NAMES)
