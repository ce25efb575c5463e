"""Cyclical learning rates: up and down between two bounds."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_lrfinder.arguments import integer
from keras_lrfinder.arguments import number
from keras_lrfinder.arguments import one_of
from keras_lrfinder.arguments import positive
from keras_lrfinder.schedules.phases import MOST_STEPS
from keras_lrfinder.schedules.phases import to_float

POLICIES = ("triangular", "triangular2", "exp_range")


@keras.saving.register_keras_serializable(package="keras_lrfinder")
class Triangular(keras.optimizers.schedules.LearningRateSchedule):
    """Cyclical LR: up and down between two bounds, again and again.

    ```
    cycle = floor(step / (2 * step_size))                   0, 1, 2, …
    x     = abs(step / step_size - 2 * cycle - 1)           1 → 0 → 1
    LR    = base_lr + (max_lr - base_lr) * (1 - x) * scale

    scale = 1                  "triangular":  all cycles alike
    scale = 1 / 2**cycle       "triangular2": each cycle half as high
    scale = gamma**step        "exp_range":   falls with every step
    ```

    So the LR is `base_lr` at step 0, `max_lr * scale + base_lr * (1 - scale)`
    at `step_size`, and `base_lr` again at `2 * step_size`.

    Source: L. N. Smith, "Cyclical Learning Rates for Training Neural
    Networks", arXiv 1506.01186 (2015). The paper counts cycles from 1. Its
    advice: `step_size` of 2 to 10 times the batches of an epoch, and
    `base_lr` a third or a fourth of `max_lr`.

    Keras hands a schedule the number of batches that the *optimizer* has
    seen; see `OneCycle`. To load a saved model in another process, import the
    class there first: `from keras_lrfinder import Triangular`.

    Args:
        base_lr: Float in [0, `max_lr`). Lower bound of the LR.
        max_lr: Float, positive. Upper bound of the LR, per optimizer step.
        step_size: Integer, at least 1. Steps of half a cycle.
        policy: `"triangular"`, `"triangular2"` or `"exp_range"`. Defaults to
            `"triangular"`.
        gamma: Float in (0, 1], for `"exp_range"` only, which needs it: what
            one step multiplies the height by. The paper used 0.99994.

    Raises:
        TypeError: An argument is not a number, or not an integer.
        ValueError: An argument is out of its range, or `gamma` is missing or
            out of place.

    Example:
    >>> from keras_lrfinder.schedules import Triangular
    >>> schedule = Triangular(0.001, 0.004, 10, policy="triangular2")
    >>> [f"{float(schedule(step)):.6g}" for step in (0, 5, 10, 20, 30)]
    ['0.001', '0.0025', '0.004', '0.001', '0.0025']
    """

    def __init__(
        self,
        base_lr: float,
        max_lr: float,
        step_size: int,
        policy: str = "triangular",
        gamma: float | None = None,
    ) -> None:
        super().__init__()
        self.max_lr = positive("max_lr", max_lr)
        self.base_lr = number("base_lr", base_lr)
        if not 0 <= self.base_lr < self.max_lr:
            raise ValueError(
                "`base_lr` must be at least 0 and below `max_lr`. Received: "
                f"base_lr={base_lr}, max_lr={max_lr}"
            )
        self.step_size = integer("step_size", step_size, 1, MOST_STEPS)
        self.policy = one_of("policy", policy, POLICIES)
        self.gamma = _gamma(gamma, policy)

    def __call__(self, step: Any) -> Any:
        """Returns the LR of optimizer step `step`, a scalar float tensor.

        Args:
            step: Steps done so far: 0 for the first. Integer tensor,
                variable or Python number.
        """
        step = ops.maximum(ops.convert_to_tensor(step), 0)
        # Remainder and distance are exact integers, also where float32 is not.
        place = ops.mod(step, 2 * self.step_size)
        away = ops.absolute(ops.subtract(place, self.step_size))
        height = to_float(ops.subtract(self.step_size, away)) / self.step_size
        height = height * self._scale(step)
        return (1.0 - height) * self.base_lr + height * self.max_lr

    def _scale(self, step: Any) -> Any:
        # A power of a float32 base multiplies the base's rounding error by
        # the exponent (1e-3 after 30,000 steps); the exact logarithm does not.
        if self.policy == "triangular2":
            cycle = ops.floor_divide(step, 2 * self.step_size)
            return ops.exp(to_float(cycle) * math.log(0.5))
        if self.gamma is not None:
            return ops.exp(to_float(step) * math.log(self.gamma))
        return 1.0

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make the same schedule again."""
        return {
            "base_lr": self.base_lr,
            "max_lr": self.max_lr,
            "step_size": self.step_size,
            "policy": self.policy,
            "gamma": self.gamma,
        }


def _gamma(gamma: Any, policy: str) -> float | None:
    if policy != "exp_range":
        if gamma is not None:
            raise ValueError(
                "`gamma` must be left out unless policy='exp_range'. "
                f"Received: gamma={gamma}, policy={policy!r}"
            )
        return None
    if gamma is None:
        raise ValueError(
            "`gamma` must be given with policy='exp_range'. Received: "
            "gamma=None"
        )
    result = positive("gamma", gamma)
    if result > 1:
        raise ValueError(f"`gamma` must be at most 1. Received: gamma={gamma}")
    return result
