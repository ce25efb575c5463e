"""Which optimizers a model has, and which of them hold a learning rate."""

from __future__ import annotations

from typing import Any

import keras

from keras_lrfinder.training.keras_internals import layers_of


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


def named_optimizers(model: Any, named: Any) -> list[Any]:
    """Returns the optimizers that a user's `optimizer=` stands for.

    Args:
        model: The Keras model.
        named: None, an optimizer, the name of an attribute of the model, or
            a list of optimizers.

    Raises:
        ValueError: It is none of these.
    """
    value = model.optimizer if named is None else named
    if isinstance(value, str):
        value = getattr(model, value, None)
    found = list(value) if isinstance(value, (list, tuple)) else [value]
    if not found:
        raise ValueError(
            f"`optimizer` must name at least one. Received: optimizer={named!r}"
        )
    for optimizer in found:
        if not isinstance(optimizer, keras.optimizers.Optimizer):
            raise ValueError(
                "`optimizer` must be a Keras optimizer, the name of the "
                "model's attribute that holds one, or None for "
                f"`model.optimizer`. Received: optimizer={named!r}"
            )
        _find_parts(model, optimizer)
    return found


def kind_of(optimizers: list[Any]) -> str:
    """Returns the kind of optimizers, in small letters: "adam", "adam+sgd"."""
    leaves = [leaf for one in optimizers for leaf in leaf_optimizers(one)]
    names = dict.fromkeys(type(leaf).__name__.lower() for leaf in leaves)
    return "+".join(names)


def check_kind(optimizers: list[Any], tested: str) -> None:
    """Raises where a learning rate was not found for optimizers like these.

    Args:
        optimizers: The optimizers.
        tested: The kind that was tested, as from `kind_of`, or `""`.

    Raises:
        ValueError: Names both.
    """
    found = kind_of(optimizers)
    if tested and found != tested:
        raise ValueError(
            "`model` must have the kind of optimizer that was tested, "
            f"{tested}: its learning rate says nothing of another. "
            f"Received: {found}"
        )


def optimizer_names(model: Any) -> str:
    """Returns the model's attributes that are optimizers, for messages."""
    return ", ".join(
        f"{name}={type(value).__name__}"
        for name, value in vars(model).items()
        if isinstance(value, keras.optimizers.Optimizer)
    )


def is_built(model: Any) -> bool:
    """Returns whether all weights of the model exist.

    A model whose class only ties other models together, as a GAN's, may
    never be called itself: it is built when its parts are.
    """
    parts = layers_of(model)
    if not parts:
        return bool(model.built)
    return all(part.built for part in parts)


def _find_parts(model: Any, optimizer: Any) -> None:
    """Makes an optimizer that is several know of which it is made."""
    if optimizer.built or not hasattr(optimizer, "optimizers"):
        return
    # Given a function, Keras learns that weight by weight.
    if is_built(model):
        optimizer.build(model.trainable_variables)
    elif not optimizer.optimizers:
        raise ValueError(
            "`model` must be built for the range test of an optimizer that "
            "is made of several. Call it on one batch first, `model(x[:1])`. "
            f"Received: optimizer={optimizer!r}"
        )
