"""Which training next? The figures of the guide's page of this name.

Run: `python examples/next_training.py`. One small dense net on 2,000 images
of MNIST, trained in the ways that people try next: constant or decaying, with
early stopping, with weight decay, for longer, with other batches. Each line
of the table is one training from the same weights.
"""

import argparse
from pathlib import Path

import keras
import numpy as np

from keras_lrfinder import lr_find

SAMPLE = Path(__file__).with_name("data") / "mnist_sample.npz"
CALLBACKS = {
    "plateau": lambda: keras.callbacks.ReduceLROnPlateau(patience=2),
    "stopping": lambda: keras.callbacks.EarlyStopping(
        patience=3, restore_best_weights=True
    ),
}


def load(samples):
    """Returns `(x_train, y_train), (x_test, y_test)`, pixels in [0, 1]."""
    with np.load(SAMPLE) as data:
        train = data["x_train"][:samples], data["y_train"][:samples]
        test = data["x_test"], data["y_test"]
    return [(x.reshape(len(x), -1) / 255.0, y) for x, y in (train, test)]


def build(seed, weight_decay):
    """Returns a small, compiled net with the same weights at every call."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.AdamW(weight_decay=weight_decay),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def ended(data, seed, epochs, *, batch_size=32, decay=0.004, schedule, use=()):
    """Returns LR, held-out loss and accuracy, and epochs of a training."""
    train, test = data
    model = build(seed, decay)
    fit = {"batch_size": batch_size, "epochs": epochs, "verbose": 0}
    lr = 0.001
    if schedule:
        finder = lr_find(model, *train, schedule=schedule, **fit)
        lr = finder.apply(model)
    history = model.fit(
        *train,
        **fit,
        validation_data=test,
        callbacks=[CALLBACKS[name]() for name in use],
    )
    loss, accuracy = model.evaluate(*test, verbose=0)
    return lr, loss, accuracy, len(history.epoch)


def ways(epochs):
    """Yields the name of each training, and what it is."""
    default = {"epochs": epochs, "schedule": None}
    constant = {"epochs": epochs, "schedule": "constant"}
    cosine = {"epochs": epochs, "schedule": "cosine"}
    yield "default, constant", default
    yield "found, constant", constant
    yield "found, plateau", constant | {"use": ["plateau"]}
    yield "found, early stopping", constant | {"use": ["stopping"]}
    yield "found, cosine", cosine
    yield "found, one_cycle", cosine | {"schedule": "one_cycle"}
    yield "cosine, early stopping", cosine | {"use": ["stopping"]}
    yield "cosine, weight decay 0", cosine | {"decay": 0.0}
    yield "cosine, weight decay 0.1", cosine | {"decay": 0.1}
    yield "cosine, batches of 16", cosine | {"batch_size": 16}
    yield "cosine, batches of 256", cosine | {"batch_size": 256}
    for name, way in (("default", default), ("cosine", cosine)):
        yield f"{name}, 10 times as long", way | {"epochs": 10 * epochs}


def main(argv=None):
    """Prints the table; returns the rows by name, means over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=2_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args(argv)
    data = load(options.samples)
    rows = {}
    print(f"{'':<28}{'LR':>9}{'loss':>8}{'accuracy':>10}{'epochs':>8}")
    for name, way in ways(options.epochs):
        runs = [ended(data, seed, **way) for seed in range(options.seeds)]
        rows[name] = lr, loss, accuracy, epochs = np.mean(runs, axis=0)
        print(f"{name:<28}{lr:>9.2g}{loss:>8.3f}{accuracy:>10.3f}{epochs:>8g}")
    print("Done.")
    return rows


if __name__ == "__main__":
    main()
