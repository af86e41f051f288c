"""Every byte that a model reads, as pure functions of strings, with the why of each choice.

The chat template around a judge's prompt is the model's own and is applied in `models/judge.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

# One letter an option. Single capitals are single tokens in every tokenizer that we met, and the judge checks that.
OPTIONS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
YES, NO = "Yes", "No"
NONE = "None of these"

JUDGE_SYSTEM = "You are an experienced maths teacher who knows which misconception leads a pupil to which wrong answer."


def tidy(text: str) -> str:
    """White space folded: line ends inside LaTeX carry no meaning and cost tokens."""
    return " ".join(text.split())


def lexical_query(query: Mapping[str, str]) -> str:
    """All that is known, as bare text: a lexical retriever weighs words, and field names would only be noise."""
    return tidy(" ".join(query[field] for field in ("construct", "subject", "question", "correct", "wrong")))


# What follows a text so that its last token sums it up. A language model that was never trained to embed is made to say the
# meaning in one word, and the state from which it would say it is the vector.
# Source: Jiang et al., "Scaling Sentence Embeddings with Large Language Models" (PromptEOL, 2023).
IN_ONE_WORD = {"plain": "", "one-word": " The pupil's misconception in one word: \"", "short": ' In one word: "'}


def dense_query(query: Mapping[str, str], template: str) -> str:
    """The query's text for the bi-encoder: what the answers of one question share comes first, the wrong answer last."""
    if template == "seed":
        return seed_text(f"{query['question']} {query['wrong']}")
    text = (
        f"{query['construct']} ({query['subject']}). {query['question']} "
        f"Correct answer: {query['correct']} Wrong answer: {query['wrong']}"
    )
    return tidy(text) + IN_ONE_WORD[template]


def dense_label(label: str, template: str) -> str:
    """A misconception's text for the bi-encoder."""
    match template:
        case "seed":
            return seed_text(label)
        case "one-word":
            return f"Misconception: {tidy(label)}.{IN_ONE_WORD[template]}"
        case _:
            return tidy(label) + IN_ONE_WORD[template]


def seed_text(text: str) -> str:
    """As the published seed model reads: lower case, LaTeX delimiters gone."""
    return tidy(re.sub(r"\\[()\[\]]", " ", text).lower())


def _question(query: Mapping[str, str]) -> str:
    """What every prompt of a question opens with, so that an engine with prefix caching reads it once."""
    reasoning = query.get("reasoning")
    return (
        f"Topic: {tidy(query['subject'])} - {tidy(query['construct'])}\n"
        f"Question: {tidy(query['question'])}\n"
        f"Correct answer: {tidy(query['correct'])}\n"
        f"A pupil's wrong answer: {tidy(query['wrong'])}\n"
    ) + (f"What may have led to it: {tidy(reasoning)}\n" if reasoning else "")


def explanation(query: Mapping[str, str]) -> str:
    """Asks what led to the wrong answer, before any candidate is named."""
    return (
        f"{_question(query)}\nExplain in one or two sentences which mistake in the pupil's thinking leads to this wrong answer."
    )


def candidate(label: str, shots: Sequence[Mapping[str, str]]) -> str:
    """A label with examples of it behind its name, on one line: a list has a line for each."""
    told = (f'asked "{shot["question"]}", a pupil answers {shot["wrong"]} instead of {shot["correct"]}' for shot in shots)
    return tidy(f"{label} (for example: {'; '.join(told)})") if shots else label


def listwise(query: Mapping[str, str], labels: Sequence[str], none: bool = False) -> str:
    """Lettered candidates, answered by one letter; with `none` the last letter denies them all."""
    shown = [*map(tidy, labels), NONE] if none else [*map(tidy, labels)]
    lines = "\n".join(f"{letter}. {text}" for letter, text in zip(OPTIONS, shown, strict=False))
    return (
        f"{_question(query)}\nWhich misconception explains the wrong answer best?\n{lines}\n"
        f"Answer with one letter, {OPTIONS[0]} to {OPTIONS[len(shown) - 1]}."
    )


def pointwise(query: Mapping[str, str], label: str) -> str:
    """One candidate, last in the prompt, answered by Yes or No."""
    return (
        f"{_question(query)}\nDoes this misconception explain the wrong answer? Answer {YES} or {NO}.\n"
        f"Misconception: {tidy(label)}"
    )


def probe(answer: str) -> str:
    """What an engine is asked before anything depends on it: the answer is known."""
    return f"The right answer is {answer}.\nAnswer with one letter, {OPTIONS[0]} to {OPTIONS[2]}."
