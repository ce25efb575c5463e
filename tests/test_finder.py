"""The callback in real fits: true losses, applied learning rates, logs.

What a fit must have lost is computed by a loop in NumPy, in float64, which
knows nothing of Keras.
"""

import csv
import itertools
import math

import keras
import numpy as np
import PIL.Image
import pytest
import tiny

from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason
from keras_lrfinder import lr_find
from keras_lrfinder.analysis.range_test import ramp_lrs

START, END = 1e-4, 0.3


class Regression:
    """Softmax regression by plain gradient descent, in float64."""

    def __init__(self, weights, l2=0.0):
        self.kernel, self.bias = (w.astype("float64") for w in weights)
        self.l2 = l2

    def step(self, x, y, lr, weights=None):
        """The batch's loss before one update."""
        rows = np.arange(len(x))
        weights = np.ones(len(x)) if weights is None else weights
        logits = x.astype("float64") @ self.kernel + self.bias
        logits -= logits.max(axis=1, keepdims=True)
        chances = np.exp(logits)
        chances /= chances.sum(axis=1, keepdims=True)
        loss = -(weights * np.log(chances[rows, y])).mean()
        loss += self.l2 * (self.kernel**2).sum()
        chances[rows, y] -= 1.0
        slope = chances * (weights / len(x))[:, None]
        self.kernel -= lr * (x.T @ slope + 2 * self.l2 * self.kernel)
        self.bias -= lr * slope.sum(axis=0)
        return loss


def regression_model(l2=0.0, **kwargs):
    """The same model in Keras."""
    regularizer = keras.regularizers.L2(l2) if l2 else None
    inputs = keras.Input((tiny.FEATURES,))
    dense = keras.layers.Dense(tiny.CLASSES, kernel_regularizer=regularizer)
    model = keras.Model(inputs, dense(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return tiny.compiled(model, keras.optimizers.SGD(0.1), loss=loss, **kwargs)


def expected(reference, steps, rows, batch, weights=None):
    """What `steps` steps lose, epoch after epoch, in the data's order."""
    x, y = tiny.data(rows)
    starts = itertools.cycle(range(0, rows, batch))
    losses = []
    for lr, start in zip(ramp_lrs(START, END, steps), starts):
        of = slice(start, start + batch)
        some = None if weights is None else weights[of]
        losses.append(reference.step(x[of], y[of], lr, some))
    return losses


def recorded(model, rows, batch, epochs, **kwargs):
    """The losses that the callback records in a fit in the same order."""
    steps = epochs * math.ceil(rows / batch)
    finder = LRFinder(START, END, steps=steps, stop_factor=None, verbose=0)
    x, y = tiny.data(rows)
    tiny.fit(
        model,
        epochs,
        [finder],
        x=x,
        y=y,
        batch_size=batch,
        shuffle=False,
        **kwargs,
    )
    return finder.curve.losses


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "rtol"),
    [
        pytest.param(2000, 4, 1, 1e-4, id="500-steps"),
        pytest.param(22, 4, 20, 1e-4, id="20-epochs-with-ragged-batch"),
        pytest.param(3, 8, 40, 1e-4, id="one-batch-an-epoch"),
        pytest.param(
            8000,
            4,
            1,
            1e-3,
            id="2000-steps",
            # PyTorch takes a step of Keras's in milliseconds.
            marks=pytest.mark.backend("tensorflow", "jax"),
        ),
    ],
)
def test_losses_are_those_of_the_batches(rows, batch, epochs, rtol):
    """Not the running mean: each is what the model lost on that batch."""
    model = regression_model()
    reference = Regression(model.get_weights())
    losses = recorded(model, rows, batch, epochs)
    steps = epochs * math.ceil(rows / batch)
    assert len(losses) == steps
    truth = expected(reference, steps, rows, batch)
    np.testing.assert_allclose(losses, truth, rtol=rtol)


@pytest.mark.parametrize("kind", ["sample_weight", "class_weight"])
def test_weights_of_samples_count_in_the_loss(kind):
    """As they do in the loss that Keras trains on."""
    model, (_, y) = regression_model(), tiny.data()
    reference = Regression(model.get_weights())
    if kind == "sample_weight":
        weights = np.linspace(0.1, 3.0, len(y)).astype("float32")
        kwargs = {"sample_weight": weights}
    else:
        kwargs = {"class_weight": {0: 0.5, 1: 1.0, 2: 4.0}}
        weights = np.array([0.5, 1.0, 4.0])[y]
    losses = recorded(model, len(y), 4, 5, **kwargs)
    truth = expected(reference, 30, len(y), 4, weights)
    np.testing.assert_allclose(losses, truth, rtol=1e-4)


def test_regulariser_counts_in_the_loss():
    """Its part is in the loss that is trained on, so in the curve."""
    model = regression_model(l2=0.05)
    reference = Regression(model.get_weights(), l2=0.05)
    losses = recorded(model, 22, 4, 5)
    np.testing.assert_allclose(losses, expected(reference, 30, 22, 4), 1e-4)


@pytest.mark.keras("3.15")  # older ones log only the sum
@pytest.mark.parametrize("monitor", ["a_loss", "b_loss"])
def test_one_output_of_several_can_be_monitored(monitor):
    """`monitor` picks the loss of one output."""
    inputs = keras.Input((tiny.FEATURES,))
    heads = {n: keras.layers.Dense(tiny.CLASSES, name=n) for n in "ab"}
    model = keras.Model(inputs, {n: head(inputs) for n, head in heads.items()})
    loss = keras.losses.SparseCategoricalCrossentropy
    model.compile(
        keras.optimizers.SGD(0.1), {n: loss(from_logits=True) for n in heads}
    )
    reference = Regression(heads[monitor[0]].get_weights())
    x, y = tiny.data()
    finder = lr_find(
        model,
        x,
        {"a": y, "b": y},
        start_lr=START,
        end_lr=END,
        steps=30,
        monitor=monitor,
        stop_factor=None,
        batch_size=4,
        shuffle=False,
        probe=False,
        verbose=0,
    )
    truth = expected(reference, 30, 24, 4)
    np.testing.assert_allclose(finder.curve.losses, truth, rtol=1e-4)


class PlainLoss(keras.Model):
    """A `train_step` that logs a plain loss, by no tracker of Keras's."""

    def train_step(self, *args):
        """One step, in the words of the backend."""
        return getattr(self, f"step_{keras.backend.backend()}")(*args)

    def step_tensorflow(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}

    def step_torch(self, data):
        x, y = data
        self.zero_grad()
        loss = self.compute_loss(x, y, self(x, training=True))
        loss.backward()
        weights = list(self.trainable_weights)
        gradients = [v.value.grad for v in weights]
        import torch

        with torch.no_grad():
            self.optimizer.apply(gradients, weights)
        return {"loss": loss.detach()}

    def step_jax(self, state, data):
        import jax

        trained, fixed, optimizer, metrics = state
        x, y = data

        def lost(trained, fixed):
            y_pred, fixed = self.stateless_call(trained, fixed, x)
            return self.compute_loss(x, y, y_pred), fixed

        slope = jax.value_and_grad(lost, has_aux=True)
        (loss, fixed), gradients = slope(trained, fixed)
        trained, optimizer = self.optimizer.stateless_apply(
            optimizer, gradients, trained
        )
        return {"loss": loss}, (trained, fixed, optimizer, metrics)


def test_train_step_may_log_a_plain_loss():
    """A loss that is no running mean is taken as it is."""
    inputs = keras.Input((tiny.FEATURES,))
    model = PlainLoss(inputs, keras.layers.Dense(tiny.CLASSES)(inputs))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    reference = Regression(model.get_weights())
    losses = recorded(model, 22, 4, 5)
    np.testing.assert_allclose(losses, expected(reference, 30, 22, 4), 1e-4)


class Weight(keras.callbacks.Callback):
    """The one weight of `tiny.unit_gradient_model` after each batch."""

    def __init__(self):
        super().__init__()
        self.values = [0.0]

    def on_train_batch_end(self, batch, logs=None):
        self.values.append(float(self.model.get_weights()[0][0, 0]))


RATES = {
    "float": lambda: 0.5,
    "schedule": lambda: keras.optimizers.schedules.ExponentialDecay(
        0.5, 2, 0.5
    ),
    "callable": lambda: lambda: 0.5,
}


@pytest.mark.parametrize("ramp", ["exponential", "linear"])
@pytest.mark.parametrize("rate", RATES)
def test_applied_learning_rates_are_those_of_the_curve(rate, ramp):
    """With a gradient of one, the weight moves by the learning rate."""
    model, weight = tiny.unit_gradient_model(RATES[rate]()), Weight()
    finder = LRFinder(1e-2, 1.0, ramp=ramp, stop_factor=None, verbose=0)
    x, y = tiny.ones(12)
    model.fit(
        x, y, batch_size=2, epochs=2, callbacks=[weight, finder], verbose=0
    )
    lrs = ramp_lrs(1e-2, 1.0, 12, ramp)
    np.testing.assert_array_equal(finder.curve.lrs, lrs)
    np.testing.assert_allclose(-np.diff(weight.values), lrs, rtol=1e-5)


# How long it runs.


def find(model=None, **kwargs):
    """A finished range test on `tiny.data()`."""
    x, y = tiny.data()
    kwargs = {"x": x, "y": y, "batch_size": 4, "probe": False, **kwargs}
    return lr_find(regression_model() if model is None else model, **kwargs)


def in_fit(finder, model=None, epochs=2, **kwargs):
    """The same finder after a fit of the user's own."""
    model = regression_model() if model is None else model
    tiny.fit(model, epochs, [finder], **kwargs)
    return finder


def test_ramp_takes_all_steps_of_the_fit():
    """Without `steps`: epochs times steps per epoch."""
    curve = in_fit(LRFinder(verbose=0, stop_factor=None)).curve
    assert (len(curve), curve.steps) == (12, 12)
    assert curve.stop_reason is StopReason.COMPLETED
    assert (curve.lrs[0], curve.lrs[-1]) == (1e-7, 10.0)


def test_fewer_steps_end_the_fit_early():
    """With `steps`: the fit is stopped after them."""
    losses = tiny.Losses()
    finder = LRFinder(steps=7, verbose=0, stop_factor=None)
    tiny.fit(regression_model(), 2, [finder, losses])
    assert len(finder.curve) == len(losses.values) == 7
    assert finder.curve.stop_reason is StopReason.COMPLETED


def test_more_steps_than_data_is_out_of_data():
    """The curve says so, and is valid as far as it goes."""
    curve = in_fit(LRFinder(steps=50, verbose=0, stop_factor=None)).curve
    assert (len(curve), curve.steps) == (12, 50)
    assert curve.stop_reason is StopReason.OUT_OF_DATA


def batches(n):
    """A generator, whose length Keras does not know."""
    x, y = tiny.data()
    return ((x[i % 5 :][:4], y[i % 5 :][:4]) for i in range(n))


def test_a_generator_is_tested_in_100_steps():
    """Or in as many as it has: nobody has to know how long it is."""
    finder = LRFinder(verbose=0)
    data = {"x": batches(9), "y": None, "batch_size": None}
    tiny.fit(regression_model(), 1, [finder], **data)
    assert finder.curve.steps == 100
    assert len(finder.curve) == 9
    assert finder.curve.stop_reason is StopReason.OUT_OF_DATA


@pytest.mark.parametrize(
    ("kwargs", "steps"),
    [({"steps": 6}, None), ({}, 6)],
    ids=["steps", "steps_per_epoch"],
)
def test_generator_with_steps_is_fine(kwargs, steps):
    """Given either way."""
    finder = LRFinder(verbose=0, stop_factor=None, **kwargs)
    in_fit(
        finder,
        epochs=1,
        x=batches(20),
        y=None,
        batch_size=None,
        steps_per_epoch=steps,
    )
    assert len(finder.curve) == 6
    assert finder.curve.stop_reason is StopReason.COMPLETED


def test_lr_find_runs_as_many_epochs_as_it_needs():
    """A data set smaller than the test is gone through again."""
    curve = find(steps=20, verbose=0, stop_factor=None).curve
    assert len(curve) == 20
    assert curve.stop_reason is StopReason.COMPLETED


def test_fit_stops_when_the_loss_blows_up():
    """In a real fit: the divergence ends it."""
    losses = tiny.Losses()
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    x, y = tiny.data(400)
    finder = LRFinder(1e-4, 100.0, verbose=0)
    model.fit(x, y, 4, 1, callbacks=[finder, losses], verbose=0)
    assert finder.curve.stop_reason is StopReason.DIVERGED
    assert len(losses.values) == len(finder.curve) < 100


def test_second_fit_makes_a_new_curve():
    """One finder for one fit after another."""
    finder = LRFinder(verbose=0, stop_factor=None)
    first = in_fit(finder, epochs=1).curve
    second = in_fit(finder, epochs=2).curve
    assert (len(first), len(second)) == (6, 12)
    assert finder.curve == second


@pytest.mark.parametrize("name", ["curve", "suggestion", "lr", "plot"])
def test_nothing_to_read_before_the_first_run(name):
    """A clear error, not an empty answer."""
    finder = LRFinder()
    with pytest.raises(RuntimeError, match="no range test has been run"):
        finder.plot() if name == "plot" else getattr(finder, name)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"x": None}, ValueError, "`x` must be the data"),
        ({"probe": "no"}, TypeError, "`probe` must be True or False"),
        ({"restore": "x"}, TypeError, "`restore` must be True or False"),
        ({"verbose": "2"}, TypeError, "`verbose` must be True or False"),
        ({"plot_dir": 3}, TypeError, "`plot_dir` must be the path"),
        ({"optimizer": []}, ValueError, "`optimizer` must name at least one"),
        ({"callbacks": [3]}, TypeError, "`callbacks` must be Keras callbacks"),
        ({"validation": ([1.0],)}, TypeError, "Received: a tuple of 1"),
    ],
)
def test_lr_find_names_the_argument_that_is_wrong(given, error, words):
    """Before anything has happened to the model."""
    model = regression_model()
    before = model.get_weights()
    x, y = tiny.data(24)
    with pytest.raises(error, match=words):
        lr_find(model, **{"x": x, "y": y, "verbose": 0, **given})
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


def test_logs_carry_the_learning_rate():
    """History shows that of the epoch's last step."""
    model = regression_model()
    finder = LRFinder(1e-3, 1.0, stop_factor=None, verbose=0)
    history = tiny.fit(model, 2, [finder])
    lrs = ramp_lrs(1e-3, 1.0, 12)
    np.testing.assert_allclose(history["learning_rate"], lrs[[5, 11]], 1e-6)


def test_csv_log_carries_the_learning_rate(tmp_path):
    """So does the file of a CSVLogger behind the finder."""
    log = tmp_path / "log.csv"
    logger = keras.callbacks.CSVLogger(str(log))
    finder = LRFinder(1e-3, 1.0, stop_factor=None, verbose=0)
    tiny.fit(regression_model(), 2, [finder, logger])
    with log.open() as file:
        lrs = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    np.testing.assert_allclose(lrs, ramp_lrs(1e-3, 1.0, 12)[[5, 11]], 1e-6)


@pytest.mark.parametrize("how", ["lr_find", "callback"])
def test_pictures_are_written(tmp_path, how):
    """Both, into a directory that is made, and they open."""
    plots = tmp_path / "new" / "plots"
    if how == "lr_find":
        find(steps=12, plot_dir=plots, verbose=0)
    else:
        in_fit(LRFinder(plot_dir=str(plots), verbose=0))
    assert {p.name for p in plots.iterdir()} == {"loss.jpg", "smooth_loss.jpg"}
    for path in plots.iterdir():
        with PIL.Image.open(path) as picture:
            assert picture.format == "JPEG"
            assert min(picture.size) > 300


def test_no_pictures_unless_asked_for(tmp_path, monkeypatch):
    """Without `plot_dir` nothing is written, not even where we are."""
    monkeypatch.chdir(tmp_path)
    find(steps=12, verbose=0)
    assert list(tmp_path.iterdir()) == []


def test_first_and_last_line_say_what_happens(capsys):
    """How many steps, from where to where; and what came of it."""
    in_fit(LRFinder())
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("LRFinder: 12 steps from 1e-07 to 10")
    assert last.startswith("LRFinder: No learning rate.")


@pytest.mark.parametrize("how", ["lr_find", "callback"])
def test_verbose_zero_says_nothing(how, capsys):
    """Not a character."""
    if how == "lr_find":
        find(steps=12, verbose=0, callbacks=[keras.callbacks.EarlyStopping()])
    else:
        in_fit(LRFinder(verbose=0))
    assert capsys.readouterr().out == ""


def test_curve_knows_what_it_is_of():
    """The optimizer's name and settings, and the loss's."""
    model = tiny.compiled(None, keras.optimizers.SGD(0.1, momentum=0.9))
    curve = find(model, steps=4, verbose=0).curve
    assert curve.optimizer == "sgd"
    assert curve.hyperparameters["momentum"] == 0.9
    assert curve.monitor == "loss"
    assert curve.environment["backend"] == keras.backend.backend()


SURFACE = {
    "apply",
    "batch_size",
    "curve",
    "lr",
    "plot",
    "restore",
    "runs",
    "save_plots",
    "suggestion",
    "to_dict",
}


def test_pressing_tab_shows_what_a_user_calls():
    """Beside Keras's own hooks there is nothing else."""
    own = {n for n in dir(LRFinder()) if not n.startswith("_")}
    keras_own = set(dir(keras.callbacks.Callback()))

    assert own - keras_own == SURFACE


def test_curve_of_a_finished_test_is_one_object():
    """It is made once, so that `is` says what `==` says."""
    finder = LRFinder(verbose=0)
    tiny.fit(tiny.compiled(), 2, [finder])

    assert finder.curve is finder.curve
    assert finder.curve.batch_size == tiny.BATCH
