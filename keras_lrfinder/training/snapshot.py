"""A Keras model and its optimizer, exactly as they were before."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras

from keras_lrfinder.training.keras_internals import learning_rate_of
from keras_lrfinder.training.keras_internals import outside_of_trace
from keras_lrfinder.training.keras_internals import set_instance_method
from keras_lrfinder.training.keras_internals import set_learning_rate
from keras_lrfinder.training.keras_internals import unset_instance_method
from keras_lrfinder.training.optimizers import all_optimizers
from keras_lrfinder.training.optimizers import is_built
from keras_lrfinder.training.optimizers import leaf_optimizers
from keras_lrfinder.training.random_state import RandomState
from keras_lrfinder.training.variables import host_copy

__all__ = [
    "FitAttributes",
    "ModelState",
    "build_model",
    "check_model",
    "snapshot",
]


@contextlib.contextmanager
def snapshot(model: Any) -> Iterator[None]:
    """Context manager: whatever happens inside, the model leaves as it came.

    Bit for bit: weights, BatchNorm statistics and seed generators, every
    optimizer's slots, step count, loss scale and learning rate (the very
    schedule object), metrics, `stop_training`, `history`, and the global
    random state of Python, NumPy, Keras and the backend. Also after an
    exception or Ctrl-C, which goes on to the caller.

    What lies outside the model does not come back: a generator stays
    consumed, a shuffled `tf.data.Dataset` object goes on in its order, files
    that callbacks wrote stay written.

    One copy of the state is held in host memory until the end.

    Args:
        model: A built Keras model, compiled or not.

    Raises:
        TypeError: `model` is no Keras model.
        ValueError: The model has no weights yet, so there is nothing to
            come back to. Call it on a batch first.

    Example:
        ```python
        with snapshot(model):
            model.fit(x, y, epochs=3)      # an experiment
        # the model is as it was before
        ```
    """
    check_model(model)
    if not is_built(model):
        raise ValueError(
            "`model` must be built: it has no weights yet to come back to. "
            "Call it on one batch first, `model(x[:1])`. "
            f"Received: model={model!r}"
        )
    state = ModelState(model)
    try:
        yield
    finally:
        state.restore()


def check_model(model: Any) -> None:
    """Raises a `TypeError` where `model` is no Keras model."""
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a keras.Model of Keras 3. "
            f"Received: model={model!r} of {type(model).__module__}"
        )


def build_model(model: Any, inputs: Any) -> None:
    """Gives a model its weights, without running it on data.

    Args:
        model: The model.
        inputs: What it is called with, as (nested) `keras.KerasTensor`s.

    Raises:
        ValueError: The model cannot be built so.
    """
    try:
        model(inputs)
    except Exception as error:
        raise ValueError(
            "The model has no weights yet and could not be given any before "
            "the range test, so it could not be put back after it. Call it "
            f"on one batch first, `model(x[:1])`. The cause: {error}"
        ) from error


class FitAttributes:
    """What `fit` sets on a model, beside the numbers. Taken when made.

    Args:
        model: The Keras model.
    """

    _NAMES = ("history", "stop_training", "stop_evaluating")

    def __init__(self, model: Any) -> None:
        self._attributes = vars(model)
        self._values = {
            name: self._attributes[name]
            for name in self._NAMES
            if name in self._attributes
        }

    def restore(self) -> None:
        """Puts them back, and takes away those that were not there."""
        for name in self._NAMES:
            self._attributes.pop(name, None)
        self._attributes.update(self._values)


class ModelState:
    """A copy of all that training changes in a model. Taken when made.

    Args:
        model: The Keras model, from `Callback.model` inside a fit.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.optimizers = _trained_optimizers(model)
        self._own_builds: list[tuple[Any, Any]] = []
        self._values: list[tuple[Any, Any]] = []
        self._rates = [
            (leaf, learning_rate_of(leaf))
            for optimizer in self.optimizers
            for leaf in leaf_optimizers(optimizer)
        ]
        self._attributes = FitAttributes(model)
        self._modes = _training_modes(model)
        for optimizer in self.optimizers:
            self._build_or_watch(optimizer)
        self._save(_all_variables(model, self.optimizers))
        self._random = RandomState()

    def restore(self, *, rates: bool = True) -> None:
        """Puts everything back. May be called any number of times.

        Args:
            rates: Whether the optimizers get their own learning rate object
                back, too.
        """
        for optimizer, build in self._own_builds:
            if vars(optimizer).get("build") is build:
                unset_instance_method(optimizer, "build")
        if rates:
            self._restore_rates()
        # Metrics made since have no value to go back to but the empty one.
        self._model.reset_metrics()
        for variable, value in self._values:
            variable.assign(value)
        self._attributes.restore()
        for module, training in self._modes:
            module.training = training
        self._random.restore()

    def _restore_rates(self) -> None:
        for leaf, rate in self._rates:
            if learning_rate_of(leaf) is not rate:
                set_learning_rate(leaf, rate)

    def _save(self, variables: list[Any]) -> None:
        self._values += [(v, host_copy(v)) for v in variables]

    def _build_or_watch(self, optimizer: Any) -> None:
        if optimizer.built:
            return
        if optimizer is self._model.optimizer and not _several(self.optimizers):
            # Keras would do it within the first step, out of sight.
            optimizer.build(self._model.trainable_variables)
            return
        # Which weights are this one's only its first step tells.
        self._own_builds.append(
            (optimizer, _watch_build(optimizer, self._save))
        )


def _several(optimizers: list[Any]) -> bool:
    return len(optimizers) > 1


def _trained_optimizers(model: Any) -> list[Any]:
    return [o for o in all_optimizers(model) if o is not None]


def _watch_build(
    optimizer: Any, save: Callable[[list[Any]], None]
) -> Callable[..., None]:
    """Makes `optimizer` save its new variables as soon as it has them."""
    original = optimizer.build

    def build(variables: Any) -> None:
        before = {id(v) for v in optimizer.variables}
        unset_instance_method(optimizer, "build")
        # A variable made within a trace has no value before the first step.
        with outside_of_trace():
            original(variables)
            save([v for v in optimizer.variables if id(v) not in before])

    set_instance_method(optimizer, "build", build)
    return build


def _all_variables(model: Any, optimizers: list[Any]) -> list[Any]:
    found = [*model.variables, *model.metrics_variables]
    for optimizer in optimizers:
        found += optimizer.variables
    return list({id(v): v for v in found}.values())


def _training_modes(model: Any) -> list[tuple[Any, bool]]:
    if keras.backend.backend() != "torch":
        return []
    return [(module, module.training) for module in model.modules()]
