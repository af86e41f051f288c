"""The settings of the data, the stages and the blender."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline import prompts

QWEN = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
ADAPTER, SMALL, JUDGE = "bundles/encoder", "bundles/minilm", "bundles/judge"  # what we trained: on QWEN, on MINILM, on QWEN
WRITTEN = "bundles/written/questions.csv"  # what we wrote for each label
LOCAL = ("transformers", "tree")  # engines in this process, without vLLM
Dtype = Literal["auto", "bfloat16", "float16", "float32"]
# "one-word" for a language model; "short", the same in fewer tokens, for one that is trained; "plain" for a model that was
# trained to embed; "seed" for the published seed model
Template = Literal["one-word", "short", "plain", "seed"]


class Spec(BaseModel):
    """A block of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Data(Spec):
    """File names inside a data folder."""

    train: str = "train.csv"
    test: str = "test.csv"
    catalog: str = "misconception_mapping.csv"
    solution: str = "solution.csv"


class Sample(Spec):
    """The embedded competition's size."""

    train: int = Field(160, ge=1)
    test: int = Field(30, ge=1)
    seed: int = 0
    unseen: float = Field(0.6, ge=0, le=1)  # the share of the test's labels that training never shows


class Examples(Spec):
    """What a retriever knows of a label beside its name: questions that were written for it, and training answers."""

    examples: tuple[str, ...] = ()  # files in train.csv's layout; a label is then the mean of its examples …
    name_share: float = Field(0.35, ge=0)  # … and this much of its name
    nearest: float = Field(0.0, ge=0)  # how much its nearest written example's cosine counts beside that
    answers: float = Field(0.0, ge=0)  # how many examples a training answer is worth to its label; 0: none is told …
    kernel: float = Field(0.0, ge=0)  # … what one adds to its label that reads like the query itself …
    bandwidth: float = Field(0.05, gt=0)  # … and how far its cosine falls until that falls to 1/e
    handicap: float = Field(0.0, ge=0)  # what is taken off a label that has some, for those that have none


class Tfidf(Examples):
    """Words and word pairs, weighted by rarity among the labels, compared by cosine."""

    kind: Literal["tfidf"] = "tfidf"
    ngrams: int = Field(2, ge=1)
    top_k: int = Field(100, ge=25)


class Bm25(Spec):
    """Words, weighted by rarity and by the label's length."""

    kind: Literal["bm25"] = "bm25"
    k1: float = Field(1.5, ge=0)
    b: float = Field(0.75, ge=0, le=1)
    top_k: int = Field(100, ge=25)


class Dense(Examples):
    """A sentence-transformers bi-encoder."""

    kind: Literal["dense"] = "dense"
    weights: str = QWEN  # a folder, a hub's name, or "hashed" for the weightless stand-in
    adapter: str | None = None  # a PEFT folder that was trained on these weights
    # for a plain language model; a sentence-transformers folder has its own
    pooling: Literal["mean", "lasttoken"] = "lasttoken"
    attention: Literal["own", "bidirectional"] = "own"  # "bidirectional" for a decoder that was trained so
    template: Template = "one-word"
    instruction: str = ""  # what stands before every query, for models that were trained with one
    notes: str | None = None  # a CSV of MisconceptionId and Note, which is read behind the label's name
    workers: int = Field(0, ge=0)  # on a Ray cluster; 0: the model is in this process
    ray_args: dict[str, Any] = {}  # Ray's own for each worker, e.g. {num_gpus: 1}
    dtype: Dtype = "auto"
    batch_tokens: int = Field(4096, ge=16)  # computed at a time
    max_tokens: int = Field(512, ge=16)
    spread: bool = False  # the layers over all GPUs, where one cannot hold them
    top_k: int = Field(100, ge=25)


class Judge(Spec):
    """What the two kinds of reranker share."""

    engine: Literal["auto", "vllm", "server", "transformers", "tree", "ray", "hashed"] = "auto"  # on a GPU vllm, else tree
    weights: str = QWEN
    adapter: str | None = None  # a PEFT folder that was trained on these weights
    dtype: Dtype = "auto"
    max_tokens: int = Field(2048, ge=128)
    chunk: int = Field(64, ge=1)  # prompts scored, and stored, at a time, or as many as one question has
    prompt: str | None = None  # a template, or the file of one, as pipeline/templates/ has ours; null: ours
    shots: int = Field(0, ge=0)  # examples that stand behind a candidate's name, at most …
    examples: tuple[str, ...] = (WRITTEN,)  # … from these files in train.csv's layout
    # tokens of the model's own explanation of the wrong answer, written once, which every prompt then shows; 0: none
    reasoning: int = Field(0, ge=0)
    engine_args: dict[str, Any] = {}  # vLLM's own (EngineArgs), laid over ours
    # of the engine "server" alone
    url: str | None = Field(None, pattern=r"^https?://")  # of one that runs, e.g. http://host:8000/v1; null: we start one
    served: str | None = None  # the model's or the adapter's name there; null: as `weights` says
    timeout: float = Field(120, gt=0)  # seconds for one answer
    concurrent: int = Field(16, ge=1)  # requests at a time
    # of the engine "ray" alone
    worker: Literal["vllm", "transformers", "tree"] = "vllm"  # the engine that each worker runs
    workers: int = Field(2, ge=1)
    ray_args: dict[str, Any] = {}  # Ray's own for each worker, e.g. {num_gpus: 2}

    def on(self, gpu: bool) -> Self:
        """With the engine that reads the prompts in the end: a worker's where Ray has them, the machine's for "auto"."""
        engine = {"ray": self.worker, "auto": "vllm" if gpu else "tree"}.get(self.engine, self.engine)
        return self.model_copy(update={"engine": engine})

    @field_validator("prompt")
    @classmethod
    def _reads_the_template(cls, given: str | None) -> str | None:
        if given is None:
            return None
        try:
            text = given if "{" in given else Path(given).expanduser().read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{given}: {error}") from None
        return prompts.checked(text, cls.model_fields["kind"].default)

    @model_validator(mode="after")
    def _asks_engines_for_what_they_can(self) -> Self:
        if (self.url or self.served) and self.engine != "server":
            raise ValueError("url and served are settings of engine=server")
        if self.served and not self.url:
            raise ValueError("served names a model at a url; a server that we start names its own")
        if self.reasoning and (self.engine not in ("auto", "vllm", *LOCAL) or (self.adapter and self.engine != "vllm")):
            raise ValueError("reasoning is written by engine=vllm, or by transformers and tree without an adapter")
        if self.reasoning >= self.max_tokens // 2:
            raise ValueError("reasoning: less than half of max_tokens, which the question needs")
        if self.reasoning and self.prompt and f"{{{prompts.REASONING}}}" not in self.prompt:
            raise ValueError("reasoning: the prompt lacks {reasoning}")
        if self.url and (self.adapter or self.engine_args):
            raise ValueError("the server at url has its own engine_args and adapter: set adapter=null, and name its by served")
        return self


class Listwise(Judge):
    """Prompts show the best `depth` candidates with letters; the letters' log-probabilities are their scores."""

    kind: Literal["listwise"] = "listwise"
    depth: int = Field(10, ge=2)
    window: int = Field(25, ge=5, le=26)  # candidates a prompt
    stride: int | None = Field(None, ge=1)  # from one window's first to the next one's; null: windows do not overlap
    none: bool = False  # the last letter is "none of these", and a candidate's score is how much likelier it is than that
    orders: int = Field(1, ge=1)  # 2: also reversed; more: also shuffled; and the mean of all
    seed: int = 0

    @model_validator(mode="after")
    def _compares_windows(self) -> Self:
        if self.none and self.window > 25:
            raise ValueError("window: 25 candidates at the most leave a letter for none")
        if self.depth > self.window and not self.none:
            raise ValueError(f"depth {self.depth} is several windows of {self.window}, which only none=true makes comparable")
        if (self.stride or 0) > self.window:
            raise ValueError("stride: more than window would leave candidates out")
        return self


class Pointwise(Judge):
    """One prompt a candidate asks whether it explains the answer; the score is log P(Yes) - log P(No)."""

    kind: Literal["pointwise"] = "pointwise"
    depth: int = Field(10, ge=1)
    prior: float = Field(0.0, ge=0)  # how much of the logarithm of its rank in the pool is taken off that


class Fit(Spec):
    """How much of train.csv the blender learns from, and how honestly."""

    questions: int | None = Field(None, ge=2)  # drawn by seed; null for all
    judged: int | None = Field(20, ge=0)  # of those, how many the judge scores; null for all
    folds: int = Field(5, ge=2)
    unseen: float = Field(0.65, ge=0, le=1)  # the share of unseen labels that the folds are brought to
    seed: int = 0


class Neighbours(Spec):
    """The training answers most like a query, whose labels are features."""

    by: tuple[str, ...] | None = None  # retrievers of kind tfidf or dense, by whose likeness; null: all of them
    k: int = Field(50, ge=1)


class Blend(Spec):
    """LightGBM over the features."""

    objective: Literal["lambdarank", "binary"] = "lambdarank"
    without: tuple[Literal["scores", "agreement", "siblings", "neighbours", "labels", "texts"], ...] = ()  # features left out
    # the share of the test's answers whose label training never shows: as in the folds (fit.unseen), read off the test, or
    # given; null leaves the booster's order as it is
    unseen: Literal["estimate", "folds"] | Annotated[float, Field(ge=0, le=1)] | None = "folds"
    rounds: int = Field(150, ge=1)
    learning_rate: float = Field(0.05, gt=0)
    leaves: int = Field(8, ge=2)
    min_rows: int = Field(40, ge=1)  # in a leaf
    seed: int = 0
