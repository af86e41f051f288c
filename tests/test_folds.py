from collections import Counter
from random import Random

import polars as pl
import pytest

from pipeline.errors import InputError
from pipeline.folds import Split, make_folds, one_out, split
from pipeline.schema import FOLDS, QRELS, check, question_of

FOLD_COUNT = 5


def questions_of(texts: dict[str, str]) -> pl.DataFrame:
    subjects = [f"subject {len(text) % 3}" for text in texts.values()]
    return pl.DataFrame({"question_id": list(texts), "subject": subjects, "question": list(texts.values())})


def numbered(count: int) -> pl.DataFrame:
    return questions_of({str(i): f"What is {i} + {i}?" for i in range(count)})


@pytest.fixture(scope="module")
def qrels() -> pl.DataFrame:
    """Two or three labelled answers a question, a few labels common and most of them rare."""
    rng = Random(7)
    pairs = [
        (f"{question}_{letter}", int(400 * rng.random() ** 1.5))
        for question in range(500)
        for letter in rng.sample("ABCD", rng.randint(2, 3))
    ]
    return pl.DataFrame(pairs, schema=QRELS.columns, orient="row")


@pytest.fixture(scope="module")
def folds() -> pl.DataFrame:
    return make_folds(numbered(500), FOLD_COUNT, seed=0)


def plain(qrels: pl.DataFrame, folds: pl.DataFrame, held: set[int]) -> Split:
    """The rows inside the folds `held` and the others, nothing hidden."""
    inside = set(folds.filter(pl.col("fold").is_in(list(held)))["question_id"])
    mask = qrels.select(question_of(pl.col("query_id"))).to_series().is_in(list(inside))
    return Split(qrels.filter(~mask), qrels.filter(mask))


def test_every_question_is_in_one_of_equal_folds(folds: pl.DataFrame) -> None:
    check(folds, FOLDS)
    assert Counter(folds["fold"]) == {fold: 100 for fold in range(FOLD_COUNT)}


@pytest.mark.parametrize(
    "copy", ["what is 7 + 7?", "WHAT IS 7 + 7?", "  What is\n7 +\t 7?  "], ids=["lower case", "upper case", "white space"]
)
@pytest.mark.parametrize("seed", range(5))
def test_questions_with_the_same_normalised_text_share_a_fold(copy: str, seed: int) -> None:
    questions = pl.concat([numbered(40), questions_of({"copy": copy})])
    fold = dict(make_folds(questions, FOLD_COUNT, seed).iter_rows())
    assert fold["copy"] == fold["7"]


def test_folds_follow_from_the_seed_and_not_from_the_order_of_the_questions(folds: pl.DataFrame) -> None:
    shuffled = make_folds(numbered(500).sample(fraction=1, shuffle=True, seed=3), FOLD_COUNT, seed=0)
    assert dict(shuffled.iter_rows()) == dict(folds.iter_rows())
    assert dict(make_folds(numbered(500), FOLD_COUNT, seed=1).iter_rows()) != dict(folds.iter_rows())


def test_each_subject_is_spread_over_the_folds(folds: pl.DataFrame) -> None:
    of = numbered(500).join(folds, on="question_id").group_by("subject", "fold").len()["len"]
    sizes = numbered(500)["subject"].value_counts()["count"]
    assert of.len() == FOLD_COUNT * sizes.len()
    assert set(of) <= {size // FOLD_COUNT + more for size in sizes for more in (0, 1)}


def test_fewer_texts_than_folds_are_refused_in_words() -> None:
    with pytest.raises(InputError, match="fold"):
        make_folds(questions_of({"1": "one", "2": "two", "3": "Two"}), FOLD_COUNT, seed=0)


@pytest.mark.parametrize("held", [{0}, {4}, {1, 3}], ids=str)
@pytest.mark.parametrize("unseen", [0.0, 0.1, 0.4, 0.65, 0.9, 1.0])
def test_the_unseen_share_comes_as_near_to_its_target_as_labels_allow(
    qrels: pl.DataFrame, folds: pl.DataFrame, held: set[int], unseen: float
) -> None:
    assert 0.1 < plain(qrels, folds, held).unseen < 0.3
    sides = split(qrels, folds, held, unseen, seed=0)
    assert sides.unseen == pytest.approx(unseen, abs=max(Counter(sides.held["label_id"]).values()) / sides.held.height)
    assert sides.train.height > 0


@pytest.mark.parametrize("held", [{0}, {1, 3}], ids=str)
def test_labels_are_hidden_for_a_higher_share_and_answers_left_out_for_a_lower_one(
    qrels: pl.DataFrame, folds: pl.DataFrame, held: set[int]
) -> None:
    as_they_are = plain(qrels, folds, held)
    high, low = (split(qrels, folds, held, unseen, seed=0) for unseen in (0.65, 0.05))
    assert high.held.equals(as_they_are.held)
    assert high.train.height < as_they_are.train.height
    assert low.train.equals(as_they_are.train)
    dropped = as_they_are.held.join(low.held, on="query_id", how="anti")
    assert not dropped.is_empty()
    assert dropped.join(as_they_are.train, on="label_id", how="semi").is_empty()


def test_a_share_out_of_reach_is_refused_with_the_nearest() -> None:
    folds = pl.DataFrame({"question_id": ["0", "1"], "fold": [0, 1]}, schema=FOLDS.columns)
    qrels = pl.DataFrame({"query_id": ["0_A", "1_A"], "label_id": [5, 5]}, schema=QRELS.columns)
    with pytest.raises(InputError, match=r"1\.00 as the nearest"):
        one_out(qrels, folds, 0, 0.65, seed=0, strict=True)


def test_where_no_label_is_seen_no_answer_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    folds = pl.DataFrame({"question_id": ["0", "1"], "fold": [0, 1]}, schema=FOLDS.columns)
    qrels = pl.DataFrame({"query_id": ["0_A", "1_A"], "label_id": [5, 6]}, schema=QRELS.columns)
    assert one_out(qrels, folds, 0, 0.65, seed=0, strict=False).held["query_id"].to_list() == ["0_A"]
    assert "100% unseen" in caplog.text


@pytest.mark.parametrize("unseen", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("held", [{0}, {0, 2, 4}], ids=str)
def test_held_rows_are_never_on_the_training_side(
    qrels: pl.DataFrame, folds: pl.DataFrame, held: set[int], unseen: float
) -> None:
    sides, as_they_are = split(qrels, folds, held, unseen, seed=5), plain(qrels, folds, held)
    assert sides.train.join(as_they_are.held, on="query_id", how="semi").is_empty()
    assert sides.train.join(as_they_are.train, on=QRELS.key, how="anti").is_empty()


def test_a_label_is_hidden_wholly_or_not_at_all(qrels: pl.DataFrame, folds: pl.DataFrame) -> None:
    left = Counter(split(qrels, folds, {1}, 0.65, seed=0).train["label_id"])
    as_they_are = plain(qrels, folds, {1})
    whole = Counter(as_they_are.train["label_id"])
    hidden = {label for label in whole if not left[label]}
    assert {label: count for label, count in whole.items() if label not in hidden} == dict(left)
    assert hidden
    assert hidden <= set(as_they_are.held["label_id"])


def test_what_is_hidden_follows_from_the_seed_and_not_from_the_order_of_the_rows(
    qrels: pl.DataFrame, folds: pl.DataFrame
) -> None:
    def side(seed: int, shuffle: bool = False) -> set[tuple[str, int]]:
        order = (frame.sample(fraction=1, shuffle=True, seed=9) if shuffle else frame for frame in (qrels, folds))
        return set(split(*order, {0, 1}, 0.65, seed).train.iter_rows())

    assert side(0, shuffle=True) == side(0)
    assert side(1) != side(0)


def test_answers_to_questions_outside_the_folds_stay(qrels: pl.DataFrame, folds: pl.DataFrame) -> None:
    stray = pl.DataFrame({"query_id": ["elsewhere_A"], "label_id": [10**6]}, schema=QRELS.columns)
    side = split(pl.concat([stray, qrels]), folds, {0}, 0.65, seed=0).train
    assert side.row(0) == ("elsewhere_A", 10**6)
    assert side.height > 1
