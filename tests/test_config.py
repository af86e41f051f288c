"""Settings: sparse files over defaults, overrides over both, and nothing unknown let through."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pipeline.config import Blend, Config, Listwise, Pointwise, Tfidf, dump, load, merge, resolved
from pipeline.errors import InputError

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def yaml_file(folder: Path, text: str) -> Path:
    (folder / "some.yaml").write_text(text, encoding="utf-8")
    return folder / "some.yaml"


def at(config: Config, key: str) -> Any:
    """The setting that a dotted key names."""
    value: Any = config.model_dump()
    for part in key.split("."):
        value = value[part]
    return value


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_file_loads_and_is_called_what_its_file_is(path: Path) -> None:
    assert load(path).name == path.stem


@pytest.mark.parametrize("path", [None, *CONFIGS], ids=lambda path: path.stem if path else "defaults")
def test_what_is_dumped_is_taken_back_as_it_was(path: Path | None) -> None:
    config = load(path, ["rerank.second={kind: pointwise, depth: 3}", "blend.learning_rate=1e-4", "fit.judged=null"])
    assert resolved(yaml.safe_load(dump(config)), "the dump") == config


@pytest.mark.parametrize(
    ("under", "over", "both"),
    [
        ({"a": 1, "b": 2}, {"b": 3}, {"a": 1, "b": 3}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 3}}, {"a": {"x": 1, "y": 3}}),
        ({"a": 1}, {}, {"a": 1}),
        ({"a": {"x": 1}}, {"a": None}, {"a": None}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"kind": "dense", "x": 1}, {"x": 2}, {"kind": "dense", "x": 2}),
        ({"kind": "dense", "x": 1}, {"kind": "dense", "y": 2}, {"kind": "dense", "x": 1, "y": 2}),
        ({"kind": "dense", "x": 1}, {"kind": "tfidf", "y": 2}, {"kind": "tfidf", "y": 2}),
        (None, {"kind": "dense"}, {"kind": "dense"}),
    ],
)
def test_what_is_laid_over_wins_key_by_key_and_another_kind_starts_afresh(under: Any, over: Any, both: Any) -> None:
    before = repr(under)
    assert merge(under, over) == both
    assert repr(under) == before


def test_a_file_changes_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    config = load(yaml_file(tmp_path, "retrieve:\n  dense: {batch_tokens: 300}\n"))
    assert config.retrieve == {
        **Config().retrieve,
        "dense": Config().retrieve["dense"].model_copy(update={"batch_tokens": 300}),
    }
    assert config.model_copy(update={"retrieve": Config().retrieve}) == Config()


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert load(yaml_file(tmp_path, "# nothing yet\n")) == Config()


def test_an_override_wins_over_the_file_and_the_file_over_a_bundles_settings(tmp_path: Path) -> None:
    bundled = load(overrides=["pool=30", "rrf_k=7", "fit.seed=5"])
    config = load(yaml_file(tmp_path, "pool: 40\nrrf_k: 8\n"), ["pool=50"], bundled)
    assert (config.pool, config.rrf_k, config.fit.seed) == (50, 8, 5)


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("blend.learning_rate=1e-4", "blend.learning_rate", 1e-4),
        ("blend.learning_rate=2", "blend.learning_rate", 2.0),
        ("retrieve.dense.batch_tokens=1600", "retrieve.dense.batch_tokens", 1600),
        ("name=a.b-2", "name", "a.b-2"),
        ("retrieve.dense.weights=/some/where=else", "retrieve.dense.weights", "/some/where=else"),
        ("fit.judged=null", "fit.judged", None),
        ("rerank.judge.engine_args={max_model_len: 512}", "rerank.judge.engine_args", {"max_model_len": 512}),
    ],
)
def test_an_overrides_value_is_read_as_the_setting_means_it(override: str, key: str, value: Any) -> None:
    found = at(load(overrides=[override]), key)
    assert found == value and type(found) is type(value)


def test_a_number_with_an_exponent_is_a_number_in_a_file_too(tmp_path: Path) -> None:
    assert load(yaml_file(tmp_path, "blend: {learning_rate: 1e-4}")).blend == Blend(learning_rate=1e-4)


def test_a_stage_is_swapped_by_its_kind_and_starts_from_that_kinds_defaults() -> None:
    config = load(overrides=["rerank.judge.depth=26", "rerank.judge.kind=listwise"])
    assert config.rerank == {"judge": Listwise()}
    assert load(overrides=["retrieve.dense={kind: tfidf, ngrams: 1}"]).retrieve["dense"] == Tfidf(ngrams=1)


def test_null_deletes_a_stage_and_another_name_adds_one() -> None:
    config = load(overrides=["retrieve.dense=null", "rerank.judge=null", "blend=null"])
    assert (list(config.retrieve), config.rerank, config.blend) == (["lexical", "minilm"], {}, None)
    added = load(overrides=["rerank.second={kind: listwise, depth: 5}"])
    assert added.rerank == {"judge": Config().rerank["judge"], "second": Listwise(depth=5)}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("poool: 3", "poool"),
        ("fit: {question: 3}", "fit.question"),
        ("retrieve: {dense: {batch: 3}}", "retrieve.dense.batch"),
        ("rerank: {judge: {deep: 3}}", "rerank.judge.deep"),
        ("retrieve: {dense: {top_k: 3}}", "retrieve.dense.top_k=3"),
        ("pool: many", "pool='many'"),
        ("blend: 3", "blend=3"),
        ("retrieve: {third: {kind: guess}}", "retrieve.third"),
        ("retrieve: {lexical: null, minilm: null, dense: null}", "one retriever"),
        ("name: ../elsewhere", "name='../elsewhere'"),
        ("- pool", "list"),
        ("pool: [", "some.yaml"),
    ],
)
def test_what_no_setting_takes_is_refused_in_a_short_message_that_names_it(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(InputError) as refused:
        load(yaml_file(tmp_path, text))
    where, found, *_ = str(refused.value).splitlines()
    assert where.endswith("some.yaml")
    assert named in f"{where} {found}" and len(found) < 200


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InputError) as refused:
        load(overrides=["pool=1", "rrf_k=x", "poool=1"])
    assert all(each in str(refused.value) for each in ("pool=1: ", "rrf_k='x': ", "poool: "))


@pytest.mark.parametrize("override", ["pool", "=3", "pool 3", "retrieve.dense", "pool=[", "pool.deep=3", "retrieve=null"])
def test_an_override_that_says_nothing_usable_is_refused_by_its_own_name(override: str) -> None:
    with pytest.raises(InputError, match=override.replace("[", r"\[").replace(".", r"\.")):
        load(overrides=[override])


def test_settings_are_not_changed_once_they_are_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().pool = 30  # type: ignore[misc]


@pytest.mark.parametrize("name", ["nobody", "words"])
def test_neighbours_are_found_by_a_retriever_that_has_vectors(name: str) -> None:
    with pytest.raises(InputError, match=f"neighbours.by={name}"):
        load(None, ["retrieve.words={kind: bm25}", f"neighbours.by=[{name}]"])


def test_without_its_lexical_retriever_a_config_still_loads() -> None:
    assert "lexical" not in load(None, ["retrieve.lexical=null"]).retrieve


def test_a_judge_s_prompt_is_a_template_or_a_file_of_one_and_what_is_kept_is_its_text(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("{question} {wrong} {candidate}\n", encoding="utf-8")
    by_file = load(overrides=[f"rerank.judge.prompt={tmp_path / 'mine.txt'}"])
    assert by_file == load(overrides=["rerank.judge.prompt='{question} {wrong} {candidate}'"])
    assert load(under=by_file) == by_file
    for prompt, told in (
        (tmp_path / "other.txt", "No such file"),
        ("'{question} {wrong} {candidates}'", "no placeholder {candidates}"),
    ):
        with pytest.raises(InputError, match=re.escape(told)):
            load(overrides=[f"rerank.judge.prompt={prompt}"])
    with pytest.raises(InputError, match=re.escape("the prompt lacks {reasoning}")):
        load(overrides=[f"rerank.judge={{prompt: {tmp_path / 'mine.txt'}, reasoning: 20, adapter: null}}"])


def test_a_judge_s_engine_is_the_machine_s_its_own_or_that_of_its_workers() -> None:
    settings: tuple[dict[str, Any], ...] = ({}, {"engine": "server"}, {"engine": "ray"}, {"engine": "ray", "worker": "tree"})
    for gpu, engines in ((True, ["vllm", "server", "vllm", "tree"]), (False, ["tree", "server", "vllm", "tree"])):
        assert [Pointwise(**each).on(gpu).engine for each in settings] == engines
