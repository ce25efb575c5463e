"""Does the suggestion follow the best learning rate as the batch grows?

Run: `python -m benchmarks.outcome.batch_sizes` (Keras on JAX, a quarter of an
hour). Three tasks, three optimizers, batches of 16, 64 and 512: constant
learning rates, four per decade, for 500 steps, two seeds, against what
`lr_find(total_steps=500)` says.
"""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

from pathlib import Path

import keras
import numpy as np

from keras_lrfinder import lr_find

SIZES = (16, 64, 512)
STEPS = 500
SEEDS = (0, 1)
MNIST = Path(__file__).parents[2] / "examples" / "data" / "mnist_sample.npz"
OPTIMIZERS = {
    "sgd": (lambda lr: keras.optimizers.SGD(lr), -2.25, 1.0),
    "momentum": (lambda lr: keras.optimizers.SGD(lr, 0.9), -3.25, 0.0),
    "adam": (lambda lr: keras.optimizers.Adam(lr), -4.0, -1.0),
}


def digits(flat: bool):
    """8,000 images to train on, 2,000 to judge by."""
    with np.load(MNIST) as data:
        x = data["x_train"].astype("float32") / 255.0
        y = data["y_train"].astype("int32")
    x = x.reshape(len(x), -1) if flat else x[:, ::2, ::2, None]
    return x[:8000], y[:8000], x[8000:], y[8000:]


def rows():
    """A smooth function of ten numbers, with noise."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10_000, 10)).astype("float32")
    y = np.sin(x[:, :1] * 2) + x[:, 1:2] * x[:, 2:3]
    y = (y + 0.3 * rng.normal(size=y.shape)).astype("float32")
    return x[:8000], y[:8000], x[8000:], y[8000:]


def dense(shape, units, loss):
    """Two hidden layers."""
    relu = [keras.layers.Dense(n, "relu") for n in (64, 32)]
    net = [keras.Input(shape), *relu, keras.layers.Dense(units)]
    return keras.Sequential(net), loss


def convolution():
    """Two convolutions."""
    conv = [
        keras.layers.Conv2D(n, 3, strides=2, activation="relu") for n in (8, 16)
    ]
    head = [keras.layers.Flatten(), keras.layers.Dense(10)]
    return keras.Sequential([keras.Input((14, 14, 1)), *conv, *head]), CLASSES


CLASSES = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
TASKS = {
    "digits": (digits, (True,), lambda: dense((784,), 10, CLASSES)),
    "images": (digits, (False,), convolution),
    "rows": (rows, (), lambda: dense((10,), 1, "mse")),
}


def model(task: str, optimizer: str, lr: float, seed: int):
    """A fresh model."""
    keras.utils.set_random_seed(seed)
    net, loss = TASKS[task][2]()
    net.compile(OPTIMIZERS[optimizer][0](lr), loss)
    return net


def best_lr(task: str, data, optimizer: str, size: int) -> float:
    """log10 of the LR that ends with the lowest mean held-out loss."""
    x, y, *held_out = data
    _, low, high = OPTIMIZERS[optimizer]
    grid = np.arange(low, high + 0.01, 0.25)
    losses = np.zeros((len(SEEDS), len(grid)))
    order = np.random.default_rng(1)
    rows = np.concatenate(
        [order.permutation(len(x)) for _ in range(-(-STEPS * size // len(x)))]
    )[: STEPS * size]
    for i, seed in enumerate(SEEDS):
        net = model(task, optimizer, 0.01, seed)
        start = net.get_weights()
        for j, decades in enumerate(grid):
            net.set_weights(start)
            for variable in net.optimizer.variables:
                variable.assign(np.zeros(variable.shape, variable.dtype))
            net.optimizer.learning_rate = 10.0**decades
            net.fit(x[rows], y[rows], batch_size=size, shuffle=False, verbose=0)
            loss = net.evaluate(*held_out, batch_size=2000, verbose=0)
            losses[i, j] = loss if np.isfinite(loss) else 1e9
    return float(grid[losses.mean(0).argmin()])


def main() -> None:
    """Print a line for each case, and the factor off for each size."""
    off: dict[int, list[float]] = {size: [] for size in SIZES}
    for task, (load, given, _) in TASKS.items():
        data = load(*given)
        for optimizer in OPTIMIZERS:
            for size in SIZES:
                best = best_lr(task, data, optimizer, size)
                net = model(task, optimizer, 0.01, 5)
                said = lr_find(
                    net,
                    *data[:2],
                    batch_size=size,
                    total_steps=STEPS,
                    verbose=0,
                ).suggestion.lr
                away = np.log10(said) - best
                off[size].append(abs(away))
                print(
                    f"| {task} | {optimizer} | {size} | {10.0**best:.2g} "
                    f"| {said:.2g} | {10.0**away:.2f} |",
                    flush=True,
                )
    for size, found in off.items():
        middle, mean = 10.0 ** np.median(found), 10.0 ** np.mean(found)
        print(f"batch {size}: off by {middle:.2f} (median), {mean:.2f} (mean)")


if __name__ == "__main__":
    main()
