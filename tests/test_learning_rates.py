"""Whatever the learning rate is made of, the sweep sets it and gives it back.

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

SCHEDULE = (0.3, 2, 0.5)  # first rate, steps to decay by, factor
TRAIN = {"batch_size": 8, "shuffle": False, "verbose": 0}


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


@pytest.fixture
def xy():
    return reference.data()


def find(net, x, y, **kwargs):
    return lr_find(net, x, y, **TRAIN | reference.RAMP | kwargs, probe=False)


def in_callback(net, x, y):
    finder = LRFinder(**reference.RAMP)
    net.fit(x, y, **TRAIN, epochs=3, callbacks=[finder])
    return finder


def trained(weights, xy, lrs):
    """The losses and the weights of a training at these learning rates."""
    return reference.train(weights, reference.batches(*xy, 8), lrs)


@pytest.mark.parametrize("before", [0, 3], ids=["first_fit", "after_a_fit"])
@pytest.mark.parametrize("way", [find, in_callback])
@pytest.mark.parametrize("kind", RATES)
def test_every_kind_of_learning_rate_is_swept(kind, way, before, xy):
    """And is really used by the next fit, not only there to be seen."""
    x, y = xy
    net = reference.model(keras.optimizers.SGD(RATES[kind]()))
    held, weights = net.optimizer._learning_rate, net.get_weights()
    if before:
        rows = 8 * before
        net.fit(x[:rows], y[:rows], **TRAIN)
        _, weights = trained(weights, xy, used_lrs(kind, 0, before))
        reference.assert_same_weights(net.get_weights(), weights)
    losses, _ = trained(weights, xy, reference.ramp())
    reference.assert_measured(way(net, x, y).curve, losses)
    assert net.optimizer._learning_rate is held
    net.fit(x, y, **TRAIN)
    _, weights = trained(weights, xy, used_lrs(kind, before, before + 8))
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
    losses, _ = trained(net.get_weights(), xy, reference.ramp())
    reference.assert_measured(find(net, *xy).curve, losses)


class TwoPlayers(keras.Model):
    """Two networks, each with an optimizer of its own, as a GAN has them.

    They do not share any weight, so that the reference is two runs of the
    same loop.
    """

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
    losses, _ = trained(players.players[place].get_weights(), xy, lrs)
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
