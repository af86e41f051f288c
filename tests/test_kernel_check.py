"""The lint of a kernel: a fresh build passes every rule, and each fault is found by one rule alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nbformat
import polars as pl
import pytest
from broken_kernel import (
    ADAPTER,
    BASE,
    CONFIG,
    DATASET,
    KERNEL,
    MODEL,
    NOTEBOOK,
    SOURCE,
    Break,
    added,
    cell,
    key,
    line,
    many_cells,
    other_wheel,
    stage,
    text,
    wheel,
)
from tiny_kernel import kernel

from pipeline import bundle as bundles
from pipeline.config import Config, Dense, Tfidf
from pipeline.kernel import check as rules
from pipeline.kernel import wheels
from pipeline.kernel.build import build
from pipeline.kernel.check import READABLE, RULES, check
from pipeline.kernel.notebook import ENGINE
from pipeline.kernel.settings import Settings
from pipeline.schema import LABEL_STATS


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build that nobody has touched; its adapter holds no weights, since nothing here reads them."""
    here = tmp_path_factory.mktemp("fresh")
    (here / "adapter").mkdir()
    (here / "adapter" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": BASE}), encoding="utf-8")
    (here / "adapter" / "adapter_model.safetensors").touch()
    dense = Dense(weights=BASE, adapter=str(here / "adapter"))
    config = Config(retrieve={"lexical": Tfidf(), "dense": dense}, rerank={}, blend=None)
    bundles.save(bundles.Bundle(config, None, pl.DataFrame(schema=LABEL_STATS.columns), None, [], []), here / "bundle")
    build(here / "bundle", Settings(owner="me", weights={BASE: SOURCE}), here / "kernel")
    return here / "kernel"


@pytest.fixture
def built(fresh: Path, tmp_path: Path) -> Path:
    """A copy of it, to break."""
    return Path(shutil.copytree(fresh, tmp_path / "kernel"))


FAULTS: dict[str, tuple[str, Break, str]] = {
    "internet": ("the internet is off", key(KERNEL, "enable_internet", lambda _: True), f"{KERNEL}, enable_internet"),
    "a retired accelerator": (
        "the accelerator is one that Kaggle has",
        key(KERNEL, "machine_shape", lambda _: "NvidiaTeslaP100"),
        f"{KERNEL}, machine_shape\n  found:  NvidiaTeslaP100",
    ),
    "an accelerator without the switch": (
        "the accelerator is one that Kaggle has",
        key(KERNEL, "enable_gpu", lambda _: False),
        f"{KERNEL}, enable_gpu\n  found:  False with machine_shape NvidiaTeslaT4",
    ),
    "the kernel's title": (
        "slugs are those of the titles",
        key(KERNEL, "title", lambda _: "My other kernel"),
        "wanted: the slug 'my-other-kernel'",
    ),
    "the dataset's title": (
        "slugs are those of the titles",
        key(DATASET, "title", lambda _: "My other data"),
        f"{DATASET}, title",
    ),
    "the model's slug": ("slugs are those of the titles", key(MODEL, "slug", lambda _: "taken-by-another"), f"{MODEL}, title"),
    "a model without a version": (
        "models have versions",
        key(KERNEL, "model_sources", lambda sources: [*sources, "some-lab/qwen/transformers/small"]),
        f"{KERNEL}, model_sources\n  found:  some-lab/qwen/transformers/small",
    ),
    "a model that is not attached": (
        "what the kernel reads is attached",
        key(KERNEL, "model_sources", lambda sources: [each for each in sources if each != SOURCE]),
        f"no {SOURCE}\n  wanted: it, because {CONFIG}, retrieve.dense.weights names it",
    ),
    "a bundle that is not attached": (
        "what the kernel reads is attached",
        key(KERNEL, "dataset_sources", lambda _: ["me/other"]),
        "wanted: me/eedi-bundle as well",
    ),
    "a wheelhouse that is not attached": (
        "what the kernel reads is attached",
        cell(lambda last: last.update(source=ENGINE.strip())),
        f"{KERNEL}, kernel_sources\n  found:  no wheelhouse",
    ),
    "no competition": (
        "what the kernel reads is attached",
        key(KERNEL, "competition_sources", lambda _: []),
        f"{KERNEL}, competition_sources\n  found:  none",
    ),
    "examples that are not in the dataset": (
        "what the kernel reads is attached",
        stage("lexical", "examples", ["examples0.csv"]),
        f"{CONFIG}, retrieve.lexical.examples\n  found:  examples0.csv",
    ),
    "a hub's name in the config": (
        "weights come from Kaggle's models",
        lambda folder: (stage("dense", "weights", BASE)(folder), text(f"{ADAPTER}/adapter_config.json", SOURCE, BASE)(folder)),
        f"{CONFIG}, retrieve.dense.weights\n  found:  {BASE}",
    ),
    "notes": (
        "weights come from Kaggle's models",
        stage("dense", "notes", "notes.csv"),
        "retrieve.dense.notes\n  found:  notes.csv",
    ),
    "an adapter of other weights": (
        "adapters are uploaded and fit their weights",
        text(f"{ADAPTER}/adapter_config.json", SOURCE, BASE),
        f"{ADAPTER}\n  found:  an adapter of {BASE}",
    ),
    "an adapter without weights": (
        "adapters are uploaded and fit their weights",
        lambda folder: (folder / ADAPTER / "adapter_model.safetensors").unlink(),
        f"{ADAPTER}\n  found:  no adapter_model.safetensors",
    ),
    "an adapter without its config": (
        "adapters are uploaded and fit their weights",
        lambda folder: (folder / ADAPTER / "adapter_config.json").unlink(),
        "wanted: a PEFT adapter's config",
    ),
    "an adapter that is not uploaded": (
        "adapters are uploaded and fit their weights",
        lambda folder: shutil.rmtree(folder / ADAPTER),
        f"{CONFIG}, retrieve.dense.adapter",
    ),
    "outputs": (
        "the notebook has no outputs",
        cell(lambda last: last.outputs.append(nbformat.v4.new_output("stream", text="done"))),
        f"{NOTEBOOK}, cell 6",
    ),
    "a count of runs": (
        "the notebook has no outputs",
        cell(lambda last: last.update(execution_count=3)),
        f"{NOTEBOOK}, cell 6",
    ),
    "too many cells": ("its cells are few and say what they do", many_cells, "found:  10 cells"),
    "a cell that says nothing": (
        "its cells are few and say what they do",
        cell(lambda last: last.update(source="1 + 1")),
        "found:  1 + 1\n",
    ),
    **{
        f"{what} in the notebook": ("nothing on its path asks the network", line(source), f"cell 6\n  found:  {what}: ")
        for what, source in {
            "an address": 'URL = "https://example.org"',
            "a download": "import kagglehub",
            "a clone": '["git", "clone", WHERE]',
            "a tracker": "import wandb",
            "pip with an index": "!pip install polars",
            "a hub's name": "NAME = 'Qwen/Qwen2.5-0.5B'",
        }.items()
    },
    "a library that may ask its hub": (
        "nothing on its path asks the network",
        text(NOTEBOOK, "HF_HUB_OFFLINE", "HF_HUB_ONLINE"),
        "found:  HF_HUB_OFFLINE is not set",
    ),
    "a folder in the dataset": (
        "Kaggle takes the files' names",
        lambda folder: (folder / "dataset" / "vectors").mkdir(),
        "dataset/vectors\n  found:  a folder",
    ),
    "an archive": ("Kaggle takes the files' names", added("dataset/more.tar.gz"), "dataset/more.tar.gz\n  found:  an archive"),
    "a name with a sign": ("Kaggle takes the files' names", added(f"{ADAPTER}/a&b"), f"{ADAPTER}/a&b\n"),
    "a large notebook": (
        "Kaggle takes the uploads' sizes",
        line("#" * 10**6),
        "kernel\n  found:  1,00",
    ),
    "no wheel": (
        "the wheel is there and whole",
        lambda folder: wheel(folder).unlink(),
        "dataset/*.whl\n  found:  none",
    ),
    "two wheels": (
        "the wheel is there and whole",
        lambda folder: shutil.copy(wheel(folder), wheel(folder).with_name("eedi-9.9-py3-none-any.whl")),
        "dataset/*.whl\n  found:  eedi-",
    ),
    "a wheel for one machine": (
        "the wheel is there and whole",
        lambda folder: wheel(folder).rename(folder / "dataset" / "eedi-0.1.0-cp311-cp311-linux_x86_64.whl"),
        "linux_x86_64.whl\n  wanted: one, eedi-",
    ),
    "a wheel that was cut off": (
        "the wheel is there and whole",
        lambda folder: wheel(folder).write_bytes(wheel(folder).read_bytes()[:999]),
        ".whl\n  found:  File is not a zip file",
    ),
    "a wheel of something else": ("the wheel is there and whole", other_wheel, "found:  no pipeline/kernel/inputs.py"),
    "another test": (
        "the test is the competition's",
        text(CONFIG, "test: test.csv", "test: train.csv"),
        f"{CONFIG}, data\n",
    ),
}

CODE_FILE = f"{NOTEBOOK}, the metadata's code_file"
VARIATION = f"{ADAPTER}/model-instance-metadata.json"
UNREADABLE: dict[str, tuple[Break, str]] = {
    "internet not written out": (
        text(KERNEL, ' "enable_internet": false,\n', ""),
        f"{KERNEL}\n  found:  enable_internet: Field required",
    ),
    "internet as a text": (
        text(KERNEL, '"enable_internet": false', '"enable_internet": "false"'),
        "enable_internet: Input should be a valid boolean",
    ),
    "a key of one's own": (text(KERNEL, "{", '{"keywords": [],'), "keywords: Extra inputs are not permitted"),
    "a comma too many": (text(DATASET, "}", "},"), f"{DATASET}\n  found:  Invalid JSON"),
    "two licences": (key(DATASET, "licenses", lambda given: given * 2), "licenses: Tuple should have at most 1 item"),
    "a variation without metadata": (lambda folder: (folder / VARIATION).unlink(), VARIATION.removeprefix("adapters/")),
    "no code file": (lambda folder: (folder / NOTEBOOK).unlink(), CODE_FILE),
    "a code file that is no notebook": (added(NOTEBOOK), CODE_FILE),
    "a list as code file": (lambda folder: (folder / NOTEBOOK).write_text("[]"), CODE_FILE),
    "a notebook with a cell of no kind": (text(NOTEBOOK, '"markdown"', '"prose"'), CODE_FILE),
    "a bundle that is not whole": (lambda folder: (folder / "dataset" / "bundle.json").unlink(), "written by `eedi fit`"),
}


def test_a_fresh_build_passes_every_rule(fresh: Path) -> None:
    assert check(fresh) == {READABLE: [], **{name: [] for name in RULES}}


def test_a_wheelhouse_that_is_given_is_looked_through_as_well(fresh: Path, tmp_path: Path) -> None:
    found = {rule: faults for rule, faults in check(fresh, tmp_path).items() if faults}
    assert list(found) == [next(iter(wheels.RULES))]


@pytest.mark.parametrize(("rule", "broken", "told"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_found_by_its_own_rule_and_by_no_other(built: Path, rule: str, broken: Break, told: str) -> None:
    broken(built)
    found = {name: [str(fault) for fault in faults] for name, faults in check(built).items() if faults}
    assert found.keys() == {rule}
    assert any(told in fault for fault in found[rule]), found
    assert all("\n  wanted: " in fault and "\n  remedy: " in fault for fault in found[rule])


def test_every_rule_has_a_kernel_that_breaks_it() -> None:
    assert {rule for rule, _, _ in FAULTS.values()} == RULES.keys()


@pytest.mark.parametrize(("broken", "told"), UNREADABLE.values(), ids=UNREADABLE)
def test_files_that_were_changed_by_hand_are_named_with_what_is_wrong(built: Path, broken: Break, told: str) -> None:
    broken(built)
    ((rule, (fault,)),) = check(built).items()
    assert rule == READABLE
    assert told in str(fault)


def test_a_judge_s_examples_are_of_the_dataset_too(tmp_path: Path) -> None:
    folder = kernel(tmp_path).folder
    assert not any(check(folder).values())
    stage("judge", "examples", ["other.csv"], "rerank")(folder)
    (fault,) = [fault for found in check(folder).values() for fault in found]
    assert str(fault).startswith(f"{CONFIG}, rerank.judge.examples\n  found:  other.csv")


def test_an_upload_is_measured_whole(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(rules.LIMITS, "adapters", 10)
    (fault,) = check(built)["Kaggle takes the uploads' sizes"]
    assert str(fault).startswith(f"{ADAPTER}\n")
