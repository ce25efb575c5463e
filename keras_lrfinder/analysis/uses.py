"""The learning rate by its use: constant, one-cycle, triangular cycles.

A suggestion is the learning rate to train with as it is, constant. Policies
that pass through many learning rates want another number: their peak.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from typing import NamedTuple

if TYPE_CHECKING:
    # Not at run time: a suggestion offers these as properties of its own.
    from keras_lrfinder.analysis.suggestions import Suggestion

__all__ = ["Bounds", "constant", "one_cycle_max_lr", "triangular_bounds"]

_PEAK_FACTOR = 2.0
_BASE_FACTOR = 4.0


class Bounds(NamedTuple):
    """Both ends of a triangular cycle.

    Attributes:
        base_lr: Float, the lower end.
        max_lr: Float, the upper end.
    """

    base_lr: float
    max_lr: float


def constant(suggestion: Suggestion) -> float:
    """Returns the learning rate to train with when it does not change.

    Args:
        suggestion: What `suggest` returned.

    Raises:
        ValueError: It has no learning rate; the message is its reason.

    Example:
    >>> from keras_lrfinder import Suggestion
    >>> constant(Suggestion(0.01, 0.004, 0.03, "high", "default", "seen"))
    0.01
    """
    return float(suggestion)


def one_cycle_max_lr(suggestion: Suggestion) -> float:
    """Returns the peak for `OneCycle`: twice the constant learning rate.

    But not more than `suggestion.high`. The mean of a one-cycle path is half
    its peak, so with twice the learning rate the mean is the constant one.
    It is also what Smith (2015, arXiv 1506.01186, section 3.3) says: the best
    single learning rate is usually within a factor of two of the largest
    that converges, and that one is the peak of the cycle (Smith and Topin
    2017, arXiv 1708.07120).

    Args:
        suggestion: What `suggest` returned.

    Raises:
        ValueError: It has no learning rate; the message is its reason.

    Example:
    >>> from keras_lrfinder import Suggestion
    >>> s = Suggestion(0.01, 0.004, 0.03, "high", "default", "seen")
    >>> one_cycle_max_lr(s)
    0.02
    """
    lr = float(suggestion)
    high = lr if suggestion.high is None else max(suggestion.high, lr)
    return min(_PEAK_FACTOR * lr, high)


def triangular_bounds(suggestion: Suggestion) -> Bounds:
    """Returns `base_lr` and `max_lr` for `Triangular`.

    `max_lr` is that of one-cycle; `base_lr` is a fourth of it (Smith 2015,
    arXiv 1506.01186, section 3.3: a third or a fourth).

    Args:
        suggestion: What `suggest` returned.

    Raises:
        ValueError: It has no learning rate; the message is its reason.

    Example:
    >>> from keras_lrfinder import Suggestion
    >>> s = Suggestion(0.01, 0.004, 0.03, "high", "default", "seen")
    >>> triangular_bounds(s)
    Bounds(base_lr=0.005, max_lr=0.02)
    """
    max_lr = one_cycle_max_lr(suggestion)
    return Bounds(max_lr / _BASE_FACTOR, max_lr)
