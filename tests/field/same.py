"""The claim of this folder: a range test changes nothing that comes after."""

import functools

import keras
import numpy as np
from keras import layers

from keras_lrfinder import LRFinder
from keras_lrfinder import lr_find

STEPS = 24


def rows(count=640, width=6):
    """Rows that a linear layer learns at once."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, width)).astype("float32")
    return x, (x @ rng.normal(size=(width, 1))).astype("float32")


def images(count=32, size=8):
    """Random pictures and class numbers."""
    rng = np.random.default_rng(0)
    x = rng.random((count, size, size, 3), "float32")
    return x, rng.integers(0, 3, count).astype("int32")


def net(optimizer="adam", drop=0.1, **settings):
    """A small network for `rows`, compiled."""
    keras.utils.set_random_seed(1)
    parts = [layers.Dense(8, "relu"), layers.Dropout(drop), layers.Dense(1)]
    return compiled([keras.Input((6,)), *parts], optimizer, **settings)


def compiled(model, optimizer="rmsprop", loss="mse", **settings):
    """A model, or a list of layers, compiled."""
    if isinstance(model, list):
        model = keras.Sequential(model)
    model.compile(optimizer, loss, **settings)
    return model


class Tells(keras.Model):
    """A linear layer; `then` gets what each step logs, and returns it."""

    def __init__(self, then):
        super().__init__()
        self.dense, self.then = layers.Dense(1), then

    def call(self, x):
        """Maps."""
        return self.dense(x)

    def train_step(self, *args):
        """That of Keras, and more."""
        made = super().train_step(*args)
        if keras.backend.backend() == "jax":
            return self.then(made[0]), made[1]
        return self.then(made)


def everything(model):
    """All variables of a model, of the optimizers it holds, and its metrics."""
    held = [model.optimizer, *vars(model).values()]
    optimizers = {
        id(o): o for o in held if isinstance(o, keras.optimizers.Optimizer)
    }
    variables = [*model.variables]
    for optimizer in optimizers.values():
        variables += optimizer.variables
    for layer in getattr(model, "layers", []):
        if isinstance(layer, keras.layers.TorchModuleWrapper):
            # Its buffers are no variables of Keras's.
            variables += layer.module.state_dict().values()
    return [np.array(keras.ops.convert_to_numpy(v)) for v in variables]


def at_once(model, *data, **more):
    """A range test by `lr_find`."""
    return lr_find(model, *data, **{"steps": 40, "verbose": 0, **more})


def ramp_alone(model, *data, **more):
    """The same without probes, which cost most of its time."""
    return at_once(model, *data, probe=False, **more)


def in_a_fit(model, *data, callbacks=(), steps=40, **more):
    """A range test by the callback, in a fit of its own."""
    names = {"monitor", "plot_dir"} & set(more)
    settings = {name: more.pop(name) for name in names}
    finder = LRFinder(steps=steps, verbose=0, **settings)
    more = {"epochs": 9, "verbose": 0, **more}
    model.fit(*data, callbacks=[*callbacks, finder], **more)
    return finder


def compared(build, data, ways, trained=True, **fit):
    """Asserts that a fit after range tests is bit for bit the one without.

    Args:
        build: Function that returns a fresh, compiled model.
        data: Function that returns the positional arguments of `fit`.
        ways: The range tests, one after the other on the same model.
        trained: Whether the model has been trained before.
        **fit: More arguments of `fit`.

    Returns:
        What each way returned.
    """
    ends, found = [], []
    for tests in ((), ways):
        keras.utils.set_random_seed(3)
        model = build()
        if trained:
            model.fit(*data(), epochs=1, verbose=0, **fit)
        before = everything(model)
        for test in tests:
            found.append(test(model, *data(), **fit))
            assert_same(before, everything(model)[: len(before)])
        done = model.fit(*data(), epochs=2, verbose=0, **fit)
        ends.append((done.history, everything(model)))
    (history, plain), (history_after, tested) = ends
    np.testing.assert_equal(history_after, history)
    assert_same(plain, tested)
    return found


def same_as_untested(build, data, ways=(at_once, in_a_fit), **fit):
    """`compared`, of tests that went well; returns their `LRFinder`s."""
    ways = [functools.partial(way, steps=STEPS) for way in ways]
    finders = compared(build, data, ways, **fit)
    assert all(len(finder.curve) >= STEPS // 2 for finder in finders)
    return finders


def assert_same(these, those):
    """Asserts that two lists of arrays are the same, bit for bit."""
    for a, b in zip(these, those, strict=True):
        np.testing.assert_array_equal(a, b)
