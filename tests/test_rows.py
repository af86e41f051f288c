"""What a model may learn from: nothing of the held fold by id or by text, and everything else."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from pipeline.config import Config, Fit
from pipeline.data import COLUMNS, LABEL_COLUMNS, WRITTEN, Competition, queries_of
from pipeline.errors import InputError
from pipeline.folds import make_folds
from pipeline.sample import opened
from pipeline.schema import LETTERS, QUERIES, QUESTIONS, question_of
from pipeline.train.rows import Rows, training_rows

FIT = Fit(folds=3, unseen=0.5)
HELD = 1


@pytest.fixture(scope="module")
def competition() -> Competition:
    return opened(Config.model_validate({"sample": {"train": 60, "test": 9}}), None)


@pytest.fixture(scope="module")
def rows(competition: Competition) -> Rows:
    return training_rows(competition, FIT, HELD)


def inside(competition: Competition, fold: int = HELD) -> pl.DataFrame:
    """The training questions of a fold."""
    assert competition.train is not None
    folds = make_folds(competition.train, FIT.folds, FIT.seed)
    return competition.train.join(folds.filter(pl.col("fold") == fold), on="question_id", how="semi", maintain_order="left")


def labelled(competition: Competition, questions: pl.DataFrame) -> pl.DataFrame:
    """The QRELS of some questions."""
    assert competition.train_qrels is not None
    of = question_of(pl.col("query_id")).is_in(questions["question_id"].implode())
    return competition.train_qrels.filter(of)


def pairs(frame: pl.DataFrame) -> set[tuple[str, int]]:
    return set(frame.select("query_id", "label_id").iter_rows())


def write(path: Path, questions: pl.DataFrame, labels: dict[str, int] | None = None) -> Path:
    """A written file: QUESTIONS by their own ids, and for each wrong answer the label 0 or another."""
    told = {letter: str((labels or {}).get(letter, 0)) for letter in LETTERS}
    texts = [pl.col(ours).alias(kaggles) for ours, kaggles in COLUMNS.items()]
    given = [pl.when(pl.col("correct") != letter).then(pl.lit(told[letter])).otherwise(pl.lit("")) for letter in LETTERS]
    questions.select(
        *texts, *(each.alias(LABEL_COLUMNS[letter]) for each, letter in zip(given, LETTERS, strict=True))
    ).write_csv(path)
    return path


def written_in(rows: Rows) -> set[str]:
    """The ids of the written questions that are learnt from."""
    return set(rows.train.filter(pl.col("question_id").str.contains(WRITTEN, literal=True))["question_id"])


def question(text: str, name: str = "0") -> pl.DataFrame:
    """One question whose right answer is A."""
    told = dict.fromkeys(QUESTIONS.columns, "some") | {"question_id": name, "question": text, "correct": "A"}
    return pl.DataFrame([told], schema=QUESTIONS.columns)


def test_no_question_of_the_held_fold_is_learnt_and_every_labelled_one_is_asked(competition: Competition, rows: Rows) -> None:
    held = inside(competition)
    assert not set(rows.train["question_id"]) & set(held["question_id"])
    assert pairs(rows.qrels) == pairs(labelled(competition, held))
    assert rows.queries["query_id"].to_list() == [
        name for name in queries_of(held)["query_id"] if name in set(rows.qrels["query_id"])
    ]


def test_hidden_labels_are_not_learnt_and_the_others_of_the_other_folds_are(competition: Competition, rows: Rows) -> None:
    assert competition.train_qrels is not None
    others = pairs(competition.train_qrels) - pairs(rows.qrels)
    learnt = pairs(rows.train)
    hidden = {label for _, label in others - learnt}
    assert learnt <= others
    assert hidden and hidden <= set(rows.qrels["label_id"])
    assert not hidden & set(rows.train["label_id"])
    assert learnt == {pair for pair in others if pair[1] not in hidden}


def test_a_held_label_counts_as_seen_when_the_training_rows_show_it(rows: Rows) -> None:
    shown = set(rows.train["label_id"])
    assert pairs(rows.seen) == {pair for pair in pairs(rows.qrels) if pair[1] in shown}
    assert 0 < rows.seen.height <= (1 - FIT.unseen) * rows.qrels.height


def test_without_a_fold_all_is_learnt_and_nothing_asked(competition: Competition) -> None:
    assert competition.train_qrels is not None
    rows = training_rows(competition, FIT, None)
    assert pairs(rows.train) == pairs(competition.train_qrels)
    assert rows.train.height == competition.train_qrels.height
    assert (rows.queries.height, rows.qrels.height, rows.seen.height) == (0, 0, 0)


def test_each_labelled_question_is_asked_in_one_fold(competition: Competition) -> None:
    assert competition.train_qrels is not None
    asked = [pairs(training_rows(competition, FIT, fold).qrels) for fold in range(FIT.folds)]
    assert sum(map(len, asked)) == competition.train_qrels.height
    assert set().union(*asked) == pairs(competition.train_qrels)


def test_a_row_holds_the_answer_s_own_texts_and_its_label(competition: Competition, rows: Rows) -> None:
    assert competition.train is not None
    assert rows.train.columns == [*QUERIES.columns, "label_id"]
    texts = rows.train.drop("label_id")
    assert texts.join(queries_of(competition.train), on=QUERIES.columns.keys(), how="anti").is_empty()


def test_the_labels_of_the_held_fold_and_of_the_test_change_no_training_row(competition: Competition) -> None:
    """Planted: the held answers' labels are mixed up among them; the rows must stay."""
    assert competition.train_qrels is not None
    held = labelled(competition, inside(competition))["query_id"].implode()
    mine = competition.train_qrels.filter(pl.col("query_id").is_in(held))
    mixed = pl.concat(
        [competition.train_qrels.filter(~pl.col("query_id").is_in(held)), mine.with_columns(mine["label_id"].reverse())]
    )
    spoiled = replace(competition, train_qrels=mixed, truth=None)
    honest, planted = training_rows(competition, FIT, HELD), training_rows(spoiled, FIT, HELD)
    assert pairs(planted.qrels) != pairs(honest.qrels)
    assert pairs(planted.train) == pairs(honest.train)


TEXT = pl.col("question")
CHANGES = {"same": TEXT, "case": TEXT.str.to_uppercase(), "space": "\n " + TEXT.str.replace_all(" ", "  ") + "\t"}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("whose", ["held", "test", "learnt"])
def test_a_written_question_whose_text_will_be_asked_is_left_out_and_others_are_learnt(
    competition: Competition, tmp_path: Path, whose: str, change: pl.Expr
) -> None:
    side = {"held": inside(competition), "test": competition.test, "learnt": inside(competition, HELD + 1)}[whose]
    told = competition.truth if whose == "test" else labelled(competition, side)
    assert told is not None
    name = told["query_id"][0].rpartition("_")[0]
    copied = side.filter(pl.col("question_id") == name).with_columns(change.alias("question"), question_id=pl.lit("copy"))
    file = write(tmp_path / "written.csv", pl.concat([copied, question("A text of its own", "own")]))
    wanted = {"0:own", "0:copy"} if whose == "learnt" else {"0:own"}
    assert written_in(training_rows(competition, FIT, HELD, [file])) == wanted


def test_a_written_text_of_a_fold_is_left_out_where_that_fold_is_held_and_nowhere_else(
    competition: Competition, rows: Rows, tmp_path: Path
) -> None:
    name = rows.queries["question_id"][0]
    file = write(tmp_path / "written.csv", inside(competition).filter(pl.col("question_id") == name))
    learnt = [written_in(training_rows(competition, FIT, fold, [file])) for fold in (0, 1, 2, None)]
    assert learnt == [{f"0:{name}"}, set(), {f"0:{name}"}, {f"0:{name}"}]


def test_ids_of_written_files_clash_neither_with_each_other_s_nor_with_the_competition_s(
    competition: Competition, tmp_path: Path
) -> None:
    assert competition.train is not None
    known = competition.train["question_id"][0]
    files = [write(tmp_path / f"{i}.csv", question(f"A text of its own, {i}", known)) for i in range(3)]
    rows = training_rows(competition, FIT, None, files)
    plain = training_rows(competition, FIT, None)
    assert rows.train["query_id"].n_unique() == rows.train.height == plain.train.height + 3 * len(files)
    assert rows.train.head(plain.train.height).equals(plain.train)
    added = rows.train.tail(3 * len(files))
    assert added["question_id"].unique(maintain_order=True).to_list() == [f"{i}:{known}" for i in range(3)]
    assert added["question"].unique(maintain_order=True).to_list() == [f"A text of its own, {i}" for i in range(3)]


def test_a_label_that_only_written_questions_show_is_learnt_and_counts_as_unseen(
    competition: Competition, rows: Rows, tmp_path: Path
) -> None:
    hidden = next(label for label in rows.qrels["label_id"] if label not in set(rows.seen["label_id"]))
    file = write(tmp_path / "written.csv", question("A text of its own"), dict.fromkeys(LETTERS, hidden))
    told = training_rows(competition, FIT, HELD, [file])
    assert hidden in set(told.train["label_id"])
    assert told.seen.equals(rows.seen)


def test_a_written_file_may_leave_answers_out_without_a_word(
    competition: Competition, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "written.csv", question("A text of its own").with_columns(answer_D=pl.lit("")))
    training_rows(competition, FIT, None, [file])
    assert not caplog.text


def test_the_written_questions_of_the_project_are_learnt_from(competition: Competition, tmp_path: Path) -> None:
    """Their labels are of the competition's own catalogue, whose names are not here: without them beside it the ids count."""
    file = tmp_path / "questions.csv"
    shutil.copy(Path(__file__).parent.parent / "bundles" / "written" / "questions.csv", file)
    catalog = pl.DataFrame({"label_id": range(2587), "label": "some"}, schema=competition.catalog.schema)
    rows = training_rows(replace(competition, catalog=catalog), FIT, None, [file])
    assert len(written_in(rows)) > 3000
    assert rows.train["query_id"].is_unique().all()


@pytest.mark.parametrize("fold", [-1, FIT.folds, 99])
def test_a_fold_that_there_is_not_is_refused(competition: Competition, fold: int) -> None:
    with pytest.raises(InputError, match=rf"(?s)--fold.*found: +{fold}\n.*wanted: 0 to 2\n.*remedy: .*fit\.folds"):
        training_rows(competition, FIT, fold)


def test_data_without_labels_is_refused(competition: Competition) -> None:
    assert competition.train_qrels is not None
    for bare in ({"train": None}, {"train_qrels": None}, {"train_qrels": competition.train_qrels.clear()}):
        with pytest.raises(InputError, match=r"(?s)found: .*no train\.csv with labels.*wanted: .*remedy: "):
            training_rows(replace(competition, **bare), FIT, None)


def test_a_written_label_that_the_catalogue_lacks_is_refused_with_its_place(competition: Competition, tmp_path: Path) -> None:
    file = write(tmp_path / "written.csv", question("A text of its own"), {"C": 99999})
    with pytest.raises(InputError, match=r"(?s)written\.csv, row 1, column MisconceptionCId\n.*'99999'.*wanted: .*remedy: "):
        training_rows(competition, FIT, None, [file])
