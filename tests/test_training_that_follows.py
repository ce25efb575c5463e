"""The learning rate for a given schedule, length and budget."""

import math

import keras
import numpy as np
import pytest

from keras_lrfinder import Suggestion
from keras_lrfinder import lr_find
from keras_lrfinder.analysis.schedule_factors import FACTORS
from keras_lrfinder.analysis.schedule_factors import SCHEDULES
from keras_lrfinder.analysis.search import LENGTHS

STEPS = 50


def found(kind="adam", **fields):
    """A suggestion by hand."""
    return Suggestion(0.01, 1e-4, 10.0, "high", "default", "seen", kind)


def data():
    """Three clusters of 600 samples: a bowl that can be learnt."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    x = rng.normal(size=(600, 8)) + 2.0 * np.eye(8)[y]
    return x.astype("float32"), y


def model(optimizer="adam"):
    """A small classifier with dropout, compiled."""
    keras.utils.set_random_seed(0)
    built = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dropout(0.1),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    built.compile(optimizer, loss)
    return built


def test_the_same_training_has_the_same_learning_rate():
    """A constant rate for the middle length is what is suggested."""
    assert found().lr_for("constant") == pytest.approx(0.01)
    assert found().lr_for("constant", 1000) == pytest.approx(0.01)


@pytest.mark.parametrize("kind", FACTORS)
def test_factors_between_trainings_are_the_measured_ones(kind):
    """From constant to one-cycle over 500 steps it is the table's factor."""
    told = found(kind)
    ratio = told.lr_for("one_cycle", 500) / told.lr_for("constant", 500)
    expected = 10.0 ** FACTORS[kind]["one_cycle 500"]
    assert ratio == pytest.approx(expected)


def test_peak_stays_within_the_range():
    """No schedule is told to go above what holds the best."""
    narrow = Suggestion(0.01, 0.008, 0.012, "high", "default", "seen")
    assert narrow.lr_for("cosine", 500) == 0.012


def test_suggestion_for_a_training_leads_back():
    """`constant_lr` of what was asked for one-cycle is the constant one."""
    moved = found().for_training("one_cycle", 500)
    assert moved.lr > 0.01
    assert moved.lr_for("constant", 1000) == pytest.approx(0.01)
    assert moved.one_cycle_max_lr == pytest.approx(moved.lr)
    assert "500 steps of one_cycle" in moved.reason


def test_probes_tell_a_training_of_middle_length():
    """With Lion, a longer one wants less, and a shorter one more."""
    found = lr_find(model("lion"), *data(), verbose=0).suggestion
    assert found.total_steps is None
    assert found.lr_for("constant", 1000) == pytest.approx(found.lr)
    longer, shorter = (found.lr_for("constant", n) for n in (2000, 500))
    assert longer < found.lr < shorter


def test_unknown_schedule_is_refused_by_name():
    """The message names the argument and what came."""
    with pytest.raises(ValueError, match=r"`schedule` must be one of .*cos'"):
        found().lr_for("cos")
    with pytest.raises(ValueError, match="`schedule`"):
        lr_find(model(), *data(), schedule="cos")


def test_budget_below_the_ramp_is_refused():
    """The ramp itself needs its steps."""
    with pytest.raises(ValueError, match="`budget` must be"):
        lr_find(model(), *data(), budget=99)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_asking_at_once_and_afterwards_is_the_same(schedule):
    """`lr_find(schedule=…, total_steps=…)` answers as `lr_for` does."""
    given = {"steps": STEPS, "probe": False, "verbose": 0}
    after = lr_find(model(), *data(), **given).suggestion
    at_once = lr_find(
        model(), *data(), schedule=schedule, total_steps=2000, **given
    ).suggestion
    assert float(at_once) == pytest.approx(after.lr_for(schedule, 2000))
    assert at_once.low < at_once.lr < at_once.high


@pytest.mark.parametrize(
    ("budget", "probes"), [(50, 0), (110, 1), (180, 2), (949, 3)]
)
def test_budget_bounds_the_probes(budget, probes):
    """Ramp and probes stay within it."""
    finder = lr_find(model(), *data(), steps=STEPS, budget=budget, verbose=0)
    assert len(finder.probes) == probes
    steps = len(finder.curve) + sum(len(p.losses) for p in finder.probes)
    assert steps <= budget


@pytest.mark.thorough_on("tensorflow")
def test_large_budget_searches_and_leaves_nothing_behind():
    """Probes, then trials; the next fit is as without a test."""
    x, y = data()
    plain, tested = model(), model()
    finder = lr_find(
        tested, x, y, steps=STEPS, budget=STEPS + sum(LENGTHS), verbose=0
    )
    lengths = [len(p.losses) for p in finder.probes]
    assert lengths == [*LENGTHS]
    assert finder.lr is not None
    assert "240 steps at" in finder.suggestion.reason
    histories = []
    for each in (plain, tested):
        keras.utils.set_random_seed(1)
        histories.append(each.fit(x, y, epochs=1, verbose=0).history)
    assert histories[0] == histories[1]
    for a, b in zip(plain.get_weights(), tested.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_search_is_right_where_the_best_is_known():
    """Plain SGD on x²/2 diverges above 2: the answer is between."""
    x = np.ones((512, 1), "float32")
    keras.utils.set_random_seed(0)
    layer = keras.layers.Dense(1, use_bias=False)
    built = keras.Sequential([keras.Input((1,)), layer])
    built.compile("sgd", "mse")
    finder = lr_find(built, x, 3.0 * x, budget=100 + sum(LENGTHS), verbose=0)
    # The mean squared error is twice as steep.
    assert 1e-3 < finder.lr < 1.0
    assert finder.suggestion.low < 0.5 < finder.suggestion.high


@pytest.mark.thorough_on("tensorflow")
def test_nothing_to_learn_is_refused_after_a_search():
    """Targets that are the model's own output cannot be learnt."""
    x, _ = data()
    built = keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])
    built.compile("adam", "mse")
    y = built.predict(x, verbose=0)
    finder = lr_find(
        built, x, y, steps=STEPS, budget=STEPS + sum(LENGTHS), verbose=0
    )
    assert finder.suggestion.lr is None
    assert len(finder.probes) == len(LENGTHS)


def test_one_cycle_of_a_finder_knows_its_length():
    """The peak is that for the epochs that are trained."""
    finder = lr_find(model(), *data(), steps=STEPS, probe=False, verbose=0)
    per_epoch = math.ceil(600 / 32)
    for epochs in (10, 100):
        peak = finder.one_cycle(epochs=epochs).schedule.get_config()["max_lr"]
        expected = finder.suggestion.lr_for("one_cycle", epochs * per_epoch)
        assert peak == pytest.approx(expected)
