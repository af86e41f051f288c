"""The process that holds a vLLM engine: spoken to by `vllm_engine`, it knows nothing of judges.

stdin and stdout carry one JSON object a line; what libraries print is sent to stderr before they are imported.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any


def serve(arguments: dict[str, Any], adapter: str | None) -> None:
    """Load, say so, then answer requests until stdin ends."""
    began = time.monotonic()
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the engine in this process: one less to feed

    import vllm
    from vllm.lora.request import LoRARequest

    engine = vllm.LLM(**arguments)
    laid_on = LoRARequest("judge", 1, adapter) if adapter else None
    print(json.dumps({"seconds": time.monotonic() - began}), file=out, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        computed = 0
        answers: list[Any]
        if "tokens" in request:
            answers = write(engine, request["prompts"], request["tokens"])
        else:
            answers, computed = ask(engine, request["prompts"], request["sampling"], laid_on)
        print(json.dumps({"answers": answers, "computed": computed}), file=out, flush=True)


def ask(engine: Any, prompts: list[list[int]], sampling: dict[str, Any], adapter: Any) -> tuple[list[dict[int, float]], int]:
    """The next token's log-probabilities behind each prompt, as many as `sampling` has returned; and how many of the prompts'
    tokens were not found in the prefix cache."""
    from vllm import SamplingParams

    once = SamplingParams(max_tokens=1, temperature=0.0, detokenize=False, **sampling)
    outputs = engine.generate([{"prompt_token_ids": ids} for ids in prompts], once, lora_request=adapter, use_tqdm=False)
    answers = [{token: one.logprob for token, one in output.outputs[0].logprobs[0].items()} for output in outputs]
    return answers, sum(len(output.prompt_token_ids) - (output.num_cached_tokens or 0) for output in outputs)


def write(engine: Any, prompts: list[list[int]], tokens: int) -> list[str]:
    """The likeliest text behind each prompt, by the weights alone."""
    from vllm import SamplingParams

    greedy = SamplingParams(max_tokens=tokens, temperature=0.0)
    outputs = engine.generate([{"prompt_token_ids": ids} for ids in prompts], greedy, use_tqdm=False)
    return [output.outputs[0].text for output in outputs]


if __name__ == "__main__":
    serve(**json.loads(sys.argv[1]))
