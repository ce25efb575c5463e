"""How the learning rate to use changes with the batch size.

Run: `python examples/compare_batch_sizes.py`. The same model in the same
state, one range test for each batch size, one table and one picture. (The
same works for optimizers, weight decays or anything else.)
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from keras_lrfinder import compare_lr

SAMPLE = Path(__file__).with_name("data") / "mnist_sample.npz"


def build():
    """Returns a small, compiled network."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def main(argv=None):
    """Returns the suggestions, by size; writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[8, 32, 128, 512]
    )
    parser.add_argument("--output", type=Path, default=Path("batch_sizes.png"))
    options = parser.parse_args(argv)
    with np.load(SAMPLE) as data:
        x = data["x_train"][: options.samples] / 255.0
        y = data["y_train"][: options.samples]
    keras.utils.set_random_seed(0)
    model = build()
    found = compare_lr(
        {f"batch size {n}": (model, {"batch_size": n}) for n in options.sizes},
        x,
        y,
        steps=options.steps,
        start_lr=1e-4,
        verbose=0,
    )
    print(found)
    found.plot().figure.savefig(options.output, dpi=150)
    print(f"Done. The picture is {options.output}.")
    return [finder.suggestion for finder in found.finders.values()]


if __name__ == "__main__":
    main()
