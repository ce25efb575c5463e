"""The timed models in Keras, and their data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

__all__ = ["ON_GPU", "SHAPES", "Shape", "compiled", "data", "heavy", "shapes"]

_TOKENS = 8192


@dataclass(frozen=True)
class Shape:
    """One model and its data."""

    inputs: tuple[int, ...]  # of one row, channels last
    batch: int
    steps: int  # of one timed run
    rounds: int  # how often each contender runs
    convolutions: tuple[int, ...] = ()  # filters, 3 x 3, each with a pooling
    units: tuple[int, ...] = ()  # of the hidden dense layers
    blocks: int = 0  # of a transformer of width 512, whose inputs are tokens
    classes: int = 10


SHAPES = {
    "tiny MLP": Shape((32,), 64, 300, 150, units=(64,)),
    "small CNN": Shape((28, 28, 1), 96, 48, 100, convolutions=(8, 16)),
    "larger MLP": Shape((512,), 640, 18, 60, units=(1024, 768)),
}
ON_GPU = {
    "tiny MLP": SHAPES["tiny MLP"],
    "CNN, 32 x 32": Shape(
        (32, 32, 3), 256, 60, 20, convolutions=(64, 128, 256)
    ),
    "transformer, 6 x 512": Shape((256,), 32, 60, 12, blocks=6),
}


def shapes(gpu: bool) -> dict[str, Shape]:
    """Returns the models for such a machine, by name."""
    return ON_GPU if gpu else SHAPES


def compiled(shape: Shape) -> Any:
    """Returns a compiled model."""
    layers = keras.layers
    x = inputs = keras.Input(shape.inputs)
    if shape.blocks:
        x = layers.Embedding(_TOKENS, 512)(x)
    for _ in range(shape.blocks):
        normal = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(8, 64)(normal, normal)
        wide = layers.Dense(2048, "gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(512)(wide)
    for filters in shape.convolutions:
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling1D()(x) if shape.blocks else x
    x = layers.Flatten()(x)
    for units in shape.units:
        x = layers.Dense(units, activation="relu")(x)
    return compile_(keras.Model(inputs, layers.Dense(shape.classes)(x)))


def data(shape: Shape, steps: int) -> tuple[Any, Any]:
    """Returns inputs and learnable classes for so many full batches."""
    rng = np.random.default_rng(5)
    rows = (steps * shape.batch, *shape.inputs)
    if shape.blocks:
        x = rng.integers(_TOKENS, size=rows).astype("int32")
        return x, x[:, 0] % shape.classes
    x = rng.standard_normal(rows, dtype=np.float32)
    flat = x.reshape(len(x), -1)
    weights = rng.standard_normal((flat.shape[1], shape.classes))
    return x, (flat @ weights).argmax(axis=1).astype("int32")


def heavy(width: int, depth: int, frozen: bool = False) -> Any:
    """Returns dense layers, trained or not, and a small one that trains."""
    # Not zeros: pages of nothing but zeros take no memory yet.
    given = {"kernel_initializer": keras.initializers.Constant(1e-5)}
    parts: Sequence[Any] = [
        keras.layers.Dense(width, trainable=not frozen, **given)
        for _ in range(depth)
    ]
    last = keras.layers.Dense(10)
    return compile_(keras.Sequential([keras.Input((width,)), *parts, last]))


def compile_(model: Any) -> Any:
    """Returns the model, compiled for classification with Adam."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-4), loss)
    return model
