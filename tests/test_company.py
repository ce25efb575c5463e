"""Other callbacks in the same fit: all is right, or a clear error comes first.

Every test is a real fit. Either the curve is that of the NumPy loop in
`reference.py` and the weights come back, or `fit` refuses before its first
step and nothing has changed.
"""

import contextlib

import keras
import numpy as np
import pytest
import reference

from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason
from keras_lrfinder import lr_find

BACKEND = keras.backend.backend()
FIT = {"batch_size": 8, "shuffle": False, "verbose": 0}
CALLBACKS = keras.callbacks


@pytest.fixture
def files(tmp_path):
    """A directory with what users have in one, and what reads it."""
    (tmp_path / "backup").mkdir()
    for name in ("best.weights.h5", "backup/latest.weights.h5"):
        (tmp_path / name).write_bytes(b"of a good model")
    (tmp_path / "log.csv").write_text("epoch,learning_rate,loss\n0,0.1,1.5\n")

    def read():
        found = (path for path in tmp_path.rglob("*") if path.is_file())
        return {path.name: path.read_bytes() for path in found}

    return tmp_path, read


class Steps(keras.callbacks.Callback):
    """Counts the batches that were trained on."""

    count = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.count += 1


def fit(net, xy, callbacks, **kwargs):
    """Runs the user's own fit, three epochs, and returns its History."""
    return net.fit(*xy, **FIT, epochs=3, callbacks=callbacks, **kwargs)


def find(net, xy, callbacks, **kwargs):
    """Runs `lr_find`, without probes."""
    given = FIT | reference.RAMP | kwargs
    return lr_find(net, *xy, **given, callbacks=callbacks, probe=False)


def assert_unchanged(net, before):
    for one, other in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    rate = keras.ops.convert_to_numpy(net.optimizer.learning_rate)
    assert float(rate) == pytest.approx(0.01)


def assert_right(net, xy, losses, callbacks, **kwargs):
    """Asserts that the curve and the restore are right in this company."""
    before = net.get_weights()
    (mine,) = [c for c in callbacks if isinstance(c, LRFinder)]
    history = fit(net, xy, callbacks, **kwargs)
    reference.assert_measured(mine.curve, losses)
    assert_unchanged(net, before)
    assert net.history is history
    return history


def assert_refused(net, xy, callbacks, match):
    """Asserts that `fit` refuses before its first step, all unchanged."""
    before, steps = net.get_weights(), Steps()
    with pytest.raises(ValueError, match=match):
        fit(net, xy, [steps, *callbacks])
    assert steps.count == 0
    assert_unchanged(net, before)


def finder():
    return LRFinder(**reference.RAMP)


def made(make, *args, **kwargs):
    """A callback, of a Keras that has it."""
    try:
        return make(*args, **kwargs)
    except (AttributeError, TypeError):
        pytest.skip("this Keras has none")


def both_orders(test):
    """Hands in a function that puts the other one before, or after, ours."""
    orders = [lambda *both: list(both), lambda one, mine: [mine, one]]
    ids = ["before", "after"]
    return pytest.mark.parametrize("in_order", orders, ids=ids)(test)


HARMLESS = {
    "early_stopping": lambda p: CALLBACKS.EarlyStopping("loss", patience=9),
    "reduce_lr": lambda p: CALLBACKS.ReduceLROnPlateau(
        "loss", patience=1, min_delta=9.0
    ),
    "scheduler": lambda p: CALLBACKS.LearningRateScheduler(
        lambda epoch, lr: 0.3
    ),
    "csv_logger": lambda p: CALLBACKS.CSVLogger(p / "new.csv"),
    "terminate_on_nan": lambda p: CALLBACKS.TerminateOnNaN(),
    "lambda": lambda p: CALLBACKS.LambdaCallback(
        on_epoch_end=lambda epoch, logs: None
    ),
    "history": lambda p: CALLBACKS.History(),
}


# Who sets the learning rate between two epochs is told that it was.
@pytest.mark.filterwarnings("ignore:.* set the learning rate to:UserWarning")
@both_orders
@pytest.mark.parametrize("kind", HARMLESS)
def test_harmless_company_changes_nothing(
    kind, in_order, net, xy, losses, tmp_path
):
    """Curve and restore are right, wherever the other one is in the list."""
    reported = contextlib.nullcontext()
    if kind == "scheduler":
        reported = pytest.warns(UserWarning, match="LearningRateScheduler set")
    with reported:
        company = in_order(HARMLESS[kind](tmp_path), finder())
        assert_right(net, xy, losses, company)


@both_orders
def test_early_stopping_ends_the_test_as_interrupted(in_order, net, xy, losses):
    """A fit that another callback ends has a curve up to there."""
    before, mine = net.get_weights(), finder()
    other = CALLBACKS.EarlyStopping("loss", patience=0, min_delta=1e9)
    fit(net, xy, in_order(other, mine))
    count = len(mine.curve)
    assert count in (8, 16)
    assert mine.curve.stop_reason is StopReason.INTERRUPTED
    np.testing.assert_allclose(mine.curve.losses, losses[:count], rtol=1e-5)
    assert_unchanged(net, before)


def test_best_weights_come_back_before_the_model_does(net, xy):
    """EarlyStopping that comes first is undone; last, it is refused."""
    before = net.get_weights()
    given = {"patience": 1, "min_delta": 9.0, "restore_best_weights": True}
    best = CALLBACKS.EarlyStopping("loss", **given)
    fit(net, xy, [best, finder()])
    assert_unchanged(net, before)
    assert_refused(net, xy, [finder(), best], "EarlyStopping.*put it before")


# By what the error says.
REFUSED = {
    "ModelCheckpoint.*leave it out": lambda p: CALLBACKS.ModelCheckpoint(
        p / "best.weights.h5", save_weights_only=True
    ),
    "BackupAndRestore.*leave it out": lambda p: CALLBACKS.BackupAndRestore(
        p / "backup"
    ),
    "CSVLogger.*append": lambda p: CALLBACKS.CSVLogger(p / "log.csv"),
    "TerminateOnNaN.*[Ll]eave it out": lambda p: CALLBACKS.TerminateOnNaN(
        raise_error=True
    ),
    "SwapEMAWeights.*leave": lambda p: CALLBACKS.SwapEMAWeights(
        swap_on_epoch=True
    ),
    "two range tests": lambda p: finder(),
}


@both_orders
@pytest.mark.parametrize("match", REFUSED)
def test_what_would_do_harm_is_refused(match, in_order, net, xy, files):
    """No file is overwritten, emptied, loaded or deleted; the way out said."""
    path, read = files
    content = read()
    other = made(REFUSED[match], path)
    assert_refused(net, xy, in_order(other, finder()), match)
    assert read() == content


class Fails(keras.callbacks.Callback):
    """Ends a fit by an exception in its third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise OSError("power cut")


@pytest.mark.parametrize("way", ["lr_find", "callback"])
def test_a_resumed_fit_does_not_shorten_the_test(way, xy, tmp_path):
    """BackupAndRestore leaves a later first epoch in the model for ever."""
    net = reference.model()
    with pytest.raises(OSError, match="power cut"):
        fit(net, xy, [CALLBACKS.BackupAndRestore(tmp_path), Fails()])
    fit(net, xy, [CALLBACKS.BackupAndRestore(tmp_path)])  # resumes
    lrs = reference.ramp(20 if way == "lr_find" else 16)
    source = reference.batches(*xy, 8)
    losses, _ = reference.train(net.get_weights(), source, lrs)
    if way == "lr_find":
        mine = find(net, xy, [])
    else:
        mine = LRFinder(**reference.RAMP | {"steps": None})
        epochs = (net._initial_epoch or 0) + 2
        net.fit(*xy, **FIT, epochs=epochs, callbacks=[mine])
    reference.assert_measured(mine.curve, losses)
    assert mine.curve.stop_reason is StopReason.COMPLETED


def test_a_log_may_be_appended_to(net, xy, losses, files):
    """With `append=True` the old lines stay."""
    log = files[0] / "log.csv"
    logger = CALLBACKS.CSVLogger(log, append=True)
    assert_right(net, xy, losses, [finder(), logger])
    lines = log.read_text().splitlines()
    assert lines[:2] == ["epoch,learning_rate,loss", "0,0.1,1.5"]
    assert len(lines) == 5


@pytest.mark.backend("tensorflow")
def test_tensorboard_may_watch(net, xy, losses, tmp_path):
    """TensorBoard's log, which Keras writes by TensorFlow, does no harm."""
    board = CALLBACKS.TensorBoard(tmp_path, update_freq=1)
    assert_right(net, xy, losses, [finder(), board])
    assert list(tmp_path.rglob("events*"))


def infinite(xy):
    x, y = xy
    return np.where(np.arange(60)[:, None] < 40, x, np.inf), y


@both_orders
def test_terminate_on_nan_may_stop_the_fit(in_order, net, xy):
    """The loss that is not finite is in the curve, and the model is back."""
    before, mine = net.get_weights(), finder()
    fit(net, infinite(xy), in_order(CALLBACKS.TerminateOnNaN(), mine))
    assert mine.curve.stop_reason is StopReason.NOT_FINITE
    assert len(mine.curve) == 6
    assert_unchanged(net, before)


@both_orders
def test_swapping_averaged_weights_for_validation_is_harmless(in_order, xy):
    """The averaged weights are in use during validation only."""
    other = made(lambda: CALLBACKS.SwapEMAWeights())
    net = reference.model(keras.optimizers.SGD(0.01, use_ema=True))
    source = reference.batches(*xy, 8)
    losses, _ = reference.train(net.get_weights(), source, reference.ramp())
    company = in_order(other, finder())
    assert_right(net, xy, losses, company, validation_data=xy)


class Writer(keras.callbacks.Callback):
    """Sets the learning rate in one of the hooks of each batch."""

    def __init__(self, hook, only=None):
        super().__init__()
        setattr(self, hook, self.write)
        self.only = only

    def write(self, batch, logs=None):
        if self.only in (None, batch):
            self.model.optimizer.learning_rate = 0.3


def assert_right_or_found_out(net, losses, run):
    """Asserts that the curve is right, or that the error says why not."""
    before = net.get_weights()
    error = ""
    try:
        curve = run().curve
    except RuntimeError as caught:
        error = str(caught)
    assert not error or "something else set the learning rate" in error
    if not error:
        # On JAX the rate goes right into the step: there it wins.
        assert BACKEND == "jax"
        reference.assert_measured(curve, losses)
    assert_unchanged(net, before)


@pytest.mark.filterwarnings("ignore:.* set the learning rate to:UserWarning")
@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end"])
@both_orders
def test_a_foreign_learning_rate_is_found_out(hook, in_order, net, xy, losses):
    """A callback that sets the rate at each batch is an error, all put back.

    Which callbacks do that nobody knows before the first step.
    """

    def run():
        mine = finder()
        fit(net, xy, in_order(Writer(hook), mine))
        return mine

    assert_right_or_found_out(net, losses, run)


@pytest.mark.parametrize("batch", [0, 7])
def test_lr_find_finds_out_a_foreign_learning_rate(batch, net, xy, losses):
    """One single write by an unknown callback is an error, all put back."""
    writer = Writer("on_train_batch_begin", only=batch)
    assert_right_or_found_out(net, losses, lambda: find(net, xy, [writer]))


class WarmsUp(keras.Model):
    """Sets the learning rate within its own `train_step`."""

    def train_step(self, data):
        self.optimizer.learning_rate.assign(0.3)
        return super().train_step(data)


@pytest.mark.backend("tensorflow", "torch")
def test_a_learning_rate_set_by_the_train_step_is_found_out(net, xy):
    """So is one that the model sets itself; it would be trained with it."""
    net = WarmsUp(net.inputs, net.outputs)
    net.compile(keras.optimizers.SGD(0.01), "mse")
    before = net.get_weights()
    with pytest.raises(RuntimeError, match="something else set the learning"):
        fit(net, xy, [finder()])
    assert_unchanged(net, before)


def test_two_range_tests_in_turn_measure_the_same(net, xy, losses):
    """The second fit begins where the first one began; not one fit twice."""
    mine = finder()
    assert_refused(net, xy, [mine, mine], "once only.*2 times")
    assert_right(net, xy, losses, [mine])
    assert_right(net, xy, losses, [mine])


@pytest.mark.parametrize("way", ["bare", "list"])
def test_callbacks_come_in_any_form(way, net, xy, losses):
    """`callbacks=finder`, though Keras would call it from threads; or ready."""
    before = net.get_weights()
    company = mine = finder()
    if way == "list":
        given = {"add_history": True, "model": net, "epochs": 3, "steps": 8}
        company = CALLBACKS.CallbackList([mine], **given)
    fit(net, xy, company)
    reference.assert_measured(mine.curve, losses)
    assert_unchanged(net, before)


LEFT_OUT = {
    "EarlyStopping": lambda p: CALLBACKS.EarlyStopping("loss", patience=0),
    "ReduceLROnPlateau": lambda p: CALLBACKS.ReduceLROnPlateau("loss"),
    "LearningRateScheduler": lambda p: CALLBACKS.LearningRateScheduler(
        lambda epoch: 0.3
    ),
    "ModelCheckpoint": REFUSED["ModelCheckpoint.*leave it out"],
    "BackupAndRestore": REFUSED["BackupAndRestore.*leave it out"],
    "CSVLogger": REFUSED["CSVLogger.*append"],
    "LRFinder": REFUSED["two range tests"],
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_lr_find_leaves_out_what_would_do_harm(
    kind, net, xy, losses, files, capsys
):
    """Only the others run, no file is written, and the line says so."""
    path, read = files
    before, content, steps = net.get_weights(), read(), Steps()
    mine = find(net, xy, [LEFT_OUT[kind](path), steps], verbose=1)
    reference.assert_measured(mine.curve, losses)
    assert steps.count == reference.STEPS
    assert_unchanged(net, before)
    assert f"leaves out {kind}\n" in capsys.readouterr().out
    assert read() == content


def test_lr_find_ends_at_a_nan_whoever_wanted_to_raise(net, xy):
    """TerminateOnNaN does not turn the end of the test into an error."""
    before = net.get_weights()
    other = made(CALLBACKS.TerminateOnNaN, raise_error=True)
    mine = find(net, infinite(xy), [other])
    assert mine.curve.stop_reason is StopReason.NOT_FINITE
    assert_unchanged(net, before)
