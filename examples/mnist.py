"""Find the learning rate of a training, and train with it: real MNIST.

Run: `python examples/mnist.py`. A small CNN is tested, trained by the
one-cycle policy with the peak found, and from the same weights with Keras's
default. No download: it uses the sample of 10,000 training and 2,000 test
images in `examples/data`. `--full` uses all of MNIST (Keras downloads it),
`--data PATH` a file of your own in the same layout.
"""

import argparse
import time
from pathlib import Path

import keras
import numpy as np

from keras_lrfinder import lr_find
from keras_lrfinder import snapshot

SAMPLE = Path(__file__).with_name("data") / "mnist_sample.npz"

# What `model.compile(optimizer="sgd")` would use, and the like.
OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(),
    "momentum": lambda: keras.optimizers.SGD(momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(),
}


def load(path, full=False):
    """Returns `(x_train, y_train), (x_test, y_test)`, pixels in [0, 1]."""
    if full:
        train, test = keras.datasets.mnist.load_data()
    else:
        with np.load(path) as data:
            train = data["x_train"], data["y_train"]
            test = data["x_test"], data["y_test"]
    return [(x[..., None].astype("float32") / 255, y) for x, y in (train, test)]


def build(optimizer):
    """Returns a small, compiled CNN with fresh weights."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def parse(argv):
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = parser.add_mutually_exclusive_group()
    data.add_argument(
        "--full", action="store_true", help="all of MNIST, by Keras"
    )
    data.add_argument("--data", type=Path, default=SAMPLE, metavar="PATH")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="adam")
    parser.add_argument("--output", type=Path, default=Path("mnist_lr"))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--samples", type=int, help="train on so many images")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def main(argv=None):
    """Finds the learning rate, trains twice; returns both accuracies."""
    options = parse(argv)
    began = time.perf_counter()
    keras.utils.set_random_seed(options.seed)
    train, test = load(options.data, options.full)
    train = tuple(array[: options.samples] for array in train)
    model = build(OPTIMIZERS[options.optimizer]())
    default = model.optimizer.get_config()["learning_rate"]
    fit = {"batch_size": options.batch_size, "epochs": options.epochs}

    finder = lr_find(
        model, *train, **fit, schedule="one_cycle", plot_dir=options.output
    )
    print(finder)
    with snapshot(model):  # the default begins with the same weights
        peak = finder.apply(model)  # an error with the reason, if there is none
        model.fit(*train, **fit, verbose=2)
        found = model.evaluate(*test, verbose=0)[1]

    print(f"Keras's default, {default:g}: {options.epochs} epochs")
    model.fit(*train, **fit, verbose=2)
    by_default = model.evaluate(*test, verbose=0)[1]

    print(f"\nTest accuracy after {options.epochs} epochs")
    print(f"one-cycle, peak {peak:<10.3g} {found:.3f}")
    print(f"Keras's default, {default:<9g} {by_default:.3f}")
    print(
        f"\nDone in {time.perf_counter() - began:.0f} s. The pictures are "
        f"{options.output / 'loss.jpg'} and "
        f"{options.output / 'smooth_loss.jpg'}."
    )
    return found, by_default


if __name__ == "__main__":
    main()
