"""A vLLM server, spoken to by OpenAI's own client: one that runs somewhere, or one that we start on this machine.

It takes prompts as token ids, so that no server's template or truncation stands between us and the model. It does not know
what else the server is doing.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Judge as Spec
from pipeline.errors import EngineDied, InputError
from pipeline.models import sources, vllm_reading, vllm_settings
from pipeline.models.judge import Chat
from pipeline.models.vllm_process import VllmProcess
from pipeline.models.vllm_reading import Vllm

log = logging.getLogger(__name__)

TRIES = 6  # of a request; the client waits longer each time, half a second at first
START = 1800  # seconds that a server has to come up: large weights are slow to read
TOKEN = "token_id:"  # what stands before a token's number in an answer
MODULE = "vllm.entrypoints.openai.api_server"  # `vllm serve` does not run from the CPU's package


class ServerJudge:
    """An OpenAI-compatible vLLM server."""

    computed = None  # others may ask it too

    def __init__(self, folder: Path, spec: Spec) -> None:
        import openai

        self.chat, self.spec = Chat(folder, spec.max_tokens), spec
        self._child: VllmProcess | None = None
        self._url, self._model = (spec.url, spec.served or spec.weights) if spec.url else self._start(folder)
        self._client = openai.OpenAI(
            base_url=self._url,
            api_key=os.environ.get("OPENAI_API_KEY", "EMPTY"),  # vLLM's documents' own word for none
            timeout=spec.timeout,
            max_retries=TRIES - 1,
            http_client=openai.DefaultHttpxClient(trust_env=self._child is None),  # no proxy to ourselves
        )
        try:
            self._wait()
            self._refuse_another_model()
            self._reading = vllm_reading.reading(self._vllm())
            vllm_reading.probe(self._ask, self._reading, self.chat)
        except BaseException:
            self.close()
            raise

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """See `Judge`. Raises `EngineDied` when the server does not answer, however often it is asked."""
        return vllm_reading.logprobs(self._ask, self._reading, self.chat, prompts, options)

    def close(self) -> None:
        """End the server, if it is ours."""
        self._client.close()
        if self._child:
            self._child.close()

    def _start(self, folder: Path) -> tuple[str, str]:
        """Start a server on a free port; its address and the name by which it knows the model."""
        vllm = vllm_reading.installed()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        settings = {**vllm_settings.arguments(folder, self.spec, vllm), "host": "127.0.0.1", "port": port}
        words, model = vllm_settings.flags({**settings, "served_model_name": self.spec.weights}), self.spec.weights
        if self.spec.adapter:
            model = "judge"
            words += ["--lora-modules", f"{model}={sources.resolve(self.spec.adapter)}"]
        log.info("starting a vLLM server on port %d", port)
        self._child = VllmProcess(MODULE, *words)
        return f"http://127.0.0.1:{port}/v1", model

    def _wait(self) -> None:
        """Until the server that we started answers. Raises `EngineDied` when it ends instead."""
        from openai import APIConnectionError, APIStatusError

        began = time.monotonic()
        while self._child and time.monotonic() - began < START:
            if self._child.process.poll() is not None:
                raise self._child.died()
            try:
                self._client.with_options(max_retries=0).models.list()
            except (APIConnectionError, APIStatusError):
                time.sleep(1)
            else:
                log.info("the vLLM server is ready after %.0f s", time.monotonic() - began)
                return

    def _refuse_another_model(self) -> None:
        served = [each.id for each in self._told(self._client.models.list)]
        if self._model not in served:
            raise InputError(
                f"the server at {self._url}",
                found=f"it serves {', '.join(served)}",
                wanted=self._model,
                remedy="Set served to one of its names, or weights to its model.",
            )

    def _vllm(self) -> Vllm:
        """What the server can do, as it describes itself; one that does not is held for a vLLM 0.32, and is probed."""
        if self._child:
            return vllm_reading.installed()
        root = self._url.rstrip("/").removesuffix("/v1")
        try:
            version = self._told(lambda: self._client.get(f"{root}/version", cast_to=object))["version"]
            schemas = self._told(lambda: self._client.get(f"{root}/openapi.json", cast_to=object))["components"]["schemas"]
            # how it was started is not told; the answers show it
            return Vllm(version, frozenset(schemas["CompletionRequest"]["properties"]), frozenset({"logprobs_mode"}))
        except (InputError, KeyError, TypeError):
            return Vllm("that does not describe itself", frozenset({"logprob_token_ids"}), frozenset())

    def _ask(self, prompts: list[list[int]], sampling: Mapping[str, Any]) -> list[Mapping[int, float]]:
        # `logprobs` has them written into the answer, whichever they are
        body = {"logprobs": 1, **sampling, "return_tokens_as_token_ids": True}

        def one(ids: list[int]) -> Mapping[int, float]:
            answer = self._told(
                lambda: self._client.completions.create(
                    model=self._model, prompt=ids, max_tokens=1, temperature=0, extra_body=body
                )
            )
            try:
                return {
                    int(token.removeprefix(TOKEN)): value for token, value in answer.choices[0].logprobs.top_logprobs[0].items()
                }
            except (AttributeError, IndexError, TypeError, ValueError):
                raise self._refused("an answer without tokens' log-probabilities") from None

        with ThreadPoolExecutor(self.spec.concurrent) as threads:
            return list(threads.map(one, prompts))

    def _told(self, call: Callable[[], Any]) -> Any:
        """What a call of the client gives; its errors told as ours."""
        import openai

        try:
            return call()
        except (openai.APIConnectionError, openai.RateLimitError, openai.InternalServerError) as error:
            if self._child and self._child.process.poll() is not None:
                raise self._child.died() from None
            raise EngineDied(f"the server at {self._url} does not answer, asked {TRIES} times: {error}") from None
        except openai.APIStatusError as error:
            raise self._refused(str(error)) from None

    def _refused(self, found: str) -> InputError:
        return InputError(
            f"the server at {self._url}",
            found=found,
            wanted="a vLLM server's answer",
            remedy="Check url (it ends in /v1), weights and max_tokens, and read the server's log.",
        )
