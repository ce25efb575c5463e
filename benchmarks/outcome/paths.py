"""Learning rates of range tests, by step."""

from __future__ import annotations

import numpy as np

from keras_lrfinder.analysis.runs import Vector

RAMP = (1e-7, 10.0)


def ramp(steps: int, length: int) -> Vector:
    """A range test's learning rates, and then none up to `length`."""
    lrs = np.geomspace(*RAMP, steps)
    return np.pad(lrs, (0, max(length - steps, 0)))[:length]
