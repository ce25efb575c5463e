"""From the range test to a trained model: the one-cycle policy.

Run: `python examples/one_cycle.py`. `lr_find` is told the training that
follows, `apply` gives the optimizer its schedule, `fit` trains. Beside it,
from the same weights: Keras's default. (Smith and Topin, "Super-Convergence",
arXiv 1708.07120.)
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from keras_lrfinder import lr_find

SAMPLE = Path(__file__).with_name("data") / "mnist_sample.npz"


def load(samples):
    """Returns `(x_train, y_train), (x_test, y_test)`, pixels in [0, 1]."""
    with np.load(SAMPLE) as data:
        train = data["x_train"][:samples], data["y_train"][:samples]
        test = data["x_test"], data["y_test"]
    return [(x[..., None] / 255.0, y) for x, y in (train, test)]


def build():
    """Returns a small, compiled CNN with the same weights at every call."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.SGD(momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def main(argv=None):
    """Trains in both ways; returns the two test accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args(argv)
    train, test = load(options.samples)
    fit = {"batch_size": options.batch_size, "epochs": options.epochs}

    model = build()
    finder = lr_find(model, *train, **fit, schedule="one_cycle")
    peak = finder.apply(model)
    model.fit(*train, **fit, verbose=2)
    one_cycle = model.evaluate(*test, verbose=0)[1]

    model = build()
    model.fit(*train, **fit, verbose=2)
    default = model.evaluate(*test, verbose=0)[1]

    print(f"\nTest accuracy after {options.epochs} epochs of SGD with momentum")
    print(f"one-cycle, peak {peak:.3g}:   {one_cycle:.3f}")
    print(f"Keras's default, 0.01:   {default:.3f}")
    print("Done.")
    return one_cycle, default


if __name__ == "__main__":
    main()
