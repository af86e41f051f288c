"""Examples of labels: read for their own catalogue, never the competition's own questions, and what they do to a label."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.sparse import csr_matrix

from pipeline import scoring
from pipeline.config import Config, Dense, Examples, Listwise, Pointwise, Tfidf, load
from pipeline.data import Competition, label_hash, labels_of, queries_of, read_examples
from pipeline.metrics import per_query
from pipeline.models.encoder import Kind
from pipeline.models.hashed import HashedEncoder
from pipeline.models.judge import Reader
from pipeline.near import answers_of
from pipeline.prompts import tidy
from pipeline.rerank import score
from pipeline.retrieve import retrieve
from pipeline.retrieve.dense import vectors
from pipeline.retrieve.prototypes import Labels, weighted
from pipeline.runs import run
from pipeline.sample import opened
from pipeline.schema import CATALOG, EXAMPLES, check
from pipeline.store import Store

HASHED = Path(__file__).parent.parent / "configs" / "hashed.yaml"
SPECS = [Tfidf(), Dense(weights="hashed", template="plain")]


@pytest.fixture(scope="module")
def competition() -> Competition:
    return opened(load(HASHED, ["sample.train=60", "sample.test=8"]), None)


def catalog_of(*names: str) -> pl.DataFrame:
    return pl.DataFrame(list(enumerate(names)), schema=CATALOG.columns, orient="row")


def answers_to(query_ids: list[str], labels: list[int], counts: list[bool]) -> pl.DataFrame:
    fields = {name: [""] * len(labels) for name in EXAMPLES.columns if name not in ("query_id", "label_id", "counts")}
    frame = pl.DataFrame({"query_id": query_ids, "label_id": labels, "counts": counts, **fields})
    return frame.select(pl.col(name).cast(dtype) for name, dtype in EXAMPLES.columns.items())


def test_examples_are_the_labelled_answers_with_ids_of_their_own(
    competition: Competition, examples_file: Callable[..., Path]
) -> None:
    file = examples_file(3, 4, 3)
    found = check(read_examples([file, file], competition.catalog, competition.test), EXAMPLES)
    assert found["label_id"].to_list() == [3, 4, 3, 3, 4, 3]
    assert found["query_id"].to_list() == ["0:0_B", "0:1_B", "0:2_B", "1:0_B", "1:1_B", "1:2_B"]


def test_an_example_counts_only_where_its_label_still_has_its_name(examples_file: Callable[..., Path]) -> None:
    """The same ids mean other things in another competition."""
    file, names = examples_file(0, 1, 2), ("Adds the parts", "Turns the wrong way", "Counts the sides")
    hashes = pl.DataFrame({"MisconceptionId": [0, 1, 2], "Sha256": [label_hash(name) for name in names]})
    hashes.write_csv(labels_of(file))
    nothing = pl.DataFrame(schema={"question_id": pl.String, "question": pl.String})
    assert read_examples([file], catalog_of(*names), nothing)["label_id"].to_list() == [0, 1, 2]
    assert read_examples([file], catalog_of(names[0], "Another", names[2]), nothing)["label_id"].to_list() == [0, 2]
    assert read_examples([file], catalog_of("Quite", "another"), nothing).is_empty()


@pytest.mark.parametrize("side", ["train", "test"])
def test_a_question_of_the_competition_is_never_an_example(
    competition: Competition, examples_file: Callable[..., Path], side: str
) -> None:
    """Planted leak: train.csv given as examples would tell each label to whoever ranks its own question."""
    questions: pl.DataFrame = getattr(competition, side)
    file = examples_file(3, text=questions["question"][0].replace("{", "{{").replace("}", "}}").upper())
    spec = Tfidf(examples=(str(file),))
    assert scoring.examples_of(competition, spec)["counts"].to_list() == [False]
    apart = replace(competition, **{side: questions.slice(1)})
    if side == "train" or questions["question"][0] not in set(questions["question"][1:]):
        assert scoring.examples_of(apart, spec)["counts"].to_list() in ([True], [])


@pytest.mark.parametrize("kind", [np.asarray, csr_matrix], ids=["dense", "sparse"])
def test_a_prototype_is_the_mean_of_the_examples_and_a_share_of_the_name(kind: Callable[[np.ndarray], np.ndarray]) -> None:
    names, vectors = np.eye(4)[:3], np.array([[0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    told = pl.DataFrame({"label_id": [8, 8, 9], "weight": 1.0, "real": False})
    labels = Labels(kind(names), kind(vectors), pl.DataFrame({"label_id": [7, 8, 9]}), told, Examples(name_share=0.5))
    rows = labels.likeness(kind(np.eye(4))).T
    wanted = np.array([[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.5], [0.0, 0.0, 0.5, 1.0]])
    assert rows == pytest.approx(wanted / np.linalg.norm(wanted, axis=1, keepdims=True))


def test_an_answer_weighs_as_many_examples_as_it_is_worth_and_nothing_where_it_does_not_count() -> None:
    names, vectors = np.eye(3), np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    written = answers_to(["x:1"], [0], [True])
    told = weighted(written, answers_to(["2_B", "3_B"], [0, 1], [True, False]), Examples(answers=3))
    assert told["weight"].to_list() == [1, 3, 0]
    made = Labels(names, vectors, pl.DataFrame({"label_id": [0, 1, 2]}), told, Examples(name_share=1)).prototypes
    assert made[0] == pytest.approx(np.array([1, 0.25, 0.75]) / np.linalg.norm([1, 0.25, 0.75]))
    assert made[1].tolist() == [0, 1, 0], "nothing is told of it: it is its name"


@pytest.mark.parametrize("kind", [np.asarray, csr_matrix], ids=["dense", "sparse"])
def test_the_nearest_written_question_counts_beside_the_mean_and_an_answer_by_how_near_it_is(
    kind: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Labels with two written questions, with one and an answer, and with a name alone; a query like one of the first's."""
    names, query = np.eye(6)[3:], np.array([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    answer = np.array([0.8, 0.0, 0.6, 0.0, 0.0, 0.0])
    vectors = np.stack([*np.eye(6)[[0, 1, 1]], answer])
    told = pl.DataFrame({"label_id": [0, 0, 1, 1], "weight": [1.0, 1.0, 1.0, 1.0], "real": [False, False, False, True]})

    def likeness(**settings: float) -> np.ndarray:
        spec = Examples(name_share=0, answers=1, **settings)  # type: ignore[arg-type]
        labels = Labels(kind(names), kind(vectors), pl.DataFrame({"label_id": [0, 1, 2]}), told, spec)
        return np.asarray(labels.likeness(kind(query))[0])

    plain = likeness()
    assert plain == pytest.approx([2**-0.5, 0.8 / np.hypot(0.8, np.hypot(1, 0.6)), 0])
    assert likeness(nearest=0.5) - plain == pytest.approx([0.5, 0, 0])
    assert likeness(kernel=2, bandwidth=0.1, handicap=0.03) - plain == pytest.approx([0, 2 * np.exp(-2) - 0.03, 0])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_a_training_answer_lifts_its_label_and_the_handicap_takes_it_back(
    spec: Tfidf | Dense, competition: Competition, tmp_path: Path
) -> None:
    store, queries = Store(tmp_path), queries_of(competition.test).head(1)
    best, other = (
        retrieve(queries, competition.catalog, spec, store).sort("score", descending=True)["label_id"][i] for i in (0, -1)
    )
    told = queries.with_columns(query_id=pl.lit("x_B"), label_id=pl.lit(other, pl.Int32), counts=pl.lit(True))

    def first(**settings: float) -> int:
        known = spec.model_copy(update=settings)
        ranking = retrieve(queries, competition.catalog, known, store, None, told)
        return int(ranking.sort("score", descending=True)["label_id"][0])

    assert (first(), first(answers=1), first(answers=1, handicap=1)) == (best, other, best)


def test_queries_that_are_among_the_answers_are_read_once(competition: Competition) -> None:
    assert competition.train is not None
    others, read = queries_of(competition.train), []

    class Reader(HashedEncoder):
        def encode(self, texts: Sequence[str], kind: Kind) -> np.ndarray:
            read.append(len(texts))
            return super().encode(texts, kind)

    spec = Dense(weights="hashed", template="plain")
    queries, strange = others[5:8], queries_of(competition.test)
    asked, known = vectors(queries, others, Reader(), spec)
    assert read == [others.height] and (asked == known[5:8]).all()
    asked, _ = vectors(strange, others, Reader(), spec)
    assert read[1:] == [others.height, strange.height] and len(asked) == strange.height


def test_a_retriever_is_never_told_the_answers_of_the_questions_that_it_ranks(competition: Competition, tmp_path: Path) -> None:
    """Planted leak: all training answers as examples, and one of them as a query."""
    assert competition.train is not None
    queries = queries_of(competition.train).head(1)
    told = [(queries, answers_of(competition, competition.train_qrels))]
    with pytest.raises(ValueError, match="among the examples"):
        scoring.pooled(queries, competition, load(HASHED), Store(tmp_path), told=told)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_without_examples_a_retriever_is_what_it_was(spec: Tfidf | Dense, competition: Competition, tmp_path: Path) -> None:
    queries, store = queries_of(competition.test), Store(tmp_path)
    none = pl.DataFrame(schema=EXAMPLES.columns)
    with_none = retrieve(queries, competition.catalog, spec, store, none)
    assert with_none.equals(retrieve(queries, competition.catalog, spec, store))


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.kind)
def test_examples_that_resemble_the_queries_of_a_label_lift_it(
    spec: Tfidf | Dense, competition: Competition, tmp_path: Path
) -> None:
    """Each test question in other words, as an example of its own label."""
    assert competition.truth is not None
    store, queries = Store(tmp_path), queries_of(competition.test)
    told = queries.join(competition.truth, on="query_id").with_columns(
        query_id="x:" + pl.col("query_id"), question=pl.lit("Now: ") + pl.col("question"), counts=pl.lit(True)
    )
    given = (None, told.with_columns(counts=pl.lit(False)), told)
    runs = [retrieve(queries, competition.catalog, spec, store, each) for each in given]
    before, left_out, after = (float(per_query(each, competition.truth)["ap"].to_numpy().mean()) for each in runs)
    assert left_out == pytest.approx(before, abs=1e-3)
    assert after > before + 0.2


def test_the_shipped_examples_fit_no_other_catalogue(competition: Competition) -> None:
    assert scoring.examples_of(competition, Tfidf(examples=("bundles/written/questions.csv",))).is_empty()


def test_a_default_config_names_examples_that_are_there() -> None:
    for spec in Config().retrieve.values():
        for file in getattr(spec, "examples", ()):
            assert (Path(__file__).parents[1] / file).is_file()


@pytest.mark.parametrize("kind", [Listwise, Pointwise])
def test_a_candidate_shows_so_many_of_its_examples_behind_its_name(
    kind: type[Listwise | Pointwise], competition: Competition, examples_file: Callable[..., Path]
) -> None:
    catalog = competition.catalog
    known, bare = catalog["label_id"][:2]
    spec = kind(depth=2, shots=2, examples=(str(examples_file(*[known] * 3)),))
    queries = queries_of(competition.test).head(1)
    pool = run(queries.select("query_id").join(catalog.select("label_id").head(2), how="cross").with_columns(score=0.0))
    reader = Reader()
    score(queries, scoring.shown_to(competition, spec), pool, reader, spec)
    (asked,) = ["\n".join(prompts) for prompts, _ in reader.asked]
    shot = f'asked "What is {known}?", a pupil answers b{known} instead of'
    assert asked.count(shot) == 2
    names = {i: tidy(label) for i, label in catalog.iter_rows()}
    assert f"{names[known]} (for example: {shot}" in asked
    assert re.search(rf"{re.escape(names[bare])}$", asked, re.MULTILINE), "nothing stands behind a name without examples"


def test_a_judge_is_not_shown_the_competition_s_own_questions(
    competition: Competition, examples_file: Callable[..., Path]
) -> None:
    asked = competition.test["question"][0].replace("{", "{{").replace("}", "}}")
    spec = Listwise(shots=1, examples=(str(examples_file(competition.catalog["label_id"][0], text=asked)),))
    assert scoring.shown_to(competition, spec).equals(competition.catalog)
    assert scoring.shown_to(competition, Listwise()) is competition.catalog
