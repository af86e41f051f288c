"""What a judge is asked while it learns, and the loss of its lists, on tiny weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pipeline import prompts
from pipeline.config import Pointwise, YesNo
from pipeline.schema import QUERIES

torch = pytest.importorskip("torch", reason="the models' packages are not installed")

NAMES = {1: "Reads it as red", 2: "Reads it as green", 3: "Reads it as blue"}

STEP = [
    # margins of the right and the wrong candidates, weights of none and binary, and the loss by hand
    ([1.0], 0.0, 0.0, np.log(1 + np.e) - 1),
    ([0.0, 0.0], 0.0, 0.0, np.log(3)),
    ([0.0, 0.0, 0.0], 2.0, 0.0, np.log(4) + 2 * np.log(3)),
    ([2.0, -1.0], 0.0, 1.0, np.log(1 + np.e**2 + np.e**-1) - 2 + (np.log(1 + np.e**-2) + np.log(1 + np.e**-1)) / 2),
]


@pytest.mark.parametrize(("margins", "none", "binary", "wanted"), STEP)
def test_a_list_s_loss_is_told_by_its_formula(margins: list[float], none: float, binary: float, wanted: float) -> None:
    from pipeline.train.pointwise import Lists

    loss: Any = Lists(torch.nn.Identity(), None, [], [], YesNo(none=none, binary=binary))  # type: ignore[arg-type]
    margin = torch.tensor(margins)
    assert loss.of(margin, torch.full_like(margin, torch.nan)).item() == pytest.approx(wanted, abs=1e-5)


TAUGHT = [
    # margins, a teacher's scores, and what imitating it adds to the loss, by hand: of two candidates log(1 + e^(other - own))
    ([0.0, 1.0], [5.0, 5.0], (np.log(1 + np.e) + np.log(1 + np.e**-1)) / 2),
    ([0.0, 1.0], [np.log(3), 0.0], 0.75 * np.log(1 + np.e) + 0.25 * np.log(1 + np.e**-1)),
    ([0.0, 9.0, 1.0], [np.log(3), np.nan, 0.0], 0.75 * np.log(1 + np.e) + 0.25 * np.log(1 + np.e**-1)),
    ([0.0, 1.0], [2.0, np.nan], 0.0),
]


@pytest.mark.parametrize(("margins", "scores", "wanted"), TAUGHT)
def test_a_teacher_s_odds_are_imitated_among_the_candidates_that_it_scored(
    margins: list[float], scores: list[float], wanted: float
) -> None:
    from pipeline.train.pointwise import Lists

    loss: Any = Lists(torch.nn.Identity(), None, [], [], YesNo(distil=2))  # type: ignore[arg-type]
    margin = torch.tensor(margins)
    told, silent = (loss.of(margin, torch.tensor(each)).item() for each in (scores, [torch.nan] * len(scores)))
    assert told - silent == pytest.approx(2 * wanted, abs=1e-5)


def test_steps_lower_the_loss_until_the_right_candidate_is_yes_and_the_wrong_ones_are_no(tiny_judge: Path) -> None:
    from pipeline.config import Lora
    from pipeline.models import adapters
    from pipeline.models.judge import Chat
    from pipeline.models.tree_judge import TreeJudge, load
    from pipeline.train.pointwise import Lists, Wording, lists
    from pipeline.train.units import Embedder

    told = [
        {"query_id": f"{i}_A", "question_id": str(i), "construct": "c", "subject": "s", "question": "q", "correct": "x"}
        | {"wrong": NAMES[i].split()[-1]}
        for i in NAMES
    ]
    queries = pl.DataFrame(told, schema=QUERIES.columns)
    model = load(tiny_judge, Pointwise(weights=str(tiny_judge), dtype="float32"))
    judge = TreeJudge(model[0].model, Chat(tiny_judge, 2048))
    embedder = Embedder(judge, 0, "these")
    units = lists(embedder, queries, [[1, 2, 3], [2, 1, 3], [3, 1]], Wording(NAMES, {}, Pointwise()))  # one list is shorter
    adapters.add(model, Lora(rank=8, alpha=16), 0, "train.judge")
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    silent = [np.full(len(unit.labels), np.nan) for unit in units]
    loss = Lists(model, embedder, units, silent, YesNo())
    optimizer = torch.optim.Adam(learning, lr=0.01)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        losses.append(loss([{"input_ids": torch.tensor([2, 0, 1])}]))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 4
    with torch.no_grad():
        margins = embedder.read(units)[:, 0]
    assert (margins > 0).tolist() == [True, False, False, True, False, False, True, False]
    alone = torch.stack(
        [loss.of(embedder.read([unit])[:, 0], torch.tensor(none)) for unit, none in zip(units, silent, strict=True)]
    ).mean()
    assert loss([{"input_ids": torch.tensor([2, 0, 1])}]).item() == pytest.approx(alone.item(), abs=1e-4)


def test_a_label_has_its_examples_behind_it_but_none_of_the_question_that_is_learnt() -> None:
    from pipeline.train.pointwise import Wording

    row = dict.fromkeys(QUERIES.columns, "?") | {"question": "Which red?"}
    shots = {1: [{"question": name, "wrong": "w", "correct": "c"} for name in ("Which red?", "Which pink?", "Which rose?")]}
    asked = Wording(NAMES, shots, Pointwise(shots=1)).about(row, 1)
    assert asked == prompts.pointwise(row, prompts.candidate(NAMES[1], shots[1][1:2]))
    assert Wording(NAMES, shots, Pointwise(shots=1)).about(row, 2) == prompts.pointwise(row, NAMES[2])
