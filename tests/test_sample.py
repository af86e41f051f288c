import os
import re
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from math import gcd, lcm
from pathlib import Path
from random import Random
from statistics import mean, median, mode

import polars as pl
import pytest

from pipeline.config import Data, Sample
from pipeline.data import load
from pipeline.sample import competition
from pipeline.sample.competition import DOMAINS, catalogue, constructs, held_out, procedural, questions, write
from pipeline.sample.construct import Answer, Construct, Item, same, written
from pipeline.schema import LETTERS

Row = dict[str, object]
Faulty = Callable[..., Answer | Fraction | float]

ROOT = Path(__file__).parent.parent
FILES = ("train.csv", "test.csv", "solution.csv", "misconception_mapping.csv", "sample_submission.csv")
SMALL = Sample(train=30, test=20, seed=5)
SEEDS = range(200)


def pi(coefficient: int) -> str:
    return rf"\( {coefficient} \pi \mathrm{{~cm^{{2}}}} \)"


# How pupils who hold a misconception would answer, worked out from the numbers in the question's text alone.
RECOMPUTED: dict[str, dict[str, Faulty]] = {
    "Use the order of operations with addition, subtraction and multiplication": {
        "": lambda a, b, c, d: a + b * c - d,
        "Works from left to right and ignores the priority of multiplication over addition": lambda a, b, c, d: (a + b) * c - d,
        "Works through a calculation from right to left": lambda a, b, c, d: a + b * (c - d),
        "Confuses the multiplication sign with the addition sign": lambda *numbers: sum(numbers[:3]) - numbers[3],
    },
    "Find the lowest common multiple of two numbers": {
        "": lcm,
        "Confuses the lowest common multiple with the highest common factor": gcd,
        "Believes that the lowest common multiple of two numbers is always their product": lambda a, b: a * b,
        "Believes that the larger of two numbers is a multiple of both": max,
    },
    "Divide a fraction by a fraction": {
        "": lambda a, b, c, d: Fraction(a, b) / Fraction(c, d),
        "Turns the first fraction upside down instead of the second when dividing fractions": (
            lambda a, b, c, d: Fraction(b, a) * Fraction(c, d)
        ),
        "Turns both fractions upside down before multiplying when dividing fractions": (
            lambda a, b, c, d: 1 / (Fraction(a, b) * Fraction(c, d))
        ),
    },
    "Decrease an amount by a percentage": {
        "": lambda p, q: p * (1 - Fraction(q, 100)),
        "Treats a percentage change as a change by that number of units": lambda p, q: p - q,
        "Adds the percentage of an amount instead of subtracting it for a decrease": lambda p, q: p * (1 + Fraction(q, 100)),
    },
    "Solve a linear equation with the unknown on both sides": {
        "": lambda a, b, c, d: Fraction(d - b, a - c),
        "Divides the coefficient by the constant when solving an equation": lambda a, b, c, d: Fraction(a - c, d - b),
        "Adds the terms with the unknown from both sides of an equation": lambda a, b, c, d: Fraction(d - b, a + c),
        "Subtracts the coefficient of the unknown instead of dividing by it": lambda a, b, c, d: (d - b) - (a - c),
    },
    "Find the gradient of the line through two points": {
        "": lambda x1, y1, x2, y2: Fraction(y2 - y1, x2 - x1),
        "Divides the change in x by the change in y to find a gradient": lambda x1, y1, x2, y2: Fraction(x2 - x1, y2 - y1),
        "Gives the y-intercept of a line when asked for its gradient": lambda x1, y1, x2, y2: (
            y1 - x1 * Fraction(y2 - y1, x2 - x1)
        ),
    },
    "Find the area of a circle from its diameter, in terms of pi": {
        "": lambda diameter: pi((diameter // 2) ** 2),
        "Uses the diameter of a circle as though it were the radius": lambda diameter: pi(diameter**2),
        "Forgets to square the radius when finding the area of a circle": lambda diameter: pi(diameter // 2),
    },
    "Find the total surface area of a cuboid": {
        "": lambda *edges: 2 * sum(a * b for a, b in combinations(edges, 2)),
        "Confuses the volume of a solid with its surface area": lambda a, b, c: a * b * c,
        "Counts each pair of opposite faces of a cuboid only once": lambda *edges: sum(
            a * b for a, b in combinations(edges, 2)
        ),
        "Adds the lengths of all the edges to find a surface area": lambda *edges: 4 * sum(edges),
    },
    "Find the median of an even number of unordered values": {
        "": lambda *values: Fraction(median(values)),
        "Gives the mean when asked for the median": lambda *values: Fraction(mean(values)),
        "Gives the mode when asked for the median": lambda *values: mode(values),
        "Gives the range when asked for the median": lambda *values: max(values) - min(values),
    },
    "Find the probability of two independent events both happening": {
        "": lambda total, red, blue: Fraction(red, total) * Fraction(blue, total),
        "Adds the probabilities of two events that must both happen": lambda total, red, blue: Fraction(red + blue, total),
        "Reduces the total for a second choice although the first item was put back": (
            lambda total, red, blue: Fraction(red, total) * Fraction(blue, total - 1)
        ),
    },
}


def domain(each: Construct) -> str:
    return each.make.__module__.rpartition(".")[2]


def explained(row: Row) -> dict[str, int]:
    """The letters with a label, and the label."""
    return {letter: int(str(row[f"Misconception{letter}Id"])) for letter in LETTERS if row[f"Misconception{letter}Id"] != ""}


def labels(rows: list[Row]) -> list[int]:
    return [label for row in rows for label in explained(row).values()]


def texts(row: Row) -> dict[str, str]:
    return {letter: str(row[f"Answer{letter}Text"]) for letter in LETTERS}


def astray_from(item: Item, answer: Answer | None) -> bool:
    """Whether a wrong option can show this answer."""
    return answer is not None and not same(answer, item.right)


def different(item: Item) -> list[Answer]:
    """The answers that a wrong option can show: none is right, no two are the same."""
    found: list[Answer] = []
    for answer in [*item.wrong.values(), *item.slips]:
        if astray_from(item, answer) and not any(same(answer, other) for other in found):
            found.append(answer)
    return found


def balanced(text: str) -> bool:
    """Whether delimiters open and close in turn, and braces match inside each pair of them and outside."""
    parts = re.split(r"\\\((.*?)\\\)", text, flags=re.DOTALL)
    return all(braces_match(part) for part in (*parts[1::2], "".join(parts[::2]))) and not re.search(r"\\[()]", "".join(parts))


def braces_match(text: str) -> bool:
    while (shorter := re.sub(r"\{[^{}]*\}", "", text)) != text:
        text = shorter
    return "{" not in text and "}" not in text


def test_the_check_of_delimiters_and_braces_can_fail() -> None:
    bad = (r"\( x", r"x \)", r"\( \( x \)", r"\) x \(", r"\( \frac{1}{2 \)", r"\( }{ \)", r"\( { \) \( } \)")
    assert balanced(r"\( \frac{1}{2} \) or \( x^{2} \)")
    assert not any(map(balanced, bad))


def test_the_competition_is_as_large_as_was_asked() -> None:
    assert len(procedural()) >= 60
    assert len(constructs()) >= 20
    assert len(catalogue()) >= 300


def test_every_domain_has_constructs_and_some_that_are_recomputed_here() -> None:
    assert {domain(each) for each in constructs()} == set(DOMAINS)
    assert {domain(each) for each in constructs() if each.name in RECOMPUTED} == set(DOMAINS)


def test_labels_differ_by_more_than_case_and_white_space_and_are_one_line_each() -> None:
    assert len({" ".join(label.lower().split()) for label in catalogue()}) == len(catalogue())
    assert [label for label in catalogue() if label != " ".join(label.split()) or not label] == []
    assert set(procedural()) < set(catalogue())


@pytest.mark.parametrize("each", constructs(), ids=lambda each: each.name)
def test_a_construct_keeps_its_promises_for_every_seed(each: Construct) -> None:
    items = [each.make(Random(seed)) for seed in SEEDS]
    assert items == [each.make(Random(seed)) for seed in SEEDS]
    assert len({tuple(item.wrong) for item in items}) == 1
    assert len({item.question for item in items}) > 10
    for item in items:
        options = different(item)
        shown = [written(answer, item.unit) for answer in [item.right, *options]]
        assert len(options) >= 3
        assert len(set(shown)) == len(shown)
        assert [text for text in [item.question, *shown] if not balanced(text)] == []


@pytest.mark.parametrize("each", constructs(), ids=lambda each: each.name)
def test_each_misconception_of_a_construct_leads_astray_in_most_draws(each: Construct) -> None:
    items = [each.make(Random(seed)) for seed in SEEDS]
    astray = Counter(label for item in items for label, answer in item.wrong.items() if astray_from(item, answer))
    assert {label for label, count in astray.items() if count > len(SEEDS) / 2} == set(items[0].wrong)


@pytest.mark.parametrize("name", RECOMPUTED)
def test_right_and_faulty_answers_follow_from_the_numbers_in_the_question(name: str) -> None:
    make = next(each.make for each in constructs() if each.name == name)
    for seed in SEEDS:
        item = make(Random(seed))
        numbers = [int(number) for number in re.findall(r"-?\d+", item.question)]
        given = {"": item.right, **item.wrong}
        expected = {label: answer(*numbers) for label, answer in RECOMPUTED[name].items()}
        assert [label for label in expected if (one := given[label]) is not None and not same(one, expected[label])] == []


def test_each_letter_holds_what_the_row_says_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue()  # made before the spies stand, so that only the rows' items are recorded
    items: list[Item] = []

    def spied(each: Construct) -> Construct:
        return replace(each, make=lambda rng: items.append(each.make(rng)) or items[-1])

    spies = tuple(map(spied, constructs()))
    monkeypatch.setattr(competition, "constructs", lambda: spies)
    rows = list(questions(Sample(train=1000, unseen=0.5), "train")) + list(questions(Sample(test=1000, unseen=0.5), "test"))
    for row, item in zip(rows, items, strict=True):
        options, faults = texts(row), explained(row)
        assert options.pop(str(row["CorrectAnswer"])) == written(item.right, item.unit)
        assert row["CorrectAnswer"] not in faults
        assert len({*options.values(), written(item.right, item.unit)}) == 4
        for letter, text in options.items():
            if letter in faults:
                answer = item.wrong[catalogue()[faults[letter]]]
                assert answer is not None and not same(answer, item.right) and text == written(answer, item.unit)
            else:
                assert text not in [written(answer, item.unit) for answer in item.wrong.values() if answer is not None]


@pytest.mark.parametrize("split", ["train", "test"])
def test_any_letter_may_be_right_and_some_wrong_options_have_no_label(split: str) -> None:
    rows = list(questions(Sample(train=2000, test=2000, seed=3), split))
    share = {letter: sum(row["CorrectAnswer"] == letter for row in rows) / len(rows) for letter in LETTERS}
    assert share == pytest.approx(dict.fromkeys(LETTERS, 0.25), abs=0.05)
    assert 0.15 < 1 - len(labels(rows)) / (3 * len(rows)) < 0.4


@pytest.mark.parametrize("unseen", [0, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_training_never_shows_a_held_out_label_and_the_test_has_the_asked_share_of_them(unseen: float, seed: int) -> None:
    sample = Sample(train=2000, test=2000, seed=seed, unseen=unseen)
    train, test = (labels(list(questions(sample, split))) for split in ("train", "test"))
    assert {catalogue()[label] for label in train} & held_out(sample) == set()
    assert sum(label not in set(train) for label in test) / len(test) == pytest.approx(unseen, abs=0.06)


def test_the_rows_follow_from_the_seed() -> None:
    first, again, other = (list(questions(SMALL.model_copy(update={"seed": seed}), "test")) for seed in (5, 5, 6))
    assert first == again
    assert [row["QuestionText"] for row in first] != [row["QuestionText"] for row in other]
    assert held_out(SMALL) != held_out(SMALL.model_copy(update={"seed": 6}))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_row_does_not_depend_on_how_many_follow(split: str) -> None:
    longer = SMALL.model_copy(update={split: 90})
    assert list(questions(longer, split))[: getattr(SMALL, split)] == list(questions(SMALL, split))


def test_any_row_can_be_made_again_alone() -> None:
    rows = list(questions(Sample(train=40, seed=5, unseen=0), "train"))
    assert [next(questions(Sample(train=i, seed=5, unseen=0), "test")) for i in range(1, 40)] == rows[1:]


def test_the_files_are_equal_in_processes_that_hash_otherwise(tmp_path: Path) -> None:
    for seed in "12":
        command = [sys.executable, "-m", "pipeline", "data", "--out", seed, "--train", "30", "--test", "20"]
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT), "EEDI_CACHE": str(tmp_path / "cache")}
        subprocess.run(command, cwd=tmp_path, env=env, check=True, capture_output=True)
    assert [(tmp_path / "1" / name).read_bytes() for name in FILES] == [(tmp_path / "2" / name).read_bytes() for name in FILES]


def test_the_files_are_a_whole_competition_in_kaggles_layout(tmp_path: Path) -> None:
    write(tmp_path, SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    assert not [name for name in pl.read_csv(tmp_path / "test.csv").columns if "Misconception" in name]
    loaded = load(tmp_path, Data())
    assert loaded.catalog["label"].to_list() == list(catalogue())
    assert loaded.train is not None and loaded.train_qrels is not None and loaded.truth is not None
    assert (loaded.train.height, loaded.test.height) == (30, 20)
    given = {
        (f"{row['QuestionId']}_{letter}", label) for row in questions(SMALL, "test") for letter, label in explained(row).items()
    }
    assert set(loaded.truth.iter_rows()) == given
    asked = pl.read_csv(tmp_path / "sample_submission.csv")
    assert asked.height == 60
    assert all(len(set(row.split())) == 25 for row in asked["MisconceptionId"])


def test_twenty_thousand_questions_are_written_in_bounded_memory(tmp_path: Path) -> None:
    write(tmp_path, SMALL)  # what is kept for good is not counted
    tracemalloc.start()
    try:
        write(tmp_path, Sample(train=19_500, test=500))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sum((tmp_path / name).stat().st_size for name in FILES) > 5_000_000
    assert peak < 1_000_000
