"""`LRFinder`: the range test as a callback in the user's own `fit`."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.range_test import RangeTest
from keras_lrfinder.analysis.stop_reason import StopReason
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import check_rule
from keras_lrfinder.analysis.suggestions import suggest
from keras_lrfinder.arguments import check_flag
from keras_lrfinder.arguments import integer
from keras_lrfinder.pictures.figure import shown_axes
from keras_lrfinder.pictures.plotting import plot_curve
from keras_lrfinder.pictures.plotting import save_plots
from keras_lrfinder.pictures.report import html_report
from keras_lrfinder.pictures.report import line
from keras_lrfinder.pictures.report import text_report
from keras_lrfinder.pictures.tensorboard import write_curve
from keras_lrfinder.training.environment import check_strategy
from keras_lrfinder.training.environment import check_writable
from keras_lrfinder.training.environment import directory_path
from keras_lrfinder.training.environment import is_chief
from keras_lrfinder.training.environment import run_facts
from keras_lrfinder.training.hints import check_known
from keras_lrfinder.training.interrupted import guard
from keras_lrfinder.training.interrupted import release
from keras_lrfinder.training.keras_internals import fit_begins
from keras_lrfinder.training.learning_rate import apply_learning_rate
from keras_lrfinder.training.loan import Loan
from keras_lrfinder.training.loan import loan_of
from keras_lrfinder.training.one_cycle_training import OneCycleTraining
from keras_lrfinder.training.optimizers import all_optimizers
from keras_lrfinder.training.optimizers import check_kind
from keras_lrfinder.training.optimizers import named_optimizers
from keras_lrfinder.training.snapshot import Snapshot
from keras_lrfinder.training.snapshot import check_model
from keras_lrfinder.training.sweep import Sweep
from keras_lrfinder.training.sweep_callback import SweepCallback
from keras_lrfinder.training.updates import Updates

# What the rule was fitted on; more gain next to nothing (`benchmarks/quality`).
_STEPS = 100


class LRFinder(SweepCallback):
    """The learning rate range test, as a callback for `model.fit`.

    Before every batch the learning rate is that of the ramp, after every
    batch its loss is recorded: the loss of that batch alone, not the running
    mean that Keras logs. Once the loss blows up, training stops. Then the
    model, its optimizer and the global random state are put back bit for
    bit, as if the fit had not been.

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
            before the first step where another callback would do harm, the
            number of steps is not known or `plot_dir` cannot be written;
            after it, with the model put back, where `monitor` is not in the
            logs or is a metric that rises as the model learns (accuracy), or
            `optimizer` is not the one that trains.

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
        super().__init__()
        check_known(unknown, LRFinder)
        self._ramp = {
            "start_lr": start_lr,
            "end_lr": end_lr,
            "ramp": ramp,
            "stop_factor": stop_factor,
        }
        # Refuses bad arguments here and not in the middle of a fit.
        RangeTest(steps=2 if steps is None else steps, **self._ramp)  # type: ignore[arg-type]
        check_rule(rule)
        check_flag("restore", restore)
        check_flag("verbose", verbose)
        if not isinstance(monitor, str):
            raise TypeError(f"`monitor` must be a string. Received: {monitor=}")
        self._monitor = monitor
        self._optimizer = optimizer
        self._restores = bool(restore)
        self._steps = steps
        self._rule = rule
        self._plot_dir = directory_path("plot_dir", plot_dir)
        self._verbose = verbose
        self._test: RangeTest | None = None
        self._curve: Curve | None = None
        self._suggestion: Suggestion | None = None
        self._probes: tuple[Any, ...] = ()
        self._before: Snapshot | None = None
        self._epoch_batches: int | None = None

    @property
    def curve(self) -> Curve:
        """What was measured; `INTERRUPTED` while the test still runs."""
        if self._curve is not None:
            return self._curve
        curve = self._begun_test().curve
        if self._sweep is not None:
            curve = dataclasses.replace(
                curve, batch_size=self._sweep.batch_size
            )
        return curve

    @property
    def suggestion(self) -> Suggestion:
        """Which learning rate to train with, how sure that is, and why."""
        if self._suggestion is not None:
            return self._suggestion
        suggestion = suggest(self.curve, self._rule)
        if self._curve is not None:
            self._suggestion = suggestion
        return suggestion

    @property
    def lr(self) -> float:
        """The suggested learning rate, a plain float.

        Raises a `ValueError` with the reason where there is none.
        """
        return float(self.suggestion)

    def __float__(self) -> float:
        return self.lr

    @property
    def probes(self) -> tuple[Any, ...]:
        """The short runs at fixed learning rates that `lr_find` made."""
        self._begun_test()
        return self._probes

    def plot(self, ax: Any = None, rules: Sequence[str] = ()) -> Any:
        """Draws the curve with the suggestion, and returns the Axes.

        As the last line of a notebook's cell it shows the picture; in a
        script `plt.show()` does, and `plt.savefig(…)` writes it.

        Args:
            ax: A matplotlib Axes to draw into, or None for a new figure.
            rules: Names in `RULES` whose answers are marked as well.
        """
        return plot_curve(
            self.curve,
            self.suggestion,
            probes=self.probes,
            rules=rules,
            ax=shown_axes() if ax is None else ax,
        )

    def save_plots(self, directory: str | os.PathLike[str]) -> Any:
        """Writes `loss.jpg` and `smooth_loss.jpg` into `directory`.

        Returns:
            The paths of both files.
        """
        return save_plots(
            self.curve, self.suggestion, directory, probes=self.probes
        )

    def save_tensorboard(self, log_dir: str | os.PathLike[str]) -> Any:
        """Writes losses, learning rates and the picture for TensorBoard.

        Args:
            log_dir: What `tensorboard --logdir` is given, or a folder in it.

        Returns:
            The path of the event file.
        """
        return write_curve(self.curve, self.suggestion, log_dir, self.probes)

    def apply(self, model: Any = None) -> float:
        """Sets the suggested learning rate on the model's optimizer.

        Also where that holds a schedule: a constant one takes its place, and
        the model can be saved, checkpointed and exported as before. Of a
        suggestion that is for a schedule it is not the peak, but
        `suggestion.constant_lr`. Says what it did, unless `verbose` is 0.

        Args:
            model: The model to set it on, or None for the one tested. Of
                its optimizers it is the one that the test swept.

        Returns:
            The learning rate.

        Raises:
            TypeError: `model` is no Keras model.
            ValueError: There is none to suggest; the message is the reason.
                Or `model` has not the optimizer that was tested, or not one
                of its kind.
        """
        lr = self.suggestion.constant_lr
        model = self.model if model is None else model
        check_model(model)
        optimizers = named_optimizers(model, self._optimizer)
        own = {id(optimizer) for optimizer in all_optimizers(model)}
        if not all(id(optimizer) in own for optimizer in optimizers):
            raise ValueError(
                "`model` must hold the optimizer that was tested, but it has "
                "another one; set its learning rate to "
                f"{lr:g} by hand. Received: model={model!r}"
            )
        check_kind(optimizers, self.curve.optimizer)
        done = apply_learning_rate(model, optimizers, lr)
        if self._verbose and is_chief():
            print(f"LRFinder: {done}")
        return lr

    def one_cycle(
        self,
        epochs: int,
        *,
        steps_per_epoch: int | None = None,
        momentum: bool = True,
    ) -> OneCycleTraining:
        """Returns the callback that trains by the one-cycle policy.

        ```python
        model.fit(x, y, epochs=5, callbacks=finder.one_cycle(epochs=5))
        ```

        Args:
            epochs: Integer, those of the `fit`.
            steps_per_epoch: Integer, batches of an epoch. None: as in the
                test; to be given with another batch size.
            momentum: Whether the momentum moves the other way, where the
                optimizer has one.

        Raises:
            ValueError: There is no learning rate to suggest; the message is
                the reason. Or the test did not know how long an epoch is.
        """
        float(self.suggestion)  # raises where there is no learning rate
        epochs = integer("epochs", epochs, 1)
        per_epoch = steps_per_epoch or self._epoch_batches
        if per_epoch is None:
            raise ValueError(
                "`steps_per_epoch` must be given: of the data that was tested "
                "nobody knows how many batches an epoch has. Received: "
                "steps_per_epoch=None"
            )
        total_steps = epochs * per_epoch
        peak = self.suggestion.lr_for("one_cycle", total_steps)
        return OneCycleTraining(peak, total_steps, momentum=momentum)

    def to_dict(self) -> dict[str, float | int | str | None]:
        """Returns the outcome as plain numbers and strings.

        For experiment trackers, reports and tests: `mlflow.log_dict`,
        `wandb.config.update`, `json.dump`. `curve.to_json()` has the losses.
        """
        found, curve = self.suggestion, self.curve
        best = float(curve.best_loss)
        return {
            "lr": found.lr,
            "low": found.low,
            "high": found.high,
            "confidence": found.confidence,
            "rule": found.rule,
            "reason": found.reason,
            "optimizer": curve.optimizer,
            "steps": len(curve),
            "stop_reason": str(curve.stop_reason),
            "best_loss": best if math.isfinite(best) else None,
            "batch_size": curve.batch_size,
            "probes": len(self.probes),
        }

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out the model, which is no part of the outcome."""
        gone = ("_model", "_updates", "_sweep", "_before", "_optimizer")
        return {
            name: None if name in gone else value
            for name, value in vars(self).items()
        }

    def __repr__(self) -> str:
        about = {**self._ramp, "steps": self._steps}
        settings = ", ".join(f"{k}={v!r}" for k, v in about.items())
        return f"{type(self).__name__}({settings})"

    def __str__(self) -> str:
        if self._test is None:
            return f"{type(self).__name__}: no range test has been run yet"
        report = text_report(self.curve, self.suggestion, self.probes)
        if self._curve is None or not self._restores:
            return report
        return f"{report}\n(nothing was trained: the model is as it was before)"

    def _repr_html_(self) -> str:
        if self._test is None:
            return str(self)
        return html_report(self.curve, self.suggestion, self.probes)

    def restore(self) -> None:
        """Puts the model back as it was before the run.

        Keras calls no hook after an exception or Ctrl-C inside `fit`. The
        model's next `fit`, `evaluate`, `predict`, `save`, `compile` or
        `set_weights` puts it back by itself, with a warning; this does it now.
        Calling it again changes nothing.
        """
        self._end_sweep(stopped=True)

    def set_params(self, params: Any) -> None:
        """Takes the snapshot, before any callback touches the model."""
        super().set_params(params)
        # A run that an exception ended has left its traces behind.
        self._end_sweep(stopped=True)
        self._before = None
        if fit_begins(self) and loan_of(self.model) is None:
            self._before = Snapshot(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Plans anew where the fit does not begin with its first epoch."""
        super().on_epoch_begin(epoch, logs)
        sweep = self._sweep
        if sweep is None or sweep.is_valid or epoch == 0 or self._steps:
            return
        if not len(self._begun_test().curve):
            self._test = sweep.recorder = self._plan(epoch)

    def _new_sweep(self) -> Sweep:
        model = self.model
        check_strategy(model)
        if self._plot_dir is not None:
            check_writable("plot_dir", self._plot_dir)
        before, self._before = self._before, None
        loan = loan_of(model) or Loan(
            model, self._optimizer, restore=self._restores, before=before
        )
        self._curve, self._suggestion, self._probes = None, None, ()
        self._updates = Updates(model, loan.rate)
        self._facts = run_facts(model, loan.optimizers, self._monitor)
        self._test = self._plan(first_epoch=0)
        sweep = Sweep(self, loan, self._test, self._updates, self._monitor)
        if loan_of(model) is None:
            guard(model, self.restore)
            self._announce()
        return sweep

    def _plan(self, first_epoch: int) -> RangeTest:
        per_epoch = self._epoch_batches = (self.params or {}).get("steps")
        steps = self._steps
        if steps is None:
            steps = self._steps_of_fit(per_epoch, first_epoch)
        if per_epoch is not None:
            per_epoch = self._updates.per_epoch(per_epoch)
        return RangeTest(
            steps=steps,
            steps_per_epoch=per_epoch,
            **self._ramp,  # type: ignore[arg-type]
            **self._facts,
        )

    def _steps_of_fit(self, per_epoch: int | None, first_epoch: int) -> int:
        if per_epoch is None:
            return _STEPS
        epochs = max((self.params or {}).get("epochs", 1) - first_epoch, 0)
        steps = self._updates.in_fit(per_epoch, epochs)
        if steps < 2:
            raise ValueError(
                "a range test needs a fit of at least 2 steps. Received: "
                f"{steps} step(s) from {epochs} epoch(s) of {per_epoch} "
                "batch(es); use more epochs or a smaller batch_size"
            )
        return min(steps, _STEPS)

    def _sweep_ended(self, sweep: Sweep, stopped: bool) -> None:
        release(self.model)
        test = self._begun_test()
        test.end(StopReason.INTERRUPTED if stopped else StopReason.OUT_OF_DATA)
        self._curve = dataclasses.replace(
            test.curve, batch_size=sweep.batch_size
        )
        if loan_of(self.model) is None:
            self._report()

    def _announce(self) -> None:
        if self._verbose and is_chief():
            test = self._begun_test()
            lrs = f"{test.lrs[0]:g} to {test.lrs[-1]:g}"
            after = ", then the model is put back" if self._restores else ""
            print(f"LRFinder: {len(test.lrs)} steps from {lrs}{after}")

    def _report(self) -> None:
        """Writes the pictures and says the verdict, where asked to."""
        if not is_chief():
            return
        if self._plot_dir is not None:
            self.save_plots(self._plot_dir)
        if self._verbose:
            print(line(self.curve, self.suggestion))

    def _begun_test(self) -> RangeTest:
        if self._test is None:
            raise RuntimeError(
                "no range test has been run yet: pass this callback to "
                "`model.fit(…, callbacks=[finder])` first"
            )
        return self._test


def conclude(
    finder: LRFinder,
    probes: tuple[Any, ...] = (),
    suggestion: Suggestion | None = None,
) -> None:
    """Ends what `lr_find` began: puts the probes on record, and reports.

    Args:
        finder: An `LRFinder` whose run is over.
        probes: What was run after it.
        suggestion: What these say; None: as the curve says.
    """
    finder._probes = probes
    finder._suggestion = suggestion or finder.suggestion
    finder._report()
