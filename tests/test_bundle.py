"""The bundle: what is saved is what is loaded, never over something else, and a broken one is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from pipeline import blend
from pipeline.bundle import Bundle, load, save
from pipeline.config import WRITTEN, Config
from pipeline.config import load as settings
from pipeline.data import labels_of
from pipeline.errors import InputError
from pipeline.schema import LABEL_STATS, QRELS
from pipeline.shift import Shift

ROWS = [(f"{n}_A", label, float(label == n % 5), float(n)) for n in range(20) for label in range(5)]
FEATURES = pl.DataFrame(ROWS, schema={**QRELS.columns, "near_score": pl.Float32, "far_score": pl.Float32}, orient="row")
QREL_ROWS = FEATURES.filter(pl.col("near_score") == 1).select(*QRELS.columns)
STATS = pl.DataFrame([(1, "Ratio", "Simplify", 3), (2, "Größe", "Compare", 1)], schema=LABEL_STATS.columns, orient="row")


@pytest.fixture
def fitted() -> Bundle:
    config = settings(overrides=["name=some", "blend.rounds=3", "blend.min_rows=1"])
    assert config.blend
    booster, shift = blend.fit(FEATURES, QREL_ROWS, config.blend), Shift(1.5, -0.25, 0.65)
    return Bundle(config, booster, STATS, shift, [{"stage": "blend", "map@25": 0.5}], ["abc"])


@pytest.fixture
def saved(fitted: Bundle, tmp_path: Path) -> Path:
    save(fitted, tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_bundle_comes_back_as_it_was_and_ranks_the_same(fitted: Bundle, saved: Path) -> None:
    back = load(saved)
    for name in ("scores", "shift", "trained_on"):
        assert getattr(back, name) == getattr(fitted, name)
    assert back.label_stats.equals(STATS)
    assert fitted.booster and back.booster
    run = blend.apply(back.booster, FEATURES)
    assert run.equals(blend.apply(fitted.booster, FEATURES))
    assert run["score"].n_unique() > 1


def test_the_examples_that_stages_read_move_with_the_bundle(fitted: Bundle, saved: Path) -> None:
    config = load(saved.rename(saved.with_name("elsewhere"))).config
    spec = config.retrieve["lexical"]
    (file,) = spec.examples
    assert config.rerank["judge"].examples == (file,)
    assert Path(file) == saved.with_name("elsewhere") / "examples0.csv"
    written = Path(__file__).parents[1] / WRITTEN
    assert Path(file).read_bytes() == written.read_bytes()
    assert labels_of(Path(file)).read_bytes() == labels_of(written).read_bytes()
    assert spec.model_copy(update={"examples": (WRITTEN,)}) == fitted.config.retrieve["lexical"]


def test_a_bundle_without_a_blender_has_no_booster(tmp_path: Path) -> None:
    save(Bundle(Config(blend=None), None, STATS.clear(), None, [], []), tmp_path / "bundle")
    assert load(tmp_path / "bundle").booster is None
    assert not (tmp_path / "bundle" / "booster.txt").exists()


def test_a_bundle_holds_nothing_that_runs_and_can_be_moved(saved: Path) -> None:
    assert {path.suffix for path in saved.iterdir()} == {".yaml", ".txt", ".parquet", ".json", ".csv"}
    moved = saved.rename(saved.with_name("elsewhere"))
    assert load(moved).trained_on == ["abc"]


def test_what_exists_is_never_written_over(fitted: Bundle, saved: Path) -> None:
    before = {path: path.read_bytes() for path in saved.iterdir()}
    with pytest.raises(InputError, match="it exists"):
        save(replace(fitted, scores=[]), saved)
    assert {path: path.read_bytes() for path in saved.iterdir()} == before
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("name", ["config.yaml", "booster.txt", "label_stats.parquet", "scores.json", "bundle.json"])
@pytest.mark.parametrize("content", [None, b"", b"[1", b"\xff\xfe\x00"], ids=["missing", "empty", "garbage", "bytes"])
def test_a_bundle_that_is_not_whole_is_refused_by_its_folder(saved: Path, name: str, content: bytes | None) -> None:
    (saved / name).unlink()
    if content is not None:
        (saved / name).write_bytes(content)
    with pytest.raises(InputError, match=str(saved)):
        load(saved)


def test_a_bundle_that_does_not_say_how_it_was_made_is_refused(saved: Path) -> None:
    (saved / "bundle.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=str(saved)):
        load(saved)


@pytest.mark.parametrize("folder", ["nowhere", "empty", "file"])
def test_what_is_no_bundle_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="a folder written by `eedi fit`"):
        load(tmp_path / folder)


def test_settings_that_this_version_does_not_know_are_refused_by_their_file(saved: Path) -> None:
    with (saved / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("later: 1\n")
    with pytest.raises(InputError, match=r"config\.yaml\n.*later"):
        load(saved)


def test_other_versions_of_packages_are_said_and_no_reason_to_refuse(saved: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = json.loads((saved / "bundle.json").read_text(encoding="utf-8"))
    made["packages"]["lightgbm"] = "0.0.1"
    (saved / "bundle.json").write_text(json.dumps(made), encoding="utf-8")
    with caplog.at_level("INFO"):
        load(saved)
    assert "0.0.1" in caplog.text
