"""All settings together."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, model_validator

from pipeline.config.stages import (
    ADAPTER,
    JUDGE,
    MINILM,
    SMALL,
    WRITTEN,
    Blend,
    Bm25,
    Data,
    Dense,
    Fit,
    Listwise,
    Neighbours,
    Pointwise,
    Sample,
    Spec,
    Tfidf,
)
from pipeline.config.training import Train

# what examples and training answers are worth to every retriever; bandwidth and handicap hang on how its cosines are spread
TOLD: dict[str, Any] = {"nearest": 0.5, "answers": 1, "kernel": 1.5}
RESERVED = ("pool", "best", "worst", "blend")  # they name features and stages of their own


class Config(Spec):
    """One run's settings."""

    name: str = Field("eedi", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    data: Data = Data()
    sample: Sample = Sample()
    retrieve: dict[str, Annotated[Bm25 | Tfidf | Dense, Field(discriminator="kind")]] = {
        "lexical": Tfidf(examples=(WRITTEN,), **TOLD, bandwidth=0.2, handicap=0.16),
        "minilm": Dense(
            weights=MINILM,
            adapter=SMALL,
            template="plain",
            max_tokens=256,
            examples=(WRITTEN,),
            **TOLD,
            bandwidth=0.04,
            handicap=0.1,
        ),
        "dense": Dense(adapter=ADAPTER, template="short", examples=(WRITTEN,), **TOLD, bandwidth=0.03, handicap=0.08),
    }
    rrf_k: int = Field(10, ge=1)  # the smaller, the more the first ranks count; 60 in the paper
    pool: int = Field(100, ge=25)  # candidates a query that reach the later stages
    rerank: dict[str, Annotated[Listwise | Pointwise, Field(discriminator="kind")]] = {
        "judge": Pointwise(depth=15, prior=3, adapter=JUDGE)
    }
    neighbours: Neighbours | None = Neighbours()
    blend: Blend | None = Blend()  # null: reciprocal rank fusion of all stages
    fit: Fit = Fit()
    train: Train = Train()

    @property
    def stages(self) -> dict[str, Bm25 | Tfidf | Dense | Listwise | Pointwise]:
        """The retrievers and the judges by their names."""
        return {**self.retrieve, **self.rerank}

    @model_validator(mode="after")
    def _has_stages_with_names_of_their_own(self) -> Config:
        if not self.retrieve:
            raise ValueError("retrieve needs one retriever at least")
        for name in (self.neighbours and self.neighbours.by) or ():
            if not isinstance(self.retrieve.get(name), Tfidf | Dense):
                raise ValueError(f"neighbours.by={name}: not a retriever of kind tfidf or dense")
        for name in self.stages:
            if not re.fullmatch(r"[A-Za-z]\w*", name) or name in RESERVED or (name in self.retrieve and name in self.rerank):
                raise ValueError(
                    f"{name!r} cannot name a stage: letters, digits and _, not one of {RESERVED}, not the same in both rooms"
                )
        return self
