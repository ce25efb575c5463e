"""The tasks of the benchmark: what is trained, on what, in which family."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
from keras import layers

from benchmarks.quality import data

if TYPE_CHECKING:
    from benchmarks.quality.data import Split

Loss = Callable[[object, object], object]


@dataclass(frozen=True)
class Task:
    """One thing to train.

    Args:
        name: Unique.
        family: Constants are fitted leaving a family out as a whole.
        data: Returns the data.
        model: Returns a new model, its weights drawn from Keras's seed.
        loss: Mean loss of a batch from targets and outputs.
        batch: Batch size.
        steps: Training steps of the oracle.
        shift: Decades by which the oracle's LR grid moves.
    """

    name: str
    family: str
    data: Callable[[], Split]
    model: Callable[[], keras.Model]
    loss: Loss
    batch: int = 32
    steps: int = 2_000
    shift: float = 0.0


def classes_loss(y, p):
    """Cross-entropy of integer labels and logits."""
    return keras.ops.mean(
        keras.losses.sparse_categorical_crossentropy(y, p, from_logits=True)
    )


def binary_loss(y, p):
    """Cross-entropy of 0/1 labels and one logit."""
    return keras.ops.mean(
        keras.losses.binary_crossentropy(y, p, from_logits=True)
    )


def squared_loss(y, p):
    """Mean squared error."""
    return keras.ops.mean(keras.ops.square(y - p))


def absolute_loss(y, p):
    """Mean absolute error."""
    return keras.ops.mean(keras.ops.abs(y - p))


def gaussian_loss(y, p):
    """Negative log-likelihood of mean and log-deviation; can be negative."""
    mean, log_sd = p[:, :1], keras.ops.clip(p[:, 1:], -8.0, 8.0)
    error = (y - mean) * keras.ops.exp(-log_sd)
    return keras.ops.mean(log_sd + 0.5 * keras.ops.square(error)) - 1.0


def mlp(inputs: int, *widths: int, activation="relu", dropout=0.0):
    """Dense layers; the last width is the linear output."""
    model = keras.Sequential([keras.Input((inputs,))])
    for width in widths[:-1]:
        model.add(layers.Dense(width, activation))
        if dropout:
            model.add(layers.Dropout(dropout))
    model.add(layers.Dense(widths[-1]))
    return model


def autoencoder():
    """Squeeze a picture through 24 numbers."""
    return keras.Sequential(
        [
            keras.Input((196,)),
            layers.Dense(64, "relu"),
            layers.Dense(24, "relu"),
            layers.Dense(64, "relu"),
            layers.Dense(196, "sigmoid"),
        ]
    )


def cnn(norm: bool):
    """Two strided convolutions, with or without batch normalisation."""
    model = keras.Sequential([keras.Input((14, 14, 1))])
    for filters in (8, 16):
        model.add(layers.Conv2D(filters, 3, 2, "same"))
        if norm:
            model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
    model.add(layers.Flatten())
    model.add(layers.Dense(10))
    return model


def residual(inputs: int, width: int, outputs: int, blocks: int = 3):
    """Residual blocks with layer normalisation and GELU."""
    start = keras.Input((inputs,))
    x = layers.Dense(width)(start)
    for _ in range(blocks):
        y = layers.LayerNormalization()(x)
        y = layers.Dense(width)(layers.Dense(width, "gelu")(y))
        x = x + y
    x = layers.LayerNormalization()(x)
    return keras.Model(start, layers.Dense(outputs)(x))


def normed_mlp(inputs: int, width: int, outputs: int):
    """Batch normalisation first: takes columns in any unit."""
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            layers.BatchNormalization(),
            layers.Dense(width, "relu"),
            layers.BatchNormalization(),
            layers.Dense(outputs),
        ]
    )


def byte_gru():
    """A recurrent byte language model."""
    return keras.Sequential(
        [
            keras.Input((16,), dtype="int32"),
            layers.Embedding(96, 24),
            layers.GRU(32, return_sequences=True),
            layers.Dense(96),
        ]
    )


def byte_transformer():
    """One transformer block over 24 bytes."""
    start = keras.Input((24,), dtype="int32")
    where = keras.ops.arange(24)
    x = layers.Embedding(96, 32)(start) + layers.Embedding(24, 32)(where)
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 16)(y, y, use_causal_mask=True)
    y = layers.LayerNormalization()(x)
    x = x + layers.Dense(32)(layers.Dense(64, "gelu")(y))
    x = layers.LayerNormalization()(x)
    return keras.Model(start, layers.Dense(96)(x))


def text_pool(words: int):
    """Mean of word embeddings, then two dense layers."""
    return keras.Sequential(
        [
            keras.Input((words,), dtype="int32"),
            layers.Embedding(data.VOCABULARY, 16),
            layers.GlobalAveragePooling1D(),
            layers.Dense(24, "relu"),
            layers.Dense(4),
        ]
    )


def text_convolution(words: int):
    """Word embeddings, a convolution, the strongest answer."""
    return keras.Sequential(
        [
            keras.Input((words,), dtype="int32"),
            layers.Embedding(data.VOCABULARY, 16),
            layers.Dropout(0.2),
            layers.Conv1D(24, 3, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dense(4),
        ]
    )


def text_bag():
    """Counts of words, two dense layers: many weights for few samples."""
    return mlp(data.VOCABULARY, 32, 4)


def wave_lstm():
    """A small recurrent classifier."""
    return keras.Sequential(
        [keras.Input((24, 1)), layers.LSTM(24), layers.Dense(3)]
    )


def digits_cnn():
    """A convolution, pooling, a hidden layer."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(32, "relu"),
            layers.Dense(10),
        ]
    )


def row_gru():
    """A recurrent network that reads a picture row by row."""
    return keras.Sequential(
        [keras.Input((14, 14)), layers.GRU(32), layers.Dense(10)]
    )


def text_gru(words: int):
    """Word embeddings read by a recurrent network."""
    return keras.Sequential(
        [
            keras.Input((words,), dtype="int32"),
            layers.Embedding(data.VOCABULARY, 16),
            layers.GRU(16),
            layers.Dense(4),
        ]
    )


@functools.cache
def _trained_body() -> list:
    """Weights after learning digits 0 to 4, the body of the fine-tuning."""
    keras.utils.set_random_seed(1)
    source = data.mnist_classes(range(5), 4_500)
    model = mlp(196, 96, 64, 5)
    model.compile(keras.optimizers.Adam(2e-3), classes_loss)
    model.fit(source.x, source.y, batch_size=64, epochs=6, verbose=0)
    return model.get_weights()[:-2]


def fine_tuned(outputs: int, whole: bool):
    """A trained body with a new head; `whole`: the body trains along."""
    body = _trained_body()
    model = mlp(196, 96, 64, outputs)
    model.set_weights([*body, *model.get_weights()[-2:]])
    for layer in model.layers[:-1]:
        layer.trainable = whole
    return model


def _shifted() -> data.Split:
    """The digits 0 to 4 again, with inverted contrast at half strength."""
    source = data.mnist_classes(range(5), 1_000)
    return source._replace(x=0.7 - source.x / 2, x_held=0.7 - source.x_held / 2)


def continued():
    """A trained network, head included, on somewhat different pictures."""
    keras_seed = keras.utils.set_random_seed
    keras_seed(2)
    source = data.mnist_classes(range(5), 4_500)
    model = fine_tuned(5, True)
    model.compile(keras.optimizers.Adam(1e-3), classes_loss)
    model.fit(source.x, source.y, batch_size=64, epochs=1, verbose=0)
    return model


P = functools.partial

TASKS = (
    Task("digits_mlp", "digits", data.digits, P(mlp, 64, 48, 10), classes_loss),
    Task(
        "digits_raw",
        "digits",
        P(data.digits, scale=1.0),
        P(mlp, 64, 10),
        classes_loss,
    ),
    Task(
        "digits_deep",
        "digits",
        data.digits,
        P(mlp, 64, 32, 32, 32, 32, 10, activation="tanh"),
        classes_loss,
        64,
    ),
    Task(
        "digits_noisy",
        "noise",
        P(data.digits, noise=0.3),
        P(mlp, 64, 64, 10),
        classes_loss,
    ),
    Task(
        "clusters",
        "noise",
        data.clusters,
        P(mlp, 30, 64, 32, 4),
        classes_loss,
        16,
    ),
    Task(
        "digits_small",
        "small",
        P(data.digits, 120),
        P(mlp, 64, 64, 64, 10, dropout=0.2),
        classes_loss,
        16,
    ),
    Task(
        "diabetes_small",
        "small",
        lambda: split_small(data.diabetes()),
        P(mlp, 10, 64, 64, 1),
        squared_loss,
        16,
        shift=-1.0,
    ),
    Task(
        "breast_cancer",
        "tabular",
        data.breast_cancer,
        P(mlp, 30, 32, 1),
        binary_loss,
    ),
    Task(
        "wine",
        "tabular",
        data.wine,
        P(mlp, 13, 16, 3, activation="tanh"),
        classes_loss,
        16,
    ),
    Task(
        "wine_raw",
        "tabular",
        P(data.wine, raw=True),
        P(normed_mlp, 13, 32, 3),
        classes_loss,
        16,
    ),
    Task(
        "diabetes",
        "regression",
        data.diabetes,
        P(mlp, 10, 32, 1),
        squared_loss,
        shift=-1.0,
    ),
    Task(
        "friedman",
        "regression",
        data.friedman,
        P(mlp, 10, 64, 64, 1),
        squared_loss,
        64,
    ),
    Task(
        "friedman_absolute",
        "regression",
        P(data.friedman, scaled=False),
        P(mlp, 10, 32, 32, 1, activation="tanh"),
        absolute_loss,
    ),
    Task(
        "friedman_gaussian",
        "regression",
        data.friedman,
        P(mlp, 10, 48, 2),
        gaussian_loss,
    ),
    Task(
        "mnist_mlp",
        "image",
        data.mnist,
        P(mlp, 196, 64, 64, 10, dropout=0.1),
        classes_loss,
    ),
    Task(
        "mnist_residual",
        "image",
        data.mnist,
        P(residual, 196, 32, 10),
        classes_loss,
        steps=500,
    ),
    Task(
        "mnist_autoencoder",
        "reconstruction",
        data.mnist_copies,
        autoencoder,
        squared_loss,
    ),
    Task(
        "mnist_rare",
        "imbalance",
        data.mnist_rare,
        P(mlp, 196, 48, 1),
        binary_loss,
    ),
    Task(
        "text_pool",
        "text",
        P(data.stdlib_packages, 40, 600),
        P(text_pool, 40),
        classes_loss,
        steps=500,
    ),
    Task(
        "text_convolution",
        "text",
        P(data.stdlib_packages, 40, 500),
        P(text_convolution, 40),
        classes_loss,
        steps=500,
    ),
    Task(
        "text_larger",
        "text",
        P(data.stdlib_packages, 40, 0),
        P(text_pool, 40),
        classes_loss,
        steps=500,
    ),
    Task(
        "text_bag",
        "text",
        data.stdlib_bags,
        text_bag,
        classes_loss,
        steps=1_000,
    ),
    Task(
        "finetune_head",
        "finetuning",
        P(data.mnist_classes, range(5, 10), 600),
        P(fine_tuned, 5, False),
        classes_loss,
    ),
    Task(
        "finetune_whole",
        "finetuning",
        P(data.mnist_classes, range(5, 10), 400),
        P(fine_tuned, 5, True),
        classes_loss,
    ),
    Task("finetune_shifted", "finetuning", _shifted, continued, classes_loss),
    Task(
        "wave_lstm", "sequence", data.waves, wave_lstm, classes_loss, steps=500
    ),
    Task(
        "byte_gru",
        "bytes",
        P(data.stdlib_bytes, 16),
        byte_gru,
        classes_loss,
        16,
        steps=500,
    ),
    Task(
        "byte_transformer",
        "bytes",
        P(data.stdlib_bytes, 24),
        byte_transformer,
        classes_loss,
        16,
        steps=500,
    ),
    Task(
        "mnist_cnn_norm",
        "image",
        data.mnist_pictures,
        P(cnn, True),
        classes_loss,
        steps=500,
    ),
    Task(
        "mnist_cnn",
        "image",
        data.mnist_pictures,
        P(cnn, False),
        classes_loss,
        steps=500,
    ),
    # Measured once the constants were fixed: no constant ever saw these.
    Task("iris", "later", data.iris, P(mlp, 4, 16, 3), classes_loss, 16, 500),
    Task(
        "moons",
        "later",
        data.moons,
        P(mlp, 2, 32, 32, 2),
        classes_loss,
        32,
        500,
    ),
    Task(
        "linear_targets",
        "later",
        data.linear_targets,
        P(mlp, 20, 64, 1),
        squared_loss,
        32,
        500,
        -1.0,
    ),
    Task(
        "digits_cnn",
        "later",
        data.digits_pictures,
        digits_cnn,
        classes_loss,
        64,
        500,
    ),
    Task(
        "digits_autoencoder",
        "later",
        data.digits_copies,
        P(mlp, 64, 32, 12, 32, 64),
        squared_loss,
        32,
        500,
    ),
    Task(
        "digits_normed",
        "later",
        data.digits,
        P(normed_mlp, 64, 48, 10),
        classes_loss,
        32,
        500,
    ),
    Task(
        "mnist_softmax",
        "later",
        data.mnist,
        P(mlp, 196, 10),
        classes_loss,
        64,
        500,
    ),
    Task(
        "mnist_rows", "later", data.mnist_rows, row_gru, classes_loss, 32, 500
    ),
    Task(
        "text_gru",
        "later",
        P(data.stdlib_packages, 20, 0),
        P(text_gru, 20),
        classes_loss,
        32,
        500,
    ),
)


def split_small(source: data.Split) -> data.Split:
    """Only the first 80 training samples."""
    return source._replace(x=source.x[:80], y=source.y[:80])
