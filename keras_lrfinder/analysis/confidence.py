"""How far to trust a learning rate: whether at all, its range, and why."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.landmarks import Landmarks
from keras_lrfinder.analysis.stop_reason import StopReason

_FEWEST_POINTS = 8
_CUT_SHORT = (StopReason.OUT_OF_DATA, StopReason.INTERRUPTED)
# In this first part of the range, in decades, a rise without a fall says that
# the test started too high or that something is wrong.
_TOO_EARLY = 1.0 / 3.0
# How near the last learning rate the lowest loss must lie, in decades, to be
# called still falling.
_AT_END = 0.35
# The optimizers whose constants were measured, and their next of kin.
_MEASURED = ("sgd", "adam", "adamw", "nadam", "adamax", "rmsprop", "lion")
# A fall by less than this share of the loss is nothing to be sure of, nor is
# one on fewer samples: memorised in no time, it looks the same.
# Random labels take off a tenth: what is random at the start is unlearnt.
_ENOUGH_FALL, _ENOUGH_SAMPLES = 0.2, 250
# Decades below and above a suggestion within which the best learning rate
# lies in 95 of 100 cells of both benchmarks, and without confidence.
_SURE, _UNSURE = (0.75, 1.4), (1.0, 1.6)
# It lies below the edge of stability; but where a suggestion is next to that,
# the range goes so far above the suggestion.
_LEAST_ABOVE = 0.3


@dataclasses.dataclass(frozen=True)
class Confidence:
    """What is to be said about a suggestion.

    Attributes:
        level: `"high"` or `"low"`.
        low: Float, lower end of the range that holds the best learning rate.
        high: Float, upper end.
        reason: String.
    """

    level: str
    low: float
    high: float
    reason: str


def refusal(curve: Curve, seen: Landmarks | None) -> str:
    """Returns why no learning rate can be suggested, or an empty string."""
    if seen is None:
        if not len(curve):
            return f"no loss was recorded: {curve.stop_reason.cause}"
        return (
            f"the loss was not finite at the very first step, at "
            f"{curve.lrs[0]:.1e}: check the inputs and the model for NaN, "
            "or start lower"
        )
    if seen.points < _FEWEST_POINTS:
        return (
            f"only {_losses(seen.points)} ({curve.stop_reason.cause}), "
            f"at least {_FEWEST_POINTS} are needed: {_more_points(seen)}"
        )
    if seen.fell:
        return ""
    start = float(np.log10(curve.lrs[0]))
    if curve.stop_reason in _CUT_SHORT:
        return (
            f"the loss did not fall up to {curve.lrs[-1]:.1e}, where "
            f"{curve.stop_reason.cause}. {curve.stop_reason.remedy}"
        )
    if not seen.stayed_high:
        # What looks like a rise is noise too, where nothing fell.
        return (
            f"the loss never fell between {curve.lrs[0]:.1e} and "
            f"{curve.lrs[-1]:.1e}: raise end_lr, use more steps or larger "
            "batches, or check that the model can learn"
        )
    if seen.sudden:
        return (
            "the loss was suddenly not finite, at "
            f"{curve.lrs[seen.points]:.1e}, without having fallen or risen "
            "before: look for NaN in inputs and targets; if there is none, "
            "start lower"
        )
    planned = float(np.log10(curve.end_lr)) - start
    if seen.edge - start < max(1.0, _TOO_EARLY * planned):
        return (
            f"diverged near {10.0**seen.edge:.1e} without having fallen "
            "before: start lower (start_lr / 100), and check the scale of "
            "inputs and targets"
        )
    return ""


def _losses(points: int) -> str:
    return f"{points} finite loss" if points == 1 else f"{points} finite losses"


def _more_points(seen: Landmarks) -> str:
    if seen.rose:
        return "start lower, and check the inputs for NaN"
    return "run more steps"


def confidence_in(curve: Curve, seen: Landmarks, lr: float) -> Confidence:
    """Returns what is to be said about suggesting `lr`."""
    last = float(np.log10(curve.lrs[-1]))
    falling = not seen.rose and seen.bottom > last - _AT_END
    doubts = _doubts(curve, seen)
    sure = seen.fell and seen.rose and not doubts
    if falling and curve.stop_reason in _CUT_SHORT:
        reason = (
            f"still falling at {curve.lrs[-1]:.1e}, where "
            f"{curve.stop_reason.cause}, so this is a lower bound. "
            f"{curve.stop_reason.remedy}"
        )
    elif falling:
        reason = (
            f"still falling at end_lr={curve.lrs[-1]:g}, so this is a lower "
            f"bound: at least {lr:.1e}; raise end_lr to know more"
        )
    else:
        reason = _seen(seen)
    reason = "; ".join([reason, *doubts])
    level = "high" if sure else "low"
    return Confidence(level, *interval(lr, seen, sure), reason)


def interval(lr: float, seen: Landmarks, sure: bool) -> tuple[float, float]:
    """Returns both ends of the range that holds the best learning rate."""
    below, above = _SURE if sure else _UNSURE
    if seen.rose:
        above = max(min(above, seen.edge - math.log10(lr)), _LEAST_ABOVE)
    return lr / 10.0**below, lr * 10.0**above


def _doubts(curve: Curve, seen: Landmarks) -> list[str]:
    """Returns what keeps a plain curve from being sure, in words."""
    doubts = []
    name = curve.optimizer.lower()
    if not name:
        doubts.append("name the optimizer for a better answer")
    elif name not in _MEASURED:
        doubts.append(
            f"how far below that is best for {name} was never measured"
        )
    if seen.fell and seen.first - seen.lowest < _ENOUGH_FALL * seen.scale:
        doubts.append("that is little to judge by")
    if seen.fell and seen.lowest < 0.0:
        doubts.append("the loss is negative: how far it can fall is unknown")
    samples = (curve.steps_per_epoch or math.inf) * (curve.batch_size or 1)
    if curve.batch_size and samples < _ENOUGH_SAMPLES:
        doubts.append(f"{samples} samples are few to judge by")
    if seen.sudden:
        doubts.append(
            "that it was not finite came without a rise: look for NaN in the "
            "data"
        )
    return doubts


def _seen(seen: Landmarks) -> str:
    edge = f"{10.0**seen.edge:.1e}"
    share = (seen.first - seen.lowest) / seen.scale
    fall = f"the loss fell from {seen.first:.3g} to {seen.lowest:.3g}"
    if share < 0.01:
        fall = f"the loss fell by {share:.1%} only"
    if seen.fell and seen.rose:
        return f"{fall}, and training became unstable near {edge}"
    if seen.fell:
        return (
            f"{fall} near {10.0**seen.bottom:.1e} and never rose again; "
            "raise end_lr to find the edge of stability"
        )
    return (
        "the loss did not fall by more than its noise before training "
        f"became unstable near {edge}, by which this is judged"
    )
