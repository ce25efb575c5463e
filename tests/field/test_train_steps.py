"""Models with a `train_step` of their own, as the guides of Keras write it."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

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
        self.d_optimizer = d_optimizer

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


@pytest.mark.backend("tensorflow")
def test_adversarial_training_with_two_optimizers():
    """Both networks, both optimizers and the noise come back."""

    def build():
        model = Adversarial()
        model.compile(
            keras.optimizers.Adam(1e-3, beta_1=0.5),
            keras.optimizers.RMSprop(1e-3),
        )
        return model

    same_as_untested(build, lambda: (rows(),))


class Cycle(keras.Model):
    """CycleGAN: two generators, two discriminators, four optimizers."""

    def __init__(self):
        super().__init__()
        self.there, self.back = dense(6), dense(6)
        self.judge_x, self.judge_y = dense(1), dense(1)

    def compile(self, make):
        """Takes a function that makes an optimizer."""
        super().compile(optimizer=make())
        self.back_optimizer, self.x_optimizer, self.y_optimizer = (
            make() for _ in range(3)
        )

    def call(self, x):
        """Translates."""
        return self.there(x)

    def judged(self, x, y):
        """Yields the loss of each network."""
        fake_y, fake_x = self.there(x), self.back(y)
        again = ops.mean(ops.abs(self.back(fake_y) - x))
        again += ops.mean(ops.abs(self.there(fake_x) - y))
        yield ops.mean((self.judge_y(fake_y) - 1.0) ** 2) + 10.0 * again
        yield ops.mean((self.judge_x(fake_x) - 1.0) ** 2) + 10.0 * again
        for judge, real, fake in (
            (self.judge_x, x, fake_x),
            (self.judge_y, y, fake_y),
        ):
            right = ops.mean((judge(real) - 1.0) ** 2)
            yield 0.5 * (right + ops.mean(judge(fake) ** 2))

    def train_step(self, data):
        """One tape for all four, as the guide has it."""
        import tensorflow as tf

        with tf.GradientTape(persistent=True) as tape:
            losses = list(self.judged(*data))
        parts = (
            (self.optimizer, self.there),
            (self.back_optimizer, self.back),
            (self.x_optimizer, self.judge_x),
            (self.y_optimizer, self.judge_y),
        )
        for loss, (optimizer, net) in zip(losses, parts, strict=True):
            of = net.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(loss, of), of))
        return {"loss": losses[0], "back_loss": losses[1]}


@pytest.mark.backend("tensorflow")
def test_cycle_of_four_optimizers():
    """All of them come back, though only one is known to Keras."""

    def build():
        model = Cycle()
        model.compile(lambda: keras.optimizers.SGD(2e-3, momentum=0.5))
        return model

    same_as_untested(build, lambda: (rows(), rows()[::-1]), batch_size=16)


class Diffusion(keras.Model):
    """Predicts noise; an average of its weights is what will sample."""

    def __init__(self):
        super().__init__()
        self.network, self.average = dense(6), dense(6)
        self.average.set_weights(self.network.get_weights())
        self.average.trainable = False
        self.seeds = keras.random.SeedGenerator(4)
        self.seen = keras.metrics.Mean(name="loss")

    def call(self, x):
        """What noise there is in it."""
        return self.network(x)

    def train_step(self, x):
        """One step, and one of the average."""
        import tensorflow as tf

        noise = keras.random.normal(ops.shape(x), seed=self.seeds)
        with tf.GradientTape() as tape:
            loss = ops.mean((self.network(x + noise) - noise) ** 2)
        of = self.network.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, of), of))
        for slow, fast in zip(self.average.weights, self.network.weights):
            slow.assign(0.9 * slow + 0.1 * fast)
        self.seen.update_state(loss)
        return {"loss": self.seen.result()}


@pytest.mark.backend("tensorflow")
def test_diffusion_with_averaged_weights():
    """The average, which no optimizer knows, comes back."""

    def build():
        model = Diffusion()
        model.compile(keras.optimizers.AdamW(1e-3))
        return model

    same_as_untested(build, lambda: (rows(),))


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


@pytest.mark.backend("jax")
def test_a_stateless_step():
    """On JAX the state is handed through the step of the user's own."""

    def build():
        model = Stateless()
        model.compile(keras.optimizers.Adam(1e-3))
        return model

    same_as_untested(build, lambda: (rows(),))


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


@pytest.mark.backend("torch")
def test_a_step_of_autograd():
    """On PyTorch gradients and optimizer are the user's own calls."""

    def build():
        model = Backward()
        model.compile(keras.optimizers.SGD(1e-2, momentum=0.9))
        return model

    same_as_untested(build, lambda: (rows(),))


class AccuracyOnly(keras.Model):
    """Logs no loss: there is nothing that a range test could read."""

    def __init__(self):
        super().__init__()
        self.network = dense(6)

    def call(self, x):
        """Reconstructs."""
        return self.network(x)

    def train_step(self, data):
        """Trains, and tells an accuracy only."""
        logs = super().train_step(data)
        return {"accuracy": logs["loss"]}


@pytest.mark.backend("tensorflow", "torch")
def test_a_model_that_logs_only_accuracy_is_told_so():
    """The message has what is logged, and the model is as it was."""
    from keras_lrfinder import lr_find

    model, x = AccuracyOnly(), rows()
    model.compile("adam", "mse")
    model.fit(x, x, verbose=0)
    before = model.get_weights()
    with pytest.raises((KeyError, ValueError), match="accuracy"):
        lr_find(model, x, x, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
