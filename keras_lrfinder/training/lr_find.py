"""`lr_find`: the whole job in one call."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import keras

from keras_lrfinder import arguments
from keras_lrfinder.analysis import search as searching
from keras_lrfinder.analysis import suggestions
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.curve import StopReason
from keras_lrfinder.analysis.posterior import PROBE_STEPS
from keras_lrfinder.analysis.range_test import RangeTest
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.pictures.plotting import is_training
from keras_lrfinder.training import company
from keras_lrfinder.training import data as fit_data
from keras_lrfinder.training import keras_internals as internals
from keras_lrfinder.training import result
from keras_lrfinder.training import run as running
from keras_lrfinder.training.loan import Loan
from keras_lrfinder.training.progress import Progress
from keras_lrfinder.training.replay import Replay
from keras_lrfinder.training.samples import Rows
from keras_lrfinder.training.snapshot import check_model

# Mixed precision may skip some updates; data for these.
_SPARE_BATCHES = 64
# Where a model of the user's own may do without `y`.
_FITTING = ("fit", "train_step", "compute_loss")


def lr_find(
    model: Any,
    x: Any = None,
    y: Any = None,
    *,
    start_lr: float = 1e-7,
    end_lr: float = 10.0,
    steps: int = 100,
    ramp: str = "exponential",
    stop_factor: float | None = 4.0,
    probe: bool = True,
    epochs: int | None = None,
    total_steps: int | None = None,
    schedule: str = "constant",
    trainings: int = 0,
    validation: Any = None,
    monitor: str = "loss",
    rule: str | Callable[[Curve], float] = "default",
    optimizer: Any = None,
    restore: bool = True,
    plot_dir: str | os.PathLike[str] | None = None,
    verbose: int = 1,
    **fit_kwargs: Any,
) -> result.Result:
    """Finds the learning rate for the training that follows.

    Say that training as to `fit`: the data, `batch_size`, `epochs`, and the
    schedule. The model is trained for `steps` updates while the learning rate
    climbs (the ramp), then three times for 60 steps at one learning rate
    (probes), and, with `trainings`, a few times for all of that training. At
    the end, also after an exception or Ctrl-C (which goes on to the caller),
    the model, its optimizer and the global random state are bit for bit what
    they were, and `fit` uses the training step that the test has compiled.

    What lies outside the model does not come back: a generator stays consumed
    (as far as the ramp needs it), a shuffled `tf.data.Dataset` goes on.

    Args:
        model: A compiled `keras.Model`, built or not, fresh or trained.
        x: The training data, anything that `model.fit` takes.
        y: The targets, where `x` does not bring them.
        start_lr: Float > 0, learning rate of the first step.
        end_lr: Float > `start_lr`, learning rate of the last step.
        steps: Integer >= 2, length of the ramp in updates.
        ramp: As for `LRFinder`.
        stop_factor: As for `LRFinder`.
        probe: Whether to run anything after the ramp.
        epochs: Integer >= 1, of the training that follows.
        total_steps: Integer >= 1, its steps, where nobody knows how many an
            epoch has. Neither: a middle length, 1,000 steps.
        schedule: What the learning rate does in that training: `"constant"`,
            `"cosine"`, `"one_cycle"` or `"triangular"`. Its peak is found.
        trainings: Integer, 0 or 2 to 5: how many times, at most, to try this
            very training. With 3 as good as a grid search (`benchmarks`).
        validation: `(x, y)` or `(x, y, sample_weight)`, arrays whose loss
            after each step of the ramp takes the place of the training loss.
            Slower, and right where the model overfits within the test.
        monitor: As for `LRFinder`.
        rule: As for `LRFinder`. Any but `"default"` reads the ramp alone.
        optimizer: As for `LRFinder`.
        restore: As for `LRFinder`; False, and nothing follows the ramp.
        plot_dir: As for `LRFinder`.
        verbose: 1 shows one line of progress and the outcome, 0 nothing.
        **fit_kwargs: The other arguments of `model.fit` (`batch_size`,
            `class_weight`, `callbacks`, …). `validation_data` and the part
            that `validation_split` holds out are not trained on; they judge
            probes and trainings. Callbacks of Keras that steer training,
            write files or send something are left out, which is printed.

    Returns:
        `Result`: `lr`, `suggestion`, `curve`, `runs`, `plot()`, `apply()`,
        as a finished `LRFinder` has them.

    Raises:
        TypeError: An argument is of the wrong kind, or has an unknown name.
        ValueError: The model is not compiled, or has no trainable weights;
            an argument is not as said above.

    Example:
        ```python
        finder = lr_find(model, x, y, batch_size=64, epochs=10)
        finder.apply(model)
        model.fit(x, y, batch_size=64, epochs=10)
        ```
    """
    check_model(model)
    _check_fit_arguments(model, x, y, monitor, fit_kwargs)
    suggestions.check_rule(rule)
    arguments.check_flag("probe", probe)
    test = RangeTest(start_lr, end_lr, steps, ramp, stop_factor)
    validation_loss = _validation_loss(validation, monitor)
    callbacks = company.harmless(fit_kwargs.pop("callbacks", None), verbose)
    given = {"x": x, "y": y, "validation_data": validation, **fit_kwargs}
    own = internals.is_overridden(model, ("fit",))
    data = fit_data.FitData(given, as_given=own)
    finder = result.Result(
        model=model,
        optimizer=optimizer,
        steps_per_epoch=data.batches,
        restored=restore,
        plot_dir=plot_dir,
        verbose=verbose,
    )
    arguments.check_writable("plot_dir", finder._plot_dir)
    with (
        contextlib.closing(Progress(verbose)) as progress,
        contextlib.closing(Loan(model, optimizer, restore=restore)) as loan,
    ):
        total_steps, _ = result.length_of_training(
            epochs, total_steps, data.batches, loan.per_update
        )
        plan = searching.Plan(schedule, total_steps, trainings=trainings)
        alone = _why_alone(rule, restore) if probe else ""
        if alone or not probe:
            plan = dataclasses.replace(plan, probes=0, trainings=0)
        job = _Job(loan, data, monitor, progress, plan)
        curve = job.ramp(test, callbacks, validation_loss)
        runs, found = job.search(curve, rule, alone)
        found = _blamed(found, data.not_finite())
    result.finish(finder, curve, found, runs)
    return finder


@dataclasses.dataclass
class _Job:
    """Ramp and runs on one model that is on loan."""

    loan: Loan
    data: fit_data.FitData
    monitor: str
    progress: Progress
    plan: searching.Plan
    made: list[str] = dataclasses.field(default_factory=list)  # kinds of runs

    def ramp(
        self, test: RangeTest, callbacks: list[Any], other_loss: Any
    ) -> Curve:
        """Runs the range test, and returns what it measured."""
        loan, plan, step = self.loan, self.plan, self.progress.step
        facts = {**loan.facts(), "monitor": self.monitor}
        if epoch := self.data.batches:
            facts["steps_per_epoch"] = max(epoch // loan.per_update, 1)
        left = plan.probes * PROBE_STEPS + plan.trainings * plan.steps
        self.progress.begin("ramp", len(test.lrs), left)
        batches = len(test.lrs) * loan.per_update
        if loan.rate.scales_loss:
            batches += _SPARE_BATCHES
        callback = running.RunCallback(
            loan, test, self.monitor, progress=step, validation_loss=other_loss
        )
        given = self.data.ramp(batches, internals.first_epoch(loan.model))
        given |= {**self.data.rest, "callbacks": [callback, *callbacks]}
        loan.fit(**given, verbose=0)
        test.end(StopReason.OUT_OF_DATA)
        facts["batch_size"] = callback.batch_size
        return dataclasses.replace(test.curve, **facts)

    def search(
        self, curve: Curve, rule: Any, note: str
    ) -> tuple[tuple[Run, ...], Suggestion]:
        """Runs what follows the ramp; returns the runs and what they say."""
        replay, plan = None, self.plan
        if plan.probes and searching.can_search(curve):
            self.loan.rewind()
            if plan.trainings:
                replay, why = self._replay(plan.steps)
                if replay is None:
                    note = f"No whole training was tried, as {why}."
                    plan = dataclasses.replace(plan, trainings=0)
            if replay is None:
                replay, why = self._replay(PROBE_STEPS)
                note = note or (f"Not probed, as {why}." if why else "")
        runs: tuple[Run, ...] = ()
        if replay is None:
            length = plan.total_steps
            found = suggestions.suggest(
                curve, rule, schedule=plan.schedule, total_steps=length
            )
        else:
            self.plan = plan = dataclasses.replace(
                plan,
                held_out=replay.held_out,
                again=replay.again,
                epoch=replay.epoch,
                unchecked=replay.why_not,
            )
            train = functools.partial(self._train, replay)
            runs, found = searching.search(curve, train, plan)
        return runs, _noted(found, note)

    def _replay(self, steps: int) -> tuple[Replay | None, str]:
        """Returns the data of runs, or None and why there are none."""
        try:
            replay = self.data.replay(steps, self.loan.per_update)
        except fit_data.UnreadableError as error:
            return None, str(error)
        if steps > PROBE_STEPS and not replay.enough(steps):
            return None, f"fewer than its {steps:,} batches could be kept"
        return replay, ""

    def _train(self, replay: Replay, run: Run) -> list[float]:
        """Makes a run, and says how far it is."""
        plan, made, name = self.plan, self.made, "judging before training"
        kind, most = "probe", plan.probes
        if is_training(run):
            kind, most = "training", plan.trainings
        if run.steps:
            made.append(kind)
            at = "at" if run.schedule == "constant" else "peak"
            name = f"{kind} {made.count(kind)} of {most}, {at} {run.lr:.1e}"
        left = (plan.trainings - made.count("training")) * plan.steps
        if kind == "probe":
            left += (plan.probes - made.count("probe")) * PROBE_STEPS
        self.progress.begin(name, len(run.lrs), left)
        data, step = replay.fit_data(run), self.progress.step
        return running.train_run(
            self.loan, run, data, self.monitor, progress=step
        )


def _why_alone(rule: Any, restore: bool) -> str:
    """Returns why nothing has its place after a ramp, or an empty string."""
    if rule != "default":
        # Runs correct the package's own rule.
        return f"Not probed, as {rule=} was asked for its own answer."
    if not restore:
        return "Not probed, as restore=False keeps what the ramp has trained."
    return ""


def _noted(found: Suggestion, note: str) -> Suggestion:
    """Returns the suggestion with a note, if there is one, said first."""
    reason = f"{note} {found.reason}" if note else found.reason
    return dataclasses.replace(found, reason=reason)


def _blamed(found: Suggestion, bad: dict[str, str]) -> Suggestion:
    """Returns the suggestion, where the data are not finite, with that said."""
    if not bad:
        return found
    said = " and ".join(f"`{name}` has {what}" for name, what in bad.items())
    if found.lr is not None:
        found = _noted(found, f"{said}, so confidence is low.")
        return dataclasses.replace(found, confidence="low")
    said += ": replace it, or drop these samples, and test again."
    return dataclasses.replace(found, reason=said)


def _check_fit_arguments(
    model: Any, x: Any, y: Any, monitor: str, fit_kwargs: dict[str, Any]
) -> None:
    """Raises where `fit` could not be called like this."""
    if not model.compiled or model.optimizer is None:
        raise ValueError(
            "`model` must be compiled with an optimizer: call "
            f"`model.compile(…)` first. Received: model={model!r}"
        )
    if "initial_epoch" in fit_kwargs:
        raise ValueError(
            "`initial_epoch` must not be given: `epochs` are those of the "
            "training that follows. "
            f"Received: initial_epoch={fit_kwargs['initial_epoch']!r}"
        )
    fit = keras.Model.fit
    unknown = set(fit_kwargs) - arguments.arguments_of(fit)
    # Some tools put a function of their own, of any arguments, in its place.
    if not arguments.takes_anything(fit):
        arguments.check_known(sorted(unknown), lr_find, fit)
    if (size := fit_kwargs.get("batch_size")) is not None:
        arguments.integer("batch_size", size, 1)
    if arguments.text("monitor", monitor).startswith("val_"):
        raise ValueError(
            "`monitor` must be logged after each batch; for the loss on a "
            "validation sample after each batch give `validation=(x, y)`. "
            f"Received: {monitor=}"
        )
    if x is None:
        raise ValueError(
            "`x` must be the data to train on, as for `fit`. Received: x=None"
        )
    loss = getattr(model, "loss", None)
    own = internals.is_overridden(model, _FITTING)
    if y is None and not own and loss is not None and Rows.of((x, None, None)):
        raise ValueError(
            f"`y` must be given, as the model is compiled with loss={loss!r}. "
            "Received: y=None"
        )


def _validation_loss(validation: Any, monitor: str) -> Any:
    """Returns what gives a model's loss on a fixed sample, if there is one."""
    if validation is None:
        return None
    sized = isinstance(validation, (tuple, list))
    if not (sized and len(validation) in (2, 3)):
        size = f" of {len(validation)}" if sized else ""
        raise TypeError(
            "`validation` must be (x, y) or (x, y, sample_weight). "
            f"Received: a {type(validation).__name__}{size}"
        )
    x, y, *weights = validation

    def loss(model: Any) -> float:
        # Older Keras goes on with the mean of the calls before.
        model.reset_metrics()
        logs = model.test_on_batch(x, y, *weights, return_dict=True)
        return float(logs[monitor])

    return loss
