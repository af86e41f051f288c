"""The push, by Kaggle's own client against a server of ours: what is asked, in which order, and what comes of a refusal."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from kaggle_stand_in import StandIn

from pipeline import bundle as bundles
from pipeline.config import Config, Dense, Tfidf
from pipeline.errors import InputError
from pipeline.kernel import push as pushing
from pipeline.kernel.account import Account, NewAccount
from pipeline.kernel.build import build
from pipeline.kernel.push import push
from pipeline.kernel.settings import Settings
from pipeline.kernel.uploads import read
from pipeline.kernel.wheels import draw_up
from pipeline.schema import LABEL_STATS

pytest.importorskip("kaggle", reason="Kaggle's client is not installed")

BASE, SOURCE = "Some/Qwen-Tiny", "some-lab/qwen/transformers/tiny/2"
DATASET, KERNEL, MODEL, VARIATION = "me/eedi-bundle", "me/eedi-kernel", "me/eedi-adapters", "me/eedi-adapters/dense"


def made(here: Path, version: int = 1) -> Path:
    """The kernel of a bundle with an adapter, which holds no weights."""
    (here / "adapter").mkdir(exist_ok=True)
    (here / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": BASE}), encoding="utf-8")
    (here / "adapter" / "adapter_model.safetensors").write_bytes(b"weights")
    config = Config(
        retrieve={"lexical": Tfidf(), "dense": Dense(weights=BASE, adapter=str(here / "adapter"))}, rerank={}, blend=None
    )
    bundles.save(bundles.Bundle(config, None, pl.DataFrame(schema=LABEL_STATS.columns), None, [], []), here / "bundle")
    adapters = {"slug": "eedi-adapters", "title": "Eedi adapters", "version": version}
    build(
        here / "bundle",
        Settings.model_validate({"owner": "me", "weights": {BASE: SOURCE}, "adapters": adapters}),
        here / "kernel",
    )
    return here / "kernel"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("fresh"))


@pytest.fixture
def built(fresh: Path, tmp_path: Path) -> Path:
    """A copy, to push: its output lies beside it."""
    return Path(shutil.copytree(fresh, tmp_path / "kernel"))


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def account(server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Account:
    """Kaggle's client, logged in by a key, whose addresses are the server's."""
    from kaggle.api.kaggle_api_extended import KaggleApi
    from kagglesdk import kaggle_env

    monkeypatch.setattr(KaggleApi, "args", ["--verbose"])
    monkeypatch.setenv("KAGGLE_USERNAME", "Me")
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where it remembers its uploads
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, server.url)
    return Account()


def pushed(account: Account, folder: Path, **more: Any) -> Path | None:
    return push(account, read(folder), user=account.user, every=0, **more)


def test_everything_is_uploaded_before_the_notebook_is_run_and_its_output_is_fetched_and_submitted(
    account: Account, server: StandIn, built: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    server.processing = 3
    with caplog.at_level(logging.DEBUG):
        output = pushed(account, built, message="the first", notes="fitted today")
    assert output == built / "output" / "1"
    assert (output / "submission.csv").read_bytes() == server.output["submission.csv"]
    changes = [method for method, _ in server.asked if method.startswith(("Create", "Save"))]
    assert changes == ["CreateDataset", "CreateModel", "CreateModelInstance", "SaveKernel", "CreateCodeSubmission"]
    assert sorted(server.files[DATASET]) == sorted(
        path.name for path in (built / "dataset").iterdir() if path.name != "dataset-metadata.json"
    )
    assert sorted(server.files[VARIATION]) == ["adapter_config.json", "adapter_model.safetensors"]
    sent = dict(server.asked)
    assert sent["SaveKernel"]["enableInternet"] is False and sent["CreateDataset"]["isPrivate"] is True
    submitted = sent["CreateCodeSubmission"]
    assert (submitted["kernelVersion"], submitted["fileName"]) == (1, "submission.csv")
    assert submitted["submissionDescription"] == "the first"
    said = capfd.readouterr()
    assert "stage: judge" in said.err and said.out == ""
    assert "Successfully submitted" in caplog.text
    assert len(server.authorizations) == 1 and "Authorization" not in said.err + caplog.text


def test_what_is_there_already_gets_a_version(account: Account, server: StandIn, built: Path, tmp_path: Path) -> None:
    pushed(account, built)
    with pytest.raises(InputError, match=r"(?s)takes\n  found:  1, where Kaggle has 1\n  wanted: 2\n.*--skip-existing"):
        pushed(account, built)
    pushed(account, built, skip_existing=True)
    assert server.stale == 0
    assert server.versions == {DATASET: 2, MODEL: 1, VARIATION: 1, KERNEL: 2}
    assert not any(method == "CreateCodeSubmission" for method, _ in server.asked)
    (second := tmp_path / "second").mkdir()
    pushed(account, made(second, version=2), notes="more steps")
    assert server.versions == {DATASET: 3, MODEL: 1, VARIATION: 2, KERNEL: 3}
    assert dict(server.asked)["CreateModelInstanceVersion"]["body"]["versionNotes"] == "more steps"


@pytest.mark.parametrize("reference", [DATASET, MODEL, KERNEL])
def test_a_slug_that_something_else_has_is_refused_before_anything_is_uploaded(
    account: Account, server: StandIn, built: Path, reference: str
) -> None:
    server.titles[reference], server.versions[reference] = "Something else", 1
    with pytest.raises(InputError, match=f"{reference} on Kaggle\n  found:  the title 'Something else'"):
        pushed(account, built)
    assert not any(method.startswith(("Create", "Save", "Start")) for method, _ in server.asked)


REFUSALS: dict[str, tuple[str, Any, str]] = {
    "a title in use": (
        "CreateDataset",
        {"status": "error", "error": "The requested title is already in use"},
        "already in use",
    ),
    "a dataset without consent": ("CreateDataset", {"status": "error"}, "Kaggle, dataset_create_new\n  found:  no reason"),
    "a model": ("CreateModel", {"error": "The slug is taken"}, "Kaggle, model_create_new\n  found:  The slug is taken"),
    "a variation": ("CreateModelInstance", {"id": 0}, "Kaggle, model_instance_create\n  found:  no reason"),
    "a kernel": ("SaveKernel", {"error": "Maximum batch GPU session count reached"}, "found:  Maximum batch GPU"),
    "a model that is not attached": (
        "SaveKernel",
        {"versionNumber": 1, "invalidModelSources": [SOURCE]},
        f"{KERNEL}, model_sources\n  found:  {SOURCE}, without which",
    ),
    "rules that were not accepted": (
        "SaveKernel",
        {"versionNumber": 1, "invalidCompetitionSources": ["eedi"]},
        f"{KERNEL}, competition_sources\n  found:  eedi, without which",
    ),
    "a submission too many": ("CreateCodeSubmission", 400, "Kaggle, competition_submit_code\n  found:  400 Client Error"),
    "a forbidden submission": ("CreateCodeSubmission", 403, "Kaggle, competition_submit_code\n  found:  403 Client Error"),
    "a key that is out of date": ("GetDatasetMetadata", 401, "Kaggle, dataset_metadata\n  found:  401 Client Error"),
}


@pytest.mark.parametrize(("method", "answer", "told"), REFUSALS.values(), ids=REFUSALS)
def test_what_kaggle_refuses_ends_the_push_with_its_reason(
    account: Account, server: StandIn, built: Path, method: str, answer: Any, told: str
) -> None:
    server.answers[method] = lambda _: answer
    with pytest.raises(InputError) as refused:
        pushed(account, built, message="the first")
    assert told in str(refused.value)
    assert server.asked[-1][0] == method


def test_a_dataset_that_kaggle_cannot_process_ends_the_push(account: Account, server: StandIn, built: Path) -> None:
    server.answers["GetDatasetStatus"] = lambda _: server.known(DATASET, {"status": "FAILED"})
    with pytest.raises(InputError, match=f"{DATASET}\n  found:  failed"):
        pushed(account, built)


def test_a_file_whose_upload_failed_ends_the_push(account: Account, server: StandIn, built: Path) -> None:
    server.lost = {"config.yaml"}
    # the client's 2.2.5 raises what earlier ones only print
    with pytest.raises(InputError, match=r"found:  (no|Upload unsuccessful:) config\.yaml"):
        pushed(account, built)


def test_a_file_that_kaggle_did_not_keep_is_missed(account: Account, server: StandIn, built: Path) -> None:
    server.answers["ListDatasetFiles"] = lambda _: {
        "datasetFiles": [{"name": name} for name in server.files[DATASET] if name != "config.yaml"]
    }
    with pytest.raises(InputError, match=r"dataset, on Kaggle\n  found:  no config\.yaml"):
        pushed(account, built)


@pytest.mark.parametrize(
    ("sessions", "output", "told"),
    [
        (["RUNNING", "ERROR"], ["submission.csv"], "found:  error: Notebook Timeout"),
        (["RUNNING", "CANCEL_ACKNOWLEDGED"], [], "found:  cancel_acknowledged: Kaggle says no more"),
        (["COMPLETE"], ["run.log"], "found:  no submission.csv"),
    ],
)
def test_a_notebook_that_fails_is_not_submitted_and_its_output_is_kept(
    account: Account, server: StandIn, built: Path, sessions: list[str], output: list[str], told: str
) -> None:
    server.sessions, server.output = sessions, dict.fromkeys(output, b"text")
    with pytest.raises(InputError) as refused:
        pushed(account, built, message="the first")
    assert told in str(refused.value) and f"See its log in {built / 'output' / '1'}" in str(refused.value)
    assert {path.name for path in (built / "output" / "1").iterdir()} == {*output, "eedi-kernel.log"}
    assert "CreateCodeSubmission" not in dict(server.asked)


def test_an_upload_that_is_never_processed_is_not_waited_for_without_end(
    account: Account, server: StandIn, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pushing, "PROCESSING", 0)
    server.processing = 10**6
    with pytest.raises(InputError, match=f"{DATASET}\n  found:  not processed after 0 s"):
        pushed(account, built)


def test_what_is_another_accounts_or_enters_no_competition_is_not_sent(
    account: Account, server: StandIn, built: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="owner\n  found:  me\n  wanted: you"):
        push(account, read(built), user="you")
    draw_up(Settings(owner="me"), Path("kaggle_kernel/wheels.txt").absolute(), tmp_path / "wheels")
    with pytest.raises(InputError, match="--submit"):
        pushed(account, tmp_path / "wheels", message="the first")
    assert not server.asked
    server.output = {"wheels.txt": b"vllm==0.19.1"}
    assert pushed(account, tmp_path / "wheels") == tmp_path / "wheels" / "output" / "1"
    assert dict(server.asked)["SaveKernel"]["enableInternet"] is True


BY_HAND: dict[str, tuple[Callable[[Path], object], str]] = {
    "metadata edited by hand": (
        lambda folder: (folder / "kernel" / "kernel-metadata.json").write_text("{}", encoding="utf-8"),
        "kernel/kernel-metadata.json\n  found:  id: Field required",
    ),
    "no adapters": (lambda folder: shutil.rmtree(folder / "adapters"), "dataset/config.yaml, retrieve.dense.adapter"),
    "nothing": (lambda folder: [shutil.rmtree(each) for each in folder.iterdir()], "found:  nothing to upload"),
}


@pytest.mark.parametrize(("broken", "told"), BY_HAND.values(), ids=BY_HAND)
def test_what_the_check_finds_is_told_before_anybody_is_asked(built: Path, broken: Callable[[Path], object], told: str) -> None:
    broken(built)
    with pytest.raises(InputError) as refused:
        read(built)
    assert told in str(refused.value)


def test_a_dry_run_says_the_calls_of_a_first_push_and_writes_nothing(account: Account, server: StandIn, built: Path) -> None:
    real: list[str] = []
    said: list[str] = []

    def listening(method: str, **arguments: Any) -> Any:
        real.append(method)
        return account(method, **arguments)

    before = sorted(built.rglob("*"))
    push(NewAccount(said.append, {}), read(built), message="the first", every=0)
    assert sorted(built.rglob("*")) == before and not server.asked
    assert f"kaggle.dataset_create_new(folder='{built / 'dataset'}', quiet=True)" in said
    push(listening, read(built), message="the first", every=0)
    names = [line.removeprefix("kaggle.").partition("(")[0] for line in said]
    assert list(dict.fromkeys(names)) == list(dict.fromkeys(real))  # a real one looks more than once


def test_a_dry_run_of_a_later_version_shows_that_versions_upload(tmp_path: Path) -> None:
    said: list[str] = []
    uploads = read(made(tmp_path, version=3))
    push(NewAccount(said.append, uploads.earlier), uploads, every=0)
    assert any(line.startswith("kaggle.model_instance_version_create(") for line in said)
    with pytest.raises(InputError, match="found:  3, where Kaggle has none\n  wanted: 1"):
        push(NewAccount(said.append, {}), uploads, every=0)


def test_the_verb_needs_no_account_to_say_and_one_to_do(built: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KAGGLE_")}
    environment |= {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "pipeline", "kernel", "push", str(built)]
    done = subprocess.run([*command, "--dry-run"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "kaggle.kernels_push(folder=" in done.stdout, done.stderr
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: Kaggle's credentials\n  found:  none that are valid\n")
