"""`LRFinder`: the range test as a callback in the user's own `fit`."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable
from typing import Any

from keras_lrfinder import arguments
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.curve import StopReason
from keras_lrfinder.analysis.range_test import RangeTest
from keras_lrfinder.training import loan as loans
from keras_lrfinder.training import result
from keras_lrfinder.training import run
from keras_lrfinder.training import snapshot
from keras_lrfinder.training.keras_internals import is_fitting

# What the rule was fitted on; more gain next to nothing (`benchmarks/quality`).
_STEPS = 100


class LRFinder(result.Result, run.RunCallback):
    """The learning rate range test, as a callback for `model.fit`.

    Before every batch the learning rate is that of the ramp, after it the loss
    of that batch alone is recorded, not the running mean that Keras logs. Once
    the loss blows up, training stops. Then the model, its optimizer and the
    global random state are put back bit for bit, as if the fit had not been;
    what it compiled the next fit uses. From then on the finder is a `Result`,
    as `lr_find` returns it. It can be used for one fit after another.

    The logs carry `learning_rate`: the progress bar, History, CSVLogger and
    TensorBoard show it. Callbacks before this one in the list have it not.

    Two things `lr_find` can do, and a callback cannot: put the model back at
    once after an exception or Ctrl-C (Keras calls no hook then: `restore()`
    does it, or the model's next use, with a warning), and give every step its
    own learning rate where the model is compiled with `steps_per_execution`
    > 1 (here an execution has one, and the mean loss of its steps).

    Args:
        start_lr: Float > 0, learning rate of the first step.
        end_lr: Float > `start_lr`, learning rate of the last step.
        steps: Integer >= 2, length of the ramp in updates. None: 100, or all
            of the fit where that has fewer.
        ramp: `"exponential"` or `"linear"`.
        stop_factor: Float > 1: stop once the smoothed loss exceeds this many
            times the best one. None: stop on NaN and infinities only.
        monitor: String, the key of the fit's logs that is the loss.
        rule: String, a name in `RULES`, or a function `Curve -> lr`.
        optimizer: The optimizer to sweep when a `train_step` of the user's
            own uses several: the object, or the name of the model's
            attribute. None: `model.optimizer`. Where that is made of
            several, all of them get the same learning rate.
        restore: Whether to put the model back at the end. The optimizer's
            own learning rate, or schedule object, comes back in any case.
        plot_dir: Path of the directory, made where there is none, for
            `loss.jpg` and `smooth_loss.jpg` at the end. None writes nothing.
        verbose: 1 prints one line at the end, 0 nothing.
        **unknown: None. Another tool's name is answered with the one here.

    Raises:
        TypeError: An argument is of the wrong kind, or has an unknown name.
        ValueError: An argument is not as said above. Also raised by `fit`:
            before the first step where another callback would do harm, there
            is nothing to train or `plot_dir` cannot be written; after it, with
            the model put back, where `monitor` is not in the logs or rises as
            the model learns (accuracy), or another `optimizer` trains.

    Example:
        ```python
        finder = LRFinder(start_lr=1e-7, end_lr=10.0, plot_dir="plots")
        model.fit(x_train, y_train, batch_size=64, callbacks=[finder])
        finder.apply(model)
        ```

    Reference: Smith 2015 (arXiv:1506.01186), section 3.3; Gugger 2018, "How do
    you find a good learning rate".
    """

    def __init__(
        self,
        start_lr: float = 1e-7,
        end_lr: float = 10.0,
        *,
        steps: int | None = None,
        ramp: str = "exponential",
        stop_factor: float | None = 4.0,
        monitor: str = "loss",
        rule: str | Callable[[Curve], float] = "default",
        optimizer: Any = None,
        restore: bool = True,
        plot_dir: str | os.PathLike[str] | None = None,
        verbose: int = 1,
        **unknown: Any,
    ) -> None:
        arguments.check_known(unknown, LRFinder)
        monitor = arguments.text("monitor", monitor)
        run.RunCallback.__init__(self, None, None, monitor)
        result.Result.__init__(
            self,
            optimizer=optimizer,
            rule=rule,
            restored=restore,
            plot_dir=plot_dir,
            verbose=verbose,
        )
        self._ramp: dict[str, Any] = {"start_lr": start_lr, "end_lr": end_lr}
        self._ramp |= {"ramp": ramp, "stop_factor": stop_factor}
        self._steps = steps
        # Refuses bad arguments here and not in the middle of a fit.
        RangeTest(steps=2 if steps is None else steps, **self._ramp)
        self._recorder: RangeTest | None = None
        self._before: snapshot.Snapshot | None = None

    @property
    def curve(self) -> Curve:
        """What the ramp measured; `INTERRUPTED` while the test still runs."""
        if self._curve is not None or self._recorder is None:
            return super().curve
        size, seen = self.batch_size, self._recorder.curve
        return dataclasses.replace(seen, batch_size=size)

    def restore(self) -> None:
        """Puts the model back as it was before the run.

        After an exception or Ctrl-C inside `fit` Keras calls no hook. The next
        `fit`, `evaluate`, `predict`, `save`, `compile` or `set_weights` does it
        with a warning, this at once. Calling it again changes nothing.
        """
        self._end(stopped=True)

    def set_params(self, params: Any) -> None:
        """Takes the snapshot, before any callback touches the model."""
        super().set_params(params)
        # A run that an exception ended has left its traces behind.
        self.restore()
        self._before = None
        if is_fitting(self.model, threading.get_ident()):
            loans.check_free(self.model)
            self._before = snapshot.Snapshot(self.model)

    def on_train_begin(self, logs: Any = None) -> None:
        """Takes the model on loan."""
        self.restore()
        arguments.check_writable("plot_dir", self._plot_dir)
        before, self._before = self._before, None
        self._recorder = self._curve = None
        self._loan = loans.Loan(
            self.model,
            self._optimizer,
            restore=self._restores,
            before=before,
            is_several=False,
        )
        super().on_train_begin(logs)
        snapshot.guard(self.model, self.restore)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the model, which is no part of the outcome."""
        gone = {"_loan": None, "_watch": None, "_before": None}
        return super().__getstate__() | gone

    def __repr__(self) -> str:
        about = {**self._ramp, "steps": self._steps}
        settings = ", ".join(f"{k}={v!r}" for k, v in about.items())
        return f"{type(self).__name__}({settings})"

    def __str__(self) -> str:
        if self._recorder is None:
            return f"{type(self).__name__}: no range test has been run yet"
        return super().__str__()

    def _repr_html_(self) -> str:
        return str(self) if self._recorder is None else super()._repr_html_()

    def _left_behind(self) -> str:
        if self._loan is None:
            return super()._left_behind()
        return (
            "the model is not put back yet: `restore()` does it, or the "
            "model's next use"
        )

    def _first_step(self, epoch: int) -> run.Watch:
        try:
            self._recorder = self._plan(epoch)
        except ValueError:
            self.restore()
            raise
        if self._verbose and result.is_chief():
            lrs = self._recorder.lrs
            said = f"{len(lrs)} steps from {lrs[0]:g} to {lrs[-1]:g}"
            after = ", then the model is put back" if self._restores else ""
            print(f"LRFinder: {said}{after}")
        return super()._first_step(epoch)

    def _plan(self, epoch: int) -> RangeTest:
        """Returns the test for a fit that begins with an epoch."""
        assert self._loan is not None
        updates = run.Updates(self.model, self._loan.rate)
        fit = self.params or {}
        batches = self._epoch_batches = fit.get("steps")
        steps, length = self._steps, None
        if batches is not None:
            length = updates.per_epoch(batches)
            epochs = max(fit.get("epochs", 1) - epoch, 0)
            most = updates.in_fit(batches, epochs)
            if steps is None and most < 2:
                raise ValueError(
                    "a range test needs a fit of at least 2 steps. Received: "
                    f"{most} step(s) from {epochs} epoch(s) of {batches} "
                    "batch(es); use more epochs or a smaller batch_size"
                )
            steps = steps or min(most, _STEPS)
        return RangeTest(
            steps=steps or _STEPS,
            steps_per_epoch=length,
            monitor=self._monitor,
            **self._ramp,
            **self._loan.facts(),
        )

    def _end(self, stopped: bool) -> None:
        loan, self._loan = self._loan, None
        if loan is None:
            return
        loan.close()
        super()._end(stopped)
        if self._recorder is None:  # not one epoch
            return
        reason = StopReason.OUT_OF_DATA
        if self._was_stopped:
            reason = StopReason.INTERRUPTED
        self._recorder.end(reason)
        result.finish(self, self.curve)
