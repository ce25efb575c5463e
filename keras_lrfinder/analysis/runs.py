"""The learning rates of a run, by step: one that stays, or a schedule.

The schedules are those that `suggestion.lr_for` knows, each with its usual
settings, so that a whole training can be tried before it is made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# The share of its steps in which cosine warms up.
_WARMUP = 0.05


class Run(NamedTuple):
    """A run to be made from the restored state.

    Attributes:
        lr: Float > 0, its learning rate; of a schedule the peak.
        steps: Integer >= 1.
        schedule: String, a name in `SHARES`.
    """

    lr: float
    steps: int
    schedule: str = "constant"

    @property
    def lrs(self) -> Vector:
        """The learning rate of each step, an array of shape `(steps,)`."""
        return self.lr * SHARES[self.schedule](self.steps)


def constant(steps: int) -> Vector:
    """One learning rate."""
    return np.ones(steps)


def cosine(steps: int) -> Vector:
    """Linear warm-up over a twentieth, then a half cosine to nothing."""
    up = round(_WARMUP * steps)
    rise = (np.arange(up) + 1) / (up + 1)
    return np.concatenate([rise, 1.0 - _arc(steps - up + 1)[:-1]])


def one_cycle(steps: int) -> Vector:
    """`keras_lrfinder.OneCycle` with its defaults."""
    if steps < 2:
        return np.ones(steps)
    end = steps - 1
    top = min(round(0.3 * end), end - 1)
    first, last = 1 / 25, 1 / 25 / 10_000
    rise = first + (1.0 - first) * _arc(top + 1)
    fall = last + (1.0 - last) * (1.0 - _arc(end - top + 1))
    return np.concatenate([rise[:top], fall])


def triangular(steps: int) -> Vector:
    """`keras_lrfinder.Triangular`, base a fourth, two whole cycles."""
    size = max(steps // 4, 1)
    x = np.abs(np.arange(steps) / size % 2 - 1)
    return 0.25 + 0.75 * (1 - x)


# From a schedule's name to the shares of its peak, by step.
SHARES: dict[str, Callable[[int], Vector]] = {
    "constant": constant,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "triangular": triangular,
}


def _arc(length: int) -> Vector:
    """Cosine from 0 to 1 in `length` steps, both ends included."""
    return np.sin(np.linspace(0.0, np.pi / 2, length)) ** 2
