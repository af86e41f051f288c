"""The time that a run has: what a user may write, what a judge is told, and that nothing waits beyond it."""

from __future__ import annotations

import math
import signal
import threading
import time
from datetime import datetime

import pytest

from pipeline.budget import Budget, OutOfTime, Pace, stopped_after, until
from pipeline.errors import EngineDied, InputError

NOON = datetime(2026, 3, 2, 12, 0, 0).timestamp()


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("deadline", "seconds"),
    [
        ("2h", 7200),
        ("90m", 5400),
        ("45s", 45),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("1h0m5s", 3605),
        ("14:30", 9000),
        ("12:01", 60),
    ],
)
def test_a_deadline_is_a_duration_or_a_clock_time(deadline: str, seconds: float) -> None:
    assert until(deadline, NOON, Clock()).ends == NOON + seconds


def test_a_duration_counts_from_the_given_start_and_a_clock_time_does_not() -> None:
    assert until("2h", NOON - 600, Clock()).ends == NOON + 6600
    assert until("14:30", NOON - 600, Clock()).ends == NOON + 9000


@pytest.mark.parametrize("deadline", ["", "2", "soon", "-2h", "2h!", "h", "24:00", "12:60", "12:5", "30m2h", "1e3s", "1 h"])
def test_what_is_no_time_is_refused(deadline: str) -> None:
    with pytest.raises(InputError, match=r"(?s)--deadline.*2h, 90m.*14:30"):
        until(deadline, NOON, Clock())


@pytest.mark.parametrize(
    ("deadline", "began"), [("11:59", NOON), ("12:00", NOON), ("0s", NOON), ("2h", NOON - 7200), ("1m", 1.0)]
)
def test_what_is_past_is_refused(deadline: str, began: float) -> None:
    with pytest.raises(InputError, match=r"(?s)--deadline.* ago.*a time to come.*9h"):
        until(deadline, began, Clock())


def test_a_run_that_is_to_keep_going_has_no_time_left_instead() -> None:
    budget = until("1s", NOON - 60, Clock(), keep_going=True)
    assert budget.left < 0 and budget.keep_going


@pytest.mark.parametrize("began", [NOON + 60, NOON * 1000, 0.0, -1.0, math.nan])
def test_a_start_that_was_not_yet_is_refused(began: float) -> None:
    with pytest.raises(InputError, match="--since"):
        until("2h", began, Clock())


def test_some_time_is_spared_for_what_follows_the_judge() -> None:
    assert [until(deadline, NOON, Clock()).spare for deadline in ("45s", "10m", "9h")] == [10, 30, 120]
    assert until("45s", NOON, Clock()).left == 35


def test_without_a_deadline_everything_fits_and_nothing_is_forecast() -> None:
    pace = Pace(Budget(), "judge", later=10)
    pace.took(1, 1e9)
    assert pace.fits(10**9) and pace.left == math.inf and pace.forecast(10) == ""


def test_what_fits_follows_from_the_prompts_scored_so_far() -> None:
    clock = Clock()
    pace = Pace(Budget(NOON + 110, 10, clock), "judge")
    assert pace.fits(10**6), "nothing is known yet"
    pace.took(5, 10)
    assert pace.fits(49) and not pace.fits(50)
    clock.now += 60
    assert pace.fits(19) and not pace.fits(20)
    pace.took(5, 30)  # it became slower
    assert pace.fits(9) and not pace.fits(10)
    clock.now += 40
    assert not pace.fits(0)


def test_what_comes_later_keeps_what_it_needs_but_half_at_the_most() -> None:
    few, many = (Pace(Budget(NOON + 100, 0, Clock()), "judge", later) for later in (10, 1000))
    assert few.left == many.left == 50, "as long as nothing is known, half"
    for pace in (few, many):
        pace.took(10, 20)
    assert few.left == 80
    assert many.left == 50


def test_a_judge_that_is_lost_is_not_asked_again_and_another_one_is() -> None:
    budget = Budget()
    budget.lost["judge"] = "its engine died"
    assert not Pace(budget, "judge").fits(1) and Pace(budget, "other").fits(1)


def test_an_engine_may_die_and_all_else_is_an_error_unless_the_run_is_to_keep_going() -> None:
    fault = InputError("here", found="this", wanted="that", remedy="Mend it.")
    for budget in (Budget(), Budget(keep_going=True)):
        assert budget.lose("judge", EngineDied("no memory")) == "its engine died"
    with pytest.raises(InputError) as raised:
        Budget().lose("judge", fault)
    assert raised.value is fault
    assert budget.lose("dense", fault) == "InputError: here found: this wanted: that remedy: Mend it."
    assert budget.lost.keys() == {"judge", "dense"}


def test_the_forecast_says_how_much_fits() -> None:
    pace = Pace(Budget(NOON + 1000, 0, Clock()), "judge")
    assert pace.forecast(100) == ""
    pace.took(10, 20)
    assert pace.forecast(100) == "all within 3 min of 17 min"
    assert pace.forecast(2000) == "25% within 17 min, all would take 67 min"


def test_a_block_is_stopped_in_the_middle_of_what_it_waits_for() -> None:
    began = time.monotonic()
    with pytest.raises(OutOfTime), stopped_after(0.2):
        time.sleep(60)
    assert 0.2 <= time.monotonic() - began < 30


def test_a_block_that_is_done_in_time_is_not_stopped_later() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with stopped_after(0.2):
        pass
    time.sleep(0.4)
    assert signal.getsignal(signal.SIGALRM) is before


def test_a_block_inside_another_leaves_the_outer_one_its_time() -> None:
    began = time.monotonic()
    with pytest.raises(OutOfTime), stopped_after(0.5):
        with pytest.raises(OutOfTime), stopped_after(0.2):
            time.sleep(60)
        time.sleep(60)
    assert 0.5 <= time.monotonic() - began < 30


def test_a_block_in_another_thread_is_let_be() -> None:
    done: list[bool] = []

    def block() -> None:
        with stopped_after(0.01):
            time.sleep(0.1)
        done.append(True)

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert done
