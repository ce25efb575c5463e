"""Cyclical learning rates: up and down between two bounds."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_lrfinder import arguments
from keras_lrfinder.schedules import one_cycle as paths


@keras.saving.register_keras_serializable(package="keras_lrfinder")
class Triangular(paths.Path):
    """Cyclical LR: up and down between two bounds, again and again.

    ```
    cycle = floor(step / (2 * step_size))                   0, 1, 2, …
    x     = abs(step / step_size - 2 * cycle - 1)           1 → 0 → 1
    LR    = base_lr + (max_lr - base_lr) * (1 - x)
    ```

    The advice of L. N. Smith (arXiv 1506.01186): `step_size` of 2 to 10 times
    the batches of an epoch, and `base_lr` a third or a fourth of `max_lr`.

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
        self.max_lr = arguments.positive("max_lr", max_lr)
        self.base_lr = arguments.number("base_lr", base_lr)
        if not 0 <= self.base_lr < self.max_lr:
            raise ValueError(
                "`base_lr` must be at least 0 and below `max_lr`. Received: "
                f"base_lr={base_lr}, max_lr={max_lr}"
            )
        self.step_size = paths.count("step_size", step_size, 1)
        if total_steps is not None:
            total_steps = paths.count("total_steps", total_steps, 1)
        self.total_steps = total_steps
        self.begin = paths.count("begin", begin, 0)
        # Heights that fall, as 0.1.0 had: its files still load with them.
        self._old: dict[str, Any] = {}

    def __call__(self, step: Any) -> Any:
        """Returns the LR of optimizer step `step`, a scalar float tensor."""
        size = self.step_size
        step = self._place(step, (self.total_steps or 2**31) - 1)
        # Remainder and distance are exact integers, also where float32 is not.
        away = ops.absolute(ops.subtract(ops.mod(step, 2 * size), size))
        height = paths.to_float(ops.subtract(size, away)) / float(size)
        policy = self._old.get("policy")
        if policy == "triangular2":
            cycle = ops.floor_divide(step, 2 * size)
            height = height * ops.exp(paths.to_float(cycle) * math.log(0.5))
        elif policy == "exp_range":
            falls = math.log(self._old["gamma"])
            height = height * ops.exp(paths.to_float(step) * falls)
        return (1.0 - height) * self.base_lr + height * self.max_lr

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make the same schedule again."""
        return {**super().get_config(), **self._old}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Triangular:
        """Makes a schedule of its configuration, of 0.1.0 as well."""
        old = {key: config[key] for key in {"policy", "gamma"} & set(config)}
        schedule = cls(**{k: v for k, v in config.items() if k not in old})
        schedule._old = old
        return schedule
