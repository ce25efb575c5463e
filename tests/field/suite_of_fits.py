"""Fits as a user's own tests have them, without a word of range tests.

Run by `test_before_every_fit.py`, twice.
"""

import keras
import numpy as np
import tiny
from tiny import data as rows


def model(optimizer="adam", **settings):
    """Statistics, dropout and a metric, beside weights."""
    keras.utils.set_random_seed(7)
    settings = {"metrics": ["accuracy"], **settings}
    return tiny.compiled(tiny.functional(), optimizer, **settings)


def test_data_weights_and_validation():
    """Positional arguments, ragged batches, weights, a part held out."""
    x, y = rows()
    net = model()
    net.fit(x, y, 7, 2, 0, validation_split=0.25)
    net.fit(x, y, sample_weight=np.linspace(0, 1, len(x)), verbose=0)
    net.fit(
        x, y, class_weight={0: 1.0, 1: 3.0, 2: 1.0}, shuffle=False, verbose=0
    )
    net.fit(x, y, validation_data=rows(9), steps_per_epoch=3, verbose=0)


def test_schedule_and_callbacks():
    """What steers training, or ends it."""
    decay = keras.optimizers.schedules.ExponentialDecay(0.02, 3, 0.5)
    net = model(keras.optimizers.SGD(decay, momentum=0.9, nesterov=True))
    stop = keras.callbacks.EarlyStopping("loss", patience=1)
    net.fit(*rows(), epochs=4, callbacks=[stop], verbose=0)
    net = model("lion")
    slower = keras.callbacks.ReduceLROnPlateau("loss", patience=1)
    net.fit(*rows(), epochs=4, callbacks=[slower], verbose=0)


class Sequence(keras.utils.PyDataset):
    """Batches made by two threads."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return tuple(a[8 * index : 8 * index + 8] for a in rows())


def test_dataset_and_generator():
    """A PyDataset of workers; and batches that come once, which no test has."""
    net = model()
    net.fit(Sequence(workers=2), epochs=2, verbose=0)
    net.fit((rows(8) for _ in range(8)), steps_per_epoch=4, epochs=2, verbose=0)


def test_mixed_precision_and_frozen_layers():
    """A loss scale; what is not trainable; compiled anew in between."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        net = model()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    net.fit(*rows(), verbose=0)
    net.layers[1].trainable = False  # after the input
    several = 1 if keras.backend.backend() == "torch" else 3
    tiny.compiled(net, "rmsprop", steps_per_execution=several)
    net.fit(*rows(), epochs=2, batch_size=8, verbose=0)


def test_evaluate_and_fit_in_turn():
    """Metrics start from nothing each time."""
    net = model()
    for _ in range(2):
        net.fit(*rows(), verbose=0)
        net.evaluate(*rows(), verbose=0)
        net.train_on_batch(*rows(8))
