"""The range test itself: which learning rate next, and when to stop.

`RangeTest` is pure: it neither trains nor knows Keras. Ask it for the
learning rate, train one batch with it, record the loss, until it says stop.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lrfinder import arguments
from keras_lrfinder.analysis import curve as curves
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.curve import StopReason

# A rise counts from so many times the typical jump between two losses, and
# after so many of them, where the test is long enough.
_NOISE_FACTOR, _SETTLED = 5.0, 10


def ramp_lrs(
    start_lr: float, end_lr: float, steps: int, ramp: str = "exponential"
) -> NDArray[np.float64]:
    """Returns the learning rate of every step of a range test.

    For `i = 0 … N-1` with `N = steps`:

    ```
    exponential:  lr_i = lr_0 * (lr_(N-1) / lr_0) ** (i / (N-1))
    linear:       lr_i = lr_0 + i * (lr_(N-1) - lr_0) / (N-1)
    ```

    The exponential ramp is Gugger's (2018), the linear one Smith's (2015,
    arXiv 1506.01186, section 3.3). Both ends are exact.

    Example:
    >>> [f"{lr:.6g}" for lr in ramp_lrs(1e-4, 1.0, 5)]
    ['0.0001', '0.001', '0.01', '0.1', '1']
    """
    start = arguments.positive("start_lr", start_lr)
    end = arguments.positive("end_lr", end_lr)
    if not start < end:
        raise ValueError(
            "`start_lr` must be below `end_lr`. "
            f"Received: {start_lr=}, {end_lr=}"
        )
    steps = arguments.integer("steps", steps, least=2)
    progress = np.arange(steps, dtype=np.float64) / (steps - 1)
    if arguments.one_of("ramp", ramp, curves.RAMPS) == "exponential":
        # In logarithms, as end / start may overflow; divided by the last
        # one, as the power of ten of a logarithm is not exact.
        low, high = math.log10(start), math.log10(end)
        lrs = 10.0 ** (low + progress * (high - low))
    else:
        lrs = start + progress * (end - start)
    lrs[0], lrs[-1] = start, end
    return lrs


class RangeTest:
    """A learning rate range test for a training loop of your own.

    Args:
        start_lr: Float > 0, learning rate of the first step.
        end_lr: Float > `start_lr`, learning rate of the last step.
        steps: Integer >= 2, the number of steps of the whole ramp. A step
            is one update of the weights.
        ramp: `"exponential"` or `"linear"`.
        stop_factor: Float > 1: the test stops once the smoothed loss exceeds
            this many times the lowest smoothed loss, by more than noise
            explains. Where losses can be zero or negative a factor means
            nothing; there the rise is compared with the fall before it.
            None never stops on a rise. NaN and infinities always stop.
        optimizer: As for `Curve`. `suggest` gives better answers when it
            knows this and the next three.
        hyperparameters: As for `Curve`.
        batch_size: As for `Curve`.
        steps_per_epoch: As for `Curve`.
        monitor: As for `Curve`, for pictures and files.
        environment: Likewise.

    Example:
    >>> test = RangeTest(start_lr=1e-4, end_lr=1.0, steps=5)
    >>> for loss in (2.3, 2.1, 1.7, 1.2, 9.0):
    ...     lr = test.lr                      # train with this one …
    ...     if not test.record(loss):         # … and record its loss
    ...         break
    >>> test.curve.stop_reason.name
    'DIVERGED'
    """

    def __init__(
        self,
        start_lr: float,
        end_lr: float,
        steps: int,
        ramp: str = "exponential",
        stop_factor: float | None = 4.0,
        *,
        optimizer: str = "",
        hyperparameters: Mapping[str, Any] | None = None,
        monitor: str = "loss",
        batch_size: int | None = None,
        steps_per_epoch: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        lrs = ramp_lrs(start_lr, end_lr, steps, ramp)
        self._lrs: list[float] = lrs.tolist()
        if stop_factor is not None:
            stop_factor = arguments.number(
                "stop_factor", stop_factor, finite=False
            )
            if not stop_factor > 1:
                raise ValueError(
                    "`stop_factor` must be above 1, or None. "
                    f"Received: {stop_factor=}"
                )
        self._stop_factor = stop_factor
        self._about: dict[str, Any] = {
            "start_lr": self._lrs[0],
            "end_lr": self._lrs[-1],
            "steps": len(self._lrs),
            "ramp": ramp,
            "stop_factor": self._stop_factor,
            "optimizer": optimizer,
            "hyperparameters": dict(hyperparameters or {}),
            "monitor": monitor,
            "batch_size": batch_size,
            "steps_per_epoch": steps_per_epoch,
            "environment": dict(environment or {}),
        }
        span = curves.ema_span(len(self._lrs))
        self._average = curves.RunningEMA(span)
        # Before that the average, and what is known of the noise, rest on too
        # few losses; in a very short test on as many as it can spare.
        self._settled = max(math.ceil(span), min(_SETTLED, len(self._lrs) // 3))
        self._losses: list[float] = []
        self._smoothed: list[float] = []
        self._best = math.inf
        self._best_step = 0
        self._first = math.nan
        self._positive = True
        self._reason: StopReason | None = None

    @property
    def lr(self) -> float:
        """The learning rate for the next step; once over, the last one."""
        return self._lrs[min(len(self._losses), len(self._lrs) - 1)]

    @property
    def lrs(self) -> Sequence[float]:
        """The learning rates of all steps of the ramp."""
        return self._lrs

    @property
    def done(self) -> bool:
        """Whether the test is over."""
        return self._reason is not None

    @property
    def curve(self) -> Curve:
        """What was measured so far; `INTERRUPTED` before the test is over."""
        return Curve(
            lrs=np.array(self._lrs[: len(self._losses)]),
            losses=np.array(self._losses),
            smoothed=np.array(self._smoothed),
            best_loss=self._best if math.isfinite(self._best) else math.nan,
            stop_reason=self._reason or StopReason.INTERRUPTED,
            **self._about,
        )

    def record(self, loss: float) -> bool:
        """Records the loss of the batch that was trained with `lr`.

        Args:
            loss: Float, or anything that `float()` takes (a zero-dimensional
                tensor, say). NaN and infinities end the test.

        Returns:
            True to go on, False when the test is over.
        """
        if self._reason is not None:
            raise RuntimeError(
                f"the range test is over ({self._reason}): "
                "make a new RangeTest for another run"
            )
        value = _as_float(loss)
        smoothed = self._average.update(value)
        self._losses.append(value)
        self._smoothed.append(smoothed)
        if not math.isfinite(value):
            self._reason = StopReason.NOT_FINITE
            return False
        if math.isnan(self._first):
            self._first = smoothed
        self._positive &= value > 0
        if smoothed < self._best:
            self._best, self._best_step = smoothed, len(self._losses) - 1
        if self._diverged(smoothed):
            self._reason = StopReason.DIVERGED
        elif len(self._losses) == len(self._lrs):
            self._reason = StopReason.COMPLETED
        return self._reason is None

    def end(self, reason: StopReason) -> None:
        """Ends the test before its last step, unless it is over already.

        Args:
            reason: `StopReason.OUT_OF_DATA` or `StopReason.INTERRUPTED`.
        """
        arguments.check_type("reason", reason, StopReason, "a StopReason")
        if self._reason is None:
            self._reason = reason

    def _diverged(self, smoothed: float) -> bool:
        factor = self._stop_factor
        # The first averages hold few losses and are as noisy as those.
        if factor is None or len(self._losses) <= self._settled:
            return False
        if self._positive and not smoothed > factor * self._best:
            return False
        # A factor of the loss has no meaning without a zero to measure from:
        # the fall so far takes the place of the loss.
        size = self._best if self._positive else self._first - self._best
        rise = smoothed - self._best
        return rise > max((factor - 1.0) * size, _NOISE_FACTOR * self._noise())

    def _noise(self) -> float:
        # Up to the best loss only: what comes after it may be the blow-up.
        until = max(self._best_step, self._settled - 1) + 1
        losses = np.array(self._losses[:until])
        if len(losses) < 2:
            return 0.0
        return float(np.median(np.abs(np.diff(losses))))


def _as_float(loss: Any) -> float:
    if hasattr(loss, "detach"):
        loss = loss.detach()  # PyTorch warns of a float with a gradient
    try:
        return float(loss)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`loss` must be one number. Received: loss={loss!r}"
        ) from error
