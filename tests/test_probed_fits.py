"""`lr_find` with its probes, in every kind of fit: nothing is left behind."""

import keras
import numpy as np
import pytest
import reference
from test_data_kinds import KINDS
from test_data_kinds import Counted

from keras_lrfinder import lr_find

RAMP = {"start_lr": 1e-4, "end_lr": 30.0, "steps": 60, "verbose": 0}


@pytest.fixture
def xy():
    return reference.data(rows=200)


def assert_probed(net, rate=0.01, **kwargs):
    """Asserts that probes ran and the model is, bit for bit, as before."""
    before = [v.copy() for v in net.get_weights()]
    finder = lr_find(net, **RAMP | kwargs)
    assert finder.suggestion.lr is not None, finder.suggestion.reason
    assert finder.probes
    for one, other in zip(net.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    found = keras.ops.convert_to_numpy(net.optimizer.learning_rate)
    assert float(found) == pytest.approx(rate)
    return finder


@pytest.mark.parametrize("kind", KINDS)
def test_probes_run_on_every_kind_of_data(kind, xy):
    """The data are read again for the probes, however they come."""
    assert_probed(reference.kept(), **kind(*xy))


def test_probes_of_a_generator_use_what_the_ramp_has_taken(xy):
    """Not one batch more is taken from a generator for the probes."""
    source = Counted(*xy)
    finder = assert_probed(reference.kept(), x=source.generator())
    assert len(finder.curve) <= source.taken <= RAMP["steps"]


SGD = keras.optimizers.SGD
MODELS = {
    "schedule": lambda: reference.model(
        SGD(keras.optimizers.schedules.ExponentialDecay(0.01, 100, 1.0))
    ),
    "momentum": lambda: reference.model(SGD(0.01, momentum=0.9)),
    "accumulation": lambda: reference.model(
        SGD(0.01, gradient_accumulation_steps=2)
    ),
    "eager": lambda: reference.model(run_eagerly=True),
    "metrics": lambda: reference.model(metrics=["mae"]),
}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            make,
            marks=pytest.mark.thorough_on("tensorflow")
            if name == "eager"
            else [],
        )
        for name, make in MODELS.items()
    ],
    ids=MODELS,
)
def test_probes_run_however_the_model_is_compiled(make, xy):
    """Ramp and probes share the model, and give it back."""
    x, y = xy
    assert_probed(make(), x=x, y=y, batch_size=8)


@pytest.mark.backend("tensorflow", "jax")
def test_probes_run_with_several_steps_per_execution(xy):
    """After ramp and probes the model has its steps per execution."""
    x, y = xy
    net = reference.model(steps_per_execution=4)
    assert_probed(net, x=x, y=y, batch_size=8)
    assert net.steps_per_execution == 4


def test_probes_run_with_named_inputs_and_outputs(xy):
    """Dictionaries of arrays are replayed as dictionaries."""
    x, y = xy
    data = {"u": x, "v": -x}, {"p": y, "q": 2 * y}
    net = reference.two_headed()
    assert_probed(net, x=data[0], y=data[1], batch_size=8)


@pytest.mark.parametrize(
    "more",
    [
        {"sample_weight": np.linspace(0.5, 2.0, 200)},
        {"validation_split": 0.2},
        {"validation_data": reference.data(17, 5)},
        {"validation": reference.data(17, 5)},
        {"steps_per_epoch": 5},
    ],
    ids=lambda more: next(iter(more)),
)
def test_probes_run_with_the_arguments_of_fit(more, xy):
    """Weights and held-out data are those of the fit."""
    x, y = xy
    assert_probed(reference.kept(), x=x, y=y, batch_size=8, **more)
