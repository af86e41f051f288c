"""What a construct is: a family of questions, its right procedure and its faulty ones.

A construct's function draws numbers and computes, beside the right answer, the answer that a pupil who holds each of
its misconceptions would give. It knows nothing of options, letters, ids or files: see `competition.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from random import Random
from typing import TypeVar

Answer = int | Fraction | Decimal | str
Wording = TypeVar("Wording")


@dataclass(frozen=True)
class Item:
    """One drawn question.

    `wrong` names every misconception of the construct, always with the same keys in the same order; `None`, or the right
    answer, stands where this draw does not show it. `slips` are near answers that no misconception explains. Numbers are
    compared by value and written by `written`; a string is taken as it is, LaTeX delimiters included.
    """

    question: str
    right: Answer
    wrong: Mapping[str, Answer | None]
    slips: Sequence[Answer] = ()
    unit: str = ""


@dataclass(frozen=True)
class Construct:
    """A family of questions: `make(rng)` draws one; equal generators give equal items."""

    name: str
    subject: str
    make: Callable[[Random], Item]


REGISTRY: list[Construct] = []


def construct(subject: str, name: str) -> Callable[[Callable[[Random], Item]], Callable[[Random], Item]]:
    """Register the decorated function as the construct `name` of `subject`."""

    def register(make: Callable[[Random], Item]) -> Callable[[Random], Item]:
        REGISTRY.append(Construct(name, subject, make))
        return make

    return register


def frac(numerator: int, denominator: int) -> str:
    """A fraction as LaTeX, not simplified: the form a pupil would write."""
    return rf"\frac{{{numerator}}}{{{denominator}}}"


def tex(number: int | Fraction | Decimal) -> str:
    """A number as LaTeX without delimiters: simplest fraction, plain decimal, thousands unmarked."""
    if isinstance(number, Fraction) and number.denominator != 1:
        sign = "-" if number < 0 else ""
        return sign + frac(abs(number.numerator), number.denominator)
    if isinstance(number, Decimal):
        text = f"{number:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return str(int(number))


def math(latex: str) -> str:
    """LaTeX in the inline delimiters that the competition's texts use."""
    return rf"\( {latex} \)"


def degrees(size: int, figures: int = 1) -> str:
    """An angle in its delimiters, with leading zeros up to the given number of figures."""
    return math(rf"{size:0{figures}d}^{{\circ}}")


def written(answer: Answer, unit: str = "") -> str:
    """An answer as the option's text."""
    if isinstance(answer, str):
        return answer
    return math(tex(answer) + (rf" \mathrm{{~{unit}}}" if unit else ""))


def either(rng: Random, *wordings: Wording) -> Wording:
    """One of several wordings."""
    return rng.choice(wordings)


def same(one: Answer, other: Answer) -> bool:
    """Whether two answers are one: by value for numbers (0.5 is 1/2), by text else."""
    if isinstance(one, str) or isinstance(other, str):
        return written(one) == written(other)
    return Fraction(one) == Fraction(other)
