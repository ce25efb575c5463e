"""`lr_find`: the whole job in one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.longer_runs import LongerRuns
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.analysis.probes import MOST_PROBES
from keras_lrfinder.analysis.probes import Climb
from keras_lrfinder.analysis.schedule_factors import MIDDLE_STEPS
from keras_lrfinder.analysis.schedule_factors import check_training
from keras_lrfinder.analysis.search import TRIAL_STEPS
from keras_lrfinder.analysis.search import TRIALS
from keras_lrfinder.analysis.search import Search
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.whole_trainings import FEWEST
from keras_lrfinder.analysis.whole_trainings import MOST
from keras_lrfinder.analysis.whole_trainings import WholeTrainings
from keras_lrfinder.arguments import check_flag
from keras_lrfinder.arguments import integer
from keras_lrfinder.training.finder import LRFinder
from keras_lrfinder.training.finder import conclude
from keras_lrfinder.training.fit_data import FitData
from keras_lrfinder.training.hints import arguments_of
from keras_lrfinder.training.hints import check_monitor
from keras_lrfinder.training.hints import check_targets
from keras_lrfinder.training.hints import meant
from keras_lrfinder.training.hints import takes_anything
from keras_lrfinder.training.interrupted import restore_interrupted
from keras_lrfinder.training.keras_internals import first_epoch
from keras_lrfinder.training.loan import Loan
from keras_lrfinder.training.other_callbacks import harm
from keras_lrfinder.training.other_callbacks import steers_learning_rate
from keras_lrfinder.training.other_callbacks import writes
from keras_lrfinder.training.probe_data import Replay
from keras_lrfinder.training.probe_runs import Prober
from keras_lrfinder.training.progress import Progress
from keras_lrfinder.training.snapshot import check_model

# Mixed precision may skip some updates; data for these.
_SPARE_BATCHES = 64
# Of a generator's batches, kept beside those that the probes train on.
_MOST_RESERVED = 16
_TOO_FEW = (
    "; no whole training was tried, as fewer than {:,} batches could be kept"
)


def lr_find(
    model: Any,
    x: Any = None,
    y: Any = None,
    *,
    start_lr: float = 1e-7,
    end_lr: float = 10.0,
    steps: int = 100,
    probe: bool = True,
    budget: int | None = None,
    schedule: str = "constant",
    total_steps: int | None = None,
    validation: Any = None,
    verbose: int = 1,
    **kwargs: Any,
) -> LRFinder:
    """Runs a range test and returns the finished `LRFinder`.

    Trains `model` for `steps` updates on as many epochs as these need, then,
    with `probe`, for some short runs at fixed learning rates that confirm or
    correct the suggestion. At the end, also after an exception or Ctrl-C
    (which goes on to the caller), the model, its optimizer and the global
    random state are bit for bit what they were: a `fit` after `lr_find` does
    what it would have done without.

    What lies outside the model does not come back: a generator stays
    consumed (by what a ramp of `steps` needs and no more; where the test ends
    earlier, by what was trained on and the few batches that Keras reads
    ahead), a shuffled `tf.data.Dataset` object goes on in its order.

    An error or Ctrl-C within the test comes through once the model is back.
    The curve until there is kept only where an `LRFinder` was passed to `fit`.

    Args:
        model: A compiled `keras.Model`, built or not, fresh or trained.
        x: The training data, anything that `model.fit` takes.
        y: The targets, where `x` does not bring them.
        start_lr: Float > 0, learning rate of the first step.
        end_lr: Float > `start_lr`, learning rate of the last step.
        steps: Integer >= 2, length of the ramp in updates.
        probe: Whether to run probes after the ramp. Ramp and probes together
            stay within 300 training steps at the default `steps`.
        budget: Integer >= `steps`, the most training steps, ramp and probes
            together. None: the ramp and three probes of 60 steps. With fewer
            there are fewer probes; from `steps + 900` on three learning rates
            round what they say are tried for 240 steps. From `steps + 180`
            and twice `total_steps` on two to five whole trainings are made in
            their place, with `schedule`: with four, as good as a grid search.
        schedule: `"constant"`, `"cosine"`, `"one_cycle"` or `"triangular"`:
            the training that follows. `suggestion.lr` is its peak.
        total_steps: Integer >= 1, how many steps that training has. None: a
            middle length, 1,000 (`Suggestion.total_steps`).
        validation: `(x, y)` or `(x, y, sample_weight)`, arrays of a fixed
            validation sample: its loss after each step is recorded instead
            of the batch's training loss. Slower, and right where the model
            overfits within the test. None: the training loss.
        verbose: 1 shows one line for all of it, with the time that is left
            (where no line can be written over, as in a file, one for each
            part), and the outcome at the end; 0 nothing.
        **kwargs: The other arguments of `LRFinder` (`ramp`, `stop_factor`,
            `monitor`, `rule`, `optimizer`, `restore`, `plot_dir`) and of
            `model.fit` (`batch_size`, `class_weight`, `callbacks`, …).
            `validation_data` and the part that `validation_split` holds out
            are not trained on; the probes are judged by them.
            Callbacks of Keras that steer training, write files or send
            something are left out, which is printed; others are called.

    Returns:
        The `LRFinder`, with `curve`, `suggestion`, `probes` and `plot()`.

    Raises:
        TypeError: `model` is no Keras model; an argument that neither
            `LRFinder` nor `fit` has; one of the wrong kind.
        ValueError: The model is not compiled; `epochs` or `initial_epoch`
            was given (`steps` decides how long the test is); no such
            schedule; as `LRFinder`.

    Example:
        ```python
        finder = lr_find(model, x_train, y_train, batch_size=64)
        finder.apply(model)
        model.fit(x_train, y_train, batch_size=64, epochs=10)
        ```
    """
    finder_kwargs, fit_kwargs = _sort_arguments({"x": x, "y": y, **kwargs})
    _check_compiled(model)
    restore_interrupted(model)
    check_flag("probe", probe)
    check_training(schedule, total_steps)
    if x is None:
        raise ValueError(
            "`x` must be the data to train on, as for `fit`. Received: x=None"
        )
    check_targets(model, x, y)
    finder = LRFinder(
        start_lr, end_lr, steps=steps, verbose=verbose, **finder_kwargs
    )
    callbacks = _harmless(fit_kwargs.pop("callbacks", None), verbose)
    loan = Loan(
        model,
        finder_kwargs.get("optimizer"),
        restore=finder_kwargs.get("restore", True),
    )
    monitor = finder_kwargs.get("monitor", "loss")
    loan.validation_loss = _validation_loss(validation, monitor)
    if validation is not None:
        fit_kwargs.setdefault("validation_data", validation)
    why_not = _why_no_probes(finder_kwargs)
    plan = _Plan(steps, schedule=schedule, total_steps=total_steps)
    if probe and not why_not:
        plan = plan.within(budget)
    job = _Job(model, loan, finder, fit_kwargs, plan, monitor)
    progress = Progress(steps, plan.lengths, verbose)
    loan.progress = progress.watch
    found: tuple[Any, ...] = ()
    with loan:
        loan.one_step_per_call()
        if plan.lengths:
            job.keep_batches()
            job.run_ramp(callbacks)
            found = job.run_probes()
        else:
            job.run_ramp(callbacks)
            if probe and why_not and finder.suggestion.lr is not None:
                found = (), _unprobed(finder.suggestion, why_not)
        # In here, as whoever reads data may draw random numbers.
        found = job.blame_data(*found)
    progress.close()
    probes, suggestion = found
    if (suggestion.schedule, suggestion.total_steps) != (schedule, total_steps):
        suggestion = suggestion.for_training(schedule, total_steps)
    conclude(finder, probes, suggestion)
    return finder


def _why_no_probes(finder_kwargs: dict[str, Any]) -> str:
    """Returns why probes have no place after a ramp, or an empty string."""
    rule = finder_kwargs.get("rule", "default")
    if rule != "default":
        # Probes correct the package's own rule.
        return f"{rule=} was asked for its own answer"
    if not finder_kwargs.get("restore", True):
        return "restore=False keeps what the ramp has trained"
    return ""


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is run.

    Attributes:
        steps: Integer, length of the ramp.
        schedule: String, the schedule of the training that follows.
        total_steps: Integer, its length, or None.
        probes: Integer, the most probes after the ramp.
        trials: Whether longer runs follow these.
        whole: Integer, the most whole trainings in their place.
    """

    steps: int
    schedule: str
    total_steps: int | None
    probes: int = 0
    trials: bool = False
    whole: int = 0

    def within(self, budget: Any) -> _Plan:
        """Returns the plan with all that `budget` steps allow."""
        if budget is None:
            return dataclasses.replace(self, probes=MOST_PROBES)
        left = integer("budget", budget, self.steps) - self.steps
        probes = min(left // PROBE_STEPS, MOST_PROBES)
        left -= MOST_PROBES * PROBE_STEPS
        whole = min(left // self.length, MOST)
        return dataclasses.replace(
            self,
            probes=probes,
            trials=left >= TRIALS * TRIAL_STEPS,
            whole=whole if whole >= FEWEST else 0,
        )

    def without_whole(self) -> _Plan:
        """Returns the plan that makes no whole training."""
        return dataclasses.replace(self, whole=0)

    @property
    def length(self) -> int:
        """The steps of the training that follows."""
        return self.total_steps or MIDDLE_STEPS

    @property
    def lengths(self) -> list[int]:
        """The steps of each run after the ramp."""
        probes = [PROBE_STEPS] * self.probes
        if self.whole:
            return probes + [self.length] * self.whole
        return probes + [TRIAL_STEPS] * (TRIALS if self.trials else 0)

    def search(
        self, curve: Curve, suggestion: Suggestion
    ) -> Climb | LongerRuns:
        """Returns what says which runs follow a ramp."""
        if self.whole:
            given = self.schedule, self.total_steps, self.whole
            return WholeTrainings(curve, suggestion, *given)
        if self.trials:
            return Search(curve, suggestion)
        return Climb(curve, suggestion, self.probes)


class _Job:
    """Ramp and probes on one model, whose loan they share."""

    def __init__(
        self,
        model: Any,
        loan: Loan,
        finder: LRFinder,
        fit_kwargs: dict[str, Any],
        plan: _Plan,
        monitor: str,
    ) -> None:
        self._model = model
        self._loan = loan
        self._finder = finder
        self._monitor = monitor
        self._plan = plan
        self._batch_size = fit_kwargs.get("batch_size")
        self._data = FitData(fit_kwargs)
        self._fit_kwargs = fit_kwargs
        self._per_update = max(
            leaf.gradient_accumulation_steps or 1 for leaf in loan.rate.leaves
        )

    def keep_batches(self) -> None:
        """Has the ramp keep what the probes train on."""
        longest = max(self._plan.lengths)
        self._data.keep(longest * self._per_update + _MOST_RESERVED)

    def run_ramp(self, callbacks: list[Any]) -> None:
        """Runs the range test itself."""
        finder = self._finder
        batches = self._plan.steps * self._per_update
        batches += _SPARE_BATCHES if self._loan.rate.scales_loss else 0
        self._model.fit(
            **self._data.for_fit(batches, first_epoch(self._model)),
            **self._fit_kwargs,
            callbacks=[finder, *callbacks],
            verbose=0,
        )

    def run_probes(self) -> tuple[Any, ...]:
        """Returns the probes and the suggestion that they support."""
        finder, plan, too_few = self._finder, self._plan, ""
        search = plan.search(finder.curve, finder.suggestion)
        if not search.is_possible:
            return ()
        self._loan.rewind()
        replay = self._replay(plan)
        if replay is not None and plan.whole and not replay.is_enough:
            # What is kept would come again and again, and be memorised.
            too_few = _TOO_FEW.format(plan.length)
            plan = plan.without_whole()
            replay = self._replay(plan)
            search = plan.search(finder.curve, finder.suggestion)
        if replay is None and finder.suggestion.lr is None:
            return ()
        if replay is None:
            return (), _unprobed(finder.suggestion, self._data.why_not)
        return self._run(search, replay, too_few)

    def _run(
        self, search: Climb | LongerRuns, replay: Replay, too_few: str
    ) -> tuple[Any, ...]:
        given = ("class_weight",)
        prober = Prober(
            self._model,
            self._loan,
            replay,
            monitor=self._monitor,
            fit_kwargs={k: self._fit_kwargs.get(k) for k in given},
        )
        probes, found = prober.run(search)
        return probes, dataclasses.replace(found, reason=found.reason + too_few)

    def _replay(self, plan: _Plan) -> Replay | None:
        """Returns the data for what is planned, None where there are none."""
        batches = max(plan.lengths) * self._per_update
        return self._data.replay(batches, self._batch_size)

    def blame_data(
        self,
        probes: tuple[Any, ...] = (),
        suggestion: Suggestion | None = None,
    ) -> tuple[tuple[Any, ...], Suggestion]:
        """Says so first, where the data themselves are not finite.

        Args:
            probes: What was run.
            suggestion: What is to be said otherwise; None: as the curve says.
        """
        found = suggestion or self._finder.suggestion
        # Batches are read once more only where there is a doubt.
        bad = self._data.not_finite(0 if found.confidence == "high" else 16)
        if not bad:
            return probes, found
        named = " and ".join(f"`{k}` has {what}" for k, what in bad.items())
        if found.lr is None:
            why = f"{named}: replace it, or drop these samples, and test again"
            return probes, Suggestion.refused(found.rule, why)
        return probes, dataclasses.replace(
            found, confidence="low", reason=f"{named}; {found.reason}"
        )


def _unprobed(suggestion: Suggestion, why: str) -> Suggestion:
    reason = f"{suggestion.reason}; not probed, as {why}"
    return dataclasses.replace(suggestion, reason=reason)


def _sort_arguments(
    kwargs: dict[str, Any],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tells the arguments of `LRFinder` from those of `fit`."""
    of_finder = arguments_of(LRFinder.__init__)
    of_fit = arguments_of(keras.Model.fit)
    for name in ("epochs", "initial_epoch"):
        if name in kwargs:
            raise ValueError(
                f"`{name}` must not be given: `steps` decides how long the "
                f"range test is. Received: {name}={kwargs[name]!r}"
            )
    unknown = sorted(set(kwargs) - of_finder - of_fit)
    # Some tools put a function of their own, of any arguments, in its place.
    if unknown and not takes_anything(keras.Model.fit):
        known = of_finder | of_fit | {"validation", "probe"}
        raise TypeError(
            "lr_find() got arguments that neither LRFinder nor fit has: "
            + ", ".join(name + meant(name, known) for name in unknown)
        )
    if (size := kwargs.get("batch_size")) is not None:
        integer("batch_size", size, 1)
    check_monitor(str(kwargs.get("monitor", "loss")))
    finder_kwargs = {k: v for k, v in kwargs.items() if k in of_finder}
    fit_kwargs = {k: v for k, v in kwargs.items() if k not in of_finder}
    return finder_kwargs, fit_kwargs


def _check_compiled(model: Any) -> None:
    check_model(model)
    if not model.compiled or model.optimizer is None:
        raise ValueError(
            "`model` must be compiled with an optimizer: call "
            f"`model.compile(…)` first. Received: model={model!r}"
        )


def _harmless(callbacks: Any, verbose: int) -> list[Any]:
    """Returns the callbacks that may run, and says which may not."""
    if callbacks is None:
        return []
    if isinstance(callbacks, keras.callbacks.CallbackList):
        raise TypeError(
            "`callbacks` must be a list of callbacks. Received: a CallbackList"
        )
    given = keras.tree.flatten(callbacks)
    for callback in given:
        if not isinstance(callback, keras.callbacks.Callback):
            raise TypeError(
                "`callbacks` must be Keras callbacks. "
                f"Received: callbacks={callbacks!r}"
            )
    kept = [c for c in given if not (harm(c) or writes(c) or _steers(c))]
    left_out = [type(c).__name__ for c in given if c not in kept]
    if left_out and verbose:
        print(f"lr_find leaves out {', '.join(left_out)}")
    return kept


def _steers(callback: Any) -> bool:
    stops = isinstance(callback, (keras.callbacks.EarlyStopping, LRFinder))
    return stops or steers_learning_rate(callback)


def _validation_loss(
    validation: Any, monitor: str
) -> Callable[[Any], float] | None:
    if validation is None:
        return None
    sized = isinstance(validation, (tuple, list))
    if not sized or len(validation) not in (2, 3):
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
