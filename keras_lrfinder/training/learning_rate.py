"""The learning rate of a Keras optimizer, whatever holds it.

A learning rate can be a variable, a `LearningRateSchedule` or a callable;
the optimizer can be wrapped for loss scaling, or be several in one. This
module knows all of it, so that nothing else has to.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import keras

from keras_lrfinder.training.variables import assigner
from keras_lrfinder.training.variables import host_copy
from keras_lrfinder.training.variables import reader

__all__ = ["SweptRate", "all_optimizers", "leaf_optimizers"]


def leaf_optimizers(optimizer: Any) -> list[Any]:
    """Returns the optimizers that hold a learning rate of their own.

    Args:
        optimizer: A Keras optimizer. One that scales the loss stands for
            its inner one, one made of several for all of these.
    """
    inner = getattr(optimizer, "inner_optimizer", None)
    if inner is not None:
        return leaf_optimizers(inner)
    parts = getattr(optimizer, "optimizers", None)
    if parts:
        return [leaf for part in parts for leaf in leaf_optimizers(part)]
    return [optimizer]


def all_optimizers(model: Any) -> list[Any]:
    """Returns every optimizer that `model` holds, its own one first."""
    found = [getattr(model, "optimizer", None), *vars(model).values()]
    optimizers: dict[int, Any] = {}
    for value in found:
        if isinstance(value, keras.optimizers.Optimizer):
            optimizers.setdefault(id(value), value)
    return list(optimizers.values())


class SweptRate:
    """Sets one learning rate on some optimizers, and gives it back.

    Between `hold` and `release` every optimizer has a plain variable for a
    learning rate. `release` puts the very object back that was there, with
    the train function that belongs to it.

    Args:
        model: The Keras model that trains.
        optimizers: The optimizers to sweep, as the user named them.
    """

    def __init__(self, model: Any, optimizers: list[Any]) -> None:
        self._model = model
        self._leaves = [
            leaf
            for optimizer in optimizers
            for leaf in leaf_optimizers(optimizer)
        ]
        self.scales_loss = any(
            hasattr(optimizer, "inner_optimizer") for optimizer in optimizers
        )
        # The optimizers' own object: what the public property returns is
        # the current number, for a schedule as for a variable.
        self._originals = [leaf._learning_rate for leaf in self._leaves]
        self._initial: list[Any] = [
            host_copy(original) if hasattr(original, "assign") else None
            for original in self._originals
        ]
        self._train_function: Any = None
        self._swapped = False
        self._variables: list[Any] = []
        self._assigns: list[Callable[[float], Any]] = []

    @property
    def leaves(self) -> list[Any]:
        """The optimizers swept, unwrapped."""
        return self._leaves

    def updates(self) -> int:
        """Returns how many updates the optimizers have made so far."""
        counts = [leaf.iterations for leaf in self._leaves]
        return sum(int(keras.ops.convert_to_numpy(c)) for c in counts)

    def hold(self) -> None:
        """Makes the learning rate assignable, whatever it was."""
        if all(hasattr(original, "assign") for original in self._originals):
            self._variables = list(self._originals)
        else:
            self._swap()
        self.assign_by(assigner)
        self._read = reader(self._variables[0])

    @property
    def variables(self) -> list[Any]:
        """The variables that hold the learning rate, while it is held."""
        return self._variables

    def assign_by(
        self, assigner_of: Callable[[Any], Callable[[float], Any]]
    ) -> None:
        """Uses another way to assign numbers to the variables.

        Args:
            assigner_of: Function of a variable that returns a function of a
                number.
        """
        self._assigns = [assigner_of(v) for v in self._variables]
        self._own_assigner = assigner_of is assigner

    def expect(self, lrs: Sequence[float]) -> None:
        """Prepares for learning rates that will be set, where that helps."""
        if self._own_assigner:
            self._assigns = [assigner(v, lrs) for v in self._variables]

    def set(self, lr: float) -> None:
        """Sets the learning rate of the next update."""
        for assign in self._assigns:
            assign(lr)

    def read(self) -> float:
        """Returns the learning rate that the next update would use."""
        return self._read()

    def release(self) -> None:
        """Puts every learning rate, and its train function, back."""
        if not self._variables:
            return
        for leaf, original, value in zip(
            self._leaves, self._originals, self._initial
        ):
            if value is None:
                leaf.learning_rate = original
            else:
                original.assign(value)
        if self._swapped:
            # A traced function has its schedule baked in, so the one from
            # before is the right one again, and needs no second trace.
            self._model.train_function = self._train_function
        self._variables, self._assigns, self._swapped = [], [], False

    def _swap(self) -> None:
        for leaf, original in zip(self._leaves, self._originals):
            if hasattr(original, "assign"):
                self._variables.append(original)
                continue
            with _strategy_scope(self._model):
                variable = keras.Variable(
                    0.0, trainable=False, dtype="float32", name="learning_rate"
                )
            if keras.backend.backend() == "jax":
                # As an attribute it joins `optimizer.variables`: a variable
                # outside of them is a constant to a compiled JAX step.
                leaf._learning_rate = variable
            else:
                # Not as an attribute: on TensorFlow, untracking a variable
                # leaves an optimizer that can never be saved again.
                leaf.learning_rate = _Held(variable)
            self._variables.append(variable)
        self._swapped = True
        self._train_function = self._model.train_function
        self._model.train_function = None
        self._model.make_train_function()


class _Held(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that returns the value of a variable at every step."""

    def __init__(self, variable: Any) -> None:
        self._variable = variable

    def __call__(self, step: Any) -> Any:
        return self._variable

    def get_config(self) -> dict[str, Any]:
        return {"learning_rate": float(self._variable)}


@contextlib.contextmanager
def _strategy_scope(model: Any) -> Iterator[None]:
    strategy = getattr(model, "distribute_strategy", None)
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        yield
