"""Time of a suggestion and of a picture against the number of points."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.cost.pairing import spread
from benchmarks.cost.pairing import timed
from keras_lrfinder import Curve
from keras_lrfinder import RangeTest
from keras_lrfinder import suggest
from keras_lrfinder.pictures.plotting import plot_curve

__all__ = ["measure_analysis"]

POINTS = (100, 1_000, 10_000, 100_000, 1_000_000)
_REPEATS = 5


def measure_analysis(quick: bool = False) -> dict[str, Any]:
    """Measures curves of all lengths; seconds.

    Args:
        quick: Whether to leave the long ones out.
    """
    points = POINTS[:3] if quick else POINTS
    return {str(number): _measure(number) for number in points}


def _measure(points: int) -> dict[str, Any]:
    curves: list[Curve] = []
    recording = timed(lambda: curves.append(_recorded(points)))
    (curve,) = curves
    suggestion = suggest(curve)
    return {
        "record": recording.wall,
        "suggest": _repeated(lambda: suggest(curve)),
        "plot": _repeated(
            lambda: plot_curve(curve, suggestion).figure.canvas.draw()
        ),
    }


def _repeated(action: Any) -> dict[str, float]:
    return spread([timed(action).wall for _ in range(_REPEATS)])


def _recorded(points: int) -> Curve:
    """A curve that falls, turns and blows up, with noise on it."""
    test = RangeTest(1e-7, 10.0, points, stop_factor=None)
    at = np.linspace(-7.0, 1.0, points)
    losses = 2.3 - 1.8 / (1.0 + np.exp(-3.0 * (at + 3.5)))
    losses += 0.05 * np.exp(3.0 * at)
    losses *= np.exp(0.1 * np.random.default_rng(3).standard_normal(points))
    for loss in losses.tolist():
        test.record(loss)
    return test.curve
