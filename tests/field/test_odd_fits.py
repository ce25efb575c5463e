"""Fits that go wrong, or are odd: what is said is true, and nothing changes."""

import functools
import itertools
import math

import keras
import numpy as np
import pytest
from keras import layers

from field.same import at_once
from field.same import compared
from field.same import compiled
from field.same import rows

OPTIMIZERS = keras.optimizers


def table(count=320, bad=None):
    """Rows that a linear layer learns; one may have what is not finite."""
    x, y = rows(count)
    if bad is not None:
        y[count // 4] = bad
    return x, y


def endless():
    """The same as a generator, one of them NaN, for as long as anybody asks."""
    x, y = table(bad=math.nan)
    starts = itertools.cycle(range(0, len(x), 16))
    return (((x[i : i + 16], y[i : i + 16]) for i in starts),)


def net(optimizer="adam", loss="mse"):
    """Weights, statistics and random masks."""
    parts = [
        keras.Input((6,)),
        layers.Dense(8, "relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.1),
        layers.Dense(1),
    ]
    return compiled(parts, optimizer, loss)


def late():
    """A model without weights until its first batch."""
    return compiled([layers.Dense(8, "relu"), layers.Dense(1)], "adam")


def scheduled():
    """An optimizer that holds a schedule."""
    decay = OPTIMIZERS.schedules.ExponentialDecay(0.01, 10, 0.9)
    return net(OPTIMIZERS.Adam(decay))


def accumulated():
    """One update for every three batches."""
    return net(OPTIMIZERS.SGD(0.01, 0.9, gradient_accumulation_steps=3))


def averaged():
    """The average takes the place of the weights every five steps."""
    return net(OPTIMIZERS.Adam(use_ema=True, ema_overwrite_frequency=5))


def halved():
    """Mixed precision, with a loss scale."""
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return net()
    finally:
        keras.mixed_precision.set_global_policy("float32")


def below_zero():
    """A loss that ends at minus five."""
    return net(loss=lambda t, p: keras.ops.mean(keras.ops.abs(t - p)) - 5.0)


def classes():
    """Data of two classes."""
    x, y = table()
    return x, (y > 0).astype("float32")


by_16, twenty = {"batch_size": 16}, {"steps_per_epoch": 20}
crossed = functools.partial(net, loss="binary_crossentropy")
weighted = {"class_weight": {0: 1.0, 1: 5.0}}
by_sample = {"sample_weight": np.linspace(0, 1, 320)}
# How a model is made; its data; other arguments; what the reason has in it.
CASES = {
    "one": (net, lambda: table(1), {}, "1 sample is too few"),
    "three": (net, lambda: table(3), {}, "3 samples are too few"),
    "ten": (net, lambda: table(10), {}, "epoch of 1 step"),
    "fifty": (net, lambda: table(50), {}, "2 steps of 32 samples"),
    "ragged": (net, lambda: table(37), by_16, "3 steps of 16 samples"),
    "nan": (net, lambda: table(bad=math.nan), {}, "`y` has NaN"),
    "infinite": (net, lambda: table(bad=math.inf), {}, "`y` has infinity"),
    "nan in a generator": (net, endless, twenty, "`y` has NaN"),
    "late": (late, table, {}, "held-out"),
    "schedule": (scheduled, table, {}, "held-out"),
    "accumulated": (accumulated, table, {}, "held-out"),
    "averaged": (averaged, table, {}, "do not stand still"),
    "mixed": (halved, table, {}, "held-out"),
    "class weights": (crossed, classes, weighted, "held-out"),
    "sample weights": (net, table, by_sample, "held-out"),
    "negative": (below_zero, table, {}, "negative loss"),
    "ftrl": (lambda: net("ftrl"), table, {}, "without having fallen"),
}
UNANSWERED = ("`y` has", "without having fallen")


@pytest.mark.parametrize("name", CASES)
def test_an_odd_fit_is_as_without_a_test(name):
    """And what is said of it is true."""
    build, data, more, said = CASES[name]
    way = functools.partial(at_once, steps=60)
    (found,) = compared(build, data, [way], trained=False, **more)
    suggestion = found.suggestion
    assert said in suggestion.reason
    assert (suggestion.lr is None) == said.startswith(UNANSWERED)
