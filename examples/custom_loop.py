"""The range test in a training loop of your own: TensorFlow, eager.

Run: `python examples/custom_loop.py`. `RangeTest` needs no `fit`, no
callback and no compiled model: ask it for the learning rate, train one batch
with it, record the loss, until it says stop.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_lrfinder import RangeTest
from keras_lrfinder import suggest

SAMPLE = Path(__file__).with_name("data") / "mnist_sample.npz"


def batches(samples, batch_size):
    """Returns MNIST images and labels as a `tf.data.Dataset`."""
    with np.load(SAMPLE) as data:
        x = data["x_train"][:samples].astype("float32") / 255
        y = data["y_train"][:samples].astype("int32")
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(batch_size)


def range_test(model, optimizer, loss_function, dataset):
    """Returns the curve of one pass over `dataset`; trains the model."""
    test = RangeTest(1e-5, 10.0, steps=len(dataset), optimizer=optimizer.name)
    for images, labels in dataset:
        optimizer.learning_rate = test.lr
        with tf.GradientTape() as tape:
            loss = loss_function(labels, model(images, training=True))
        weights = model.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)
        if not test.record(loss):
            break
    return test.curve


def main(argv=None):
    """Runs the range test and returns the suggestion."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args(argv)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28)),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    curve = range_test(
        model,
        keras.optimizers.Adam(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        batches(options.samples, options.batch_size),
    )
    suggestion = suggest(curve)
    print(curve.to_text())
    print(suggestion)
    print("Done. Make the model anew to train it: the test has changed it.")
    return suggestion


if __name__ == "__main__":
    main()
