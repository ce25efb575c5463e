"""A learning rate into a compiled model, whatever held the one before."""

from __future__ import annotations

from typing import Any

import keras

from keras_lrfinder.training.learning_rate import leaf_optimizers

__all__ = ["apply_learning_rate"]


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
            held = leaf._learning_rate
            if hasattr(held, "assign"):
                leaf.learning_rate = lr
            else:
                leaf.learning_rate = _constant(lr)
                replaced.append(getattr(held, "__name__", type(held).__name__))
    done = f"learning rate set to {lr:.3g}"
    if not replaced:
        return done
    model.train_function = None
    return f"{done}, constant, in place of {', '.join(replaced)}"


def _constant(lr: float) -> Any:
    # Not a variable: the optimizer would have one more than in the files
    # that were saved before, and on TensorFlow one that is taken away again
    # leaves an optimizer that can never be saved. Not a class of ours: a
    # saved model would need it to be imported.
    return keras.optimizers.schedules.ExponentialDecay(
        lr, decay_steps=1, decay_rate=1.0, name="constant"
    )
