"""A built kernel, run on this machine as Kaggle runs it: its own notebook, its own mounts, no network.

What it cannot have from Kaggle is the image: Python and its packages are this environment's, but for those of a wheelhouse.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline import bundle as bundles
from pipeline import plan, submission
from pipeline.config import Config, Data, Sample
from pipeline.data import load, queries_of
from pipeline.errors import InputError
from pipeline.flow import fit
from pipeline.kernel.build import build
from pipeline.kernel.built import KERNEL, Built
from pipeline.kernel.mounts import Layout, mounts
from pipeline.kernel.settings import Settings
from pipeline.sample import competition as embedded
from pipeline.sample import opened
from pipeline.store import Store, new_folder

log = logging.getLogger(__name__)

VISIBLE = 3  # questions of the test that a notebook sees before it is submitted
WORKING = "20g"  # what Kaggle keeps of /kaggle/working
BOXES = (["unshare", "--mount", "--net"], ["unshare", "--map-root-user", "--mount", "--net"])
KEPT = ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")  # of this environment; Kaggle knows none of the rest
# what the log says where something was left out; a test too large for this machine's time is none
LOST = re.compile(r"^(?:lost: .+|\w+ ended with code (?!0$).+)$", re.MULTILINE)
# whose plan is a kernel's forecast
MACHINES = {"NvidiaTeslaT4": "T4x2", "NvidiaL4": "L4x4", "NvidiaH100": "H100", None: plan.HERE}

Ways = tuple[tuple[Layout, bool], ...]


@dataclass(frozen=True)
class Play:
    """One rehearsal: which test, how Kaggle lays out its mounts, and whether it says that this is the rerun."""

    test: Path
    layout: Layout
    rerun: bool

    def __str__(self) -> str:
        return f"{self.test.name}, {self.layout} layout{', rerun' if self.rerun else ''}"


@dataclass(frozen=True)
class Outcome:
    """What a rehearsal left: its stages (stage, seconds, memory in bytes), its log, its CSV's hash, and what went wrong.

    `fault` is why there is nothing to submit, `lost` what a valid CSV was made without.
    """

    play: Play
    stages: list[dict[str, Any]]
    log: str
    digest: str | None
    fault: str | None
    lost: tuple[str, ...] = ()

    @property
    def bad(self) -> str:
        """What speaks against the kernel, or nothing."""
        return self.fault or "; ".join(self.lost)


def test_folder(folder: Path, data: Path | None, questions: int | None) -> Path:
    """Write a competition as a kernel sees it, without the test's labels: `data`, or the embedded one.

    `questions` is the size of its test, which the embedded competition makes; None leaves the test of `data`.
    """
    names, sample = Data(), Sample()
    with new_folder(folder) as new:
        embedded.write(new, sample.model_copy(update={"test": questions or VISIBLE}))
        (new / names.solution).unlink()
        if data:
            for name in (names.train, names.catalog, *([] if questions else [names.test])):
                shutil.copy(data / name, new)
    return folder


def _line(error: InputError) -> str:
    """An error for a table."""
    return " ".join(str(error).split())


def box() -> list[str] | None:
    """The command that gives a process mounts and a network of its own, None where that is not permitted here."""
    for command in BOXES:
        if (
            shutil.which(command[0])
            and not subprocess.run(
                [*command, "sh", "-c", "ip link set lo up && mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False
            ).returncode
        ):
            return command
    return None


def boxed(command: list[str], given: Mapping[str, Path], scratch: Path, working: str) -> list[str]:
    """What runs the rest of a command inside `command` (`box`), with the inputs `given` and a working folder of some size."""
    inputs, root, script = scratch / "inputs", scratch / "root", Path(__file__).with_name("box.sh")
    inputs.write_text("".join(f"{source.absolute()}\t{place}\n" for place, source in given.items()), encoding="utf-8")
    root.mkdir()
    return [*command, "sh", str(script), str(root), working, str(inputs)]


def rehearse(built: Built, given: Mapping[str, Path], play: Play, seconds: float, working: str = WORKING) -> Outcome:
    """Run the notebook with the inputs `given` (`mounts`), in a box where that is permitted, else with sockets blocked.

    `seconds` are what a cell may take, `working` is the size of /kaggle/working.
    """
    with tempfile.TemporaryDirectory(prefix="eedi-") as temporary:
        scratch = Path(temporary)
        for name in ("tmp", "site", "results", "working"):
            (scratch / name).mkdir()
        notebook = (built.folder / KERNEL / built.kernel.code_file).absolute()
        runner = [sys.executable, "-m", "pipeline.kernel.runner", str(notebook), str(scratch / "results"), str(seconds)]
        environment = _environment(scratch, play.rerun)
        if command := box():
            runner = [*boxed(command, given, scratch, working), *runner]
        else:
            log.warning("no namespaces are permitted here: sockets are blocked instead, and the inputs are copies")
            for place, source in given.items():
                shutil.copytree(source, scratch / "input" / place)
            environment["EEDI_KAGGLE_INPUT"] = str(scratch / "input")
            shutil.copy(Path(__file__).with_name("block.py"), scratch / "site" / "sitecustomize.py")
        ended = subprocess.run(runner, cwd=scratch / "working", env=environment, capture_output=True, text=True, check=False)
        return _outcome(scratch / "results", play, ended.stderr)


def _environment(scratch: Path, rerun: bool) -> dict[str, str]:
    """What a process is told on Kaggle, and where this one writes in place of the environment and of its caches."""
    return {name: os.environ[name] for name in KEPT if name in os.environ} | {
        "KAGGLE_KERNEL_RUN_TYPE": "Batch",
        **({"KAGGLE_IS_COMPETITION_RERUN": "1"} if rerun else {}),
        "TMPDIR": str(scratch / "tmp"),
        "PIP_TARGET": str(scratch / "site"),
        "HF_HOME": str(scratch / "tmp" / "hub"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }


def _outcome(results: Path, play: Play, stderr: str) -> Outcome:
    if not (results / "run.json").is_file():
        return Outcome(play, [], stderr, None, (stderr.strip().splitlines() or ["no message"])[-1])
    done, written = json.loads((results / "run.json").read_text(encoding="utf-8")), results / "submission.csv"
    fault, digest = done["fault"], None
    if written.is_file():
        digest, competition = hashlib.sha256(written.read_bytes()).hexdigest(), load(play.test, Data())
        try:
            submission.validate(written, queries_of(competition.test), competition.catalog)
        except InputError as error:
            fault = fault or _line(error)
    else:
        fault = f"no submission.csv: {fault or 'nothing failed'}"
    return Outcome(play, done["stages"], done["log"], digest, fault, tuple(LOST.findall(done["log"])))


def rehearse_all(
    built: Built, settings: Settings, tests: Mapping[Path, Ways], hours: float, wheelhouse: Path | None = None
) -> list[Outcome]:
    """Every test in each of its (layout, rerun); neither may change a test's rows."""
    outcomes: list[Outcome] = []
    for test, ways in tests.items():
        for layout, rerun in ways:
            play = Play(test, layout, rerun)
            outcome = rehearse(built, mounts(built, settings, test, layout, wheelhouse), play, 3600 * hours)
            first = next((each for each in outcomes if each.play.test == test), outcome)
            if not outcome.bad and first.digest and outcome.digest != first.digest:
                outcome = replace(outcome, fault=f"other rows than with the {first.play}")
            outcomes.append(outcome)
    return outcomes


def tests(folder: Path, data: Path | None, hidden: int | None) -> dict[Path, Ways]:
    """The visible test, as it is before the submission and as if it were the rerun; the hidden one, if any, in the rerun."""
    found: dict[Path, Ways] = {test_folder(folder / "visible test", data, None): (("old", False), ("new", True))}
    if hidden:
        found[test_folder(folder / "hidden test", data, hidden)] = (("new", True),)
    return found


def default(folder: Path, settings: Settings) -> Path:
    """Fit the default config on the embedded competition, and build its kernel."""
    config = Config()
    bundles.save(fit(opened(config, None), config, Store()), folder / "bundle")
    build(folder / "bundle", settings, folder / "kernel")
    return folder / "kernel"


def manner() -> str:
    """How this machine rehearses."""
    packages = "with this environment's packages, not Kaggle's"
    return f"in namespaces of its own, {packages}" if box() else f"without namespaces, sockets blocked, {packages}"


@dataclass(frozen=True)
class Forecast:
    """`plan`'s: the seconds of each stage that holds weights, of a test of so many questions on a machine, or why not there."""

    machine: str
    questions: int
    seconds: Mapping[str, float]
    fault: str | None


def forecast(built: Built, settings: Settings, test: Path, questions: int, hours: float) -> Forecast:
    """For the machine that the settings' accelerator stands for; one that `plan` does not know has no forecast."""
    if settings.accelerator not in MACHINES:
        return Forecast(str(settings.accelerator), questions, {}, None)
    (machine,) = plan.machines(MACHINES[settings.accelerator])
    config = _on_this_machine(built.config, {source: name for name, source in settings.weights.items()})
    read = plan.readings(config, load(test, Data()), questions)
    try:
        needs = [plan.need(name, spec, read[name], machine) for name, spec in plan.models(config, machine.gpu).items()]
        fault = plan.misfit(needs, config, machine, hours)
    except InputError as refused:
        needs, fault = [], refused
    return Forecast(machine.name, questions, {each.stage: each.seconds for each in needs}, _line(fault) if fault else None)


def _on_this_machine(config: Config, hub: Mapping[str, str]) -> Config:
    """The config with the names that weights have here."""
    told = config.model_dump()
    for stage in (*told["retrieve"].values(), *told["rerank"].values()):
        if "weights" in stage:
            stage["weights"] = hub.get(stage["weights"], stage["weights"])
    return Config.model_validate(told)


def rows(outcome: Outcome, ahead: Forecast) -> list[dict[str, str]]:
    """A row a stage, and one of all with the verdict. A stage that holds no weights is taken to last as long as it did here."""
    stages = [(*each.values(), ahead.seconds.get(each["stage"], each["seconds"])) for each in outcome.stages]
    names, seconds, memory, later = zip(*stages, strict=True) if stages else ((), (), (), ())
    stages.append(("all", sum(seconds), max(memory, default=0), sum(later)))
    verdicts = [""] * len(names) + [outcome.bad or ahead.fault or "good"]
    return [
        {
            "rehearsal": str(outcome.play),
            "stage": name,
            "seconds": f"{spent:.1f}",
            "memory": f"{held / plan.GIB:.2f} GiB",
            f"{ahead.questions} on {ahead.machine}": f"{then:.0f} s",
            "verdict": verdict,
        }
        for (name, spent, held, then), verdict in zip(stages, verdicts, strict=True)
    ]
