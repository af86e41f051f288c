"""What a user of `eedi train encoder` can get wrong: exit code 2, one clear message, nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import polars as pl
import pytest

from pipeline.config import Config, load
from pipeline.errors import InputError
from pipeline.sample import opened

pytest.importorskip("torch", reason="the models' packages are not installed")

pytestmark = pytest.mark.usefixtures("own_cache")

Eedi = Callable[..., CompletedProcess[str]]


def told(message: str) -> list[str]:
    """The last four lines, if they are the four parts of an error."""
    lines = message.splitlines()[-4:]
    assert [line.strip().partition(":")[0] for line in lines[1:]] == ["found", "wanted", "remedy"], message
    assert all(line.partition(":")[2].strip() for line in lines[1:])
    return lines


COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "a fold that is no number": ("--data kaggle --fold x", ("--fold", "x", "a fold's number, or all")),
    "data without labels": ("--data untrained", ("no train.csv with labels", "--data")),
    "weights that are nowhere": (
        "--data kaggle retrieve.dense.weights=nobody/nothing",
        ("nobody/nothing", "Correct the reference"),
    ),
}


@pytest.mark.parametrize(("command", "parts"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_that_cannot_be_carried_out_ends_with_code_2(
    eedi: Eedi, kaggle: Path, command: str, parts: tuple[str, ...]
) -> None:
    here = kaggle.parent
    (here / "untrained").mkdir()
    for name in ("test.csv", "misconception_mapping.csv"):
        (here / "untrained" / name).write_bytes((kaggle / name).read_bytes())
    before = set(here.rglob("*"))
    done = eedi("train", "encoder", "--out", "new", *command.split(" "))
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("error: ") == 1 and "Traceback" not in done.stderr
    message = "\n".join(told(done.stderr))
    assert [part for part in parts if part not in message] == [], done.stderr
    assert set(here.rglob("*")) == before


SETTINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "a stage that is no bi-encoder": ("train.encoder.stage=lexical", ("train.encoder.stage=lexical", "kind tfidf", "dense")),
    "a stage that there is not": ("train.encoder.stage=sense", ("train.encoder.stage=sense", "no such retriever", "dense")),
    "weights without weights": ("retrieve.dense.weights=hashed", ("train.encoder.stage=dense", "weights hashed")),
    "an unknown recipe": ("train.encoder.kind=magic", ("train.encoder", "contrastive", "seed")),
    "frozen layers in a seed recipe": ("train.encoder={kind: seed, frozen: 2}", ("train.encoder.frozen=2",)),
    "a written file that is not there": ("train.encoder.written=[none.csv]", ("none.csv", "No such file")),
    "a written label that the catalogue lacks": (
        "train.encoder.written=[written.csv]",
        ("written.csv, row 1, column MisconceptionDId", "'99999'", "an id that the catalogue holds"),
    ),
    "fewer questions than folds": ("fit.folds=20", ("texts", "20 folds", "fit.folds")),
}


@pytest.mark.parametrize(("override", "parts"), SETTINGS.values(), ids=SETTINGS)
def test_settings_that_cannot_be_trained_with_are_refused_before_any_weights_are_loaded(
    override: str, parts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.train.encoder import train

    monkeypatch.chdir(tmp_path)
    written = (Path(__file__).parent / "golden" / "written.csv").read_text(encoding="utf-8")
    (tmp_path / "written.csv").write_text(written.replace(",3,4,5", ",3,4,99999"), encoding="utf-8")
    with pytest.raises(InputError) as raised:
        config = load(None, ["sample.train=12", "retrieve.dense.weights=nowhere", override])
        train(opened(config, None), config, 0, tmp_path / "out")
    message = "\n".join(told(f"error: {raised.value}"))
    assert [part for part in parts if part not in message] == [], message
    assert [path.name for path in tmp_path.iterdir()] == ["written.csv"]


def settings(weights: Path, encoder: dict[str, Any]) -> Config:
    spec = {"kind": "dense", "weights": str(weights), "dtype": "float32"}
    base = {"retrieve": {"dense": spec}, "neighbours": None, "sample": {"train": 12, "test": 2}, "fit": {"folds": 2}}
    return Config.model_validate({**base, "train": {"encoder": {"kind": "contrastive", **encoder}}})


def refused(config: Config, out: Path) -> str:
    from pipeline.train.encoder import train

    with pytest.raises(InputError) as raised:
        train(opened(config, None), config, None, out)
    return "\n".join(told(f"error: {raised.value}"))


@pytest.mark.parametrize("lora", [{}, None], ids=["lora", "all weights"])
@pytest.mark.parametrize("frozen", [4, 30])
def test_frozen_layers_that_leave_none_to_learn_are_refused(
    frozen: int, lora: dict[str, Any] | None, tiny_qwen: Path, tmp_path: Path
) -> None:
    assert f"train.encoder.frozen={frozen}" in refused(settings(tiny_qwen, {"frozen": frozen, "lora": lora}), tmp_path / "out")


@pytest.mark.parametrize("lora", [{}, None], ids=["lora", "all weights"])
def test_frozen_layers_of_an_encoder_are_refused(lora: dict[str, Any] | None, tiny_bert: Path, tmp_path: Path) -> None:
    message = refused(settings(tiny_bert, {"frozen": 1, "lora": lora}), tmp_path / "out")
    assert "train.encoder.frozen=1" in message and "BertModel" in message


@pytest.mark.parametrize("what", ["none", "text", "submission"])
def test_a_mined_run_that_is_none_is_refused(what: str, tiny_qwen: Path, tmp_path: Path) -> None:
    file = tmp_path / f"{what}.parquet"
    if what == "text":
        file.write_text("a file", encoding="utf-8")
    if what == "submission":
        pl.DataFrame({"QuestionId_Answer": ["1_A"], "MisconceptionId": ["1 2"]}).write_parquet(file)
    message = refused(settings(tiny_qwen, {"frozen": 0, "mined": str(file)}), tmp_path / "out")
    assert str(file) in message and "train.encoder.mined" in message


@pytest.mark.parametrize("kind", ["seed", "seed-mended"])
def test_a_seed_recipe_on_an_encoder_is_refused(kind: str, tiny_bert: Path, tmp_path: Path) -> None:
    message = refused(settings(tiny_bert, {"kind": kind}), tmp_path / "out")
    assert "BertModel" in message and "contrastive" in message


def test_after_a_refusal_nothing_is_left_and_the_corrected_command_trains_into_the_same_folder(
    tiny_qwen: Path, tmp_path: Path
) -> None:
    from pipeline.train.encoder import train

    refused(settings(tiny_qwen, {"frozen": 4}), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    corrected = settings(tiny_qwen, {"frozen": 3})
    train(opened(corrected, None), corrected, None, tmp_path / "out")
    assert (tmp_path / "out" / "adapter_model.safetensors").is_file()
