"""Other callbacks in the same fit: all is right, or a clear error comes first.

Every test is a real fit. Either the curve is that of the NumPy loop in
`reference.py` and the weights come back, or `fit` refuses before its first
step and nothing has changed.
"""

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
def xy():
    return reference.data()


@pytest.fixture
def net():
    return reference.model()


@pytest.fixture
def losses(net, xy):
    source = reference.batches(*xy, 8)
    return reference.train(net.get_weights(), source, reference.ramp())[0]


class Steps(keras.callbacks.Callback):
    """Counts the batches that were trained on."""

    count = 0

    def on_train_batch_begin(self, batch, logs=None):
        self.count += 1


def fit(net, xy, callbacks, **kwargs):
    """Runs the user's own fit, three epochs, and returns its History."""
    return net.fit(*xy, **FIT, epochs=3, callbacks=callbacks, **kwargs)


def assert_unchanged(net, before):
    for one, other in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    rate = keras.ops.convert_to_numpy(net.optimizer.learning_rate)
    assert float(rate) == pytest.approx(0.01)


def assert_right(net, xy, losses, callbacks, **kwargs):
    """Asserts that the curve and the restore are right in this company."""
    before = net.get_weights()
    (finder,) = [c for c in callbacks if isinstance(c, LRFinder)]
    history = fit(net, xy, callbacks, **kwargs)
    reference.assert_measured(finder.curve, losses)
    assert_unchanged(net, before)
    return history


def assert_refused(net, xy, callbacks, match):
    """Asserts that `fit` refuses before its first step, all unchanged."""
    before = net.get_weights()
    steps = Steps()
    with pytest.raises(ValueError, match=match):
        fit(net, xy, [steps, *callbacks])
    assert steps.count == 0
    assert_unchanged(net, before)


def finder():
    return LRFinder(**reference.RAMP)


def both_orders(test):
    return pytest.mark.parametrize(
        "first", [True, False], ids=["before", "after"]
    )(test)


def in_order(other, first):
    return [other, finder()] if first else [finder(), other]


HARMLESS = {
    "early_stopping": lambda p: CALLBACKS.EarlyStopping("loss", patience=9),
    "reduce_lr": lambda p: CALLBACKS.ReduceLROnPlateau(
        "loss", patience=1, min_delta=9.0
    ),
    "scheduler": lambda p: CALLBACKS.LearningRateScheduler(
        lambda epoch, lr: 0.3
    ),
    "csv_logger": lambda p: CALLBACKS.CSVLogger(p / "log.csv"),
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
    kind, first, net, xy, losses, tmp_path
):
    """Curve and restore are right, wherever the other one is in the list."""
    other = HARMLESS[kind](tmp_path)
    assert_right(net, xy, losses, in_order(other, first))


@both_orders
def test_early_stopping_ends_the_test_as_interrupted(first, net, xy, losses):
    """A fit that another callback ends has a curve up to there."""
    before = net.get_weights()
    other = CALLBACKS.EarlyStopping("loss", patience=0, min_delta=1e9)
    callbacks = in_order(other, first)
    fit(net, xy, callbacks)
    (mine,) = [c for c in callbacks if isinstance(c, LRFinder)]
    count = len(mine.curve)
    assert count % 8 == 0
    assert 0 < count < 20
    assert mine.curve.stop_reason is StopReason.INTERRUPTED
    np.testing.assert_allclose(mine.curve.losses, losses[:count], rtol=1e-5)
    assert_unchanged(net, before)


def best_weights():
    return CALLBACKS.EarlyStopping(
        "loss", patience=1, min_delta=9.0, restore_best_weights=True
    )


def test_best_weights_are_loaded_before_the_model_comes_back(net, xy):
    """EarlyStopping that comes first does its work, and is undone."""
    before = net.get_weights()
    fit(net, xy, [best_weights(), finder()])
    assert_unchanged(net, before)


def test_best_weights_after_the_restore_are_refused(net, xy):
    """EarlyStopping that comes last would have the last word."""
    assert_refused(
        net, xy, [finder(), best_weights()], "EarlyStopping.*put it before"
    )


@both_orders
def test_a_checkpoint_never_overwrites_a_file(first, net, xy, tmp_path):
    """The file of a good model is, byte for byte, what it was."""
    path = tmp_path / "best.weights.h5"
    net.save_weights(path)
    content = path.read_bytes()
    other = CALLBACKS.ModelCheckpoint(path, save_weights_only=True)
    assert_refused(
        net, xy, in_order(other, first), "ModelCheckpoint.*leave it out"
    )
    assert path.read_bytes() == content


@both_orders
def test_a_backup_is_neither_loaded_nor_deleted(first, net, xy, tmp_path):
    """The user's backup is still there afterwards."""
    other = CALLBACKS.BackupAndRestore(
        tmp_path / "backup", delete_checkpoint=False
    )
    net.fit(*xy, **FIT, callbacks=[other])
    saved = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert saved
    net = reference.model()
    other = CALLBACKS.BackupAndRestore(tmp_path / "backup")
    assert_refused(
        net, xy, in_order(other, first), "BackupAndRestore.*leave it out"
    )
    assert saved == {
        p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()
    }


class Fails(keras.callbacks.Callback):
    """Ends a fit by an exception in its third epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 2:
            raise OSError("power cut")


@pytest.mark.parametrize("way", ["lr_find", "callback"])
def test_a_resumed_fit_does_not_shorten_the_test(way, xy, tmp_path):
    """BackupAndRestore leaves a later first epoch in the model for ever."""
    net = reference.model()
    backup = tmp_path / "backup"
    with pytest.raises(OSError, match="power cut"):
        fit(net, xy, [CALLBACKS.BackupAndRestore(backup), Fails()])
    fit(net, xy, [CALLBACKS.BackupAndRestore(backup)])  # resumes
    source = reference.batches(*xy, 8)
    count = 20 if way == "lr_find" else 16
    losses, _ = reference.train(
        net.get_weights(), source, reference.ramp(count)
    )
    if way == "lr_find":
        mine = lr_find(net, *xy, **FIT | reference.RAMP, probe=False)
    else:
        mine = LRFinder(**reference.RAMP | {"steps": None})
        first = net._initial_epoch or 0
        net.fit(*xy, **FIT, epochs=first + 2, callbacks=[mine])
    reference.assert_measured(mine.curve, losses)
    assert mine.curve.stop_reason is StopReason.COMPLETED


@both_orders
def test_a_log_is_never_emptied(first, net, xy, tmp_path):
    """CSVLogger that would truncate a log of the user's is refused."""
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,1.5\n")
    callbacks = in_order(CALLBACKS.CSVLogger(path), first)
    assert_refused(net, xy, callbacks, "CSVLogger.*append")
    assert path.read_text() == "epoch,loss\n0,1.5\n"


def test_a_log_may_be_appended_to(net, xy, losses, tmp_path):
    """With `append=True` the old lines stay."""
    path = tmp_path / "log.csv"
    path.write_text("epoch,learning_rate,loss\n0,0.1,1.5\n")
    logger = CALLBACKS.CSVLogger(path, append=True)
    assert_right(net, xy, losses, [finder(), logger])
    lines = path.read_text().splitlines()
    assert lines[:2] == ["epoch,learning_rate,loss", "0,0.1,1.5"]
    assert len(lines) == 5


def test_a_new_log_has_the_learning_rate(net, xy, tmp_path):
    """CSVLogger after the range test writes a column of learning rates."""
    path = tmp_path / "log.csv"
    fit(net, xy, [finder(), CALLBACKS.CSVLogger(path)])
    head, *rows = path.read_text().splitlines()
    assert "learning_rate" in head.split(",")
    assert len(rows) == 3


def test_the_history_has_the_learning_rate(net, xy, losses):
    """History, which Keras puts in every fit, shows the rate as well."""
    history = assert_right(net, xy, losses, [finder()])
    rates = history.history["learning_rate"]
    ramp = reference.ramp()
    np.testing.assert_allclose(rates, [ramp[7], ramp[15], ramp[19]], rtol=1e-6)


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
def test_terminate_on_nan_may_stop_the_fit(first, net, xy):
    """The loss that is not finite is in the curve, and the model is back."""
    before = net.get_weights()
    callbacks = in_order(CALLBACKS.TerminateOnNaN(), first)
    fit(net, infinite(xy), callbacks)
    (mine,) = [c for c in callbacks if isinstance(c, LRFinder)]
    assert mine.curve.stop_reason is StopReason.NOT_FINITE
    assert len(mine.curve) == 6
    assert_unchanged(net, before)


@both_orders
def test_terminate_on_nan_may_not_raise(first, net, xy):
    """An exception at the first NaN would keep the model from coming back."""
    try:
        other = CALLBACKS.TerminateOnNaN(raise_error=True)
    except TypeError:
        pytest.skip("this Keras cannot raise there")
    assert_refused(
        net, xy, in_order(other, first), "TerminateOnNaN.*[Ll]eave it out"
    )


needs_swap = pytest.mark.skipif(
    not hasattr(CALLBACKS, "SwapEMAWeights"),
    reason="this Keras has no SwapEMAWeights",
)


@needs_swap
@both_orders
def test_swapping_averaged_weights_for_epochs_is_refused(first, xy):
    """Weights exchanged at an epoch end are not those that come back."""
    net = reference.model(keras.optimizers.SGD(0.01, use_ema=True))
    other = CALLBACKS.SwapEMAWeights(swap_on_epoch=True)
    assert_refused(net, xy, in_order(other, first), "SwapEMAWeights.*leave")


@needs_swap
@both_orders
def test_swapping_averaged_weights_for_validation_is_harmless(first, xy):
    """The averaged weights are in use during validation only."""
    net = reference.model(keras.optimizers.SGD(0.01, use_ema=True))
    source = reference.batches(*xy, 8)
    losses, _ = reference.train(net.get_weights(), source, reference.ramp())
    other = CALLBACKS.SwapEMAWeights()
    assert_right(net, xy, losses, in_order(other, first), validation_data=xy)


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
    error = None
    try:
        curve = run().curve
    except RuntimeError as caught:
        error = str(caught)
    if error is not None:
        assert "something else set the learning rate" in error
    else:
        # On JAX the rate goes right into the step: there it wins.
        assert BACKEND == "jax"
        reference.assert_measured(curve, losses)
    assert_unchanged(net, before)


@pytest.mark.parametrize("hook", ["on_train_batch_begin", "on_train_batch_end"])
@both_orders
def test_a_foreign_learning_rate_is_found_out(hook, first, net, xy, losses):
    """A callback that sets the rate at each batch is an error, all put back.

    Which callbacks do that nobody knows before the first step.
    """

    def run():
        mine = finder()
        writer = Writer(hook)
        fit(net, xy, [writer, mine] if first else [mine, writer])
        return mine

    assert_right_or_found_out(net, losses, run)


class WarmsUp(keras.Model):
    """Sets the learning rate within its own `train_step`."""

    def train_step(self, data):
        self.optimizer.learning_rate.assign(0.3)
        return super().train_step(data)


@pytest.mark.backend("tensorflow", "torch")
def test_a_learning_rate_set_by_the_train_step_is_found_out(xy):
    """So is one that the model sets itself; it would be trained with it."""
    plain = reference.model()
    net = WarmsUp(plain.inputs, plain.outputs)
    net.compile(keras.optimizers.SGD(0.01), "mse")
    before = net.get_weights()
    with pytest.raises(RuntimeError, match="something else set the learning"):
        fit(net, xy, [finder()])
    assert_unchanged(net, before)


def test_two_range_tests_in_one_fit_are_refused(net, xy):
    """Of two range tests neither would have its learning rate."""
    assert_refused(net, xy, [finder(), finder()], "two range tests")


def test_two_range_tests_in_turn_measure_the_same(net, xy, losses):
    """The second fit begins where the first one began."""
    mine = finder()
    assert_right(net, xy, losses, [mine])
    assert_right(net, xy, losses, [mine])


def test_a_bare_callback_is_as_good_as_a_list(net, xy, losses):
    """`callbacks=finder` works, though Keras would call it from threads."""
    before = net.get_weights()
    mine = finder()
    net.fit(*xy, **FIT, epochs=3, callbacks=mine)
    reference.assert_measured(mine.curve, losses)
    assert_unchanged(net, before)


def test_a_list_of_the_users_own_making_works(net, xy, losses):
    """A ready-made CallbackList with the range test in it is fine."""
    mine = finder()
    company = CALLBACKS.CallbackList(
        [mine], add_history=True, model=net, epochs=3, steps=8
    )
    before = net.get_weights()
    net.fit(*xy, **FIT, epochs=3, callbacks=company)
    reference.assert_measured(mine.curve, losses)
    assert_unchanged(net, before)


LEFT_OUT = {
    "EarlyStopping": lambda p: CALLBACKS.EarlyStopping("loss", patience=0),
    "ReduceLROnPlateau": lambda p: CALLBACKS.ReduceLROnPlateau("loss"),
    "LearningRateScheduler": lambda p: CALLBACKS.LearningRateScheduler(
        lambda epoch: 0.3
    ),
    "ModelCheckpoint": lambda p: CALLBACKS.ModelCheckpoint(p / "m.keras"),
    "BackupAndRestore": lambda p: CALLBACKS.BackupAndRestore(p / "backup"),
    "LRFinder": lambda p: LRFinder(),
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_lr_find_leaves_out_what_would_do_harm(
    kind, net, xy, losses, tmp_path, capsys
):
    """Only the others run, no file is written, and the line says so."""
    before = net.get_weights()
    steps = Steps()
    callbacks = [LEFT_OUT[kind](tmp_path), steps]
    mine = lr_find(
        net,
        *xy,
        **FIT | reference.RAMP | {"verbose": 1},
        callbacks=callbacks,
        probe=False,
    )
    reference.assert_measured(mine.curve, losses)
    assert steps.count == reference.STEPS
    assert_unchanged(net, before)
    assert f"leaves out {kind}\n" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_lr_find_leaves_a_log_alone(net, xy, losses, tmp_path):
    """A log of the user's is not emptied, the logger left out."""
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,1.5\n")
    mine = lr_find(
        net,
        *xy,
        **FIT | reference.RAMP,
        callbacks=[CALLBACKS.CSVLogger(path)],
        probe=False,
    )
    reference.assert_measured(mine.curve, losses)
    assert path.read_text() == "epoch,loss\n0,1.5\n"


def test_lr_find_ends_at_a_nan_whoever_wanted_to_raise(net, xy):
    """TerminateOnNaN does not turn the end of the test into an error."""
    try:
        other = CALLBACKS.TerminateOnNaN(raise_error=True)
    except TypeError:
        other = CALLBACKS.TerminateOnNaN()
    before = net.get_weights()
    mine = lr_find(
        net,
        *infinite(xy),
        **FIT | reference.RAMP,
        callbacks=[other],
        probe=False,
    )
    assert mine.curve.stop_reason is StopReason.NOT_FINITE
    assert_unchanged(net, before)


@pytest.mark.parametrize("batch", [0, 7])
def test_lr_find_finds_out_a_foreign_learning_rate(batch, net, xy, losses):
    """One single write by an unknown callback is an error, all put back."""

    def run():
        return lr_find(
            net,
            *xy,
            **FIT | reference.RAMP,
            callbacks=[Writer("on_train_batch_begin", only=batch)],
            probe=False,
        )

    assert_right_or_found_out(net, losses, run)
