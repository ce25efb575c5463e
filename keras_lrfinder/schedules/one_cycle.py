"""The one-cycle policy: up to a large learning rate, down to a tiny one."""

from __future__ import annotations

from typing import Any

import keras

from keras_lrfinder.arguments import fraction
from keras_lrfinder.arguments import integer
from keras_lrfinder.arguments import number
from keras_lrfinder.arguments import one_of
from keras_lrfinder.arguments import positive
from keras_lrfinder.schedules.phases import MOST_STEPS
from keras_lrfinder.schedules.phases import Phase
from keras_lrfinder.schedules.phases import value_at

ANNEALS = ("cosine", "linear")


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
        max_lr: Float, positive. LR at the peak, per optimizer step:
            `suggestion.one_cycle_max_lr` of a range test.
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
    schedule = OneCycle(finder.suggestion.one_cycle_max_lr, steps)
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
        self.total_steps = integer("total_steps", total_steps, 2, MOST_STEPS)
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
