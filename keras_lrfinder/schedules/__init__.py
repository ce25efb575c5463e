"""What to train with next: learning rates as plain Keras schedules.

All are functions of the optimizer's step count alone, so a compiled,
distributed or reloaded model follows them without any state of theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_lrfinder.schedules.one_cycle import Cosine
from keras_lrfinder.schedules.one_cycle import OneCycle
from keras_lrfinder.schedules.triangular import Triangular

__all__ = ["SCHEDULES", "Cosine", "OneCycle", "Triangular"]


def _one_cycle(peak: float, steps: int, begin: int) -> Any:
    if steps < 2:  # a single step has no way up
        return Cosine(peak, steps, begin)
    return OneCycle(peak, steps, begin=begin)


def _triangular(peak: float, steps: int, begin: int) -> Any:
    size = max(steps // 4, 1)
    return Triangular(peak / 4, peak, size, total_steps=steps, begin=begin)


# From a schedule's name to what makes it, of its peak, its length and its
# first step: the paths of `analysis.runs.SHARES`, which a test compares.
SCHEDULES: dict[str, Callable[[float, int, int], Any]] = {
    "cosine": Cosine,
    "one_cycle": _one_cycle,
    "triangular": _triangular,
}
