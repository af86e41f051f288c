"""Every byte that a model reads, pinned: a change of a prompt must be meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pipeline import prompts

GOLDEN = Path(__file__).parent / "golden"
QUERY = {
    "query_id": "7_B",
    "construct": "Add two proper fractions",
    "subject": "Fractions",
    "question": "What is \\( \\frac{1}{2} + \\frac{1}{3} \\)?\nGive your  answer\tin its simplest form.",
    "correct": "\\( \\frac{5}{6} \\)",
    "wrong": "\\( \\frac{2}{5} \\)",
}
LABELS = ["Adds the numerators and adds the denominators", "Multiplies when asked to add", "Forgets to simplify"]
TEXTS = {
    "lexical_query": prompts.lexical_query(QUERY),
    "dense_query": prompts.dense_query(QUERY, "plain"),
    "dense_label": prompts.dense_label(LABELS[0], "plain"),
    "dense_query_one_word": prompts.dense_query(QUERY, "one-word"),
    "dense_label_one_word": prompts.dense_label(LABELS[0], "one-word"),
    "listwise": prompts.listwise(QUERY, LABELS),
    "listwise_none": prompts.listwise(QUERY, LABELS, none=True),
    "pointwise": prompts.pointwise(QUERY, LABELS[0]),
    "candidate": prompts.candidate(LABELS[0], [QUERY, QUERY | {"wrong": "2"}]),
    "explanation": prompts.explanation(QUERY),
    "pointwise_explained": prompts.pointwise(QUERY | {"reasoning": "Adds tops\nand bottoms."}, LABELS[0]),
    "probe": prompts.probe("B"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_prompt_is_the_golden_one(name: str) -> None:
    assert TEXTS[name] == (GOLDEN / f"{name}.txt").read_text("utf-8")


def test_the_prompts_of_a_question_share_all_but_their_candidates() -> None:
    one, other = prompts.pointwise(QUERY, LABELS[0]), prompts.pointwise(QUERY, LABELS[1])
    assert one.removesuffix(LABELS[0]) == other.removesuffix(LABELS[1])


KINDS = {"listwise": "{candidates}", "pointwise": "{candidate}"}


@pytest.mark.parametrize("kind", KINDS)
def test_our_own_templates_are_in_order(kind: str) -> None:
    assert prompts.checked(prompts.template(kind), kind) == prompts.template(kind)


def test_a_template_of_ones_own_is_filled_and_nothing_of_the_texts_is_taken_for_a_placeholder() -> None:
    query = QUERY | {"wrong": "{question} {}"}
    pointwise = prompts.checked("{{{question}}} was answered {wrong}. Because: {candidate}?", "pointwise")
    assert prompts.pointwise(query, "a {set}", pointwise) == (
        "{" + prompts.tidy(QUERY["question"]) + "} was answered {question} {}. Because: a {set}?"
    )
    listwise = prompts.checked("{question} {wrong} {reasoning}{candidates} {last}", "listwise")
    explained = QUERY | {"reasoning": "Adds tops"}
    assert prompts.listwise(explained, LABELS, text=listwise).endswith(
        f"{QUERY['wrong']} What may have led to it: Adds tops\nA. {LABELS[0]}\nB. {LABELS[1]}\nC. {LABELS[2]} C"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{question} {wrong}", "it lacks {candidate"),
        ("{wrong} SHOWN", "it lacks {question}"),
        ("{question} {wrong} {answer} SHOWN", "no placeholder {answer}"),
        ("{question.__class__} {wrong} SHOWN", "no placeholder {question.__class__}"),
        ("{question} {} {wrong} SHOWN", "no placeholder {}"),
        ("{question} SHOWN {wrong}", "stands before what the prompts of a question share"),
        ("{question} {wrong SHOWN", "a brace that is text is doubled"),
        ("{question} {wrong} } SHOWN", "a brace that is text is doubled"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(kind: str, text: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)):
        prompts.checked(text.replace("SHOWN", KINDS[kind]), kind)


def test_every_candidate_has_its_letter_and_the_instruction_names_the_last() -> None:
    text = prompts.listwise(QUERY, LABELS)
    assert [line for line in text.splitlines() if line[1:2] == "."] == [f"{a}. {b}" for a, b in zip("ABC", LABELS, strict=True)]
    assert text.endswith("A to C.")
