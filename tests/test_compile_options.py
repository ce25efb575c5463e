"""However a model is compiled, each step has its own rate and its own loss.

So whatever the learning rate is made of, the sweep sets it and gives it back.
Every test is a real fit against the NumPy loop of `reference.py`.
"""

import functools

import keras
import numpy as np
import pytest
import reference
import tiny

from keras_lrfinder import LRFinder
from keras_lrfinder import lr_find

SIZE = 8
FIT = {"batch_size": SIZE, "shuffle": False, "verbose": 0}


def train(weights, xy, lrs, **kwargs):
    """The losses and the weights of a training at these learning rates."""
    return reference.train(weights, reference.batches(*xy, SIZE), lrs, **kwargs)


def expected(net, x, y, **kwargs):
    """The losses of the ramp."""
    return train(net.get_weights(), (x, y), reference.ramp(), **kwargs)[0]


def find(net, *args, **kwargs):
    kwargs = {**FIT, **reference.RAMP, "probe": False, **kwargs}
    return lr_find(net, *args, **kwargs)


def fit(net, x, y, callbacks=(), **ramp):
    finder = LRFinder(**reference.RAMP | ramp)
    callbacks = [finder, *callbacks]
    net.fit(x, y, **FIT, epochs=9, callbacks=callbacks)
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

    net.fit(x, y, **{**FIT, "batch_size": 7}, callbacks=[batches])
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
    given = {**FIT, "batch_size": 7, "epochs": 2, "callbacks": [finder]}
    net.fit(x, y, **given)
    parts = np.split(seen, np.cumsum(groups)[:-1])
    reference.assert_measured(finder.curve, [np.mean(p) for p in parts])


def accumulating(per_update):
    kwargs = {"gradient_accumulation_steps": per_update}
    return reference.model(keras.optimizers.SGD(0.01, **kwargs))


@ways
def test_the_batches_of_one_update_share_a_rate(way, xy):
    """With gradient accumulation a step is one update, of k batches."""
    net = accumulating(3)
    losses = expected(net, *xy, per_update=3)
    reference.assert_measured(way(net, *xy).curve, losses)


@ways
def test_a_half_finished_update_is_finished_first(way, xy):
    """A fit before that ended between two updates shifts the groups."""
    x, y = xy
    net = accumulating(2)
    source = reference.batches(x, y, SIZE)
    weights = net.get_weights()
    net.fit(x[:24], y[:24], **FIT)
    _, weights = reference.train(weights, source, [0.01], per_update=2)
    reference.assert_same_weights(net.get_weights(), weights)
    _, left = reference.gradients(weights, *next(source))
    losses, _ = train(weights, xy, reference.ramp(), per_update=2, held=[left])
    reference.assert_measured(way(net, x, y).curve, losses, rtol=1e-4)


@ways
def test_updates_that_mixed_precision_skips_are_not_steps(way, xy):
    """Under mixed_float16 only batches that moved the weights count."""
    x, y = xy
    y = 100 * y  # the first gradients overflow, times 2**15
    net = mixed("mixed_float16")
    weights = net.get_weights()
    lrs = np.geomspace(1e-3, 2e-3, reference.STEPS)
    seen = tiny.Weights()
    curve = way(net, x, y, end_lr=2e-3, callbacks=[seen]).curve
    assert seen.moved.count(True) == reference.STEPS
    assert seen.moved.count(False) > 2
    source = reference.batches(x, y, SIZE)
    used = (b for b, m in zip(source, seen.moved, strict=False) if m)
    losses, _ = reference.train(weights, used, lrs)
    np.testing.assert_allclose(curve.lrs, lrs, rtol=1e-12)
    np.testing.assert_allclose(curve.losses, losses, rtol=2e-2)


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


# Whatever the learning rate is made of.

SCHEDULE = (0.3, 2, 0.5)  # first rate, steps to decay by, factor


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(*SCHEDULE)


class NoConfig(keras.optimizers.schedules.LearningRateSchedule):
    """A user's schedule that cannot be copied by its configuration."""

    def __call__(self, step):
        first, steps, factor = SCHEDULE
        step = keras.ops.cast(step, "float32")
        return first * keras.ops.power(factor, step / steps)


RATES = {
    "float": lambda: 0.05,
    "schedule": schedule,
    "schedule_without_config": NoConfig,
    "callable": lambda: lambda: 0.05,
}


def used_lrs(kind, start, stop):
    """The learning rates that a fit of Keras's own has in these steps."""
    first, steps, factor = SCHEDULE
    if "schedule" not in kind:
        return [0.05] * (stop - start)
    return [first * factor ** (i / steps) for i in range(start, stop)]


@pytest.mark.parametrize("before", [0, 3], ids=["first_fit", "after_a_fit"])
@ways
@pytest.mark.parametrize("kind", RATES)
def test_every_kind_of_learning_rate_is_swept(kind, way, before, xy):
    """And is really used by the next fit, not only there to be seen."""
    x, y = xy
    net = reference.model(keras.optimizers.SGD(RATES[kind]()))
    held, weights = net.optimizer._learning_rate, net.get_weights()
    if before:
        rows = 8 * before
        net.fit(x[:rows], y[:rows], **FIT)
        _, weights = train(weights, xy, used_lrs(kind, 0, before))
        reference.assert_same_weights(net.get_weights(), weights)
    losses, _ = train(weights, xy, reference.ramp())
    reference.assert_measured(way(net, x, y).curve, losses)
    assert net.optimizer._learning_rate is held
    net.fit(x, y, **FIT)
    _, weights = train(weights, xy, used_lrs(kind, before, before + 8))
    reference.assert_same_weights(net.get_weights(), weights)


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"),
    reason="this Keras has no MultiOptimizer",
)
def test_every_part_of_a_multi_optimizer_is_swept(xy):
    """Where one optimizer is made of several, all get the ramp."""
    parts = [keras.optimizers.SGD(0.01), keras.optimizers.SGD(schedule())]
    optimizer = keras.optimizers.MultiOptimizer(
        lambda variable: parts["kernel" in variable.path]
    )
    net = reference.model(optimizer)
    losses = expected(net, *xy)
    reference.assert_measured(find(net, *xy).curve, losses)


class TwoPlayers(keras.Model):
    """Two networks without a common weight, each with its own optimizer."""

    def __init__(self):
        super().__init__()
        self.players = [
            keras.Sequential([keras.Input((3,)), *reference.layers(seed)])
            for seed in (1, 5)
        ]

    def compile(self, first, second):
        super().compile()
        self.first, self.second = first, second

    def call(self, x):
        return [player(x) for player in self.players]

    def train_step(self, data):
        logs = {}
        for player, name in zip(self.players, ("first", "second")):
            optimizer = getattr(self, name)
            error = functools.partial(self.error, player, *data)
            variables = player.trainable_variables
            logs[f"{name}_loss"] = tiny.apply(optimizer, variables, error)
        return logs

    def error(self, player, x, y):
        return keras.ops.mean((player(x, training=True) - y) ** 2)


@pytest.fixture
def players():
    """Both, compiled."""
    net = TwoPlayers()
    net.compile(keras.optimizers.SGD(0.02), keras.optimizers.SGD(0.01))
    return net


# Keras's trainer on JAX has the state of one optimizer only.
needs_loops = pytest.mark.backend("tensorflow", "torch")


@needs_loops
@pytest.mark.parametrize("named", ["object", "attribute"])
@pytest.mark.parametrize("monitor", ["first_loss", "second_loss"])
def test_the_optimizer_that_is_named_is_swept_and_no_other(
    named, monitor, players, xy
):
    """Of several optimizers the other one trains on at its own rate."""
    place = ["first_loss", "second_loss"].index(monitor)
    lrs = [[0.02] * reference.STEPS, reference.ramp()][place]
    losses, _ = train(players.players[place].get_weights(), xy, lrs)
    before = players.get_weights()
    swept = players.second if named == "object" else "second"
    finder = find(players, *xy, monitor=monitor, optimizer=swept)
    np.testing.assert_allclose(finder.curve.losses, losses, rtol=1e-5)
    for one, other in zip(players.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    for optimizer, rate in ((players.first, 0.02), (players.second, 0.01)):
        found = keras.ops.convert_to_numpy(optimizer.learning_rate)
        assert float(found) == pytest.approx(rate)


@needs_loops
def test_an_optimizer_that_does_not_train_is_refused(players, xy):
    """Sweeping the default optimizer, which nobody uses, is an error."""
    before = players.get_weights()
    finder = LRFinder(**reference.RAMP | {"steps": 5}, monitor="first_loss")
    with pytest.raises(ValueError, match=r"`optimizer` must be the one"):
        players.fit(*xy, batch_size=8, callbacks=[finder], verbose=0)
    for one, other in zip(players.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
