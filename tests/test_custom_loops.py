"""Training loops of the user's own: `RangeTest` asks for nothing of Keras.

Each loop is written as its backend's users write it, and must see what the
NumPy loop of `reference.py` sees.
"""

import contextlib

import keras
import numpy as np
import pytest
import reference

from keras_lrfinder import RangeTest
from keras_lrfinder import search
from keras_lrfinder import snapshot

SIZE = 8


@pytest.fixture
def engine():
    return RangeTest(
        reference.START, reference.END, reference.STEPS, stop_factor=None
    )


def squared_error(found, wanted):
    return keras.ops.mean((found - wanted) ** 2)


@contextlib.contextmanager
def undone(net):
    """A snapshot; what is done inside is done, and undone at the end."""
    before = net.get_weights()
    with snapshot(net):
        yield
        after = net.get_weights()
    for one, other, trained in zip(net.get_weights(), before, after):
        np.testing.assert_array_equal(one, other)
        assert np.any(trained != other)


@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize(
    "options",
    [None, {}, {"jit_compile": True}],
    ids=["eager", "function", "compiled"],
)
def test_a_gradient_tape_loop(options, net, xy, losses, engine):
    """The rate assigned outside a traced step is used inside of it."""
    import tensorflow as tf

    optimizer = keras.optimizers.SGD(0.01)
    optimizer.build(net.trainable_variables)

    def train_step(x, y):
        with tf.GradientTape() as tape:
            loss = squared_error(net(x, training=True), y)
        slopes = tape.gradient(loss, net.trainable_variables)
        optimizer.apply(slopes, net.trainable_variables)
        return loss

    if options is not None:
        train_step = tf.function(train_step, **options)
    with undone(net):
        for x, y, _ in reference.batches(*xy, SIZE):
            optimizer.learning_rate = engine.lr
            x, y = tf.constant(x), tf.constant(y)
            if not engine.record(train_step(x, y)):
                break
    reference.assert_measured(engine.curve, losses)


@pytest.mark.backend("jax")
def test_a_stateless_loop(net, xy, losses, engine):
    """On JAX the rate is one of the optimizer's variables handed in."""
    import jax

    optimizer = keras.optimizers.SGD(0.01)
    optimizer.build(net.trainable_variables)

    def loss_of(trainable, fixed, x, y):
        found, fixed = net.stateless_call(trainable, fixed, x, training=True)
        return squared_error(found, y), fixed

    @jax.jit
    def train_step(state, x, y):
        trainable, fixed, slots = state
        (loss, fixed), slopes = jax.value_and_grad(loss_of, has_aux=True)(
            trainable, fixed, x, y
        )
        trainable, slots = optimizer.stateless_apply(slots, slopes, trainable)
        return loss, (trainable, fixed, slots)

    state = tuple(
        [v.value for v in variables]
        for variables in (
            net.trainable_variables,
            net.non_trainable_variables,
            optimizer.variables,
        )
    )
    # By identity: `in` and `index` would compare the numbers.
    same = [v is optimizer.learning_rate for v in optimizer.variables]
    place = same.index(True)
    for x, y, _ in reference.batches(*xy, SIZE):
        state[2][place] = np.float32(engine.lr)
        loss, state = train_step(state, x, y)
        if not engine.record(loss):
            break
    reference.assert_measured(engine.curve, losses)


@pytest.mark.backend("torch")
@pytest.mark.parametrize("whose", ["keras", "torch"])
def test_an_autograd_loop(whose, net, xy, losses, engine):
    """On PyTorch either kind of optimizer takes the rate."""
    import torch

    if whose == "torch":
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    else:
        optimizer = keras.optimizers.SGD(0.01)
    variables = net.trainable_variables
    with undone(net):
        for x, y, _ in reference.batches(*xy, SIZE):
            net.zero_grad()
            found = net(torch.tensor(x), training=True)
            loss = squared_error(found, keras.ops.convert_to_tensor(y))
            loss.backward()
            if whose == "torch":
                optimizer.param_groups[0]["lr"] = engine.lr
                optimizer.step()
            else:
                optimizer.learning_rate = engine.lr
                with torch.no_grad():
                    slopes = [v.value.grad for v in variables]
                    optimizer.apply(slopes, variables)
            if not engine.record(loss):
                break
    reference.assert_measured(engine.curve, losses)


def numpy_loop(weights, source, lrs, record):
    """Trains without Keras, in ten lines."""
    weights = [np.asarray(w, "float64") for w in weights]
    for lr, batch in zip(lrs, source):
        loss, slopes = reference.gradients(weights, *batch)
        weights = [w - lr * g for w, g in zip(weights, slopes, strict=True)]
        if record(loss) is False:
            break


def test_a_model_without_keras(xy, losses, engine, net):
    """A loop in plain NumPy needs no Keras at all."""
    lrs = iter(lambda: engine.lr, None)
    source = reference.batches(*xy, SIZE)
    numpy_loop(net.get_weights(), source, lrs, engine.record)
    reference.assert_measured(engine.curve, losses)


def test_a_loop_of_ones_own_has_probes_too(xy, net):
    """`search` asks for runs, and gets their losses."""
    test = RangeTest(1e-4, 10.0, 60, optimizer="sgd")
    start = net.get_weights()

    def train(run):
        losses = []
        source = reference.batches(*xy, SIZE)
        numpy_loop(start, source, run.lrs, losses.append)
        return losses

    source = reference.batches(*xy, SIZE)
    numpy_loop(start, source, test.lrs, test.record)
    runs, found = search(test.curve, train)
    assert {len(run.losses) for run in runs} == {60}
    assert found.low < found.lr < found.high


def test_train_on_batch_loops_use_the_engine(xy, net, losses, engine):
    """The least loop of all, by Keras's own step."""
    for x, y, _ in reference.batches(*xy, SIZE):
        net.optimizer.learning_rate = engine.lr
        net.reset_metrics()  # Keras 3.3 returns a running mean
        if not engine.record(net.train_on_batch(x, y)):
            break
    reference.assert_measured(engine.curve, losses)
