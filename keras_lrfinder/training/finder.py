"""`LRFinder`: the range test as a callback in the user's own `fit`."""

from __future__ import annotations

import datetime
import os
import sys
import tempfile
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.curve import StopReason
from keras_lrfinder.analysis.range_test import RangeTest
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import check_rule
from keras_lrfinder.analysis.suggestions import suggest
from keras_lrfinder.arguments import check_flag
from keras_lrfinder.pictures.plotting import plot_curve
from keras_lrfinder.pictures.plotting import save_plots
from keras_lrfinder.pictures.report import html_report
from keras_lrfinder.pictures.report import line
from keras_lrfinder.pictures.report import text_report
from keras_lrfinder.pictures.tensorboard import write_curve
from keras_lrfinder.training.applying import apply_learning_rate
from keras_lrfinder.training.learning_rate import all_optimizers
from keras_lrfinder.training.learning_rate import leaf_optimizers
from keras_lrfinder.training.snapshot import check_model
from keras_lrfinder.training.sweep import Sweep
from keras_lrfinder.training.sweep import named_optimizers
from keras_lrfinder.version import __version__

__all__ = ["LRFinder"]


class LRFinder(Sweep):
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

    Two things a callback cannot do, and `lr_find` can: put the model back
    after an exception or Ctrl-C (Keras calls no hook then; call `restore()`
    yourself), and give every step its own learning rate where the model is
    compiled with `steps_per_execution` > 1 (here one learning rate per
    execution, with the mean loss of its steps).

    Args:
        start_lr: Float > 0, learning rate of the first step.
        end_lr: Float > `start_lr`, learning rate of the last step.
        steps: Integer >= 2, length of the ramp in updates. None: all of the
            fit, epochs times steps per epoch.
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

    Raises:
        TypeError: An argument is of the wrong kind.
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
        model.optimizer.learning_rate = float(finder.suggestion)
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
    ) -> None:
        super().__init__(monitor=monitor, optimizer=optimizer, restore=restore)
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
        self._steps = steps
        self._rule = rule
        self._plot_dir = _path(plot_dir)
        self._verbose = verbose
        self._test: RangeTest | None = None
        self._suggestion: Suggestion | None = None
        self._probes: tuple[Any, ...] = ()

    @property
    def curve(self) -> Curve:
        """What was measured; `INTERRUPTED` while the test still runs."""
        return self._run().curve

    @property
    def suggestion(self) -> Suggestion:
        """Which learning rate to train with, how sure that is, and why."""
        if self._suggestion is not None:
            return self._suggestion
        suggestion = suggest(self.curve, self._rule)
        if self._run().done:
            self._suggestion = suggestion
        return suggestion

    @property
    def probes(self) -> tuple[Any, ...]:
        """The short runs at fixed learning rates that `lr_find` made."""
        self._run()
        return self._probes

    def plot(self, ax: Any = None, rules: Sequence[str] = ()) -> Any:
        """Draws the curve with the suggestion, and returns the Axes.

        Args:
            ax: A matplotlib Axes to draw into, or None for a figure of its
                own, which pyplot does not know (`plot().figure.savefig(…)`).
            rules: Names in `RULES` whose answers are marked as well.
        """
        return plot_curve(
            self.curve,
            self.suggestion,
            probes=self.probes,
            rules=rules,
            ax=ax,
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
        the model can be saved, checkpointed and exported as before. Says
        what it did, unless `verbose` is 0.

        Args:
            model: The model to set it on, or None for the one tested. Of
                its optimizers it is the one that the test swept.

        Returns:
            The learning rate.

        Raises:
            TypeError: `model` is no Keras model.
            ValueError: There is none to suggest; the message is the reason.
                Or `model` has not the optimizer that was tested.
        """
        lr = float(self.suggestion)
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
        done = apply_learning_rate(model, optimizers, lr)
        if self._verbose and _is_chief():
            print(f"LRFinder: {done}")
        return lr

    def __repr__(self) -> str:
        about = {**self._ramp, "steps": self._steps}
        settings = ", ".join(f"{k}={v!r}" for k, v in about.items())
        return f"{type(self).__name__}({settings})"

    def __str__(self) -> str:
        if self._test is None:
            return f"{type(self).__name__}: no range test has been run yet"
        return text_report(self.curve, self.suggestion, self.probes)

    def _repr_html_(self) -> str:
        if self._test is None:
            return str(self)
        return html_report(self.curve, self.suggestion, self.probes)

    @property
    def verbose(self) -> int:
        """Whether the finder speaks."""
        return self._verbose

    def conclude(self, probes: tuple[Any, ...], suggestion: Suggestion) -> None:
        """Puts the probes of the last run, and their verdict, on record."""
        self._probes, self._suggestion = probes, suggestion

    def start(self, model: Any) -> RangeTest:
        """Plans the ramp for the fit that begins."""
        _check_strategy(model)
        if self._plot_dir is not None:
            _check_writable(self._plot_dir)
        self._suggestion, self._probes = None, ()
        optimizers = named_optimizers(model, self._optimizer)
        self._about = _about(model, optimizers, self._monitor)
        self._about["steps_per_epoch"] = self._steps_per_epoch()
        self._test = self._new_test(initial_epoch=0)
        return self._test

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Plans anew where the fit does not begin with its first epoch."""
        super().on_epoch_begin(epoch, logs)
        fresh = self._test is not None and self._recorder is self._test
        if fresh and epoch > 0 and self._steps is None and not self._checked:
            self._test = self._recorder = self._new_test(initial_epoch=epoch)

    def note_batch_size(self, rows: int | None) -> None:
        """Puts the size of the first batch on record."""
        self._run().note_batch_size(rows)

    def finish(self, stopped: bool) -> None:
        """Makes the curve, the suggestion and the pictures."""
        test = self._run()
        test.end(StopReason.INTERRUPTED if stopped else StopReason.OUT_OF_DATA)
        if not self._borrowed:
            self.report()

    def report(self) -> None:
        """Writes the pictures and says the verdict, where asked to."""
        if not _is_chief():
            return
        if self._plot_dir is not None:
            self.save_plots(self._plot_dir)
        if self._verbose:
            print(line(self.curve, self.suggestion))

    def _run(self) -> RangeTest:
        if self._test is None:
            raise RuntimeError(
                "no range test has been run yet: pass this callback to "
                "`model.fit(…, callbacks=[finder])` first"
            )
        return self._test

    def _new_test(self, initial_epoch: int) -> RangeTest:
        steps = self._steps
        if steps is None:
            steps = self._steps_of_fit(initial_epoch)
        return RangeTest(steps=steps, **self._ramp, **self._about)  # type: ignore[arg-type]

    def _steps_per_epoch(self) -> int | None:
        per_epoch = (self.params or {}).get("steps")
        if per_epoch is None:
            return None
        calls = -(-per_epoch // self._per_call)
        return int(max(calls // self._per_step, 1))

    def _steps_of_fit(self, initial_epoch: int) -> int:
        params = self.params or {}
        per_epoch = params.get("steps")
        if per_epoch is None:
            raise ValueError(
                "`steps` must be given where Keras does not know how many "
                "steps an epoch has (a generator, a dataset of unknown "
                "size): LRFinder(steps=100), or fit(steps_per_epoch=…). "
                "Received: steps=None"
            )
        epochs = max(params.get("epochs", 1) - initial_epoch, 0)
        calls = epochs * -(-per_epoch // self._per_call)
        steps = (calls + self._phase) // self._per_step
        if steps < 2:
            raise ValueError(
                "a range test needs a fit of at least 2 steps. Received: "
                f"{steps} step(s) from {epochs} epoch(s) of {per_epoch} "
                "batch(es); use more epochs or a smaller batch_size"
            )
        return int(steps)


def _is_chief() -> bool:
    """Returns whether this is the one process that writes and speaks."""
    backend = keras.backend.backend()
    if backend == "jax":
        return bool(sys.modules["jax"].process_index() == 0)
    if backend == "torch":
        group = sys.modules["torch"].distributed
        if group.is_available() and group.is_initialized():
            return bool(group.get_rank() == 0)
    return True


def _about(model: Any, optimizers: list[Any], monitor: str) -> dict[str, Any]:
    """Returns what a later reader of the curve needs to know of the run."""
    leaves = [
        leaf for optimizer in optimizers for leaf in leaf_optimizers(optimizer)
    ]
    names = dict.fromkeys(type(leaf).__name__.lower() for leaf in leaves)
    backend = keras.backend.backend()
    now = datetime.datetime.now(datetime.timezone.utc)
    return {
        "optimizer": "+".join(names),
        "hyperparameters": _plain_settings(leaves[0]),
        "monitor": monitor,
        "environment": {
            "date": now.isoformat(timespec="seconds"),
            "keras_lrfinder": __version__,
            "keras": keras.__version__,
            "backend": backend,
            backend: str(getattr(sys.modules.get(backend), "__version__", "")),
            "model": str(model.name),
        },
    }


def _plain_settings(optimizer: Any) -> dict[str, Any]:
    # Not `get_config`: it fails for a schedule that cannot be serialised.
    return {
        name: value
        for name, value in vars(optimizer).items()
        if not name.startswith("_")
        and name not in ("name", "built")
        and isinstance(value, (bool, int, float, str))
    }


def _check_strategy(model: Any) -> None:
    strategy = type(getattr(model, "distribute_strategy", None)).__name__
    if "MultiWorker" in strategy or "CollectiveAllReduce" in strategy:
        raise ValueError(
            f"{strategy} is not supported: Keras 3's own `fit` fails under "
            "it. Run the range test on one worker, under MirroredStrategy "
            "or none."
        )


def _path(directory: str | os.PathLike[str] | None) -> str | None:
    if directory is None:
        return None
    if not isinstance(directory, (str, os.PathLike)):
        raise TypeError(
            "`plot_dir` must be the path of a directory, or None. "
            f"Received: plot_dir={directory!r}"
        )
    return os.fspath(directory)


def _check_writable(directory: str) -> None:
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise ValueError(
            "`plot_dir` must be a directory that can be written. "
            f"Received: plot_dir={directory!r} ({error})"
        ) from error
