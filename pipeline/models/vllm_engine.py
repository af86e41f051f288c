"""vLLM in a process of its own: it can be killed, its memory is free when it ends, and no CUDA is touched in this one.

The child speaks JSON lines: a hello when the model is loaded, then an answer a request.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Judge as Spec
from pipeline.models import sources, vllm_reading, vllm_settings
from pipeline.models.judge import Chat
from pipeline.models.vllm_process import VllmProcess

log = logging.getLogger(__name__)


class VllmJudge:
    """A vLLM engine behind a pipe."""

    def __init__(self, folder: Path, spec: Spec) -> None:
        vllm = vllm_reading.installed()
        self._reading = vllm_reading.reading(vllm)
        adapter = str(sources.resolve(spec.adapter)) if spec.adapter else None
        settings = {"arguments": vllm_settings.arguments(folder, spec, vllm), "adapter": adapter}
        self.chat, self.computed = Chat(folder, spec.max_tokens), 0
        log.info("starting vLLM in its own process")
        self._child = VllmProcess("pipeline.models.vllm_worker", json.dumps(settings), talks=True)
        try:
            log.info("vLLM %s is ready after %.0f s", vllm.version, self._read()["seconds"])
            vllm_reading.probe(self._ask, self._reading, self.chat)
        except BaseException:
            self.close()
            raise

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """See `Judge`. Raises `EngineDied` when the process does not answer."""
        return vllm_reading.logprobs(self._ask, self._reading, self.chat, prompts, options)

    def write(self, prompts: Sequence[str], tokens: int) -> list[str]:
        """The likeliest answer of the weights alone to each prompt, so many tokens at the most. Raises as `logprobs` does."""
        written: list[str] = self._told({"prompts": [self.chat.encode(prompt, tokens) for prompt in prompts], "tokens": tokens})
        return written

    def close(self) -> None:
        """End the process."""
        self._child.close()

    def _ask(self, prompts: list[list[int]], sampling: Mapping[str, Any]) -> list[Mapping[int, float]]:
        answers = self._told({"prompts": prompts, "sampling": sampling})
        return [{int(token): value for token, value in answer.items()} for answer in answers]

    def _told(self, request: Mapping[str, Any]) -> Any:
        stdin = self._child.process.stdin
        assert stdin
        try:
            stdin.write(json.dumps(request) + "\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._child.died() from None
        told = self._read()
        self.computed += told["computed"]
        return told["answers"]

    def _read(self) -> Any:
        assert self._child.process.stdout
        line = self._child.process.stdout.readline()
        if not line:
            raise self._child.died()
        return json.loads(line)
