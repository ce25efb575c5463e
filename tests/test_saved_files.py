"""What version 0.1.0 wrote can still be read."""

import pathlib

import keras
import pytest

from keras_lrfinder import Curve
from keras_lrfinder import StopReason
from keras_lrfinder import Triangular
from keras_lrfinder import suggest

SAVED = pathlib.Path(__file__).parent / "saved"
SCHEDULES = {
    "one_cycle": {"max_lr": 0.1, "total_steps": 100, "final_fraction": 0.1},
    # Heights that fall are gone, but for what was saved with them.
    "triangular": {"step_size": 10, "policy": "exp_range", "gamma": 0.999},
}


@pytest.mark.keras("3.15")
@pytest.mark.parametrize("name", SCHEDULES)
def test_saved_model_has_its_schedule(name):
    """A model file with one of our schedules loads, mid-path."""
    model = keras.models.load_model(SAVED / f"{name}-0.1.0.keras")

    saved = model.optimizer.get_config()["learning_rate"]
    config = keras.optimizers.schedules.deserialize(saved).get_config()
    assert config["begin"] == 0
    assert SCHEDULES[name].items() <= config.items()
    assert int(model.optimizer.iterations) == 4


@pytest.mark.parametrize(
    ("policy", "gamma", "scale"),
    [
        ("triangular", None, 1.0),
        ("triangular2", None, 0.25),
        ("exp_range", 0.999, 0.999**50),
    ],
)
def test_saved_policies_keep_their_path(policy, gamma, scale):
    """Of a model that 0.1.0 saved, in the third cycle and saved again."""
    config = {"base_lr": 0.0, "max_lr": 1.0, "step_size": 10}
    config = {**config, "policy": policy, "gamma": gamma}
    for _ in range(2):
        schedule = Triangular.from_config(config)
        assert float(schedule(50)) == pytest.approx(scale, rel=1e-6)
        config = schedule.get_config()


def test_saved_curve_is_what_was_measured():
    """The numbers, the reason, and a range that holds what was said then."""
    curve = Curve.from_json(SAVED / "curve-0.1.0.json")

    assert (len(curve), curve.steps) == (42, 64)
    assert curve.stop_reason is StopReason.DIVERGED
    assert curve.losses[-2:].tolist() == [4.316683769226074, 50.2576904296875]
    assert curve.hyperparameters["momentum"] == 0.9
    found = suggest(curve)
    assert found.low < 1.74e-3 < found.high
