"""Learning rates that go up once and then down: one-cycle and cosine."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from keras_lrfinder import arguments

_WARMUP = 0.05


class Path(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule whose public attributes are its arguments."""

    begin: int

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make the same schedule again."""
        return {k: v for k, v in vars(self).items() if not k.startswith("_")}

    def _place(self, step: Any, end: int) -> Any:
        """Returns how far `step` is on the path, at most `end`."""
        step = ops.subtract(ops.convert_to_tensor(step), self.begin)
        return ops.minimum(ops.maximum(step, 0), end)


@keras.saving.register_keras_serializable(package="keras_lrfinder")
class OneCycle(Path):
    """The one-cycle policy: up to a large LR, then down to a tiny one.

    The path runs through three or four knots; `N` is `total_steps`, and
    steps are counted from `begin`:

    ```
    tail = round(final_fraction * (N - 1))
    LR(0)                              = initial_lr
    LR(round(warmup_fraction * (N-1))) = max_lr
    LR(N - 1 - tail)                   = initial_lr    only if tail > 0
    LR(N - 1)                          = final_lr      and ever after

    between two knots, a at step s and b at step t, p = (step - s) / (t - s):
    linear:  LR = a * (1 - p) + b * p
    cosine:  LR = b + (a - b) * (1 + cos(pi * p)) / 2
    ```

    The defaults are the two-phase, cosine form that fastai made common. That
    of the papers (Smith and Topin, arXiv 1708.07120; Smith, arXiv 1803.09820)
    has equal ways up and down and a short way further down: `OneCycle(max_lr,
    total_steps, warmup_fraction=0.45, final_fraction=0.1, anneal="linear")`.

    Keras hands a schedule the number of batches that the *optimizer* has seen
    in its life: with `gradient_accumulation_steps` each batch counts, not
    each update. `finder.apply(schedule="one_cycle")` sees to that. Another
    process that loads a saved model needs `import keras_lrfinder.schedules`.

    Args:
        max_lr: Float, positive. LR at the peak, per optimizer step: the `lr`
            of a range test for `schedule="one_cycle"`.
        total_steps: Integer, at least 2. Batches of the whole training.
        initial_lr: Float in [0, `max_lr`]. LR of the first step. Defaults to
            `max_lr / 25`.
        final_lr: Float in [0, `max_lr`]. LR of the last step, held
            afterwards. Defaults to `initial_lr / 10000`.
        warmup_fraction: Float in [0, 1). Part of the way spent going up;
            with 0 training starts at `max_lr`.
        final_fraction: Float in [0, 1). Part at the end spent going from
            `initial_lr` to `final_lr`; with 0 the way down leads from
            `max_lr` to `final_lr`. With `warmup_fraction` below 1.
        anneal: `"cosine"` or `"linear"`.
        begin: Integer, at least 0. Batches that the optimizer has seen before
            the first step.

    Example:
    >>> from keras_lrfinder.schedules import OneCycle
    >>> schedule = OneCycle(max_lr=0.1, total_steps=101)
    >>> [f"{float(schedule(step)):.6g}" for step in (0, 15, 30, 100, 999)]
    ['0.004', '0.052', '0.1', '4e-07', '4e-07']
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
        begin: int = 0,
    ) -> None:
        super().__init__()
        self.max_lr = arguments.positive("max_lr", max_lr)
        self.total_steps = count("total_steps", total_steps, 2)
        if initial_lr is None:
            initial_lr = self.max_lr / 25
        self.initial_lr = self._low("initial_lr", initial_lr)
        if final_lr is None:
            final_lr = self.initial_lr / 10_000
        self.final_lr = self._low("final_lr", final_lr)
        self.warmup_fraction = arguments.fraction(
            "warmup_fraction", warmup_fraction
        )
        self.final_fraction = arguments.fraction(
            "final_fraction", final_fraction
        )
        if self.warmup_fraction + self.final_fraction >= 1:
            raise ValueError(
                "`warmup_fraction` and `final_fraction` must leave a part for "
                "the way down: their sum must be below 1. Received: "
                f"{warmup_fraction=}, {final_fraction=}"
            )
        self.anneal = arguments.one_of("anneal", anneal, ("cosine", "linear"))
        self.begin = count("begin", begin, 0)

    def __call__(self, step: Any) -> Any:
        """Returns the LR of optimizer step `step`, a scalar float tensor."""
        end = self.total_steps - 1
        # The way down, which ends at the final LR, is never rounded away.
        tail = min(round(self.final_fraction * end), end - 1)
        top = min(round(self.warmup_fraction * end), end - tail - 1)
        first, peak, last = self.initial_lr, self.max_lr, self.final_lr
        step = self._place(step, end)
        lr = self._between(step, top, end - tail, peak, first if tail else last)
        if top:
            rise = self._between(step, 0, top, first, peak)
            lr = ops.where(ops.less_equal(step, top), rise, lr)
        if tail:
            fall = self._between(step, end - tail, end, first, last)
            lr = ops.where(ops.greater(step, end - tail), fall, lr)
        return lr

    def _low(self, name: str, value: Any) -> float:
        lr = arguments.number(name, value)
        if not 0 <= lr <= self.max_lr:
            raise ValueError(
                f"`{name}` must be between 0 and `max_lr`. Received: "
                f"{name}={value}, max_lr={self.max_lr}"
            )
        return lr

    def _between(self, step: Any, s: int, t: int, a: float, b: float) -> Any:
        # Distances to both ends are taken as integers, before the cast:
        # float32 counts exactly only up to 2**24. Two positive terms, never a
        # difference: a final LR a million times lower keeps all its digits.
        done = to_float(ops.subtract(step, s)) / float(t - s)
        left = to_float(ops.subtract(t, step)) / float(t - s)
        if self.anneal == "cosine":
            done, left = arc(done), arc(left)
        return left * a + done * b


@keras.saving.register_keras_serializable(package="keras_lrfinder")
class Cosine(Path):
    """A linear warm-up over a twentieth of the steps, then a half cosine to 0.

    Keras's `CosineDecay` with such a warm-up, but for where it begins, for
    its end (the last step's LR stays) and for the digits of the last steps.

    Args:
        max_lr: Float, positive. LR at the end of the warm-up.
        total_steps: Integer, at least 1. Batches of the whole training.
        begin: As for `OneCycle`.
    """

    def __init__(self, max_lr: float, total_steps: int, begin: int = 0) -> None:
        super().__init__()
        self.max_lr = arguments.positive("max_lr", max_lr)
        self.total_steps = count("total_steps", total_steps, 1)
        self.begin = count("begin", begin, 0)

    def __call__(self, step: Any) -> Any:
        """Returns the LR of optimizer step `step`, a scalar float tensor."""
        total = self.total_steps
        up = round(_WARMUP * total)
        step = self._place(step, total - 1)
        rise = to_float(step + 1) / float(up + 1)
        fall = arc(to_float(ops.subtract(total, step)) / float(total - up))
        return self.max_lr * ops.where(ops.less(step, up), rise, fall)


def count(name: str, value: Any, least: int) -> int:
    """Returns a number of steps that every backend can count."""
    # JAX does so in int32, and a path may begin as late as it is long.
    return arguments.integer(name, value, least, 2**30 - 1)


def to_float(x: Any) -> Any:
    """Returns a step count as a float that holds it."""
    # Half precision cannot hold a step count, whatever the model computes in.
    wide = keras.config.floatx() == "float64"
    return ops.cast(x, "float64" if wide else "float32")


def arc(x: Any) -> Any:
    """Returns a cosine from 0 to 1, for `x` from 0 to 1."""
    return ops.square(ops.sin(x * (math.pi / 2)))
