"""A recorder's learning rates into a Keras fit, its batch losses out.

`Sweep` is the Keras side of every run of this package: the ramp of the range
test and the probes at a fixed learning rate. What the learning rates are and
when to stop is the recorder's business.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Protocol

import keras

from keras_lrfinder.training.batch_loss import BatchLoss
from keras_lrfinder.training.batch_loss import check_falls
from keras_lrfinder.training.keras_internals import is_overridden
from keras_lrfinder.training.keras_internals import variables_are_current
from keras_lrfinder.training.loan import Loan
from keras_lrfinder.training.loan import loan_of
from keras_lrfinder.training.optimizers import all_optimizers
from keras_lrfinder.training.optimizers import optimizer_names
from keras_lrfinder.training.other_callbacks import may_be_overruled
from keras_lrfinder.training.other_callbacks import rate_setters
from keras_lrfinder.training.updates import Updates

# Where a model of the user's own may set the learning rate itself.
_TRAINING = ("train_step", "make_train_function")


class Recorder(Protocol):
    """What a sweep asks: the next learning rate, and what to do."""

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""

    @property
    def lrs(self) -> Sequence[float]:
        """All learning rates that may come."""

    @property
    def done(self) -> bool:
        """Whether to stop."""

    def record(self, loss: float) -> bool:
        """Takes the loss of a step; False to stop."""


class Sweep:
    """One run, from `on_train_begin` to `on_train_end`.

    Args:
        callback: The Keras callback whose hooks call the methods here.
        loan: The loan that the model is on. It is opened where it is not yet.
        recorder: `Recorder`. May be replaced before the first step.
        updates: `Updates` of the model.
        monitor: String, the key of `logs` to record.

    Attributes:
        batch_size: Integer, how many samples the first batch had, or None
            where nobody knows.
        error: The exception that ended the run, or None.
        warning: String, what the user is to be told at the end, or "".
        is_valid: Whether the first step has shown that the run can be.
    """

    def __init__(
        self,
        callback: keras.callbacks.Callback,
        loan: Loan,
        recorder: Recorder,
        updates: Updates,
        monitor: str,
    ) -> None:
        model = callback.model
        self.recorder = recorder
        self.batch_size: int | None = None
        self.error: Exception | None = None
        self.warning = ""
        self.is_valid = False
        self._callback = callback
        self._model = model
        self._loan = loan
        self._updates = updates
        self._monitor = monitor
        self._thread = threading.get_ident()
        self._watched = may_be_overruled(callback)
        self._watched |= is_overridden(model, _TRAINING)
        # With one optimizer there is no doubt which one trains.
        self._many = len(all_optimizers(model)) > 1
        loan.open(model)
        self._calls = loan.train_function.calls
        self._batch_loss = BatchLoss(model, monitor, loan.jax_state)
        # On JAX `callback.model` copies the whole state out of the fit.
        self._apart = keras.backend.backend() != "jax" or (
            loan.jax_state is not None
            and not (self._many or loan.rate.scales_loss)
            and loan.validation_loss is None
        )
        self._lr = self.used_lr = recorder.lr
        loan.rate.expect(recorder.lrs)
        loan.rate.set(self._lr)
        # On JAX what is set goes into the running state, not the variable.
        self._at_begin = loan.rate.read()
        self._new_epoch = False

    def start_epoch(self) -> None:
        """Remembers that others may set the learning rate here."""
        self._new_epoch = True

    def start_batch(self) -> None:
        """Empties the running mean, so that the batch's own loss is logged."""
        if threading.get_ident() != self._thread:
            raise RuntimeError(
                "the hooks are called from another thread: pass the callback "
                "in a list, `callbacks=[finder]`"
            )
        model = self._running_model()
        if self._new_epoch:
            self._check_nobody_steers()
            self._loan.rate.set(self._lr)
            self._new_epoch = False
        self._batch_loss.start_batch(model)

    def end_batch(self, logs: dict[str, Any] | None) -> None:
        """Records the loss and sets the next learning rate."""
        if self.recorder.done or self.error:
            return
        model = self._running_model()
        try:
            if self._watched:
                self._check_rate()
            step_done = self._step_done(self._loss(logs))
        except (RuntimeError, TypeError, ValueError) as error:
            # Raised at the end of the fit, when the model is back: an
            # exception from here would skip every hook that puts it back.
            self.error = error
            model.stop_training = True
            return
        self.used_lr = self._lr
        if logs is not None:
            logs["learning_rate"] = self._lr
        if step_done:
            self._record(model)

    def end(self) -> None:
        """Gives the model back, unless more runs are to come."""
        if loan_of(self._model) is not self._loan:
            self._loan.close()

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be learnt from this fit."""
        return self.recorder.done or self.error is not None

    def _running_model(self) -> Any:
        return self._model if self._apart else self._callback.model

    def _record(self, model: Any) -> None:
        loss = self._updates.take_loss()
        if self._loan.validation_loss is not None and math.isfinite(loss):
            loss = self._loan.validation_loss(model)
        going_on = self.recorder.record(loss)
        if self._loan.progress is not None:
            self._loan.progress(self._lr, loss, not going_on)
        self._lr = self.recorder.lr
        if going_on:
            self._loan.rate.set(self._lr)
        else:
            model.stop_training = True

    def _step_done(self, loss: float) -> bool:
        """Returns whether the batch just trained completed an update."""
        if not self._updates.add(loss):
            return False
        scales_loss = self._loan.rate.scales_loss
        if not self.is_valid:
            self._check_first_step(scales_loss)
        return not scales_loss or self._updates.moved()

    def _check_first_step(self, scales_loss: bool) -> None:
        model = self._callback.model  # on JAX all variables come up to date
        check_falls(model, self._monitor)
        self._check_function()
        if self._many and not scales_loss and not self._updates.advanced():
            raise ValueError(
                "`optimizer` must be the one that trains. Received: one that "
                f"made no update; the model has {optimizer_names(model)}"
            )
        self.is_valid = True
        self._loan.keep()
        if self._updates.per_call == 1:
            self.batch_size = self._batch_loss.batch_size()

    def _check_function(self) -> None:
        function = self._loan.train_function
        ignored = function.is_installed and function.calls == self._calls
        # Whoever calls the hooks by hand trains nothing.
        if ignored and self._updates.advanced():
            raise RuntimeError(
                "the model trains by other means than its `train_function`, "
                "which the range test had to replace: call the model on one "
                "batch first, `model(x[:1])`, and compile it with a number "
                "for a learning rate"
            )

    def _loss(self, logs: Mapping[str, Any] | None) -> float:
        value = (logs or {}).get(self._monitor)
        if value is None:
            hint = ""
            if is_overridden(self._model, ("train_step",)):
                hint = ": return it from `train_step`, in a dictionary"
            raise ValueError(
                "`monitor` must be a key of the fit's logs, which are "
                f"{sorted(logs or {})}{hint}. Received: "
                f"monitor={self._monitor!r}"
            )
        try:
            return float(value)
        except (TypeError, ValueError):
            raise TypeError(
                "`monitor` must name one number per batch: log its mean. "
                f"Received: monitor={self._monitor!r}, which logs {value!r}"
            ) from None

    def _check_nobody_steers(self) -> None:
        # LearningRateScheduler and its like set it between epochs.
        if self.warning or not variables_are_current(self._model):
            return
        found = self._loan.rate.read()
        own = (self._lr, self.used_lr, self._at_begin)
        if not any(_close(found, lr) for lr in own):
            self.warning = (
                f"{rate_setters(self._callback)} set the learning rate to "
                f"{found:g} during the range test, which went on with its own"
            )

    def _check_rate(self) -> None:
        if self._apart and not variables_are_current(self._model):
            return  # nobody has had a look at the variables
        found = self._loan.rate.read()
        if not _close(found, self._lr):
            raise RuntimeError(
                "something else set the learning rate during the range test, "
                f"to {found:g} where the test had set {self._lr:g}: leave "
                "that callback out of this fit"
            )


def _close(found: float, lr: float) -> bool:
    return math.isclose(found, lr, rel_tol=1e-2, abs_tol=1e-37)
