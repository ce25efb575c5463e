"""However a model is compiled, each step has its own rate and its own loss.

Every test is a real fit against the NumPy loop of `reference.py`.
"""

import keras
import numpy as np
import pytest
import reference

from keras_lrfinder import LRFinder
from keras_lrfinder import RangeTest
from keras_lrfinder import lr_find

SIZE = 8
FIT = {"batch_size": SIZE, "shuffle": False}


def expected(net, x, y, **kwargs):
    source = reference.batches(x, y, SIZE)
    lrs = reference.ramp()
    return reference.train(net.get_weights(), source, lrs, **kwargs)[0]


def find(net, *args, **kwargs):
    kwargs = {**FIT, **reference.RAMP, "probe": False, **kwargs}
    return lr_find(net, *args, **kwargs)


def fit(net, x, y, epochs=3, **ramp):
    finder = LRFinder(**reference.RAMP | ramp)
    net.fit(x, y, **FIT, epochs=epochs, callbacks=[finder], verbose=0)
    return finder


WAYS = {"lr_find": find, "callback": fit}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


@pytest.fixture
def xy():
    return reference.data()


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"run_eagerly": True}, id="run_eagerly"),
        pytest.param(
            {"jit_compile": True},
            id="jit_compile",
            marks=pytest.mark.backend("tensorflow", "jax"),
        ),
        pytest.param({"jit_compile": False}, id="no_jit_compile"),
    ],
)
@ways
def test_however_the_step_is_compiled_it_uses_the_ramp(way, options, xy):
    """Eager, traced and compiled steps see the same learning rates."""
    net = reference.model(**options)
    losses = expected(net, *xy)
    reference.assert_measured(way(net, *xy).curve, losses)


several_steps = pytest.mark.backend("tensorflow", "jax")


@several_steps
def test_lr_find_runs_one_step_per_execution(xy):
    """With `steps_per_execution` every step has a rate of its own."""
    net = reference.model(steps_per_execution=4)
    losses = expected(net, *xy)
    reference.assert_measured(find(net, *xy).curve, losses)
    assert net.steps_per_execution == 4


# Keras 3.3 calls no hook after an execution in which the data run out.
RAGGED = pytest.param(3, marks=pytest.mark.keras("3.4"), id="ragged")


@several_steps
@pytest.mark.parametrize("each", [pytest.param(4, id="even"), RAGGED])
def test_the_callback_has_one_rate_per_execution(each, xy):
    """In the user's fit a step is one execution, with its mean loss.

    The last execution of an epoch of eight batches may have fewer.
    """
    x, y = (v[:56] for v in xy)
    net = reference.model(steps_per_execution=each)
    groups = [4, 4] * 2 if each == 4 else [3, 3, 2] * 2
    lrs = reference.ramp(len(groups))
    seen, _ = reference.train(
        net.get_weights(), reference.batches(x, y, 7), np.repeat(lrs, groups)
    )
    finder = LRFinder(**reference.RAMP | {"steps": None})
    net.fit(
        x,
        y,
        batch_size=7,
        shuffle=False,
        epochs=2,
        verbose=0,
        callbacks=[finder],
    )
    parts = np.split(seen, np.cumsum(groups)[:-1])
    reference.assert_measured(finder.curve, [np.mean(p) for p in parts])


@several_steps
def test_after_lr_find_a_fit_has_all_its_steps_per_execution(xy):
    """The fit after the test calls the train function as it did before."""
    net = reference.model(steps_per_execution=4)
    x, y = (v[:56] for v in xy)
    find(net, x, y)
    weights = net.get_weights()
    batches = []
    counter = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: batches.append(batch)
    )
    fit_kwargs = {"batch_size": 7, "shuffle": False, "verbose": 0}
    net.fit(x, y, callbacks=[counter], **fit_kwargs)
    assert len(batches) == 2
    source = reference.batches(x, y, 7)
    _, weights = reference.train(weights, source, [0.01] * 8)
    reference.assert_same_weights(net.get_weights(), weights)


def accumulating(per_update, **kwargs):
    optimizer = keras.optimizers.SGD(
        0.01, gradient_accumulation_steps=per_update
    )
    return reference.model(optimizer, **kwargs)


@ways
def test_the_batches_of_one_update_share_a_rate(way, xy):
    """With gradient accumulation a step is one update, of k batches."""
    net = accumulating(3)
    losses = expected(net, *xy, per_update=3)
    finder = fit(net, *xy, epochs=8) if way is fit else find(net, *xy)
    reference.assert_measured(finder.curve, losses)


@ways
def test_a_half_finished_update_is_finished_first(way, xy):
    """A fit before that ended between two updates shifts the groups."""
    x, y = xy
    net = accumulating(2)
    source = reference.batches(x, y, SIZE)
    weights = net.get_weights()
    net.fit(x[:24], y[:24], **FIT, verbose=0)
    _, weights = reference.train(weights, source, [0.01], per_update=2)
    reference.assert_same_weights(net.get_weights(), weights)
    _, left = reference.gradients(weights, *next(source))
    losses, _ = reference.train(
        weights,
        reference.batches(x, y, SIZE),
        reference.ramp(),
        per_update=2,
        held=[left],
    )
    finder = fit(net, x, y, epochs=6) if way is fit else find(net, x, y)
    reference.assert_measured(finder.curve, losses, rtol=1e-4)


def mixed(policy, **kwargs):
    keras.config.set_dtype_policy(policy)
    try:
        return reference.model(**kwargs)
    finally:
        keras.config.set_dtype_policy("float32")


class Moves(keras.callbacks.Callback):
    """Collects, for each batch, whether it moved the weights."""

    def on_train_begin(self, logs=None):
        self.moved, self.last = [], self.model.get_weights()

    def on_train_batch_end(self, batch, logs=None):
        weights = self.model.get_weights()
        pairs = zip(weights, self.last, strict=True)
        self.moved.append(any(np.any(a != b) for a, b in pairs))
        self.last = [w.copy() for w in weights]


@ways
def test_updates_that_mixed_precision_skips_are_not_steps(way, xy):
    """Under mixed_float16 only batches that moved the weights count."""
    x, y = xy
    y = 100 * y  # the first gradients overflow, times 2**15
    net = mixed("mixed_float16")
    weights = net.get_weights()
    ramp = {"end_lr": 2e-3}
    lrs = np.geomspace(1e-3, 2e-3, reference.STEPS)
    seen = Moves()
    if way is find:
        finder = find(net, x, y, **ramp, callbacks=[seen])
    else:
        finder = LRFinder(**reference.RAMP | ramp)
        callbacks = [finder, seen]
        net.fit(x, y, **FIT, epochs=9, verbose=0, callbacks=callbacks)
    assert seen.moved.count(True) == reference.STEPS
    assert seen.moved.count(False) > 2
    source = reference.batches(x, y, SIZE)
    used = (b for b, m in zip(source, seen.moved, strict=False) if m)
    losses, _ = reference.train(weights, used, lrs)
    np.testing.assert_allclose(finder.curve.lrs, lrs, rtol=1e-12)
    np.testing.assert_allclose(finder.curve.losses, losses, rtol=2e-2)


@ways
def test_bfloat16_skips_nothing(way, xy):
    """Under mixed_bfloat16 the curve is the same to its few digits."""
    net = mixed("mixed_bfloat16")
    losses = expected(net, *xy)
    reference.assert_measured(way(net, *xy).curve, losses, rtol=6e-2)


def test_a_loss_scale_of_the_users_own_changes_no_loss(xy):
    """A fixed `loss_scale_factor` does not show in the curve."""
    net = reference.model(keras.optimizers.SGD(0.01, loss_scale_factor=64.0))
    losses = expected(net, *xy)
    reference.assert_measured(find(net, *xy).curve, losses)


class SquaredError(keras.layers.Layer):
    """Adds the squared error as a loss of the layer's own."""

    def call(self, inputs):
        found, wanted = inputs
        self.add_loss(keras.ops.mean((found - wanted) ** 2))
        return found


@ways
def test_a_loss_that_the_layers_add_is_recorded(way, xy):
    """A model compiled without a loss has the loss of `add_loss`."""
    x, y = xy
    inputs = keras.Input((3,)), keras.Input((1,))
    body = keras.Sequential([keras.Input((3,)), *reference.layers()])
    net = keras.Model(inputs, SquaredError()([body(inputs[0]), inputs[1]]))
    net.compile(keras.optimizers.SGD(0.01), loss=None)
    losses = expected(body, x, y)
    reference.assert_measured(way(net, [x, y], None).curve, losses)


@pytest.mark.parametrize("monitor", ["loss", "p_loss", "q_loss"])
@ways
def test_the_monitor_picks_one_of_several_losses(way, monitor, xy):
    """Each loss of a model can be the one that is recorded."""
    if monitor != "loss" and keras.__version__.startswith("3.3."):
        pytest.skip("this Keras logs the sum alone")
    x, y = xy
    net = reference.two_headed()
    parts = {
        "p_loss": expected(net.parts[0], x, y),
        "q_loss": expected(net.parts[1], -x, 2 * y),
    }
    parts["loss"] = np.sum(list(parts.values()), axis=0)
    data = {"u": x, "v": -x}, {"p": y, "q": 2 * y}
    curve = way(net, *data, monitor=monitor).curve
    assert curve.monitor == monitor
    reference.assert_measured(curve, parts[monitor])


@ways
def test_metrics_do_not_disturb_the_loss(way, xy):
    """The user's metrics run on beside the loss of each batch."""
    net = reference.model(metrics=["mae", keras.metrics.MeanSquaredError()])
    losses = expected(net, *xy)
    reference.assert_measured(way(net, *xy).curve, losses)


@ways
def test_a_metric_can_be_the_monitor(way, xy):
    """A metric by name is recorded batch by batch, too."""
    metric = keras.metrics.MeanSquaredError(name="error")
    net = reference.model(metrics=[metric])
    losses = expected(net, *xy)
    reference.assert_measured(way(net, *xy, monitor="error").curve, losses)


def test_a_monitor_that_is_not_logged_is_refused(xy):
    """The error names what there is, and the model is as before."""
    net = reference.model()
    before = net.get_weights()
    with pytest.raises(ValueError, match=r"`monitor` must be .*\['loss'"):
        find(net, *xy, monitor="accuracy")
    for one, other in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


RISING = {
    "by-name": "accuracy",
    "object": keras.metrics.AUC,
    "R2": keras.metrics.R2Score,
}


@pytest.mark.parametrize("metric", RISING.values(), ids=RISING)
def test_a_monitor_that_rises_is_refused(metric):
    """What is better the higher it is has no LR at which it blows up."""
    metric = metric if isinstance(metric, str) else metric(name="accuracy")
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    net.compile("sgd", "binary_crossentropy", metrics=[metric])
    before = net.get_weights()
    x = np.random.default_rng(1).random((64, 4), dtype="float32")
    with pytest.raises(ValueError, match=r"`monitor` must be a loss.*rises"):
        lr_find(net, x, x[:, :1].round(), monitor="accuracy", verbose=0)
    for one, other in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_rising_metric_of_one_output_is_refused():
    """Keras puts the output's name before the metric's."""
    x = keras.Input((4,))
    outputs = [keras.layers.Dense(1, name=name)(x) for name in ("a", "b")]
    net = keras.Model(x, outputs)
    net.compile("sgd", ["mse", "mse"], metrics=[["mae"], ["accuracy"]])
    rows = np.random.default_rng(1).random((64, 4), dtype="float32")
    data = rows, [rows[:, :1], rows[:, 1:2]]
    with pytest.raises(ValueError, match="b_accuracy', which rises"):
        lr_find(net, *data, monitor="b_accuracy", verbose=0)


class Keeper(keras.metrics.MeanSquaredError):
    """Keeps something of its own where Keras keeps members."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.metrics = {"kept": 1}


@ways
def test_a_metric_may_have_any_attributes(way, xy):
    """What `metrics` means there is the user's business."""
    net = reference.model(metrics=[Keeper(name="error")])
    losses = expected(net, *xy)
    reference.assert_measured(way(net, *xy, monitor="error").curve, losses)


def test_train_on_batch_loops_use_the_engine(xy):
    """A loop of `train_on_batch` calls runs the test by `RangeTest`."""
    net = reference.model()
    losses = expected(net, *xy)
    test = RangeTest(
        reference.START, reference.END, reference.STEPS, stop_factor=None
    )
    for x, y, _ in reference.batches(*xy, SIZE):
        net.optimizer.learning_rate = test.lr
        net.reset_metrics()  # Keras 3.3 returns a running mean
        if not test.record(net.train_on_batch(x, y)):
            break
    reference.assert_measured(test.curve, losses)
