"""The callback in real fits: true losses, applied learning rates, logs.

What a fit must have lost is computed by the NumPy loop of `reference.py`.
"""

import csv

import keras
import numpy as np
import PIL.Image
import pytest
import reference
import tiny

from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason

START, END = 1e-4, 0.3


def recorded(net, x, y, epochs, batch=4, **kwargs):
    """The losses that the callback records in a fit, and those to expect."""
    steps = epochs * -(-len(x) // batch)
    lrs = np.geomspace(START, END, steps)
    source = reference.batches(x, y, batch, kwargs.get("sample_weight"))
    truth, _ = reference.train(net.get_weights(), source, lrs)
    finder = LRFinder(START, END, steps=steps, stop_factor=None, verbose=0)
    given = {"x": x, "y": y, "batch_size": batch, "shuffle": False, **kwargs}
    net.fit(**given, epochs=epochs, callbacks=[finder], verbose=0)
    assert len(finder.curve) == steps
    return finder.curve.losses, truth


@pytest.mark.parametrize(
    ("rows", "batch", "epochs"),
    [
        pytest.param(2000, 4, 1, id="500-steps"),
        pytest.param(22, 4, 5, id="5-epochs-with-ragged-batch"),
        pytest.param(3, 8, 15, id="one-batch-an-epoch"),
    ],
)
def test_losses_are_those_of_the_batches(rows, batch, epochs):
    """Not the running mean: each is what the model lost on that batch."""
    xy = reference.data(rows)
    losses, truth = recorded(reference.model(), *xy, epochs, batch)
    np.testing.assert_allclose(losses, truth, rtol=1e-4)


def test_weights_of_samples_count_in_the_loss():
    """As they do in the loss that Keras trains on."""
    weights = np.linspace(0.1, 3.0, 60).astype("float32")
    losses, truth = recorded(
        reference.model(), *reference.data(), 2, sample_weight=weights
    )
    np.testing.assert_allclose(losses, truth, rtol=1e-4)


def test_regulariser_counts_in_the_loss():
    """Its part is in the loss that is trained on, so in the curve."""
    net, (x, y) = reference.model(), reference.data(8)
    kernel = net.layers[0].kernel
    kernel.regularizer = keras.regularizers.L2(0.05)
    mse, _ = reference.gradients(net.get_weights(), x, y)
    finder = LRFinder(1e-12, 1e-11, stop_factor=None, verbose=0)
    net.fit(x, y, epochs=3, callbacks=[finder], verbose=0)
    expected = mse + 0.05 * (tiny.host(kernel) ** 2).sum()
    np.testing.assert_allclose(finder.curve.losses, expected, rtol=1e-5)


class PlainLoss(keras.Model):
    """A `train_step` that logs a plain loss, by no tracker of Keras's."""

    def train_step(self, *args):
        """One step, in the words of the backend."""
        if keras.backend.backend() == "jax":
            return self.step_jax(*args)
        ((x, y),) = args
        loss = tiny.apply(
            self.optimizer,
            self.trainable_variables,
            lambda: self.compute_loss(x, y, self(x, training=True)),
        )
        return {"loss": loss}

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
    plain = reference.model()
    net = PlainLoss(plain.inputs, plain.outputs)
    net.compile(keras.optimizers.SGD(0.1), "mse")
    losses, truth = recorded(net, *reference.data(), 2)
    np.testing.assert_allclose(losses, truth, rtol=1e-4)


RAMPS = {"exponential": np.geomspace, "linear": np.linspace}


@pytest.mark.parametrize("ramp", RAMPS)
def test_applied_learning_rates_are_those_of_the_curve(ramp):
    """With a gradient of one, the weight moves by the learning rate."""
    model, weights = tiny.unit_gradient_model(), tiny.Weights()
    finder = LRFinder(1e-2, 1.0, ramp=ramp, stop_factor=None, verbose=0)
    tiny.fit(model, 2, [weights, finder], **dict(zip("xy", tiny.ones(24))))
    lrs = RAMPS[ramp](1e-2, 1.0, 12)
    np.testing.assert_allclose(finder.curve.lrs, lrs, rtol=1e-12)
    np.testing.assert_allclose(-np.diff(np.ravel(weights.seen)), lrs, rtol=1e-5)


# How long it runs.


def model():
    """One model, traced once, for all tests that do not change it."""
    return tiny.as_new(tiny.compiled)


def in_fit(finder, epochs=2, callbacks=(), **kwargs):
    """The same finder after a fit of the user's own."""
    tiny.fit(model(), epochs, [finder, *callbacks], **kwargs)
    return finder


def generated(number, **kwargs):
    """Arguments of `fit`: batches whose number Keras does not know."""
    x, y = tiny.data()
    source = ((x[i % 5 :][:4], y[i % 5 :][:4]) for i in range(number))
    return {"x": source, "y": None, "batch_size": None, "epochs": 1, **kwargs}


LENGTHS = {
    "all": ({}, {"epochs": 2}, 12, 12),
    "fewer": ({"steps": 7}, {"epochs": 2}, 7, 7),
    "more": ({"steps": 50}, {"epochs": 2}, 12, 50),
    # Nobody has to know how long it is.
    "generator": ({}, generated(9), 9, 100),
    "generator-steps": ({"steps": 6}, generated(20), 6, 6),
    "generator-epoch": ({}, generated(20, steps_per_epoch=6), 6, 6),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_a_test_is_as_long_as_its_fit_allows(name):
    """All of the fit, or `steps` of it; the curve says where data ran out."""
    given, data, length, steps = LENGTHS[name]
    losses = tiny.Losses()
    finder = LRFinder(verbose=0, stop_factor=None, **given)
    curve = in_fit(finder, callbacks=[losses], **data).curve
    assert len(curve) == len(losses.values) == length
    assert curve.steps == steps
    reasons = StopReason.COMPLETED, StopReason.OUT_OF_DATA
    assert curve.stop_reason is reasons[length < steps]
    assert curve.lrs[0] == 1e-7
    assert curve.lrs[-1] == 10.0 or length < steps


def test_fit_stops_when_the_loss_blows_up():
    """In a real fit: the divergence ends it."""
    losses, net = tiny.Losses(), reference.model()
    finder = LRFinder(1e-4, 100.0, verbose=0)
    net.fit(*reference.data(400), 4, callbacks=[finder, losses], verbose=0)
    assert finder.curve.stop_reason is StopReason.DIVERGED
    assert len(losses.values) == len(finder.curve) < 100


def test_second_fit_makes_a_new_curve():
    """One finder for one fit after another."""
    finder = LRFinder(verbose=0, stop_factor=None)
    first = in_fit(finder, epochs=1).curve
    second = in_fit(finder, epochs=2).curve
    assert (len(first), len(second)) == (6, 12)
    assert finder.curve == second
    # It is made once, so that `is` says what `==` says.
    assert finder.curve is finder.curve


@pytest.mark.parametrize("name", ["curve", "suggestion", "lr", "plot"])
def test_nothing_to_read_before_the_first_run(name):
    """A clear error, not an empty answer."""
    finder = LRFinder()
    with pytest.raises(RuntimeError, match="no range test has been run"):
        finder.plot() if name == "plot" else getattr(finder, name)


def test_logs_carry_the_learning_rate(tmp_path):
    """History and the file of a CSVLogger show that of an epoch's last step."""
    log, net = tmp_path / "log.csv", model()
    logger = keras.callbacks.CSVLogger(str(log))
    finder = LRFinder(1e-3, 1.0, stop_factor=None, verbose=0)
    history = tiny.fit(net, 2, [finder, logger])
    with log.open() as file:
        lrs = [float(row["learning_rate"]) for row in csv.DictReader(file)]
    assert history["learning_rate"] == lrs
    np.testing.assert_allclose(lrs, np.geomspace(1e-3, 1, 12)[[5, 11]], 1e-6)


@pytest.mark.parametrize("how", ["lr_find", "callback"])
def test_pictures_are_written(tmp_path, how):
    """Both, into a directory that is made, and they open."""
    plots = tmp_path / "new" / "plots"
    if how == "lr_find":
        tiny.find(model(), steps=12, plot_dir=plots)
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
    tiny.find(model(), steps=12)
    assert list(tmp_path.iterdir()) == []


def test_first_and_last_line_say_what_happens(capsys):
    """How many steps, from where to where; and what came of it."""
    finder = in_fit(LRFinder())
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("LRFinder: 12 steps from 1e-07 to 10")
    # Which it is the first weights decide.
    lr = finder.suggestion.lr
    answer = f"{lr:.1e} (" if lr else "No learning rate."
    assert last.startswith(f"LRFinder: {answer}")


@pytest.mark.parametrize("how", ["lr_find", "callback"])
def test_verbose_zero_says_nothing(how, capsys):
    """Not a character."""
    if how == "lr_find":
        tiny.find(model(), callbacks=[keras.callbacks.EarlyStopping()])
    else:
        in_fit(LRFinder(verbose=0))
    assert capsys.readouterr().out == ""


def test_curve_knows_what_it_is_of():
    """The optimizer's name and settings, and the loss's."""
    net = tiny.compiled(None, keras.optimizers.SGD(0.1, momentum=0.9))
    curve = tiny.find(net).curve
    assert curve.optimizer == "sgd"
    assert curve.hyperparameters["momentum"] == 0.9
    assert curve.monitor == "loss"
    assert curve.batch_size == tiny.BATCH
    assert curve.environment["backend"] == keras.backend.backend()


SURFACE = {"apply", "batch_size", "curve", "lr", "plot", "restore", "runs"}
SURFACE |= {"save_plots", "suggestion", "to_dict"}


def test_pressing_tab_shows_what_a_user_calls():
    """Beside Keras's own hooks there is nothing else."""
    own = {n for n in dir(LRFinder()) if not n.startswith("_")}
    keras_own = set(dir(keras.callbacks.Callback()))
    assert own - keras_own == SURFACE
