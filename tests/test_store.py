"""Kept results: made once, named by their inputs, and nothing half-written under a real name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import InputError
from pipeline.store import Store, cache_folder, digest, new_folder, refuse_existing, replacing, versions

FRAME = pl.DataFrame({"query_id": ["1_A", "2_B"], "score": pl.Series([0.25, -1.0], dtype=pl.Float32)})
INPUTS = {"weights": "abc", "texts": ["÷", "×"]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


class Maker:
    """Gives `FRAME` and counts how often it was asked; fails while `broken`."""

    def __init__(self) -> None:
        self.calls = 0
        self.broken = False

    def __call__(self) -> pl.DataFrame:
        self.calls += 1
        if self.broken:
            raise RuntimeError("cut off")
        return FRAME


@pytest.fixture
def maker() -> Maker:
    return Maker()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "results")


def files(store: Store) -> list[Path]:
    return sorted(path for path in store.folder.rglob("*") if path.is_file())


def test_a_result_is_made_once_and_then_found_by_any_store_of_the_folder(store: Store, maker: Maker) -> None:
    again = Store(store.folder)
    frames = [store.keep("run", INPUTS, maker), store.keep("run", INPUTS, maker), again.keep("run", INPUTS, maker)]
    assert all(frame.equals(FRAME) and frame.schema == FRAME.schema for frame in frames)
    assert maker.calls == 1
    assert (store.made, store.found, again.made, again.found) == (1, 1, 0, 1)


@pytest.mark.parametrize(
    ("name", "inputs"),
    [("other", INPUTS), ("run", {**INPUTS, "weights": "abd"}), ("run", {**INPUTS, "texts": ["×", "÷"]}), ("run", {})],
)
def test_another_name_or_other_inputs_are_another_result(store: Store, maker: Maker, name: str, inputs: dict[str, Any]) -> None:
    store.keep("run", INPUTS, maker)
    store.keep(name, inputs, maker)
    assert maker.calls == store.made == 2
    assert len(files(store)) == 4


def test_the_order_in_which_inputs_are_named_makes_no_difference(store: Store, maker: Maker) -> None:
    store.keep("run", INPUTS, maker)
    store.keep("run", dict(reversed(INPUTS.items())), maker)
    assert maker.calls == 1


@settings(deadline=None)
@given(one=JSON, other=JSON)
def test_two_values_share_a_digest_only_if_they_are_written_alike(one: Any, other: Any) -> None:
    alike = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest(one) == digest(other)) == alike


@pytest.mark.parametrize("suffix", [".json", ".parquet"])
def test_a_result_of_which_a_file_is_missing_is_made_again(store: Store, maker: Maker, suffix: str) -> None:
    store.keep("run", INPUTS, maker)
    (lost,) = store.folder.rglob(f"*{suffix}")
    lost.unlink()
    assert store.keep("run", INPUTS, maker).equals(FRAME)
    assert maker.calls == 2
    assert lost.is_file() and len(files(store)) == 2


def test_the_sidecar_says_what_made_the_result(store: Store, maker: Maker) -> None:
    store.keep("run", INPUTS, maker)
    (sidecar,) = store.folder.rglob("*.json")
    told = json.loads(sidecar.read_text(encoding="utf-8"))
    assert (told["name"], told["inputs"], told["rows"], told["versions"]) == ("run", INPUTS, 2, versions())
    assert told["seconds"] >= 0


def test_a_maker_that_fails_leaves_nothing_and_the_next_try_makes_it(store: Store, maker: Maker) -> None:
    maker.broken = True
    with pytest.raises(RuntimeError, match="cut off"):
        store.keep("run", INPUTS, maker)
    assert files(store) == [] and store.made == 0
    maker.broken = False
    assert store.keep("run", INPUTS, maker).equals(FRAME)
    assert maker.calls == 2


class Rows:
    """Gives a row for each place that it is asked for, two at a time; keeps what it was asked, and can be cut off."""

    def __init__(self, keys: list[str]) -> None:
        self.keys, self.asked, self.most = keys, list[str](), 99

    def __call__(self, places: list[int]) -> Iterator[tuple[list[int], pl.DataFrame]]:
        for at in range(0, len(places), 2):
            some = places[at : at + 2][::-1]  # in an order of its own
            if len(self.asked) >= self.most:
                raise RuntimeError("cut off")
            self.asked += [self.keys[place] for place in some]
            yield some, pl.DataFrame({"length": [len(self.keys[place]) for place in some]})


def kept_rows(store: Store, maker: Rows, inputs: dict[str, Any] = INPUTS) -> list[int]:
    return store.rows("rows", inputs, maker.keys, maker)["length"].to_list()


def test_rows_are_made_once_a_key_whichever_others_they_are_asked_with(store: Store) -> None:
    first, second = Rows(["a", "bb", "ccc", "bb"]), Rows(["dddd", "ccc", "a", "ee"])
    assert kept_rows(store, first) == [1, 2, 3, 2] and sorted(first.asked) == ["a", "bb", "ccc"]
    assert kept_rows(store, second) == [4, 3, 1, 2] and sorted(second.asked) == ["dddd", "ee"]
    assert kept_rows(store, second) == [4, 3, 1, 2] and (store.made, store.found) == (2, 1)
    assert kept_rows(store, again := Rows(["a"]), {**INPUTS, "weights": "abd"}) == [1] and again.asked == ["a"]
    told = [json.loads(path.read_text(encoding="utf-8")) for path in files(store) if path.suffix == ".json"]
    assert sum(record["rows"] for record in told) == 6 and told[0]["versions"] == versions()


def test_rows_that_were_made_before_a_cut_are_not_made_again(store: Store) -> None:
    cut, whole = Rows(list("abcde")), Rows(list("abcde"))
    cut.most = 2
    with pytest.raises(RuntimeError, match="cut off"):
        kept_rows(store, cut)
    assert kept_rows(store, whole) == [1] * 5 and sorted(whole.asked) == ["c", "d", "e"]


def test_a_file_takes_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "file"
    with replacing(path) as file:
        file.write(b"whole")
        assert not path.exists()
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error), replacing(path) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv("EEDI_CACHE", raising=False)
    assert cache_folder() == tmp_path / "xdg" / "eedi"
    monkeypatch.setenv("EEDI_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert Store().folder == tmp_path / "mine" / "results"


def test_a_path_is_refused_only_if_something_is_there(tmp_path: Path) -> None:
    refuse_existing(tmp_path / "new")
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(InputError, match="it exists"):
            refuse_existing(path)


def test_a_new_folder_has_its_name_only_once_it_is_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "new") as folder:
        (folder / "file").write_text("whole", encoding="utf-8")
        assert not (tmp_path / "deep" / "new").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["new"]
    assert (tmp_path / "deep" / "new" / "file").read_text(encoding="utf-8") == "whole"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_new_folder_whose_making_fails_is_gone(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), new_folder(tmp_path / "new") as folder:
        (folder / "file").touch()
        raise error
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_that_another_made_meanwhile_is_left_to_the_other(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it exists"), new_folder(tmp_path / "new"):
        (tmp_path / "new").mkdir()
        (tmp_path / "new" / "theirs").touch()
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*")] == [Path("new"), Path("new/theirs")]
