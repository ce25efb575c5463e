"""A path of values over optimizer steps: phases, and the value at a step."""

from __future__ import annotations

import math
from typing import Any
from typing import NamedTuple

import keras
from keras import ops

# JAX counts steps in int32, and a triangular cycle is two of these long.
MOST_STEPS = 2**30 - 1


class Phase(NamedTuple):
    """One stretch of a path, from the value `first` to the value `last`.

    Attributes:
        start: Step at which the value is `first`.
        end: Step at which the value is `last`; always after `start`.
        first: Value at `start`.
        last: Value at `end`.
    """

    start: int
    end: int
    first: float
    last: float


def value_at(step: Any, phases: tuple[Phase, ...], anneal: str) -> Any:
    """Returns the value of a path at `step`, as a scalar float tensor.

    Before the path's start and after its end it holds the nearest end.

    Args:
        step: Scalar integer or float tensor, variable or Python number.
        phases: The path, gapless and in order.
        anneal: `"cosine"` or `"linear"`.
    """
    step = ops.convert_to_tensor(step)
    step = ops.minimum(ops.maximum(step, phases[0].start), phases[-1].end)
    value = _blend(step, phases[-1], anneal)
    for phase in reversed(phases[:-1]):
        here = _blend(step, phase, anneal)
        value = ops.where(ops.less_equal(step, phase.end), here, value)
    return value


def _blend(step: Any, phase: Phase, anneal: str) -> Any:
    # Distances to both ends are taken as integers, before the cast: float32
    # counts exactly only up to 2**24. Two positive terms, never a difference:
    # a final LR a million times below the peak keeps all its digits.
    length = float(phase.end - phase.start)
    done = to_float(ops.subtract(step, phase.start)) / length
    left = to_float(ops.subtract(phase.end, step)) / length
    if anneal == "cosine":
        done = ops.square(ops.sin(done * (math.pi / 2)))
        left = ops.square(ops.sin(left * (math.pi / 2)))
    return left * phase.first + done * phase.last


def to_float(x: Any) -> Any:
    """Returns a step count as a float that holds it."""
    # Half precision cannot hold a step count, whatever the model computes in.
    wide = keras.config.floatx() == "float64"
    return ops.cast(x, "float64" if wide else "float32")
