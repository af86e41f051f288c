"""The process that holds a vLLM engine: `python -m pipeline.models.vllm_worker ARGUMENTS`, spoken to by `vllm_engine`.

stdin and stdout carry one JSON object a line; what libraries print is sent to stderr before they are imported.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any


def serve(arguments: dict[str, Any]) -> None:
    """Load, say so, then answer requests until stdin ends."""
    began = time.monotonic()
    threading.Thread(target=die_with, args=[os.getppid()], daemon=True).start()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # the engine shares this process, so that killing it leaves nothing behind
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")

    import vllm

    engine = vllm.LLM(**arguments)
    print(json.dumps({"version": vllm.__version__, "seconds": time.monotonic() - began}), file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        answer = ask(engine, request["prompts"], request["options"])
        print(json.dumps({"logprobs": answer}), file=out, flush=True)


def die_with(parent: int) -> None:
    """End this process once its parent is gone, even in the middle of a request."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def ask(engine: Any, prompts: list[list[int]], options: list[int]) -> list[list[float]]:
    """The log-probability of each option's token as the next one, for prompts given as token ids.

    `logprob_token_ids` (vLLM 0.32) returns exactly the tokens asked for; a token that is not returned is an error, never
    a made-up number.
    """
    from vllm import SamplingParams

    once = SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=options, detokenize=False)
    outputs = engine.generate([{"prompt_token_ids": ids} for ids in prompts], once, use_tqdm=False)
    rows = []
    for output in outputs:
        found = output.outputs[0].logprobs[0]
        if missing := [token for token in options if token not in found]:
            raise RuntimeError(f"vLLM returned no log-probability for the tokens {missing}")
        rows.append([found[token].logprob for token in options])
    return rows


if __name__ == "__main__":
    serve(json.loads(sys.argv[1]))
