"""Items to a competition: options shuffled, labels held out, CSVs in Kaggle's layout, of any size, in bounded memory.

Every question has a generator of its own, seeded by its place, so that a file can be written row by row and any row be
made again alone.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from random import Random

from tqdm.auto import tqdm

from pipeline.config import Data, Sample
from pipeline.data import COLUMNS, LABEL_COLUMNS
from pipeline.metrics import CUTOFF
from pipeline.sample.construct import REGISTRY, Answer, Construct, Item, same, written
from pipeline.schema import LETTERS
from pipeline.submission import LABELS, ROW

DOMAINS = ("number", "proportion", "algebra", "geometry", "statistics")
HELD_OUT = 0.5  # the share of the labels with a procedure that training never shows
UNEXPLAINED = 0.2  # the share of wrong options that no misconception explains, where others are not lacking


@cache
def constructs() -> tuple[Construct, ...]:
    """All constructs, in alphabetical order, whichever module was imported first."""
    for domain in DOMAINS:
        import_module(f"pipeline.sample.{domain}")
    return tuple(sorted(REGISTRY, key=lambda each: (each.subject, each.name)))


@cache
def procedural() -> tuple[str, ...]:
    """The misconceptions that have a procedure, in alphabetical order."""
    return tuple(sorted({label for each in constructs() for label in each.make(Random(0)).wrong}))


@cache
def catalogue() -> tuple[str, ...]:
    """All misconceptions; a label's id is its place. The alphabet decides, so an id says nothing of its label."""
    folder = files("pipeline.sample") / "siblings"
    siblings = {line for domain in DOMAINS for line in (folder / f"{domain}.txt").read_text("utf-8").splitlines()}
    return tuple(sorted(siblings | set(procedural())))


def held_out(sample: Sample) -> frozenset[str]:
    """The labels that the training file never shows."""
    if not sample.unseen:
        return frozenset()
    labels = procedural()
    return frozenset(Random(f"{sample.seed}/held").sample(labels, round(HELD_OUT * len(labels))))


def questions(sample: Sample, split: str) -> Iterator[dict[str, object]]:
    """The rows of train.csv or, with their labels, of test.csv."""
    numbers = {label: i for i, label in enumerate(catalogue())}
    subjects = sorted({each.subject for each in constructs()})
    hidden = held_out(sample)
    start, count = (0, sample.train) if split == "train" else (sample.train, sample.test)
    for i in range(start, start + count):
        rng = Random(f"{sample.seed}/{i}")
        place = rng.randrange(len(constructs()))
        construct = constructs()[place]
        item = construct.make(rng)
        share = sample.unseen if split == "test" else 0.0
        options: list[tuple[Answer, str | None]] = [(item.right, None), *_wrong(item, hidden, share, rng)]
        rng.shuffle(options)
        row: dict[str, object] = {
            "QuestionId": i,
            "ConstructId": place,
            "ConstructName": construct.name,
            "SubjectId": subjects.index(construct.subject),
            "SubjectName": construct.subject,
            "CorrectAnswer": next(
                letter for letter, (value, _) in zip(LETTERS, options, strict=True) if same(value, item.right)
            ),
            "QuestionText": item.question,
        }
        for letter, (value, label) in zip(LETTERS, options, strict=True):
            row[f"Answer{letter}Text"] = written(value, item.unit)
            row[LABEL_COLUMNS[letter]] = "" if label is None else numbers[label]
        yield row


def _wrong(item: Item, hidden: frozenset[str], unseen: float, rng: Random) -> list[tuple[Answer, str | None]]:
    """Three different wrong options: each from a hidden label with probability `unseen`, else from a shown one, and now and
    then a slip; what runs out is made up from the others. With `unseen` 0 no hidden label is used."""
    faults = [(value, label) for label, value in item.wrong.items() if value is not None and not same(value, item.right)]
    rng.shuffle(faults)
    slips = [(value, None) for value in item.slips if not any(same(value, other) for other, _ in [(item.right, None), *faults])]
    shown = [fault for fault in faults if fault[1] not in hidden]
    kept_back = [fault for fault in faults if fault[1] in hidden] if unseen else []
    chosen: list[tuple[Answer, str | None]] = []
    for _ in range(3):
        draw = rng.random()
        first, second = (kept_back, shown) if rng.random() < unseen else (shown, kept_back)
        order: list[Iterable[tuple[Answer, str | None]]] = [first, slips, second, _made_up(item)]
        if draw < UNEXPLAINED:
            order = [slips, first, second, _made_up(item)]
        pick = (option for source in order for option in source if not any(same(option[0], value) for value, _ in chosen))
        chosen.append(next(pick))
    return chosen


def _made_up(item: Item) -> Iterator[tuple[Answer, None]]:
    """Answers of the last resort: no misconception explains them, and none of them is right."""
    taken = [item.right, *(value for value in item.wrong.values() if value is not None)]
    for value in ("Not enough information", "None of these", "Cannot be worked out"):
        if not any(same(value, other) for other in taken):
            yield value, None


def write(folder: Path, sample: Sample) -> None:
    """Write the competition: train, test, solution (the test's labels), catalogue and sample submission."""
    names = Data()
    head = ["QuestionId", "ConstructId", "ConstructName", "SubjectId", "SubjectName", "CorrectAnswer", "QuestionText"]
    plain = head + [COLUMNS[f"answer_{letter}"] for letter in LETTERS]
    labelled = plain + list(LABEL_COLUMNS.values())
    first = " ".join(map(str, range(min(CUTOFF, len(catalogue())))))
    _csv(folder / names.catalog, ["MisconceptionId", "MisconceptionName"], enumerate(catalogue()), len(catalogue()))
    for name, columns, split in (
        (names.train, labelled, "train"),
        (names.test, plain, "test"),
        (names.solution, labelled, "test"),
    ):
        rows = ([row[column] for column in columns] for row in questions(sample, split))
        _csv(folder / name, columns, rows, sample.train if split == "train" else sample.test)
    asked = (
        [f"{row['QuestionId']}_{letter}", first]
        for row in questions(sample, "test")
        for letter in LETTERS
        if letter != row["CorrectAnswer"]
    )
    _csv(folder / "sample_submission.csv", [ROW, LABELS], asked, 3 * sample.test)


def _csv(path: Path, columns: list[str], rows: Iterable[Iterable[object]], count: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(tqdm(rows, desc=path.name, total=count, unit="row", disable=None, leave=False))
