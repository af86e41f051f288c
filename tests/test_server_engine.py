"""The client of a vLLM server, against a real HTTP server that answers from a real tiny model."""

from __future__ import annotations

import math
import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vllm_stand_in import StandIn, arithmetic

from pipeline.config import Listwise, load
from pipeline.doctor import examine
from pipeline.errors import EngineDied, InputError
from pipeline.models import server_engine
from pipeline.models.server_engine import ServerJudge
from pipeline.models.transformers_engine import TransformersJudge

torch = pytest.importorskip("torch", reason="the models' packages are not installed")
pytest.importorskip("openai", reason="the models' packages are not installed")

PROMPTS = [f"{'Some words. ' * (i % 4)}Which of A, B and C stands at place {i}?" for i in range(12)]
LETTERS = ("A", "B", "C")


@pytest.fixture(scope="module")
def reference(tiny_chat: Path) -> TransformersJudge:
    return TransformersJudge(tiny_chat, Listwise(weights=str(tiny_chat), dtype="float32"))


@pytest.fixture
def server(reference: TransformersJudge, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def model(ids: Sequence[int]) -> list[float]:
        with torch.inference_mode():
            found: list[float] = reference.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1).tolist()
        return found

    with StandIn(model, "tiny") as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def judge(server: StandIn, tiny_chat: Path) -> Callable[..., ServerJudge]:
    def make(**settings: Any) -> ServerJudge:
        own = {"url": server.url, "served": "tiny"}
        return ServerJudge(tiny_chat, Listwise(engine="server", weights=str(tiny_chat), **own | settings))

    return make


def agree(judge: ServerJudge, reference: TransformersJudge) -> None:
    np.testing.assert_allclose(judge.logprobs(PROMPTS, LETTERS), reference.logprobs(PROMPTS, LETTERS), atol=1e-4)


def test_it_says_what_the_reference_says_prompt_by_prompt(
    judge: Callable[..., ServerJudge], reference: TransformersJudge
) -> None:
    agree(judge(), reference)


def test_a_server_of_an_older_version_is_asked_by_a_mask(
    server: StandIn, judge: Callable[..., ServerJudge], reference: TransformersJudge
) -> None:
    server.sampling -= {"logprob_token_ids"}
    server.processed = True
    agree(judge(), reference)


def test_an_older_server_that_ignores_the_mask_is_refused_with_the_remedy(
    server: StandIn, judge: Callable[..., ServerJudge]
) -> None:
    server.sampling -= {"logprob_token_ids"}
    with pytest.raises(InputError, match=r"vLLM 0\.19\.1[^$]*logprobs_mode=processed_logprobs"):
        judge().logprobs(PROMPTS, LETTERS)


def test_a_server_that_does_not_describe_itself_is_held_for_a_new_one(
    server: StandIn, judge: Callable[..., ServerJudge], reference: TransformersJudge
) -> None:
    server.describes = False
    agree(judge(), reference)
    server.sampling -= {"logprob_token_ids"}
    with pytest.raises(InputError, match="no log-probability for the option tokens"):
        judge().logprobs(PROMPTS, LETTERS)


def dice() -> Callable[[dict[int, float]], dict[int, float]]:
    thrown = random.Random(0)
    return lambda found: {token: -2 - 3 * thrown.random() for token in found}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (dice(), "as it says by itself"),
        (lambda found: {token: -2 - token / 50 for token in found}, "whatever it is asked"),
        (lambda found: {token: -2.0 for token in found}, "whatever it is asked"),
    ],
    ids=["thrown", "the token's", "always the same"],
)
def test_numbers_that_are_made_up_are_found_out_before_anything_is_asked(
    change: Callable[[dict[int, float]], dict[int, float]], why: str, server: StandIn, judge: Callable[..., ServerJudge]
) -> None:
    server.change = change
    with pytest.raises(InputError, match=why):
        judge()


def test_an_option_that_does_not_come_back_is_an_error_that_names_it(
    server: StandIn, judge: Callable[..., ServerJudge]
) -> None:
    started = judge()
    (token,) = started.chat.option_ids(["B"])
    server.change = lambda found: {each: value for each, value in found.items() if each != token}
    with pytest.raises(InputError, match=rf"option tokens \[{token}\]"):
        started.logprobs(PROMPTS, LETTERS)


@pytest.mark.parametrize("status", [503, 429, 500])
def test_a_request_that_fails_twice_is_asked_a_third_time(
    status: int, server: StandIn, judge: Callable[..., ServerJudge], reference: TransformersJudge
) -> None:
    started = judge()
    server.faults, server.asked = [status, status], 0
    agree(started, reference)
    assert server.asked == len(PROMPTS) + 2


def test_a_server_that_goes_on_failing_is_given_up(
    server: StandIn, judge: Callable[..., ServerJudge], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_engine, "TRIES", 3)
    started = judge()
    server.faults, server.asked = [503] * 100, 0
    with pytest.raises(EngineDied, match=r"asked 3 times: .*fault 503"):
        started.logprobs(PROMPTS[:1], LETTERS)
    assert server.asked == 3


def test_a_server_that_hangs_is_given_up(
    server: StandIn, judge: Callable[..., ServerJudge], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_engine, "TRIES", 2)
    started = judge(timeout=2)
    server.faults = [60.0] * 100
    with pytest.raises(EngineDied, match="timed out"):
        started.logprobs(PROMPTS[:1], LETTERS)


def test_one_hanging_answer_is_asked_for_again(
    server: StandIn, judge: Callable[..., ServerJudge], reference: TransformersJudge
) -> None:
    started = judge(timeout=2)
    server.faults, server.asked = [60.0], 0
    agree(started, reference)
    assert server.asked > len(PROMPTS)


def test_no_server_is_an_engine_that_died(tiny_chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_engine, "TRIES", 1)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(EngineDied, match=r"127\.0\.0\.1:9/v1 does not answer"):
        ServerJudge(tiny_chat, Listwise(engine="server", weights=str(tiny_chat), url="http://127.0.0.1:9/v1"))


def test_a_model_that_the_server_does_not_serve_is_told_with_those_that_it_does(judge: Callable[..., ServerJudge]) -> None:
    with pytest.raises(InputError, match=r"it serves tiny\n  wanted: large"):
        judge(served="large")


@pytest.mark.parametrize("status", [400, 401, 404])
def test_a_refusal_is_not_asked_again_and_told_in_the_server_s_words(
    status: int, server: StandIn, judge: Callable[..., ServerJudge]
) -> None:
    started = judge()
    server.faults, server.asked = [status] * 100, 0
    with pytest.raises(InputError, match=f"fault {status}"):
        started.logprobs(PROMPTS[:1], LETTERS)
    assert server.asked == 1


def test_an_address_that_is_not_the_api_s_is_told(judge: Callable[..., ServerJudge], server: StandIn) -> None:
    with pytest.raises(InputError, match="ends in /v1"):
        judge(url=server.url.removesuffix("/v1"))


@pytest.mark.parametrize("concurrent", [1, 3])
def test_no_more_requests_are_under_way_than_allowed(
    concurrent: int, server: StandIn, judge: Callable[..., ServerJudge]
) -> None:
    started = judge(concurrent=concurrent)
    server.faults = [0.2] * len(PROMPTS)
    started.logprobs(PROMPTS, LETTERS)
    assert server.most == concurrent


needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")


@pytest.fixture
def stand_in_for_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """What we start in a process is the stand-in, with an arithmetic model."""
    tests = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tests), str(tests.parent))))
    monkeypatch.setattr(server_engine, "MODULE", "vllm_stand_in")


@needs_vllm
@pytest.mark.usefixtures("stand_in_for_vllm")
def test_a_server_of_our_own_is_started_asked_and_stopped(tiny_chat: Path) -> None:
    started = ServerJudge(tiny_chat, Listwise(engine="server", weights=str(tiny_chat)))
    assert started._child
    found = started.logprobs(PROMPTS, LETTERS)
    tokens = started.chat.option_ids(LETTERS)
    wanted = np.array([[arithmetic(started.chat.encode(prompt))[token] for token in tokens] for prompt in PROMPTS])
    np.testing.assert_allclose(found, wanted - np.logaddexp.reduce(wanted, axis=1, keepdims=True), atol=1e-4)
    started.close()
    assert started._child.process.returncode is not None


@needs_vllm
@pytest.mark.usefixtures("stand_in_for_vllm")
def test_a_server_of_our_own_that_is_killed_is_an_engine_that_died(tiny_chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_engine, "TRIES", 2)
    started = ServerJudge(tiny_chat, Listwise(engine="server", weights=str(tiny_chat)))
    assert started._child
    started._child.process.kill()
    with pytest.raises(EngineDied, match="ended with code -9"):
        started.logprobs(PROMPTS, LETTERS)
    started.close()


ANOTHER = """
import os, pathlib, sys
from vllm_stand_in import StandIn, arithmetic
pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))
StandIn(arithmetic, "another", int(sys.argv[sys.argv.index("--port") + 1])).serve_forever()
"""


@needs_vllm
@pytest.mark.usefixtures("stand_in_for_vllm")
def test_a_server_of_our_own_that_is_refused_does_not_stay_behind(
    tiny_chat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "another_model.py").write_text(ANOTHER, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(server_engine, "MODULE", "another_model")
    with pytest.raises(InputError, match="it serves another"):
        ServerJudge(tiny_chat, Listwise(engine="server", weights=str(tiny_chat)))
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


@needs_vllm
def test_a_server_of_our_own_that_does_not_come_up_says_why(tiny_chat: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_engine, "MODULE", "a_module_that_is_not_there")
    with pytest.raises(EngineDied, match="No module named a_module_that_is_not_there"):
        ServerJudge(tiny_chat, Listwise(engine="server", weights=str(tiny_chat)))


def test_only_the_engine_of_servers_has_a_server_s_settings() -> None:
    for settings in (
        {"engine": "vllm", "url": "http://host/v1"},
        {"engine": "server", "served": "name"},
        {"engine": "server", "url": "http://host/v1", "adapter": "folder"},
        {"engine": "server", "url": "http://host/v1", "engine_args": {"seed": 1}},
        {"engine": "server", "url": "host:8000"},
    ):
        with pytest.raises(ValueError, match="validation error"):
            Listwise.model_validate(settings)
    assert math.isclose(Listwise(engine="server", url="http://host/v1", served="name").timeout, 120)


def test_doctor_says_which_server_would_be_asked() -> None:
    config = load(overrides=["rerank.judge={engine: server, url: 'http://host:8000/v1', adapter: null}"])
    assert "http://host:8000/v1" in dict(examine(config, None)["the stages"])["judge"]
