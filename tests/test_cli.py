"""The verbs, run as a user runs them: what they write, what they print, and how soon they answer."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import polars as pl
import pytest
import yaml

from pipeline.config import Config, load, resolved
from pipeline.data import COLUMNS, LABEL_COLUMNS

Eedi = Callable[..., CompletedProcess[str]]
VERBS = ("submit", "fit", "rerank", "cv", "compare", "evaluate", "report", "ledger", "data", "doctor", "kernel")
HEAVY = ("torch", "polars", "numpy", "sklearn", "lightgbm", "transformers", "vllm")


def ended_well(done: CompletedProcess[str]) -> str:
    """What the command printed."""
    assert done.returncode == 0, done.stderr
    return done.stdout


def figures(told: str, first: str) -> list[float]:
    """The numbers of the printed row that begins with `first`."""
    (line,) = (line for line in told.splitlines() if line.partition("│")[0].strip() == first)
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", line.partition("│")[2])]


def header(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return next(csv.reader(file))


def read(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False)


def test_help_answers_in_half_a_second(eedi: Eedi) -> None:
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        ended_well(eedi("--help"))
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 0.5, seconds


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_asking_for_help_loads_nothing_heavy(eedi: Eedi, verb: str) -> None:
    done = eedi(*verb.split(), "--help", PYTHONPROFILEIMPORTTIME="1")
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "typer" in loaded and loaded.isdisjoint(HEAVY)
    told = ended_well(done)
    assert all(each in told for each in (VERBS if not verb else [verb]))


def test_without_a_verb_the_help_is_shown(eedi: Eedi) -> None:
    done = eedi()
    assert all(verb in done.stdout + done.stderr for verb in VERBS)


def test_data_writes_kaggles_four_files_and_the_solution(eedi: Eedi, tmp_path: Path) -> None:
    told = ended_well(eedi("data", "--out", "made", "--train", "30", "--test", "7", "--seed", "3"))
    plain, labels = set(COLUMNS.values()), set(LABEL_COLUMNS.values())
    columns = {path.name: set(header(path)) for path in (tmp_path / "made").iterdir()}
    more = {"ConstructId", "SubjectId"}
    assert columns == {
        "train.csv": plain | labels | more,
        "test.csv": plain | more,
        "solution.csv": plain | labels | more,
        "misconception_mapping.csv": {"MisconceptionId", "MisconceptionName"},
        "sample_submission.csv": {"QuestionId_Answer", "MisconceptionId"},
    }
    assert all(name in told for name in columns)
    heights = {name: read(tmp_path / "made" / name).height for name in columns}
    assert (heights["train.csv"], heights["test.csv"], heights["solution.csv"]) == (30, 7, 7)
    assert heights["sample_submission.csv"] == 21 and heights["misconception_mapping.csv"] >= 300


def test_data_is_the_same_for_the_same_seed_and_another_for_another(eedi: Eedi, tmp_path: Path) -> None:
    for name, seed in {"one": 3, "same": 3, "other": 4}.items():
        ended_well(eedi("data", "--out", name, "--train", "5", "--test", "2", "--seed", seed))
    texts = {name: (tmp_path / name / "train.csv").read_bytes() for name in ("one", "same", "other")}
    assert texts["one"] == texts["same"] != texts["other"]


def test_submit_runs_on_what_data_writes_and_leaves_a_folder_that_says_how(
    eedi: Eedi, hashed: tuple[str, ...], tmp_path: Path
) -> None:
    told = ended_well(eedi("submit", *hashed))
    (folder,) = (tmp_path / "submissions").iterdir()
    made = folder / "submission.csv"
    assert re.fullmatch(r"hashed-\d{8}-\d{6}", folder.name)
    assert f"{made.relative_to(tmp_path)}: {3 * Config().sample.test} rows, validated" in told
    assert {path.name for path in folder.iterdir()} == {
        "submission.csv", "config.yaml", "scores.json", "runs", "submission.json", "cv",
    }  # fmt: skip
    settings = resolved(yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")), "config.yaml")
    assert settings == load(Path(hashed[1]), hashed[2:])
    stages = ["lexical", "dense", "fusion of retrievers", "judge", "fusion of all", "blend"]
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))
    for part in ("cv", "test"):
        assert [row["stage"] for row in scores[part] if row["subset"] == "all"] == stages
        assert all(0 <= row["low"] <= row["map@25"] <= row["high"] <= 1 for row in scores[part])
    assert {path.stem for path in (folder / "runs").iterdir()} == {stage.replace(" ", "-") for stage in stages}
    signed = json.loads((folder / "submission.json").read_text(encoding="utf-8"))
    assert signed["sha256"] == hashlib.sha256(made.read_bytes()).hexdigest()

    ended_well(eedi("data", "--out", "kaggle"))
    assert read(tmp_path / "kaggle" / "train.csv").height == Config().sample.train
    assert read(made)["QuestionId_Answer"].equals(read(tmp_path / "kaggle" / "sample_submission.csv")["QuestionId_Answer"])
    ended_well(eedi("submit", *hashed, "--data", "kaggle", "--out", "again.csv"))
    assert (tmp_path / "again.csv").read_bytes() == made.read_bytes()


def test_a_table_gives_each_stage_its_score_interval_recall_and_seconds(
    eedi: Eedi, hashed: tuple[str, ...], kaggle: Path
) -> None:
    told = ended_well(eedi("submit", *hashed, "--data", kaggle, "--out", "new.csv"))
    fitted, asked = told.split("the test's own answers")
    for part in (fitted, asked):
        assert re.search(r"stage +┃ MAP@25 \[95%\] +┃ recall@25 ┃ @100 +┃ seconds", part)
        for stage in ("lexical", "dense", "judge", "fusion of all", "blend"):
            score, low, high, recall, deep, seconds, *_ = figures(part, stage)
            assert 0 <= low <= score <= high <= 1 and recall <= deep <= 1 and seconds < 60


def test_limit_takes_the_first_questions_and_out_says_where(eedi: Eedi, hashed: tuple[str, ...], kaggle: Path) -> None:
    told = ended_well(eedi("submit", *hashed, "--data", kaggle, "--limit", "2", "--out", "deep/down/new.csv"))
    assert "deep/down/new.csv: 6 rows, validated" in told
    asked = read(kaggle / "sample_submission.csv")["QuestionId_Answer"].head(6)
    assert read(kaggle.parent / "deep/down/new.csv")["QuestionId_Answer"].equals(asked)
    assert not (kaggle.parent / "submissions").exists()


def test_a_bundle_answers_as_fitting_on_the_spot_does(eedi: Eedi, hashed: tuple[str, ...], kaggle: Path) -> None:
    here = kaggle.parent
    told = ended_well(eedi("fit", *hashed, "--data", kaggle, "--bundle", "bundles/some"))
    assert re.search(r"bundles/some: fitted on \d+ questions", told)
    ended_well(eedi("submit", *hashed, "--data", kaggle, "--out", "spot.csv"))
    ended_well(eedi("submit", "--bundle", "bundles/some", "--data", kaggle, "--out", "bundle.csv"))
    assert (here / "bundle.csv").read_bytes() == (here / "spot.csv").read_bytes()
    (kaggle / "train.csv").unlink()
    alone = eedi("submit", "--bundle", "bundles/some", "--data", kaggle, "--out", "alone.csv")
    ended_well(alone)
    assert "no train.csv" in alone.stderr


def test_evaluate_scores_a_submission_and_a_stored_run_as_submit_did(eedi: Eedi, hashed: tuple[str, ...], kaggle: Path) -> None:
    ended_well(eedi("submit", *hashed, "--data", kaggle))
    (folder,) = (kaggle.parent / "submissions").iterdir()
    scores = json.loads((folder / "scores.json").read_text(encoding="utf-8"))["test"]
    for file, stage in {"submission.csv": "blend", "runs/blend.parquet": "blend", "runs/lexical.parquet": "lexical"}.items():
        done = eedi("evaluate", folder / file, "--labels", kaggle / "solution.csv")
        told = ended_well(done)
        assert re.search("recall@1 +┃ recall@5 +┃ recall@10 +┃ recall@25 +┃ recall@50 +┃ recall@100", told), told
        for row in (row for row in scores if row["stage"] == stage):
            wanted = [row["queries"], *(row[name] for name in ("map@25", "low", "high", "recall@1"))]
            assert figures(told, row["subset"])[:5] == pytest.approx(wanted, abs=6e-4)


def test_evaluate_agrees_with_figures_worked_out_by_hand(eedi: Eedi, kaggle: Path) -> None:
    labels = read(kaggle / "solution.csv")
    golds = [
        (f"{row['QuestionId']}_{letter}", row[column])
        for row in labels.iter_rows(named=True)
        for letter, column in LABEL_COLUMNS.items()
        if row[column]
    ]
    lines = [f"{query},{'9999 ' * (i % 2)}{gold}\n" for i, (query, gold) in enumerate(golds)]  # first, second, first, ...
    (kaggle.parent / "mine.csv").write_text("QuestionId_Answer,MisconceptionId\n" + "".join(lines), encoding="utf-8")
    told = ended_well(eedi("evaluate", "mine.csv", "--labels", kaggle / "solution.csv"))
    firsts, second = (len(golds) + 1) // 2, len(golds) // 2
    score = (firsts + second / 2) / len(golds)
    queries, found, _, _, *ladder = figures(told, "all")
    assert (queries, found) == (len(golds), pytest.approx(score, abs=6e-4))
    assert ladder == pytest.approx([firsts / len(golds), 1, 1, 1, 1, 1], abs=6e-4)


def test_doctor_says_what_is_here_and_what_each_stage_would_use(eedi: Eedi, hashed: tuple[str, ...], kaggle: Path) -> None:
    told = ended_well(eedi("doctor", *hashed, "--data", kaggle.rename(kaggle.with_name("[b]"))))
    assert all(each in told for each in ("Python", "torch", "vLLM", "GPU", "GiB free", "[b]: ", "train.csv"))
    for stage, why in {"lexical": "TF-IDF", "dense": "weightless stand-in", "judge": "weightless", "blend": "LightGBM"}.items():
        assert re.search(rf"{stage} +│ .*{why}", told), told


@pytest.mark.parametrize("missing", ["torch", "huggingface_hub", "vllm"])
def test_without_the_models_packages_doctor_still_answers_and_submit_says_what_to_install(
    eedi: Eedi, tmp_path: Path, missing: str
) -> None:
    shadow = tmp_path / "shadow" / f"{missing}.py"
    shadow.parent.mkdir()
    shadow.write_text(f"raise ModuleNotFoundError('not installed here', name={missing!r})", encoding="utf-8")
    path = f"{shadow.parent}{os.pathsep}{Path(__file__).parent.parent}"
    assert "the stages" in ended_well(eedi("doctor", PYTHONPATH=path))
    if missing == "torch":
        done = eedi("submit", "sample.train=5", "sample.test=1", "fit.judged=1", PYTHONPATH=path)
        assert done.returncode == 2 and "no package torch" in done.stderr and "Traceback" not in done.stderr
