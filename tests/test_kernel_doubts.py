"""What Kaggle would run with less than was meant: told, and no fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from tiny_kernel import BASE as JUDGE
from tiny_kernel import SETTINGS as TINY
from tiny_kernel import kernel

from pipeline.kernel.check import check, doubts


@pytest.mark.parametrize(
    ("judge", "wheelhouse", "doubted"),
    [
        ({"engine": "vllm"}, None, True),
        ({"engine": "ray"}, None, True),
        ({"engine": "server"}, None, True),
        ({"engine": "server", "url": "http://host/v1"}, None, False),
        ({"engine": "transformers"}, None, False),
        ({"engine": "vllm"}, "me/eedi-wheels", False),
        ({"engine": "vllm"}, "notebooks/me/eedi-wheels", False),
    ],
)
def test_a_judge_by_vllm_without_a_wheelhouse_is_doubted_and_no_fault(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, judge: dict[str, str], wheelhouse: str | None, doubted: bool
) -> None:
    built = kernel(tmp_path, {**judge, "weights": JUDGE}, settings=TINY.model_copy(update={"wheelhouse": wheelhouse}))
    assert not any(check(built.folder).values())
    told = [str(doubt) for found in doubts(built.folder).values() for doubt in found]
    assert ["null, so that Kaggle runs the notebook without judge" in each for each in told] == [True] * doubted
    assert caplog.messages == told


@pytest.mark.parametrize("accelerator", ["NvidiaTeslaT4", None])
def test_a_judge_whose_engine_the_machine_chooses_is_doubted_where_that_is_vllm(
    tmp_path: Path, accelerator: str | None
) -> None:
    built = kernel(tmp_path, {"weights": JUDGE}, settings=TINY.model_copy(update={"accelerator": accelerator}))
    assert any(doubts(built.folder).values()) == (accelerator is not None)


def test_the_verb_tells_a_doubt_and_ends_well(eedi: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    told = eedi("kernel", "check", kernel(tmp_path, {"engine": "vllm", "weights": JUDGE}).folder)
    assert told.returncode == 0 and "DOUBT  a judge by vLLM has its packages\n" in told.stdout, told.stderr
    assert "warning: kernel.yaml, wheelhouse\n" in told.stdout and "error" not in told.stdout
