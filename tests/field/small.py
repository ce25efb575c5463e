"""A small network, its data, and both kinds of range test of it."""

import keras
import numpy as np
from keras import layers

from keras_lrfinder import LRFinder
from keras_lrfinder import lr_find


def rows(count=640, width=6):
    """Rows that a linear layer learns at once."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, width)).astype("float32")
    return x, (x @ rng.normal(size=(width, 1))).astype("float32")


def net(optimizer="adam", width=6, drop=0.1, **settings):
    """A small network, compiled."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((width,)),
            layers.Dense(8, "relu"),
            layers.Dropout(drop),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer, **{"loss": "mse", **settings})
    return model


def at_once(model, *data, **more):
    """A range test by `lr_find`."""
    return lr_find(model, *data, steps=40, verbose=0, **more)


def in_a_fit(model, *data, callbacks=(), **more):
    """A range test by the callback."""
    finder = LRFinder(steps=40, verbose=0)
    more = {"epochs": 9, "verbose": 0, **more}
    model.fit(*data, callbacks=[*callbacks, finder], **more)
    return finder
