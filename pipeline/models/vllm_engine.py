"""vLLM in a process of its own: it can be killed, its memory is free when it ends, and no CUDA is touched in this one.

The child speaks JSON lines: a hello when the model is loaded, then an answer a request. Whatever vLLM prints goes to a log
file, whose end is shown when the engine dies.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import Judge as Spec
from pipeline.errors import EngineDied
from pipeline.models.device import dtype_of
from pipeline.models.judge import Chat

log = logging.getLogger(__name__)


class VllmJudge:
    """A vLLM engine behind a pipe."""

    def __init__(self, folder: Path, spec: Spec) -> None:
        if importlib.util.find_spec("vllm") is None:
            raise ModuleNotFoundError("No module named 'vllm'", name="vllm")
        self.chat = Chat(folder, spec.max_tokens)
        arguments = {
            "model": str(folder),
            "dtype": dtype_of(spec.dtype),
            "max_model_len": spec.max_tokens,
            "enable_prefix_caching": True,
            "enforce_eager": True,  # one token a prompt: a graph's compilation is never earned back
            "trust_remote_code": False,
            "load_format": "safetensors",
            **spec.engine_args,
        }
        self._log = tempfile.NamedTemporaryFile("w+", prefix="eedi-vllm-", suffix=".log")  # noqa: SIM115 (lives as long as the engine)
        log.info("starting vLLM in its own process")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.models.vllm_worker", json.dumps(arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )
        hello = self._read()
        log.info("vLLM %s is ready after %.0f s", hello["version"], hello["seconds"])

    def logprobs(self, prompts: Sequence[str], options: Sequence[str]) -> np.ndarray:
        """See `Judge`. Raises `EngineDied` when the process does not answer."""
        assert self._process.stdin
        request = {"prompts": [self.chat.encode(prompt) for prompt in prompts], "options": self.chat.option_ids(options)}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._dead() from None
        return np.array(self._read()["logprobs"], dtype=np.float32).reshape(len(prompts), len(options))

    def close(self) -> None:
        """End the process; it gets ten seconds to do so by itself."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _read(self) -> Mapping[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise self._dead()
        answer: Mapping[str, Any] = json.loads(line)
        return answer

    def _dead(self) -> EngineDied:
        code = self._process.wait()
        self._log.seek(0)
        tail = "".join(self._log.readlines()[-30:])
        return EngineDied(f"vLLM's process ended with code {code}; the end of its log:\n{tail}")
