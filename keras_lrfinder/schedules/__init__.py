"""What to train with next: one-cycle and triangular learning rates.

Both are functions of the optimizer's step count alone, so a compiled,
distributed or reloaded model follows them without any state of theirs.
"""

from __future__ import annotations

import math
from typing import Any
from typing import NamedTuple

import keras
from keras import ops

from keras_lrfinder.arguments import fraction
from keras_lrfinder.arguments import integer
from keras_lrfinder.arguments import number
from keras_lrfinder.arguments import one_of
from keras_lrfinder.arguments import positive

__all__ = ["OneCycle", "Triangular"]

ANNEALS = ("cosine", "linear")
POLICIES = ("triangular", "triangular2", "exp_range")

# JAX counts steps in int32, and a triangular cycle is two of these long.
_MOST_STEPS = 2**30 - 1


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
    done = _to_float(ops.subtract(step, phase.start)) / length
    left = _to_float(ops.subtract(phase.end, step)) / length
    if anneal == "cosine":
        done = ops.square(ops.sin(done * (math.pi / 2)))
        left = ops.square(ops.sin(left * (math.pi / 2)))
    return left * phase.first + done * phase.last


def _to_float(x: Any) -> Any:
    # Half precision cannot hold a step count, whatever the model computes in.
    wide = keras.config.floatx() == "float64"
    return ops.cast(x, "float64" if wide else "float32")


@keras.saving.register_keras_serializable(package="keras_lrfinder")
class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """The one-cycle policy: up to a large LR, then down to a tiny one.

    The path runs through three or four knots; `N` is `total_steps`, and all
    steps are counted from 0, so that the last one is `N - 1`:

    ```
    tail = round(final_fraction * (N - 1))
    LR(0)                             = initial_lr
    LR(round(warmup_fraction * (N-1))) = max_lr
    LR(N - 1 - tail)                  = initial_lr    only if tail > 0
    LR(N - 1)                         = final_lr      and ever after
    ```

    Between neighbouring knots, `a` at step `s` and `b` at step `t`, with
    progress `p = (step - s) / (t - s)` in [0, 1]:

    ```
    linear:  LR = a * (1 - p) + b * p
    cosine:  LR = a * cos(pi/2 * p)**2 + b * sin(pi/2 * p)**2
               = b + (a - b) * (1 + cos(pi * p)) / 2
    ```

    The defaults are the two-phase, cosine form that fastai made common. The
    form of the papers has equal ways up and down and then a short way to
    an LR orders of magnitude below the initial one:
    `OneCycle(max_lr, total_steps, warmup_fraction=0.45, final_fraction=0.1,
    anneal="linear")`.

    Sources: L. N. Smith and N. Topin, "Super-Convergence: Very Fast Training
    of Neural Networks Using Large Learning Rates", arXiv 1708.07120 (2017);
    L. N. Smith, "A disciplined approach to neural network hyper-parameters:
    Part 1", arXiv 1803.09820 (2018).

    Keras hands a schedule the number of batches that the *optimizer* has
    seen. An optimizer that has trained before starts in mid-path, so compile
    with a new one; with `gradient_accumulation_steps` each batch counts, not
    each update. To load a saved model in another process, import the class
    there first: `from keras_lrfinder import OneCycle`.

    Args:
        max_lr: Float, positive. LR at the peak, per optimizer step: the LR
            that a range test suggests.
        total_steps: Integer, at least 2. Batches of the whole training, that
            is epochs times batches per epoch.
        initial_lr: Float in [0, `max_lr`]. LR of the first step. Defaults to
            `max_lr / 25`.
        final_lr: Float in [0, `max_lr`]. LR of the last step, held
            afterwards. Defaults to `initial_lr / 10000`.
        warmup_fraction: Float in [0, 1). Part of the way spent going up;
            with 0 training starts at `max_lr`. Defaults to 0.3.
        final_fraction: Float in [0, 1). Part of the way at its end spent
            going from `initial_lr` to `final_lr`; with 0 the way down leads
            from `max_lr` to `final_lr`. Together with `warmup_fraction` below
            1. Defaults to 0.
        anneal: `"cosine"` or `"linear"`. Defaults to `"cosine"`.

    Raises:
        TypeError: An argument is not a number, or not an integer.
        ValueError: An argument is out of its range.

    Example:
    >>> from keras_lrfinder.schedules import OneCycle
    >>> schedule = OneCycle(max_lr=0.1, total_steps=101)
    >>> [f"{float(schedule(step)):.6g}" for step in (0, 15, 30, 100, 999)]
    ['0.004', '0.052', '0.1', '4e-07', '4e-07']

    ```python
    steps = epochs * len(dataset)
    schedule = OneCycle(float(finder.suggestion), steps)
    model.compile(keras.optimizers.SGD(schedule, momentum=0.9), "mse")
    model.fit(dataset, epochs=epochs)
    ```
    """

    def __init__(
        self,
        max_lr: float,
        total_steps: int,
        *,
        initial_lr: float | None = None,
        final_lr: float | None = None,
        warmup_fraction: float = 0.3,
        final_fraction: float = 0.0,
        anneal: str = "cosine",
    ) -> None:
        super().__init__()
        self.max_lr = positive("max_lr", max_lr)
        self.total_steps = integer("total_steps", total_steps, 2, _MOST_STEPS)
        if initial_lr is None:
            initial_lr = self.max_lr / 25
        self.initial_lr = _up_to_max("initial_lr", initial_lr, self.max_lr)
        if final_lr is None:
            final_lr = self.initial_lr / 10_000
        self.final_lr = _up_to_max("final_lr", final_lr, self.max_lr)
        self.warmup_fraction = fraction("warmup_fraction", warmup_fraction)
        self.final_fraction = fraction("final_fraction", final_fraction)
        if self.warmup_fraction + self.final_fraction >= 1:
            raise ValueError(
                "`warmup_fraction` and `final_fraction` must leave a part for "
                "the way down: their sum must be below 1. Received: "
                f"warmup_fraction={warmup_fraction}, "
                f"final_fraction={final_fraction}"
            )
        self.anneal = one_of("anneal", anneal, ANNEALS)

    def __call__(self, step: Any) -> Any:
        """Returns the LR of optimizer step `step`, a scalar float tensor.

        Args:
            step: Steps done so far: 0 for the first. Integer tensor,
                variable or Python number.
        """
        phases = self.phases(self.initial_lr, self.max_lr, self.final_lr)
        return value_at(step, phases, self.anneal)

    def phases(
        self, first: float, peak: float, last: float
    ) -> tuple[Phase, ...]:
        """Returns the path through `first`, `peak` and `last` at the knots.

        One-cycle momentum takes the same path with other values.

        Args:
            first: Value at step 0, and before the final phase if there is one.
            peak: Value where the LR is `max_lr`.
            last: Value at the last step.
        """
        end = self.total_steps - 1
        # The way down, which ends at the final LR, is never rounded away.
        tail = min(round(self.final_fraction * end), end - 1)
        top = min(round(self.warmup_fraction * end), end - tail - 1)
        path = [
            Phase(0, top, first, peak),
            Phase(top, end - tail, peak, first if tail else last),
            Phase(end - tail, end, first, last),
        ]
        return tuple(phase for phase in path if phase.start < phase.end)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make the same schedule again."""
        return {
            "max_lr": self.max_lr,
            "total_steps": self.total_steps,
            "initial_lr": self.initial_lr,
            "final_lr": self.final_lr,
            "warmup_fraction": self.warmup_fraction,
            "final_fraction": self.final_fraction,
            "anneal": self.anneal,
        }


def _up_to_max(name: str, value: Any, max_lr: float) -> float:
    result = number(name, value)
    if not 0 <= result <= max_lr:
        raise ValueError(
            f"`{name}` must be between 0 and `max_lr`. Received: "
            f"{name}={value}, max_lr={max_lr}"
        )
    return result


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
        self.step_size = integer("step_size", step_size, 1, _MOST_STEPS)
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
        height = _to_float(ops.subtract(self.step_size, away)) / self.step_size
        height = height * self._scale(step)
        return (1.0 - height) * self.base_lr + height * self.max_lr

    def _scale(self, step: Any) -> Any:
        # A power of a float32 base multiplies the base's rounding error by
        # the exponent (1e-3 after 30,000 steps); the exact logarithm does not.
        if self.policy == "triangular2":
            cycle = ops.floor_divide(step, 2 * self.step_size)
            return ops.exp(_to_float(cycle) * math.log(0.5))
        if self.gamma is not None:
            return ops.exp(_to_float(step) * math.log(self.gamma))
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
