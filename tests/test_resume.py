"""A training that was killed goes on from its last whole checkpoint, and a training of each fold from its last whole fold."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import polars as pl
import pytest
import yaml

from pipeline.config import Config, load
from pipeline.errors import InputError
from pipeline.metrics import evaluate
from pipeline.runs import run
from pipeline.sample import opened
from pipeline.train.rows import training_rows

pytest.importorskip("torch", reason="the models' packages are not installed")

Eedi = Callable[..., CompletedProcess[str]]

# by names, against the batch: nothing is remembered besides the weights, so a resumed training can be compared bit by bit
ADAPTER = {"kind": "contrastive", "negatives": "batch", "hard": 0, "frozen": 2, "learning_rate": 3e-3}
SEED = {"kind": "seed", "learning_rate": 1e-3}
JUDGE = {"frozen": 2, "negatives": 2, "learning_rate": 3e-3}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EEDI_CACHE", str(tmp_path / "cache"))


def settings(folder: Path, weights: Path, recipe: dict[str, Any], model: str = "encoder", **more: Any) -> Path:
    """A config file for a checkpoint a step."""
    spec = {"weights": str(weights), "template": "short", "dtype": "float32", "adapter": None, "examples": []}
    judge = {"kind": "pointwise", "weights": str(weights), "dtype": "float32", "depth": 3}
    training = {"batch": 4, "epochs": 5, "checkpoint_minutes": 1e-9, **more, **recipe}
    told = {"name": "tiny", "retrieve": {"dense": spec}, "sample": {"train": 24, "test": 4}, "fit": {"folds": 2}}
    told["rerank"] = {"judge": judge}
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump({**told, "train": {model: training}}), encoding="utf-8")
    return file


def whole(work: Path) -> list[Path]:
    """The checkpoints that were written to their end, by their steps."""
    found = {}
    for state in work.glob("checkpoint-*/trainer_state.json"):
        with suppress(OSError, ValueError):  # it is being written, or removed
            found[json.loads(state.read_text(encoding="utf-8"))["global_step"]] = state.parent
    return [found[step] for step in sorted(found)]


def killed(here: Path, *arguments: str, model: str = "encoder") -> Path:
    """The hidden folder of a training that was killed after some steps, when it had two whole checkpoints."""
    work = here / ".out.training"
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", "train", model, "--out", "out", *arguments],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        # the first step's learning rate is 0: what is restored must have learnt something
        while process.poll() is None and not (len(made := whole(work)) >= 2 and made[-2].name != "checkpoint-1"):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"
    assert not (here / "out").exists()
    return work


@pytest.mark.parametrize(
    ("model", "recipe"), [("encoder", ADAPTER), ("encoder", SEED), ("judge", JUDGE)], ids=["adapter", "seed", "judge"]
)
def test_a_killed_training_goes_on_to_the_very_weights_of_one_that_was_not_killed(
    model: str, recipe: dict[str, Any], eedi: Eedi, tiny_judge: Path, tmp_path: Path
) -> None:
    arguments = ("--config", str(settings(tmp_path, tiny_judge, recipe, model)), "--fold", "0")
    checkpoints = whole(killed(tmp_path, *arguments, model=model))
    for checkpoint in checkpoints:  # that its state is written last is why it says that the rest is whole
        times = {file: file.stat().st_mtime_ns for file in checkpoint.rglob("*") if file.is_file()}
        assert max(times.values()) == times[checkpoint / "trainer_state.json"]
    (checkpoints[-1] / "trainer_state.json").write_text('{"global_step": ', encoding="utf-8")
    resumed = eedi("train", model, "--out", "out", *arguments)
    assert resumed.returncode == 0, resumed.stderr
    assert f"{checkpoints[-1].name} was cut off: removed" in resumed.stderr
    assert f"{checkpoints[-2].name}\n" in resumed.stderr.partition("going on from ")[2]
    plain = eedi("train", model, "--out", "plain", *arguments)
    assert plain.returncode == 0 and "going on from" not in plain.stderr, plain.stderr
    for name in ("model.safetensors", "adapter_model.safetensors", "run.parquet"):
        both = [tmp_path / folder / name for folder in ("out", "plain")]
        assert [file.exists() for file in both] in ([True, True], [False, False])
        assert not both[0].exists() or both[0].read_bytes() == both[1].read_bytes(), name
    assert not (tmp_path / ".out.training").exists()


def test_what_was_begun_with_other_settings_or_rows_is_not_gone_on_with(eedi: Eedi, tiny_qwen: Path, tmp_path: Path) -> None:
    from pipeline.train.encoder import train

    file = settings(tmp_path, tiny_qwen, ADAPTER)
    work = killed(tmp_path, "--config", str(file), "--fold", "0")
    left = {path: path.stat().st_mtime_ns for path in work.rglob("*")}
    for fold, overrides in ((1, []), (None, []), (0, ["train.encoder.learning_rate=0.1"]), (0, ["sample.seed=1"])):
        other = load(file, overrides)
        with pytest.raises(InputError, match=r"(?s)\.out\.training\n.*remedy: .*choose another --out, or remove the folder"):
            train(opened(other, None), other, fold, tmp_path / "out")
    done = eedi("train", "encoder", "--config", str(file), "--out", "out")
    assert done.returncode == 2 and "error: " in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*")} == left and not (tmp_path / "out").exists()


def checkpoint(work: Path, step: int, state: str | None) -> Path:
    folder = work / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    if state is not None:
        (folder / "trainer_state.json").write_text(state, encoding="utf-8")
    return folder


def test_the_last_whole_checkpoint_is_the_one_of_the_most_steps(tmp_path: Path) -> None:
    from pipeline.train.loop import last_whole

    folders = {step: checkpoint(tmp_path, step, json.dumps({"global_step": step})) for step in (9, 100, 20)}
    assert last_whole(tmp_path) == str(folders[100])
    assert all(folder.is_dir() for folder in folders.values())


@pytest.mark.parametrize("state", [None, "", '{"global_step": 20', '{"epoch": 1.0}'], ids=["none", "empty", "half", "no step"])
def test_a_checkpoint_that_was_cut_off_is_removed(state: str | None, tmp_path: Path) -> None:
    from pipeline.train.loop import last_whole

    kept = checkpoint(tmp_path, 10, json.dumps({"global_step": 10}))
    cut = checkpoint(tmp_path, 20, state)
    assert last_whole(tmp_path) == str(kept)
    assert not cut.exists() and kept.is_dir()


def test_where_no_checkpoint_is_whole_there_is_none_to_go_on_from(tmp_path: Path) -> None:
    from pipeline.train.loop import last_whole

    assert last_whole(tmp_path / "nothing") is None
    checkpoint(tmp_path, 10, None)
    (tmp_path / "asked.json").write_text("{}", encoding="utf-8")
    assert last_whole(tmp_path) is None
    assert (tmp_path / "asked.json").is_file()


def config(tmp_path: Path, tiny_qwen: Path) -> Config:
    return load(settings(tmp_path, tiny_qwen, ADAPTER, epochs=1, checkpoint_minutes=5))


def test_each_fold_is_held_out_in_turn_and_a_fold_that_is_there_is_not_trained_again(
    eedi: Eedi, tiny_qwen: Path, tmp_path: Path
) -> None:
    from pipeline.train.encoder import train

    spec, out = config(tmp_path, tiny_qwen), tmp_path / "out"
    competition = opened(spec, None)
    train(competition, spec, 0, out / "fold0")
    first = {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in (out / "fold0").iterdir()}
    command = ("train", "encoder", "--config", str(tmp_path / "tiny.yaml"), "--out", "out", "--fold", "all")
    done = eedi(*command)
    assert done.returncode == 0, done.stderr
    assert {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in (out / "fold0").iterdir()} == first
    assert {path.name for path in out.iterdir()} == {"fold0", "fold1", "run.parquet"}

    ranking = pl.read_parquet(out / "run.parquet")
    assert ranking.equals(run(pl.concat(pl.read_parquet(out / f"fold{fold}" / "run.parquet") for fold in range(2))))
    assert competition.train_qrels is not None
    assert set(ranking["query_id"]) == set(competition.train_qrels["query_id"])
    rows = [training_rows(competition, spec.fit, fold) for fold in range(2)]
    scores = evaluate(ranking, pl.concat(each.qrels for each in rows), pl.concat(each.seen for each in rows))
    for row in scores.iter_rows(named=True):
        assert f"{row['map@25']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in done.stdout

    again = eedi(*command)
    assert again.returncode == 2 and "it exists" in again.stderr


def test_a_fold_of_another_training_is_not_taken_for_this_one_s(tiny_qwen: Path, tmp_path: Path) -> None:
    from pipeline.train.each_fold import each_fold
    from pipeline.train.encoder import train

    spec, out = config(tmp_path, tiny_qwen), tmp_path / "out"
    competition = opened(spec, None)
    train(competition, spec, 0, out / "fold0")
    other = load(tmp_path / "tiny.yaml", ["train.encoder.learning_rate=0.1"])
    with pytest.raises(InputError, match=r"(?s)fold0.*remedy: .*--out"):
        each_fold(train, competition, other, out)
    assert {path.name for path in out.iterdir()} == {"fold0"}
