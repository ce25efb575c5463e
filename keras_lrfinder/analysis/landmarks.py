"""What can be read off a curve: its noise, its fall, the edge of stability.

Pure functions of learning rates and raw losses. Multiplying the losses by a
constant moves no landmark, and a test of twice the steps is first brought to
the same resolution in log(LR), so that its landmarks stay where they were.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.stop_reason import StopReason

Vector = NDArray[np.float64]

# The resolution in log10(LR): that of 100 steps from 1e-7 to 10.
_BIN = 8.0 / 99.0
# Where the very first loss is below this share of those of the first fifth,
# the first step may have blown the loss up.
_BLOWN = 0.5
# A rise is looked for in medians of this many bins: a quarter, and half, of
# a decade.
_WINDOWS = (3, 6)
# A rise counts from this many times the noise, ...
_NOISE_FACTORS = (5.0, 4.0)
# ... from this share of the fall before it, ...
_SHARES = (1.0, 0.5)
# ... and from this share of the loss, for losses without any noise.
_LEAST_RISE = 1e-3
# A fall counts when the median of so many bins (of two: the higher) lies so
# many times the noise below the loss at the start.
_FALLS = ((2, 4.0), (3, 4.0), (10, 2.0))


@dataclasses.dataclass(frozen=True)
class Landmarks:
    """Where on a curve things happen.

    Attributes:
        first: Float, the loss before anything was learnt.
        lowest: Float, the lowest loss (average of a quarter of a decade).
        noise: Float, standard deviation from one loss to the next where
            nothing is learnt yet.
        scale: Float > 0, size of the losses: what noise is measured against.
        bottom: Float, log10(LR) of `lowest`.
        edge: Float, log10(LR) from which on training is unstable; beyond
            the last learning rate where the loss never rose.
        rose: Boolean, whether it did.
        stayed_high: Boolean, whether it ended the test, began with its first
            step, or left the last losses above the first ones by more than
            noise explains.
        fell: Boolean, whether the loss fell by more than noise explains.
        sudden: Boolean, whether a loss that is not finite came without a
            rise before it: that is seldom the learning rate's doing.
        points: Integer, how many finite losses there are.
    """

    first: float
    lowest: float
    noise: float
    scale: float
    bottom: float
    edge: float
    rose: bool
    stayed_high: bool
    fell: bool
    sudden: bool
    points: int

    @property
    def roughness(self) -> float:
        """log10 of noise against loss, at least -2."""
        return float(np.log10(self.noise / self.scale + 0.01))


def landmarks(curve: Curve) -> Landmarks | None:
    """Returns the landmarks of a curve; None: it has no finite loss."""
    x, y = _finite_start(curve)
    if not len(y):
        return None
    # Losses near the largest float have differences without one.
    with np.errstate(over="ignore", invalid="ignore"):
        return _landmarks(curve, x, y)


def _landmarks(curve: Curve, x: Vector, y: Vector) -> Landmarks:
    noise = _early_noise(y)
    bins, means = _binned(x, y)
    start = max(len(bins) // 5, 3)
    shown = _comparable(means)
    first = float(np.median(means[:start]))
    blown = shown is not means and _blown_at_once(y[0], first, shown)
    if blown:
        first = float(y[0])
    smooth = _medians(means, _WINDOWS[0])
    # Where a curve only rises, its first points are no fall.
    after = min(start // 2, len(smooth) - 1)
    bottom = after + int(np.argmin(smooth[after:]))
    lowest = float(min(smooth[bottom], first))
    scale = max(abs(first), first - lowest) or 1.0
    level = float(np.log(first) if blown else np.median(shown[:start]))
    bin_noise = _early_noise(means)
    blew_up = _blew_up(curve, y)
    beyond = x[-1] + (0.0 if blew_up else 0.2)
    edges = [
        _edge(bins, means, first, bin_noise, case, beyond) for case in (0, 1)
    ]
    fell = _fell(shown, level, after, 1.0 if shown is not means else scale)
    began_high = blown and not fell
    if began_high:
        # Whatever comes after the first step is beyond the edge.
        edges = [float(x[0])]
    return Landmarks(
        first=first,
        lowest=lowest,
        noise=noise,
        scale=scale,
        bottom=float(bins[min(bottom + 1, len(bins) - 1)]),
        edge=float(np.mean(edges)),
        rose=blew_up or min(edges) < beyond,
        stayed_high=blew_up or began_high or _higher(shown, level),
        fell=fell,
        sudden=len(y) < len(curve.losses) and not _rising(y, lowest, noise),
        points=len(y),
    )


def _blew_up(curve: Curve, y: Vector) -> bool:
    """Returns whether that ended the test."""
    ends = (StopReason.DIVERGED, StopReason.NOT_FINITE)
    return curve.stop_reason in ends or len(y) < len(curve.losses)


def _finite_start(curve: Curve) -> tuple[Vector, Vector]:
    """Returns log10(LR) and losses before the first that is not finite."""
    bad = np.flatnonzero(~np.isfinite(curve.losses))
    end = int(bad[0]) if len(bad) else len(curve.losses)
    return np.log10(curve.lrs[:end]), curve.losses[:end]


def _binned(x: Vector, y: Vector) -> tuple[Vector, Vector]:
    """Returns centres and mean losses of the bins that hold a point."""
    cell = np.floor((x - x[0]) / _BIN + 0.5).astype(np.int64)
    begin = np.flatnonzero(np.diff(cell, prepend=cell[0] - 1))
    counts = np.diff(begin, append=len(x))
    # Divided first: the sum of many huge losses has no float.
    mean = np.add.reduceat(y / np.repeat(counts, counts), begin)
    centre = np.add.reduceat(x, begin) / counts
    return centre, mean


def _noise(y: Vector) -> float:
    """Returns the standard deviation of neighbours, robust to a few."""
    if len(y) < 2:
        return 0.0
    jumps = np.diff(y / 2.0)
    jumps = jumps - np.median(jumps)
    most = 4.0 * 1.4826 * float(np.median(np.abs(jumps)))
    jumps = np.clip(jumps, -most, most)
    size = float(np.abs(jumps).max())
    if not size > 0.0:
        return 0.0
    # Relative to the largest: the square of a huge loss has no float.
    spread = float(np.sqrt(np.mean((jumps / size) ** 2)))
    return spread * size * float(np.sqrt(2.0))


def _medians(y: Vector, window: int) -> Vector:
    """Returns the median of every run of `window` losses."""
    window = min(window, len(y))
    runs = np.lib.stride_tricks.sliding_window_view(y, window)
    return np.median(runs, axis=1)


def _comparable(means: Vector) -> Vector:
    """Returns the logarithms of losses that are all positive, else these.

    Noise is a share of such a loss rather than an amount: it shrinks as a
    squared error falls, and against the noise at the start even a plain fall
    would look small; and where there is only noise, its far ends would look
    like falls.
    """
    return np.log(means) if (means > 0.0).all() else means


def _blown_at_once(before: float, first: float, shown: Vector) -> bool:
    """Returns whether the first step took the loss to another level.

    Args:
        before: Float, the very first loss, of no update.
        first: Float > 0, the usual loss of the first fifth of the test.
        shown: Logarithms of the binned losses, which say what is noise.
    """
    if not 0.0 < before < _BLOWN * first:
        return False
    return bool(np.log(first / before) > 4.0 * _early_noise(shown))


def _fell(y: Vector, first: float, after: int, scale: float) -> bool:
    """Returns whether losses below the first are more than noise.

    Either a few far below it, or many a little.
    """
    noise = _early_noise(y)
    for window, factor in _FALLS:
        runs = np.lib.stride_tricks.sliding_window_view(
            y[after:], min(window, len(y) - after)
        )
        middle = runs.max(1) if window == 2 else np.median(runs, axis=1)
        lowest = float(middle.min())
        if first - lowest > max(factor * noise, 1e-6 * scale):
            return True
    return False


def _higher(y: Vector, first: float) -> bool:
    """Returns whether the last losses are above the first, by twice noise."""
    return float(np.median(y[-10:])) - first > 2.0 * _early_noise(y)


def _rising(y: Vector, lowest: float, noise: float) -> bool:
    """Returns whether one of the last losses is well above the lowest."""
    least = max(5.0 * noise, 0.1 * abs(lowest))
    return float(y[-3:].max()) > lowest + least


def _early_noise(y: Vector) -> float:
    return _noise(y[: max(len(y) * 2 // 5, 5)])


def _edge(
    x: Vector,
    y: Vector,
    first: float,
    noise: float,
    case: int,
    beyond: float,
) -> float:
    """Returns log10(LR) of the first rise that is no noise.

    A rise: the median of the next losses lies above the lowest median so
    far by the given share of the fall until then, and by the given number
    of times the noise.
    """
    window = _WINDOWS[case]
    middle = _medians(y, window)
    best = np.minimum(np.minimum.accumulate(middle), first)
    later = np.arange(window, len(middle))
    before = best[later - window]
    # Where most of the fall is still to come, a rise is no edge.
    lowest = float(best[-1])
    enough = first - before >= 0.5 * (first - lowest) - 3.0 * noise
    least = np.maximum(
        _SHARES[case] * (first - before),
        max(_NOISE_FACTORS[case] * noise, _LEAST_RISE * abs(first)),
    )
    high = before + least
    rises = later[(middle[later] > high) & (y[later] > high) & enough]
    return float(x[rises[0]]) if len(rises) else beyond
