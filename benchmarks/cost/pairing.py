"""Contenders timed in turn, round after round, and compared within a round.

On a shared machine the speed drifts by more than what is to be measured. What
ran within the same second has met the same neighbours, so each figure is the
median, over the rounds, of differences or ratios within a round.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

__all__ = ["Cost", "Rounds", "interleave", "spread", "timed"]

Spread = dict[str, float]


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


def interleave(
    contenders: Mapping[str, Callable[[], Cost]], rounds: int
) -> Rounds:
    """Runs every contender once a round, in a new order each time.

    A first round warms up and is not counted.

    Args:
        contenders: Mapping from names to functions that run and return what
            it took.
        rounds: Integer, how many rounds count.
    """
    order = random.Random(7)
    names = list(contenders)
    found: Rounds = {name: [] for name in names}
    for number in range(rounds + 1):
        order.shuffle(names)
        for name in names:
            cost = contenders[name]()
            if number:
                found[name].append(cost)
    return found


def spread(values: object) -> Spread:
    """Returns the median and both quartiles of some numbers."""
    low, median, high = np.percentile(np.asarray(values, float), (25, 50, 75))
    return {"median": median, "low": low, "high": high}


def compare(rounds: Rounds, name: str, base: str, unit: float) -> dict:
    """Compares a contender with another one, round by round.

    Args:
        rounds: What `interleave` returned.
        name: String, the contender.
        base: String, whom it is compared with.
        unit: Float, by what differences are divided (1e-6: microseconds).

    Returns:
        For the wall clock and the main thread's processor time: the spread
        of the differences, in `unit`, and of the ratios.
    """
    found: dict[str, dict[str, Spread]] = {}
    for clock in ("wall", "cpu"):
        ours = np.array([getattr(cost, clock) for cost in rounds[name]])
        theirs = np.array([getattr(cost, clock) for cost in rounds[base]])
        found[clock] = {
            "added": spread((ours - theirs) / unit),
            "ratio": spread(ours / theirs),
            "itself": spread(ours / unit),
        }
    return found
