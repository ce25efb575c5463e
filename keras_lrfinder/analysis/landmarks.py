"""What can be read off a curve: its noise, its fall, the edge of stability.

Multiplying the losses by a constant moves no landmark, and a test of twice the
steps is first brought to the same resolution in log(LR).
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from keras_lrfinder.analysis.curve import CUT_SHORT
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.curve import StopReason

Vector = NDArray[np.float64]

# The resolution in log10(LR): that of 100 steps from 1e-7 to 10.
_BIN = 8.0 / 99.0
# Where the very first loss is below this share of those of the first fifth,
# the first step may have blown the loss up.
_BLOWN = 0.5
# A rise is looked for in medians of so many bins: a quarter, half a decade.
_WINDOWS = (3, 6)
# A rise counts from so many times the noise, from such a share of the fall
# before it, and from this share of the loss, for losses without any noise.
_NOISE_FACTORS, _SHARES, _LEAST_RISE = (5.0, 4.0), (1.0, 0.5), 1e-3
# A fall counts when the median of so many bins (of two: the higher) lies so
# many times the noise below the loss at the start.
_FALLS = ((2, 4.0), (3, 4.0), (10, 2.0))
# Fewer finite losses say nothing.
_FEWEST_POINTS = 8
# A fall by less than this share of the loss is nothing to be sure of: random
# labels take off a tenth, as what is random at the start is unlearnt.
ENOUGH_FALL = 0.2
# Where a ramp has come so far, a higher end is not what it wants.
HIGH = 1.0
# A rise without a fall in this first part of the range says that the test
# started too high or that something is wrong.
_TOO_EARLY = 1.0 / 3.0


@dataclasses.dataclass(frozen=True)
class Landmarks:
    """Where on a curve things happen."""

    first: float  # the loss before anything was learnt
    lowest: float  # the lowest one (average of a quarter of a decade)
    noise: float  # from one loss to the next where nothing is learnt yet
    scale: float  # the size of the losses: what noise is measured against
    bottom: float  # log10(LR) of the lowest
    # log10(LR) from which on training is unstable; beyond the last learning
    # rate where the loss never rose.
    edge: float
    rose: bool
    # Whether that ended the test, began with its first step, or left the last
    # losses above the first ones by more than noise.
    stayed_high: bool
    fell: bool  # by more than noise explains
    # Whether a loss that is not finite came without a rise before it: that is
    # seldom the learning rate's doing.
    sudden: bool
    points: int  # how many finite losses there are

    @property
    def fall(self) -> float:
        """By which share of itself the loss fell."""
        return (self.first - self.lowest) / self.scale

    @property
    def roughness(self) -> float:
        """log10 of noise against loss, at least -2."""
        return float(np.log10(self.noise / self.scale + 0.01))


def landmarks(curve: Curve) -> Landmarks | None:
    """Returns the landmarks of a curve; None: it has no finite loss."""
    bad = np.flatnonzero(~np.isfinite(curve.losses))
    end = int(bad[0]) if len(bad) else len(curve.losses)
    x, y = np.log10(curve.lrs[:end]), curve.losses[:end]
    return _landmarks(curve, x, y) if end else None


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
    ends = (StopReason.DIVERGED, StopReason.NOT_FINITE)
    blew_up = curve.stop_reason in ends or len(y) < len(curve.losses)
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


def _binned(x: Vector, y: Vector) -> tuple[Vector, Vector]:
    """Returns centres and mean losses of the bins that hold a point."""
    cell = np.floor((x - x[0]) / _BIN + 0.5).astype(np.int64)
    begin = np.flatnonzero(np.diff(cell, prepend=cell[0] - 1))
    counts = np.diff(begin, append=len(x))
    centre, mean = (np.add.reduceat(v, begin) / counts for v in (x, y))
    return centre, mean


def _noise(y: Vector) -> float:
    """Returns the standard deviation of neighbours, robust to a few."""
    if len(y) < 2:
        return 0.0
    jumps = np.diff(y) - np.median(np.diff(y))
    most = 4.0 * 1.4826 * float(np.median(np.abs(jumps)))
    jumps = np.clip(jumps, -most, most)
    return float(np.sqrt(np.mean(jumps**2) / 2.0))


def _medians(y: Vector, window: int) -> Vector:
    """Returns the median of every run of `window` losses."""
    window = min(window, len(y))
    runs = np.lib.stride_tricks.sliding_window_view(y, window)
    return np.median(runs, axis=1)


def _comparable(means: Vector) -> Vector:
    """Returns the logarithms of losses that are all positive, else these."""
    # Noise is a share of such a loss rather than an amount: against the noise
    # at the start even a plain fall of a squared error would look small.
    return np.log(means) if (means > 0.0).all() else means


def _blown_at_once(before: float, first: float, shown: Vector) -> bool:
    """Returns whether the first step took the loss to another level."""
    far = 0.0 < before < _BLOWN * first
    return far and bool(np.log(first / before) > 4.0 * _early_noise(shown))


def _fell(y: Vector, first: float, after: int, scale: float) -> bool:
    """Returns whether losses below the first, few or many, are no noise."""
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
    x: Vector, y: Vector, first: float, noise: float, case: int, beyond: float
) -> float:
    """Returns log10(LR) of the first rise that is no noise."""
    # There the median of the next losses lies above the lowest one so far by
    # a share of the fall until then, and by so many times the noise.
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


def refusal(curve: Curve, seen: Landmarks | None) -> str:
    """Returns why no learning rate can be suggested, or an empty string."""
    if seen is None:
        if not len(curve):
            return f"No loss was recorded: {curve.stop_reason.cause}."
        return (
            f"The loss was not finite at the very first step, at "
            f"{curve.lrs[0]:.1e}. Check the inputs and the model for NaN, or "
            "lower `start_lr`."
        )
    if seen.points < _FEWEST_POINTS:
        more = "Use more `steps`."
        if seen.rose:
            more = "Lower `start_lr`, and check the inputs for NaN."
        return (
            f"Of {_FEWEST_POINTS} finite losses that are needed there "
            f"{'is' if seen.points == 1 else 'are'} {seen.points}: "
            f"{curve.ending}. {more}"
        )
    if not is_enough(curve, seen):
        return (
            f"The ramp ended too early, at {curve.lrs[-1]:.1e} of "
            f"{curve.end_lr:.1e}: {curve.ending}. {curve.stop_reason.remedy}"
        )
    return "" if seen.fell else _never_fell(curve, seen)


def is_enough(curve: Curve, seen: Landmarks | None) -> bool:
    """Returns whether there is anything to judge by, or to begin with."""
    if seen is None or seen.points < _FEWEST_POINTS:
        return False
    # A ramp that was cut short must have seen its edge, or a clear fall.
    fell = seen.fell and seen.fall >= ENOUGH_FALL
    return seen.rose or fell or curve.stop_reason not in CUT_SHORT


def _never_fell(curve: Curve, seen: Landmarks) -> str:
    if not seen.stayed_high:
        # What looks like a rise is noise too, where nothing fell.
        remedy = (
            "Raise `end_lr`, use more `steps` or larger batches, or check "
            "that the model can learn."
        )
        if curve.lrs[-1] >= HIGH:
            remedy = (
                "Check that the inputs are scaled, that the loss fits the "
                "last layer (`from_logits`), and that the model can learn."
            )
        return (
            f"The loss never fell between {curve.lrs[0]:.1e} and "
            f"{curve.lrs[-1]:.1e}. {remedy}"
        )
    if seen.sudden:
        return (
            "The loss was suddenly not finite, at "
            f"{curve.lrs[seen.points]:.1e}, without having fallen or risen "
            "before. Look for NaN in inputs and targets; if there is none, "
            "lower `start_lr`."
        )
    start, end = np.log10(curve.lrs[0]), np.log10(curve.end_lr)
    if seen.edge - start < max(1.0, _TOO_EARLY * (end - start)):
        return (
            f"The loss blew up near {10.0**seen.edge:.1e} without having "
            "fallen before. Lower `start_lr` to a hundredth, and check the "
            "scale of inputs and targets."
        )
    return ""
