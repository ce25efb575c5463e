"""`lr_find(validation=…)`: the loss of a fixed sample after each step."""

import keras
import numpy as np
import pytest
import reference

from keras_lrfinder import lr_find


@pytest.fixture
def xy():
    return reference.data()


@pytest.fixture
def held_out():
    return reference.data(rows=17, seed=5)


def find(net, x, y, **kwargs):
    return lr_find(
        net,
        x,
        y,
        batch_size=8,
        shuffle=False,
        probe=False,
        **reference.RAMP | kwargs,
    )


def expected(net, x, y, sample):
    """Returns the loss of the sample after each step of the ramp."""
    source = reference.batches(x, y, 8)
    weights, losses = net.get_weights(), []
    for lr in reference.ramp():
        _, weights = reference.train(weights, source, [lr])
        losses.append(reference.gradients(weights, *sample)[0])
    return losses


def test_the_loss_of_the_sample_after_each_step_is_recorded(xy, held_out):
    """Step `i` has the loss after the update with rate `i`."""
    net = reference.model()
    losses = expected(net, *xy, held_out)
    curve = find(net, *xy, validation=held_out).curve
    reference.assert_measured(curve, losses)


def test_the_sample_may_be_weighted(xy, held_out):
    """A third array holds the weights of the sample."""
    weight = np.linspace(0.0, 2.0, 17).astype("float32")
    net = reference.model()
    losses = expected(net, *xy, (*held_out, weight))
    curve = find(net, *xy, validation=(*held_out, weight)).curve
    reference.assert_measured(curve, losses)


def test_the_sample_is_judged_without_dropout(xy, held_out):
    """The network is evaluated as it predicts, not as it trains."""
    layers = reference.layers()
    layers.insert(1, keras.layers.Dropout(0.5, seed=3))
    net = keras.Sequential([keras.Input((3,)), *layers])
    net.compile(keras.optimizers.SGD(0.01), loss="mse")
    first = reference.gradients(net.get_weights(), *held_out)[0]
    ramp = {"start_lr": 1e-9, "end_lr": 1e-8}  # moves no weight visibly
    curve = find(net, *xy, validation=held_out, **ramp).curve
    np.testing.assert_allclose(curve.losses, first, rtol=1e-5)


def test_an_update_of_several_batches_is_judged_when_it_is_made(xy, held_out):
    """With gradient accumulation the sample sees each update once."""
    optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)
    net = reference.model(optimizer)
    source = reference.batches(*xy, 8)
    weights, losses = net.get_weights(), []
    for lr in reference.ramp():
        _, weights = reference.train(weights, source, [lr], per_update=2)
        losses.append(reference.gradients(weights, *held_out)[0])
    curve = find(net, *xy, validation=held_out).curve
    reference.assert_measured(curve, losses)


def test_the_model_comes_back(xy, held_out):
    """A test that evaluates leaves the model as one that does not."""
    net = reference.model(metrics=["mae"])
    before = net.get_weights()
    find(net, *xy, validation=held_out)
    for one, other in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "sample", [np.ones(3), (np.ones(3),), "x"], ids=["array", "one", "string"]
)
def test_what_is_no_sample_is_refused(sample, xy):
    """The sample must bring its targets."""
    with pytest.raises(TypeError, match="`validation` must be"):
        find(reference.model(), *xy, validation=sample)
