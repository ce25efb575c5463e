"""Make the README's picture: a range test of a CNN on real MNIST.

Run: `python examples/picture.py`. Writes `docs/images/range_test.png`, by the
code that the README shows beside it.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from keras_lrfinder import lr_find

HERE = Path(__file__).parent
SAMPLE = HERE / "data" / "mnist_sample.npz"
PICTURE = HERE.parent / "docs" / "images" / "range_test.png"


def main(argv=None):
    """Writes the picture and returns the suggestion."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=PICTURE)
    options = parser.parse_args(argv)
    with np.load(SAMPLE) as data:
        x_train = data["x_train"][: options.samples, ..., None] / 255.0
        y_train = data["y_train"][: options.samples]
    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    fit = {"batch_size": 64, "epochs": 10}
    finder = lr_find(model, x_train, y_train, **fit, schedule="one_cycle")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    finder.plot().figure.savefig(options.output, dpi=120)
    print(f"Done. The picture is {options.output}.")
    return finder.suggestion


if __name__ == "__main__":
    main()
