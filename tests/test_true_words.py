"""What the package says of a run is so, in hopeless cases above all."""

import pathlib
import re

import keras
import numpy as np
import pytest
import reference
import tiny

from benchmarks.quality.hopeless import CASES
from benchmarks.quality.hopeless import all_nan
from benchmarks.quality.hopeless import by_callback
from benchmarks.quality.hopeless import by_lr_find
from benchmarks.quality.hopeless import net
from benchmarks.quality.hopeless import regression
from benchmarks.quality.hopeless import with_bad_row
from keras_lrfinder import Curve
from keras_lrfinder import LRFinder
from keras_lrfinder import suggest

# A callback does not see the data, and a bias learns well without them.
HOPELESS = [
    pytest.param(
        way,
        name,
        marks=[] if "NaN" in name else pytest.mark.thorough_on("tensorflow"),
    )
    for way in (by_lr_find, by_callback)
    for name in CASES
    if (way, name) != (by_callback, "NaN everywhere")
]


@pytest.mark.parametrize(("way", "name"), HOPELESS)
def test_hopeless_cases_are_never_called_sure(way, name):
    """Nothing learnt, or nothing to judge it by, is no high confidence."""
    assert way(*CASES[name]("adam")).suggestion.confidence != "high"


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_two_sure_answers_to_one_question_agree(optimizer):
    """Where callback and `lr_find` are both sure, each is in its range."""
    x, y = regression(2000)
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
    found = by_lr_find(net("adam"), *with_bad_row(name, np.nan)).suggestion
    assert "NaN" in found.reason
    assert f"`{name}`" in found.reason
    assert "lower" not in found.reason


def test_nan_everywhere_in_x_is_called_so():
    """Also where a layer hides it from the loss."""
    found = by_lr_find(*all_nan("adam")).suggestion
    assert "NaN" in found.reason
    assert "`x`" in found.reason
    assert found.confidence != "high"


def curve_of(lrs, losses, **more):
    return Curve(np.asarray(lrs), np.asarray(losses), **more)


def usual(rows=60):
    x = np.linspace(-6, 0, rows)
    losses = 2.3 - 1.8 / (1 + np.exp(-3 * (x + 2.5))) + np.exp(4 * (x + 0.3))
    return curve_of(10.0**x, losses, optimizer="adam")


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
    finder = by_lr_find(net("adam"), *regression(2000))
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


@pytest.mark.parametrize("way", [by_lr_find, by_callback])
def test_nobody_is_accused_who_set_nothing(way, recwarn):
    """Over several epochs, on every backend."""
    way(net("adam"), *regression(500))
    assert not [w for w in recwarn if "learning rate" in str(w.message)]


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
