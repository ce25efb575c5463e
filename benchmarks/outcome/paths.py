"""Learning rates of whole trainings, as a share of their peak, by step."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

RAMP = (1e-7, 10.0)
WARMUP = 0.05


def constant(steps: int) -> Vector:
    """One learning rate."""
    return np.ones(steps)


def _arc(length: int) -> Vector:
    """Cosine from 0 to 1 in `length` steps, both ends included."""
    return np.sin(np.linspace(0.0, np.pi / 2, length)) ** 2


def cosine(steps: int) -> Vector:
    """Linear warm-up over a twentieth, then a half cosine to nothing."""
    up = round(WARMUP * steps)
    rise = (np.arange(up) + 1) / (up + 1)
    return np.concatenate([rise, 1.0 - _arc(steps - up + 1)[:-1]])


def one_cycle(steps: int) -> Vector:
    """`keras_lrfinder.OneCycle` with its defaults."""
    end = steps - 1
    top = min(round(0.3 * end), end - 1)
    first, last = 1 / 25, 1 / 25 / 10_000
    rise = first + (1.0 - first) * _arc(top + 1)
    fall = last + (1.0 - last) * (1.0 - _arc(end - top + 1))
    return np.concatenate([rise, fall[1:]])


def triangular(steps: int) -> Vector:
    """`keras_lrfinder.Triangular`, base a fourth, two whole cycles."""
    size = steps // 4
    x = np.abs(np.arange(steps) / size % 2 - 1)
    return 0.25 + 0.75 * (1 - x)


SCHEDULES = {
    "constant": constant,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "triangular": triangular,
}


def ramp(steps: int, length: int) -> Vector:
    """A range test's learning rates, and then none up to `length`."""
    lrs = np.geomspace(*RAMP, steps)
    return np.pad(lrs, (0, max(length - steps, 0)))[:length]
