"""The obvious spellings work, and what is forgotten is said in words."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder import LRFinder
from keras_lrfinder import lr_find
from keras_lrfinder.analysis.runs import SHARES
from keras_lrfinder.arguments import meant

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


class Rates(keras.callbacks.Callback):
    """Collects the learning rate before each step."""

    def on_train_begin(self, logs=None):
        self.values = []

    def on_train_batch_begin(self, batch, logs=None):
        self.values.append(float(tiny.host(self.model.optimizer.learning_rate)))


@pytest.mark.parametrize("schedule", SHARES)
def test_what_was_looked_for_is_what_is_trained(schedule):
    """`lr_find`, `apply` and `fit`, each told the same, and nothing else."""
    net, rates = model(), Rates()
    training = {"batch_size": 32, "epochs": 2, "verbose": 0}

    found = lr_find(net, *data(), schedule=schedule, steps=STEPS, **training)
    lr = found.apply(net)
    net.fit(*data(), callbacks=[rates], **training)

    assert lr == found.lr == found.suggestion.lr
    path = lr * SHARES[schedule](2 * ROWS // 32)
    np.testing.assert_allclose(rates.values, path, rtol=1e-5)


def test_a_callback_offers_the_same():
    """After the fit that it tested."""
    net, rates, finder = model(), Rates(), LRFinder(verbose=0)
    net.fit(*data(), epochs=5, verbose=0, callbacks=[finder])

    peak = finder.apply(schedule="cosine", epochs=3)
    net.fit(*data(), epochs=3, verbose=0, callbacks=[rates])

    assert peak == finder.suggestion.lr_for("cosine", 3 * ROWS // 32)
    path = peak * SHARES["cosine"](3 * ROWS // 32)
    np.testing.assert_allclose(rates.values, path, rtol=1e-5)
    assert len(finder.runs) == 0


def test_a_callback_can_be_copied_and_used_again():
    """With its outcome, without the model."""
    finder = LRFinder(verbose=0)
    model().fit(*data(), epochs=5, verbose=0, callbacks=[finder])
    for back in (copy.deepcopy(finder), pickle.loads(pickle.dumps(finder))):
        assert back.curve == finder.curve
        assert str(back) == str(finder)
        model().fit(*data(), epochs=3, verbose=0, callbacks=[back])
        assert len(back.curve) > 0


def test_epochs_of_data_without_a_length_ask_for_steps():
    """Of a generator nobody knows how long an epoch is."""

    def batches():
        x, y = data()
        while True:
            yield x[:32], y[:32]

    with pytest.raises(ValueError, match="total_steps"):
        lr_find(model(), batches(), steps=STEPS, epochs=3, verbose=0)
    kwargs = {"total_steps": 30, "schedule": "cosine", "probe": False}
    found = lr_find(model(), batches(), steps=STEPS, verbose=0, **kwargs)
    assert found.apply() == found.lr
    with pytest.raises(ValueError, match="total_steps"):
        found.apply(epochs=3)


# Words.


@pytest.mark.parametrize("where", [find, LRFinder])
@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("max_lr", "end_lr"),
        ("min_lr", "start_lr"),
        ("num_iter", "steps"),
        ("num_training", "steps"),
        ("learning_rate", "start_lr"),
        ("stpes", "steps"),
    ],
)
def test_wrong_names_name_the_right_one(where, wrong, right):
    """Of other tools, or misspelt; and where it is made, not in the fit."""
    with pytest.raises(TypeError, match=rf"{wrong} \(.*{right}"):
        where(**{wrong: 3})


def test_names_of_fit_are_meant_as_well():
    """Those that `lr_find` passes on."""
    with pytest.raises(TypeError, match=r"batchsize \(.*batch_size"):
        find(batchsize=3)
    with pytest.raises(TypeError, match=r"class_weights \(.*class_weight\?"):
        find(class_weights=3)


def test_nothing_is_guessed_of_a_name_like_no_other():
    """A wrong hint is worse than none."""
    assert meant("zzz", ["steps", "ramp"]) == ""


def test_a_model_whose_fit_makes_the_targets_needs_no_y():
    """As that of a language model which learns to go on."""

    class Repeats(keras.Sequential):
        def fit(self, x=None, y=None, **kwargs):
            return super().fit(x, x if y is None else y, **kwargs)

    copies = Repeats([keras.layers.Dense(3)])
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


class Custom(keras.Sequential):
    """Logs what it is told to."""

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
    net = Custom([keras.layers.Dense(1)])
    net.log = log
    net.compile("sgd", "mse")
    with pytest.raises((TypeError, ValueError), match=words):
        find(net)


def test_a_file_has_one_line_of_progress_and_the_outcome(capsys):
    """Silent without `verbose`."""
    find(probe=True, verbose=1)
    said = capsys.readouterr().out
    assert "\r" not in said
    assert said.count("\n") == 2
    find(probe=True)
    assert capsys.readouterr().out == ""
