"""The judge: its protocol, the tokens that answer it, and the scores kept chunk by chunk.

A judge is asked prompts and a closed list of options, and says how probable the model finds each option as the very next
token. The engines differ in how they run the model; `chat` and `option_ids` are the same for all of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import polars as pl
from tqdm.auto import tqdm

from pipeline import prompts as texts
from pipeline.budget import Budget, OutOfTime, Pace, stopped_after
from pipeline.config import Judge as Spec
from pipeline.errors import EngineDied, InputError
from pipeline.models import memory, sources
from pipeline.models.device import settled
from pipeline.models.hashed import HashedJudge
from pipeline.store import Store, code

log = logging.getLogger(__name__)

T = TypeVar("T")
Asked = tuple[list[str], list[str]]  # prompts, and the options of each
HEAD = 64  # tokens that a cut prompt keeps of its beginning: the system's turn and the topic


class Judge(Protocol):
    """Prompts to log-probabilities of options."""

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """(n, n_options) float32: natural log-probability of each option, given that the answer begins with one of them."""
        ...


class Reader:
    """A judge that answers nothing, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """(n, n_options) zeros."""
        self.asked.append((list(prompts), list(options)))
        return np.zeros((len(prompts), len(options)), dtype=np.float32)


class Chat:
    """A model's tokenizer with its chat template: prompts to token ids, options to the single tokens that answer them."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        from transformers import AutoTokenizer

        self.folder, self.max_tokens = folder, max_tokens
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        if not self.tokenizer.chat_template:
            raise InputError(
                folder,
                found="a tokenizer without a chat template",
                wanted="an instruction-tuned model",
                remedy="Take an -Instruct model for the judge.",
            )

    def encode(self, prompt: str, answer: int = 1) -> list[int]:
        """The token ids of the whole conversation, up to where the answer of so many tokens begins.

        A prompt longer than the model's window loses the middle of its question, never its candidates or its instruction.
        """
        ids = self._ids(self.text(prompt))
        if len(ids) <= (room := self.max_tokens - answer):
            return ids
        log.warning("a prompt of %d tokens is cut to %d", len(ids), room)
        return ids[:HEAD] + ids[HEAD - room :]

    def text(self, prompt: str) -> str:
        """The conversation as the chat template writes it."""
        turns = [{"role": "system", "content": texts.JUDGE_SYSTEM}, {"role": "user", "content": prompt}]
        written: str = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return written

    def option_ids(self, options: Sequence[str]) -> list[int]:
        """The token with which the template really continues when the answer is that option.

        " B" and "B" are different tokens, and which one follows is the template's affair: so each option is written behind a
        real conversation and the tokens are compared. Raises `InputError` where an option is not exactly one token more, or
        two options begin alike.
        """
        prompt = self.text("?")
        before, ids = self._ids(prompt), []
        for option in options:
            after = self._ids(prompt + option)
            if after[: len(before)] != before or len(after) != len(before) + 1:
                raise InputError(
                    self.folder,
                    found=f"option {option!r} continues the chat template with {after[len(before) :]}",
                    wanted="exactly one token",
                    remedy="Take a model whose tokenizer has it.",
                )
            ids.append(after[-1])
        if len(set(ids)) < len(ids):
            raise InputError(
                self.folder,
                found=f"options {list(options)} share tokens",
                wanted="a token of its own for each",
                remedy="Take a model whose tokenizer has them.",
            )
        return ids

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids


class Engine(Judge, memory.Model, Protocol):
    """A judge that holds a model."""

    @property
    def computed(self) -> int | None:
        """Tokens of prompts that went through the model so far, without those that a prefix cache spared it; null where the
        engine does not tell."""
        ...


def start(folder: Path, spec: Spec) -> Engine:
    """The engine that `spec` names, loaded."""
    spec = settled(spec)
    if spec.engine == "vllm":
        from pipeline.models.vllm_engine import VllmJudge

        return VllmJudge(folder, spec)
    if spec.engine == "server":
        from pipeline.models.server_engine import ServerJudge

        return ServerJudge(folder, spec)
    if spec.engine == "tree":
        from pipeline.models.tree_engine import TreeEngine

        return TreeEngine(folder, spec)
    from pipeline.models.transformers_engine import TransformersJudge

    return TransformersJudge(folder, spec)


class KeptJudge:
    """The judge of a spec, whose answers are kept; an engine starts only when some are missing.

    What is asked at once is a chunk, kept as a whole: a killed run goes on where it stopped. One that does not fit into the
    `pace` is not asked.
    """

    def __init__(self, spec: Spec, store: Store, pace: Pace | None = None) -> None:
        self.spec, self.store, self.pace = spec, store, pace or Pace(Budget(), spec.weights)

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """See `Judge`. Raises `OutOfTime` where a chunk is neither kept nor fits, and `EngineDied` where none of its engines
        lived to answer."""
        if self.spec.engine == "hashed":
            return HashedJudge().logprobs(prompts, options)
        if not prompts:
            return np.empty((0, len(options)), np.float32)
        chunk = list(prompts), list(options)
        if self.spec.engine == "ray":
            self.fill([chunk])
        return self._kept(chunk, self._ask)

    def fill(self, asked: Sequence[Asked]) -> None:
        """Have the workers of Ray answer what is missing of all that will be asked, each chunk kept as soon as it is there.

        Raises as `logprobs` does.
        """
        from pipeline.models.ray_pool import spread

        missing = [chunk for chunk in asked if chunk[0] and not self.store.holds("judge", self._inputs(chunk))]
        if not missing:
            return
        if not self.pace.fits(0):
            raise OutOfTime
        memory.release()  # the workers may be on this machine's GPU
        spec = settled(self.spec)  # this machine chooses the number format, because what is kept says that it did
        began = None
        with stopped_after(self.pace.left):
            found = spread(lambda: KeptJudge(spec, Store()).answers, missing, self.spec.workers, self.spec.ray_args)
            for number, answers in tqdm(found, total=len(missing), unit="chunk", desc="judge", disable=None):
                self._kept(missing[number], lambda _: answers)  # noqa: B023
                if began:
                    self.pace.took(len(missing[number][0]), self.pace.budget.clock() - began)
                began = self.pace.budget.clock()

    def explained(self, queries: pl.DataFrame) -> pl.DataFrame:
        """The queries with the engine's `reasoning` about each, if the spec wants it; it is written once, and kept.

        Raises as `logprobs` does.
        """
        if not (tokens := self.spec.reasoning):
            return queries
        asked = [texts.explanation(row) for row in queries.iter_rows(named=True)]
        inputs = {prompt: {**self._settings, "adapter": None, "tokens": tokens, "prompt": prompt} for prompt in asked}
        missing = [prompt for prompt, each in inputs.items() if not self.store.holds("reasoning", each)]
        if missing and not self.pace.fits(0):
            raise OutOfTime
        with stopped_after(self.pace.left):
            parts = self._tried(missing, 0, lambda engine, part: engine.write(part, tokens)) if missing else []
        written = dict(zip(missing, chain.from_iterable(parts), strict=True))
        told = {
            prompt: self.store.keep("reasoning", each, lambda: pl.DataFrame({"reasoning": [written[prompt]]})).item()  # noqa: B023
            for prompt, each in inputs.items()
        }
        return queries.with_columns(reasoning=pl.Series([told[prompt] for prompt in asked]))

    def answers(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """What the engine says, nothing kept; one that dies is started anew, and when that dies too, asked for half as much at
        a time."""
        return np.concatenate(self._tried(prompts, len(prompts), lambda engine, part: engine.logprobs(part, options)))

    @cached_property
    def _folder(self) -> Path:
        return sources.resolve(self.spec.weights)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        """All that an answer depends on besides the question; large weights take seconds to be read for it."""
        return {
            "code": code(Path(__file__).parent),
            "weights": sources.fingerprint(self._folder),
            "adapter": self.spec.adapter and sources.fingerprint(sources.resolve(self.spec.adapter)),
            **settled(self.spec).model_dump(include={"engine", "engine_args", "url", "served", "dtype", "max_tokens"}),
            "system": texts.JUDGE_SYSTEM,
        }

    def _inputs(self, chunk: Asked) -> dict[str, Any]:
        return {**self._settings, "options": chunk[1], "prompts": chunk[0]}

    def _kept(self, chunk: Asked, make: Callable[[Asked], np.ndarray]) -> np.ndarray:
        def frame() -> pl.DataFrame:
            answers = make(chunk)
            if answers.shape != tuple(map(len, chunk)) or not np.isfinite(answers).all():
                raise RuntimeError(f"the engine {self.spec.engine} did not return a number for every option of every prompt")
            return pl.DataFrame({"logprobs": pl.Series(answers, dtype=pl.Array(pl.Float32, answers.shape[1]))})

        return self.store.keep("judge", self._inputs(chunk), frame)["logprobs"].to_numpy()

    def _ask(self, chunk: Asked) -> np.ndarray:
        if not self.pace.fits(len(chunk[0])):
            raise OutOfTime
        with stopped_after(self.pace.left):
            return self.answers(*chunk)

    def _tried(self, prompts: Sequence[str], counted: int, ask: Callable[[Any, Sequence[str]], T]) -> list[T]:
        """What the engine says to the prompts, in parts; `counted` is what they are to the pace."""
        key = (self._folder, self.spec.model_dump_json())
        for at_once in (len(prompts), len(prompts), -(-len(prompts) // 2)):
            try:
                engine = memory.held(key, lambda: start(self._folder, self.spec))
                began = self.pace.budget.clock()
                parts = [ask(engine, prompts[at : at + at_once]) for at in range(0, len(prompts), at_once)]
                self.pace.took(counted, self.pace.budget.clock() - began)
                return parts
            except EngineDied as error:
                memory.drop(key)
                log.warning("the judge's engine died, asked %d prompts at a time: %s", at_once, error)
                died = error
            except BaseException:
                memory.drop(key)  # it may be in the middle of an answer
                raise
        raise died
