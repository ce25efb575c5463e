"""What Keras calls for each step of a fit, and the loss that it logs for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training import keras_internals as internals
from keras_lrfinder.training.keras_internals import is_overridden
from keras_lrfinder.training.learning_rate import SweptRate
from keras_lrfinder.training.learning_rate import emptier
from keras_lrfinder.training.learning_rate import host_copy
from keras_lrfinder.training.learning_rate import reader

# What decides, in Keras, which number is logged under which name.
_LOGGING = ("train_step", "compute_metrics", "get_metrics_result", "metrics")
# Mixed precision skips updates while the gradients overflow, some eight at
# the start. So many in a row only come where they are not finite at all.
_MOST_SKIPPED = 40


class TrainFunction:
    """Replaces what Keras calls for each step, and gives it back once.

    Keras looks `model.train_function` up for every step. It is the model's
    own until one of `renew`, `before_first_step` and `around` is called, and
    again after `give_back`.

    Args:
        model: The Keras model.

    Attributes:
        calls: Integer, how often Keras has called this object.
        is_needed: Whether a run without any such call is no run.
        inner: What it calls in turn, Keras's own.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._found: Any = None
        self.inner: Any = None
        self._prepare: Callable[..., None] | None = None
        self._edit: Callable[..., tuple[Any, ...]] | None = None
        self._before: Callable[[], None] | None = None
        self._after: Callable[[Any], None] | None = None
        self._holds = False
        self._left_to_keras = False
        self.calls = 0
        self.is_needed = False

    @property
    def is_installed(self) -> bool:
        """Whether Keras is to call this object, which counts its `calls`."""
        return self._model.train_function is self

    def leave_to_keras(self) -> None:
        """Has the next `fit` make a function of its own."""
        self._hold()
        self._left_to_keras = True
        self._model.train_function = None

    def renew(self) -> None:
        """Has Keras trace the step anew, with what has changed since."""
        self._hold()
        self.is_needed = True
        self.inner = renewed_train_function(self._model)
        self._install()

    def before_first_step(self, prepare: Callable[..., None]) -> None:
        """Has `prepare` called once, with what the first step is called."""
        self._hold()
        self._prepare = prepare
        self._install()

    def edit_each(self, edit: Callable[..., tuple[Any, ...]]) -> None:
        """Has every step called with what `edit` returns for its arguments."""
        self._hold()
        self.is_needed = True
        self._edit = edit
        self._install()

    def around(
        self,
        before: Callable[[], None] | None = None,
        after: Callable[[Any], None] | None = None,
    ) -> None:
        """Has something done right before and after each step of the fit.

        No hook of another callback comes in between, and what it trains on
        by itself does not count.

        Args:
            before: Function of nothing.
            after: Function of what the step returned.
        """
        if before is None and after is None and not self.is_installed:
            return
        self._hold()
        self._before, self._after = before, after
        self._install()

    def __call__(self, *args: Any) -> Any:
        """Keras calls this for each step."""
        self.calls += 1
        prepare, self._prepare = self._prepare, None
        if prepare is not None:
            prepare(*args)
        if self._edit is not None:
            args = self._edit(*args)
        if self.inner is None:
            # `train_on_batch` on a model that has never made one.
            self.inner = renewed_train_function(self._model)
            self._model.train_function = self
        if self._before is None and self._after is None:
            return self.inner(*args)
        if internals.is_called_by("train_on_batch"):
            return self.inner(*args)
        if self._before is not None:
            self._before()
        result = self.inner(*args)
        if self._after is not None:
            self._after(result)
        return result

    def give_back(self) -> None:
        """Puts back what was found. Calling it again changes nothing."""
        if self._holds and (self.is_installed or self._left_to_keras):
            self._model.train_function = self._found
        # Else the user has compiled the model anew: the new one is theirs.
        # Nothing may hold on to a compiled step: JAX would find it again.
        self._holds = self._left_to_keras = False
        self._found = self.inner = None
        self._prepare = self._edit = self._before = self._after = None

    def _hold(self) -> None:
        if not self._holds:
            self._holds = True
            self._found = self.inner = self._model.train_function

    def _install(self) -> None:
        current = self._model.train_function
        if self._left_to_keras and current is not self:
            self.inner = current
        self._model.train_function = self


class JaxState:
    """Sets single variables of the training state just before each step.

    On JAX a running fit keeps the state to itself. `Callback.model` copies
    all of it into the model's variables and has the loop read all of them
    again, 3 µs per variable and step, for the sake of one number. So the few
    numbers are changed in the state that a step is called with. A NumPy
    array has the type of what it replaces, so nothing is traced or compiled
    again (neither now nor in later fits).

    Args:
        model: The Keras model, in `on_train_begin`.
    """

    def __init__(self, model: Any) -> None:
        self._places = _state_places(model)
        self._edits: dict[tuple[int, int], Any] = {}
        self._once: dict[tuple[int, int], Any] = {}
        self._running = False

    def reaches(self, variable: Any) -> bool:
        """Returns whether the variable is part of the training state."""
        return id(variable) in self._places

    def assigner(self, variable: Any) -> Callable[[float], None]:
        """Returns a function that assigns a number to a scalar variable.

        The number goes into every step from then on.
        """
        place = self._places[id(variable)]
        dtype = np.dtype(variable.dtype)

        def assign(number: float) -> None:
            self._edits[place] = dtype.type(number)
            if not self._running:
                # No step since: whoever reads the variable is to find it.
                variable.assign(number)
            self._running = False

        return assign

    def keep(self, variables: dict[Any, Any]) -> None:
        """Gives variables a value in every step. A dictionary of arrays."""
        for number, value in variables.items():
            self._edits[self._places[number]] = value

    def empty(self, variables: list[Any]) -> None:
        """Sets variables to zero before the next step."""
        for variable in variables:
            place = self._places[id(variable)]
            self._once[place] = np.zeros(variable.shape, variable.dtype)

    def edited(self, state: Any, iterator: Any) -> tuple[Any, Any]:
        """Returns what a step is to be called with."""
        self._running = True
        parts = [list(part) for part in state]
        for (part, index), value in {**self._edits, **self._once}.items():
            parts[part][index] = value
        self._once = {}
        return tuple(parts), iterator

    def value_in(self, state: Any, variable: Any) -> Any:
        """Returns a variable's value in the state that a step returned."""
        part, index = self._places[id(variable)]
        return state[part][index]


def renewed_train_function(model: Any) -> Any:
    """Makes a model trace its training step anew, and returns it.

    On JAX with a step that equals no other: see `set_steps_apart`.
    """
    model.train_function = None
    own = dict(vars(model))
    if keras.backend.backend() == "jax":
        vars(model)["train_step"] = _apart(model, "train_step")
    try:
        model.make_train_function()
    finally:
        if keras.backend.backend() == "jax":
            del vars(model)["train_step"]
            if "train_step" in own:
                vars(model)["train_step"] = own["train_step"]
    return model.train_function


def set_steps_apart(model: Any) -> None:
    """Has JAX compile the steps of functions that are made from now on.

    jax.jit finds an earlier compilation by the equality of functions, and
    two bound `train_step`s of one model are equal. As long as somebody holds
    a function compiled before, a new one would silently train with that
    one's schedule. To undo it, take the attributes away.
    """
    if keras.backend.backend() == "jax":
        for name in ("train_step", "test_step", "predict_step"):
            vars(model)[name] = _apart(model, name)


def _apart(model: Any, name: str) -> Callable[..., Any]:
    step = getattr(model, name)

    def apart(*args: Any, **kwargs: Any) -> Any:
        return step(*args, **kwargs)

    vars(apart)[internals.STANDS_FOR] = vars(model).get(name)
    return apart


def _state_places(model: Any) -> dict[int, tuple[int, int]]:
    """Returns where in the state of a running fit its variables' values are.

    The train function gets (trainable, non-trainable, optimizer's, metrics')
    values: (part, index) by the `id` of a variable of the last two.
    """
    parts = ((2, model.optimizer.variables), (3, model.metrics_variables))
    return {
        id(variable): (part, index)
        for part, variables in parts
        for index, variable in enumerate(variables)
    }


class BatchLoss:
    """Makes Keras log the loss of each batch instead of the running mean.

    `logs["loss"]` is the mean since the start of the epoch. Undoing the mean
    from the logged numbers loses digits as the epoch goes on (2 % of the
    loss after 10,000 steps) and needs the batch sizes, which no log has.
    So the mean is emptied before each batch: what is logged is then the
    batch's own loss, to the last bit on TensorFlow.

    Only the tracker of the monitored value is emptied where it is plain
    which one that is; the user's other metrics go on undisturbed, and a step
    costs 10 µs instead of 150 on TensorFlow. Otherwise (a `train_step` of
    the user's own) all metrics are, by `model.reset_metrics()`.

    Other callbacks with hooks of batches may evaluate the model in them: then
    the mean is emptied, and the size of the batch read, right before and
    after the step itself.

    Args:
        model: The compiled Keras model, in a fit that begins.
        monitor: String, the key of `logs` to be read.
        function: `TrainFunction` of the model.
        state: The running fit's state on JAX, or None to go through the
            model's variables.
        is_shared: Whether there are such callbacks.
    """

    def __init__(
        self,
        model: Any,
        monitor: str,
        function: TrainFunction,
        state: JaxState | None = None,
        is_shared: bool = False,
    ) -> None:
        self._tracker = _tracker(model, monitor)
        self._state = state
        self._rows: float | None = None
        self._empty: Callable[[], None] | None = None
        if state is not None:
            model.reset_metrics()
            emptied = model.metrics_variables
            if self._tracker is not None:
                emptied = self._tracker.variables
            state.keep({id(v): host_copy(v) for v in emptied})
        elif self._tracker is not None:
            self._empty = emptier(self._tracker.variables)
        if not is_shared:
            function.around()
        elif state is not None:
            function.around(after=self._read_rows)
        elif keras.backend.backend() != "jax":
            function.around(self._empty or model.reset_metrics, self._read_rows)

    def empty(self, model: Any) -> None:
        """Empties the mean. To be called before each batch, not after it.

        After it, the epoch's History would end as zero.
        """
        if self._state is not None:
            return
        if self._empty is not None:
            self._empty()
        elif self._tracker is None:
            model.reset_metrics()

    def batch_size(self) -> int | None:
        """Returns the rows of the batch just trained, where they are known."""
        rows, count = self._rows, getattr(self._tracker, "count", None)
        if rows is None and count is not None:
            rows = reader(count)()
        return int(rows) if rows is not None and rows >= 1 else None

    def _read_rows(self, returned: Any) -> None:
        count = getattr(self._tracker, "count", None)
        if count is None or self._rows is not None:
            return
        if self._state is None:
            self._rows = reader(count)()
        else:
            self._rows = float(self._state.value_in(returned[1], count))


def check_falls(model: Any, monitor: str) -> None:
    """Refuses a metric that is better the higher it is.

    A range test looks for what makes the monitored value fall, and would
    suggest what spoils an accuracy fastest.

    Args:
        model: The compiled Keras model, after its first step: before that
            Keras has not made the metrics yet.
        monitor: String, the key of `logs` to be read.

    Raises:
        ValueError: `monitor` is a metric that Keras knows to rise.
    """
    metrics = [m for each in model.metrics for m in _members_of(each)]
    found = [metric for metric in metrics if metric.name == monitor] or [
        # Of several outputs, each metric is logged as output_metric.
        metric
        for metric in metrics
        if monitor.endswith(f"_{metric.name}")
    ]
    if any(map(internals.rises, found)):
        raise ValueError(
            "`monitor` must be a loss, which falls as the model learns. "
            f"Received: monitor={monitor!r}, which rises"
        )


def _members_of(metric: Any) -> list[Any]:
    """Returns the metrics in the one that has those given to `compile`."""
    members = getattr(metric, "metrics", None)
    if not isinstance(members, list):
        return [metric]
    return [member for member in members if hasattr(member, "name")]


def _tracker(model: Any, monitor: str) -> Any:
    # A method of the user's own may log any metric under any name.
    if is_overridden(model, _LOGGING):
        return None
    found = [m for m in model.metrics if m.name == monitor]
    if len(found) == 1 and type(found[0]) is keras.metrics.Mean:
        return found[0]
    return None


class Updates:
    """Collects the losses of the batches that share one update.

    Gradient accumulation makes an update of several batches,
    `steps_per_execution` calls the hooks once for several, and mixed
    precision skips updates. A path goes by batches instead: so many for each
    of its steps, then one for each that is judged.

    Args:
        model: The compiled Keras model, in `on_train_begin`.
        rate: The optimizers that are swept.
        path: `Path` of `run`, or None.
    """

    def __init__(self, model: Any, rate: SweptRate, path: Any = None) -> None:
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
