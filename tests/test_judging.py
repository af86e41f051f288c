"""Judges side by side: the scores are of the same answers, and the tokens counted are those that were computed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from threading import Thread
from typing import Any

import pytest
from vllm_stand_in import StandIn, arithmetic

from pipeline.config import load
from pipeline.errors import InputError
from pipeline.judging import Comparison, judged
from pipeline.sample import opened
from pipeline.store import Store

pytest.importorskip("torch", reason="the models' packages are not installed")
pytest.importorskip("openai", reason="the models' packages are not installed")

HASHED = Path(__file__).parent.parent / "configs" / "hashed.yaml"
SMALL = ["sample.train=40", "sample.test=2", "rerank.judge=null", "fit.folds=2"]
WAYS = {
    "letters": "kind: listwise, depth: 5",
    "turned": "kind: listwise, depth: 5, orders: 2",
    "yes_no": "kind: pointwise, depth: 3",
}


@pytest.fixture
def compared(tiny_judge: Path, tmp_path: Path) -> Callable[..., tuple[Comparison, dict[str, dict[str, Any]]]]:
    """The comparison, and the costs by judge, of ways to ask a tiny model of so many questions of fold 0."""

    def compare(*ways: str, naive: int = 0, engine: str = "transformers", own: str = "dtype: float32, chunk: 4") -> Any:
        asked = [f"rerank.{way}={{{WAYS[way]}, engine: {engine}, weights: {tiny_judge}, {own}}}" for way in ways]
        config = load(HASHED, [*SMALL, *asked])
        made = judged(opened(config, None), config, 0, 3, naive, Store(tmp_path))
        return made, {row["judge"]: row for row in made.costs}

    return compare


def test_stage_one_and_every_judge_are_scored_on_the_same_answers(compared: Callable[..., Any]) -> None:
    made, costs = compared("letters", "yes_no")
    whole = {row["stage"]: row for row in made.scores if row["subset"] == "all"}
    assert list(whole) == ["lexical", "dense", "fusion of retrievers", "letters", "yes_no"]
    (number,) = {row["queries"] for row in whole.values()}
    assert {row["subset"] for row in made.scores} == {"all", "seen", "unseen"}
    assert [row["prompts"] for row in costs.values()] == [number, 3 * number]
    gains = {name: whole[name]["map@25"] - whole["fusion of retrievers"]["map@25"] for name in ("letters", "yes_no")}
    assert {row["judge"]: row["difference"] for row in made.gains} == pytest.approx(gains)


def test_tokens_are_counted_as_sent_as_computed_and_as_they_would_be_with_every_beginning_once(
    compared: Callable[..., Any],
) -> None:
    _, costs = compared("letters", "turned")
    once, twice = costs["letters"], costs["turned"]
    assert once["computed"] > once["sent"] > once["least"]  # the padding is computed, a question's answers share its text
    assert twice["sent"] == 2 * once["sent"] and once["least"] < twice["least"] < 2 * once["least"]
    assert all(row["of least"] == pytest.approx(row["computed"] / row["least"]) for row in costs.values())


def test_a_judge_is_shown_examples_and_its_own_words_as_in_a_run(
    compared: Callable[..., Any], examples_file: Callable[..., Path]
) -> None:
    """Each candidate has one example of 24 words, and every prompt the same words of the judge, the naive way's too."""
    examples = examples_file(*opened(load(HASHED, SMALL), None).catalog["label_id"], text="so " * 24)
    own = "dtype: float32, chunk: 4, "
    bare = compared("yes_no")[1]["yes_no"]
    shown = compared("yes_no", own=f"{own}shots: 1, examples: [{examples}]")[1]["yes_no"]
    assert shown["sent"] >= bare["sent"] + 24 * bare["prompts"]
    costs = compared("yes_no", own=f"{own}reasoning: 4", naive=2)[1]
    assert costs["yes_no"]["sent"] > bare["sent"] and costs["yes_no"]["apart"] < 1e-3


def test_the_naive_way_answers_the_same_one_prompt_at_a_time(compared: Callable[..., Any]) -> None:
    _, costs = compared("yes_no", naive=2)
    ours, naive = costs["yes_no"], costs["yes_no, naive"]
    assert list(ours) == list(naive)
    assert naive["prompts"] == 2 * 3 and naive["computed"] == naive["sent"] < ours["sent"]
    assert ours["apart"] < 1e-3
    assert ours["times naive"] == pytest.approx(ours["answers/s"] / naive["answers/s"])


def test_an_engine_that_does_not_tell_what_it_computes_is_not_guessed_at(
    compared: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with StandIn(arithmetic, "tiny") as server:
        Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        row = compared("letters", own=f"url: '{server.url}', served: tiny", engine="server")[1]["letters"]
        server.shutdown()
    assert row["computed"] is row["of least"] is None and row["sent"] > row["least"]


def test_a_config_without_a_model_to_measure_is_refused(tmp_path: Path) -> None:
    config = load(HASHED)
    with pytest.raises(InputError, match="no judge that holds a model"):
        judged(opened(config, None), config, 0, 3, 0, Store(tmp_path))


def test_the_command_prints_what_they_gain_and_what_they_cost(
    eedi: Callable[..., CompletedProcess[str]], tiny_judge: Path
) -> None:
    letters = f"rerank.letters={{{WAYS['letters']}, engine: transformers, weights: {tiny_judge}}}"
    done = eedi("rerank", "--config", HASHED, "--fold", 0, "--questions", 2, "--naive", 1, *SMALL, letters)
    assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines() if "letters" in line]
    assert [row[0] for row in rows] == ["letters", "letters", "letters", "letters,"]
    assert rows[-1][-1] == "–"
