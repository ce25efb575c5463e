"""How the learning rate to use changes with the batch size.

Run: `python examples/compare_batch_sizes.py`. The same model in the same
state, one range test for each batch size, all curves in one picture. (The
same works for optimizers, weight decays or anything else.)
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from keras_lrfinder import lr_find
from keras_lrfinder import plot_curves

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
    """Returns batch size to suggestion; writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument(
        "--batch-sizes", type=int, nargs="+", default=[8, 32, 128, 512]
    )
    parser.add_argument("--output", type=Path, default=Path("batch_sizes.png"))
    options = parser.parse_args(argv)
    with np.load(SAMPLE) as data:
        x = data["x_train"][: options.samples] / 255.0
        y = data["y_train"][: options.samples]
    keras.utils.set_random_seed(0)
    model = build()
    found = {
        size: lr_find(
            model,
            x,
            y,
            batch_size=size,
            steps=options.steps,
            start_lr=1e-4,
            verbose=0,
        )
        for size in options.batch_sizes
    }
    for size, finder in found.items():
        print(f"batch size {size:>4}: {finder.suggestion}")
    axes = plot_curves(
        {f"batch size {size}": finder.curve for size, finder in found.items()},
        suggestions={
            f"batch size {size}": finder.suggestion
            for size, finder in found.items()
        },
    )
    axes.figure.savefig(options.output, dpi=150)
    print(f"Done. The picture is {options.output}.")
    return {size: finder.suggestion for size, finder in found.items()}


if __name__ == "__main__":
    main()
