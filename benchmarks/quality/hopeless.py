"""Cases in which no learning rate can be told: is any answer called sure?

Run: `python -m benchmarks.quality.hopeless`. Each case is tried with three
optimizers, by `lr_find` and by the callback; none may be "high".
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np

from keras_lrfinder import LRFinder
from keras_lrfinder import lr_find

SIZE, STEPS = 32, 100


def inputs(rows: int, features: int = 16):
    """Normal inputs."""
    x = np.random.default_rng(1).normal(size=(rows, features))
    return x.astype("float32")


def regression(rows: int):
    """Targets that a linear model learns."""
    x = inputs(rows)
    y = x @ np.random.default_rng(2).normal(size=(16, 1))
    return x, y.astype("float32")


def noise(rows: int):
    """Targets that have nothing to do with the inputs."""
    y = np.random.default_rng(3).normal(size=(rows, 1))
    return inputs(rows), y.astype("float32")


def labels(rows: int, classes: int = 10):
    """Labels that have nothing to do with the inputs."""
    return inputs(rows), np.random.default_rng(4).integers(0, classes, rows)


def with_bad_row(name: str, bad: float):
    """A good data set with one bad number in it."""
    x, y = regression(2000)
    {"x": x, "y": y}[name][1234] = bad
    return x, y


def net(optimizer, loss="mse", hidden=None, units=1, activation=None):
    """A small dense model."""
    keras.utils.set_random_seed(1)
    hidden = hidden or [keras.layers.Dense(32, activation="relu")]
    last = keras.layers.Dense(units, activation=activation)
    model = keras.Sequential([keras.Input((16,)), *hidden, last])
    model.compile(optimizer, loss)
    return model


def classifier(optimizer, hidden=None):
    """The same with ten classes."""
    loss = "sparse_categorical_crossentropy"
    return net(optimizer, loss, hidden, 10, "softmax")


class Hides(keras.layers.Layer):
    """ReLU, which on some machines makes zero of NaN."""

    def call(self, x):
        """Zero where `x` is not positive."""
        return keras.ops.where(x > 0, x, 0.0)


def all_nan(optimizer):
    """A bias learns the mean of the targets, and nothing else can."""
    x, y = regression(2000)
    hidden = [Hides(), keras.layers.Dense(8)]
    return net(optimizer, hidden=hidden), np.full_like(x, np.nan), y + 5.0


def frozen(optimizer):
    """What is left to train learns how often each class comes: 0.6 %."""
    hidden = [keras.layers.Dense(32, activation="relu", trainable=False)]
    often = np.linspace(0.7, 1.3, 10) / 10.0
    y = np.random.default_rng(4).choice(10, size=4000, p=often)
    return classifier(optimizer, hidden), 1e-3 * inputs(4000), y


def unbounded(optimizer):
    """A critic's loss, which falls as the weights grow, until they burst."""

    def loss(y_true, y_pred):
        return keras.ops.mean(y_pred * keras.ops.sign(y_true))

    hidden = [keras.layers.Dense(32, activation="relu") for _ in range(4)]
    return net(optimizer, loss, hidden), *regression(2000)


def dead(optimizer):
    """No gradient reaches any weight but the last bias."""
    start = keras.initializers.Constant(-1.0)
    hidden = [
        keras.layers.Dense(
            32, "relu", kernel_initializer="zeros", bias_initializer=start
        )
    ]
    return net(optimizer, hidden=hidden), *noise(2000)


Case = Callable[[str], tuple]
CASES: dict[str, Case] = {
    "NaN in a row of x": lambda o: (net(o), *with_bad_row("x", np.nan)),
    "NaN in a row of y": lambda o: (net(o), *with_bad_row("y", np.nan)),
    "infinity in x": lambda o: (net(o), *with_bad_row("x", np.inf)),
    "NaN everywhere": all_nan,
    "noise, 2,000 samples": lambda o: (net(o), *noise(2000)),
    "noise, 100 samples": lambda o: (net(o), *noise(100)),
    "random labels, 2,000": lambda o: (classifier(o), *labels(2000)),
    "random labels, 500": lambda o: (classifier(o), *labels(500)),
    "random labels, 64": lambda o: (classifier(o), *labels(64)),
    "three samples": lambda o: (net(o), *regression(3)),
    "thirty samples": lambda o: (net(o), *regression(30)),
    "frozen": frozen,
    "unbounded loss": unbounded,
    "no gradient": dead,
}
OPTIMIZERS: dict[str, Callable] = {
    "sgd": lambda: keras.optimizers.SGD(),
    "momentum": lambda: keras.optimizers.SGD(momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(),
}


def by_lr_find(model, x, y):
    """The finder after ramp and probes."""
    return lr_find(model, x, y, batch_size=SIZE, steps=STEPS, verbose=0)


def by_callback(model, x, y):
    """The finder after a ramp in the user's own `fit`."""
    finder = LRFinder(steps=STEPS, verbose=0)
    epochs = -(-STEPS * SIZE // len(x)) + 1
    model.fit(
        x, y, batch_size=SIZE, epochs=epochs, verbose=0, callbacks=[finder]
    )
    return finder


def main() -> None:
    """Print a line for each case, and what was called sure."""
    high = count = 0
    for name, case in CASES.items():
        for kind, optimizer in OPTIMIZERS.items():
            for way in (by_lr_find, by_callback):
                found = way(*case(optimizer())).suggestion
                count += 1
                high += found.confidence == "high"
                print(f"{name}, {kind}, {way.__name__}: {found}", flush=True)
    print(f"\n{high} of {count} are called high")


if __name__ == "__main__":
    main()
