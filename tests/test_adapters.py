"""Adapters: put on the layers that learn, written as PEFT reads them, and merged into nothing but their own base."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import Dense, Lora
from pipeline.errors import InputError
from pipeline.models import adapters
from pipeline.models.encoder import SentenceEncoder, load
from pipeline.store import Store

torch = pytest.importorskip("torch", reason="the models' packages are not installed")

TEXTS = ["Add the fractions. Wrong answer: 2/5", "Believes that adding is multiplying", "x"]
LORA = Lora(rank=4, alpha=8)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def spec_of(weights: Path | str, **settings: Any) -> Dense:
    return Dense(weights=str(weights), **{"dtype": "float32", **settings})


def vectors(model: Any) -> np.ndarray:
    """Unit rows."""
    made: np.ndarray = model.encode(TEXTS, normalize_embeddings=True, show_progress_bar=False)
    return made


def learnt(folder: Path, lora: Lora = LORA, frozen: int = 2, dtype: str = "float32") -> Any:
    """The model of a folder with an adapter that is as far from its beginning as a trained one."""
    model = load(folder, spec_of(folder, dtype=dtype))
    adapters.add(model, lora, frozen)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model[0].model.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.3)
    return model


@pytest.fixture
def adapter(tiny_qwen: Path, tmp_path: Path) -> Path:
    """A stored adapter of the upper two layers."""
    (folder := tmp_path / "adapter").mkdir()
    adapters.save(learnt(tiny_qwen), str(tiny_qwen), folder)
    return folder


@pytest.fixture
def another(tiny_qwen: Path, tmp_path: Path) -> Callable[..., Path]:
    """A backbone of tiny Qwen's kind, tokenizer and all, but of another shape."""

    def make(**shape: int) -> Path:
        from transformers import Qwen2Config, Qwen2Model

        folder = tmp_path / "another"
        shutil.copytree(tiny_qwen, folder)
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8")) | shape
        settings["layer_types"] = ["full_attention"] * settings["num_hidden_layers"]
        Qwen2Model(Qwen2Config(**settings)).save_pretrained(folder)
        return folder

    return make


def refusal(folder: Path, **settings: Any) -> InputError:
    """The error of loading so; all four of its parts say something."""
    with pytest.raises(InputError) as told:
        load(folder, spec_of(**{"weights": folder, **settings}))
    error = told.value
    lines = [line.strip() for line in str(error).splitlines()]
    assert len(lines) >= 4 and all(lines), lines
    return error


@pytest.mark.parametrize("frozen", [0, 3])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_adapter_stands_on_every_linear_layer_that_is_not_frozen_and_learns_alone_in_32_bits(
    frozen: int, dtype: str, tiny_qwen: Path
) -> None:
    model = load(tiny_qwen, spec_of(tiny_qwen, dtype=dtype))
    linear = {name for name, module in model[0].model.named_modules() if isinstance(module, torch.nn.Linear)}
    adapters.add(model, LORA, frozen)
    weights = dict(model[0].model.named_parameters())
    learning = {name for name, weight in weights.items() if weight.requires_grad}
    wanted = {name for name in linear if int(name.split(".")[1]) >= frozen}
    assert len(wanted) == 7 * (4 - frozen)
    assert learning == {name for name in weights if "lora_" in name}
    assert {name.partition(".lora_")[0] for name in learning} == wanted
    assert {weights[name].dtype for name in learning} == {torch.float32}
    assert {weight.dtype for name, weight in weights.items() if name not in learning} == {getattr(torch, dtype)}


def test_an_encoder_s_layers_get_an_adapter_too_and_its_pooler_none(tiny_bert: Path) -> None:
    model = load(tiny_bert, spec_of(tiny_bert))
    adapters.add(model, LORA, 1)
    learning = {name for name, weight in model[0].model.named_parameters() if weight.requires_grad}
    assert learning and all(name.startswith("encoder.layer.1.") for name in learning)


def test_a_new_adapter_changes_no_vector(tiny_qwen: Path) -> None:
    model = load(tiny_qwen, spec_of(tiny_qwen))
    before = vectors(model)
    adapters.add(model, LORA, 0)
    assert np.allclose(vectors(model), before, atol=1e-6)


@pytest.mark.parametrize("frozen", [4, 16])
def test_more_frozen_layers_than_there_are_is_told_with_a_remedy(frozen: int, tiny_qwen: Path) -> None:
    with pytest.raises(InputError, match=rf"train\.encoder\.frozen={frozen}"):
        adapters.add(load(tiny_qwen, spec_of(tiny_qwen)), LORA, frozen)


def test_a_stored_adapter_is_peft_s_two_files_in_16_bits_with_its_base_and_settings(adapter: Path, tiny_qwen: Path) -> None:
    from safetensors.torch import load_file

    assert {path.name for path in adapter.iterdir()} == {CONFIG, WEIGHTS}
    settings = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    assert (settings["peft_type"], settings["r"], settings["lora_alpha"]) == ("LORA", 4, 8)
    assert settings["base_model_name_or_path"] == str(tiny_qwen) == adapters.base_of(adapter)
    assert settings["inference_mode"] is True
    assert {weight.dtype for weight in load_file(adapter / WEIGHTS).values()} == {torch.float16}


@pytest.mark.parametrize("weights", ["tiny_qwen", "tiny_bert"])
@pytest.mark.parametrize("lora", [LORA, Lora(rank=2, alpha=32, dropout=0.5)], ids=["small", "strong"])
def test_a_stored_adapter_gives_the_vectors_that_it_was_trained_to_give(
    lora: Lora, weights: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    base: Path = request.getfixturevalue(weights)
    trained = learnt(base, lora, 1).eval()
    (folder := tmp_path / "adapter").mkdir()
    adapters.save(trained, str(base), folder)
    served = load(base, spec_of(base, adapter=str(folder)))
    wanted, plain = vectors(trained), vectors(load(base, spec_of(base)))
    assert (vectors(served) * wanted).sum(1).min() > 0.9999
    assert (plain * wanted).sum(1).max() < 0.99
    assert not [name for name, _ in served[0].model.named_parameters() if "lora" in name]  # merged: as fast as its base


def test_peft_itself_gives_the_same_vectors(adapter: Path, tiny_qwen: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModel

    model = load(tiny_qwen, spec_of(tiny_qwen))
    model[0].model = PeftModel.from_pretrained(AutoModel.from_pretrained(tiny_qwen), str(adapter)).merge_and_unload()
    served = load(tiny_qwen, spec_of(tiny_qwen, adapter=str(adapter)))
    assert (vectors(served) * vectors(model)).sum(1).min() > 0.99999


def test_an_adapter_fits_its_base_under_the_path_at_which_the_base_lies(adapter: Path, tiny_qwen: Path) -> None:
    """It was trained on a hub's model, and is served on a folder of the same weights."""
    settings = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    (adapter / CONFIG).write_text(json.dumps(settings | {"base_model_name_or_path": "Qwen/Tiny"}), encoding="utf-8")
    served = [vectors(load(tiny_qwen, spec_of(weights, adapter=str(adapter)))) for weights in (tiny_qwen, "Qwen/Tiny")]
    assert np.allclose(*served, atol=1e-6)
    assert not np.allclose(served[0], vectors(load(tiny_qwen, spec_of(tiny_qwen))), atol=0.01)


def test_no_network_is_asked_for_the_base(adapter: Path, tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT would look whether the hub's own config has another vocabulary."""
    asked: list[object] = []

    def refused(host: object, *_: object, **__: object) -> None:
        asked.append(host)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    (folder := adapter.parent / "of a hub's model").mkdir()
    adapters.save(learnt(tiny_qwen), "Qwen/Tiny", folder)
    load(tiny_qwen, spec_of("Qwen/Tiny", adapter=str(folder)))
    assert not asked


def test_an_adapter_of_another_base_is_refused_by_name(adapter: Path, tiny_qwen: Path) -> None:
    error = refusal(tiny_qwen, weights="Qwen/Another", adapter=str(adapter))
    assert f"Set weights to {tiny_qwen}" in str(error)
    assert "Qwen/Another" in str(error)


@pytest.mark.parametrize(
    "shape",
    [{"hidden_size": 48}, {"intermediate_size": 32}, {"num_hidden_layers": 3}, {"num_hidden_layers": 2}],
    ids=["wider", "narrower inside", "a layer less", "none of its layers"],
)
def test_an_adapter_of_another_shape_is_refused_and_its_base_named(
    shape: dict[str, int], adapter: Path, tiny_qwen: Path, another: Callable[..., Path]
) -> None:
    error = refusal(another(**shape), adapter=str(adapter))
    assert f"Set weights to {tiny_qwen}" in str(error)


def test_an_adapter_of_another_architecture_is_refused_and_its_base_named(
    adapter: Path, tiny_qwen: Path, tiny_bert: Path
) -> None:
    assert f"Set weights to {tiny_qwen}" in str(refusal(tiny_bert, adapter=str(adapter)))


def test_an_adapter_whose_weights_have_other_names_is_refused_and_not_taken_for_an_untrained_one(
    adapter: Path, tiny_qwen: Path
) -> None:
    """So a language model's adapter looks to its bare layers: PEFT would only warn, and serve the base."""
    from safetensors.torch import load_file, save_file

    renamed = {name.replace("model.layers", "model.model.layers"): one for name, one in load_file(adapter / WEIGHTS).items()}
    save_file(renamed, adapter / WEIGHTS, metadata={"format": "pt"})
    refusal(tiny_qwen, adapter=str(adapter))


def test_an_adapter_whose_weights_are_missing_in_part_is_refused(adapter: Path, tiny_qwen: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / WEIGHTS)
    del weights[next(name for name in weights if "lora_B" in name)]
    save_file(weights, adapter / WEIGHTS, metadata={"format": "pt"})
    refusal(tiny_qwen, adapter=str(adapter))


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"base_model_name_or_path": "some/base"}'])
def test_a_folder_that_is_no_adapter_s_is_refused(content: str | None, adapter: Path, tiny_qwen: Path) -> None:
    (adapter / CONFIG).unlink()
    if content is not None:
        (adapter / CONFIG).write_text(content, encoding="utf-8")
    assert str(adapter) in str(refusal(tiny_qwen, adapter=str(adapter)))


def test_an_adapter_that_was_cut_off_is_refused(adapter: Path, tiny_qwen: Path) -> None:
    whole = (adapter / WEIGHTS).read_bytes()
    (adapter / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    assert str(adapter) in str(refusal(tiny_qwen, adapter=str(adapter)))


def test_an_adapter_whose_weights_are_a_pickle_is_refused(adapter: Path, tiny_qwen: Path) -> None:
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    assert "can run code" in str(refusal(tiny_qwen, adapter=str(adapter)))


def test_a_folder_that_is_not_there_is_refused(tiny_qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "nowhere" in str(refusal(tiny_qwen, adapter=str(tmp_path / "nowhere")))


def test_vectors_that_are_kept_of_one_adapter_are_not_given_for_another(adapter: Path, tiny_qwen: Path, tmp_path: Path) -> None:
    from pipeline.models import memory
    from pipeline.models.encoder import KeptEncoder

    (other := tmp_path / "other").mkdir()
    adapters.save(learnt(tiny_qwen, Lora(rank=2)), str(tiny_qwen), other)
    store = Store(tmp_path / "results")
    made = [
        KeptEncoder(spec_of(tiny_qwen, adapter=name), store).encode(TEXTS, "query") for name in (None, str(adapter), str(other))
    ]
    memory.release()
    assert (store.made, store.found) == (3, 0)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not np.allclose(made[i], made[j], atol=0.01)
    direct = SentenceEncoder(load(tiny_qwen, spec_of(tiny_qwen, adapter=str(adapter))), spec_of(tiny_qwen))
    assert np.allclose(made[1], direct.encode(TEXTS, "query"), atol=1e-5)
