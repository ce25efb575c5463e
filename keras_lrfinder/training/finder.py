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
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import check_rule
from keras_lrfinder.analysis.suggestions import suggest
from keras_lrfinder.training import result
from keras_lrfinder.training.keras_internals import is_fitting
from keras_lrfinder.training.loan import Loan
from keras_lrfinder.training.loan import check_free
from keras_lrfinder.training.run import RunCallback
from keras_lrfinder.training.run import Updates
from keras_lrfinder.training.run import Watch
from keras_lrfinder.training.snapshot import Snapshot
from keras_lrfinder.training.snapshot import guard

# What the rule was fitted on; more gain next to nothing (`benchmarks/quality`).
_STEPS = 100


class LRFinder(result.Outcome, RunCallback):
    """The learning rate range test, as a callback for `model.fit`.

    Before every batch the learning rate is that of the ramp, after every
    batch its loss is recorded: the loss of that batch alone, not the running
    mean that Keras logs. Once the loss blows up, training stops. Then the
    model, its optimizer and the global random state are put back bit for
    bit, as if the fit had not been; what it compiled the next fit uses.

    The logs of the fit carry `learning_rate`, so that the progress bar,
    History, CSVLogger and TensorBoard show it beside the loss. For callbacks
    that come before this one in the list, the logs do not have it yet.

    One object can be used for one fit after another.

    Two things a callback cannot do, and `lr_find` can: put the model back at
    once after an exception or Ctrl-C (Keras calls no hook then: `restore()`
    does it, or the model's next use, with a warning), and give every step its
    own learning rate where the model is compiled with `steps_per_execution`
    > 1 (here one learning rate per execution, with the mean loss of its
    steps).

    Args:
        start_lr: Float > 0, learning rate of the first step.
        end_lr: Float > `start_lr`, learning rate of the last step.
        steps: Integer >= 2, length of the ramp in updates. None: 100, or all
            of the fit where that has fewer.
        ramp: `"exponential"` or `"linear"`.
        stop_factor: Float > 1: stop once the smoothed loss exceeds this many
            times the best one. None: never stop on a rise, only on NaN and
            infinities.
        monitor: String, the key of the fit's logs that is the loss.
        rule: String, a name in `RULES`, or a function `Curve -> lr`.
        optimizer: The optimizer to sweep when a `train_step` of the user's
            own uses several: the object, or the name of the model's
            attribute. None: `model.optimizer`. Where that is made of
            several, all of them get the same learning rate.
        restore: Whether to put the model back at the end. The optimizer's
            own learning rate, or schedule object, comes back in any case.
        plot_dir: Path of the directory where `loss.jpg` and
            `smooth_loss.jpg` are written at the end; made where it does not
            exist. None writes nothing.
        verbose: 1 prints one line at the end, 0 nothing.
        **unknown: None. Another tool's name is answered with the one here.

    Raises:
        TypeError: An argument is of the wrong kind, or there is none of this
            name.
        ValueError: An argument is not as said above. Also raised by `fit`:
            before the first step where another callback would do harm, there
            is nothing to train or `plot_dir` cannot be written; after it,
            with the model put back, where `monitor` is not in the logs or is
            a metric that rises as the model learns (accuracy), or `optimizer`
            is not the one that trains.

    Example:
        ```python
        finder = LRFinder(start_lr=1e-7, end_lr=10.0, plot_dir="plots")
        model.fit(x_train, y_train, batch_size=64, callbacks=[finder])
        finder.apply(model)
        ```

    Reference:
        Smith, "Cyclical learning rates for training neural networks", 2015
        (arXiv:1506.01186), section 3.3; Gugger, "How do you find a good
        learning rate", 2018.
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
        RunCallback.__init__(self, None, None, monitor)
        arguments.check_known(unknown, LRFinder)
        self._ramp: dict[str, Any] = {
            "start_lr": start_lr,
            "end_lr": end_lr,
            "ramp": ramp,
            "stop_factor": stop_factor,
        }
        # Refuses bad arguments here and not in the middle of a fit.
        RangeTest(steps=2 if steps is None else steps, **self._ramp)
        check_rule(rule)
        arguments.check_flag("restore", restore)
        arguments.check_flag("verbose", verbose)
        if not isinstance(monitor, str):
            raise TypeError(f"`monitor` must be a string. Received: {monitor=}")
        self._optimizer = optimizer
        self._restores = bool(restore)
        self._steps = steps
        self._rule = rule
        self._plot_dir = arguments.directory_path("plot_dir", plot_dir)
        self._verbose = verbose
        self._recorder: RangeTest | None = None
        self._curve: Curve | None = None
        self._runs = result.Runs()
        self._before: Snapshot | None = None
        self._epoch_batches: int | None = None

    @property
    def curve(self) -> Curve:
        """What was measured; `INTERRUPTED` while the test still runs."""
        if self._curve is not None:
            return self._curve
        if self._recorder is None:
            raise RuntimeError(
                "no range test has been run yet: pass this callback to "
                "`model.fit(…, callbacks=[finder])` first"
            )
        return dataclasses.replace(
            self._recorder.curve, batch_size=self.batch_size
        )

    @property
    def suggestion(self) -> Suggestion:
        """Which learning rate to train with, how sure that is, and why."""
        return suggest(self.curve, self._rule)

    def restore(self) -> None:
        """Puts the model back as it was before the run.

        Keras calls no hook after an exception or Ctrl-C inside `fit`. The
        model's next `fit`, `evaluate`, `predict`, `save`, `compile` or
        `set_weights` puts it back by itself, with a warning; this does it now.
        Calling it again changes nothing.
        """
        self._end(stopped=True)

    def set_params(self, params: Any) -> None:
        """Takes the snapshot, before any callback touches the model."""
        super().set_params(params)
        # A run that an exception ended has left its traces behind.
        self.restore()
        self._before = None
        if is_fitting(self.model, threading.get_ident()):
            check_free(self.model)
            self._before = Snapshot(self.model)

    def on_train_begin(self, logs: Any = None) -> None:
        """Takes the model on loan."""
        self.restore()
        if self._plot_dir is not None:
            arguments.check_writable("plot_dir", self._plot_dir)
        before, self._before = self._before, None
        self._recorder = self._curve = None
        self._loan = Loan(
            self.model,
            self._optimizer,
            restore=self._restores,
            before=before,
            is_several=False,
        )
        super().on_train_begin(logs)
        guard(self.model, self.restore)

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the model, which is no part of the outcome."""
        gone = ("_loan", "_watch", "_before")
        return {**super().__getstate__(), **dict.fromkeys(gone)}

    def __repr__(self) -> str:
        about = {**self._ramp, "steps": self._steps}
        settings = ", ".join(f"{k}={v!r}" for k, v in about.items())
        return f"{type(self).__name__}({settings})"

    def __str__(self) -> str:
        if self._recorder is None:
            return f"{type(self).__name__}: no range test has been run yet"
        return super().__str__()

    def _left_behind(self) -> str:
        if self._loan is None:
            return super()._left_behind()
        return (
            "the model is not put back yet: `restore()` does it, or the "
            "model's next use"
        )

    def _repr_html_(self) -> str:
        if self._recorder is None:
            return str(self)
        return super()._repr_html_()

    def _first_step(self, epoch: int) -> Watch:
        try:
            self._recorder = self._plan(epoch)
        except ValueError:
            self._give_back()
            raise
        if self._verbose and result.is_chief():
            lrs = self._recorder.lrs
            after = ", then the model is put back" if self._restores else ""
            print(
                f"LRFinder: {len(lrs)} steps from {lrs[0]:g} to {lrs[-1]:g}"
                f"{after}"
            )
        return super()._first_step(epoch)

    def _plan(self, epoch: int) -> RangeTest:
        """Returns the test for a fit that begins with an epoch."""
        assert self._loan is not None
        updates = Updates(self.model, self._loan.rate)
        fit = self.params or {}
        steps, length = self._steps, None
        batches = self._epoch_batches = fit.get("steps")
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

    def _give_back(self) -> None:
        loan, self._loan = self._loan, None
        if loan is not None:
            loan.close()

    def _end(self, stopped: bool) -> None:
        if self._loan is None:
            return
        self._give_back()
        super()._end(stopped)
        if self._recorder is None:  # not one epoch
            return
        self._recorder.end(
            StopReason.INTERRUPTED
            if self._was_stopped
            else StopReason.OUT_OF_DATA
        )
        self._curve = self.curve
        result.report(self, self._plot_dir)
