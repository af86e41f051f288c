"""The ledger: what a submission's row says, what may change in its folder, and how CV and leaderboard go together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from rich.console import Console

from pipeline import tables
from pipeline.errors import InputError
from pipeline.ledger import Entry, correlations, entries, score

Eedi = Callable[..., CompletedProcess[str]]
Change = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def row(stage: str, subset: str, value: float) -> dict[str, object]:
    return {"stage": stage, "subset": subset, "map@25": value, "low": value - 0.1, "high": value + 0.1}


def entered(name: str, day: int = 1, note: str = "") -> Path:
    """A submission's folder, as far as the ledger reads it."""
    folder = Path("submissions") / name
    folder.mkdir(parents=True)
    cv = [row("lexical", "all", 0.2), row("lexical", "unseen", 0.2), row("blend", "all", 0.5), row("blend", "unseen", 0.4)]
    (folder / "scores.json").write_text(json.dumps({"cv": cv, "test": [row("blend", "all", 0.9)]}), encoding="utf-8")
    made = {"date": f"2025-01-{day:02}T12:00:00+00:00", "note": note}
    (folder / "submission.json").write_text(json.dumps(made), encoding="utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def scored(pairs: list[tuple[float, float]]) -> list[Entry]:
    """Submissions of some CV and public score."""
    return [Entry(f"{i}", cv={"map@25": cv, "low": 0, "high": 1}, public=public) for i, (cv, public) in enumerate(pairs)]


def printed(*shown: Entry) -> str:
    console = Console(width=132)
    with console.capture() as capture:
        console.print(tables.submissions("submissions", shown))
    return capture.get()


def test_a_submission_s_note_cv_and_leaderboard_stand_in_the_ledger_and_nothing_else_of_its_folder_changes(
    eedi: Eedi, hashed: tuple[str, ...], kaggle: Path
) -> None:
    made = eedi("submit", *hashed, "--data", kaggle, "--note", "fewer [rounds]")
    assert made.returncode == 0, made.stderr
    (folder,) = Path("submissions").iterdir()
    before = contents(folder)
    noted = eedi("ledger", "score", folder.name, "--public", "0.61234")
    assert noted.returncode == 0, noted.stderr
    assert contents(folder) == before | {"leaderboard.json": json.dumps({"public": 0.61234}, indent=1).encode()}
    told = eedi("ledger")
    assert told.returncode == 0, told.stderr
    (line,) = (line for line in told.stdout.splitlines() if folder.name in line)
    name, date, note, *figures = (cell.strip() for cell in line.split("│"))
    assert (name, date.replace("-", ""), note) == (folder.name, folder.name.split("-")[1], "fewer [rounds]")
    final = {each["subset"]: each for each in json.loads(before["scores.json"])["cv"] if each["stage"] == "blend"}
    cells = [f"{each['map@25']:.3f} [{each['low']:.3f}, {each['high']:.3f}]" for each in (final["all"], final["unseen"])]
    assert figures == [*cells, "0.61234", "–"]
    assert "Pearson" not in told.stdout


def test_without_submissions_the_ledger_says_so(eedi: Eedi) -> None:
    told = eedi("ledger")
    assert (told.returncode, told.stdout) == (0, "submissions: no submission yet; `eedi submit` writes one\n")


def test_the_newest_is_the_last_and_what_is_no_submission_has_no_row() -> None:
    for name, day in {"b": 3, "a": 9, "c": 1, ".a.77.tmp": 2}.items():
        entered(name, day)
    Path("submissions/README.md").touch()
    assert [entry.name for entry in entries()] == ["c", "b", "a"]


def test_a_row_tells_the_final_stage_s_cv_and_both_leaderboards() -> None:
    entered("some", 2, "tried")
    score("some", public=0.6, private=0.55)
    (entry,) = entries()
    assert (entry.date[:10], entry.note, entry.public, entry.private) == ("2025-01-02", "tried", 0.6, 0.55)
    assert entry.cv and entry.unseen
    assert (entry.cv["map@25"], entry.unseen["map@25"]) == (0.5, 0.4)


def test_a_submission_that_was_not_fitted_has_no_cv_and_one_without_date_or_note_is_still_told() -> None:
    folder = entered("bare")
    (folder / "scores.json").write_text('{"cv": [], "test": []}', encoding="utf-8")
    (folder / "submission.json").write_text('{"version": "0"}', encoding="utf-8")
    assert entries() == [Entry("bare")]


DAMAGE: dict[str, tuple[Change, str]] = {
    "no scores": (lambda folder: (folder / "scores.json").unlink(), "damaged: scores.json: No such file"),
    "no record": (lambda folder: (folder / "submission.json").unlink(), "damaged: submission.json: No such file"),
    "broken JSON": (lambda folder: (folder / "scores.json").write_text('{"cv": ['), "damaged: scores.json: Expecting"),
    "other bytes": (lambda folder: (folder / "submission.json").write_bytes(b"\xff"), "damaged: submission.json: 'utf-8'"),
    "a list": (lambda folder: (folder / "submission.json").write_text("[1]"), "damaged: submission.json: "),
    "other scores": (lambda folder: (folder / "scores.json").write_text('{"cv": 5}'), "damaged: "),
    "other keys": (lambda folder: (folder / "scores.json").write_text("{}"), "of another version: scores.json has no 'cv'"),
    "other rows": (
        lambda folder: (folder / "scores.json").write_text('{"cv": [{"stage": "blend", "subset": "all"}]}'),
        "of another version: scores.json has no 'map@25'",
    ),
    "a text as score": (lambda folder: (folder / "leaderboard.json").write_text('{"public": "high"}'), "damaged: "),
}


@pytest.mark.parametrize(("damage", "told"), DAMAGE.values(), ids=DAMAGE)
def test_a_folder_that_cannot_be_read_has_a_row_that_says_why(damage: Change, told: str) -> None:
    damage(entered("spoilt"))
    entered("whole")
    spoilt, whole = entries()
    assert spoilt == Entry("spoilt", note=spoilt.note) and spoilt.note.startswith(told)
    assert whole.cv


def test_a_score_that_is_not_given_stays_and_one_that_is_given_again_changes() -> None:
    entered("some")
    entered("other")
    score("some", public=0.6)
    score("some", private=0.0)
    score("some", public=0.7)
    assert {entry.name: (entry.public, entry.private) for entry in entries()} == {"other": (None, None), "some": (0.7, 0.0)}


@pytest.mark.parametrize("value", [61, -0.1, 1.001, float("nan")])
def test_a_score_that_no_map_can_be_is_refused_and_the_other_is_not_kept_either(value: float) -> None:
    folder = entered("some")
    before = contents(folder)
    with pytest.raises(InputError, match=r"--private\n.*\n.*from 0 to 1"):
        score("some", 0.5, value)
    assert contents(folder) == before


def test_no_score_at_all_is_refused() -> None:
    entered("some")
    with pytest.raises(InputError, match="Give --public or --private"):
        score("some")


@pytest.mark.parametrize("name", ["qwen-2", "../elsewhere", "."])
def test_a_name_that_no_submission_has_is_refused_with_the_nearest(name: str) -> None:
    Path("elsewhere").mkdir()
    for known in ("qwen-20250102", "qwen-20250103", "qwen-20250104", "minilm"):
        entered(known)
    with pytest.raises(InputError, match=r"no such submission\n.*such as \S+, \S+, \S+\n") as refused:
        score(name, public=0.5)
    if name == "qwen-2":
        assert "minilm" not in str(refused.value)
    assert not list(Path().rglob("leaderboard.json"))


def test_scores_that_cannot_be_read_are_not_written_over() -> None:
    folder = entered("some")
    (folder / "leaderboard.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"leaderboard\.json\n(.*\n)*.*Remove it"):
        score("some", public=0.5)
    assert (folder / "leaderboard.json").read_text(encoding="utf-8") == "{"


def test_correlations_with_ties_are_those_worked_out_by_hand() -> None:
    shown = scored([(0.1, 0.3), (0.2, 0.1), (0.2, 0.5), (0.4, 0.5)])
    (told,) = correlations([*shown, Entry("without a score", cv=shown[0].cv), Entry("without a CV", public=0.9)])
    # deviations (-5, -1, -1, 7) and (-1, -5, 3, 3): 28 / sqrt(76 · 44); of ranks (-3, 0, 0, 3) and (-1, -3, 2, 2): 9 / 18
    pearson = pytest.approx(28 / (76 * 44) ** 0.5)
    assert told == {"score": "public", "submissions": 4, "pearson": pearson, "spearman": pytest.approx(0.5)}


def test_correlations_are_told_of_three_and_of_each_leaderboard_that_has_them() -> None:
    two = scored([(0.1, 0.2), (0.2, 0.3)])
    assert correlations(two) == []
    three = scored([(0.1, 0.2), (0.2, 0.3), (0.3, 0.4)])
    both = [Entry(entry.name, cv=entry.cv, public=entry.public, private=1 - (entry.public or 0)) for entry in three]
    assert [(told["score"], round(told["pearson"], 6)) for told in correlations(both)] == [("public", 1), ("private", -1)]


@pytest.mark.parametrize("pairs", [[(0.3, 0.1), (0.3, 0.3), (0.3, 0.7)] * 2, [(0.1, 0.3), (0.4, 0.3), (0.5, 0.3)] * 2])
def test_a_correlation_with_what_never_varies_cannot_be_told(pairs: list[tuple[float, float]]) -> None:
    told = correlations(scored(pairs))
    assert told == [{"score": "public", "submissions": 6, "pearson": None, "spearman": None}]
    console = Console(width=132)
    with console.capture() as capture:
        console.print(tables.correlations("CV and leaderboard", told))
    assert capture.get().count("cannot be told") == 2


def test_a_table_shows_notes_as_written_and_long_names_whole() -> None:
    long = "settings-of-a-very-long-name-" * 3 + "20250101-120000"
    lines = printed(Entry("short-20250101-120000", note="[b]"), Entry(long, note="words " * 40)).splitlines()
    (first,) = (line for line in lines if line.strip().startswith("short-20250101-120000"))
    assert [cell.strip() for cell in first.split("│")] == ["short-20250101-120000", "", "[b]", *"––––"]
    assert long in "".join(line.partition("│")[0].strip() for line in lines)
