"""The obvious spellings work, and what is forgotten is said in words."""

import copy
import json
import pickle

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder import LRFinder
from keras_lrfinder import Suggestion
from keras_lrfinder import compare_lr
from keras_lrfinder import lr_find
from keras_lrfinder.training.hints import meant

STEPS = 30
ROWS = 320


def data(rows=ROWS):
    x = np.random.default_rng(0).normal(size=(rows, 4)).astype("float32")
    return x, x.sum(axis=1, keepdims=True)


def model(optimizer="sgd", **kwargs):
    keras.utils.set_random_seed(1)
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    net.compile(optimizer, "mse", **kwargs)
    return net


def find(net=None, **kwargs):
    kwargs = {"steps": STEPS, "probe": False, "verbose": 0, **kwargs}
    return lr_find(net or model(), *data(), **kwargs)


@pytest.fixture(scope="module")
def finder():
    """A finished finder with a learning rate."""
    found = find()
    assert found.suggestion.lr is not None
    return found


@pytest.fixture(scope="module")
def refused():
    """A finished finder without one."""
    found = find(steps=3)
    assert found.suggestion.lr is None
    return found


def test_a_finder_is_a_number(finder):
    """As property, by `float`, and with a format."""
    lr = finder.suggestion.lr
    assert type(finder.lr) is float
    assert finder.lr == float(finder) == float(finder.suggestion) == lr
    assert f"{finder.suggestion:.3g}" == f"{lr:.3g}"
    assert f"{finder.suggestion}" == str(finder.suggestion)


def test_an_optimizer_takes_a_suggestion(finder):
    """Made with it or given it, and saved as a plain number."""
    made = keras.optimizers.Adam(finder.suggestion)
    given = keras.optimizers.Adam(0.5)
    given.learning_rate = finder.suggestion
    for optimizer in (made, given):
        config = optimizer.get_config()["learning_rate"]
        assert json.loads(json.dumps(float(config))) == pytest.approx(finder.lr)


@pytest.mark.parametrize(
    "use",
    [
        lambda f: f.lr,
        float,
        lambda f: f"{f.suggestion:.3g}",
        lambda f: f.one_cycle(epochs=2),
    ],
)
def test_without_a_learning_rate_the_reason_is_given(refused, use):
    """Not a NaN, and not a None that turns up elsewhere."""
    with pytest.raises(ValueError, match="at least 8 are needed"):
        use(refused)


def test_no_optimizer_takes_a_refusal(refused):
    """Nor a wrong number out of it."""
    with pytest.raises((ValueError, TypeError)):
        keras.optimizers.Adam(refused.suggestion)


def test_suggestions_survive_a_pickle(finder, refused):
    """As what they are, with and without a learning rate."""
    for suggestion in (finder.suggestion, refused.suggestion):
        back = pickle.loads(pickle.dumps(suggestion))
        assert isinstance(back, Suggestion)
        assert back == suggestion
        assert back.reason == suggestion.reason


@pytest.mark.parametrize("way", [copy.deepcopy, copy.copy])
def test_a_finder_can_be_copied(finder, way):
    """With its outcome, without the model."""
    back = way(finder)
    assert back.curve == finder.curve
    assert str(back) == str(finder)


def test_a_finder_can_be_pickled(finder):
    """Likewise, and it can be used for another test."""
    back = pickle.loads(pickle.dumps(finder))
    assert back.suggestion == finder.suggestion
    model().fit(*data(), epochs=3, verbose=0, callbacks=[back])
    assert len(back.curve) > 0


def test_to_dict_is_plain(finder):
    """Numbers and strings, which any JSON takes."""
    found = json.loads(json.dumps(finder.to_dict(), allow_nan=False))
    assert found["lr"] == finder.lr
    assert found["confidence"] == finder.suggestion.confidence
    assert {type(v) for v in finder.to_dict().values()} <= {
        float,
        int,
        str,
        type(None),
    }


# One-cycle training.


class Rates(keras.callbacks.Callback):
    """Collects the learning rate of each step."""

    def __init__(self):
        super().__init__()
        self.lrs = []

    def on_train_batch_end(self, batch, logs=None):
        self.lrs.append(float(tiny.host(self.model.optimizer.learning_rate)))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_one_cycle_runs_over_the_whole_fit(finder, momentum):
    """Up to its peak and down, once, without a step counted by hand."""
    net = model(keras.optimizers.SGD(0.25, momentum=momentum))
    rates = Rates()
    callback = finder.one_cycle(epochs=2)
    net.fit(*data(), epochs=2, verbose=0, callbacks=[callback, rates])
    steps = 2 * ROWS // 32
    peak = finder.suggestion.lr_for("one_cycle", steps)
    assert len(rates.lrs) == steps
    assert max(rates.lrs) == pytest.approx(peak, rel=1e-5)
    assert rates.lrs[-1] < 1e-3 * peak
    assert float(tiny.host(net.optimizer.learning_rate)) == pytest.approx(0.25)
    assert net.optimizer.momentum == momentum


def test_one_cycle_begins_where_the_optimizer_stands(finder):
    """A second training is a cycle as well."""
    net, rates = model(keras.optimizers.Adam(0.25)), Rates()
    for _ in range(2):
        rates.lrs.clear()
        callbacks = [finder.one_cycle(epochs=1), rates]
        net.fit(*data(), verbose=0, callbacks=callbacks)
        peak = finder.suggestion.lr_for("one_cycle", ROWS // 32)
        assert max(rates.lrs) == pytest.approx(peak, rel=1e-5)


def test_one_cycle_leaves_the_variables_of_the_optimizer(finder, tmp_path):
    """In their order, and a file saved within holds a number."""
    net = model(keras.optimizers.Adam(0.25))
    before = [v.path for v in net.optimizer.variables]
    path = tmp_path / "within.keras"
    saves = keras.callbacks.ModelCheckpoint(path)
    net.fit(*data(), verbose=0, callbacks=[finder.one_cycle(1), saves])
    assert [v.path for v in net.optimizer.variables][: len(before)] == before
    assert keras.models.load_model(path).optimizer is not None


def test_a_cycle_of_another_length_than_the_fit_is_reported(finder):
    """It would end in epochs at next to no learning rate."""
    cycle = finder.one_cycle(epochs=1)
    with pytest.warns(UserWarning, match=r"10 batches long and this fit 20"):
        model().fit(*data(), epochs=2, verbose=0, callbacks=[cycle])


def test_one_cycle_refuses_a_schedule(finder):
    """Which it would have to replace."""
    decay = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    net = model(keras.optimizers.SGD(decay))
    with pytest.raises(ValueError, match="a number for a learning rate"):
        net.fit(*data(), verbose=0, callbacks=[finder.one_cycle(1)])


def test_one_cycle_asks_for_steps_that_nobody_knows():
    """Of a generator."""

    def batches():
        x, y = data()
        while True:
            yield x[:32], y[:32]

    found = lr_find(model(), batches(), steps=STEPS, probe=False, verbose=0)
    with pytest.raises(ValueError, match="steps_per_epoch"):
        found.one_cycle(epochs=1)
    assert found.one_cycle(2, steps_per_epoch=7).schedule.total_steps == 14


# Comparing.


def test_compare_gives_a_row_for_each_model():
    """With the learning rate that `lr_find` finds alone, and nothing left."""
    one, other = model("sgd"), model("adam")
    before = [tiny.host(w) for w in one.weights]
    found = compare_lr(
        {"sgd": one, "adam": (other, {"batch_size": 16})},
        *data(),
        steps=STEPS,
        probe=False,
        verbose=0,
    )
    assert [row["label"] for row in found.rows] == ["sgd", "adam"]
    assert found.rows[0]["lr"] == find(model("sgd")).suggestion.lr
    assert found.finders["adam"].curve.batch_size == 16
    for weight, value in zip(one.weights, before):
        np.testing.assert_array_equal(tiny.host(weight), value)
    assert "sgd" in str(found)
    assert "<th>confidence</th>" in found._repr_html_()
    assert len(found.plot().lines) >= 2


@pytest.mark.parametrize("models", [{}, [1]])
def test_compare_wants_a_mapping_of_models(models):
    """Labels are what tells the rows apart."""
    with pytest.raises((TypeError, ValueError), match="`models` must"):
        compare_lr(models, *data())


# Words.


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("max_lr", "end_lr"),
        ("min_lr", "start_lr"),
        ("num_iter", "steps"),
        ("num_training", "steps"),
        ("batchsize", "batch_size"),
        ("learning_rate", "start_lr"),
        ("stpes", "steps"),
    ],
)
def test_wrong_names_name_the_right_one(wrong, right):
    """Of other tools, or misspelt."""
    with pytest.raises(TypeError, match=rf"{wrong} \(.*{right}"):
        find(**{wrong: 3})


@pytest.mark.parametrize(
    ("wrong", "right"), [("max_lr", "end_lr"), ("num_iter", "steps")]
)
def test_the_callback_names_the_right_one_too(wrong, right):
    """Where it is made, not in the fit."""
    with pytest.raises(TypeError, match=rf"{wrong} \(.*{right}"):
        LRFinder(**{wrong: 3})


def test_nothing_is_guessed_of_a_name_like_no_other():
    """A wrong hint is worse than none."""
    assert meant("zzz", ["steps", "ramp"]) == ""


def test_a_forgotten_y_is_named():
    """Not as an error from within the loss."""
    with pytest.raises(ValueError, match="`y` must be given"):
        lr_find(model(), data()[0], verbose=0)


def test_a_model_whose_fit_makes_the_targets_needs_no_y():
    """As that of a language model which learns to go on."""

    class Repeats(keras.Model):
        """Learns its inputs."""

        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            """Maps."""
            return self.dense(x)

        def fit(self, x=None, y=None, **kwargs):
            """Targets from inputs."""
            return super().fit(x, x if y is None else y, **kwargs)

    copies = Repeats()
    copies.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(64, 3)).astype("float32")
    found = lr_find(copies, x, batch_size=8, steps=20, verbose=0)
    assert len(found.curve) >= 10


def test_a_fit_in_the_place_of_the_one_of_keras(monkeypatch):
    """Trackers put one of any arguments there."""
    fit, calls = keras.Model.fit, []

    def tracked(*args, **kwargs):
        calls.append(kwargs)
        return fit(*args, **kwargs)

    monkeypatch.setattr(keras.Model, "fit", tracked)
    find(batch_size=8, class_weight={0: 1.0, 1: 2.0})
    assert all("class_weight" in kwargs for kwargs in calls)


def test_a_batch_size_is_a_number():
    """Text from a configuration file is none."""
    with pytest.raises(TypeError, match="`batch_size` must be an integer"):
        find(batch_size="32")


def test_a_monitor_of_validation_names_the_way():
    """It is logged once an epoch only."""
    with pytest.raises(ValueError, match="validation="):
        find(monitor="val_loss")


class Custom(keras.Model):
    """Logs what it is told to."""

    def __init__(self, log):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.log = log

    def call(self, x):
        return self.dense(x)

    def train_step(self, *args):
        logs = super().train_step(*args)
        if keras.backend.backend() == "jax":
            return self.log(logs[0]), logs[1]
        return self.log(logs)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            lambda logs: {"accuracy": logs["loss"]},
            "return it from `train_step`",
        ),
        (lambda logs: {"loss": keras.ops.ones(3)}, "log its mean"),
    ],
)
def test_what_a_train_step_must_log_is_said(log, words):
    """A loss, and one number."""
    net = Custom(log)
    net.compile("sgd", "mse")
    with pytest.raises((TypeError, ValueError), match=words):
        find(net)


def test_print_says_that_nothing_was_trained(finder, capsys):
    """And why this learning rate, and what to do with it."""
    assert "nothing was trained" in str(finder)
    assert "finder.apply(model)" in str(finder)
    kept = LRFinder(steps=9, restore=False, verbose=0)
    model().fit(*data(), verbose=0, callbacks=[kept])
    assert "nothing was trained" not in str(kept)


def test_a_long_fit_is_tested_in_100_steps(capsys):
    """Which is said before the first."""
    callback = LRFinder()
    model().fit(*data(), epochs=50, verbose=0, callbacks=[callback])
    assert callback.curve.steps == 100
    assert "100 steps from 1e-07 to 10" in capsys.readouterr().out


def test_progress_of_all_goes_into_a_log_by_parts(capsys):
    """One line for the ramp and one for each probe; silent without."""
    find(probe=True, verbose=1)
    said = capsys.readouterr().out
    assert f"ramp of {STEPS} steps" in said
    assert "probe 1 of at most 3" in said
    assert "\r" not in said
    find(probe=True)
    assert capsys.readouterr().out == ""
