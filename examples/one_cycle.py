"""From the range test to a trained model: the one-cycle policy.

Run: `python examples/one_cycle.py`. The peak of the cycle is what `lr_for`
tells for its length: two to three times the learning rate for constant
training, but no more than the upper end of what would do. The momentum goes
the other way, from 0.95 down to 0.85 and back (Smith 2018, arXiv 1803.09820).
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
    """Returns a small CNN with the same weights at every call."""
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Conv2D(32, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def compile_model(model, learning_rate):
    """Compiles with a new optimizer: a schedule counts its steps from 0."""
    model.compile(
        keras.optimizers.SGD(learning_rate, momentum=0.9),
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
    (x, y), test = load(options.samples)
    fit = {"batch_size": options.batch_size, "verbose": 2}

    model = compile_model(build(), 0.01)
    finder = lr_find(model, x, y, batch_size=options.batch_size)
    cycle = finder.one_cycle(epochs=options.epochs)
    max_lr = cycle.schedule.get_config()["max_lr"]
    model.fit(x, y, epochs=options.epochs, callbacks=[cycle], **fit)
    one_cycle = model.evaluate(*test, verbose=0)[1]

    model = compile_model(build(), 0.01)
    model.fit(x, y, epochs=options.epochs, **fit)
    default = model.evaluate(*test, verbose=0)[1]

    print(f"\nTest accuracy after {options.epochs} epochs of SGD with momentum")
    print(f"one-cycle, peak {max_lr:.3g}:   {one_cycle:.3f}")
    print(f"Keras's default, 0.01:   {default:.3f}")
    print("Done.")
    return one_cycle, default


if __name__ == "__main__":
    main()
