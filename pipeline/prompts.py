"""Every byte that a model reads, as pure functions of strings, with the why of each choice.

A judge's prompts are templates/: what all prompts of a question open with comes first, the candidates last, so that an engine
with prefix caching reads the question once. The chat template around them is the model's own and is applied in
`models/judge.py`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from string import Formatter

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


FIELDS = ("subject", "construct", "question", "correct", "wrong")  # of a query, in every template
REASONING = "reasoning"  # a line of its own, where the model has explained the answer, else nothing
SHOWN = {"listwise": ("candidates", "first", "last"), "pointwise": ("candidate",)}  # what else a kind's template has


@cache
def template(kind: str) -> str:
    """Ours: "listwise", "pointwise" or "explanation"."""
    return (Path(__file__).parent / "templates" / f"{kind}.txt").read_text(encoding="utf-8").removesuffix("\n")


def checked(text: str, kind: str) -> str:
    """`text`, if it is a template of that kind: all that it must have, nothing that there is not, the candidates last.

    Raises `ValueError`, which says what is wrong.
    """
    try:
        found = [name for _, name, _, _ in Formatter().parse(text) if name is not None]
    except ValueError as error:
        raise ValueError(f"{error}: a brace that is text is doubled") from None
    shown = SHOWN[kind]
    known = (*FIELDS, REASONING, *shown)
    if strange := [name for name in found if name not in known]:
        raise ValueError(f"no placeholder {{{strange[0]}}}: a {kind} prompt has {', '.join(known)}")
    if lacking := [name for name in ("question", "wrong", shown[0]) if name not in found]:
        raise ValueError(f"it lacks {{{lacking[0]}}}")
    if any(name in (*FIELDS, REASONING) for name in found[found.index(shown[0]) :]):
        raise ValueError(f"{{{shown[0]}}} stands before what the prompts of a question share")
    return text


def _filled(text: str, query: Mapping[str, str], **shown: str) -> str:
    told = query.get(REASONING)
    reasoning = f"What may have led to it: {tidy(told)}\n" if told else ""
    return text.format(**{field: tidy(query[field]) for field in FIELDS}, reasoning=reasoning, **shown)


def explanation(query: Mapping[str, str]) -> str:
    """Asks what led to the wrong answer, before any candidate is named."""
    return _filled(template("explanation"), query)


def candidate(label: str, shots: Sequence[Mapping[str, str]]) -> str:
    """A label with examples of it behind its name, on one line: a list has a line for each."""
    told = (f'asked "{shot["question"]}", a pupil answers {shot["wrong"]} instead of {shot["correct"]}' for shot in shots)
    return tidy(f"{label} (for example: {'; '.join(told)})") if shots else label


def listwise(query: Mapping[str, str], labels: Sequence[str], none: bool = False, text: str | None = None) -> str:
    """Lettered candidates, answered by one letter; with `none` the last letter denies them all. `text`: a `checked` template
    in place of ours."""
    shown = [*map(tidy, labels), NONE] if none else [*map(tidy, labels)]
    lines = "\n".join(f"{letter}. {text}" for letter, text in zip(OPTIONS, shown, strict=False))
    ends = {"first": OPTIONS[0], "last": OPTIONS[len(shown) - 1]}
    return _filled(text or template("listwise"), query, candidates=lines, **ends)


def pointwise(query: Mapping[str, str], label: str, text: str | None = None) -> str:
    """One candidate, last in the prompt, answered by Yes or No. `text`: a `checked` template in place of ours."""
    return _filled(text or template("pointwise"), query, candidate=tidy(label))


def probe(answer: str) -> str:
    """What an engine is asked before anything depends on it: the answer is known."""
    return f"The right answer is {answer}.\nAnswer with one letter, {OPTIONS[0]} to {OPTIONS[2]}."
