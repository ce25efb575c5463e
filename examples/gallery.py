"""Make the pictures of the guide: curves to read, good and bad ones.

Run: `python examples/gallery.py`. Writes `docs/images/curve_*.png`.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from keras_lrfinder import lr_find

HERE = Path(__file__).parent
SAMPLE = HERE / "data" / "mnist_sample.npz"
FOLDER = HERE.parent / "docs" / "images"


def digits(samples):
    """Returns images, as rows of pixels in [0, 1], and labels."""
    with np.load(SAMPLE) as data:
        x, y = data["x_train"][:samples], data["y_train"][:samples]
    return x.reshape(len(x), -1).astype("float32") / 255.0, y


def classifier(optimizer="adam"):
    """Returns a small dense net for the digits."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def with_nan(x):
    """Returns the inputs with one bad row."""
    x = x.copy()
    x[1234] = np.nan
    return x


def tests(samples):
    """Yields the name of each picture, and the finder that draws it."""
    x, y = digits(samples)
    labels = np.random.default_rng(0).permutation(y)
    plain = {"batch_size": 64, "verbose": 0}
    yield "good", lr_find(classifier(), x, y, **plain)
    yield "noisy", lr_find(classifier(), x, y, **plain | {"batch_size": 4})
    yield "falling", lr_find(classifier("sgd"), x, y, end_lr=0.03, **plain)
    yield "start", lr_find(classifier(), x, y, start_lr=0.3, **plain)
    yield "nothing", lr_find(classifier("sgd"), x, labels, end_lr=0.1, **plain)
    yield "nan", lr_find(classifier(), with_nan(x), y, **plain)
    few = lr_find(classifier(), x[:200], labels[:200], **plain)
    yield "memorised", few


def main(argv=None):
    """Writes the pictures, and returns the suggestions by name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args(argv)
    options.folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for name, finder in tests(options.samples):
        figure = finder.plot().figure
        figure.savefig(options.folder / f"curve_{name}.png", dpi=80)
        found[name] = finder.suggestion
        print(f"{name}: {finder.suggestion}")
    print("Done.")
    return found


if __name__ == "__main__":
    main()
