"""Models with a `train_step` of their own, as the guides of Keras write it."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from field.same import Tells
from field.same import assert_same
from field.same import at_once
from field.same import compiled
from field.same import everything
from field.same import same_as_untested


def rows():
    """64 rows of six numbers, two bumps."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 6)) + rng.choice([-1.0, 1.0], (64, 1))
    return x.astype("float32")


def dense(width):
    """A small network, built."""
    net = [keras.Input((6,)), layers.Dense(8, "relu"), layers.Dense(width)]
    return keras.Sequential(net)


class Adversarial(keras.Model):
    """WGAN with gradient penalty: two networks, each with its optimizer."""

    def __init__(self):
        super().__init__()
        self.generator, self.critic = dense(6), dense(1)
        self.seeds = keras.random.SeedGenerator(2)

    def compile(self, g_optimizer, d_optimizer):
        """Takes an optimizer for each network; the generator's is Keras's."""
        super().compile(optimizer=g_optimizer)
        self.d_optimizer = keras.optimizers.get(d_optimizer)

    def call(self, z):
        """Generates."""
        return self.generator(z)

    def _critic_loss(self, real, fake, tape_of):
        share = keras.random.uniform((ops.shape(real)[0], 1), seed=self.seeds)
        mixed = share * real + (1 - share) * fake
        with tape_of() as tape:
            tape.watch(mixed)
            said = self.critic(mixed)
        slope = tape.gradient(said, mixed)
        norm = ops.sqrt(ops.sum(slope**2, -1) + 1e-6)
        gap = ops.mean(self.critic(fake)) - ops.mean(self.critic(real))
        return gap + 10.0 * ops.mean((norm - 1.0) ** 2)

    def train_step(self, real):
        """Critic first, then generator."""
        import tensorflow as tf

        noise = keras.random.normal(ops.shape(real), seed=self.seeds)
        fake = self.generator(noise)
        with tf.GradientTape() as tape:
            d_loss = self._critic_loss(real, fake, tf.GradientTape)
        of = self.critic.trainable_variables
        self.d_optimizer.apply_gradients(zip(tape.gradient(d_loss, of), of))
        with tf.GradientTape() as tape:
            g_loss = -ops.mean(self.critic(self.generator(noise)))
        of = self.generator.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(g_loss, of), of))
        return {"loss": d_loss, "g_loss": g_loss}


class Stateless(keras.Model):
    """JAX's guide: the step takes the state and returns it."""

    def __init__(self):
        super().__init__()
        self.network = dense(6)

    def call(self, x, training=False):
        """Reconstructs."""
        return self.network(x, training=training)

    def _loss(self, trainable, non_trainable, x):
        out, non_trainable = self.stateless_call(
            trainable, non_trainable, x, training=True
        )
        return ops.mean((out - x) ** 2), non_trainable

    def train_step(self, state, data):
        """One stateless step."""
        import jax

        trainable, non_trainable, slots, metrics = state
        x = data[0] if isinstance(data, tuple) else data
        step = jax.value_and_grad(self._loss, has_aux=True)
        (loss, non_trainable), grads = step(trainable, non_trainable, x)
        trainable, slots = self.optimizer.stateless_apply(
            slots, grads, trainable
        )
        return {"loss": loss}, (trainable, non_trainable, slots, metrics)


class Backward(keras.Model):
    """PyTorch's guide: `zero_grad`, `backward`, apply."""

    def __init__(self):
        super().__init__()
        self.network = dense(6)
        self.drop = layers.Dropout(0.2, seed=5)

    def call(self, x, training=False):
        """Reconstructs."""
        return self.network(self.drop(x, training=training))

    def train_step(self, data):
        """One step of autograd."""
        import torch

        x = data[0] if isinstance(data, tuple) else data
        self.zero_grad()
        loss = ops.mean((self(x, training=True) - x) ** 2)
        loss.backward()
        of = self.trainable_weights
        with torch.no_grad():
            self.optimizer.apply([w.value.grad for w in of], of)
        return {"loss": loss.detach()}


OPTIMIZERS = keras.optimizers
STEPS = [
    (
        "tensorflow",
        Adversarial,
        lambda: (OPTIMIZERS.Adam(1e-3, 0.5), "rmsprop"),
    ),
    ("jax", Stateless, lambda: [OPTIMIZERS.Adam(1e-3)]),
    ("torch", Backward, lambda: [OPTIMIZERS.SGD(1e-2, 0.9)]),
]


@pytest.mark.parametrize(
    ("kind", "optimizers"),
    [
        pytest.param(
            *step, marks=pytest.mark.backend(name), id=step[0].__name__
        )
        for name, *step in STEPS
    ],
)
def test_a_step_of_ones_own(kind, optimizers):
    """All networks, optimizers and noise come back, known to Keras or not."""

    def build():
        model = kind()
        model.compile(*optimizers())
        return model

    same_as_untested(build, lambda: (rows(),), batch_size=16)


def test_a_model_that_logs_only_accuracy_is_told_so():
    """The message has what is logged, and the model is as it was."""
    x = rows()
    model = compiled(Tells(lambda logs: {"accuracy": logs["loss"]}), "adam")
    model.fit(x, x, verbose=0)
    before = everything(model)
    with pytest.raises((KeyError, ValueError), match="accuracy"):
        at_once(model, x, x)
    assert_same(before, everything(model))
