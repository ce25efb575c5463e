"""What to show of a range test: a smooth line, the window, fewer points."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

# A fall by this factor needs a logarithmic axis to be seen to its end.
_DEEP_FALL = 50.0
# How many decades of the plateau before the descent are shown.
_PLATEAU = 1.5
# Beyond this, sums and squares have no float.
_HUGE = 1e150
# How many points the smooth line has, and through how many at most it goes.
_POINTS = 300
_MOST_KNOTS = 400
# scipy's smoothing spline takes no fewer.
_FEWEST_KNOTS = 5
# Widths of the spline to choose from, as shares of its range.
_WIDTHS = np.geomspace(0.02, 0.16, 8)
# How much narrower it is than the width that best foretells half the points
# from the other half: a trough and an edge are sharper than all the rest.
_NARROWER = 0.7
# How much earlier, at most, the line begins to leave where the loss blows up.
_EARLIER = 0.02
# How much steep parts are drawn out before the spline is fitted, and at most.
_STEEP, _STEEPEST = 3.0, 6.0


@dataclasses.dataclass(frozen=True)
class View:
    """The smooth line through a curve, and the window that shows it well."""

    lrs: Vector  # of the smooth line, evenly spaced in log
    smooth: Vector  # the smooth loss there
    falls: bool = False  # whether there is a descent, not only a rise
    left: float = 0.1  # where the window begins: not long before the descent
    right: float = 1.0  # where it ends: the loss has left through the top
    low: float = 0.0  # the limits of the loss axis
    high: float = 1.0
    log: bool = False  # whether the loss axis should be logarithmic

    def at(self, lr: float) -> float:
        """Returns the smooth loss at `lr`."""
        return float(np.interp(np.log(lr), np.log(self.lrs), self.smooth))


def view(lrs: Vector, losses: Vector) -> View:
    """Returns what of a curve to show.

    The window is that of the descent: a blow-up leaves through its top. The
    axis is logarithmic where every loss is positive and the descent spans a
    factor of more than 50.
    """
    keep = np.isfinite(losses)
    x, y = lrs[keep], np.clip(losses[keep], -_HUGE, _HUGE)
    if not len(x):
        return View(x, y, left=float(np.min(lrs, initial=1.0)))
    grid, smooth = smooth_line(x, y)
    low, high = _descent(y, smooth)
    log = bool(y.min() > 0.0 and high > _DEEP_FALL * np.quantile(y, 0.05))
    if log:
        # Smoothed as it is drawn: in the linear loss, the noise of the
        # start would drown what happens decades below it.
        y = np.log(y)
        grid, smooth = smooth_line(x, y)
        low, high = _descent(y, smooth)
    falls = bool(np.argmin(smooth) >= 0.2 * len(grid))
    left, right = grid[0], grid[-1]
    if falls:
        left, right = _across(grid, smooth, high)
    if log:
        smooth = np.exp(smooth)
        low, high = np.exp(np.clip((low, high), -690.0, 690.0)).tolist()
    return View(grid, smooth, falls, left, right, low, high, log)


def thin_out(lrs: Vector, losses: Vector, most: int) -> tuple[Vector, Vector]:
    """Returns about `most` finite points, evenly in log(LR) if there are."""
    keep = np.isfinite(losses)
    lr, loss = lrs[keep], losses[keep]
    if len(lr) <= most:
        return lr, loss
    cell = (_position(lr) * (most // 4 - 1e-6)).astype(np.int64)
    first, count = np.unique(cell, return_index=True, return_counts=True)[1:]
    # By their turn in the cell, four of each are spread over it.
    turn = (np.arange(len(lr)) - np.repeat(first, count)) * 4
    size = np.repeat(count, count)
    chosen = (turn + 4) // size > turn // size
    return lr[chosen], loss[chosen]


def smooth_line(lrs: Vector, losses: Vector) -> tuple[Vector, Vector]:
    """Returns a smooth curve through noisy losses.

    A cubic smoothing spline (`scipy.interpolate.make_smoothing_spline`) in
    log10(LR), drawn out where it is steep, so that a sharp trough stays one
    while a plateau becomes a line. Its width is found by cross-validation.
    A blow-up, which no window shows, is kept from bending the rest: a spike
    counts only up to a ceiling, and once all losses are above it, straight
    lines join them, as they do fewer than five points.
    """
    if len(lrs) < 2:
        return lrs, losses
    grid = np.linspace(0.0, 1.0, _POINTS)
    x = _position(lrs)
    smooth = np.interp(grid, x, losses)
    first = float(np.median(losses[: max(len(losses) // 5, 3)]))
    low, usual = np.quantile(losses, [0.05, 0.8])
    ceiling = 2.0 * max(first, usual) - low
    end = int(np.flatnonzero(losses <= ceiling)[-1]) + 1
    knots, means, w = _knots(x[:end], np.minimum(losses[:end], ceiling))
    if len(knots) >= _FEWEST_KNOTS:
        within = slice(int(np.searchsorted(grid, x[end - 1])) + 1)
        smooth[within] = _adaptive_spline(knots, means, w, grid[within])
        if end < len(x):
            begin = max(x[end - 2], x[end - 1] - _EARLIER)
            _lead_out(grid, smooth, begin, x[end], ceiling)
    return np.geomspace(lrs[0], lrs[-1], _POINTS), smooth


def _lead_out(
    grid: Vector, smooth: Vector, begin: float, end: float, top: float
) -> None:
    """Leads a line by a parabola up to `top`: a blow-up is no corner."""
    first, last = np.searchsorted(grid, (begin, end))
    if first < last:
        way = end - grid[first]
        far = (grid[first : last + 1] - grid[first]) / way
        slope = (smooth[first] - smooth[first - 1]) * (_POINTS - 1) * way
        bend = top - smooth[first] - slope
        smooth[first : last + 1] = smooth[first] + (slope + bend * far) * far


def _position(lrs: Vector) -> Vector:
    """Returns log(LR) as a share of its range."""
    x = np.log(lrs)
    share: Vector = (x - x[0]) / max(x[-1] - x[0], 1e-300)
    return share


def _knots(position: Vector, y: Vector) -> tuple[Vector, Vector, Vector]:
    counts = np.ones(len(y))
    if len(y) > _MOST_KNOTS or np.diff(position).min() < 0.1 / _MOST_KNOTS:
        cell = np.rint(position * _MOST_KNOTS).astype(np.int64)
        cells, group = np.unique(cell, return_inverse=True)
        counts = np.bincount(group).astype(np.float64)
        position = cells.astype(np.float64) / _MOST_KNOTS
        y = np.bincount(group, y / counts[group]).astype(np.float64)
    # Not the counts: the last decade of a linear ramp holds nine tenths of
    # the steps, and would bend all others to its own liking.
    return position, y, np.sqrt(counts)


def _adaptive_spline(x: Vector, y: Vector, w: Vector, grid: Vector) -> Vector:
    width = _best_width(x, y, w)
    pilot = _spline(x, y, w, width, grid)
    slope = np.abs(np.diff(pilot)) * len(grid)
    fall = float(np.ptp(pilot[: np.argmin(pilot) + 1]))
    steep = np.minimum(_STEEP * slope / (fall or 1.0), _STEEPEST)
    steep = np.convolve(steep, np.full(31, 1.0 / 31.0), "same")[: len(steep)]
    drawn_out = np.append(0.0, np.cumsum(1.0 + steep))
    drawn_out *= grid[-1] / drawn_out[-1]
    x = np.interp(x, grid, drawn_out)
    width = _NARROWER * min(width, _best_width(x, y, w))
    return _spline(x, y, w, width, drawn_out)


def _best_width(x: Vector, y: Vector, w: Vector) -> float:
    misses = np.stack([_misses(x, y, w, float(each)) for each in _WIDTHS])
    # The few steps of a blow-up must not decide how smooth all others are.
    misses = np.minimum(misses, 3.0 * np.median(misses[0]))
    means = misses.mean(axis=1)
    best = int(np.argmin(means))
    # The widest that is about as good as the best.
    error = float(misses[best].std()) / np.sqrt(misses.shape[1])
    return float(_WIDTHS[means <= means[best] + 0.1 * error][-1])


def _misses(x: Vector, y: Vector, w: Vector, width: float) -> Vector:
    # How far off either half of the points foretells the other.
    step = np.arange(len(x))
    misses = []
    for half in (0, 1):
        # Both ends stay in: beyond its ends a spline foretells nothing.
        held = (step % 2 == half) & (step > 0) & (step < len(x) - 1)
        kept = ~held
        found = _spline(x[kept], y[kept], w[kept], width, x[held])
        misses.append(np.abs(found - y[held]) * np.sqrt(w[held]))
    return np.concatenate(misses)


def _spline(
    x: Vector, y: Vector, w: Vector, width: float, at: Vector
) -> Vector:
    if len(x) < _FEWEST_KNOTS:
        return np.interp(at, x, y)
    from scipy.interpolate import make_smoothing_spline

    # The equivalent kernel of a smoothing spline is as wide as the fourth
    # root of its penalty over the density of its points (Silverman 1984).
    penalty = float(w.sum()) * width**4
    values: Vector = make_smoothing_spline(x, y, w=w, lam=penalty)(at)
    return values


def _top(smooth: Vector) -> int:
    # How many points there are until half of the descent is done.
    start = smooth[: max(len(smooth) // 5, 1)].max()
    below = smooth <= (start + smooth.min()) / 2.0
    return int(np.argmax(below)) + 1


def _descent(losses: Vector, smooth: Vector) -> tuple[float, float]:
    """Returns the lowest and the highest loss worth seeing."""
    low, top = float(smooth.min()), float(smooth[: _top(smooth)].max())
    high = min(top, 2.0 * float(smooth[: max(len(smooth) // 5, 1)].max()) - low)
    # With nearly all points, as far as they do not flatten all the rest.
    jumps = np.abs(np.diff(losses, append=losses[-1]))
    span = max(high - low, 3.0 * float(np.median(jumps)))
    start = losses[: max(len(losses) // 3, 1)]
    low = min(low, max(float(np.quantile(losses, 0.01)), low - span))
    high = max(high, min(float(np.quantile(start, 0.99)), high + span))
    if np.argmin(smooth) < 0.2 * len(smooth):
        # Hardly any descent: what there is to see is the rise.
        high = max(high, float(np.quantile(losses, 0.8)))
    span, size = high - low, max(abs(low), abs(high))
    if not span > 1e-6 * size:
        return low - 0.1 * (size or 1.0), high + 0.1 * (size or 1.0)
    return low - 0.08 * span, high + 0.15 * span


def _across(grid: Vector, smooth: Vector, high: float) -> tuple[float, float]:
    """Returns the first and the last learning rate worth seeing."""
    bottom, end = int(np.argmin(smooth)), _top(smooth)
    top = float(smooth[:end].max())
    at_top = smooth[:end] >= top - 0.1 * (top - smooth[bottom])
    onset = grid[np.flatnonzero(at_top)[-1]]
    gone = np.flatnonzero(smooth[bottom:] > high)
    right = grid[bottom + gone[0]] if len(gone) else grid[-1]
    return max(grid[0], onset / 10.0**_PLATEAU), right
