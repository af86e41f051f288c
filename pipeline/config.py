"""Every setting with its default. YAML files and dotted overrides are sparse; unknown keys are refused.

A stage is swapped by its `kind`, and ablated by setting its block to null.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import InputError

QWEN = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
ADAPTER = "bundles/encoder"  # what we trained on Qwen's weights
WRITTEN = "bundles/written/questions.csv"  # what we wrote for each label
RESERVED = ("pool", "best", "worst", "blend")  # they name features and stages of their own
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
    """What a retriever knows of a label beside its name: questions that were written for it."""

    examples: tuple[str, ...] = ()  # files in train.csv's layout; a label is then the mean of its examples …
    name_share: float = Field(0.35, ge=0)  # … and this much of its name


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
    dtype: Dtype = "auto"
    batch_tokens: int = Field(4096, ge=16)  # computed at a time
    max_tokens: int = Field(512, ge=16)
    spread: bool = False  # the layers over all GPUs, where one cannot hold them
    top_k: int = Field(100, ge=25)


class Judge(Spec):
    """What the two kinds of reranker share."""

    engine: Literal["vllm", "server", "transformers", "hashed"] = "vllm"
    weights: str = QWEN
    adapter: str | None = None  # a PEFT folder that was trained on these weights
    dtype: Dtype = "auto"
    max_tokens: int = Field(2048, ge=128)
    chunk: int = Field(64, ge=1)  # prompts scored, and stored, at a time
    engine_args: dict[str, Any] = {}  # vLLM's own (EngineArgs), laid over ours
    # of the engine "server" alone
    url: str | None = Field(None, pattern=r"^https?://")  # of one that runs, e.g. http://host:8000/v1; null: we start one
    served: str | None = None  # the model's or the adapter's name there; null: as `weights` says
    timeout: float = Field(120, gt=0)  # seconds for one answer
    concurrent: int = Field(16, ge=1)  # requests at a time

    @model_validator(mode="after")
    def _asks_no_running_server_to_start_otherwise(self) -> Self:
        if (self.url or self.served) and self.engine != "server":
            raise ValueError("url and served are settings of engine=server")
        if self.served and not self.url:
            raise ValueError("served names a model at a url; a server that we start names its own")
        if self.url and (self.adapter or self.engine_args):
            raise ValueError("the server at url was started with its own adapter and engine_args; name its adapter by served")
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


class Fit(Spec):
    """How much of train.csv the blender learns from, and how honestly."""

    questions: int | None = Field(None, ge=2)  # drawn by seed; null for all
    judged: int | None = Field(20, ge=0)  # of those, how many the judge scores; null for all
    folds: int = Field(5, ge=2)
    unseen: float = Field(0.65, ge=0, le=1)  # the share of unseen labels that the folds are brought to
    seed: int = 0


class Neighbours(Spec):
    """The training answers most like a query, whose labels are features."""

    by: tuple[str, ...] | None = None  # retrievers of kind tfidf or dense, by whose likeness; null: all of kind tfidf
    k: int = Field(50, ge=1)


class Blend(Spec):
    """LightGBM over the features."""

    objective: Literal["lambdarank", "binary"] = "lambdarank"
    without: tuple[Literal["scores", "agreement", "siblings", "neighbours", "labels", "texts"], ...] = ()  # features left out
    # the share of answers whose label training never shows: read off the test, as in the folds (fit.unseen), or given
    unseen: Literal["estimate", "folds"] | Annotated[float, Field(ge=0, le=1)] = "folds"
    rounds: int = Field(150, ge=1)
    learning_rate: float = Field(0.05, gt=0)
    leaves: int = Field(8, ge=2)
    min_rows: int = Field(40, ge=1)  # in a leaf
    seed: int = 0


class Lora(Spec):
    """Low-rank updates of every linear layer that is not frozen."""

    rank: int = Field(32, ge=1)
    alpha: float = Field(64, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)


class Training(Spec):
    """What all recipes share; the bi-encoder's defaults."""

    room: ClassVar[str] = "train.encoder"  # where in the settings it stands
    stage: str = "dense"  # the retriever whose weights, texts and pooling are trained
    epochs: float = Field(1, gt=0)
    batch: int = Field(24, ge=1)  # questions a step and device
    accumulate: int = Field(1, ge=1)  # steps an update
    learning_rate: float = Field(3e-4, gt=0)
    warmup: float = Field(0.05, ge=0, lt=1)  # the share of all updates until the rate is reached; then it falls to 0
    weight_decay: float = Field(0.01, ge=0)
    lora: Lora | None = Lora()  # null: all weights
    start: str | None = None  # an adapter to go on from, of the same weights, rank and layers
    frozen: int = Field(16, ge=0)  # lower layers that do not learn; their states are made once and kept
    checkpointing: bool = False  # less memory, more time
    written: tuple[str, ...] = ()  # files of further questions, written for training, in train.csv's layout
    repeat: int = Field(1, ge=0)  # how often the competition's own questions stand in an epoch; 0: it learns none of them
    checkpoint_minutes: float = Field(5, gt=0)
    report_to: tuple[str, ...] = ()  # trackers, by transformers' names
    seed: int = 0


class Contrastive(Training):
    """InfoNCE: an answer's label against the catalogue, or against the batch's labels."""

    kind: Literal["contrastive"] = "contrastive"
    temperature: float = Field(0.03, gt=0)
    negatives: Literal["catalog", "batch"] = "catalog"
    refresh: int = Field(100, ge=1)  # steps after which all labels are computed anew
    hard: int = Field(2, ge=0)  # nearest wrong labels an answer that are computed anew
    mined: str | None = None  # a stored out-of-fold run whose best wrong labels are computed anew too
    mined_each: int = Field(2, ge=1)  # of them, an answer


class Seed(Training):
    """The published seed model's recipe: reconstruct the label with a denoising auto-encoder, one epoch."""

    kind: Literal["seed"] = "seed"
    batch: int = Field(8, ge=1)  # answers
    learning_rate: float = Field(5e-5, gt=0)
    warmup: float = Field(0.0, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0)
    lora: Lora | None = None
    start: None = None
    frozen: int = Field(0, ge=0, le=0)
    seed: int = 42


class SeedMended(Seed):
    """The seed's idea with a gradient: the embedding is the decoder's soft prefix."""

    kind: Literal["seed-mended"] = "seed-mended"  # type: ignore[assignment]


class YesNo(Training):
    """A pointwise judge: a query's right label among wrong candidates, by the margins of Yes over No."""

    room: ClassVar[str] = "train.judge"
    kind: Literal["pointwise"] = "pointwise"
    stage: str = "judge"  # the pointwise judge whose weights and tokens are trained; its depth is how deep candidates reach
    batch: int = Field(12, ge=1)  # answers a step and device: about 3,000 tokens, their lists as trees
    learning_rate: float = Field(2e-4, gt=0)
    lora: Lora = Lora(rank=16, alpha=32)
    runs: tuple[str, ...] = ()  # stored out-of-fold runs, whose candidates are shown …
    by: str = "lexical"  # … and the retriever, of words alone, of the answers that none of them holds
    negatives: int = Field(7, ge=1)  # wrong candidates an answer, drawn once by `seed`, the better ones sooner
    none: float = Field(0.25, ge=0)  # the weight of the same list without its right label, to be answered "none of these"
    binary: float = Field(0.25, ge=0)  # the weight of each candidate by itself, so that a margin's sign means something


class Train(Spec):
    """How `eedi train` trains."""

    encoder: Annotated[Contrastive | Seed | SeedMended, Field(discriminator="kind")] = Contrastive()
    judge: YesNo = YesNo()


class Config(Spec):
    """One run's settings."""

    name: str = Field("eedi", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: Data = Data()
    sample: Sample = Sample()
    retrieve: dict[str, Annotated[Bm25 | Tfidf | Dense, Field(discriminator="kind")]] = {
        "lexical": Tfidf(examples=(WRITTEN,)),
        "minilm": Dense(weights=MINILM, template="plain", max_tokens=256, examples=(WRITTEN,)),
        "dense": Dense(adapter=ADAPTER, template="short"),
    }
    rrf_k: int = Field(60, ge=1)
    pool: int = Field(50, ge=25)  # candidates a query that reach the later stages
    rerank: dict[str, Annotated[Listwise | Pointwise, Field(discriminator="kind")]] = {"judge": Listwise()}
    neighbours: Neighbours | None = Neighbours()
    blend: Blend | None = Blend()  # null: reciprocal rank fusion of all stages
    fit: Fit = Fit()
    train: Train = Train()

    @model_validator(mode="after")
    def _has_stages_with_names_of_their_own(self) -> Config:
        if not self.retrieve:
            raise ValueError("retrieve needs one retriever at least")
        for name in (self.neighbours and self.neighbours.by) or ():
            if not isinstance(self.retrieve.get(name), Tfidf | Dense):
                raise ValueError(f"neighbours.by={name}: not a retriever of kind tfidf or dense")
        for name in (*self.retrieve, *self.rerank):
            if not re.fullmatch(r"[A-Za-z]\w*", name) or name in RESERVED or (name in self.retrieve and name in self.rerank):
                raise ValueError(
                    f"{name!r} cannot name a stage: letters, digits and _, not one of {RESERVED}, not the same in both rooms"
                )
        return self


def merge(under: Any, over: Any) -> Any:
    """`over` laid on `under`: mappings key by key, null deletes a stage, a block of another kind replaces the old one."""
    if not (isinstance(under, Mapping) and isinstance(over, Mapping)):
        return over
    if over.get("kind", under.get("kind")) != under.get("kind"):
        return dict(over)
    return {**under, **{key: merge(under.get(key), value) for key, value in over.items()}}


def load(path: Path | None = None, overrides: Sequence[str] = (), under: Config | None = None) -> Config:
    """`under` (the defaults), then the YAML file, then `key.sub=value` overrides (values read as YAML).

    Raises `InputError` for a file that is not there or not YAML, and for a key or value that no setting has.
    """
    settings: Any = (under or Config()).model_dump()
    where = str(path) if path else "the settings"
    if path:
        settings = merge(settings, _read(path))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(
                f"override {override!r}",
                found="no key=value",
                wanted="e.g. retrieve.dense.top_k=50",
                remedy="Write it so.",
            )
        value: Any = _yaml(text, f"override {override!r}")
        for part in reversed(key.split(".")):
            value = {part: value}
        settings = merge(settings, value)
        where = f"{where} with {override}"
    for room in ("retrieve", "rerank"):
        if isinstance(settings.get(room), dict):
            settings[room] = {name: block for name, block in settings[room].items() if block is not None}
    return resolved(settings, where)


def resolved(settings: Any, where: str) -> Config:
    """Complete settings, checked; `where` names them in the error."""
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        faults = []
        for one in error.errors():
            # where there are kinds, the third part of the place is one, which nobody wrote there
            kinds = one["loc"][:1] in (("retrieve",), ("rerank",)) or one["loc"][:2] == ("train", "encoder")
            place = [str(part) for i, part in enumerate(one["loc"]) if i != 2 or not kinds]
            unknown = one["type"] == "extra_forbidden"
            value = f"={one['input']!r}" if isinstance(one["input"], str | int | float) and not unknown else ""
            fault = "no such setting" if unknown else one["msg"]
            faults.append(f"{'.'.join(place)}{value}: {fault}".removeprefix(": "))
        raise InputError(
            where,
            found="; ".join(faults),
            wanted="the settings of pipeline/config.py",
            remedy="Correct or remove the keys that are named.",
        ) from None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, found=str(error), wanted="a YAML file", remedy="Check --config.") from None
    settings = _yaml(text, str(path)) or {}
    if not isinstance(settings, Mapping):
        raise InputError(
            path, found=type(settings).__name__, wanted="keys and values", remedy="See configs/minilm.yaml for one."
        )
    return settings


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(where, found=str(error).replace("\n", " "), wanted="YAML", remedy="Correct the syntax.") from None


def dump(config: Config) -> str:
    """The resolved settings as YAML, complete: `resolved` takes them back as they are."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)
