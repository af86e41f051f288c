"""The draft: a valid file at every moment, over nobody's file but the run's own."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipeline import submission
from pipeline.draft import Draft, claim
from pipeline.errors import InputError
from pipeline.runs import run

QUERIES = pl.DataFrame({"query_id": ["1_A", "1_B"]})
CATALOG = pl.DataFrame({"label_id": range(30), "label": "label"}, schema={"label_id": pl.Int32, "label": pl.String})


def ranking(best: int) -> pl.DataFrame:
    return run(QUERIES.with_columns(label_id=best, score=1.0))


def first(path: Path) -> list[str]:
    return [row.split(" ")[0] for row in pl.read_csv(path)[submission.LABELS]]


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    return Draft(tmp_path / "deep" / "new.csv", QUERIES, CATALOG)


def test_each_ranking_takes_the_place_of_the_one_before(draft: Draft) -> None:
    for best in (7, 9):
        draft.better(ranking(best))
        submission.validate(draft.path, QUERIES, CATALOG)
        assert first(draft.path) == [str(best)] * 2


def test_a_draft_that_was_left_behind_may_be_gone_on_with(draft: Draft) -> None:
    claim(draft.path)
    draft.better(ranking(7))
    claim(draft.path)
    Draft(draft.path, QUERIES, CATALOG).better(ranking(9))
    claim(draft.path)


def test_what_was_finished_or_changed_or_is_another_s_is_not_written_over(draft: Draft, tmp_path: Path) -> None:
    draft.better(ranking(7))
    draft.done()
    with pytest.raises(InputError, match="it exists"):
        claim(draft.path)
    other = Draft(tmp_path / "other.csv", QUERIES, CATALOG)
    other.better(ranking(7))
    other.path.write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="it exists"):
        claim(other.path)


def test_nothing_is_left_beside_a_submission(draft: Draft) -> None:
    draft.better(ranking(7))
    draft.done()
    assert list(draft.path.parent.iterdir()) == [draft.path]
    draft.better(ranking(9))
    draft.superseded()
    assert list(draft.path.parent.iterdir()) == []
