"""The kernel that is built from a bundle: what is uploaded, what is refused, and the notebook run as Kaggle mounts it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import nbformat
import polars as pl
import pytest
import yaml

from pipeline import bundle as bundles
from pipeline.config import WRITTEN, Config, Dense, Listwise, Lora, Tfidf
from pipeline.errors import InputError
from pipeline.kernel import build as building
from pipeline.kernel import inputs
from pipeline.kernel.build import build
from pipeline.kernel.built import uploads
from pipeline.kernel.settings import Settings
from pipeline.models import adapters, encoder, sources
from pipeline.schema import LABEL_STATS

BASE, SOURCE = "Some/Qwen-Tiny", "some-lab/qwen/transformers/tiny/2"
SETTINGS = Settings(owner="me", weights={BASE: SOURCE})


def fitted(folder: Path, **dense: Any) -> Path:
    """A bundle without a blender: TF-IDF, a bi-encoder, and the weightless judge."""
    config = Config(
        name="tiny",
        retrieve={
            "lexical": Tfidf(examples=(WRITTEN,)),
            "my_dense": Dense(**{"weights": BASE, "template": "short", "dtype": "float32", **dense}),
        },
        rerank={"judge": Listwise(engine="hashed", weights=sources.HASHED)},
        blend=None,
    )
    bundles.save(bundles.Bundle(config, None, pl.DataFrame(schema=LABEL_STATS.columns), None, [], []), folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tiny_qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the tiny weights, under the name that a hub has for them."""
    folder = tmp_path_factory.mktemp("adapter")
    model = encoder.load(tiny_qwen, Dense(weights=str(tiny_qwen), dtype="float32"))
    adapters.add(model, Lora(rank=4, alpha=8), frozen=2)
    adapters.save(model, BASE, folder)
    return folder


@pytest.fixture(scope="module")
def built(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernel of a bundle with an adapter."""
    here = tmp_path_factory.mktemp("build")
    build(fitted(here / "bundle", adapter=str(adapter)), SETTINGS, here / "kernel")
    return here / "kernel"


@pytest.fixture
def mounted(built: Path, tiny_qwen: Path, kaggle: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Lays the uploads out as Kaggle mounts them, in the "old" or in the "new" layout."""

    def lay(layout: str) -> Path:
        root = tmp_path / "input"
        new = layout == "new"
        for upload, mount in {
            built / "dataset": "datasets/me/eedi-bundle" if new else "eedi-bundle",
            built / "adapters" / "my-dense": f"{'models/me/' if new else ''}eedi-adapters/transformers/my-dense/1",
            tiny_qwen: f"{'models/some-lab/' if new else ''}qwen/transformers/tiny/2",
            kaggle: f"{'competitions/' if new else ''}eedi-mining-misconceptions-in-mathematics",
        }.items():
            shutil.copytree(upload, root / mount, ignore=shutil.ignore_patterns("*-metadata.json"))
        return root

    return lay


@pytest.mark.parametrize("layout", ["old", "new"])
def test_the_notebook_runs_offline_from_the_mounts_alone_and_leaves_a_valid_submission(
    built: Path, mounted: Callable[[str], Path], layout: str, tmp_path: Path
) -> None:
    root = mounted(layout)
    notebook = nbformat.read(built / "kernel" / "eedi.ipynb", as_version=4)
    code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    (tmp_path / "working").mkdir()
    site = str(tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport pipeline; print(pipeline.__file__)"],
        cwd=tmp_path / "working",
        env=os.environ | {"EEDI_KAGGLE_INPUT": str(root), "PIP_TARGET": site, "PYTHONPATH": site, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith(site)
    asked = pl.read_csv(root.rglob("sample_submission.csv").__next__())["QuestionId_Answer"]
    assert pl.read_csv(tmp_path / "working" / "submission.csv")["QuestionId_Answer"].equals(asked)
    assert "submission.csv: 12 rows, valid\n" in done.stdout
    for source in (SOURCE, "me/eedi-adapters/transformers/my-dense/1"):
        assert f"weights {source}: from a Kaggle mount, {root}" in done.stderr, done.stderr


def test_a_process_that_fails_is_said_and_only_a_submission_that_is_not_valid_stops_the_notebook(
    built: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = nbformat.read(built / "kernel" / "eedi.ipynb", as_version=4)
    *stages, last = (cell.source for cell in notebook.cells if "*EEDI" in cell.source)
    names = {"subprocess": subprocess, "STARTED": 0.0, "BUNDLE": "", "COMPETITION": ""}
    names["EEDI"] = [sys.executable, "-c", "exit(3)"]
    for source in stages:
        exec(source, names)
    assert capsys.readouterr().out == "doctor ended with code 3\nsubmit ended with code 3\n"
    with pytest.raises(subprocess.CalledProcessError):
        exec(last, names)


def test_everything_to_upload_is_there_as_plain_files(built: Path) -> None:
    files = {upload: [path.name for path in paths] for upload, paths in uploads(built).items()}
    (wheel,) = (name for name in files["dataset"] if name.endswith(".whl"))
    assert files == {
        "dataset": [
            "bundle.json",
            "config.yaml",
            "dataset-metadata.json",
            wheel,
            "examples0.csv",
            "examples0.labels.csv",
            "label_stats.parquet",
            "scores.json",
        ],
        "adapters/my-dense": ["adapter_config.json", "adapter_model.safetensors", "model-instance-metadata.json"],
        "kernel": ["eedi.ipynb", "kernel-metadata.json"],
    }


def test_the_metadata_says_what_the_settings_say(built: Path) -> None:
    def read(file: str) -> Any:
        return json.loads((built / file).read_text(encoding="utf-8"))

    adapter = "me/eedi-adapters/transformers/my-dense/1"
    told = read("kernel/kernel-metadata.json")
    assert (told["id"], told["title"], told["machine_shape"]) == ("me/eedi-kernel", "Eedi kernel", "NvidiaTeslaT4")
    assert told["enable_internet"] is False and told["is_private"] is True and told["enable_gpu"] is True
    assert (told["dataset_sources"], told["model_sources"]) == (["me/eedi-bundle"], [adapter, SOURCE])
    assert read("dataset/dataset-metadata.json")["id"] == "me/eedi-bundle"
    assert read("adapters/model-metadata.json")["slug"] == "eedi-adapters"
    variation = read("adapters/my-dense/model-instance-metadata.json")
    names = ("ownerSlug", "modelSlug", "framework", "instanceSlug")
    assert "/".join(variation[name] for name in names) == adapter.removesuffix("/1")


def test_the_config_that_is_uploaded_names_kaggles_models_in_place_of_a_hubs(built: Path, adapter: Path) -> None:
    (before, after) = (bundles.load(built.parent / "bundle").config, bundles.load(built / "dataset").config)
    (old, new) = (before.retrieve["my_dense"], after.retrieve["my_dense"])
    assert isinstance(old, Dense) and isinstance(new, Dense)
    assert (old.weights, old.adapter) == (BASE, str(adapter))
    assert (new.weights, new.adapter) == (SOURCE, "me/eedi-adapters/transformers/my-dense/1")
    assert new.model_copy(update={"weights": old.weights, "adapter": old.adapter}) == old
    assert adapters.base_of(built / "adapters" / "my-dense") == SOURCE
    assert adapters.base_of(adapter) == BASE  # the fitted one is left as it was


def test_the_examples_of_labels_are_named_as_files_of_the_dataset_and_found_wherever_that_lies(
    built: Path, tmp_path: Path
) -> None:
    written = yaml.safe_load((built / "dataset/config.yaml").read_text(encoding="utf-8"))
    assert written["retrieve"]["lexical"]["examples"] == ["examples0.csv"]
    lexical = bundles.load(shutil.copytree(built / "dataset", tmp_path / "mount")).config.retrieve["lexical"]
    assert isinstance(lexical, Tfidf) and lexical.examples == (str(tmp_path / "mount/examples0.csv"),)


def test_the_wheel_holds_the_package_and_nothing_that_lay_about(built: Path) -> None:
    (wheel,) = (built / "dataset").glob("*.whl")
    members = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = Path(inputs.__file__).parents[1]
    sources_ = [
        path
        for pattern in ("*.py", "*/*.txt", "box.sh", "report/page.html", "report/style.css", "report/script.js")
        for path in package.rglob(pattern)
    ]
    assert members == {str(path.relative_to(package.parent)) for path in sources_}


def test_a_wheelhouse_and_an_image_have_their_place_in_the_metadata(tmp_path: Path) -> None:
    bundle = fitted(tmp_path / "bundle", weights=sources.HASHED)
    more = {"wheelhouse": "me/wheels", "image": "kaggle/python@sha256:1", "accelerator": None}
    build(bundle, SETTINGS.model_copy(update=more), tmp_path / "kernel")
    told = json.loads((tmp_path / "kernel/kernel/kernel-metadata.json").read_text(encoding="utf-8"))
    assert told["dataset_sources"] == ["me/eedi-bundle", "me/wheels"]
    assert (told["docker_image"], told["docker_image_pinning_type"]) == ("kaggle/python@sha256:1", "original")
    assert (told["enable_gpu"], told["machine_shape"], told["model_sources"]) == (False, None, [])
    assert not (tmp_path / "kernel" / "adapters").exists()


@pytest.mark.parametrize(
    ("dense", "settings", "told"),
    [
        ({"adapter": "runs/gone"}, {}, r"the adapter of my_dense\n  found:  runs/gone, which is not on this machine"),
        ({}, {"weights": {}}, f"kernel.yaml, weights\n  found:  no {BASE}"),
        ({"notes": "notes.csv", "weights": "hashed"}, {}, r"retrieve\.my_dense\.notes\n  found:  notes\.csv"),
    ],
    ids=["an adapter that is not here", "weights without a Kaggle model", "notes"],
)
def test_a_bundle_that_kaggle_could_not_run_is_refused_and_leaves_nothing(
    tmp_path: Path, dense: dict[str, str], settings: dict[str, Any], told: str
) -> None:
    bundle = fitted(tmp_path / "bundle", **dense)
    with pytest.raises(InputError, match=told):
        build(bundle, SETTINGS.model_copy(update=settings), tmp_path / "kernel")
    assert list(tmp_path.iterdir()) == [bundle]


@pytest.mark.parametrize(
    ("project", "told"),
    [(None, "no pyproject.toml\n  wanted: the project's own folder"), ("[project", "wanted: the project's wheel")],
    ids=["installed from a wheel", "a wheel that cannot be made"],
)
def test_where_no_wheel_can_be_made_nothing_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, project: str | None, told: str
) -> None:
    (root := tmp_path / "project").mkdir()
    if project:
        (root / "pipeline").mkdir()
        for name in building.SOURCE:
            (root / name).write_text(project, encoding="utf-8")
    monkeypatch.setattr(building, "ROOT", root)
    with pytest.raises(InputError, match=told):
        build(fitted(tmp_path / "bundle", weights=sources.HASHED), SETTINGS, tmp_path / "kernel")
    assert not (tmp_path / "kernel").exists()


def test_inputs_are_found_once_or_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EEDI_KAGGLE_INPUT", str(tmp_path))
    with pytest.raises(InputError, match=r"no folder with test\.csv and misconception_mapping\.csv"):
        inputs.competition()
    for name in ("some", "datasets/other/same"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "test.csv").touch()
    (tmp_path / "some" / "misconception_mapping.csv").touch()
    assert inputs.competition() == tmp_path / "some"
    (tmp_path / "datasets/other/same/misconception_mapping.csv").touch()
    with pytest.raises(InputError, match=r"datasets/other/same, .*some\n  wanted: exactly one"):
        inputs.competition()


Eedi = Callable[..., CompletedProcess[str]]


def test_the_verbs_build_a_bundle_list_its_uploads_and_check_it(eedi: Eedi, tmp_path: Path) -> None:
    fitted(tmp_path / "bundle", weights=sources.HASHED)
    told = eedi("kernel", "build", "--bundle", "bundle", "--out", "kernel")
    assert told.returncode == 0, told.stderr
    for line in ("kernel/dataset/config.yaml", "kernel/dataset in all", "kernel/kernel/eedi.ipynb", "MiB"):
        assert line in told.stdout
    told = eedi("kernel", "check", "kernel")
    assert told.returncode == 0 and "ok     the internet is off" in told.stdout and "FAULT" not in told.stdout
    metadata = tmp_path / "kernel/kernel/kernel-metadata.json"
    metadata.write_text(metadata.read_text("utf-8").replace('"enable_internet": false', '"enable_internet": true'), "utf-8")
    told = eedi("kernel", "check", "kernel")
    assert told.returncode == 2 and "FAULT  the internet is off" in told.stdout
    assert "error: kernel/kernel-metadata.json, enable_internet\n  found:  true\n  wanted: false\n" in told.stdout


def test_validate_refuses_a_submission_that_lacks_a_row(eedi: Eedi, kaggle: Path) -> None:
    sample = kaggle / "sample_submission.csv"
    rows = [
        "QuestionId_Answer,MisconceptionId",
        *(f"{row},{' '.join(map(str, range(25)))}" for row in pl.read_csv(sample)["QuestionId_Answer"]),
    ]
    for name, some in {"whole.csv": rows, "cut.csv": rows[:-1]}.items():
        (kaggle.parent / name).write_text("\n".join(some) + "\n", encoding="utf-8")
    told = eedi("kernel", "validate", "whole.csv", "--data", kaggle)
    assert (told.returncode, told.stdout) == (0, "whole.csv: 12 rows, valid\n"), told.stderr
    told = eedi("kernel", "validate", "cut.csv", "--data", kaggle)
    assert told.returncode == 2 and "cut.csv, row 12" in told.stderr
