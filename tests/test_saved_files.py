"""What version 0.1.0 wrote can still be read."""

import pathlib

import keras
import pytest

from keras_lrfinder import Curve
from keras_lrfinder import OneCycle
from keras_lrfinder import StopReason
from keras_lrfinder import Triangular
from keras_lrfinder import suggest

SAVED = pathlib.Path(__file__).parent / "saved"
SCHEDULES = {
    "one_cycle": OneCycle(0.1, 100, final_fraction=0.1),
    "triangular": Triangular(0.001, 0.004, 10, policy="exp_range", gamma=0.999),
}


def schedule_of(model):
    """The learning rate object of a model's optimizer, as it is saved."""
    config = model.optimizer.get_config()["learning_rate"]
    return keras.optimizers.schedules.deserialize(config)


@pytest.mark.keras("3.15")
@pytest.mark.parametrize("name", SCHEDULES)
def test_saved_model_has_its_schedule(name):
    """A model file with one of our schedules loads, mid-path."""
    model = keras.models.load_model(SAVED / f"{name}-0.1.0.keras")

    config = schedule_of(model).get_config()
    assert config == SCHEDULES[name].get_config()
    assert int(model.optimizer.iterations) == 4


def test_saved_curve_is_the_one_that_was_measured():
    """The numbers, the reason; and a suggestion can be made of it."""
    curve = Curve.from_json(SAVED / "curve-0.1.0.json")

    assert (len(curve), curve.steps) == (42, 64)
    assert curve.stop_reason is StopReason.DIVERGED
    assert curve.losses[-2:].tolist() == [4.316683769226074, 50.2576904296875]
    assert curve.hyperparameters["momentum"] == 0.9
    assert 5e-4 < suggest(curve).lr < 2e-2
