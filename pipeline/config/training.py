"""The settings of `eedi train`."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pipeline.config.stages import Spec


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
    """InfoNCE: an answer's label against the catalogue, or the batch's labels; by examples, where the retriever has some."""

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
    by: tuple[str, ...] = Field(("lexical",), min_length=1)  # … and the retrievers of the answers that none of them holds
    negatives: int = Field(7, ge=1)  # wrong candidates an answer, drawn once by `seed`, the better ones sooner
    none: float = Field(0.25, ge=0)  # the weight of the same list without its right label, to be answered "none of these"
    binary: float = Field(0.25, ge=0)  # the weight of each candidate by itself, so that a margin's sign means something
    teachers: tuple[str, ...] = ()  # stored runs of a larger judge, whose odds of the candidates shown are learnt too …
    distil: float = Field(1, ge=0)  # … with this weight
    order: Literal["shuffled", "hard"] = "shuffled"  # hard: first the lists whose right label stands deepest, within the depth


class Train(Spec):
    """How `eedi train` trains."""

    encoder: Annotated[Contrastive | Seed | SeedMended, Field(discriminator="kind")] = Contrastive()
    judge: YesNo = YesNo()
