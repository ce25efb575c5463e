"""Contenders timed in turn, round after round, and compared within a round.

On a shared machine the speed drifts by more than what is to be measured. What
ran within the same second has met the same neighbours, so each figure is the
median, over the rounds, of differences or ratios within a round.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = [
    "Cost",
    "Rounds",
    "compare",
    "interleave",
    "spread",
    "timed",
    "typical_step",
    "whole_run",
]

Spread = dict[str, float]
Comparison = dict[str, Any]
_FEWEST = 6  # fewer cannot tell in 95 of 100 cases where the median is


@dataclass(frozen=True)
class Cost:
    """What one run took.

    Args:
        wall: Float, seconds by the clock.
        cpu: Float, seconds of processor time of the main thread alone. It
            says little of work that other threads do, but a neighbour on the
            same machine can add little to it.
    """

    wall: float
    cpu: float

    def __truediv__(self, number: float) -> Cost:
        return Cost(self.wall / number, self.cpu / number)

    @staticmethod
    def now() -> Cost:
        """Returns both clocks."""
        return Cost(time.perf_counter(), time.thread_time())

    def since(self, start: Cost) -> Cost:
        """Returns what has passed since `start`."""
        return Cost(self.wall - start.wall, self.cpu - start.cpu)


Rounds = dict[str, list[Cost]]


def timed(action: Callable[[], object]) -> Cost:
    """Runs an action and returns what it took."""
    start = Cost.now()
    action()
    return Cost.now().since(start)


def typical_step(times: Sequence[Cost], skip: int = 10) -> Cost:
    """Returns the median time from one moment to the next.

    Where other programs want the processor too, some steps are interrupted
    and most are not: the median is one of the latter.

    Args:
        times: Both clocks, once every step.
        skip: Integer, how many steps at the start do not count.
    """
    kept = times[min(skip, len(times) // 3) :]
    both = [(moment.wall, moment.cpu) for moment in kept]
    wall, cpu = np.median(np.diff(both, axis=0), axis=0)
    return Cost(float(wall), float(cpu))


def whole_run(times: Sequence[Cost], end: Cost, skip: int = 10) -> Cost:
    """Returns the mean time from one moment to the next, until `end`.

    Args:
        times: Both clocks, at the start of every step.
        end: Both clocks, when all was done.
        skip: Integer, how many steps at the start do not count.
    """
    kept = times[min(skip, len(times) // 3) :]
    return end.since(kept[0]) / len(kept)


def interleave(
    contenders: Mapping[str, Callable[[], Cost]],
    rounds: int,
    seconds: float = 150.0,
) -> Rounds:
    """Runs every contender once a round, in a new order each time.

    A first round warms up and is not counted.

    Args:
        contenders: Mapping from names to functions that run and return what
            it took.
        rounds: Integer, how many rounds count.
        seconds: Float, after how long no further round begins, once six
            have been counted.
    """
    order = random.Random(7)
    names = list(contenders)
    found: Rounds = {name: [] for name in names}
    start = time.perf_counter()
    for number in range(rounds + 1):
        if number > _FEWEST and time.perf_counter() - start > seconds:
            break
        order.shuffle(names)
        for name in names:
            cost = contenders[name]()
            if number:
                found[name].append(cost)
    return found


def spread(values: object) -> Spread:
    """Returns the median of some numbers, their quartiles, and how sure it is.

    The quartiles tell what single rounds vary by. `sure_low` and `sure_high`
    enclose the true median in 95 of 100 measurements, whatever the
    distribution: the ranks between which it lies are binomial.
    """
    array = np.sort(np.asarray(values, float))
    low, median, high = np.percentile(array, (25, 50, 75))
    outside = _beyond(len(array))
    return {
        "median": median,
        "low": low,
        "high": high,
        "sure_low": array[outside],
        "sure_high": array[-1 - outside],
    }


def _beyond(count: int) -> int:
    """Returns how many values to leave out at either end of the interval."""
    # In integers, 1 in 40 of 2 ** count: no float holds that of a thousand.
    ways, beyond = math.comb(count, 0), 0
    while 40 * ways < 2**count:
        beyond += 1
        ways += math.comb(count, beyond)
    return max(beyond - 1, 0)


def compare(rounds: Rounds, name: str, base: str, unit: float) -> Comparison:
    """Compares a contender with another one, round by round.

    Args:
        rounds: What `interleave` returned.
        name: String, the contender.
        base: String, whom it is compared with.
        unit: Float, by what differences are divided (1e-6: microseconds).

    Returns:
        For the wall clock and the main thread's processor time: the spread
        of the differences, in `unit`, of the ratios, and of the contender
        itself; and both for the fastest run of each, whatever the round.
    """
    found: dict[str, Any] = {}
    for clock in ("wall", "cpu"):
        ours = np.array([getattr(cost, clock) for cost in rounds[name]])
        theirs = np.array([getattr(cost, clock) for cost in rounds[base]])
        found[clock] = {
            "added": spread((ours - theirs) / unit),
            "ratio": spread(ours / theirs),
            "itself": spread(ours / unit),
            "fastest": {
                "added": (ours.min() - theirs.min()) / unit,
                "ratio": ours.min() / theirs.min(),
                "itself": ours.min() / unit,
            },
            "rounds": len(ours),
        }
    return found
