"""What Keras calls for each step of a fit, and the loss that it logs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training import keras_internals as internals
from keras_lrfinder.training import learning_rate as rates

# What decides, in Keras, which number is logged under which name.
_LOGGING = ("train_step", "compute_metrics", "get_metrics_result", "metrics")


class TrainFunction:
    """Stands in for a model's train function, and gives it back.

    Keras looks `model.train_function` up for every step. So what comes right
    before and after it has no hook of another callback in between; a step of
    `train_on_batch`, in such a hook, does not count.

    Attributes:
        inner: What it calls in turn, Keras's own.
        calls: Integer, how often Keras has called this object.
        is_needed: Whether a run without any such call is no run.
        first: Called once, with what the first step is called with.
        edit: Returns the arguments of each step, given those of Keras.
        before: Called before each step of the fit.
        after: Called after it, with what it returned.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._found = vars(model).get("train_function")
        self._is_renewed = self.is_needed = False
        self.inner: Any = None
        self.calls = 0
        self.first: Callable[..., None] | None = None
        self.edit: Callable[..., tuple[Any, ...]] | None = None
        self.before: Callable[[], None] | None = None
        self.after: Callable[[Any], None] | None = None

    def install(self, *, renew: bool = False) -> None:
        """Has Keras call this; `renew`: for a step that is traced anew."""
        self._is_renewed = self.is_needed = renew
        self.inner = (
            renewed_train_function(self._model)
            if renew
            else self._model.train_function
        )
        self._model.train_function = self

    def __call__(self, *args: Any) -> Any:
        """Keras calls this for each step."""
        self.calls += 1
        first, self.first = self.first, None
        if first is not None:
            first(*args)
        if self.edit is not None:
            args = self.edit(*args)
        if self.inner is None:
            # `train_on_batch` on a model that has never made one.
            self.inner = renewed_train_function(self._model)
            self._model.train_function = self
        if (self.before is None and self.after is None) or (
            internals.is_called_by("train_on_batch")
        ):
            return self.inner(*args)
        if self.before is not None:
            self.before()
        result = self.inner(*args)
        if self.after is not None:
            self.after(result)
        return result

    def give_back(self) -> None:
        """Puts back what was found. Calling it again changes nothing."""
        # Else the user has compiled the model anew: the new one is theirs.
        if self._model.train_function is self:
            own = self._found if self._is_renewed else self.inner
            self._model.train_function = own
        # Nothing may hold on to a compiled step: JAX would find it again.
        self._found = self.inner = None
        self.first = self.edit = self.before = self.after = None


class JaxState:
    """Sets single variables of the training state just before each step.

    On JAX a running fit keeps the state to itself. `Callback.model` copies
    all of it into the model's variables and has the loop read all of them
    again, 3 µs per variable and step, for the sake of one number. So the few
    numbers are changed in the state that a step is called with. A NumPy
    array has the type of what it replaces, so nothing is traced or compiled
    again (neither now nor in later fits).

    To be made in `on_train_begin`.
    """

    def __init__(self, model: Any) -> None:
        # A step gets the values of the trainable variables, the others, the
        # optimizer's and the metrics'.
        parts = {2: model.optimizer.variables, 3: model.metrics_variables}
        self._places = {
            id(variable): (part, index)
            for part, variables in parts.items()
            for index, variable in enumerate(variables)
        }
        self._edits: dict[tuple[int, int], Any] = {}
        self._once: dict[tuple[int, int], Any] = {}
        self._is_running = False

    def reaches(self, variables: list[Any]) -> bool:
        """Returns whether all variables are part of the training state."""
        return all(id(variable) in self._places for variable in variables)

    def assigner(self, variable: Any) -> Callable[[float], None]:
        """Returns a function that gives a variable a number in every step."""
        place = self._places[id(variable)]
        dtype = np.dtype(variable.dtype)

        def assign(number: float) -> None:
            self._edits[place] = dtype.type(number)
            if not self._is_running:
                # No step since: whoever reads the variable is to find it.
                variable.assign(number)
            self._is_running = False

        return assign

    def keep(self, variable: Any, value: Any) -> None:
        """Gives a variable this value in every step."""
        self._edits[self._places[id(variable)]] = value

    def empty(self, variable: Any) -> None:
        """Sets a variable to zero before the next step."""
        zeros = np.zeros(variable.shape, variable.dtype)
        self._once[self._places[id(variable)]] = zeros

    def edited(self, state: Any, iterator: Any) -> tuple[Any, Any]:
        """Returns what a step is to be called with."""
        self._is_running = True
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
    """Has a model trace its training step anew, and returns it."""
    model.train_function = None
    own = dict(vars(model))
    if keras.backend.backend() == "jax":
        vars(model)["train_step"] = _apart(model, "train_step")
    try:
        model.make_train_function()
    finally:
        vars(model).pop("train_step", None)
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


# --- The loss that is logged --------------------------------------------------


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

    Other callbacks with hooks of batches (`is_shared`) may evaluate the model
    there: then it is emptied, and the size of the batch read, right before and
    after the step itself.
    """

    def __init__(
        self,
        model: Any,
        monitor: str,
        function: TrainFunction,
        state: JaxState | None,
        is_shared: bool,
    ) -> None:
        self._tracker = tracker = _tracker(model, monitor)
        self._count = getattr(tracker, "count", None)
        self._state = state
        self._rows: float | None = None
        self._empty: Callable[[], None] | None = None
        if state is not None:
            model.reset_metrics()
            emptied = tracker.variables if tracker else model.metrics_variables
            for variable in emptied:
                state.keep(variable, rates.host_copy(variable))
        elif tracker is not None:
            self._empty = rates.emptier(tracker.variables)
        else:
            self._empty = model.reset_metrics
        function.before = function.after = None
        if is_shared:
            function.after = self._read_rows
            if keras.backend.backend() != "jax":
                function.before = self._empty

    def empty(self) -> None:
        """Empties the mean. To be called before each batch, not after it.

        After it, the epoch's History would end as zero.
        """
        if self._empty is not None:
            self._empty()

    def batch_size(self) -> int | None:
        """Returns the rows of the batch just trained, where they are known."""
        if self._rows is None and self._count is not None:
            self._rows = rates.reader(self._count)()
        rows = self._rows
        return int(rows) if rows is not None and rows >= 1 else None

    def _read_rows(self, returned: Any) -> None:
        if self._count is None or self._rows is not None:
            return
        if self._state is not None:
            self._rows = float(self._state.value_in(returned[1], self._count))
        elif keras.backend.backend() != "jax":
            self._rows = rates.reader(self._count)()


def _tracker(model: Any, monitor: str) -> Any:
    # A method of the user's own may log any metric under any name.
    if internals.is_overridden(model, _LOGGING):
        return None
    found = [m for m in model.metrics if m.name == monitor]
    if len(found) == 1 and type(found[0]) is keras.metrics.Mean:
        return found[0]
    return None


def check_falls(model: Any, monitor: str) -> None:
    """Raises a `ValueError` for a metric that is better the higher it is.

    A range test looks for what makes the monitored value fall, and would
    suggest what spoils an accuracy fastest. To be called after the first
    step: before that Keras has not made the metrics yet.
    """
    metrics: list[Any] = []
    for metric in model.metrics:
        # One of them has those that were given to `compile`.
        members = getattr(metric, "metrics", None)
        metrics += members if isinstance(members, list) else [metric]
    named = [(getattr(metric, "name", ""), metric) for metric in metrics]
    found = [metric for name, metric in named if name == monitor] or [
        # Of several outputs, each metric is logged as output_metric.
        metric
        for name, metric in named
        if monitor.endswith(f"_{name}")
    ]
    if any(map(internals.rises, found)):
        raise ValueError(
            "`monitor` must be a loss, which falls as the model learns. "
            f"Received: monitor={monitor!r}, which rises"
        )
