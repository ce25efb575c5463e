"""What to show of a range test: the smooth line, the window, the points."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from keras_lrfinder.drawing.spline import smoothing_spline

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

    def at(self, lr: float) -> float:
        """Returns the smooth loss at `lr`."""
        return float(np.interp(np.log(lr), np.log(self.lrs), self.smooth))


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
    y = np.asarray(losses, dtype=np.float64)
    keep = np.isfinite(y)
    x, y = x[keep], np.clip(y[keep], -_HUGE, _HUGE)
    if len(x) == 0:
        return View(x, y, 0.0, 1.0, False)
    grid, smooth = smoothing_spline(x, y)
    low, high = _descent(x, y, grid, smooth)
    lowest = float(smooth.min())
    if y.min() > 0 and lowest > 0 and high / lowest > _DEEP_FALL:
        # Smoothed as it is drawn: in the linear loss, the noise of the
        # start would drown what happens decades below it.
        grid, logs = smoothing_spline(x, np.log(y))
        margins = _margins(*_descent(x, np.log(y), grid, logs))
        low, high = np.exp(np.clip(margins, -690.0, 690.0)).tolist()
        return View(grid, np.exp(logs), low, high, True)
    low, high = _margins(low, high)
    return View(grid, smooth, low, high, False)


def thin_out(
    lrs: ArrayLike, losses: ArrayLike, cells: int
) -> tuple[Vector, Vector]:
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
    lr = np.asarray(lrs, dtype=np.float64)
    loss = np.asarray(losses, dtype=np.float64)
    if len(lr) <= 2 * cells:
        return lr, loss
    keep = np.isfinite(loss)
    lr, loss = lr[keep], loss[keep]
    if len(lr) <= 2 * cells:
        return lr, loss
    x = np.log10(lr)
    width = max(float(x[-1] - x[0]), np.finfo(np.float64).tiny)
    cell = np.minimum((x - x[0]) / width * cells, cells - 1).astype(np.int64)
    # Sorted by cell, then by loss: the ends of each cell are its extremes.
    order = np.lexsort((loss, cell))
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    ends = np.append(starts[1:], len(order)) - 1
    chosen = np.unique(np.concatenate((order[starts], order[ends])))
    return lr[chosen], loss[chosen]


def _descent(
    lrs: Vector, losses: Vector, grid: Vector, smooth: Vector
) -> tuple[float, float]:
    """Returns the lowest and the highest loss worth seeing."""
    bottom = int(np.argmin(smooth))
    before = losses[lrs <= grid[bottom]]
    low, high = float(smooth.min()), float(smooth[: bottom + 1].max())
    # With the spikes, as far as they do not flatten all the rest.
    span = high - low
    low = min(low, max(float(before.min()), low - span))
    high = max(high, min(float(before.max()), high + span))
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
