"""What several test files need: a tiny competition in Kaggle's layout, the command as a process of its own, tiny weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

from pipeline.config import Sample
from pipeline.data import COLUMNS, LABEL_COLUMNS
from pipeline.sample.competition import write

REPOSITORY = Path(__file__).resolve().parent.parent
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}
# the tiny weights are drawn wider than a real model's (0.02), so that texts that differ have vectors that differ
WIDE = {"decoder": 0.2, "encoder": 0.5}


@pytest.fixture
def kaggle(tmp_path: Path) -> Path:
    """A folder in Kaggle's layout: 24 training questions, 4 for the test, and the whole catalogue."""
    folder = tmp_path / "kaggle"
    folder.mkdir()
    write(folder, Sample(train=24, test=4))
    return folder


@pytest.fixture
def examples_file(tmp_path: Path) -> Callable[..., Path]:
    """A file with a question for each label given, whose answer A is right and B has the label."""

    def file(*labels: int, text: str = "What is {}?") -> Path:
        rows = [
            {column: "" for column in (*COLUMNS.values(), *LABEL_COLUMNS.values())}
            | {"QuestionId": str(n), "CorrectAnswer": "A", "QuestionText": text.format(label), "AnswerBText": f"b{label}"}
            | {LABEL_COLUMNS["B"]: str(label)}
            for n, label in enumerate(labels)
        ]
        path = tmp_path / "examples.csv"
        pl.DataFrame(rows).write_csv(path)
        return path

    return file


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Nothing is kept from, or for, another module; no model stays loaded."""
    from pipeline.models import memory

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EEDI_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    memory.release()


@pytest.fixture
def eedi(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command, run in `tmp_path` with a cache there and no hub to ask. `environment` is laid over the usual
    one, and `start` is called in the new process before the command."""

    def call(
        *arguments: object, start: Callable[[], None] | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        own = {"EEDI_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(REPOSITORY), "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [sys.executable, "-m", "pipeline", *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | own | environment,
            preexec_fn=start,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return call


@pytest.fixture
def hashed() -> tuple[str, ...]:
    """Arguments for a whole run without weights, in seconds."""
    settings = str(REPOSITORY / "configs" / "hashed.yaml")
    return ("--config", settings, "fit.folds=2", "blend.rounds=5", "blend.min_rows=5")


@pytest.fixture
def wheel() -> Callable[..., Path]:
    """Writes a wheel of some members that pip takes; its path says the package's name and version."""

    def write(path: Path, members: dict[str, bytes], *requires: str) -> Path:
        name, version, *_ = *path.stem.split("-"), "1"
        needs = "".join(f"Requires-Dist: {each}\n" for each in requires)
        told = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
            "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
            for file, text in told.items():
                archive.writestr(f"{name}-{version}.dist-info/{file}", text)
        return path

    return write


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain Qwen2 of four layers, as the hub has it; its tokens are bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    folder, end = tmp_path_factory.mktemp("tiny") / "qwen", "<|endoftext|>"
    vocabulary = {sign: i for i, sign in enumerate([*sorted(pre_tokenizers.ByteLevel.alphabet()), end])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=end, pad_token=end).save_pretrained(folder)
    config = Qwen2Config(
        vocab_size=len(vocabulary),
        num_hidden_layers=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        initializer_range=WIDE["decoder"],
        **TINY,
    )
    torch.manual_seed(0)
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_chat(tiny_qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a chat template, as a judge wants it."""
    folder = tmp_path_factory.mktemp("tiny") / "chat"
    shutil.copytree(tiny_qwen, folder)
    template = "{% for turn in messages %}{{ turn['content'] }}\n{% endfor %}{% if add_generation_prompt %}Answer: {% endif %}"
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_judge(tiny_chat: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with Yes and No as tokens, as a pointwise judge wants it."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    folder = tmp_path_factory.mktemp("tiny") / "judge"
    shutil.copytree(tiny_chat, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["Yes", "No"])
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    Qwen2ForCausalLM(Qwen2Config.from_pretrained(folder, vocab_size=len(tokenizer))).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: a BERT of two layers with mean pooling; its tokens are bytes."""
    return sentence_transformer("Bert", "mean", tmp_path_factory.mktemp("tiny"), max_position_embeddings=512)


@pytest.fixture(scope="session")
def tiny_roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: a RoBERTa of two layers, whose positions begin at 2, with CLS pooling and a norm."""
    return sentence_transformer("Roberta", "cls", tmp_path_factory.mktemp("tiny"), max_position_embeddings=514)


@pytest.fixture(scope="session")
def tiny_family() -> Callable[..., Path]:
    """`sentence_transformer`, for families that one test needs."""
    return sentence_transformer


def sentence_transformer(family: str, pooling: str, where: Path, **shape: object) -> Path:
    """`where`/model: two layers of one of transformers' encoders, and a tokenizer of bytes between a CLS and a SEP."""
    import torch
    import transformers
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = {"cls_token": "[CLS]", "pad_token": "[PAD]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    signs = [*special.values(), *sorted(pre_tokenizers.ByteLevel.alphabet())]  # the padding is 1, as RoBERTa has it
    tokenizer = Tokenizer(models.BPE(vocab={sign: i for i, sign in enumerate(signs)}, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 2)])
    plain = where / "plain"
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(plain)
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(signs), num_hidden_layers=2, pad_token_id=1, initializer_range=WIDE["encoder"], **TINY, **shape
    )
    torch.manual_seed(0)
    getattr(transformers, f"{family}Model")(config).save_pretrained(plain)
    modules = [body := Transformer(str(plain)), Pooling(body.get_embedding_dimension(), pooling)]
    model = SentenceTransformer(modules=[*modules, Normalize()] if pooling == "cls" else modules, device="cpu")
    model.save_pretrained(str(where / "model"), create_model_card=False)
    return where / "model"
