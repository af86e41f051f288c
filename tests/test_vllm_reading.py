"""How a vLLM is asked and read: by what it can do, with every answer held to what was asked."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import InputError
from pipeline.models.vllm_reading import TOP, WAYS, Reading, Vllm, Way, fields, installed, reading

OPTIONS = [33, 34, 35]
RAW = {33: -1.0, 34: -2.0, 35: -4.0, 7: -0.9, 8: -3.0}  # a whole vocabulary's
MASKED = dict(zip(OPTIONS, np.array([-1.0, -2.0, -4.0]) - np.logaddexp.reduce([-1.0, -2.0, -4.0]), strict=True))

# what the signatures of some versions had
NEW = Vllm("0.32.0", frozenset({"logprobs", "allowed_token_ids", "logprob_token_ids"}), frozenset({"model", "logprobs_mode"}))
KAGGLE = Vllm("0.19.1", frozenset({"logprobs", "allowed_token_ids"}), frozenset({"model", "logprobs_mode"}))
OLD = Vllm("0.8.5", frozenset({"logprobs", "allowed_token_ids"}), frozenset({"model"}))


@pytest.mark.parametrize(
    ("vllm", "request_", "arguments"),
    [
        (NEW, {"logprob_token_ids": OPTIONS}, {}),
        (
            KAGGLE,
            {"allowed_token_ids": OPTIONS, "logprobs": 3},
            {"logprobs_mode": "processed_logprobs", "max_logprobs": 26},
        ),
        (OLD, {"logprobs": TOP}, {"max_logprobs": TOP}),
    ],
    ids=lambda value: value.version if isinstance(value, Vllm) else "",
)
def test_a_version_is_asked_in_the_best_way_that_its_signatures_allow(
    vllm: Vllm, request_: dict[str, object], arguments: dict[str, object]
) -> None:
    how = reading(vllm)
    assert (how.request(OPTIONS), how.arguments()) == (request_, arguments)


def test_the_version_s_number_says_nothing() -> None:
    assert reading(Vllm("0.1", NEW.sampling, NEW.engine)).way == "exact"


@pytest.mark.parametrize(("way", "found"), [("exact", {k: RAW[k] for k in (7, *OPTIONS)}), ("masked", MASKED), ("top", RAW)])
def test_all_ways_say_the_same_odds(way: Way, found: dict[int, float]) -> None:
    row = Reading(way, "1").row(found, OPTIONS)
    np.testing.assert_allclose(row, list(MASKED.values()), atol=1e-6)
    np.testing.assert_array_equal(Reading(way, "1").row(found, OPTIONS[::-1]), row[::-1])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("value", [None, -math.inf, -9999.0, math.nan], ids=str)
def test_an_option_without_a_number_is_an_error_that_names_it(way: Way, value: float | None) -> None:
    found = {token: one for token, one in MASKED.items() if token != 34} | ({} if value is None else {34: value})
    with pytest.raises(InputError, match=r"vLLM 0\.17\.1[^$]*\[34\]"):
        Reading(way, "0.17.1").row(found, OPTIONS)


def test_tokens_outside_the_mask_are_an_error_that_names_them_and_the_remedy() -> None:
    with pytest.raises(InputError, match=r"outside the mask: \[7\][^$]*logprobs_mode=processed_logprobs"):
        Reading("masked", "1").row(MASKED | {7: -0.9}, OPTIONS)
    Reading("masked", "1").row(MASKED | {7: -math.inf}, OPTIONS)  # filled up with what the mask took out


def test_numbers_from_before_the_mask_are_an_error() -> None:
    with pytest.raises(InputError, match="as if there were no mask"):
        Reading("masked", "1").row({token: RAW[token] for token in OPTIONS}, OPTIONS)


@pytest.mark.parametrize("way", WAYS)
def test_logits_are_an_error(way: Way) -> None:
    with pytest.raises(InputError, match="no log-probabilities"):
        Reading(way, "1").row({33: 14.0, 34: 13.0, 35: 2.0}, OPTIONS)


def test_fields_are_read_off_a_source_that_is_not_run(tmp_path: Path) -> None:
    source = "raise SystemExit\nclass Other:\n    b: int\nclass Wanted(Other):\n    a: int = 0\n    def f(self): c: int\n"
    (tmp_path / "source.py").write_text(source, encoding="utf-8")
    assert fields(tmp_path / "source.py", "Wanted") == {"a"}
    for file, name in (("source.py", "Missing"), ("missing.py", "Wanted")):
        with pytest.raises(InputError, match=f"no class {name}"):
            fields(tmp_path / file, name)


def test_the_installed_version_can_return_exactly_the_tokens_asked_for() -> None:
    if find_spec("vllm") is None:
        pytest.skip("vLLM is not installed")
    assert reading(installed()).way == "exact"


def test_the_version_in_a_folder_of_the_engines_own_is_the_one_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file, source in {
        "vllm/__init__.py": "raise SystemExit",
        "vllm/sampling_params.py": "class SamplingParams:\n    allowed_token_ids: list",
        "vllm/engine/arg_utils.py": "class EngineArgs:\n    logprobs_mode: str",
        "vllm-0.19.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: vllm\nVersion: 0.19.1\n",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(source, encoding="utf-8")
    monkeypatch.setenv("EEDI_ENGINE_PATH", str(tmp_path))
    assert installed.__wrapped__() == Vllm("0.19.1", frozenset({"allowed_token_ids"}), frozenset({"logprobs_mode"}))
