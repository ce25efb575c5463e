"""Whatever the learning rate is made of, the sweep sets it and gives it back.

Every test is a real fit against the NumPy loop of `reference.py`.
"""

import keras
import numpy as np
import pytest
import reference

from keras_lrfinder import LRFinder
from keras_lrfinder import lr_find

BACKEND = keras.backend.backend()

SCHEDULE = (0.3, 2, 0.5)  # first rate, steps to decay by, factor


def schedule_lrs(start, stop):
    first, steps, factor = SCHEDULE
    return [first * factor ** (i / steps) for i in range(start, stop)]


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(*SCHEDULE)


class NoConfig(keras.optimizers.schedules.LearningRateSchedule):
    """A user's schedule that cannot be copied by its configuration."""

    def __call__(self, step):
        first, steps, factor = SCHEDULE
        step = keras.ops.cast(step, "float32")
        return first * keras.ops.power(factor, step / steps)


RATES = {
    "float": lambda: 0.01,
    "schedule": schedule,
    "schedule_without_config": NoConfig,
    "callable": lambda: lambda: 0.05,
}


@pytest.fixture
def xy():
    return reference.data()


def rate(optimizer):
    return float(keras.ops.convert_to_numpy(optimizer.learning_rate))


def expected(net, x, y):
    source = reference.batches(x, y, 8)
    losses, _ = reference.train(net.get_weights(), source, reference.ramp())
    return losses


@pytest.mark.parametrize("way", ["lr_find", "callback"])
@pytest.mark.parametrize("kind", RATES)
def test_every_kind_of_learning_rate_is_swept(kind, way, xy):
    """The ramp is used in every step, whatever held the rate before."""
    net = reference.model(keras.optimizers.SGD(RATES[kind]()))
    losses = expected(net, *xy)
    if way == "lr_find":
        finder = lr_find(
            net, *xy, batch_size=8, shuffle=False, probe=False, **reference.RAMP
        )
    else:
        finder = LRFinder(**reference.RAMP)
        net.fit(
            *xy,
            batch_size=8,
            shuffle=False,
            epochs=3,
            callbacks=[finder],
            verbose=0,
        )
    reference.assert_measured(finder.curve, losses)


@pytest.mark.parametrize("before", [0, 3], ids=["first_fit", "after_a_fit"])
@pytest.mark.parametrize("kind", ["schedule", "schedule_without_config"])
def test_a_schedule_is_really_used_by_the_next_fit(kind, before, xy):
    """The fit after the test moves the weights by the schedule's rates."""
    x, y = xy
    used = RATES[kind]()
    net = reference.model(keras.optimizers.SGD(used))
    train = {"batch_size": 8, "shuffle": False, "verbose": 0}
    source = reference.batches(x, y, 8)
    weights = net.get_weights()
    if before:
        rows = 8 * before
        net.fit(x[:rows], y[:rows], **train)
        _, weights = reference.train(weights, source, schedule_lrs(0, before))
        reference.assert_same_weights(net.get_weights(), weights)
    finder = lr_find(net, x, y, **train | reference.RAMP, probe=False)
    losses, _ = reference.train(
        weights, reference.batches(x, y, 8), reference.ramp()
    )
    reference.assert_measured(finder.curve, losses)
    assert net.optimizer._learning_rate is used
    net.fit(x, y, **train)
    _, weights = reference.train(
        weights, reference.batches(x, y, 8), schedule_lrs(before, before + 8)
    )
    reference.assert_same_weights(net.get_weights(), weights)


def test_a_callable_is_really_used_by_the_next_fit(xy):
    """The fit after the test moves the weights by the callable's rate."""
    x, y = xy
    net = reference.model(keras.optimizers.SGD(lambda: 0.05))
    weights = net.get_weights()
    train = {"batch_size": 8, "shuffle": False, "verbose": 0}
    lr_find(net, x, y, **train | reference.RAMP, probe=False)
    net.fit(x, y, **train)
    source = reference.batches(x, y, 8)
    _, weights = reference.train(weights, source, [0.05] * 8)
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
    finder = lr_find(
        net, *xy, batch_size=8, shuffle=False, probe=False, **reference.RAMP
    )
    reference.assert_measured(finder.curve, losses)


class TwoPlayers(keras.Model):
    """Two networks, each with an optimizer of its own, as a GAN has them.

    They do not share any weight, so that the reference is two runs of the
    same loop.
    """

    def __init__(self):
        super().__init__()
        self.first = keras.Sequential(
            [keras.Input((3,)), *reference.layers(1)], name="first"
        )
        self.second = keras.Sequential(
            [keras.Input((3,)), *reference.layers(5)], name="second"
        )
        self.first_loss = keras.metrics.Mean(name="first_loss")
        self.second_loss = keras.metrics.Mean(name="second_loss")

    def compile(self, first_optimizer, second_optimizer):
        super().compile()
        self.first_optimizer = first_optimizer
        self.second_optimizer = second_optimizer

    @property
    def metrics(self):
        return [self.first_loss, self.second_loss]

    def call(self, x):
        return self.first(x), self.second(x)

    def train_step(self, data):
        x, y = data
        logs = {}
        for name in ("first", "second"):
            network = getattr(self, name)
            optimizer = getattr(self, f"{name}_optimizer")
            loss = self.step(network, optimizer, x, y)
            getattr(self, f"{name}_loss").update_state(loss)
            logs[f"{name}_loss"] = getattr(self, f"{name}_loss").result()
        return logs

    def step(self, network, optimizer, x, y):
        variables = network.trainable_variables
        if BACKEND == "tensorflow":
            import tensorflow as tf

            with tf.GradientTape() as tape:
                loss = keras.ops.mean((network(x, training=True) - y) ** 2)
            optimizer.apply(tape.gradient(loss, variables), variables)
            return loss
        import torch

        network.zero_grad()
        loss = keras.ops.mean((network(x, training=True) - y) ** 2)
        loss.backward()
        with torch.no_grad():
            optimizer.apply([v.value.grad for v in variables], variables)
        return loss.detach()


# Keras's trainer on JAX has the state of one optimizer only.
needs_loops = pytest.mark.backend("tensorflow", "torch")


@needs_loops
@pytest.mark.parametrize("named", ["object", "attribute"])
def test_the_optimizer_that_is_named_is_swept_and_no_other(named, xy):
    """Of several optimizers the other one keeps its learning rate."""
    x, y = xy
    net = TwoPlayers()
    net.compile(keras.optimizers.SGD(0.02), keras.optimizers.SGD(0.01))
    source = reference.batches(x, y, 8)
    swept, _ = reference.train(
        net.second.get_weights(), source, reference.ramp()
    )
    before = net.get_weights()
    optimizer = net.second_optimizer
    finder = lr_find(
        net,
        x,
        y,
        batch_size=8,
        shuffle=False,
        monitor="second_loss",
        optimizer=optimizer if named == "object" else "second_optimizer",
        probe=False,
        **reference.RAMP,
    )
    reference.assert_measured(finder.curve, swept)
    for one, other in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert rate(net.first_optimizer) == pytest.approx(0.02)
    assert rate(net.second_optimizer) == pytest.approx(0.01)


@needs_loops
def test_the_other_optimizer_trains_on_at_its_own_rate(xy):
    """The other optimizer's loss is that of a run at its own rate."""
    x, y = xy
    net = TwoPlayers()
    net.compile(keras.optimizers.SGD(0.02), keras.optimizers.SGD(0.01))
    source = reference.batches(x, y, 8)
    other, _ = reference.train(
        net.first.get_weights(), source, [0.02] * reference.STEPS
    )
    finder = lr_find(
        net,
        x,
        y,
        batch_size=8,
        shuffle=False,
        monitor="first_loss",
        optimizer="second_optimizer",
        probe=False,
        **reference.RAMP,
    )
    reference.assert_measured(finder.curve, other)


@needs_loops
def test_an_optimizer_that_does_not_train_is_refused(xy):
    """Sweeping the default optimizer, which nobody uses, is an error."""
    net = TwoPlayers()
    net.compile(keras.optimizers.SGD(0.02), keras.optimizers.SGD(0.01))
    before = net.get_weights()
    finder = LRFinder(**reference.RAMP | {"steps": 5}, monitor="first_loss")
    with pytest.raises(ValueError, match=r"`optimizer` must be the one"):
        net.fit(*xy, batch_size=8, callbacks=[finder], verbose=0)
    for one, other in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
