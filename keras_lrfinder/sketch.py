"""What to show of a range test, and pictures of it without matplotlib.

Plain arrays in; limits, a text plot or an inline SVG out. Pure: numpy, and
the smoothing next door.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from keras_lrfinder.smoothing import smoothing_spline

__all__ = ["View", "thin_out", "view"]

Vector = NDArray[np.float64]

# A fall by this factor needs a logarithmic axis to be seen to its end.
_DEEP_FALL = 50.0
# Beyond this, sums and margins have no float.
_HUGE = 1e300


@dataclasses.dataclass(frozen=True)
class View:
    """The smooth line through a curve, and the window that shows it well.

    Attributes:
        lrs: Array, learning rates of the smooth line, evenly spaced in log.
        smooth: Array, the smooth loss there.
        low: Float, the lower limit of the loss axis.
        high: Float, the upper limit of the loss axis.
        log: Bool, whether the loss axis should be logarithmic.
    """

    lrs: Vector
    smooth: Vector
    low: float
    high: float
    log: bool


def view(lrs: ArrayLike, losses: ArrayLike) -> View:
    """Returns what of a curve to show.

    The window is that of the descent, from the start to the lowest point,
    with room above it: a blow-up leaves through the top instead of
    flattening all the rest. The axis is logarithmic where every loss is
    positive and the descent spans a factor of more than 50.

    Args:
        lrs: Array of shape `(n,)`, positive.
        losses: Array of shape `(n,)`; what is not finite is not shown.
    """
    x = np.asarray(lrs, dtype=np.float64)
    y = np.clip(np.asarray(losses, dtype=np.float64), -_HUGE, _HUGE)
    # clip has brought the infinities in; those belong outside.
    keep = np.isfinite(np.asarray(losses, dtype=np.float64))
    x, y = x[keep], y[keep]
    if len(x) == 0:
        return View(x, y, 0.0, 1.0, False)
    grid, smooth = smoothing_spline(x, y)
    low, high = _descent(x, y, grid, smooth)
    lowest = float(smooth.min())
    if y.min() > 0 and lowest > 0 and high / lowest > _DEEP_FALL:
        # Smoothed as it is drawn: in the linear loss, the noise of the
        # start would drown what happens decades below it.
        grid, logs = smoothing_spline(x, np.log(y))
        low, high = np.exp(_margins(*_descent(x, np.log(y), grid, logs)))
        return View(grid, np.exp(logs), float(low), float(high), True)
    low, high = _margins(low, high)
    return View(grid, smooth, low, high, False)


def thin_out(lrs: Vector, losses: Vector, cells: int) -> tuple[Vector, Vector]:
    """Returns fewer points that draw the same line.

    Of the points in one of `cells` cells of the log axis, the lowest and
    the highest stay; NaNs stay out where there is anything to draw.

    Args:
        lrs: Array of shape `(n,)`, positive and increasing.
        losses: Array of shape `(n,)`.
        cells: Integer, about the width of the picture in pixels.

    Returns:
        The two arrays as they are when they have at most `2 * cells`
        entries, otherwise at most that many.
    """
    if len(lrs) <= 2 * cells:
        return lrs, losses
    keep = np.isfinite(losses)
    lrs, losses = lrs[keep], losses[keep]
    if len(lrs) <= 2 * cells:
        return lrs, losses
    x = np.log10(lrs)
    width = max(float(x[-1] - x[0]), np.finfo(np.float64).tiny)
    cell = np.minimum((x - x[0]) / width * cells, cells - 1).astype(np.int64)
    # Sorted by cell, then by loss: the ends of each cell are its extremes.
    order = np.lexsort((losses, cell))
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    ends = np.append(starts[1:], len(order)) - 1
    chosen = np.unique(np.concatenate((order[starts], order[ends])))
    return lrs[chosen], losses[chosen]


def _descent(
    lrs: Vector, losses: Vector, grid: Vector, smooth: Vector
) -> tuple[float, float]:
    """Returns the lowest and the highest loss worth seeing."""
    bottom = int(np.argmin(smooth))
    before = losses[lrs <= grid[bottom]]
    low = min(float(smooth.min()), float(np.quantile(before, 0.02)))
    high = max(
        float(smooth[: bottom + 1].max()), float(np.quantile(before, 0.98))
    )
    if bottom < 0.2 * len(grid):
        # Hardly any descent: what there is to see is the rise.
        high = max(high, float(np.quantile(losses, 0.8)))
    return low, high


def _margins(low: float, high: float) -> tuple[float, float]:
    span = high - low
    if not span > 1e-6 * max(abs(low), abs(high)):
        span = 0.1 * max(abs(low), abs(high)) or 1.0
        return low - span, high + span
    return low - 0.08 * span, high + 0.25 * span
