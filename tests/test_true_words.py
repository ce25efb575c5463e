"""What the package says of a run is so, in hopeless cases above all."""

import pathlib
import re

import keras
import numpy as np
import pytest
import reference
import tiny

from keras_lrfinder import Curve
from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason
from keras_lrfinder import lr_find
from keras_lrfinder import suggest
from keras_lrfinder.analysis.probes import Probe
from keras_lrfinder.pictures.plotting import plot_curve
from keras_lrfinder.pictures.report import text_report

SIZE = 32


def inputs(rows=2000, features=16):
    return np.random.default_rng(1).normal(size=(rows, features))


def regression(rows=2000):
    x = inputs(rows)
    y = x @ np.random.default_rng(2).normal(size=(16, 1))
    return x.astype("float32"), y.astype("float32")


def noise(rows=2000):
    x, _ = regression(rows)
    y = np.random.default_rng(3).normal(size=(rows, 1))
    return x, y.astype("float32")


def with_nan_row(which):
    x, y = regression()
    (x if which == "x" else y)[1234] = np.nan
    return x, y


def all_nan():
    x, y = regression()
    return np.full_like(x, np.nan), y


def net(optimizer="adam", loss="mse", first=None):
    keras.utils.set_random_seed(1)
    first = first or keras.layers.Dense(32, activation="relu")
    model = keras.Sequential([keras.Input((16,)), first, keras.layers.Dense(1)])
    model.compile(optimizer, loss)
    return model


def frozen():
    """What is left to train learns how often each class comes: 0.6 %."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Dense(32, activation="relu", trainable=False),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    often = np.linspace(0.7, 1.3, 10) / 10.0
    y = np.random.default_rng(4).choice(10, size=4000, p=often)
    return model, 1e-3 * inputs(4000).astype("float32"), y


def unbounded():
    """A critic's loss, which falls as the weights grow, until they burst."""
    x, y = regression()

    def loss(y_true, y_pred):
        return keras.ops.mean(y_pred * keras.ops.sign(y_true))

    hidden = [keras.layers.Dense(32, activation="relu") for _ in range(4)]
    return net("sgd", loss=loss, first=keras.Sequential(hidden)), x, y


class Hides(keras.layers.Layer):
    """ReLU, which on some machines makes zero of NaN."""

    def call(self, x):
        return keras.ops.where(x > 0, x, 0.0)


def nan_under_relu():
    x, y = all_nan()
    y = y + 5.0  # which the bias learns
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((16,)), Hides(), keras.layers.Dense(1)]
    )
    model.compile("adam", "mse")
    return model, x, y


def random_labels():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((16,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    y = np.random.default_rng(4).integers(0, 10, 64)
    return model, inputs(64).astype("float32"), y


HOPELESS = {
    "nan_row": lambda: (net(), *with_nan_row("x")),
    "noise": lambda: (net(), *noise()),
    "noise_small": lambda: (net(), *noise(100)),
    "random_labels": random_labels,
    "three_samples": lambda: (net(), *regression(3)),
    "three_samples_sgd": lambda: (net("sgd"), *regression(3)),
    "frozen": frozen,
    "unbounded": unbounded,
}
hopeless = pytest.mark.parametrize("make", HOPELESS.values(), ids=HOPELESS)


def by_callback(model, x, y):
    finder = LRFinder(steps=100, verbose=0)
    epochs = -(-100 * SIZE // len(x)) + 1
    model.fit(
        x, y, batch_size=SIZE, epochs=epochs, verbose=0, callbacks=[finder]
    )
    return finder


def by_lr_find(model, x, y):
    return lr_find(model, x, y, batch_size=SIZE, verbose=0)


@hopeless
@pytest.mark.parametrize("way", [by_lr_find, by_callback])
def test_hopeless_cases_are_never_called_sure(way, make):
    """Nothing learnt, or nothing to judge it by, is no high confidence."""
    assert way(*make()).suggestion.confidence != "high"


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_two_sure_answers_to_one_question_agree(optimizer):
    """Where callback and `lr_find` are both sure, each is in its range."""
    x, y = regression()
    one, other = (
        way(net(optimizer), x, y).suggestion
        for way in (by_callback, by_lr_find)
    )
    if one.confidence == other.confidence == "high":
        assert one.low <= other.lr <= one.high
        assert other.low <= one.lr <= other.high


@pytest.mark.parametrize("name", ["x", "y"])
def test_a_nan_in_the_data_is_called_one(name):
    """By the name of the argument, instead of "test lower"."""
    found = by_lr_find(net(), *with_nan_row(name)).suggestion
    assert "NaN" in found.reason
    assert f"`{name}`" in found.reason
    assert "lower" not in found.reason


def test_nan_everywhere_in_x_is_called_so():
    """Also where a layer hides it from the loss."""
    found = by_lr_find(*nan_under_relu()).suggestion
    assert "NaN" in found.reason
    assert "`x`" in found.reason
    assert found.confidence != "high"


def curve_of(lrs, losses, **more):
    return Curve(np.asarray(lrs), np.asarray(losses), **more)


def usual(rows=60):
    x = np.linspace(-6, 0, rows)
    losses = 2.3 - 1.8 / (1 + np.exp(-3 * (x + 2.5))) + np.exp(4 * (x + 0.3))
    return curve_of(10.0**x, losses, optimizer="adam")


def test_a_blown_up_probe_is_so_in_report_and_picture():
    """Its last loss says it, though the held-out one is a number."""
    losses = np.append(np.full(59, 1.0), np.nan)
    probe = Probe(1e-2, losses, 1.5, 2.3, "validation data")
    curve = usual()
    assert "blew up" in text_report(curve, suggest(curve), [probe])
    _, labels = plot_curve(
        curve, suggest(curve), probes=[probe]
    ).get_legend_handles_labels()
    assert "probes that ended above" in labels
    assert "probes, after their last step" not in labels


@pytest.mark.parametrize("lrs", [[1e-1, 1e-2, 1e-3], [1e-3, 1e-1, 1e-2]])
def test_falling_learning_rates_are_no_curve(lrs):
    """A range test goes up; of anything else the reasons would be false."""
    with pytest.raises(ValueError, match="`lrs` must"):
        Curve(lrs, [3.0, 2.0, 1.0])


def test_valley_is_in_the_longest_descent():
    """Three decades of descent, and then a deeper one of half a decade."""
    x = np.linspace(-7, -1, 601)
    corners = [-7.0, -6.0, -3.0, -2.8, -2.2, -1.7, -1.3, -1.0]
    losses = np.interp(x, corners, [2.0, 2.0, 1.0, 3.0, 3.0, 0.2, 0.2, 4.0])
    found = suggest(curve_of(10.0**x, losses), "valley").lr
    assert -6 < np.log10(found) < -3


def test_a_rule_that_finds_none_is_a_refusal():
    """None is an answer: that there is no learning rate."""

    def nothing(curve):
        return None

    found = suggest(usual(), nothing)
    assert (found.lr, found.confidence) == (None, "none")
    assert "nothing found none" in found.reason


def test_apply_refuses_a_model_with_another_optimizer():
    """What was measured for Adam is nothing for SGD; both are named."""
    finder = by_lr_find(net("adam"), *regression())
    other = net("sgd")
    before = float(keras.ops.convert_to_numpy(other.optimizer.learning_rate))
    with pytest.raises(ValueError, match=r"(?is)adam.*sgd|sgd.*adam"):
        finder.apply(other)
    after = float(keras.ops.convert_to_numpy(other.optimizer.learning_rate))
    assert after == before


def test_one_finder_twice_in_a_fit_is_refused():
    """It would set and record everything twice."""
    model = reference.model()
    before = tiny.state(model)
    finder = LRFinder(**reference.RAMP)
    with pytest.raises(ValueError, match="twice"):
        model.fit(
            *reference.data(), verbose=0, callbacks=[finder, finder], epochs=9
        )
    assert not tiny.differences(before, tiny.state(model))


@pytest.mark.parametrize("first", [True, False])
def test_a_learning_rate_scheduler_in_the_same_fit_is_reported(first):
    """Its learning rates are not used, which is said with its name."""
    finder = LRFinder(**reference.RAMP)
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch: 0.5)
    company = [scheduler, finder] if first else [finder, scheduler]
    with pytest.warns(UserWarning, match="LearningRateScheduler"):
        reference.model().fit(
            *reference.data(),
            batch_size=8,
            epochs=3,
            verbose=0,
            callbacks=company,
        )


def test_the_readme_says_whose_history_a_model_has():
    """After an `LRFinder` in a `fit` it is that fit's, as `fit` returns it."""
    model = reference.model()
    run = model.fit(
        *reference.data(),
        batch_size=8,
        epochs=3,
        verbose=0,
        callbacks=[LRFinder(**reference.RAMP)],
    )
    assert model.history is run
    readme = pathlib.Path(__file__).parents[1].joinpath("README.md").read_text()
    restored = readme.split("## What is restored")[1].split("\n## ")[0]
    assert re.search(r"history`[^.]*\bthat\s+fit's", restored)


def test_after_ctrl_c_the_next_fit_does_not_go_on_in_silence():
    """It starts from the weights before the test, or a warning is given."""
    model = reference.model()
    before = model.get_weights()
    finder = LRFinder(**reference.RAMP)
    xy = reference.data()
    interrupted = tiny.Raises(at=10, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        model.fit(
            *xy,
            batch_size=8,
            epochs=3,
            verbose=0,
            callbacks=[finder, interrupted],
        )
    starts = []

    class Start(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            starts.extend(self.model.get_weights())

    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(*xy, batch_size=8, verbose=0, callbacks=[Start()])
    for one, other in zip(starts, before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert finder.curve.stop_reason is StopReason.INTERRUPTED
