"""A judge on trees: the margins and the token ids of the engines, at the price of one reading of each question."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import prompts
from pipeline.config import Lora, Pointwise
from pipeline.errors import InputError
from pipeline.models import adapters, memory
from pipeline.models.judge import Chat, KeptJudge
from pipeline.models.packed import encode
from pipeline.models.transformers_engine import TransformersJudge
from pipeline.models.tree import grow
from pipeline.models.tree_engine import TreeEngine
from pipeline.models.tree_judge import TreeJudge, load
from pipeline.store import Store
from pipeline.train.units import Embedder

torch = pytest.importorskip("torch", reason="the models' packages are not installed")

QUERY = {"construct": "Add", "subject": "Fractions", "question": "What is 1/2 + 1/3?", "correct": "5/6", "wrong": "2/5"}
LABELS = ["Adds the tops and the bottoms", "Adds the tops", "Believes that Yes is No"]
PROMPTS = [prompts.pointwise(QUERY | {"wrong": wrong}, label) for wrong in ("2/5", "1/6") for label in LABELS]
OPTIONS = (prompts.YES, prompts.NO)
WEIGHTS = Path("~/.cache/eedi/weights/Qwen--Qwen2.5-Coder-0.5B-Instruct").expanduser()


def spec_of(folder: Path, **settings: Any) -> Pointwise:
    return Pointwise(**{"engine": "transformers", "weights": str(folder), "dtype": "float32", **settings})


def judge_of(folder: Path) -> TreeJudge:
    return TreeJudge(load(folder, spec_of(folder))[0].model, Chat(folder, 2048))


def served(folder: Path, **settings: Any) -> np.ndarray:
    """The reference engine's margins."""
    answers = TransformersJudge(folder, spec_of(folder, **settings)).logprobs(PROMPTS, OPTIONS)
    return np.asarray(answers[:, 0] - answers[:, 1])


@pytest.fixture
def another(tiny_judge: Path, tmp_path: Path) -> Any:
    """The same tokens, and weights of another shape."""

    def make(**shape: Any) -> Path:
        from transformers import Qwen2Config, Qwen2ForCausalLM

        shutil.copytree(tiny_judge, folder := tmp_path / "another")
        torch.manual_seed(1)
        Qwen2ForCausalLM(Qwen2Config.from_pretrained(folder, **shape)).save_pretrained(folder)
        return folder

    return make


@pytest.mark.parametrize("tied", [True, False], ids=["output tied to input", "an output embedding of its own"])
def test_the_margins_are_the_reference_engine_s(tied: bool, another: Any) -> None:
    folder = another(tie_word_embeddings=tied)
    judge = judge_of(folder)
    assert judge.fits()
    margins = encode(judge, PROMPTS, 4096)[:, 0]
    np.testing.assert_allclose(margins, served(folder), atol=1e-3)
    assert np.ptp(margins) > 0.1, "the tiny weights tell no prompt from another: this test shows nothing"


def test_an_adapter_that_is_merged_gives_the_margins_with_which_it_was_trained(tiny_judge: Path, tmp_path: Path) -> None:
    model = load(tiny_judge, spec_of(tiny_judge))
    adapters.add(model, Lora(rank=4, alpha=8), 2, "train.judge")
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model[0].model.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.1).copy_(weight.half())  # it will be stored in 16 bits
    (folder := tmp_path / "adapter").mkdir()
    adapters.save(model, str(tiny_judge), folder)
    learnt = encode(TreeJudge(model[0].model, Chat(tiny_judge, 2048)), PROMPTS, 4096)[:, 0]
    np.testing.assert_allclose(learnt, served(tiny_judge, adapter=str(folder)), atol=1e-3)
    assert np.abs(learnt - served(tiny_judge)).max() > 0.1


def test_the_margins_from_kept_states_are_those_of_all_layers(
    tiny_judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EEDI_CACHE", str(tmp_path))
    judge, groups = judge_of(tiny_judge), [PROMPTS[:3], PROMPTS[3:5], PROMPTS[5:]]
    assert judge.splits(2)
    with torch.no_grad():
        whole, upper = (
            embedder.read(embedder.units(groups, [[0] * len(group) for group in groups]), nodes)
            for embedder, nodes in ((Embedder(judge, 0, "these"), None), (Embedder(judge, 2, "these"), 1))
        )
    assert len(list((tmp_path / "states").iterdir())) == len(groups)
    assert torch.allclose(upper, whole, atol=1e-4)


def test_the_adapter_s_names_are_those_of_peft_for_a_causal_language_model(tiny_judge: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from safetensors import safe_open
    from transformers import AutoModelForCausalLM

    model = load(tiny_judge, spec_of(tiny_judge))
    adapters.add(model, Lora(rank=4, alpha=8), 0, "train.judge")
    for name in ("ours", "theirs"):
        (tmp_path / name).mkdir()
    adapters.save(model, str(tiny_judge), tmp_path / "ours")
    theirs = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_judge), theirs).save_pretrained(tmp_path / "theirs")
    names = []
    for name in ("ours", "theirs"):
        with safe_open(tmp_path / name / adapters.WEIGHTS, "pt") as file:
            names.append(sorted(file.keys()))
    assert names[0] == names[1]
    assert names[0][0].startswith("base_model.model.model.layers.0.")


def test_the_tokens_are_those_that_an_engine_reads(tiny_judge: Path) -> None:
    engine = TransformersJudge(tiny_judge, spec_of(tiny_judge))
    read: list[list[int]] = []
    embed = engine.model.get_input_embeddings()
    embed.register_forward_hook(lambda _, given, __: read.extend(given[0].tolist()))
    engine.logprobs(PROMPTS, OPTIONS)
    longest = max(map(len, read))
    ours = judge_of(tiny_judge).tokens(PROMPTS)
    assert sorted([0] * (longest - len(own)) + own for own in ours) == sorted(read)


@pytest.mark.skipif(not (WEIGHTS / "tokenizer.json").is_file(), reason="the real tokenizer is not on this machine")
def test_the_real_template_s_tokens_come_out_of_the_tree_again_and_the_question_stands_there_once() -> None:
    chat = Chat(WEIGHTS, 2048)
    turns = [[{"role": "system", "content": prompts.JUDGE_SYSTEM}, {"role": "user", "content": prompt}] for prompt in PROMPTS]
    wanted = [chat.tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False) for turn in turns]
    tree = grow([chat.encode(prompt) for prompt in PROMPTS], causal=True)
    assert [tree.tokens[tree.attends[end]].tolist() for end in tree.ends] == wanted
    assert len(tree) < 0.4 * sum(map(len, wanted))
    assert len(chat.option_ids(OPTIONS)) == 2


def test_a_model_that_masks_in_a_way_of_its_own_does_not_fit(another: Any) -> None:
    near = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0, "layer_types": ["sliding_attention"] * 4}
    assert not judge_of(another(**near)).fits()


def test_the_margins_do_not_depend_on_the_batch_and_are_of_32_bits_under_autocast(tiny_judge: Path) -> None:
    judge = judge_of(tiny_judge)
    together = encode(judge, PROMPTS, 4096)
    np.testing.assert_allclose(together, encode(judge, PROMPTS[::-1], 1)[::-1], atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encode(judge, PROMPTS, 4096)
    assert not (torch.as_tensor(rounded) == torch.as_tensor(rounded).bfloat16()).all()


@pytest.mark.parametrize("options", [OPTIONS, ("A", "B", "C")], ids=["yes or no", "letters"])
def test_the_engine_s_answers_are_the_reference_engine_s_and_what_prompts_share_is_computed_once(
    options: tuple[str, ...], tiny_judge: Path
) -> None:
    trees, plain = (kind(tiny_judge, spec_of(tiny_judge)) for kind in (TreeEngine, TransformersJudge))
    found = trees.logprobs(PROMPTS, options)
    np.testing.assert_allclose(found, plain.logprobs(PROMPTS, options), atol=1e-3)
    assert np.ptp(found[:, 0]) > 0.1
    assert len(grow([trees.chat.encode(prompt) for prompt in PROMPTS], causal=True)) <= trees.computed < 0.6 * plain.computed


def test_the_engine_is_named_in_the_config_lays_an_adapter_on_and_writes(tiny_judge: Path, tmp_path: Path) -> None:
    model = load(tiny_judge, spec_of(tiny_judge))
    adapters.add(model, Lora(rank=4, alpha=8), 2, "train.judge")
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model[0].model.parameters():
            if weight.requires_grad:
                weight.normal_(std=0.1)
    (folder := tmp_path / "adapter").mkdir()
    adapters.save(model, str(tiny_judge), folder)
    spec = spec_of(tiny_judge, engine="tree", adapter=str(folder))
    found = KeptJudge(spec, Store(tmp_path / "results")).logprobs(PROMPTS, OPTIONS)
    np.testing.assert_allclose(found[:, 0] - found[:, 1], served(tiny_judge, adapter=str(folder)), atol=1e-3)
    plain = TransformersJudge(tiny_judge, spec_of(tiny_judge))
    assert TreeEngine(tiny_judge, spec_of(tiny_judge, engine="tree")).write(PROMPTS[:2], 4) == plain.write(PROMPTS[:2], 4)
    memory.release()


def test_the_engine_refuses_a_model_that_masks_in_a_way_of_its_own(another: Any) -> None:
    near = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0, "layer_types": ["sliding_attention"] * 4}
    folder = another(**near)
    with pytest.raises(InputError, match="another engine"):
        TreeEngine(folder, spec_of(folder))
