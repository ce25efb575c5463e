"""The loss of each batch, and of each update, out of Keras's logs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras

from keras_lrfinder.training import keras_internals as internals
from keras_lrfinder.training import learning_rate as rates
from keras_lrfinder.training.train_function import JaxState
from keras_lrfinder.training.train_function import TrainFunction

# What decides, in Keras, which number is logged under which name.
_LOGGING = ("train_step", "compute_metrics", "get_metrics_result", "metrics")
# Mixed precision skips updates while the gradients overflow, some eight at
# the start. So many in a row only come where they are not finite at all.
_MOST_SKIPPED = 40


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
