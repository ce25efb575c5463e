"""The learning rate of one of two optimizers: a small GAN.

Run: `python examples/gan.py`. The GAN learns points on a ring, with a
`train_step` of its own (TensorFlow) and an optimizer for each network. The
range test sweeps the discriminator's and leaves the generator's alone.
"""

import argparse

import keras
import numpy as np
import tensorflow as tf

from keras_lrfinder import LRFinder


class GAN(keras.Model):
    """A generator and a discriminator, each with its optimizer."""

    def __init__(self, noise=8):
        super().__init__()
        self.noise = noise
        self.generator = network(noise, 2)
        self.discriminator = network(2, 1)

    def compile(self, d_optimizer, g_optimizer):
        """Takes two optimizers instead of Keras's one."""
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.cross_entropy = keras.losses.BinaryCrossentropy(from_logits=True)

    def train_step(self, real):
        """Trains the discriminator, then the generator, on one batch."""
        noise = tf.random.normal((tf.shape(real)[0], self.noise))
        with tf.GradientTape() as tape:
            points = tf.concat([real, self.generator(noise)], axis=0)
            scores = self.discriminator(points)
            ones = tf.ones_like(scores[: tf.shape(real)[0]])
            labels = tf.concat([ones, tf.zeros_like(ones)], axis=0)
            d_loss = self.cross_entropy(labels, scores)
        self._update(self.d_optimizer, tape, d_loss, self.discriminator)
        with tf.GradientTape() as tape:
            scores = self.discriminator(self.generator(noise))
            g_loss = self.cross_entropy(tf.ones_like(scores), scores)
        self._update(self.g_optimizer, tape, g_loss, self.generator)
        return {"d_loss": d_loss, "g_loss": g_loss}

    def _update(self, optimizer, tape, loss, part):
        weights = part.trainable_variables
        optimizer.apply(tape.gradient(loss, weights), weights)


def network(inputs, outputs):
    """Returns a small fully connected network."""
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(outputs),
        ]
    )


def ring(count):
    """Returns points on a ring of radius 2."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 2 * np.pi, count)
    points = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return (points + rng.normal(0, 0.05, points.shape)).astype("float32")


def main(argv=None):
    """Returns the suggestion for the discriminator."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=12_800)
    options = parser.parse_args(argv)
    keras.utils.set_random_seed(0)
    gan = GAN()
    gan.compile(keras.optimizers.Adam(beta_1=0.5), keras.optimizers.Adam(2e-4))
    finder = LRFinder(
        start_lr=1e-6, end_lr=1.0, monitor="d_loss", optimizer="d_optimizer"
    )
    points = ring(options.samples)
    gan.fit(points, batch_size=64, verbose=0, callbacks=[finder])
    untouched = gan.g_optimizer.get_config()["learning_rate"]
    print(f"The generator still has {untouched:g}")
    if finder.suggestion.lr is not None:
        finder.apply(gan)
    gan.fit(points, batch_size=64, epochs=2, verbose=2)
    print("Done.")
    return finder.suggestion


if __name__ == "__main__":
    main()
