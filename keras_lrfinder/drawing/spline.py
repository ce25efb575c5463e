"""A smooth line through noisy losses, for pictures.

The moving average that decides looks back only; this spline looks both ways.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from keras_lrfinder.arguments import learning_rates
from keras_lrfinder.arguments import vector

Vector = NDArray[np.float64]

# More knots than this show nothing more in a picture, and cost time.
_MOST_KNOTS = 400
# scipy's smoothing spline takes no fewer.
_FEWEST_KNOTS = 5
# How many points the smooth line has.
_POINTS = 300
# Widths to choose from, as shares of the range of log10(LR).
_WIDTHS = np.geomspace(0.01, 0.12, 8)


def smoothing_spline(
    lrs: ArrayLike, losses: ArrayLike
) -> tuple[Vector, Vector]:
    """Returns a smooth curve through noisy losses, for pictures.

    A cubic smoothing spline (`scipy.interpolate.make_smoothing_spline`) in
    `x = log10(LR)`. Its width is found by cross-validation: the one with
    which either half of the points best foretells the other.

    It is fitted not to the loss `l` but to

    ```
    y = sign(z) * log(1 + asinh(|z|))        z = (l - c) / s
    ```

    with `c` the median loss and `s` the spread of the losses below it. On
    the descent that is nearly a straight line; a blow-up of many orders of
    magnitude becomes a step of a few units, which does not bend the curve
    before it.

    Args:
        lrs: Array of shape `(n,)`, positive learning rates, in any order,
            repeated ones allowed.
        losses: Array of shape `(n,)`. Entries that are not finite are left
            out.

    Returns:
        Two arrays of 300 entries: learning rates from the lowest to
        the highest with a finite loss, evenly spaced in log10(LR), and the
        smooth losses there. Fewer than five different learning rates are
        joined by straight lines; one gives one entry and none gives none.

    Raises:
        ValueError: Arrays of unequal length or of more than one dimension,
            a learning rate that is not positive and finite.

    Example:
    >>> lrs, smooth = smoothing_spline([1e-3, 1e-1], [3.0, 1.0])
    >>> [f"{y:.1f}" for y in np.interp([1e-3, 1e-2, 1e-1], lrs, smooth)]
    ['3.0', '2.0', '1.0']
    """
    lr, loss = _finite_points(lrs, losses)
    x = np.log10(lr)
    if len(x) == 0 or x[0] == x[-1]:
        mean = float(np.sum(loss / max(len(loss), 1)))
        return lr[:1], np.full(len(lr[:1]), mean)
    grid = np.linspace(0.0, 1.0, _POINTS)
    grid_lrs = 10.0 ** (x[0] + grid * (x[-1] - x[0]))
    grid_lrs[0], grid_lrs[-1] = lr[0], lr[-1]
    position = (x - x[0]) / (x[-1] - x[0])
    centre, scale = _centre_and_scale(loss)
    squashed = _squash(loss, centre, scale)
    knots, values, weights = _merged(position, squashed)
    if len(knots) < _FEWEST_KNOTS:
        knots, values, _ = _merged(position, loss)
        return grid_lrs, _joined(knots, values, grid)
    smooth = _steady_spline(knots, values, weights, grid)
    smooth = np.clip(smooth, squashed.min(), squashed.max())
    expanded = _expand(smooth, centre, scale)
    return grid_lrs, np.clip(expanded, loss.min(), loss.max())


def _finite_points(lrs: ArrayLike, losses: ArrayLike) -> tuple[Vector, Vector]:
    lr, loss = learning_rates("lrs", lrs), vector("losses", losses)
    if len(lr) != len(loss):
        raise ValueError(
            "`lrs` and `losses` must be of equal length. "
            f"Received: {len(lr)} and {len(loss)} entries"
        )
    keep = np.isfinite(loss)
    order = np.argsort(lr[keep], kind="stable")
    return lr[keep][order], loss[keep][order]


def _centre_and_scale(loss: Vector) -> tuple[float, float]:
    # Halves and quarters: the difference of two huge losses has no float.
    low, centre = np.quantile(loss / 4.0, [0.05, 0.5])
    scale = centre - low
    if not scale > 0:
        scale = np.max(np.abs(loss / 4.0 - centre))
    return float(centre), float(scale) or 1.0


def _squash(loss: Vector, centre: float, scale: float) -> Vector:
    with np.errstate(over="ignore"):
        z = (loss / 4.0 - centre) / scale
    largest = np.finfo(np.float64).max
    z = np.clip(z, -largest, largest)
    squashed: Vector = np.sign(z) * np.log1p(np.arcsinh(np.abs(z)))
    return squashed


def _expand(y: Vector, centre: float, scale: float) -> Vector:
    with np.errstate(over="ignore"):
        z = np.sign(y) * np.sinh(np.expm1(np.abs(y)))
        expanded: Vector = (centre + scale * z) * 4.0
    return expanded


def _merged(position: Vector, y: Vector) -> tuple[Vector, Vector, Vector]:
    """Returns knots, mean values and weights of nearly equal positions."""
    cell = np.minimum(
        (position * _MOST_KNOTS).astype(np.int64), _MOST_KNOTS - 1
    )
    group = np.unique(cell, return_inverse=True)[1]
    counts = np.bincount(group).astype(np.float64)
    knots = np.bincount(group, position) / counts
    # Two knots on either side of a border may all but coincide, which the
    # spline's equations do not survive.
    close = np.diff(knots) < 0.25 / _MOST_KNOTS
    while np.any(close):
        group = np.concatenate(([0], np.cumsum(~close)))[group]
        counts = np.bincount(group).astype(np.float64)
        knots = np.bincount(group, position) / counts
        close = np.diff(knots) < 0.25 / _MOST_KNOTS
    means: Vector = np.bincount(group, y / counts[group]).astype(np.float64)
    # Not the counts: the last decade of a linear ramp holds nine tenths of
    # the steps, and would bend all others to its own liking.
    return knots, means, np.sqrt(counts)


def _joined(x: Vector, y: Vector, at: Vector) -> Vector:
    # Not numpy's: the slope between two huge losses has no float.
    if len(x) == 1:
        return np.full(len(at), y[0])
    left = np.clip(np.searchsorted(x, at) - 1, 0, len(x) - 2)
    share = np.clip((at - x[left]) / (x[left + 1] - x[left]), 0.0, 1.0)
    values: Vector = (1.0 - share) * y[left] + share * y[left + 1]
    return values


def _steady_spline(
    x: Vector, y: Vector, weights: Vector, grid: Vector
) -> Vector:
    width = _best_width(x, y, weights)
    smooth = _spline(x, y, weights, width, grid)
    # Before a steep rise a spline dips. It may not leave what the means of
    # a few neighbours (of one alone, where points are few) reach near by.
    size = 1 + 2 * min(len(x) // 100, 2)
    means = np.convolve(np.pad(y, size // 2, mode="edge"), np.ones(size) / size)
    means = means[size - 1 : len(x) + size - 1]
    # Near by is as far as the spline itself feels, and a few points at least.
    reach = 3.0 * width
    first = np.searchsorted(x, grid - reach).clip(0, len(x))
    last = np.searchsorted(x, grid + reach).clip(0, len(x))
    here = np.searchsorted(x, grid)
    for i in range(len(grid)):
        start = max(min(first[i], here[i] - 3), 0)
        near = means[start : max(last[i], here[i] + 3)]
        smooth[i] = min(max(smooth[i], near.min()), near.max())
    return smooth


def _best_width(x: Vector, y: Vector, weights: Vector) -> float:
    misses = [_misses(x, y, weights, float(width)) for width in _WIDTHS]
    means = np.array([np.mean(miss) for miss in misses])
    best = int(np.argmin(means))
    # The widest that is about as good as the best: half a standard error.
    error = float(np.std(misses[best])) / math.sqrt(max(len(misses[best]), 1))
    good = np.flatnonzero(means <= means[best] + 0.5 * error)
    return float(_WIDTHS[good[-1]])


def _misses(x: Vector, y: Vector, weights: Vector, width: float) -> Vector:
    """Returns how far off either half of the points foretells the other."""
    step = np.arange(len(x))
    misses = np.empty(0)
    for half in (0, 1):
        # Both ends stay in: beyond its ends a spline foretells nothing.
        held = (step % 2 == half) & (step > 0) & (step < len(x) - 1)
        kept = ~held
        found = _spline(x[kept], y[kept], weights[kept], width, x[held])
        misses = np.append(misses, np.abs(found - y[held]))
    # The few steps of a blow-up must not decide how smooth all others are.
    return np.minimum(misses, 3.0 * np.median(misses))


def _spline(
    x: Vector, y: Vector, weights: Vector, width: float, at: Vector
) -> Vector:
    if len(x) < _FEWEST_KNOTS:
        return np.interp(at, x, y)
    from scipy.interpolate import make_smoothing_spline

    # The equivalent kernel of a smoothing spline is as wide as the fourth
    # root of its penalty over the density of its points (Silverman 1984).
    penalty = float(weights.sum()) * width**4
    values: Vector = make_smoothing_spline(x, y, w=weights, lam=penalty)(at)
    return values
