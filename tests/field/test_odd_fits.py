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
from keras_lrfinder import RangeTest
from keras_lrfinder.training.run import Watch

OPTIMIZERS = keras.optimizers


def table(count=320, bad=None):
    """Rows that a linear layer learns; one may have what is not finite."""
    x, y = rows(count)
    if bad is not None:
        y[count // 4] = bad
    return x, y


def batches(bad):
    """The same as a generator, for as long as anybody asks."""
    x, y = table(bad=bad)
    for i in itertools.cycle(range(0, len(x), 16)):
        yield x[i : i + 16], y[i : i + 16]


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


crossed = functools.partial(net, loss="binary_crossentropy")
weighted = {"class_weight": {0: 1.0, 1: 5.0}}
by_sample = {"sample_weight": np.linspace(0, 1, 320)}
# How a model is made; its data; other arguments; what the reason has in it.
CASES = {
    "one": (net, lambda: table(1), {}, "1 sample is too few"),
    "three": (net, lambda: table(3), {}, "3 samples are too few"),
    "ten": (net, lambda: table(10), {}, "epoch of 1 step"),
    "fifty": (net, lambda: table(50), {}, "2 steps of 32 samples"),
    "ragged": (
        *(net, lambda: table(37)),
        *({"batch_size": 16}, "3 steps of 16 samples"),
    ),
    "nan": (net, lambda: table(bad=math.nan), {}, "`y` has NaN"),
    "infinite": (net, lambda: table(bad=math.inf), {}, "`y` has infinity"),
    "nan in a generator": (
        *(net, lambda: (batches(math.nan),)),
        *({"steps_per_epoch": 20}, "`y` has NaN"),
    ),
    "late": (late, table, {}, "held-out"),
    "schedule": (scheduled, table, {}, "held-out"),
    "accumulated": (accumulated, table, {}, "held-out"),
    "averaged": (averaged, table, {}, "moves the weights"),
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


@pytest.mark.parametrize(
    ("where", "after"), [("ramp", 20), ("probe", 100), ("training", 340)]
)
def test_ctrl_c_at_any_time(where, after, monkeypatch):
    """It goes on to the caller, and the fit is the one without."""
    steps, record = [], Watch._record

    def interrupted(self, model):
        steps.append(self._recorder)
        if len(steps) == after:
            raise KeyboardInterrupt
        record(self, model)

    def test(model, *args):
        monkeypatch.setattr(Watch, "_record", interrupted)
        more = {"schedule": "cosine", "epochs": 8, "trainings": 2}
        with pytest.raises(KeyboardInterrupt):
            at_once(model, *args, steps=60, **more)
        monkeypatch.undo()

    compared(net, table, [test], trained=False)
    assert isinstance(steps[-1], RangeTest) == (where == "ramp")
    if where != "ramp":
        assert steps[-1].steps == {"probe": 60, "training": 80}[where]
