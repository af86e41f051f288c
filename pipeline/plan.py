"""What a test would cost on some machine, worked out from the models' shapes and the texts that they are given to read.

Nothing is loaded. It knows linear layers and attention, not kernels: what a machine makes of its peak is a share that is
stated in the table, so seconds are good for a choice between configs and to a factor of two.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

from pipeline import prompts
from pipeline.config import LOCAL, Config, Dense, Listwise, Pointwise
from pipeline.data import Competition, queries_of
from pipeline.errors import InputError
from pipeline.models import sources
from pipeline.models.encoder import Kind
from pipeline.models.judge import Reader
from pipeline.models.shape import shape
from pipeline.models.tree import shared
from pipeline.models.vectors import beside
from pipeline.rerank import score
from pipeline.retrieve.dense import label_texts, query_texts
from pipeline.runs import run
from pipeline.scoring import examples_of, shown_to

GIB = 2**30
HIDDEN = 685  # questions of the hidden test, about
DRAWN = 200  # questions whose texts are measured
CHARACTERS = 3.5  # a token: Qwen2.5 on the competition's questions; its labels have 4.5
CONTEXT = 0.6 * GIB  # what CUDA, cuBLAS and NCCL take of a GPU before anything is loaded
READ = 200e6  # bytes a second from a Kaggle input: assumed
START = 60  # seconds until an engine has imported, profiled and warmed up: assumed
BATCHED = {"vllm": 8192, "server": 8192, "transformers": 4096, "tree": 4096}  # tokens at a time
SEQUENCES = 256  # whose logits vLLM computes at a time
CPU_CACHE = 2 * GIB  # VLLM_CPU_KVCACHE_SPACE, as we start it
WIDTHS = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Machine:
    """`memory` is a device's, `rates` its operations a second by number format, the first one being what "auto" means there.

    `share` is how much of that a whole forward pass gets.
    """

    name: str
    devices: int
    memory: float
    rates: Mapping[str, float]
    share: float
    gpu: bool = True


# Memory as torch sees it. Rates are dense ones of NVIDIA's data sheets for T4, L4 and H100 SXM. The shares are assumed: a T4 is
# held back by its 70 W and by the bus between two of them, and the fastest kernels do not run on it.
MACHINES = (
    Machine("T4x2", 2, 14.7 * GIB, {"float16": 65e12, "float32": 8.1e12}, 0.25),
    Machine("L4x4", 4, 22.0 * GIB, {"bfloat16": 121e12, "float16": 121e12, "float32": 30.3e12}, 0.35),
    Machine("H100", 1, 79.0 * GIB, {"bfloat16": 989e12, "float16": 989e12, "float32": 67e12}, 0.4),
)
HERE = "here"


def here() -> Machine:
    """This machine, a matrix product measured now."""
    import torch

    from pipeline.bench import peak
    from pipeline.models.device import best_dtype, device

    rates = {dtype: peak(dtype) for dtype in dict.fromkeys((best_dtype(), "float32"))}
    if device() == "cuda":
        return Machine(HERE, torch.cuda.device_count(), torch.cuda.get_device_properties(0).total_memory, rates, 0.35)
    return Machine(HERE, 1, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), rates, 0.5, gpu=False)


@dataclass(frozen=True)
class Reading:
    """What a stage is given: texts, their tokens, and how many of these are computed where beginnings are shared."""

    texts: float
    tokens: float
    computed: float

    @classmethod
    def of(cls, texts: Sequence[str], shares: bool, times: float = 1) -> Reading:
        """The reading of `texts`, so many times over."""
        whole = sum(map(len, texts))
        part = sum(len(text) - shared(text, before) for before, text in pairwise(("", *texts))) if shares else whole
        return cls(*(times * each for each in (len(texts), whole / CHARACTERS, part / CHARACTERS)))

    def __add__(self, other: Reading) -> Reading:
        return Reading(self.texts + other.texts, self.tokens + other.tokens, self.computed + other.computed)


@dataclass(frozen=True)
class Need:
    """What a stage wants of a machine: bytes a device, of which there is `room`, and seconds."""

    stage: str
    parts: int  # devices that its weights are laid on
    weights: float
    cache: float  # keys and values of the longest prompt; what is left of the room holds more of them
    memory: float  # with the weights, the cache and all else
    room: float
    reading: Reading
    seconds: float


Model = Dense | Listwise | Pointwise


def models(config: Config, gpu: bool) -> dict[str, Model]:
    """The stages that hold weights, judges with the engine that they have on a machine with or without a GPU."""
    return {
        name: spec if isinstance(spec, Dense) else spec.on(gpu)
        for name, spec in config.stages.items()
        if isinstance(spec, Model) and spec.weights != sources.HASHED
    }


def readings(config: Config, competition: Competition, questions: int) -> dict[str, Reading]:
    """What each stage of `models` reads for a test of so many questions, by the competition's own texts.

    A judge's prompts are made as it would make them, over labels that are drawn: only how long they are is asked.
    """
    known = [competition.test] if competition.train is None else [competition.test, competition.train]
    drawn = pl.concat(known).head(DRAWN)
    queries, catalog, times = queries_of(drawn), competition.catalog, questions / drawn.height
    found = {}
    for name, spec in models(config, gpu=True).items():  # whichever engine "auto" is, it shares beginnings
        if isinstance(spec, Dense):
            shares = spec.attention == "own" and shape(spec.weights).gated  # packed.py: under causal attention alone
            told = query_texts(examples_of(competition, spec), spec)
            once = [*_unread(spec, "label", label_texts(catalog, spec)), *_unread(spec, "query", told)]
            found[name] = Reading.of(once, shares) + Reading.of(query_texts(queries, spec), shares, times)
        else:
            shares = spec.engine != "transformers" and spec.engine_args.get("enable_prefix_caching", True)
            found[name] = Reading.of(_prompts(queries, shown_to(competition, spec), spec), shares, times)
    return found


def _unread(spec: Dense, kind: Kind, texts: Sequence[str]) -> list[str]:
    """Those of the texts whose vectors do not lie beside the adapter."""
    adapter = sources.here(spec.adapter) if spec.adapter else None
    known = set(beside(adapter[1], spec, kind, texts)[0]) if adapter else set()
    return [text for place, text in enumerate(texts) if place not in known]


def _prompts(queries: pl.DataFrame, catalog: pl.DataFrame, spec: Listwise | Pointwise) -> list[str]:
    labels = catalog.sample(min(spec.depth, catalog.height), seed=0)
    pool = run(queries.join(labels, how="cross").with_columns(score=0.0))
    reader = Reader()
    score(queries, catalog, pool, reader, spec)
    return [f"{prompts.JUDGE_SYSTEM}\n{each}" for asked, _ in reader.asked for each in asked]


def need(name: str, spec: Model, reading: Reading, machine: Machine) -> Need:
    """What a stage wants of a machine. Raises `InputError` where it cannot be started there at all."""
    dtype = next(iter(machine.rates)) if spec.dtype == "auto" else spec.dtype
    if dtype not in machine.rates:
        raise _fault(name, machine, dtype, f"one of {', '.join(machine.rates)}", "Set dtype=auto.")
    width, room = WIDTHS[dtype], machine.memory
    if isinstance(spec, Dense):
        form, parts, at_once, cache, start = shape(spec.weights), machine.devices if spec.spread else 1, 1, 0.0, 0
        others = form.activations(spec.batch_tokens, width, 1)
    else:
        form, own = shape(spec.weights, spec.engine_args), spec.engine_args
        served = spec.engine not in LOCAL
        parts = at_once = own.get("tensor_parallel_size", 1) if served else 1
        tokens = own.get("max_num_batched_tokens", BATCHED[spec.engine])
        cache = form.cache(width) * (spec.max_tokens if served else tokens) / parts
        others = form.activations(tokens, width, parts) + (2 * SEQUENCES * form.vocabulary * 4 if served else 0)
        start = START if served else 0
        if served and machine.gpu:
            room *= own.get("gpu_memory_utilization", 0.9)
        elif served:
            cache = max(cache, CPU_CACHE)
    if parts > machine.devices:
        raise _fault(name, machine, f"tensor_parallel_size={parts}", f"{machine.devices} at most", "Lower it.")
    weights = form.weights(width, head=not isinstance(spec, Dense)) / parts
    memory = weights + cache + others + (CONTEXT if machine.gpu else 0)
    busy = form.operations(reading.computed, reading.tokens / reading.texts) / (at_once * machine.rates[dtype] * machine.share)
    return Need(name, parts, weights, cache, memory, room, reading, busy + weights * parts / READ + start)


def misfit(found: Sequence[Need], config: Config, machine: Machine, hours: float) -> InputError | None:
    """What says what to lower, where a stage's memory, all stages' on a processor (where models stay side by side), or all
    stages' time is more than there is."""
    for each in found:
        if each.memory > each.room:
            return _too_large(each, models(config, machine.gpu)[each.stage], machine)
    if not machine.gpu and (total := sum(each.memory for each in found)) > machine.memory:
        return _fault("all stages", machine, _gib(total), f"{_gib(machine.memory)} at most", "Take smaller weights.")
    if (seconds := sum(each.seconds for each in found)) <= 3600 * hours:
        return None
    slowest = max(found, key=lambda each: each.seconds)
    told = f"{seconds / 3600:.1f} hours, {slowest.seconds / 3600:.1f} of them for {slowest.stage}"
    lower = "take smaller weights" if slowest.stage in config.retrieve else "lower its depth or its orders"
    return _fault("all stages", machine, told, f"{hours:g} hours at most", f"For {slowest.stage}, {lower}.")


def _too_large(each: Need, spec: Model, machine: Machine) -> InputError:
    several = f"{machine.devices} devices"
    if isinstance(spec, Dense):
        more = f"set spread=true for {several}, " if machine.devices > 1 and not spec.spread else ""
        lower = f"Lower batch_tokens, {more}or take smaller weights."
    elif each.weights + CONTEXT > each.room:
        more = f"raise tensor_parallel_size to {several}, " if spec.engine == "vllm" and each.parts < machine.devices else ""
        lower = f"Take weights of 4 bits (-AWQ), {more}or smaller ones."
    else:
        lower = "Lower max_tokens, or max_num_batched_tokens in engine_args."
    told = (
        f"{_gib(each.memory)} a device: weights {_gib(each.weights)}, keys and values {_gib(each.cache)}, and what it computes"
    )
    return _fault(each.stage, machine, told, f"{_gib(each.room)} at most", lower)


def _gib(count: float) -> str:
    return f"{count / GIB:.1f} GiB"


def _fault(stage: str, machine: Machine, found: str, wanted: str, remedy: str) -> InputError:
    return InputError(f"{stage} on {machine.name}", found=found, wanted=wanted, remedy=remedy)


def estimate(
    config: Config, read: Mapping[str, Reading], machine: Machine, hours: float
) -> tuple[list[dict[str, str]], InputError | None]:
    """A row a stage of what it wants of a machine, and why the machine is refused, if it is."""
    try:
        found = [need(name, spec, read[name], machine) for name, spec in models(config, machine.gpu).items()]
    except InputError as fault:
        return [], fault
    rows = [
        {
            "machine": machine.name,
            "stage": each.stage,
            "weights": _gib(each.weights),
            "keys and values": _gib(each.cache),
            "a device": f"{_gib(each.memory)} of {_gib(each.room)}",
            "tokens computed": f"{each.reading.computed / 1e6:.2f} M of {each.reading.tokens / 1e6:.2f} M",
            "minutes": f"{each.seconds / 60:.1f}",
        }
        for each in found
    ]
    return rows, misfit(found, config, machine, hours)


def machines(name: str | None) -> list[Machine]:
    """The machine of that name, or all of them. Raises `InputError` for a name that none has."""
    if name is None:
        return [*MACHINES, here()]
    if name == HERE:
        return [here()]
    if named := [machine for machine in MACHINES if machine.name == name]:
        return named
    known = ", ".join([*(machine.name for machine in MACHINES), HERE])
    raise InputError("--on", found=name, wanted=f"one of {known}", remedy="Name one, or leave it out for all.")
