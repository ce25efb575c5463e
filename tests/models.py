"""Models whose training has state of every kind, by a name."""

import keras
import numpy as np
import tiny
from tiny import decay


def by(optimizer, make=tiny.small, **kwargs):
    """A function that makes a compiled model; `optimizer` makes one too."""
    return lambda: tiny.compiled(make(), optimizer(), **kwargs)


def named(name, rate=0.01, **kwargs):
    """A function that makes a Keras optimizer."""
    kind = getattr(keras.optimizers, name)
    return lambda: kind(decay() if rate is decay else rate, **kwargs)


def fitted(make):
    """`make`, and one epoch of training."""

    def make_and_fit():
        model = make()
        tiny.fit(model, epochs=1)
        return model

    return make_and_fit


def classifier(*parts, kind=keras.Model, **kwargs):
    """A compiled classifier of the layers given and a last one."""
    model = tiny.chained(*parts, tiny.last(), kind=kind)
    return tiny.compiled(model, **kwargs)


def loss_scaled(rate=0.01):
    """A loss-scaling optimizer."""
    return keras.optimizers.LossScaleOptimizer(
        named("Adam", rate)(), initial_scale=4.0, dynamic_growth_steps=3
    )


def overwriting():
    """An optimizer whose average takes the weights' place now and then."""
    kwargs = {"use_ema": True, "ema_overwrite_frequency": 4}
    return keras.optimizers.SGD(decay(), **kwargs)


def several():
    """An optimizer made of two."""
    parts = {"dense/.*": named("Adam", decay)()}
    parts = keras.optimizers.OptimizerMap(named("SGD")(), parts)
    return keras.optimizers.MultiOptimizer(parts)


def frozen():
    """A model with a layer that does not train."""
    model = tiny.functional()
    model.layers[1].trainable = False
    return model


class Counts(keras.layers.Layer):
    """Counts its calls in Python, lists them, and draws."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.seen = []
        self.noise = np.random.default_rng(0)

    def call(self, x):
        """Calls nothing."""
        self.calls += 1
        self.seen.append(self.calls)
        self.noise.random()
        return x


class Noise(keras.layers.Layer):
    """Draws from Keras's global generator, in training."""

    def call(self, x, training=None):
        """Adds noise."""
        if not training:
            return x
        return x + keras.random.normal(keras.ops.shape(x), stddev=0.1)


class Everything(keras.metrics.Mean):
    """Counts over all epochs: its reset does nothing."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts."""
        super().update_state(1.0)

    def reset_state(self):
        """Keeps the count."""


def raw():
    """A model with raw variables of TensorFlow in every place."""
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.box = {"inner": [tf.Variable(0.0)]}

    class Augment(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.nested = {"a": {"b": [tf.Variable(0.0)]}}
            self.pair = (tf.Variable(0.0), 1)
            self.module = Module()
            self.noise = tf.random.Generator.from_seed(5)

        def call(self, x, training=False):
            if not training:
                return x
            self.nested["a"]["b"][0].assign_add(1.0)
            self.pair[0].assign_add(1.0)
            self.module.box["inner"][0].assign_add(1.0)
            return x + 0.1 * self.noise.normal(tf.shape(x))

    class Curriculum(keras.Model):
        def __init__(self, *args):
            super().__init__(*args)
            self.current_step = tf.Variable(0, dtype=tf.int64)

        def train_step(self, data):
            self.current_step.assign_add(1)
            return super().train_step(data)

    return classifier(Augment(), kind=Curriculum)


def noisy(**kwargs):
    """Noise of TensorFlow's in a layer and in the training step."""
    import tensorflow as tf

    class Random(keras.layers.Layer):
        def call(self, x):
            return x + tf.random.normal(tf.shape(x))

    class Noisy(keras.Model):
        def train_step(self, data):
            x, y = data
            return super().train_step((x + tf.random.uniform((4, 1)), y))

    return classifier(Random(), kind=Noisy, **kwargs)


def wrapped():
    """A model with a PyTorch module that keeps state of every kind."""
    import torch

    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(tiny.FEATURES)
            self.spectral = torch.nn.utils.spectral_norm(
                torch.nn.Linear(tiny.FEATURES, tiny.FEATURES)
            )
            self.register_buffer("hidden", torch.zeros(2), persistent=False)
            self.tensor = torch.zeros(2)
            self.noise = torch.Generator().manual_seed(1)
            self.calls = 0

        def forward(self, x):
            if self.training:
                self.hidden = self.hidden + 1
                self.tensor += 1
                self.calls += 1
                x = x + 0.1 * torch.rand(x.shape, generator=self.noise)
            return self.spectral(self.norm(x))

    return classifier(
        keras.layers.TorchModuleWrapper(
            Odd(), output_shape=(None, tiny.FEATURES)
        )
    )


ALL = ("tensorflow", "jax", "torch")
KINDS = {
    "plain": (by(named("Adam")), ALL),
    "metric": (by(named("Adam"), tiny.functional, metrics=["accuracy"]), ALL),
    "subclass": (by(named("SGD"), tiny.subclass_built), ALL),
    "schedule": (by(named("Adam", decay)), ALL),
    "callable": (by(lambda: keras.optimizers.SGD(lambda: 0.01)), ALL),
    "fitted": (fitted(by(named("Adam"))), ALL),
    "fitted-schedule": (fitted(by(named("Adam", decay))), ALL),
    "deferred": (by(named("Adam"), tiny.deferred), ALL),
    "deferred-subclass": (by(named("SGD", decay), tiny.Subclass), ALL),
    "momentum": (by(named("SGD", momentum=0.9, nesterov=True)), ALL),
    "weight-decay": (by(named("AdamW", decay, weight_decay=0.1)), ALL),
    "ema": (by(named("Adam", use_ema=True, ema_momentum=0.8)), ALL),
    "ema-overwriting": (by(overwriting), ALL),
    "accumulation": (by(named("Adam", gradient_accumulation_steps=3)), ALL),
    "loss-scale": (by(loss_scaled), ALL),
    "loss-scale-schedule": (by(lambda: loss_scaled(decay)), ALL),
    "several": (by(several), ALL),
    "frozen": (by(named("Adam"), frozen), ALL),
    "never-reset": (lambda: classifier(metrics=[Everything()]), ALL),
    "python": (fitted(lambda: classifier(Counts())), ALL),
    "noise": (lambda: classifier(Noise()), ("tensorflow", "torch")),
    "raw": (raw, ("tensorflow",)),
    "noisy": (noisy, ("tensorflow",)),
    "noisy-fitted": (fitted(noisy), ("tensorflow",)),
    "noisy-eager": (lambda: noisy(run_eagerly=True), ("tensorflow",)),
    "wrapped": (wrapped, ("torch",)),
    "wrapped-fitted": (fitted(wrapped), ("torch",)),
}
