"""A training loop that shares nothing with Keras: NumPy, double precision.

`model()` is a small network, and the functions here train its twin, with
the gradients written out. What a range test records in Keras must be what
this loop sees, to the last digits of single precision.
"""

import keras
import numpy as np
import tiny

START, END, STEPS = 1e-3, 1.0, 20

# The arguments of every range test here.
RAMP = {
    "start_lr": START,
    "end_lr": END,
    "steps": STEPS,
    "stop_factor": None,
    "verbose": 0,
}


def ramp(steps=STEPS):
    """The learning rates of the exponential ramp."""
    return [START * (END / START) ** (i / (steps - 1)) for i in range(steps)]


def data(rows=60, seed=0):
    """A regression problem, `x` and `y`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3)).astype("float32")
    y = np.sin(x.sum(axis=1, keepdims=True)) + 0.5
    return x, y.astype("float32")


def layers(seed=1):
    """The two layers of the network."""
    glorot = keras.initializers.GlorotUniform
    return [
        keras.layers.Dense(4, "tanh", kernel_initializer=glorot(seed)),
        keras.layers.Dense(1, kernel_initializer=glorot(seed + 1)),
    ]


def model(optimizer=None, seed=1, **compile_kwargs):
    """Returns the network, compiled for plain SGD on the squared error."""
    net = keras.Sequential([keras.Input((3,)), *layers(seed)])
    optimizer = optimizer or keras.optimizers.SGD(0.01)
    net.compile(optimizer, **{"loss": "mse", **compile_kwargs})
    return net


def kept():
    """Returns `model()` as new, but traced for all tests of a process."""
    net = tiny.as_new(model)
    net.optimizer.learning_rate = 0.01
    return net


def two_headed(**compile_kwargs):
    """Two such networks side by side, named `p` and `q`, which share nothing.

    Inputs (`u`, `v`) and outputs are dictionaries; `model.parts` has both.
    """
    inputs = {name: keras.Input((3,), name=name) for name in ("u", "v")}
    parts = {
        name: keras.Sequential([keras.Input((3,)), *layers(seed)], name=name)
        for name, seed in (("p", 1), ("q", 5))
    }
    outputs = {"p": parts["p"](inputs["u"]), "q": parts["q"](inputs["v"])}
    net = keras.Model(inputs, outputs)
    net.parts = list(parts.values())
    losses = {"p": "mse", "q": "mse"}
    net.compile(keras.optimizers.SGD(0.01), losses, **compile_kwargs)
    return net


def batches(x, y, size, weight=None):
    """Yields batches in order, again from the start when the data ends."""
    while True:
        for i in range(0, len(x), size):
            part = slice(i, i + size)
            yield x[part], y[part], None if weight is None else weight[part]


def gradients(weights, x, y, sample_weight=None):
    """Returns the mean squared error, and its slope in every weight."""
    kernel_1, bias_1, kernel_2, bias_2 = weights
    hidden = np.tanh(x @ kernel_1 + bias_1)
    error = hidden @ kernel_2 + bias_2 - y
    scale = np.ones(len(x)) if sample_weight is None else sample_weight
    scale = np.reshape(scale, (-1, 1)).astype("float64")
    back = 2 * scale * error / len(x)
    hidden_back = (back @ kernel_2.T) * (1 - hidden**2)
    slopes = [x.T @ hidden_back, hidden_back.sum(0)]
    slopes += [hidden.T @ back, back.sum(0)]
    return np.mean(scale * error**2), slopes


def train(weights, source, lrs, per_update=1, held=()):
    """The loss of each step, before its update, and the weights at the end.

    An update takes `per_update` batches of `source`; gradients that were
    `held` before count to the first.
    """
    weights = [np.asarray(w, "float64") for w in weights]
    losses, held = [], list(held)
    for lr in lrs:
        seen = []
        while len(held) < per_update:
            loss, slopes = gradients(weights, *next(source))
            seen.append(loss)
            held.append(slopes)
        losses.append(np.mean(seen))
        mean = [np.mean(parts, axis=0) for parts in zip(*held, strict=True)]
        weights = [w - lr * g for w, g in zip(weights, mean, strict=True)]
        held = []
    return losses, weights


def assert_measured(curve, losses, rtol=1e-5):
    """Asserts that a curve has the whole ramp and these losses."""
    np.testing.assert_allclose(curve.lrs, ramp(len(losses)), rtol=1e-12)
    np.testing.assert_allclose(curve.losses, losses, rtol=rtol)


def assert_same_weights(found, expected, rtol=1e-4):
    """Asserts that two lists of weights are equal to float error."""
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-6)
