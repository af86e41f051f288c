"""The time that a run has: when it ends, how fast a judge goes, and so what still fits. It does not know what is judged.

Nothing here reads a clock that was not handed in, but for `stopped_after`, which has the system's timer interrupt.
"""

from __future__ import annotations

import logging
import math
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from types import FrameType

from pipeline.errors import EngineDied, InputError

log = logging.getLogger(__name__)

DURATION = re.compile(r"(?=\d)(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
SPARE = 0.05  # the share of the time that stays for what follows the judge: features, the blender, writing …
LEAST, MOST = 10.0, 120.0  # … in seconds, at least and at most


class OutOfTime(Exception):
    """What was to be made does not fit into the time that is left."""


@dataclass
class Budget:
    """What a run may take, handed down to whatever can be cut short, and what it had to do without.

    `ends` is the moment by which all must be written, in seconds since the epoch; `spare` the seconds before it that no judge
    may take. `keep_going` has whatever fails left out instead of ending the run. `lost` says which stages are, and why.
    """

    ends: float = math.inf
    spare: float = 0.0
    clock: Callable[[], float] = time.time
    keep_going: bool = False
    lost: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def left(self) -> float:
        """Seconds that the judges may still take."""
        return self.ends - self.spare - self.clock()

    def lose(self, stage: str, error: Exception) -> str:
        """Go on without a stage that failed; the reason, in words.

        Raises the error again, unless the run is to keep going or it is an engine that died, which no user can mend.
        """
        if isinstance(error, EngineDied):
            self.lost[stage] = "its engine died"
        elif self.keep_going:
            if stage not in self.lost:
                log.warning("%s failed", stage, exc_info=error)
            self.lost[stage] = " ".join(f"{type(error).__name__}: {error}".split())
        else:
            raise error
        return self.lost[stage]

    def warn(self, text: str) -> None:
        """Say what the run does without, now and in what it leaves behind."""
        log.warning(text)
        self.warnings.append(text)


def duration(text: str) -> float | None:
    """The seconds of "2h", "90m", "45s" or "1h30m"; None for what is no duration."""
    if not (found := DURATION.fullmatch(text)):
        return None
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds


def until(deadline: str, began: float, clock: Callable[[], float] = time.time, keep_going: bool = False) -> Budget:
    """The budget of a run that began at `began`, in seconds since the epoch, by what a user wrote as its deadline.

    "2h", "90m", "45s" and "1h30m" count from then, "14:30" is today's, by this machine's clock. Raises `InputError` for
    anything else and, unless the run is to keep going, for what is past.
    """
    now, where = clock(), f"--deadline {deadline}"
    if not 0 < began <= now + 1:
        raise InputError(
            f"--since {began:.0f}",
            found="a moment to come",
            wanted="seconds since 1970",
            remedy="Give `date +%s` of the start.",
        )
    if found := CLOCK.fullmatch(deadline):
        hour, minute = map(int, found.groups())
        ends = datetime.fromtimestamp(now).replace(hour=hour, minute=minute, second=0, microsecond=0).timestamp()
    elif (seconds := duration(deadline)) is not None:
        ends = began + seconds
    else:
        raise InputError(
            where, found="no time", wanted="2h, 90m, 45s, 1h30m, or a clock time such as 14:30", remedy="Write it so."
        )
    if ends <= now and not keep_going:
        raise InputError(
            where,
            found=f"{_told(now - ends)} ago",
            wanted="a time to come",
            remedy="Give a later one; one beyond midnight as a duration, such as 9h.",
        )
    return Budget(ends, min(max(SPARE * (ends - began), LEAST), MOST), clock, keep_going)


@dataclass
class Pace:
    """How fast one judge goes, and until when it may.

    What is to be judged after it, `later` prompts, keeps the time that it needs at this judge's pace, but half of what there
    was at the most: a blender makes of a judge only what it learnt from judged training rows, so that those come first, and
    the test's rows, which the score is made of, never get less than they left.
    """

    budget: Budget
    name: str
    later: int = 0
    prompts: int = 0  # scored so far, the engine's start left out
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._half = max(0.0, self.budget.left / 2) if self.later and math.isfinite(self.budget.ends) else 0.0

    @property
    def left(self) -> float:
        """Seconds that this judge may still take."""
        return self.budget.left - (min(self.needs(self.later), self._half) if self.prompts else self._half)

    def needs(self, prompts: int) -> float:
        """Seconds for so many prompts; 0 as long as nothing is known."""
        return prompts * self.seconds / self.prompts if self.prompts else 0.0

    def fits(self, prompts: int) -> bool:
        """Whether so many more can be scored."""
        return self.name not in self.budget.lost and self.left > self.needs(prompts)

    def took(self, prompts: int, seconds: float) -> None:
        """Note what was scored, and how long that took."""
        self.prompts += prompts
        self.seconds += seconds

    def forecast(self, prompts: int) -> str:
        """What will have become of so many further prompts, in words."""
        if not self.prompts or math.isinf(self.budget.ends):
            return ""
        needed, left = self.needs(prompts), max(0.0, self.left)
        if needed < left:
            return f"all within {_told(needed)} of {_told(left)}"
        return f"{left / needed:.0%} within {_told(left)}, all would take {_told(needed)}"


@contextmanager
def stopped_after(seconds: float) -> Iterator[None]:
    """Raises `OutOfTime` in the block after so many seconds, whatever it waits for.

    Signals reach the main thread alone: in another one, the block is not interrupted. A timer that was set before goes on.
    """
    if math.isinf(seconds) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise OutOfTime

    began, handler = time.monotonic(), signal.signal(signal.SIGALRM, stop)
    outer, interval = signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - began), 1e-3), interval)


def _told(seconds: float) -> str:
    """A duration as a person says it: 45 s, 12 min, 2 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
