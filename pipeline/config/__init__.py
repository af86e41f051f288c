"""Every setting with its default. YAML files and dotted overrides are sparse; unknown keys are refused.

A stage is swapped by its `kind`, and ablated by setting its block to null.
"""

from pipeline.config.reading import dump, load, merge, resolved
from pipeline.config.stages import (
    ADAPTER,
    LOCAL,
    WRITTEN,
    Blend,
    Bm25,
    Data,
    Dense,
    Examples,
    Fit,
    Judge,
    Listwise,
    Pointwise,
    Sample,
    Spec,
    Tfidf,
)
from pipeline.config.training import Contrastive, Lora, Seed, SeedMended, Training, YesNo
from pipeline.config.tree import Config

__all__ = [
    "ADAPTER",
    "LOCAL",
    "WRITTEN",
    "Blend",
    "Bm25",
    "Config",
    "Contrastive",
    "Data",
    "Dense",
    "Examples",
    "Fit",
    "Judge",
    "Listwise",
    "Lora",
    "Pointwise",
    "Sample",
    "Seed",
    "SeedMended",
    "Spec",
    "Tfidf",
    "Training",
    "YesNo",
    "dump",
    "load",
    "merge",
    "resolved",
]
