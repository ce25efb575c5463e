"""The learning rates of a run, by step, against Keras's own schedules."""

import keras
import numpy as np
import pytest

from keras_lrfinder import OneCycle
from keras_lrfinder import Triangular
from keras_lrfinder.analysis.runs import SHARES
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.schedule_factors import SCHEDULES


def path(schedule, steps):
    """What a schedule of Keras's says, step by step."""
    return [float(schedule(step)) for step in range(steps)]


def test_every_schedule_that_can_be_asked_for_can_be_run():
    """`lr_find(schedule=…)` and runs know the same ones."""
    assert set(SHARES) == set(SCHEDULES)


@pytest.mark.parametrize("steps", [2, 3, 50, 501])
def test_one_cycle_is_the_schedule_of_the_package(steps):
    """The learning rates are those of `OneCycle` with its defaults."""
    expected = path(OneCycle(0.3, steps), steps)
    lrs = Run(0.3, steps, "one_cycle").lrs
    np.testing.assert_allclose(lrs, expected, rtol=1e-4)


@pytest.mark.parametrize("steps", [40, 100])
def test_triangular_is_the_schedule_of_the_package(steps):
    """Those of `Triangular`, base a fourth, two cycles."""
    expected = path(Triangular(0.05, 0.2, steps // 4), steps)
    lrs = Run(0.2, steps, "triangular").lrs
    np.testing.assert_allclose(lrs, expected, rtol=1e-5)


def test_cosine_is_the_schedule_of_keras():
    """Those of `CosineDecay` after a warm-up of a twentieth."""
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, 190, warmup_target=0.2, warmup_steps=10
    )
    lrs = Run(0.2, 200, "cosine").lrs
    # Keras begins at nothing, which trains nothing.
    np.testing.assert_allclose(lrs[:10], 0.2 * np.arange(1, 11) / 11)
    expected = path(schedule, 200)[10:]
    np.testing.assert_allclose(lrs[10:], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
def test_very_short_runs_have_a_learning_rate_at_every_step(schedule, steps):
    """Positive ones, none above the peak."""
    lrs = Run(0.1, steps, schedule).lrs
    assert lrs.shape == (steps,)
    assert np.all((lrs > 0) & (lrs <= 0.1 * (1 + 1e-12)))
