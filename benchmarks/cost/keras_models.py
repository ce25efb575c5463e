"""The timed models in Keras, and their data."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from benchmarks.cost.shapes import Shape

__all__ = ["compiled", "data", "heavy"]


def compiled(shape: Shape, *extra: Any) -> Any:
    """Returns a compiled model.

    Args:
        shape: What it looks like.
        *extra: Further layers, to come first.
    """
    layers = keras.layers
    parts = [keras.Input(shape.inputs), *extra]
    for filters in shape.convolutions:
        parts.append(
            layers.Conv2D(filters, 3, padding="same", activation="relu")
        )
        parts.append(layers.MaxPooling2D())
    parts.append(layers.Flatten())
    parts += [layers.Dense(units, activation="relu") for units in shape.units]
    parts.append(layers.Dense(shape.classes))
    return _compile(keras.Sequential(parts))


def data(shape: Shape, steps: int) -> tuple[Any, Any]:
    """Returns inputs and learnable classes for so many full batches."""
    rng = np.random.default_rng(5)
    rows = steps * shape.batch
    x = rng.standard_normal((rows, *shape.inputs), dtype=np.float32)
    flat = x.reshape(rows, -1)
    weights = rng.standard_normal((flat.shape[1], shape.classes))
    return x, (flat @ weights).argmax(axis=1).astype("int32")


def heavy(width: int, depth: int) -> Any:
    """Returns a compiled model of `depth` dense layers, `width` x `width`."""
    parts = [keras.layers.Dense(width) for _ in range(depth)]
    return _compile(keras.Sequential([keras.Input((width,)), *parts]))


def _compile(model: Any) -> Any:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-4), loss)
    return model
