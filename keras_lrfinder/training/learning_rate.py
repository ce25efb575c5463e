"""The learning rate of a Keras optimizer, whatever holds it.

A learning rate can be a variable, a `LearningRateSchedule` or a callable.
This module knows all three, so that nothing else has to.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from keras_lrfinder.training.keras_internals import learning_rate_of
from keras_lrfinder.training.keras_internals import own_variable
from keras_lrfinder.training.keras_internals import set_learning_rate
from keras_lrfinder.training.optimizers import leaf_optimizers
from keras_lrfinder.training.train_function import forget_train_function
from keras_lrfinder.training.variables import assigner
from keras_lrfinder.training.variables import host_copy
from keras_lrfinder.training.variables import reader


class SweptRate:
    """Sets one learning rate on some optimizers, and gives it back.

    Between `hold` and `release` every optimizer has a plain variable for a
    learning rate. `release` puts the very object back that was there.

    Args:
        optimizers: The optimizers to sweep, as the user named them.
    """

    def __init__(self, optimizers: list[Any]) -> None:
        self.leaves = [
            leaf
            for optimizer in optimizers
            for leaf in leaf_optimizers(optimizer)
        ]
        self.scales_loss = any(
            hasattr(optimizer, "inner_optimizer") for optimizer in optimizers
        )
        self._originals = [learning_rate_of(leaf) for leaf in self.leaves]
        self._initial: list[Any] = [
            host_copy(original) if hasattr(original, "assign") else None
            for original in self._originals
        ]
        self.variables: list[Any] = []
        self._assigns: list[Callable[[float], Any]] = []

    def updates(self) -> int:
        """Returns how many updates the optimizers have made so far."""
        counts = [leaf.iterations for leaf in self.leaves]
        return sum(int(keras.ops.convert_to_numpy(c)) for c in counts)

    def hold(self, model: Any) -> bool:
        """Makes the learning rate assignable, whatever it was.

        Returns:
            Whether a training step that was traced before has another
            learning rate built in.
        """
        plain = [value is not None for value in self._initial]
        self.variables = [
            original if is_plain else own_variable(model, leaf)
            for leaf, original, is_plain in zip(
                self.leaves, self._originals, plain
            )
        ]
        self.assign_by(assigner)
        self.read = reader(self.variables[0])
        return not all(plain)

    def assign_by(
        self, assigner_of: Callable[[Any], Callable[[float], Any]]
    ) -> None:
        """Uses another way to assign numbers to the variables.

        Args:
            assigner_of: Function of a variable that returns a function of a
                number.
        """
        self._assigns = [assigner_of(v) for v in self.variables]
        self._own_assigner = assigner_of is assigner

    def expect(self, lrs: Sequence[float]) -> None:
        """Prepares for learning rates that will be set, where that helps."""
        if self._own_assigner:
            self._assigns = [assigner(v, lrs) for v in self.variables]

    def set(self, lr: float) -> None:
        """Sets the learning rate of the next update."""
        for assign in self._assigns:
            assign(lr)

    def release(self) -> None:
        """Puts every learning rate back. Calling it again changes nothing."""
        if not self.variables:
            return
        for leaf, original, value in zip(
            self.leaves, self._originals, self._initial
        ):
            if learning_rate_of(leaf) is not original:
                set_learning_rate(leaf, original)
            if value is not None:
                original.assign(value)
        self.variables, self._assigns = [], []


def apply_learning_rate(model: Any, optimizers: list[Any], lr: float) -> str:
    """Sets a constant learning rate on optimizers of a model, for good.

    Where an optimizer held a number, this is the same as assigning to it.
    Where it held a schedule or a function, a schedule that is constant takes
    its place, one of Keras's own: the model can be saved, checkpointed and
    exported as before, and its file can be loaded without this package. The
    next `fit` traces its train function anew, as the old one has the old
    schedule built in; a `tf.function` of the user's own has it as well, and
    has to be made anew by hand.

    Args:
        model: A compiled Keras model.
        optimizers: The optimizers to set. One that scales the loss stands
            for its inner one, one made of several for all of these.
        lr: Float > 0.

    Returns:
        A sentence that says what was done.

    Raises:
        ValueError: `lr` is not positive and finite.
    """
    if not 0.0 < lr < float("inf"):
        raise ValueError(f"`lr` must be positive and finite. Received: {lr=}")
    replaced = []
    for optimizer in optimizers:
        for leaf in leaf_optimizers(optimizer):
            held = learning_rate_of(leaf)
            if hasattr(held, "assign"):
                leaf.learning_rate = lr
            else:
                leaf.learning_rate = _constant(lr)
                replaced.append(getattr(held, "__name__", type(held).__name__))
    done = f"learning rate set to {lr:.3g}"
    if not replaced:
        return done
    forget_train_function(model)
    return f"{done}, constant, in place of {', '.join(replaced)}"


def _constant(lr: float) -> Any:
    # Not a variable: the optimizer would have one more than in the files
    # that were saved before, and on TensorFlow one that is taken away again
    # leaves an optimizer that can never be saved. Not a class of ours: a
    # saved model would need it to be imported.
    return keras.optimizers.schedules.ExponentialDecay(
        lr, decay_steps=1, decay_rate=1.0, name="constant"
    )
