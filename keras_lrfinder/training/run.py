"""A run: a path of learning rates into a Keras fit, its batch losses out.

Ramp, probe and whole training are all one callback. What the learning rates
are and when to stop is the recorder's business.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from keras_lrfinder.analysis.range_test import RangeTest
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.training import company
from keras_lrfinder.training import keras_internals as internals
from keras_lrfinder.training import learning_rate as rates
from keras_lrfinder.training.loan import Loan
from keras_lrfinder.training.loan import check_trainable
from keras_lrfinder.training.train_function import BatchLoss
from keras_lrfinder.training.train_function import check_falls

Progress = Callable[[float, float], None]

# Where a model of the user's own may set the learning rate itself.
_TRAINING = ("train_step", "make_train_function")
# Mixed precision skips updates while the gradients overflow, some eight at
# the start. So many in a row only come where they are not finite at all.
_MOST_SKIPPED = 40


class Path:
    """Recorder of a `Run`: all its learning rates are known beforehand."""

    def __init__(self, run: Run) -> None:
        self.steps = run.steps
        self.lrs: list[float] = np.asarray(run.lrs, dtype=float).tolist()
        self.losses: list[float] = []

    @property
    def lr(self) -> float:
        """The learning rate of the next step; at the end that of the last."""
        return self.lrs[min(len(self.losses), len(self.lrs) - 1)]

    @property
    def done(self) -> bool:
        """Whether the run is over."""
        losses = self.losses
        failed = bool(losses) and not math.isfinite(losses[-1])
        return failed or len(losses) >= len(self.lrs)

    @property
    def is_judged(self) -> bool:
        """Whether the next loss is one of weights that stand still."""
        return not self.done and len(self.losses) >= self.steps

    def record(self, loss: float) -> bool:
        """Takes the loss of a step; False to stop."""
        self.losses.append(float(loss))
        return not self.done


def train_run(
    loan: Loan,
    run: Run,
    data: Mapping[str, Any],
    monitor: str = "loss",
    *,
    progress: Progress | None = None,
) -> list[float]:
    """Makes a run from the restored state, and goes back to it.

    The `data` are arguments of `fit`: `run.steps * loan.per_update` batches to
    train on, then those to judge by, one a step; and the like.

    Returns the loss of each step of `run.lrs`, as far as it came. NaN is the
    last one of a run whose weights were not finite in the end. None comes of a
    run that only judges where the optimizer moves weights at any rate.
    """
    path, model = Path(run), loan.model
    callback = RunCallback(loan, path, monitor, progress=progress)
    try:
        loan.fit(**data, callbacks=[callback], verbose=0)
        # Some layers hide a NaN from the loss: relu makes it zero.
        failed = not _has_finite_weights(model)
        moved = not run.steps and loan.has_moved()
    finally:
        loan.rewind()
    losses = [] if moved else path.losses
    if failed and losses[: run.steps] and _has_finite_weights(model):
        losses = losses[: run.steps]
        losses[-1] = math.nan
    return losses


def _has_finite_weights(model: Any) -> bool:
    return all(
        bool(np.isfinite(keras.ops.convert_to_numpy(weight)).all())
        for weight in model.trainable_variables
    )


class RunCallback(keras.callbacks.Callback):
    """Takes a path's learning rates into a fit, and its losses out.

    Args:
        loan: The loan that the model is on. None: a subclass makes one.
        recorder: What says the next learning rate, and when to stop; likewise.
        monitor: String, the key of `logs` to record.
        progress: Told the learning rate and the loss of each step.
        validation_loss: Returns of the model the loss to record instead of
            the logged one.

    Attributes:
        batch_size: Integer, how many samples the first step had, of all
            batches that it accumulates; or None where nobody knows.
    """

    def __init__(
        self,
        loan: Loan | None,
        recorder: RangeTest | Path | None,
        monitor: str = "loss",
        *,
        progress: Progress | None = None,
        validation_loss: Callable[[Any], float] | None = None,
    ) -> None:
        super().__init__()
        self._loan = loan
        self._recorder = recorder
        self._monitor = monitor
        self._progress = progress
        self._validation_loss = validation_loss
        self.batch_size: int | None = None
        self._was_stopped = False
        self._watch: Watch | None = None

    def set_params(self, params: Any) -> None:
        """Keras calls this before any callback touches the model."""
        super().set_params(params)
        company.check_other_callbacks(self, RunCallback)

    def on_train_begin(self, logs: Any = None) -> None:
        """Opens the loan."""
        assert self._loan is not None
        self.batch_size, self._was_stopped = None, False
        self._loan.open()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Remembers that others may set the learning rate here."""
        if self._watch is None and self._loan is not None:
            self._watch = self._first_step(epoch)
        if self._watch is not None:
            self._watch.new_epoch = True

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Empties the running mean, so that the batch's own loss is logged."""
        if self._watch is None and self._loan is not None:
            # A loop of the user's own that calls no hook of epochs.
            self._watch = self._first_step(epoch=0)
        if self._watch is not None:
            self._watch.begin()

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Records the loss and sets the next learning rate."""
        if self._watch is not None:
            self._watch.end(logs)
            self.batch_size = self._watch.batch_size

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Adds the learning rate of its last batch to the epoch's logs."""
        if logs is not None and self._watch is not None:
            logs["learning_rate"] = self._watch.used_lr

    def on_test_begin(self, logs: Any = None) -> None:
        """Cuts a validation after the end short: it would run in full."""
        if self._watch is not None and self._watch.is_over:
            self.model.stop_evaluating = True

    def on_test_end(self, logs: Any = None) -> None:
        """Lets go of what such a validation has not read."""
        if self._watch is not None and self._watch.is_over:
            internals.close_epoch(internals.running_epoch())

    def on_train_end(self, logs: Any = None) -> None:
        """Warns, or raises what a hook may not."""
        self._end(stopped=bool(self.model.stop_training))

    def _first_step(self, epoch: int) -> Watch:
        """Returns what watches over the steps, the first of them in `epoch`."""
        assert self._loan is not None
        assert self._recorder is not None
        return Watch(self, self._loan, self._recorder)

    def _end(self, stopped: bool) -> None:
        """Ends the run, if there is one."""
        watch, self._watch = self._watch, None
        if watch is None:
            return
        if watch.warning:
            warnings.warn(watch.warning, UserWarning, stacklevel=4)
        if watch.error is not None:
            raise watch.error
        assert self._recorder is not None
        self._was_stopped = stopped and not self._recorder.done


class Watch:
    """One step after the other of a running fit."""

    def __init__(
        self, callback: RunCallback, loan: Loan, recorder: RangeTest | Path
    ) -> None:
        model = callback.model
        self.batch_size: int | None = None
        self.error: Exception | None = None
        self.warning = ""
        self.new_epoch = False
        self._callback, self._model = callback, model
        self._loan, self._recorder = loan, recorder
        self._path = recorder if isinstance(recorder, Path) else None
        self._monitor = callback._monitor
        self._validation_loss = callback._validation_loss
        self._progress = callback._progress
        self._watched = company.may_be_overruled(
            callback
        ) or internals.is_overridden(model, _TRAINING)
        # With one optimizer there is no doubt which one trains.
        self._many = len(rates.all_optimizers(model)) > 1
        self._updates = Updates(model, loan.rate, self._path)
        self._calls = loan.train_function.calls
        state = loan.jax_state
        self._batch_loss = BatchLoss(
            model, self._monitor, loan.train_function, state, self._watched
        )
        # On JAX `callback.model` copies the whole state out of the fit.
        self._apart = keras.backend.backend() != "jax" or (
            state is not None
            and not (self._many or loan.rate.scales_loss)
            and self._validation_loss is None
        )
        if state is None:
            loan.rate.assign_by(lambda v: rates.assigner(v, recorder.lrs))
        self._lr = self.used_lr = recorder.lr
        loan.rate.set(self._lr)
        # On JAX what is set goes into the running state, not the variable.
        self._at_begin = loan.rate.read()
        if self._path is not None and self._path.is_judged:
            loan.stand_still(callback)

    def begin(self) -> None:
        """Empties the running mean, so that the batch's own loss is logged."""
        self._bring_up_to_date()
        if self.new_epoch:
            self._check_nobody_steers()
            self._loan.rate.set(self._lr)
            self.new_epoch = False
        self._batch_loss.empty()

    def end(self, logs: dict[str, Any] | None) -> None:
        """Records the loss and sets the next learning rate."""
        if self.is_over:
            return
        self._bring_up_to_date()
        try:
            if self._watched:
                self._check_rate()
            step_done = self._is_done(self._loss(logs))
        except (RuntimeError, TypeError, ValueError) as error:
            # Raised at the end of the fit, when the model is back: an
            # exception from here would skip every hook that puts it back.
            self.error = error
            self._model.stop_training = True
            return
        self.used_lr = self._lr
        if logs is not None:
            logs["learning_rate"] = self._lr
        if step_done:
            self._record()

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be learnt from this fit."""
        return self._recorder.done or self.error is not None

    def _bring_up_to_date(self) -> None:
        """On JAX, where the model's variables are to be read: has them be."""
        if not self._apart:
            _ = self._callback.model

    def _record(self) -> None:
        loss = self._updates.take_loss()
        if self._validation_loss is not None and math.isfinite(loss):
            loss = self._validation_loss(self._model)
        going_on = self._recorder.record(loss)
        if self._progress is not None:
            self._progress(self._lr, loss)
        self._lr = self._recorder.lr
        if not going_on:
            self._model.stop_training = True
            return
        self._loan.rate.set(self._lr)
        path = self._path
        if path is not None and len(path.losses) == path.steps:
            self._loan.stand_still(self._callback)

    def _is_done(self, loss: float) -> bool:
        """Returns whether the batch just trained completed an update."""
        if not self._updates.add(loss):
            return False
        if not self._loan.is_valid:
            self._check_first_step()
        if not self._loan.rate.scales_loss or self._path is not None:
            return True
        return self._updates.moved()

    def _check_first_step(self) -> None:
        model = self._callback.model  # on JAX all variables come up to date
        check_falls(model, self._monitor)
        check_trainable(model)  # on TensorFlow there may be weights only now
        advanced = self._updates.advanced()
        function = self._loan.train_function
        # Whoever calls the hooks by hand trains nothing.
        if function.is_needed and function.calls == self._calls and advanced:
            raise RuntimeError(
                "the model trains by other means than its `train_function`, "
                "which the range test had to replace: call the model on one "
                "batch first, `model(x[:1])`, and compile it with a number "
                "for a learning rate"
            )
        if self._many and not self._loan.rate.scales_loss and not advanced:
            optimizers = keras.optimizers.Optimizer
            names = [
                k for k, v in vars(model).items() if isinstance(v, optimizers)
            ]
            raise ValueError(
                "`optimizer` must be the one that trains. Received: one that "
                f"made no update; the model has {', '.join(names)}"
            )
        self._loan.is_valid = True
        if self._updates.per_call == 1:
            size = self._batch_loss.batch_size()
            self.batch_size = size and size * self._loan.per_update

    def _loss(self, logs: Mapping[str, Any] | None) -> float:
        value = (logs or {}).get(self._monitor)
        if value is None:
            hint = ""
            if internals.is_overridden(self._model, ("train_step",)):
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
        if self.warning or not internals.variables_are_current(self._model):
            return
        found = self._loan.rate.read()
        own = (self._lr, self.used_lr, self._at_begin)
        if not any(_close(found, lr) for lr in own):
            self.warning = (
                f"{company.rate_setters(self._callback)} set the learning "
                f"rate to {found:g} during the range test, which went on with "
                "its own"
            )

    def _check_rate(self) -> None:
        if self._apart and not internals.variables_are_current(self._model):
            return  # nobody has had a look at the variables
        found = self._loan.rate.read()
        if not _close(found, self._lr):
            raise RuntimeError(
                "something else set the learning rate during the range test, "
                f"to {found:g} where the test had set {self._lr:g}: leave "
                "that callback out of this fit"
            )


class Updates:
    """Collects the losses of the batches that share one update.

    Gradient accumulation makes an update of several batches,
    `steps_per_execution` calls the hooks once for several, and mixed
    precision skips updates. A `path` goes by batches instead: so many for
    each of its steps, then one for each that is judged.
    """

    def __init__(
        self, model: Any, rate: rates.SweptRate, path: Any = None
    ) -> None:
        leaf = rate.leaves[0]
        per_update = leaf.gradient_accumulation_steps or 1
        self.per_call = getattr(model, "steps_per_execution", 1) or 1
        self._per_step = math.lcm(per_update, self.per_call) // self.per_call
        seen = int(keras.ops.convert_to_numpy(internals.batches_seen(leaf)))
        by_batch = path is not None or self.per_call > 1
        self._phase = 0 if by_batch else seen % per_update
        self._path = path
        self._rate = rate
        self._done = rate.updates()
        self._skipped = 0
        self._losses: list[float] = []

    def per_epoch(self, batches: int) -> int:
        """Returns how many updates an epoch of so many batches makes."""
        return int(max(-(-batches // self.per_call) // self._per_step, 1))

    def in_fit(self, batches: int, epochs: int) -> int:
        """Returns how many updates a fit makes from here on."""
        calls = epochs * -(-batches // self.per_call)
        return int((calls + self._phase) // self._per_step)

    def add(self, loss: float) -> bool:
        """Adds the loss of a call; returns whether it completes an update."""
        self._losses.append(loss)
        if self._path is not None and self._path.is_judged:
            return True
        if len(self._losses) < self._per_step - self._phase:
            return False
        self._phase = 0
        return True

    def advanced(self) -> bool:
        """Returns whether there was an update since `moved` was asked."""
        return self._rate.updates() > self._done

    def moved(self) -> bool:
        """Returns whether the optimizers have made an update since asked.

        After many that were skipped the answer is yes, and the loss NaN.
        """
        done = self._rate.updates()
        advanced = done > self._done
        self._done = done
        self._skipped = 0 if advanced else self._skipped + 1
        if self._skipped >= _MOST_SKIPPED:
            self._losses[:] = [math.nan]
            return True
        if not advanced:
            # The learning rate was not used: it stays for the next batches.
            self._losses.clear()
        return advanced

    def take_loss(self) -> float:
        """Returns the mean loss of the update, and forgets its batches."""
        losses = self._losses
        loss = losses[0] if len(losses) == 1 else sum(losses) / len(losses)
        losses.clear()
        return loss


def _close(found: float, lr: float) -> bool:
    return math.isclose(found, lr, rel_tol=1e-2, abs_tol=1e-37)
