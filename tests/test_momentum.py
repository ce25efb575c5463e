"""One-cycle momentum: what each step of a real fit used, and what is left."""

import copy
import doctest
import os
import re
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest

from keras_lrfinder.schedules import OneCycle
from keras_lrfinder.schedules.phases import value_at
from keras_lrfinder.training import momentum
from keras_lrfinder.training.momentum import OneCycleMomentum

BACKEND = keras.backend.backend()
GRAPH_ONLY = pytest.mark.skipif(
    BACKEND == "torch",
    reason="PyTorch runs the step eagerly: a plain float is set per batch",
)
MODES = {
    "eager": {"run_eagerly": True},
    "graph": {"jit_compile": False},
    "jit": {"jit_compile": True},
}
# torch.compile: right as well, but half a minute for each model.
JIT = pytest.param("jit", marks=pytest.mark.backend("tensorflow", "jax"))

SCHEDULE = OneCycle(0.01, 8, initial_lr=0.002, final_lr=0.001)
LRS = [float(SCHEDULE(step)) for step in range(40)]


def cosine_momenta(steps):
    """0.95 to 0.85 at step round(0.3 * 7) and back at step 7, in float64."""
    knots_up = np.interp(range(steps), [0, 2, 7], [0, 1, 0])
    return 0.95 - 0.1 * (1 - np.cos(np.pi * knots_up)) / 2


def sgd_path(momenta, lrs, nesterov=False, weight=0.0, velocity=0.0):
    """Weights of SGD with gradient 1, written out, in float64."""
    weights = [weight]
    for momentum_, lr in zip(momenta, lrs):
        velocity = momentum_ * velocity - lr
        weight += momentum_ * velocity - lr if nesterov else velocity
        weights.append(weight)
    return np.array(weights)


def unit_gradient_model(optimizer, **compile_kwargs):
    """One weight, from 0, whose gradient is 1 whatever the data."""
    dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((1,)), dense])
    model.compile(
        optimizer,
        lambda y_true, y_pred: keras.ops.mean(y_pred, axis=-1),
        **compile_kwargs,
    )
    return model


class WeightHistory(keras.callbacks.Callback):
    """The weight before the first and after every batch."""

    def on_train_begin(self, logs=None):
        self.weights = [self.weight()]

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(self.weight())

    def weight(self):
        return float(self.model.get_weights()[0][0, 0])


def weights_of_fit(model, batches, *callbacks):
    """Trains one sample a batch; returns the weight after each batch."""
    history = WeightHistory()
    ones = np.ones((batches, 1), "float32")
    model.fit(
        ones, ones, batch_size=1, verbose=0, callbacks=[history, *callbacks]
    )
    return np.array(history.weights)


@pytest.mark.parametrize("mode", ["eager", "graph", JIT])
@pytest.mark.parametrize("nesterov", [False, True], ids=["heavy", "nesterov"])
def test_each_sgd_step_uses_its_momentum(mode, nesterov):
    """Every weight is that of SGD with the formula's momenta, past the end."""
    optimizer = keras.optimizers.SGD(SCHEDULE, 0.9, nesterov=nesterov)
    model = unit_gradient_model(optimizer, **MODES[mode])

    weights = weights_of_fit(model, 11, OneCycleMomentum(SCHEDULE))

    expected = sgd_path(cosine_momenta(11), LRS, nesterov)
    np.testing.assert_allclose(weights, expected, atol=2e-7)


@pytest.mark.parametrize("mode", ["eager", "graph", JIT])
def test_fits_before_and_after_use_the_users_momentum(mode):
    """Compiled steps are never mixed up: 0.6 in each fit without callback."""
    optimizer = keras.optimizers.SGD(SCHEDULE, 0.6)
    model = unit_gradient_model(optimizer, **MODES[mode])
    cycle = OneCycleMomentum(SCHEDULE)

    weights = [
        weights_of_fit(model, 1),
        weights_of_fit(model, 4, cycle)[1:],
        weights_of_fit(model, 3)[1:],
        weights_of_fit(model, 2, cycle)[1:],
        weights_of_fit(model, 3)[1:],
    ]

    momenta = cosine_momenta(13)
    momenta[[0, 5, 6, 7, 10, 11, 12]] = 0.6
    np.testing.assert_allclose(
        np.concatenate(weights), sgd_path(momenta, LRS), atol=2e-7
    )


def test_momentum_is_a_plain_float_again():
    """The attribute and the configuration hold the user's very number."""
    optimizer = keras.optimizers.SGD(SCHEDULE, 0.6)
    before = optimizer.get_config()

    weights_of_fit(
        unit_gradient_model(optimizer), 3, OneCycleMomentum(SCHEDULE)
    )

    assert type(optimizer.momentum) is float
    assert optimizer.get_config() == before


def test_adam_moves_beta_1():
    """Adam's steps are those of its formula with beta_1 of each step."""
    optimizer = keras.optimizers.Adam(SCHEDULE, epsilon=1e-7)
    model = unit_gradient_model(optimizer)

    weights = weights_of_fit(model, 11, OneCycleMomentum(SCHEDULE))

    m = v = weight = 0.0
    expected = [0.0]
    for step, beta_1 in enumerate(cosine_momenta(11)):
        m = beta_1 * m + (1 - beta_1)
        v = 0.999 * v + 0.001
        lr = LRS[step] * np.sqrt(1 - 0.999 ** (step + 1))
        weight -= lr / (1 - beta_1 ** (step + 1)) * m / (np.sqrt(v) + 1e-7)
        expected.append(weight)
    np.testing.assert_allclose(weights, expected, atol=2e-6)


def test_rmsprop_moves_its_momentum():
    """RMSprop's steps are those of its formula with each step's momentum."""
    optimizer = keras.optimizers.RMSprop(SCHEDULE, 0.9, momentum=0.9)
    model = unit_gradient_model(optimizer)

    weights = weights_of_fit(model, 11, OneCycleMomentum(SCHEDULE))

    square = weight = velocity = 0.0
    expected = [0.0]
    for step, momentum_ in enumerate(cosine_momenta(11)):
        square = 0.9 * square + 0.1
        velocity = momentum_ * velocity + LRS[step] / np.sqrt(square + 1e-7)
        weight -= velocity
        expected.append(weight)
    np.testing.assert_allclose(weights, expected, atol=2e-6)


@pytest.mark.parametrize(
    "name", ["AdamW", "Adamax", "Nadam", "Lamb", "Lion", "Muon"]
)
def test_step_is_that_of_the_momentum_set_by_hand(name):
    """No part of the update is left with the number the user gave."""
    if not hasattr(keras.optimizers, name):
        pytest.skip(f"Keras {keras.__version__} has no {name}")
    make = getattr(keras.optimizers, name)
    wide = {"learning_rate": SCHEDULE, "weight_decay": 0.01}
    # The peak, where the momentum is 0.85, after one step of the user's.
    by_hand, cycled = make(**wide), make(**wide)
    attribute = "momentum" if hasattr(by_hand, "momentum") else "beta_1"
    results = []
    for optimizer in (by_hand, cycled):
        model = unit_gradient_model(optimizer, run_eagerly=False)
        optimizer.build(model.trainable_variables)
        optimizer.iterations.assign(2)
        if optimizer is by_hand:
            setattr(optimizer, attribute, 0.85)
            try:
                weights_of_fit(model, 1)
            except AttributeError:
                pytest.skip(f"Keras {keras.__version__}: {name} cannot train")
        else:
            weights_of_fit(model, 1, OneCycleMomentum(SCHEDULE))
        results.append(
            [keras.ops.convert_to_numpy(v) for v in optimizer.variables]
            + model.get_weights()
        )

    for left, right in zip(*results):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-8)


def test_loss_scale_optimizer():
    """The momentum of the optimizer inside moves."""
    inner = keras.optimizers.SGD(SCHEDULE, 0.9)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, initial_scale=2.0)

    weights = weights_of_fit(
        unit_gradient_model(optimizer), 10, OneCycleMomentum(SCHEDULE)
    )

    expected = sgd_path(cosine_momenta(10), LRS)
    np.testing.assert_allclose(weights, expected, atol=2e-7)


def test_gradient_accumulation():
    """An update has the LR and the momentum of the batch that brings it."""
    optimizer = keras.optimizers.SGD(
        SCHEDULE, 0.9, gradient_accumulation_steps=2
    )

    weights = weights_of_fit(
        unit_gradient_model(optimizer), 10, OneCycleMomentum(SCHEDULE)
    )

    expected = sgd_path(cosine_momenta(10)[1::2], LRS[1::2])
    np.testing.assert_allclose(weights[::2], expected, atol=2e-7)


@GRAPH_ONLY
def test_several_steps_per_execution():
    """Each step inside one execution has its own momentum."""
    model = unit_gradient_model(
        keras.optimizers.SGD(SCHEDULE, 0.9), steps_per_execution=5
    )

    weights = weights_of_fit(model, 10, OneCycleMomentum(SCHEDULE))

    expected = sgd_path(cosine_momenta(10), LRS)[[0, 5, 10]]
    np.testing.assert_allclose(weights, expected, atol=2e-7)


def test_mixed_precision():
    """Under mixed_float16 the momentum keeps float32's accuracy."""
    optimizer = keras.optimizers.SGD(SCHEDULE, 0.9)
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = unit_gradient_model(optimizer, auto_scale_loss=False)
    finally:
        keras.config.set_dtype_policy("float32")

    weights = weights_of_fit(model, 10, OneCycleMomentum(SCHEDULE))

    expected = sgd_path(cosine_momenta(10), LRS)
    np.testing.assert_allclose(weights, expected, atol=2e-7)


@GRAPH_ONLY
def test_training_step_is_traced_once():
    """Twelve momenta cost one trace; the fit afterwards costs none."""
    traces = []

    def loss(y_true, y_pred):
        traces.append(1)
        return keras.ops.mean(y_pred, axis=-1)

    model = unit_gradient_model(keras.optimizers.SGD(SCHEDULE, 0.9))
    model.compile(model.optimizer, loss)
    weights_of_fit(model, 2)
    before = len(traces)
    weights_of_fit(model, 12, OneCycleMomentum(SCHEDULE))
    during = len(traces)
    weights_of_fit(model, 2)

    assert (during - before, len(traces) - during) == (1, 0)


@pytest.mark.parametrize("final_fraction", [0.0, 0.2])
@pytest.mark.parametrize("anneal", ["cosine", "linear"])
def test_momentum_at_is_the_path_in_the_graph(anneal, final_fraction):
    """The number for people and the tensor in the step are the same."""
    schedule = OneCycle(0.1, 20, anneal=anneal, final_fraction=final_fraction)
    cycle = OneCycleMomentum(schedule, 0.9, 0.5)
    phases = schedule.phases(0.9, 0.5, 0.9)
    steps = range(-1, 25)

    tensors = [float(value_at(step, phases, anneal)) for step in steps]

    expected = [cycle.momentum_at(step) for step in steps]
    np.testing.assert_allclose(tensors, expected, rtol=1e-6)


def test_final_phase_keeps_the_high_momentum():
    """Down, up, and then level while the LR falls to its final value."""
    schedule = OneCycle(
        0.1, 11, warmup_fraction=0.4, final_fraction=0.2, anneal="linear"
    )
    cycle = OneCycleMomentum(schedule, 0.95, 0.85)

    momenta = [cycle.momentum_at(step) for step in (0, 2, 4, 6, 8, 9, 10, 50)]

    assert momenta == pytest.approx(
        [0.95, 0.9, 0.85, 0.9, 0.95, 0.95, 0.95, 0.95]
    )


def test_checkpoint_in_mid_training_holds_the_users_momentum(tmp_path):
    """A model saved during the cycle loads with 0.6 and trains on."""
    path = tmp_path / "model.keras"
    model = unit_gradient_model(keras.optimizers.SGD(SCHEDULE, 0.6))
    model.compile(model.optimizer, "mae")

    weights_of_fit(
        model,
        3,
        OneCycleMomentum(SCHEDULE),
        keras.callbacks.ModelCheckpoint(path, save_freq=1),
    )

    again = keras.saving.load_model(path)
    assert again.optimizer.momentum == 0.6
    weights_of_fit(again, 1)


def test_copy_of_the_optimizer_in_mid_training():
    """A deep copy made in mid-training has the user's float."""
    optimizer = keras.optimizers.SGD(SCHEDULE, 0.6)
    copies = []

    class Copy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            copies.append(copy.deepcopy(optimizer.momentum))

    weights_of_fit(
        unit_gradient_model(optimizer), 2, OneCycleMomentum(SCHEDULE), Copy()
    )

    assert [(type(x), x) for x in copies] == [(float, 0.6)]


class Interrupt(keras.callbacks.Callback):
    """Ctrl-C after the second batch."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise KeyboardInterrupt


def test_restore_after_an_interrupt():
    """After Ctrl-C, `restore` gives float and compiled step back."""
    optimizer = keras.optimizers.SGD(SCHEDULE, 0.6)
    model = unit_gradient_model(optimizer)
    cycle = OneCycleMomentum(SCHEDULE)
    with pytest.raises(KeyboardInterrupt):
        weights_of_fit(model, 3, cycle, Interrupt())

    cycle.restore()
    start, end = weights_of_fit(model, 1)

    velocity = sgd_path(cosine_momenta(2), LRS)[[1, 2]] @ [-1, 1]
    assert type(optimizer.momentum) is float
    assert end - start == pytest.approx(0.6 * velocity - LRS[2], rel=1e-5)


def test_restore_is_idempotent():
    """Before any fit, and twice after one, `restore` changes nothing."""
    optimizer = keras.optimizers.SGD(SCHEDULE, 0.6)
    cycle = OneCycleMomentum(SCHEDULE)
    cycle.restore()
    weights_of_fit(unit_gradient_model(optimizer), 2, cycle)
    optimizer.momentum = 0.7

    cycle.restore()

    assert optimizer.momentum == 0.7


def test_new_fit_after_an_interrupt():
    """A fit after Ctrl-C finds the user's momentum under the moving one."""
    optimizer = keras.optimizers.SGD(SCHEDULE, 0.6)
    model = unit_gradient_model(optimizer)
    with pytest.raises(KeyboardInterrupt):
        weights_of_fit(model, 3, OneCycleMomentum(SCHEDULE), Interrupt())

    weights_of_fit(model, 2, OneCycleMomentum(SCHEDULE))

    assert type(optimizer.momentum) is float
    assert optimizer.momentum == 0.6


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Adagrad", "must have a momentum (`momentum` or `beta_1`)"),
        ("Adafactor", "Received: optimizer=Adafactor"),
        ("ScheduleFreeAdamW", "Received: optimizer=ScheduleFreeAdamW"),
        (
            "SGD",
            "must be made with a positive `momentum` for `OneCycleMomentum` "
            "to move, for example SGD(momentum=0.95). Received: momentum=0.0",
        ),
        ("RMSprop", "for example RMSprop(momentum=0.95)."),
    ],
)
def test_optimizer_without_momentum_is_refused(name, message):
    """Before the first step, with the optimizer's name and a remedy."""
    if not hasattr(keras.optimizers, name):
        pytest.skip(f"Keras {keras.__version__} has no {name}")
    model = unit_gradient_model(getattr(keras.optimizers, name)(0.1))

    with pytest.raises(ValueError, match=re.escape(message)):
        weights_of_fit(model, 1, OneCycleMomentum(SCHEDULE))

    assert model.get_weights()[0] == 0


class Number(keras.optimizers.SGD):
    """Takes the momentum for a Python number."""

    def update_step(self, gradient, variable, learning_rate):
        self.assign_sub(variable, gradient * float(self.momentum))


class Unused(keras.optimizers.SGD):
    """Has a momentum and does not use it."""

    def update_step(self, gradient, variable, learning_rate):
        self.assign_sub(variable, gradient * 0.1)


@GRAPH_ONLY
@pytest.mark.parametrize(
    ("optimizer", "error"), [(Number, TypeError), (Unused, RuntimeError)]
)
def test_optimizer_whose_momentum_cannot_move(optimizer, error):
    """A custom optimizer that would keep the old value is found out."""
    model = unit_gradient_model(optimizer(0.1, 0.9))

    with pytest.raises(error, match="must use its momentum as a tensor"):
        weights_of_fit(model, 2, OneCycleMomentum(SCHEDULE))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0.1,), TypeError, "`schedule` must be a `OneCycle`. Received: "),
        ((SCHEDULE, 0.8, 0.9), ValueError, "min_momentum=0.9, max_momentum=0"),
        ((SCHEDULE, 1.0), ValueError, "max_momentum=1.0"),
        ((SCHEDULE, 0.9, -0.1), ValueError, "min_momentum=-0.1"),
        ((SCHEDULE, "a"), TypeError, "`max_momentum` must be a number."),
    ],
)
def test_wrong_argument(arguments, error, message):
    """The error names the argument and what came."""
    with pytest.raises(error, match=re.escape(message)):
        OneCycleMomentum(*arguments)


DISTRIBUTED = """
    import os
    os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    if os.environ["KERAS_BACKEND"] == "tensorflow":
        import tensorflow as tf
        cpu = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * 2
        )
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        assert strategy.num_replicas_in_sync == 2
        scope = strategy.scope()
    else:
        import contextlib
        import keras
        distribution = keras.distribution.DataParallel()
        assert distribution.device_mesh.shape == (2,)
        keras.distribution.set_distribution(distribution)
        scope = contextlib.nullcontext()
    import numpy as np
    import test_momentum as t
    with scope:
        optimizer = t.keras.optimizers.SGD(t.SCHEDULE, 0.9)
        model = t.unit_gradient_model(optimizer)
    history = t.WeightHistory()
    ones = np.ones((20, 1), "float32")
    model.fit(ones, ones, batch_size=2, verbose=0,
              callbacks=[history, t.OneCycleMomentum(t.SCHEDULE)])
    expected = t.sgd_path(t.cosine_momenta(10), t.LRS)
    np.testing.assert_allclose(history.weights, expected, atol=2e-7)
    assert optimizer.momentum == 0.9
    print("as expected")
"""


@pytest.mark.skipif(
    BACKEND == "torch",
    reason="Keras on PyTorch has no distribution of its own inside fit",
)
def test_two_devices():
    """Schedule and momentum are right in MirroredStrategy and DataParallel.

    In its own process: devices are split before the backend starts.
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(DISTRIBUTED)],
        env={
            **os.environ,
            "KERAS_BACKEND": BACKEND,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.endswith("as expected\n"), done.stderr[-3000:]


def test_docstring_examples_run():
    """The examples in the module print what they say."""
    outcome = doctest.testmod(momentum)

    assert outcome.attempted > 0
    assert outcome.failed == 0
