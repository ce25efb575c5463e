"""Fits that go wrong, or are odd: what is said is true, and nothing changes."""

import math

import keras
import numpy as np
import pytest
from keras import layers

from field.same import assert_same
from field.same import everything
from keras_lrfinder import RangeTest
from keras_lrfinder import lr_find
from keras_lrfinder.training.run import Watch

FEW = "epoch of 1 step"
OPTIMIZERS = keras.optimizers


def rows(count=320, bad=None):
    """Rows that a linear layer learns; one may have what is not finite."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 6)).astype("float32")
    y = (x @ rng.normal(size=(6, 1))).astype("float32")
    if bad is not None:
        y[count // 4] = bad
    return x, y


def batches(bad=None):
    """The same as a generator, for as long as anybody asks."""
    x, y = rows(bad=bad)
    while True:
        for i in range(0, len(x), 16):
            yield x[i : i + 16], y[i : i + 16]


def dataset(bad=None):
    """The same as a `tf.data.Dataset`."""
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(rows(bad=bad)).batch(16)


def net(optimizer=None, loss="mse", **settings):
    """Weights, statistics and random masks."""
    parts = [
        keras.Input((6,)),
        layers.Dense(8, "relu"),
        layers.BatchNormalization(),
        layers.Dropout(0.1),
        layers.Dense(1),
    ]
    model = keras.Sequential(parts)
    model.compile(optimizer or OPTIMIZERS.Adam(), loss, **settings)
    return model


def late():
    """A model without weights until its first batch."""
    model = keras.Sequential([layers.Dense(8, "relu"), layers.Dense(1)])
    model.compile("adam", "mse")
    return model


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


def several():
    """Two inputs, two outputs, each with its loss and weight."""
    ends = {name: keras.Input((6,), name=name) for name in "ab"}
    both = layers.Concatenate()(list(ends.values()))
    out = {name: layers.Dense(1, name=name)(both) for name in "pq"}
    model = keras.Model(ends, out)
    losses = {"p": "mse", "q": "mae"}
    model.compile("adam", losses, loss_weights={"p": 1.0, "q": 0.5})
    return model


def below_zero():
    """A loss that ends at minus five."""
    return net(loss=lambda t, p: keras.ops.mean(keras.ops.abs(t - p)) - 5.0)


def names():
    """Data for `several`."""
    x, y = rows()
    return {"a": x, "b": x[:, ::-1].copy()}, {"p": y, "q": -y}


def given(*data, **more):
    """Positional arguments of `fit`, and others."""
    return data, more


def classes():
    """Data of two classes of unequal weight."""
    x, y = rows()
    weights = {0: 1.0, 1: 5.0}
    return given(x, (y > 0).astype("float32"), class_weight=weights)


# How a model is made; its data; what the reason has in it; whether there is an
# answer.
CASES = {
    "one": (net, lambda: given(*rows(1)), "1 sample is too few", True),
    "three": (net, lambda: given(*rows(3)), "3 samples are too few", True),
    "ten": (net, lambda: given(*rows(10)), FEW, True),
    "fifty": (net, lambda: given(*rows(50)), "2 steps of 32 samples", True),
    "ragged": (
        net,
        lambda: given(*rows(37), batch_size=16),
        "3 steps of 16 samples",
        True,
    ),
    "nan": (net, lambda: given(*rows(bad=math.nan)), "`y` has NaN", False),
    "infinite": (
        net,
        lambda: given(*rows(bad=math.inf)),
        "`y` has infinity",
        False,
    ),
    "nan in a generator": (
        net,
        lambda: given(batches(math.nan), steps_per_epoch=20),
        "`y` has NaN",
        False,
    ),
    "nan in a dataset": (
        net,
        lambda: given(dataset(math.nan)),
        "`y` has NaN",
        False,
    ),
    "late": (late, lambda: given(*rows()), "held-out", True),
    "schedule": (scheduled, lambda: given(*rows()), "held-out", True),
    "accumulated": (accumulated, lambda: given(*rows()), "held-out", True),
    "averaged": (averaged, lambda: given(*rows()), "do not stand still", True),
    "mixed": (halved, lambda: given(*rows()), "held-out", True),
    "several": (several, lambda: given(*names()), "held-out", True),
    "class weights": (
        lambda: net(loss="binary_crossentropy"),
        classes,
        "held-out",
        True,
    ),
    "sample weights": (
        net,
        lambda: given(*rows(), sample_weight=np.linspace(0, 1, 320)),
        "held-out",
        True,
    ),
    "negative": (below_zero, lambda: given(*rows()), "negative loss", True),
    "ftrl": (
        lambda: net(OPTIMIZERS.Ftrl()),
        lambda: given(*rows()),
        "without having fallen",
        False,
    ),
}


def fitted(build, data, test=None):
    """What a fit comes to, `test` having been made before it."""
    keras.utils.set_random_seed(3)
    model = build()
    if test is not None:
        args, more = data()
        test(model, *args, **more)
    args, more = data()
    done = model.fit(*args, epochs=2, verbose=0, **more)
    return done.history, everything(model)


def assert_same_fits(these, those):
    """Asserts that two fits came to the same, bit for bit."""
    np.testing.assert_equal(those[0], these[0])
    assert_same(these[1], those[1])


@pytest.mark.parametrize("name", CASES)
def test_an_odd_fit_is_as_without_a_test(name, backend):
    """And what is said of it is true."""
    if name == "nan in a dataset" and backend != "tensorflow":
        pytest.skip("tf.data belongs to TensorFlow")
    build, data, said, answered = CASES[name]
    found = []

    def test(model, *args, **more):
        found.append(lr_find(model, *args, steps=60, verbose=0, **more))

    assert_same_fits(fitted(build, data), fitted(build, data, test))
    suggestion = found[0].suggestion
    assert said in suggestion.reason
    assert (suggestion.lr is not None) == answered


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
            lr_find(model, *args, steps=60, verbose=0, **more)
        monkeypatch.undo()

    def data():
        return given(*rows())

    assert_same_fits(fitted(net, data), fitted(net, data, test))
    assert isinstance(steps[-1], RangeTest) == (where == "ramp")
    if where != "ramp":
        assert steps[-1].steps == {"probe": 60, "training": 80}[where]
