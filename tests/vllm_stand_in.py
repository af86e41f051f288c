"""A stand-in for vLLM's server (not for our client): its addresses, its answers' layout, its ways to fail.

What a token's log-probability is, a function of the prompt's token ids says. Run as a module it takes vLLM's own flags.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Model = Callable[[Sequence[int]], Sequence[float]]


class StandIn(ThreadingHTTPServer):
    """The server. `faults` are met by one request each; an int is a status, a float the seconds that it hangs."""

    daemon_threads = True

    def __init__(self, model: Model, name: str, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.model, self.name = model, name
        self.sampling = {"logprobs", "allowed_token_ids", "logprob_token_ids"}
        self.processed = False  # the log-probabilities are taken behind the mask
        self.describes = True
        self.faults: list[int | float] = []
        self.change: Callable[[dict[int, float]], dict[int, float]] = dict  # what a broken engine makes of its answer
        self.lock, self.running, self.most, self.asked = threading.Lock(), 0, 0, 0

    @property
    def url(self) -> str:
        """As a client is told it."""
        return f"http://127.0.0.1:{self.server_port}/v1"

    def logprobs(self, body: dict[str, Any]) -> dict[int, float]:
        """The sampled token and those that the request has returned."""
        raw = dict(enumerate(self.model(body["prompt"])))
        allowed = body.get("allowed_token_ids") if "allowed_token_ids" in self.sampling else None
        after = {token: raw[token] if allowed is None or token in allowed else -math.inf for token in raw}
        sampled = max(after, key=lambda token: after[token])
        if self.processed:
            total = math.log(sum(map(math.exp, after.values())))
            raw = {token: value - total for token, value in after.items()}
        wanted = body.get("logprob_token_ids") if "logprob_token_ids" in self.sampling else None
        if wanted is None:
            wanted = sorted(raw, key=lambda token: -raw[token])[: body["logprobs"]]
        return self.change({token: max(raw[token], -9999.0) for token in (sampled, *wanted)})


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: StandIn

    def do_GET(self) -> None:
        schema = {"CompletionRequest": {"properties": {name: {} for name in self.server.sampling}}}
        answers: dict[str, Any] = {"/v1/models": {"object": "list", "data": [{"id": self.server.name, "object": "model"}]}}
        if self.server.describes:
            answers |= {"/version": {"version": "0.19.1"}, "/openapi.json": {"components": {"schemas": schema}}}
        self.answer(200, answers[self.path]) if self.path in answers else self.answer(404, {"detail": "Not Found"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            fault = self.server.faults.pop(0) if self.server.faults else None
            self.server.asked += 1
            self.server.running += 1
            self.server.most = max(self.server.most, self.server.running)
        if isinstance(fault, float):
            time.sleep(fault)
        status, content = self.outcome(body, fault)
        with self.server.lock:  # before the answer is sent: it may bring the next request
            self.server.running -= 1
        self.answer(status, content)

    def outcome(self, body: dict[str, Any], fault: int | float | None) -> tuple[int, dict[str, Any]]:
        """What a request is answered with: a fault, the wrong model's refusal or a completion."""
        if isinstance(fault, int):
            return fault, {"error": {"message": f"fault {fault}", "code": fault}}
        if body["model"] != self.server.name:
            return 404, {"error": {"message": f"The model `{body['model']}` does not exist.", "code": 404}}
        return 200, self.completion(body)

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        """As vLLM writes one."""
        found = {f"token_id:{token}": value for token, value in self.server.logprobs(body).items()}
        told = {"text_offset": [0], "token_logprobs": [0.0], "tokens": list(found)[:1], "top_logprobs": [found]}
        choice = {"index": 0, "text": "", "logprobs": told, "finish_reason": "length"}
        return {"id": "cmpl", "object": "text_completion", "created": 0, "model": body["model"], "choices": [choice]}

    def answer(self, status: int, content: dict[str, Any]) -> None:
        """Send JSON; a client that is told to wait is told to wait a millisecond."""
        written = json.dumps(content).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(written)))
            self.send_header("Retry-After-Ms", "1")
            self.end_headers()
            self.wfile.write(written)
        except ConnectionError:
            pass  # it went away while we hung

    def log_message(self, *_: object) -> None:
        """Nothing."""


def arithmetic(ids: Sequence[int], vocabulary: int = 257) -> list[float]:
    """A language model of a kind: log-probabilities that depend on the whole prompt."""
    dice = random.Random(str(list(ids)))
    logits = [dice.gauss(0, 3) for _ in range(vocabulary)]
    total = math.log(sum(map(math.exp, logits)))
    return [logit - total for logit in logits]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--served-model-name")
    StandIn(arithmetic, parser.parse_known_args()[0].served_model_name, parser.parse_known_args()[0].port).serve_forever()
