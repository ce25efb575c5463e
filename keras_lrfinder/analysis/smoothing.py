"""Noisy losses to smooth ones: a moving average with bias correction.

It looks back only, so that it can decide while a test runs.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray


def ema_span(steps: int) -> float:
    """Returns the span of the moving average for a test of `steps` steps.

    A tenth of the test, and at least one step. Smoothing by a share of the
    test, not by a fixed number of steps, keeps the answer of a longer test
    where that of a shorter one was.

    Args:
        steps: Integer >= 1, the planned number of steps.

    Example:
    >>> ema_span(200)
    20.0
    """
    return max(1.0, steps / 10)


class RunningEMA:
    """Exponential moving average with bias correction, one value at a time.

    With `beta = 1 - 2 / (span + 1)`:

    ```
    a_i = beta * a_(i-1) + (1 - beta) * x_i        a_(-1) = 0
    s_i = a_i / (1 - beta^(i+1))                   i = 0, 1, …
    ```

    The correction (Kingma & Ba 2015, section 3) makes the weights of every
    `s_i` sum to one, so that a constant stays that constant from the first
    value on.

    Args:
        span: Float >= 1, the number of values that an ordinary average of
            the same noise reduction would take. 1 means no smoothing.

    Raises:
        ValueError: `span` is below 1 or not a number.

    Example:
    >>> average = RunningEMA(span=3)
    >>> [average.update(x) for x in (1.0, 1.0, 4.0)]
    [1.0, 1.0, 2.7142857142857144]
    """

    def __init__(self, span: float) -> None:
        if not (math.isfinite(span) and span >= 1):
            raise ValueError(f"`span` must be at least 1. Received: {span=}")
        self._beta = 1.0 - 2.0 / (span + 1.0)
        self._mean = 0.0
        self._weight = 0.0

    def update(self, value: float) -> float:
        """Returns the average after `value`.

        NaN and infinities are not averaged: they would stay for ever.

        Args:
            value: Float. What is not finite leaves the average as it was
                and comes back as NaN.
        """
        if not math.isfinite(value):
            return math.nan
        # The weight obeys the recurrence of the values themselves (it is
        # the average of ones), so that both round alike.
        self._mean = self._beta * self._mean + (1.0 - self._beta) * value
        self._weight = self._beta * self._weight + (1.0 - self._beta)
        return self._mean / self._weight


def ema(values: ArrayLike, span: float) -> NDArray[np.float64]:
    """Returns the bias-corrected moving average of a whole sequence.

    The same numbers as `RunningEMA`, as an array.

    Args:
        values: Array of shape `(n,)`. Entries that are not finite are left
            out of the average and are NaN in the result.
        span: Float >= 1.

    Returns:
        Float64 array of shape `(n,)`.

    Example:
    >>> ema([1.0, 1.0, 4.0], span=3).tolist()
    [1.0, 1.0, 2.7142857142857144]
    """
    average = RunningEMA(span)
    sequence = np.asarray(values, dtype=np.float64).tolist()
    return np.array([average.update(x) for x in sequence], dtype=np.float64)
