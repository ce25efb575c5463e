"""Learning rates and losses to places in a picture, and round numbers there."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from keras_lrfinder.drawing.view import View

Vector = NDArray[np.float64]


class Axes:
    """Learning rates and losses to places in a picture, from its top left."""

    def __init__(
        self, shown: View, lrs: ArrayLike, width: float, height: float
    ) -> None:
        self.log = shown.log
        ends = np.asarray(lrs, dtype=np.float64)
        self.lr_low, self.lr_high = float(ends.min()), float(ends.max())
        if math.log10(self.lr_high) - math.log10(self.lr_low) < 1e-6:
            self.lr_low, self.lr_high = self.lr_low / 2, self.lr_low * 2
        self.low, self.high = shown.low, shown.high
        self._width, self._height = width, height

    def x(self, lr: ArrayLike) -> Vector:
        """Returns the place across."""
        left, right = math.log10(self.lr_low), math.log10(self.lr_high)
        place: Vector = (np.log10(lr) - left) / (right - left) * self._width
        return place

    def y(self, loss: ArrayLike) -> float:
        """Returns the place down of one loss."""
        return float(self.ys(np.array([loss], dtype=np.float64))[0])

    def ys(self, losses: ArrayLike) -> Vector:
        """Returns the places down; far outside is kept near."""
        values = np.asarray(losses, dtype=np.float64)
        low, high = self.low, self.high
        if self.log:
            values = np.log(np.maximum(values, np.finfo(np.float64).tiny))
            low, high = math.log(low), math.log(high)
        span = high - low
        near = np.clip(values, low - span, high + span)
        place: Vector = (high - near) / span * self._height
        return place

    def lr_ticks(self, most: int) -> list[float]:
        """Returns round learning rates inside."""
        return _log_ticks(self.lr_low, self.lr_high, most)

    def loss_ticks(self, most: int) -> list[float]:
        """Returns round losses inside."""
        if self.log:
            return _log_ticks(self.low, self.high, most)
        return _ticks(self.low, self.high, most)


def label(value: float) -> str:
    """Returns a short name of a tick."""
    if value and not 0.01 <= abs(value) < 1e5:
        digits, power = f"{value:.2e}".split("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.4g}"


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    first = math.ceil(math.log10(low) - 1e-9)
    last = math.floor(math.log10(high) + 1e-9)
    if last - first >= 1:
        step = max(1, math.ceil((last - first + 1) / max(most, 2)))
        return [float(f"1e{k}") for k in range(first, last + 1, step)]
    return [tick for tick in _ticks(low, high, most) if tick > 0]


def _ticks(low: float, high: float, most: int) -> list[float]:
    rough = (high / 2 - low / 2) / max(most, 2) * 2
    if rough < 1e-300:
        return []  # no float for a step
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    # A product of step: a sum would drift.
    return [k * step for k in range(first, last + 1)]
