"""One-cycle training for the data that a range test has seen."""

from __future__ import annotations

import warnings
from typing import Any

import keras
from keras import ops

from keras_lrfinder.schedules.one_cycle import OneCycle
from keras_lrfinder.schedules.phases import Phase
from keras_lrfinder.training.keras_internals import batches_seen
from keras_lrfinder.training.keras_internals import exchange_learning_rate
from keras_lrfinder.training.keras_internals import learning_rate_of
from keras_lrfinder.training.momentum import OneCycleMomentum
from keras_lrfinder.training.momentum import config_with
from keras_lrfinder.training.optimizers import leaf_optimizers
from keras_lrfinder.training.train_function import TrainFunction


class OneCycleTraining(keras.callbacks.Callback):
    """Runs a `fit` by the one-cycle policy: learning rate and momentum.

    `LRFinder.one_cycle` makes it. For the time of the fit the optimizer
    follows a `OneCycle` schedule that begins where its step count stands, so
    that nothing has to be compiled by hand; afterwards it has its own
    learning rate back.

    Args:
        max_lr: Float > 0, the learning rate at the peak.
        total_steps: Integer >= 2, batches of the whole fit.
        momentum: Whether the momentum moves the other way, 0.95 to 0.85 and
            back (`OneCycleMomentum`), where the optimizer has one.

    Raises:
        ValueError: By `fit`: the optimizer holds a schedule by itself.

    Example:
        ```python
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse")
        finder = lr_find(model, x, y)
        model.fit(x, y, epochs=5, callbacks=finder.one_cycle(epochs=5))
        ```
    """

    def __init__(
        self, max_lr: float, total_steps: int, *, momentum: bool = True
    ) -> None:
        super().__init__()
        self.schedule = OneCycle(max_lr, total_steps)
        self._with_momentum = momentum
        self._momentum: OneCycleMomentum | None = None
        self._held: list[tuple[Any, Any]] = []
        self._function: TrainFunction | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Puts the schedule in the place of the learning rate."""
        self.restore()
        model = self.model
        leaves = leaf_optimizers(model.optimizer)
        for leaf in leaves:
            held = learning_rate_of(leaf)
            if not hasattr(held, "assign"):
                raise ValueError(
                    "`model` must be compiled with a number for a learning "
                    "rate, which one-cycle training replaces. Received: an "
                    f"optimizer with {type(held).__name__}"
                )
        for leaf in leaves:
            begin = int(ops.convert_to_numpy(batches_seen(leaf)))
            path = _Later(begin, **self.schedule.get_config())
            number = float(ops.convert_to_numpy(leaf.learning_rate))
            # Checkpoints written during the fit hold a number.
            leaf.get_config = config_with(leaf, "learning_rate", number)
            self._held.append((leaf, exchange_learning_rate(leaf, path)))
        self._warn_of_other_length()
        self._function = TrainFunction(model)
        self._function.renew()
        if self._with_momentum:
            self._start_momentum(path, logs)

    def _warn_of_other_length(self) -> None:
        params = self.params or {}
        epochs, per_epoch = params.get("epochs"), params.get("steps")
        if not epochs or not per_epoch:
            return
        planned = self.schedule.total_steps
        if epochs * per_epoch != planned:
            warnings.warn(
                f"the cycle is {planned} batches long and this fit "
                f"{epochs * per_epoch}: give `one_cycle` the epochs of the "
                "fit, and `steps_per_epoch` where the batch size is another",
                UserWarning,
                stacklevel=3,
            )

    def _start_momentum(self, path: OneCycle, logs: Any) -> None:
        momentum = OneCycleMomentum(path)
        momentum.set_params(self.params)
        momentum.set_model(self.model)
        try:
            momentum.on_train_begin(logs)
        except ValueError:
            return  # an optimizer without momentum trains as well
        self._momentum = momentum

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Moves the momentum, where that is done before each batch."""
        if self._momentum is not None:
            self._momentum.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Likewise after it."""
        if self._momentum is not None:
            self._momentum.on_train_batch_end(batch, logs)

    def on_train_end(self, logs: Any = None) -> None:
        """Gives the optimizer its own learning rate back."""
        # On JAX asking for the model brings its variables up to date.
        if self.model is not None:
            self.restore()

    def restore(self) -> None:
        """Ends it, also after an exception. Again changes nothing."""
        momentum, self._momentum = self._momentum, None
        if momentum is not None:
            momentum.restore()
        held, self._held = self._held, []
        for leaf, variable in held:
            exchange_learning_rate(leaf, variable)
            vars(leaf).pop("get_config", None)
        function, self._function = self._function, None
        if function is not None:
            function.give_back()


class _Later(OneCycle):
    """A `OneCycle` that begins at some step of the optimizer."""

    def __init__(self, begin: int, **config: Any) -> None:
        super().__init__(**config)
        self._begin = begin

    def phases(
        self, first: float, peak: float, last: float
    ) -> tuple[Phase, ...]:
        """Returns the path, moved to where it begins."""
        return tuple(
            phase._replace(
                start=phase.start + self._begin, end=phase.end + self._begin
            )
            for phase in super().phases(first, peak, last)
        )
