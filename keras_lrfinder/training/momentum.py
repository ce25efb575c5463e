"""The momentum that belongs to a one-cycle LR: down while the LR goes up."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_lrfinder.arguments import number
from keras_lrfinder.schedules.one_cycle import OneCycle
from keras_lrfinder.schedules.phases import Phase
from keras_lrfinder.schedules.phases import value_at
from keras_lrfinder.training.keras_internals import batches_seen
from keras_lrfinder.training.train_function import TrainFunction


class OneCycleMomentum(keras.callbacks.Callback):
    """Moves the optimizer's momentum against a `OneCycle` learning rate.

    The momentum is `max_momentum` while the LR is at its initial value, goes
    down to `min_momentum` where the LR peaks, comes back up as the LR falls,
    and stays at `max_momentum` in the final phase, if there is one, and ever
    after. Phases, step count and the form of the anneal are those of the
    schedule, with `a` and `b` the momenta at the neighbouring knots.

    What moves is `optimizer.momentum` (SGD with and without Nesterov,
    RMSprop, Muon) or `optimizer.beta_1` (Adam, AdamW, Nadam, Adamax, Lamb,
    Lion, and custom optimizers alike), also inside a `LossScaleOptimizer`:

    - SGD: `velocity = momentum(step) * velocity - lr * gradient`.
    - Adam family: `m = beta_1(step) * m + (1 - beta_1(step)) * gradient`. The
      bias correction stays Keras's own, `1 - beta_1(step)**(step + 1)`, which
      is exact for a constant `beta_1`. While it falls, early steps come out
      too short: by 17 % at worst with 100 steps in all, by 1.5 % with 1,000
      (cosine, default values).
    - Muon: `momentum` moves; what it leaves to its inner Adam (biases, 1-D
      weights) keeps `adam_beta_1`.
    - Lion: `beta_1` only weighs the gradient against the momentum for the
      sign; how fast the momentum decays is `beta_2`, which stays.

    Sources: L. N. Smith, arXiv 1803.09820 (2018), section on cyclical
    momentum, with 0.95 to 0.85 and back; see `OneCycle` for the rest.

    On TensorFlow and JAX a Python float is compiled into the training step.
    There the callback puts a function of the optimizer's step count in its
    place for the time of the fit, which costs one more compilation and
    nothing per step; any `steps_per_execution`, `jit_compile`,
    `MirroredStrategy` or JAX distribution will do. On PyTorch it sets the
    float before every batch. With `jit_compile=True` there, the update is
    compiled anew until PyTorch's recompile limit (8) and runs uncompiled from
    then on: right, but better left uncompiled from the start.

    When training ends, the optimizer has its own float back, and a model
    saved in mid-training is saved with it. Keras calls no hook after an
    exception or Ctrl-C: call `restore()` then.

    Args:
        schedule: The `OneCycle` that the optimizer follows.
        max_momentum: Float in [0, 1). Momentum at both ends. Defaults to 0.95.
        min_momentum: Float in [0, `max_momentum`]. Momentum at the LR's peak.
            Defaults to 0.85.

    Raises:
        TypeError: `schedule` is no `OneCycle`.
        ValueError: A momentum is out of its range; or, when `fit` begins, the
            optimizer has no momentum that could be moved.
        RuntimeError: The (custom) optimizer made its first step without using
            its momentum; a `TypeError` where it took it for a Python number.

    Example:
    ```python
    schedule = OneCycle(0.1, total_steps=epochs * len(dataset))
    model.compile(keras.optimizers.SGD(schedule, momentum=0.95), "mse")
    model.fit(
        dataset, epochs=epochs, callbacks=[OneCycleMomentum(schedule)]
    )
    ```
    """

    def __init__(
        self,
        schedule: OneCycle,
        max_momentum: float = 0.95,
        min_momentum: float = 0.85,
    ) -> None:
        super().__init__()
        if not isinstance(schedule, OneCycle):
            raise TypeError(
                "`schedule` must be a `OneCycle`. Received: "
                f"schedule={schedule!r} (of type {type(schedule).__name__})"
            )
        self.max_momentum = number("max_momentum", max_momentum)
        self.min_momentum = number("min_momentum", min_momentum)
        if not 0 <= self.min_momentum <= self.max_momentum < 1:
            raise ValueError(
                "`min_momentum` and `max_momentum` must be between 0 and 1 "
                "(1 excluded), in this order. Received: "
                f"min_momentum={min_momentum}, max_momentum={max_momentum}"
            )
        self.schedule = schedule
        self._optimizer: Any = None
        self._attribute = ""
        self._own_momentum = 0.0
        self._moving: _MovingMomentum | None = None
        self._train_function: TrainFunction | None = None

    def momentum_at(self, step: int) -> float:
        """Returns the momentum of optimizer step `step`.

        Args:
            step: Steps done so far: 0 for the first.

        Example:
        >>> from keras_lrfinder.training.momentum import OneCycleMomentum
        >>> from keras_lrfinder.schedules import OneCycle
        >>> momentum = OneCycleMomentum(OneCycle(0.1, total_steps=101))
        >>> [round(momentum.momentum_at(n), 4) for n in (0, 15, 30, 100, 999)]
        [0.95, 0.9, 0.85, 0.95, 0.95]
        """
        phases = self._phases()
        step = min(max(step, 0), phases[-1].end)
        phase = next(phase for phase in phases if step <= phase.end)
        done = (step - phase.start) / (phase.end - phase.start)
        if self.schedule.anneal == "cosine":
            done = math.sin(math.pi / 2 * done) ** 2
        return (1 - done) * phase.first + done * phase.last

    def _phases(self) -> tuple[Phase, ...]:
        high, low = self.max_momentum, self.min_momentum
        return self.schedule.phases(high, low, high)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Takes hold of the momentum; refuses an optimizer without one."""
        self.restore()
        optimizer = getattr(self.model, "optimizer", None)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        _release(optimizer)
        self._attribute = _momentum_attribute(optimizer)
        self._own_momentum = float(getattr(optimizer, self._attribute))
        self._optimizer = optimizer
        if keras.backend.backend() != "torch":
            self._move_in_graph()

    def _move_in_graph(self) -> None:
        optimizer, schedule = self._optimizer, self.schedule

        def momentum_now() -> Any:
            return value_at(
                batches_seen(optimizer), self._phases(), schedule.anneal
            )

        self._moving = _MovingMomentum(
            self._own_momentum, momentum_now, self.restore
        )
        setattr(optimizer, self._attribute, self._moving)
        # Checkpoints written during the fit must hold the user's number.
        optimizer.get_config = config_with(
            optimizer, self._attribute, self._own_momentum
        )
        self._train_function = TrainFunction(self.model)
        self._train_function.renew()

    def on_train_batch_begin(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Sets the momentum of this step (PyTorch)."""
        if self._moving is None and self._optimizer is not None:
            step = int(ops.convert_to_numpy(batches_seen(self._optimizer)))
            setattr(self._optimizer, self._attribute, self.momentum_at(step))

    def on_train_batch_end(
        self, batch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Checks that the step has used the momentum (TensorFlow, JAX)."""
        if self._moving is None:
            if self._optimizer is not None:
                setattr(self._optimizer, self._attribute, self._own_momentum)
        elif not self._moving.was_read:
            self.restore()
            raise RuntimeError(_NOT_A_TENSOR)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Gives the optimizer its own momentum back."""
        self.restore()

    def restore(self) -> None:
        """Gives the optimizer its own momentum back, as `on_train_end` does.

        Needed after an exception or Ctrl-C inside `fit` only. Calling it
        twice, or before any fit, changes nothing.
        """
        if self._optimizer is None:
            return
        setattr(self._optimizer, self._attribute, self._own_momentum)
        if self._moving is not None:
            vars(self._optimizer).pop("get_config", None)
        if self._train_function is not None:
            self._train_function.give_back()
        self._optimizer = self._moving = self._train_function = None


_NOT_A_TENSOR = (
    "The optimizer must use its momentum as a tensor in `update_step`, as in "
    "`keras.ops.cast(self.momentum, variable.dtype)`, for `OneCycleMomentum` "
    "to move it. Received: an optimizer that takes it for a fixed number, or "
    "does not use it."
)


class _MovingMomentum:
    """Reads as a function of the step count in tensors, else as a float.

    Deliberately no `float`: whatever took it for one would compile today's
    value into the training step, and no error would tell.
    """

    # What Keras asks before it combines the object with a tensor.
    dtype = "float32"
    shape = ()

    def __init__(
        self,
        own: float,
        now: Callable[[], Any],
        release: Callable[[], None],
    ) -> None:
        self.was_read = False
        self.release = release
        self._own = own
        self._now = now

    def _tensor(self) -> Any:
        self.was_read = True
        return self._now()

    def __tf_tensor__(self, dtype: Any = None, name: str | None = None) -> Any:
        tensor = self._tensor()
        return tensor if dtype is None else ops.cast(tensor, dtype.name)

    def __jax_array__(self) -> Any:
        return self._tensor()

    def __float__(self) -> float:
        raise TypeError(_NOT_A_TENSOR)

    # A copy of the optimizer is a plain optimizer.
    def __reduce__(self) -> tuple[type[float], tuple[float]]:
        return float, (self._own,)

    # Optimizers ask in Python whether they have a momentum at all.
    def __eq__(self, other: object) -> bool:
        return self._own == other

    def __gt__(self, other: float) -> bool:
        return self._own > other

    def __mul__(self, other: Any) -> Any:
        return ops.multiply(self._tensor(), other)

    __rmul__ = __mul__

    def __sub__(self, other: Any) -> Any:
        return ops.subtract(self._tensor(), other)

    def __rsub__(self, other: Any) -> Any:
        return ops.subtract(other, self._tensor())


def _release(optimizer: Any) -> None:
    # A fit that ended in an exception may have left the moving momentum of
    # another callback, and a training step compiled with it.
    for attribute in ("momentum", "beta_1"):
        value = getattr(optimizer, attribute, None)
        if isinstance(value, _MovingMomentum):
            value.release()


def _momentum_attribute(optimizer: Any) -> str:
    """Returns the name of the optimizer's momentum, or says what is wrong."""
    name = type(optimizer).__name__
    attribute = "momentum" if hasattr(optimizer, "momentum") else "beta_1"
    # Its beta_1 interpolates between two sequences of weights, and its theory
    # is that of a constant one.
    if not hasattr(optimizer, attribute) or name == "ScheduleFreeAdamW":
        raise ValueError(
            "The model's optimizer must have a momentum (`momentum` or "
            "`beta_1`) for `OneCycleMomentum` to move. Received: "
            f"optimizer={name}"
        )
    value = getattr(optimizer, attribute)
    # Keras then keeps no velocities, and adds none once it is built.
    if not value > 0:
        raise ValueError(
            f"The model's optimizer must be made with a positive "
            f"`{attribute}` for `OneCycleMomentum` to move, for example "
            f"{name}({attribute}=0.95). Received: {attribute}={value}"
        )
    return attribute


def config_with(
    optimizer: Any, attribute: str, value: float
) -> Callable[[], dict[str, Any]]:
    """Returns a `get_config` that says `value` of an attribute."""
    get_config = optimizer.get_config

    def config() -> dict[str, Any]:
        return {**get_config(), attribute: value}

    return config
