"""What other learning rate finders would suggest on the same losses.

Written anew from the formulas that their sources state, each with its own
smoothing and stop. A rule takes the learning rates and the raw losses of a
whole ramp and returns a learning rate, or None where it would refuse.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Rule = Callable[[Vector, Vector], float | None]


def corrected(losses: Vector, beta: float = 0.98, ahead: int = 1) -> Vector:
    """Exponential average divided by `1 - beta**(i + ahead)`."""
    average, found = 0.0, []
    for i, loss in enumerate(losses):
        average = beta * average + (1 - beta) * loss
        found.append(average / (1 - beta ** (i + ahead)))
    return np.array(found)


def seeded(losses: Vector, weight: float = 0.05) -> Vector:
    """Exponential average that starts at the first loss."""
    found = [losses[0]]
    for loss in losses[1:]:
        found.append(weight * loss + (1 - weight) * found[-1])
    return np.array(found)


def stopped(losses: Vector, factor: float) -> int:
    """How many losses there are until one exceeds `factor` x the best."""
    best = losses[0]
    for i, loss in enumerate(losses):
        if i and loss > factor * best:
            return i + 1
        best = min(best, loss)
    return len(losses)


def first_bad(losses: Vector) -> int:
    """How many losses come before the first that is not finite."""
    bad = np.flatnonzero(~np.isfinite(losses))
    return int(bad[0]) if len(bad) else len(losses)


def _fastai(lrs: Vector, losses: Vector) -> tuple[Vector, Vector]:
    smooth = corrected(losses)
    end = stopped(smooth, 4)
    trimmed = slice(len(losses) // 10, max(end - 5, 0))
    lrs, smooth = lrs[:end][trimmed], smooth[:end][trimmed]
    end = first_bad(smooth)
    return lrs[:end], smooth[:end]


def fastai_steep(lrs: Vector, losses: Vector) -> float | None:
    """Where the smoothed loss falls fastest from one step to the next."""
    lrs, smooth = _fastai(lrs, losses)
    if len(lrs) < 2:
        return None
    return float(lrs[np.argmin(np.diff(smooth) / np.diff(np.log(lrs)))])


def fastai_valley(lrs: Vector, losses: Vector) -> float | None:
    """Half-way along the longest decreasing subsequence, by its length."""
    lrs, smooth = _fastai(lrs, losses)
    if len(lrs) < 2:
        return None
    length = np.ones(len(smooth), int)
    for i in range(1, len(smooth)):
        higher = smooth[:i] > smooth[i]
        if higher.any():
            length[i] = max(1, length[:i][higher].max() + 1)
    end = int(length.argmax())
    start = end - int(length[end])
    third = (end - start) / 3
    return float(lrs[start + int(third) + int(third / 2)])


def fastai_slide(lrs: Vector, losses: Vector) -> float | None:
    """A window of 15 goes left while slopes at its ends differ by .005."""
    lrs, smooth = _fastai(lrs, losses)
    window = 15
    if len(lrs) <= window:
        return None
    slope = np.gradient(smooth)
    right, left = -1, -1 - window
    lr = lrs[left]
    while left >= -len(smooth) and abs(slope[right] - slope[left]) > 0.005:
        lr = lrs[left]
        right, left = right - 1, left - 1
    return float(lr)


def _lightning(lrs: Vector, losses: Vector) -> tuple[Vector, Vector]:
    smooth = corrected(losses, ahead=2)
    end = stopped(smooth, 4)
    lrs, smooth = lrs[:end][10:-1], smooth[:end][10:-1]
    keep = np.isfinite(smooth)
    return lrs[keep], smooth[keep]


def lightning_linear(lrs: Vector, losses: Vector) -> float | None:
    """Steepest per unit of LR (2.5.3 and later)."""
    lrs, smooth = _lightning(lrs, losses)
    if len(lrs) < 2:
        return None
    return float(lrs[np.gradient(smooth, lrs).argmin()])


def _nan_lowest(values: Vector) -> int:
    """Position of the minimum as `argmin` finds it: NaN comes first."""
    return int(np.argmin(values))


def torch_lr_finder(lrs: Vector, losses: Vector) -> float | None:
    """Steepest per step of the average seeded with the first loss."""
    smooth = seeded(losses)
    end = stopped(smooth, 5)
    lrs, smooth = lrs[:end][10:-5], smooth[:end][10:-5]
    if len(lrs) < 2:
        return None
    return float(lrs[_nan_lowest(np.gradient(smooth))])


def ignite(lrs: Vector, losses: Vector) -> float | None:
    """Steepest per step left of the minimum; refuses without a descent."""
    smooth = seeded(losses)
    end = stopped(smooth, 5)
    smooth = smooth[:end]
    lowest = _nan_lowest(smooth)
    if lowest < 3:
        return None
    slope = (smooth[2 : lowest + 1] - smooth[: lowest - 1]) / 2
    return float(lrs[_nan_lowest(slope) + 1])


def ktrain_gradient(lrs: Vector, losses: Vector) -> float | None:
    """Steepest per step of losses 32 to the minimum, read 32 too low."""
    smooth = corrected(losses)
    smooth = smooth[: stopped(smooth, 4)]
    lowest = _nan_lowest(smooth)
    if lowest < 34:
        return None
    return float(lrs[_nan_lowest(np.gradient(smooth[32:lowest]))])


def raw_minimum(lrs: Vector, losses: Vector) -> float | None:
    """A tenth of the LR of the lowest raw loss."""
    end = first_bad(losses)
    return float(lrs[losses[:end].argmin()] / 10) if end else None


PEERS: dict[str, Rule] = {
    "fastai valley": fastai_valley,
    "fastai slide": fastai_slide,
    "fastai steep": fastai_steep,
    "Lightning": lightning_linear,
    "torch-lr-finder": torch_lr_finder,
    "ignite": ignite,
    "ktrain": ktrain_gradient,
    "raw minimum / 10": raw_minimum,
}
