"""The range test in a training loop of your own: TensorFlow, eager.

Run: `python examples/custom_loop.py`. Neither `RangeTest` nor `search` needs
a `fit`, a callback or a compiled model. `RangeTest` says the next learning
rate and takes the loss, until it says stop. `search` says which short runs to
make, and what they and the test mean together. `snapshot` puts the model and
the optimizer back after each.
"""

import argparse
import itertools
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_lrfinder import Plan
from keras_lrfinder import RangeTest
from keras_lrfinder import search
from keras_lrfinder import snapshot

SAMPLE = Path(__file__).with_name("data") / "mnist_sample.npz"
HELD_OUT = 8


class Loop:
    """A model, its optimizer and its batches: a loop as people write it."""

    def __init__(self, batches):
        self.batches = batches
        self.model = keras.Sequential(
            [
                keras.Input((28, 28)),
                keras.layers.Flatten(),
                keras.layers.Dense(64, activation="relu"),
                keras.layers.Dense(10),
            ]
        )
        self.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.optimizer = keras.optimizers.Adam()
        # Its slots must be there before they can be put back.
        self.optimizer.build(self.model.trainable_variables)

    def step(self, batch, lr):
        """Returns the loss of a batch, and learns from it: not at LR zero."""
        images, labels = batch
        with tf.GradientTape() as tape:
            loss = self.loss(labels, self.model(images, training=True))
        if lr > 0:
            weights = self.model.trainable_variables
            self.optimizer.learning_rate = lr
            self.optimizer.apply(tape.gradient(loss, weights), weights)
        return float(loss)

    def ramp(self):
        """Returns the curve of a range test."""
        batches = self.batches[HELD_OUT:]
        test = RangeTest(
            1e-6,
            10.0,
            steps=100,
            optimizer=self.optimizer.name,
            steps_per_epoch=len(batches),
        )
        with snapshot(self.model, self.optimizer):
            for batch in itertools.cycle(batches):
                if not test.record(self.step(batch, test.lr)):
                    return test.curve

    def train(self, run):
        """Returns the losses of a run that `search` asks for."""
        held_out, training = self.batches[:HELD_OUT], self.batches[HELD_OUT:]
        batches = itertools.chain(
            itertools.islice(itertools.cycle(training), run.steps),
            held_out[: run.held_out],
            training[: run.again],
        )
        with snapshot(self.model, self.optimizer):
            return [self.step(b, lr) for lr, b in zip(run.lrs, batches)]


def load(samples, batch_size):
    """Returns MNIST images and labels, in batches."""
    with np.load(SAMPLE) as data:
        x = data["x_train"][:samples].astype("float32") / 255
        y = data["y_train"][:samples].astype("int32")
    starts = range(0, len(x), batch_size)
    return [(x[i : i + batch_size], y[i : i + batch_size]) for i in starts]


def main(argv=None):
    """Tests, trains an epoch with the answer; returns the suggestion."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=10_000)
    parser.add_argument("--batch-size", type=int, default=32)
    options = parser.parse_args(argv)
    keras.utils.set_random_seed(0)
    loop = Loop(load(options.samples, options.batch_size))

    plan = Plan(total_steps=len(loop.batches), held_out=HELD_OUT)
    runs, suggestion = search(loop.ramp(), loop.train, plan)
    for run in runs:
        print(f"{run.steps} steps at {run.lr:.1e} end at {run.final_loss:.3f}")
    print(suggestion)

    losses = [loop.step(batch, suggestion.lr) for batch in loop.batches]
    print(f"The loss fell from {losses[0]:.2f} to {np.mean(losses[-9:]):.2f}.")
    print("Done.")
    return suggestion


if __name__ == "__main__":
    main()
