"""However a model is compiled, each step has its own rate and its own loss.

Every test is a real fit against the NumPy loop of `reference.py`.
"""

import functools

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
compiled = pytest.mark.backend("tensorflow", "jax")


@pytest.fixture
def xy():
    return reference.data()


class Keeper(keras.metrics.MeanSquaredError):
    """Keeps something of its own where Keras keeps members."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.metrics = {"kept": 1}


def mixed(policy):
    keras.config.set_dtype_policy(policy)
    try:
        return reference.model()
    finally:
        keras.config.set_dtype_policy("float32")


def metered(kind=keras.metrics.MeanSquaredError):
    return reference.model(metrics=["mae", kind(name="error")])


scaled = functools.partial(keras.optimizers.SGD, 0.01, loss_scale_factor=64.0)
# A model, what is monitored, and to how many digits it is right.
MODELS = {
    "eager": (lambda: reference.model(run_eagerly=True), "loss", 1e-5),
    "jit": (lambda: reference.model(jit_compile=True), "loss", 1e-5),
    "no-jit": (lambda: reference.model(jit_compile=False), "loss", 1e-5),
    "bfloat16": (lambda: mixed("mixed_bfloat16"), "loss", 6e-2),
    "loss-scale": (lambda: reference.model(scaled()), "loss", 1e-5),
    # The user's metrics run on beside the loss of each batch; one can be it.
    "metrics": (metered, "loss", 1e-5),
    "metric": (metered, "error", 1e-5),
    # What `metrics` means in a metric is the user's business.
    "attributes": (lambda: metered(Keeper), "error", 1e-5),
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=compiled if k == "jit" else ()) for k in MODELS],
)
@ways
def test_however_the_step_is_compiled_it_uses_the_ramp(way, kind, xy):
    """Each step has its learning rate, and the loss that is recorded."""
    make, monitor, rtol = MODELS[kind]
    net = make()
    losses = expected(net, *xy)
    curve = way(net, *xy, monitor=monitor).curve
    reference.assert_measured(curve, losses, rtol)


class Batches(keras.callbacks.Callback):
    """Counts how often it is called."""

    count = 0

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1


@compiled
def test_lr_find_runs_one_step_per_execution(xy):
    """Every step has a rate of its own, and the next fit is as before."""
    net, batches = reference.model(steps_per_execution=4), Batches()
    x, y = (v[:56] for v in xy)
    weights = net.get_weights()
    source = reference.batches(x, y, 7)
    losses, _ = reference.train(weights, source, reference.ramp())
    curve = find(net, x, y, batch_size=7).curve
    reference.assert_measured(curve, losses)
    assert net.steps_per_execution == 4

    net.fit(x, y, 7, shuffle=False, verbose=0, callbacks=[batches])
    assert batches.count == 2
    source = reference.batches(x, y, 7)
    _, weights = reference.train(weights, source, [0.01] * 8)
    reference.assert_same_weights(net.get_weights(), weights)


# Keras 3.3 calls no hook after an execution in which the data run out.
RAGGED = pytest.param(3, marks=pytest.mark.keras("3.4"), id="ragged")


@compiled
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


# A metric, what is monitored of it, and what is said.
NO_LOSSES = {
    "not-logged": ("mae", "accuracy", r"must be .*\['loss'"),
    "by-name": ("accuracy", "accuracy", "must be a loss.*rises"),
    "AUC": (keras.metrics.AUC, "auc", "must be a loss.*rises"),
    "R2": (keras.metrics.R2Score, "r2_score", "must be a loss.*rises"),
}


@pytest.mark.parametrize("name", NO_LOSSES)
def test_a_monitor_that_is_no_loss_is_refused(name):
    """What is better the higher it is has no LR at which it blows up."""
    metric, monitor, words = NO_LOSSES[name]
    metric = metric if isinstance(metric, str) else metric()
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    net.compile("sgd", "binary_crossentropy", metrics=[metric])
    before = net.get_weights()
    x = np.random.default_rng(1).random((64, 4), dtype="float32")
    with pytest.raises(ValueError, match=rf"`monitor` {words}"):
        lr_find(net, x, x[:, :1].round(), monitor=monitor, verbose=0)
    for one, other in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_rising_metric_of_one_output_is_refused():
    """Keras puts the output's name before the metric's."""
    net, (x, y) = reference.two_headed(), reference.data()
    net.compile("sgd", ["mse", "mse"], metrics=[["mae"], ["accuracy"]])
    data = {"u": x, "v": x}, {"p": y, "q": y}
    with pytest.raises(ValueError, match="q_accuracy', which rises"):
        lr_find(net, *data, monitor="q_accuracy", verbose=0)


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
