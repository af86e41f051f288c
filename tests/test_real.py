"""Real weights, real vLLM, the real command: minutes on two cores. Weights are taken from the user's cache, or fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pipeline.config import Dense, Listwise, Sample, load
from pipeline.data import Data, queries_of, read_catalog
from pipeline.data import load as load_data
from pipeline.errors import InputError
from pipeline.models import memory, sources
from pipeline.models.encoder import KeptEncoder
from pipeline.models.judge import Chat, start
from pipeline.prompts import NO, OPTIONS, YES, dense_label, listwise
from pipeline.sample.competition import write
from pipeline.store import Store, cache_folder
from pipeline.submission import validate

pytest.importorskip("torch", reason="the models' packages are not installed")
pytest.importorskip("vllm", reason="the models' packages are not installed")
pytestmark = [pytest.mark.real]

ROOT = Path(__file__).parent.parent
JUDGE = Listwise(engine="vllm")
LETTERS = OPTIONS[:5]


@pytest.fixture(scope="module")
def folder() -> Path:
    return sources.resolve(JUDGE.weights)


@pytest.fixture(scope="module", autouse=True)
def nothing_stays_loaded() -> Iterator[None]:
    yield
    memory.release()


@pytest.fixture(scope="module")
def asked() -> list[str]:
    """Prompts of the embedded competition, of different lengths."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as temporary:
        write(Path(temporary), Sample(train=1, test=4))
        competition = load_data(Path(temporary), Data())
    labels = competition.catalog["label"].to_list()
    rows = queries_of(competition.test).iter_rows(named=True)
    return [listwise(row, labels[7 * i : 7 * i + 5]) for i, row in enumerate(rows)]


def test_the_options_are_what_the_chat_template_continues_with(folder: Path) -> None:
    chat = Chat(folder, 2048)
    for options in (OPTIONS, (YES, NO)):
        ids = chat.option_ids(options)
        assert [chat.tokenizer.decode([i]) for i in ids] == list(options)
    with pytest.raises(InputError, match="exactly one token"):
        chat.option_ids(("A", "not one token at all"))


def test_a_prompt_that_is_too_long_keeps_its_candidates(folder: Path, asked: list[str]) -> None:
    chat = Chat(folder, 160)
    ids = chat.encode("word " * 500 + asked[0])
    assert len(ids) == 159
    assert chat.tokenizer.decode(ids).rstrip().endswith("<|im_start|>assistant")
    assert asked[0].splitlines()[-1] in chat.tokenizer.decode(ids)


@pytest.fixture(scope="module")
def adapter(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of the real weights, drawn and not trained, that changes the answers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    settings = LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), settings)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            weight.data *= 0.2  # as it is drawn, nothing of the model is left
    model.peft_config["default"].base_model_name_or_path = JUDGE.weights
    made = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(made, save_embedding_layers=False)  # else PEFT asks the hub about the base
    return made


@pytest.fixture(scope="module")
def reference(folder: Path, asked: list[str], adapter: Path) -> dict[str | None, np.ndarray]:
    """What transformers says in float32, without and with the adapter."""
    answers = {}
    for name in (None, str(adapter)):
        engine = start(folder, JUDGE.model_copy(update={"engine": "transformers", "dtype": "float32", "adapter": name}))
        answers[name] = engine.logprobs(asked, LETTERS)
        engine.close()
    assert np.abs(answers[None] - answers[str(adapter)]).max() > 0.5
    return answers


def agree(found: np.ndarray, wanted: np.ndarray) -> None:
    # bfloat16 against float32: eight bits of mantissa, on numbers of size ten
    np.testing.assert_allclose(found, wanted, atol=0.25)
    clear = np.sort(wanted, 1)[:, -1] - np.sort(wanted, 1)[:, -2] > 0.25
    np.testing.assert_array_equal(found.argmax(1)[clear], wanted.argmax(1)[clear])


@pytest.mark.parametrize("engine", ["vllm", "server", "tree"])
def test_trees_and_vllm_however_it_is_spoken_to_agree_with_transformers_on_an_adapter(
    engine: str, folder: Path, asked: list[str], adapter: Path, reference: dict[str | None, np.ndarray]
) -> None:
    started = start(folder, JUDGE.model_copy(update={"engine": engine, "adapter": str(adapter)}))
    found = started.logprobs(asked, LETTERS)
    started.close()
    agree(found, reference[str(adapter)])


def test_vllm_without_one_agrees_too_and_tells_what_its_prefix_cache_spared_it(
    folder: Path, asked: list[str], reference: dict[str | None, np.ndarray]
) -> None:
    engine = start(folder, JUDGE)
    computed = [engine.computed]
    for _ in range(2):
        agree(engine.logprobs(asked, LETTERS), reference[None])
        computed.append(engine.computed)
    engine.close()
    first, again = np.diff(computed)
    sent = sum(len(engine.chat.encode(prompt)) for prompt in asked)
    assert 32 * len(asked) < first < sent  # a question's answers share its text
    assert again <= 32 * len(asked)  # what does not fill a block


# An engine with what the older ways need; the installed version can be asked in all three.
WAYS = """
import json, sys
from pipeline.models import vllm_reading as reading
from pipeline.models.vllm_worker import ask
import vllm
folder, prompts, options = json.loads(sys.argv[1])
settings = reading.Reading("masked", "").arguments() | reading.Reading("top", "").arguments()
engine = vllm.LLM(folder, max_model_len=2048, dtype="float32", enforce_eager=True, **settings)
rows = {}
for way in reading.WAYS:
    how = reading.Reading(way, vllm.__version__)
    rows[way] = [how.row(found, options).tolist() for found in ask(engine, prompts, how.request(options), None)[0]]
print(json.dumps(rows))
"""


def test_all_ways_of_asking_vllm_say_the_same(folder: Path, asked: list[str], reference: dict[str | None, np.ndarray]) -> None:
    chat = Chat(folder, 2048)
    asks = json.dumps([str(folder), [chat.encode(prompt) for prompt in asked], chat.option_ids(LETTERS)])
    own = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "2", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", WAYS, asks], env=os.environ | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for way, rows in json.loads(done.stdout.splitlines()[-1]).items():
        np.testing.assert_allclose(rows, reference[None], atol=0.01, err_msg=way)


def test_an_engine_that_cannot_start_says_why(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "broken").mkdir()
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / "broken" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(RuntimeError, match="end of its log"):
        start(tmp_path / "broken", JUDGE)


def test_vectors_say_what_the_text_says_whatever_stands_beside_it_and_are_kept(tmp_path: Path) -> None:
    labels = ("Adds before multiplying", "Believes that a larger denominator makes a larger fraction", "Reads a clock")
    texts = [dense_label(text, Dense().template) for text in labels]
    store = Store(tmp_path / "all")
    vectors = KeptEncoder(Dense(), store).encode(texts, "label")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # a text's length may not matter to its neighbours, nor a chat template's last token stand for them all
    alone = np.vstack([KeptEncoder(Dense(), Store(tmp_path / str(i))).encode([text], "label") for i, text in enumerate(texts)])
    assert ((alone * vectors).sum(1) > 0.998).all()
    assert (vectors @ vectors.T - np.eye(3)).max() < 0.98
    np.testing.assert_array_equal(KeptEncoder(Dense(), store).encode(texts[2:0:-1], "label"), vectors[2:0:-1])
    assert (store.made, store.found) == (1, 1)


def test_the_packaged_sentence_transformers_model_loads_as_it_is_and_knows_meanings(tmp_path: Path) -> None:
    spec = Dense(weights="sentence-transformers/all-MiniLM-L6-v2", template="plain", max_tokens=256)
    texts = ["Adds before multiplying", "Does the addition before the multiplication", "Reads the minute hand as the hour"]
    vectors = KeptEncoder(spec, Store(tmp_path)).encode(texts, "label")
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > 0.7 > 0.3 > vectors[0] @ vectors[2]


def test_one_command_from_nothing_to_a_validated_submission(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache_folder() / "weights").mkdir(parents=True, exist_ok=True)
    (cache / "weights").symlink_to(cache_folder() / "weights")
    small = ["sample.train=24", "sample.test=4", "fit.judged=4", "blend.rounds=20", "blend.min_rows=5"]
    command = [sys.executable, "-m", "pipeline", "submit", *small]
    environment = os.environ | {"EEDI_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (folder,) = (tmp_path / "submissions").iterdir()
    settings = load(overrides=small)
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", settings.sample)
    queries = queries_of(load_data(tmp_path / "data", Data()).test)
    validate(folder / "submission.csv", queries, read_catalog(tmp_path / "data" / settings.data.catalog))
    stages = {row["stage"] for row in json.loads((folder / "scores.json").read_text())["test"]}
    assert {"lexical", "dense", "judge", "blend"} <= stages
    assert pl.read_parquet(folder / "runs" / "judge.parquet").height
