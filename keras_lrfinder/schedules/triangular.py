"""Cyclical learning rates: up and down between two bounds."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_lrfinder.arguments import integer
from keras_lrfinder.arguments import number
from keras_lrfinder.arguments import positive
from keras_lrfinder.schedules.one_cycle import MOST_STEPS
from keras_lrfinder.schedules.one_cycle import Path
from keras_lrfinder.schedules.one_cycle import to_float


@keras.saving.register_keras_serializable(package="keras_lrfinder")
class Triangular(Path):
    """Cyclical LR: up and down between two bounds, again and again.

    ```
    cycle = floor(step / (2 * step_size))                   0, 1, 2, …
    x     = abs(step / step_size - 2 * cycle - 1)           1 → 0 → 1
    LR    = base_lr + (max_lr - base_lr) * (1 - x)
    ```

    Source: L. N. Smith, "Cyclical Learning Rates for Training Neural
    Networks", arXiv 1506.01186 (2015). The paper counts cycles from 1. Its
    advice: `step_size` of 2 to 10 times the batches of an epoch, and
    `base_lr` a third or a fourth of `max_lr`.

    Which steps count, and how a saved model is loaded: see `OneCycle`.

    Args:
        base_lr: Float in [0, `max_lr`). Lower bound of the LR.
        max_lr: Float, positive. Upper bound of the LR, per optimizer step.
        step_size: Integer, at least 1. Steps of half a cycle.
        total_steps: Integer, at least 1, or None. Steps after which the last
            one's LR stays. Defaults to None, never.
        begin: As for `OneCycle`.

    Example:
    >>> from keras_lrfinder.schedules import Triangular
    >>> schedule = Triangular(0.001, 0.004, 10)
    >>> [f"{float(schedule(step)):.6g}" for step in (0, 5, 10, 20, 30)]
    ['0.001', '0.0025', '0.004', '0.001', '0.004']
    """

    def __init__(
        self,
        base_lr: float,
        max_lr: float,
        step_size: int,
        *,
        total_steps: int | None = None,
        begin: int = 0,
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
        if total_steps is not None:
            total_steps = integer("total_steps", total_steps, 1, MOST_STEPS)
        self.total_steps = total_steps
        self.begin = integer("begin", begin, 0, MOST_STEPS)
        # Heights that fall, as 0.1.0 had: its files still load with them.
        self._policy: str = "triangular"
        self._gamma: float | None = None

    def __call__(self, step: Any) -> Any:
        """Returns the LR of optimizer step `step`, a scalar float tensor."""
        size = self.step_size
        step = self._place(step, (self.total_steps or 2**31) - 1)
        # Remainder and distance are exact integers, also where float32 is not.
        away = ops.absolute(ops.subtract(ops.mod(step, 2 * size), size))
        height = to_float(ops.subtract(size, away)) / float(size)
        if self._policy == "triangular2":
            cycle = ops.floor_divide(step, 2 * size)
            height = height * ops.exp(to_float(cycle) * math.log(0.5))
        elif self._policy == "exp_range":
            falls = math.log(self._gamma or 1.0)
            height = height * ops.exp(to_float(step) * falls)
        return (1.0 - height) * self.base_lr + height * self.max_lr

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make the same schedule again."""
        config: dict[str, Any] = super().get_config()
        if self._policy != "triangular":
            config |= {"policy": self._policy, "gamma": self._gamma}
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Triangular:
        """Makes a schedule of its configuration, of 0.1.0 as well."""
        known = dict(config)
        old = known.pop("policy", "triangular"), known.pop("gamma", None)
        schedule = cls(**known)
        schedule._policy, schedule._gamma = old
        return schedule
