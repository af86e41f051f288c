"""What a config would cost: shapes against published sizes, and what is refused, with what would help."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from pipeline import plan
from pipeline.config import Config, Sample, load
from pipeline.errors import InputError
from pipeline.models.shape import shape
from pipeline.sample import opened

CONFIGS = Path(__file__).parent.parent / "configs"
T4X2, L4X4, H100 = plan.MACHINES
FOUR_CORES = plan.Machine("four cores", 1, 30 * plan.GIB, {"float32": 0.4e12}, 0.5, gpu=False)


def refused(config: Config, machine: plan.Machine, questions: int = 685, hours: float = 9) -> str:
    """Why, or nothing."""
    small = config.model_copy(update={"sample": Sample(train=20, test=5)})
    read = plan.readings(config, opened(small, None), questions)
    return str(plan.estimate(config, read, machine, hours)[1] or "")


@pytest.mark.parametrize(
    ("size", "billions"), [("0.5", 0.494), ("1.5", 1.54), ("3", 3.09), ("7", 7.62), ("14", 14.8), ("32", 32.8), ("72", 72.7)]
)
def test_published_shapes_have_as_many_weights_as_their_cards_say(size: str, billions: float) -> None:
    for name in (f"Qwen/Qwen2.5-Math-{size}B-Instruct", f"qwen-lm/qwen2.5/transformers/{size}b-instruct/1"):
        assert shape(name).weights(2, head=True) / 2e9 == pytest.approx(billions, rel=0.01)


def test_the_small_encoder_is_known_without_its_files() -> None:
    published = pytest.approx(22.7, rel=0.02)
    for name in ("elsewhere/all-MiniLM-L6-v2", "somebody/all-minilm-l6-v2/transformers/default/1"):
        assert shape(name).weights(4, head=True) / 4e6 == published and not shape(name).gated


def test_weights_of_four_bits_are_as_large_as_they_are_published() -> None:
    published = pytest.approx(19.3e9, rel=0.02)
    assert shape("Qwen/Qwen2.5-32B-Instruct-AWQ").weights(2, head=True) == published
    assert shape("Qwen/Qwen2.5-32B-Instruct", {"quantization": "awq_marlin"}).weights(2, head=True) == published


MINILM = {"num_hidden_layers": 6, "hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 12, "vocab_size": 30522}
SMOLLM = MINILM | {
    "num_hidden_layers": 30,
    "hidden_size": 576,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
}


@pytest.mark.parametrize(
    ("told", "millions", "bits"),
    [
        (MINILM, 22.7, None),
        (SMOLLM | {"tie_word_embeddings": True}, 134.5, None),
        (SMOLLM | {"tie_word_embeddings": False}, 134.5 + 28.3, None),
        (SMOLLM | {"quantization_config": {"bits": 4}}, 134.5, 4),
        (SMOLLM | {"quantization_config": {"load_in_4bit": True}}, 134.5, 4),
    ],
)
def test_a_config_json_that_is_here_is_read_for_its_shape(
    told: dict[str, Any], millions: float, bits: int | None, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(told), encoding="utf-8")
    found = shape(str(tmp_path))
    assert replace(found, bits=None).weights(4, head=True) / 4e6 == pytest.approx(millions, rel=0.02)
    assert found.bits == bits


def test_a_config_json_that_lacks_a_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 64}), encoding="utf-8")
    with pytest.raises(InputError, match="KeyError 'num_attention_heads'"):
        shape(str(tmp_path))


def test_weights_of_which_nothing_is_known_are_refused() -> None:
    with pytest.raises(InputError, match=r"weights 'some/model'\n  found:  not on this machine"):
        shape("some/model")


def test_beginnings_that_texts_share_are_counted_once() -> None:
    texts = ["abcdefg", "abcdefh", "xyz"]
    assert plan.Reading.of(texts, shares=True, times=2).computed == 2 * (7 + 1 + 3) / plan.CHARACTERS
    assert plan.Reading.of(texts, shares=False).computed == plan.Reading.of(texts, shares=True).tokens == 17 / plan.CHARACTERS


def test_a_judge_without_prefix_caching_reads_every_prompt_whole() -> None:
    competition = opened(Config(sample=Sample(train=20, test=5)), None)
    read = {
        engine: plan.readings(load(None, [f"rerank.judge.engine={engine}"]), competition, 100)["judge"]
        for engine in ("vllm", "auto", "transformers")
    }
    assert read["vllm"] == read["auto"]
    assert read["vllm"].tokens == read["transformers"].tokens == read["transformers"].computed > read["vllm"].computed
    assert read["vllm"].texts == 300 * Config().rerank["judge"].depth


def test_a_larger_test_is_read_longer_and_the_catalogue_once() -> None:
    competition = opened(Config(sample=Sample(train=20, test=5)), None)
    one, two, three = (plan.readings(Config(), competition, n)["dense"].texts for n in (100, 200, 300))
    assert (two - one, three - two, one - 300) == (300, 300, competition.catalog.height)


@pytest.mark.parametrize(
    ("config", "machine", "hours"),
    [("kaggle_t4x2", T4X2, 9), ("kaggle_t4x2", L4X4, 9), ("kaggle_cpu", FOUR_CORES, 0.5), ("kaggle_cpu", T4X2, 9)],
    ids=str,
)
def test_the_shipped_configs_fit_where_they_are_meant_to_run(config: str, machine: plan.Machine, hours: float) -> None:
    assert refused(load(CONFIGS / f"{config}.yaml"), machine, hours=hours) == ""


JUDGE_16 = "rerank.judge={weights: Qwen/Qwen2.5-32B-Instruct, engine_args: {quantization: null}}"


@pytest.mark.parametrize(
    ("config", "override", "machine", "told"),
    [
        ("kaggle_t4x2", JUDGE_16, T4X2, ("judge on T4x2", "weights 30.5 GiB", "13.2 GiB", "4 bits (-AWQ), or smaller")),
        ("kaggle_t4x2", "retrieve.dense.spread=false", T4X2, ("dense on T4x2", "14.7 GiB", "spread=true for 2 devices")),
        ("kaggle_t4x2", "retrieve.dense.batch_tokens=100000", T4X2, ("dense on T4x2", "Lower batch_tokens")),
        ("kaggle_t4x2", "rerank.judge.max_tokens=32768", T4X2, ("judge on T4x2", "values 4.0 GiB", "Lower max_tokens")),
        ("kaggle_t4x2", "rerank.judge.engine_args.tensor_parallel_size=1", T4X2, ("raise tensor_parallel_size to 2",)),
        ("kaggle_t4x2", "fit.seed=1", H100, ("judge on H100", "tensor_parallel_size=2", "1 at most")),
        ("kaggle_t4x2", "retrieve.dense.dtype=bfloat16", T4X2, ("dense on T4x2", "bfloat16", "float16, float32", "dtype=auto")),
        ("kaggle_t4x2", "rerank.judge.orders=40", T4X2, ("all stages on T4x2", "for judge", "its depth or its orders")),
        ("kaggle_cpu", "rerank.judge.weights=Qwen/Qwen2.5-7B", FOUR_CORES, ("all stages on four cores", "30.0 GiB at most")),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_to_lower(
    config: str, override: str, machine: plan.Machine, told: tuple[str, ...]
) -> None:
    fault = refused(load(CONFIGS / f"{config}.yaml", [override]), machine)
    assert all(each in fault for each in told), fault


def test_a_processor_holds_all_models_at_once_and_a_gpu_one_at_a_time() -> None:
    config = load(None, ["retrieve.dense.weights=Qwen/Qwen2.5-3B", "rerank.judge.weights=Qwen/Qwen2.5-3B"])
    gpu = replace(T4X2, memory=12 * plan.GIB)
    assert refused(config, gpu, questions=1) == ""
    assert "all stages on T4x2" in refused(config, replace(gpu, gpu=False), questions=1)


Eedi = Callable[..., CompletedProcess[str]]


def test_doctor_prints_the_plan_and_ends_with_2_where_it_cannot_fit(eedi: Eedi) -> None:
    settings = CONFIGS / "kaggle_t4x2.yaml"
    arguments = ("doctor", "--plan", "--on", "T4x2", "--config", settings, "sample.train=20", "sample.test=5")
    told = eedi(*arguments)
    assert told.returncode == 0 and "T4x2: fits" in told.stdout and "judge" in told.stdout, told.stderr
    told = eedi(*arguments, JUDGE_16)
    assert told.returncode == 2 and "refused: judge on T4x2" in told.stdout
    told = eedi("doctor", "--plan", "--on", "TPU")
    assert told.returncode == 2 and "--on\n  found:  TPU\n  wanted: one of T4x2, L4x4, H100, here" in told.stderr
