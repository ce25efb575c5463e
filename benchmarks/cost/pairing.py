"""Contenders timed in turn, round after round, and compared within a round.

On a shared machine the speed drifts by more than what is to be measured. What
ran within the same minute has met the same neighbours, so each figure is the
median, over the rounds, of differences or ratios within a round.
"""

from __future__ import annotations

import concurrent.futures
import importlib
import math
import multiprocessing
import random
import time
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = [
    "Rows",
    "compare",
    "fresh",
    "interleave",
    "spread",
    "steps_taken",
    "timed",
]

Rows = list[dict[str, Any]]
Rounds = dict[str, list[float]]
_FEWEST = 6  # fewer cannot tell in 95 of 100 cases where the median is


def fresh(module: str, function: str, *args: Any) -> Any:
    """Returns what a function returns in an interpreter of its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_call, module, function, *args).result()


def _call(module: str, function: str, *args: Any) -> Any:
    return getattr(importlib.import_module(module), function)(*args)


def timed(action: Callable[[], object]) -> float:
    """Runs an action and returns the seconds that it took."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def steps_taken(found: Any) -> int:
    """Returns how many steps a test made, those that judge among them."""
    assert found.suggestion.rule, "none was made"  # where it is lazy
    runs = sum(len(run.losses) for run in found.runs)
    return len(found.curve.losses) + runs


def interleave(
    contenders: Mapping[str, Callable[[], float]],
    rounds: int,
    *,
    seconds: float = 150.0,
    warm_up: int = 1,
) -> Rounds:
    """Runs every contender once a round, in a new order each time.

    Args:
        contenders: By name, functions that run and return what it took.
        rounds: Integer, how many rounds count.
        seconds: Float, after how long none begins, once six have counted.
        warm_up: Integer, how many rounds before them do not count.
    """
    order = random.Random(7)
    names = list(contenders)
    found: Rounds = {name: [] for name in names}
    start = time.perf_counter()
    for number in range(rounds + warm_up):
        late = time.perf_counter() - start > seconds
        if number >= _FEWEST + warm_up and late:
            break
        order.shuffle(names)
        for name in names:
            cost = contenders[name]()
            if number >= warm_up:
                found[name].append(cost)
    return found


def spread(values: object) -> dict[str, float]:
    """Returns the median of some numbers, their quartiles, and how sure it is.

    The quartiles tell what single rounds vary by. `sure_low` and `sure_high`
    enclose the true median in 95 of 100 measurements, whatever the
    distribution: the ranks between which it lies are binomial.
    """
    array = np.sort(np.asarray(values, float))
    low, median, high = np.percentile(array, (25, 50, 75))
    outside = _beyond(len(array))
    return {
        "median": float(median),
        "low": float(low),
        "high": float(high),
        "sure_low": float(array[outside]),
        "sure_high": float(array[-1 - outside]),
    }


def _beyond(count: int) -> int:
    """Returns how many values to leave out at either end of the interval."""
    # In integers, 1 in 40 of 2 ** count: no float holds that of a thousand.
    ways, beyond = math.comb(count, 0), 0
    while 40 * ways < 2**count:
        beyond += 1
        ways += math.comb(count, beyond)
    return max(beyond - 1, 0)


def compare(rounds: Rounds, name: str, base: str, unit: str) -> dict[str, Any]:
    """Compares a contender with another one, round by round; ms or µs.

    The fastest run of each is compared whatever its round: other programs add
    to a run and take nothing away.
    """
    factor = {"ms": 1e3, "µs": 1e6}[unit]
    ours = np.array(rounds[name]) * factor
    theirs = np.array(rounds[base]) * factor
    return {
        f"time, {unit}": float(np.median(ours)),
        f"added, {unit}": spread(ours - theirs),
        "added, fastest": float(ours.min() - theirs.min()),
        "ratio": spread(ours / theirs),
    }
