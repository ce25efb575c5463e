"""The learning rate for a given schedule, length and budget."""

import math

import keras
import numpy as np
import pytest

from keras_lrfinder import OneCycle
from keras_lrfinder import Suggestion
from keras_lrfinder import lr_find
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.analysis.probes import MOST_PROBES
from keras_lrfinder.analysis.schedule_factors import FACTORS
from keras_lrfinder.analysis.schedule_factors import SCHEDULES
from keras_lrfinder.analysis.search import TRIAL_STEPS
from keras_lrfinder.analysis.search import TRIALS
from keras_lrfinder.training import probe_data

STEPS = 50
# The runs of a search after its ramp.
SEARCHED = [PROBE_STEPS] * MOST_PROBES + [TRIAL_STEPS] * TRIALS


def found(kind="adam", **fields):
    """A suggestion by hand."""
    return Suggestion(0.01, 1e-4, 10.0, "high", "default", "seen", kind)


def data():
    """Three clusters of 600 samples: a bowl that can be learnt."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 600)
    x = rng.normal(size=(600, 8)) + 2.0 * np.eye(8)[y]
    return x.astype("float32"), y


def model(optimizer="adam", dropout=0.1):
    """A small classifier, compiled."""
    keras.utils.set_random_seed(0)
    built = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dropout(dropout),
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
        tested, x, y, steps=STEPS, budget=STEPS + sum(SEARCHED), verbose=0
    )
    lengths = [len(p.losses) for p in finder.probes]
    assert lengths == SEARCHED
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
    finder = lr_find(built, x, 3.0 * x, budget=100 + sum(SEARCHED), verbose=0)
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
        built, x, y, steps=STEPS, budget=STEPS + sum(SEARCHED), verbose=0
    )
    assert finder.suggestion.lr is None
    assert len(finder.probes) == len(SEARCHED)


def test_room_for_whole_trainings_is_used():
    """Two to five of them come after the probes, as the budget allows."""
    for whole, most in ((1, 0), (2, 2), (4, 4), (99, 5)):
        budget = STEPS + MOST_PROBES * PROBE_STEPS + whole * 40
        finder = lr_find(
            model(),
            *data(),
            steps=STEPS,
            budget=budget,
            total_steps=40,
            verbose=0,
        )
        lengths = [len(p.losses) for p in finder.probes]
        assert lengths[:MOST_PROBES] == [PROBE_STEPS] * MOST_PROBES
        trained = lengths[MOST_PROBES:]
        assert set(trained) <= {40}
        assert min(most, 2) <= len(trained) <= most
        said = finder.suggestion
        assert (said.schedule, said.total_steps) == ("constant", 40)
        assert ("Whole trainings of 40 steps" in said.reason) == (most > 0)


def test_a_whole_training_is_the_fit_that_follows():
    """With its schedule: its losses are those of training with `OneCycle`."""
    x, y = data()
    given = {"dropout": 0.0}
    finder = lr_find(
        model("sgd", **given),
        x,
        y,
        steps=STEPS,
        batch_size=32,
        budget=STEPS + MOST_PROBES * PROBE_STEPS + 3 * 40,
        total_steps=40,
        schedule="one_cycle",
        verbose=0,
    )
    trained = finder.probes[MOST_PROBES]
    schedule = OneCycle(trained.lr, 40)
    plain = model(keras.optimizers.SGD(schedule), **given)
    # Of 600 samples a fifth is held out; the others begin again when they end.
    order = np.random.default_rng(0).permutation(600)
    losses = []
    for rows in np.resize(order[120:], (40, 32)):
        plain.reset_metrics()
        losses.append(float(plain.train_on_batch(x[rows], y[rows])))
    np.testing.assert_allclose(trained.losses, losses, rtol=1e-4)
    loss = plain.evaluate(x[order[:120]], y[order[:120]], verbose=0)
    assert trained.held_out == pytest.approx(loss, rel=1e-4)


def test_rows_that_are_taken_when_asked_for_give_the_same(monkeypatch):
    """Large data are not copied for each time that they are met."""
    found = []
    for most in (2**28, 0):
        monkeypatch.setattr(probe_data, "_MOST_COPIED", most)
        finder = lr_find(
            model(dropout=0.0),
            *data(),
            steps=STEPS,
            budget=400,
            total_steps=50,
            verbose=0,
        )
        found.append(finder.probes)
    for a, b in zip(*found, strict=True):
        assert a.lr == pytest.approx(b.lr, rel=1e-3)
        np.testing.assert_allclose(a.losses, b.losses, rtol=1e-3)


def test_a_generator_is_not_trained_on_again_and_again():
    """What is kept of it is too little for a whole training, which is said."""
    x, y = data()

    def batches():
        while True:
            for begin in range(0, 576, 32):
                yield x[begin : begin + 32], y[begin : begin + 32]

    finder = lr_find(
        model(),
        batches(),
        steps=STEPS,
        budget=1200,
        total_steps=300,
        verbose=0,
    )
    lengths = [len(p.losses) for p in finder.probes]
    assert lengths == SEARCHED
    assert "fewer than 300 batches could be kept" in finder.suggestion.reason
    assert finder.suggestion.total_steps == 300


@pytest.mark.parametrize("schedule", ["constant", "triangular"])
def test_whole_trainings_leave_nothing_behind(schedule):
    """The next fit is as without a test."""
    x, y = data()
    plain, tested = model(), model()
    lr_find(
        tested,
        x,
        y,
        steps=STEPS,
        budget=400,
        total_steps=50,
        schedule=schedule,
        verbose=0,
    )
    histories = []
    for each in (plain, tested):
        keras.utils.set_random_seed(1)
        histories.append(each.fit(x, y, epochs=1, verbose=0).history)
    assert histories[0] == histories[1]
    for a, b in zip(plain.get_weights(), tested.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_one_cycle_of_a_finder_knows_its_length():
    """The peak is that for the epochs that are trained."""
    finder = lr_find(model(), *data(), steps=STEPS, probe=False, verbose=0)
    per_epoch = math.ceil(600 / 32)
    for epochs in (10, 100):
        peak = finder.one_cycle(epochs=epochs).schedule.get_config()["max_lr"]
        expected = finder.suggestion.lr_for("one_cycle", epochs * per_epoch)
        assert peak == pytest.approx(expected)


def test_applied_is_a_constant_learning_rate_and_no_peak():
    """A model that is to stay at one takes what is right for that."""
    built = model()
    finder = lr_find(
        built,
        *data(),
        steps=STEPS,
        schedule="one_cycle",
        total_steps=500,
        verbose=0,
    )
    expected = finder.suggestion.lr_for("constant", 500)
    assert finder.apply(built) == pytest.approx(expected)
    found = keras.ops.convert_to_numpy(built.optimizer.learning_rate)
    assert float(found) == pytest.approx(expected)
    assert expected < 0.6 * finder.lr


def test_report_says_what_to_do_with_a_peak():
    """It is called one, and the advice is for that schedule."""
    finder = lr_find(
        model(),
        *data(),
        steps=STEPS,
        schedule="one_cycle",
        budget=400,
        total_steps=60,
        verbose=0,
    )
    report = str(finder)
    assert "the peak of one_cycle" in report
    assert "for 60 steps (one_cycle)" in report
    assert "finder.one_cycle(epochs=" in report
    assert "a short run likes" not in report
