"""Runs: their learning rates, against Keras's schedules, and their losses."""

import keras
import numpy as np
import pytest

from keras_lrfinder import OneCycle
from keras_lrfinder import Run
from keras_lrfinder import Triangular

SCHEDULES = ("constant", "cosine", "one_cycle", "triangular")


def path(schedule, steps):
    """What a schedule of Keras's says, step by step."""
    return [float(schedule(step)) for step in range(steps)]


@pytest.mark.parametrize("steps", [4, 40, 100, 500])
def test_cycles_are_the_schedules_of_the_package(steps):
    """`OneCycle` by default; `Triangular`, base a fourth, two cycles."""
    for name, schedule in (
        ("one_cycle", OneCycle(0.2, steps)),
        ("triangular", Triangular(0.05, 0.2, steps // 4)),
    ):
        expected = path(schedule, steps)
        np.testing.assert_allclose(Run(0.2, steps, name).lrs, expected, 1e-4)


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


LOSSES = [4.0, 3.0, 2.0, 1.0]


def test_a_run_is_judged_where_it_stands_still():
    """By the mean on fresh batches, and on those that it has seen."""
    run = Run(0.1, 4, held_out=2, again=1).ended([*LOSSES, 1.5, 2.5, 0.5])
    assert run.lrs.tolist() == [0.1] * 4 + [0.0] * 3
    assert (run.tail, run.held_out_loss, run.again_loss) == (1.0, 2.0, 0.5)
    assert run.final_loss == 2.0
    assert run.blew_up is False


def test_the_untrained_model_is_a_run_without_steps():
    """It has nothing but what judges it."""
    run = Run(0.0, 0, held_out=2).ended([1.0, 3.0])
    assert (run.tail, run.held_out_loss, run.final_loss) == (None, 2.0, 2.0)


@pytest.mark.parametrize("came", [0, 3, 4, 5])
def test_what_was_not_measured_is_none(came):
    """Of a run that ended early, or of one without held-out batches."""
    run = Run(0.1, 4, held_out=2)
    assert run.final_loss is run.blew_up is None  # still to be made
    run = run.ended([*LOSSES, 1.5][:came])
    assert run.held_out_loss is run.again_loss is None
    assert run.final_loss == run.tail == [None, 0, 0, 2.0, 1.0, 1.0][came]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 2, 5])
def test_a_loss_that_is_not_finite_is_a_run_that_blew_up(bad, at):
    """Wherever it stands; the final loss is NaN then."""
    losses = [*LOSSES, 1.5, 2.5]
    losses[at] = bad
    run = Run(0.1, 4, held_out=2).ended(losses)
    assert run.blew_up is True
    assert np.isnan(run.final_loss)


def test_a_run_says_in_one_line_what_it_is():
    """Not with hundreds of numbers."""
    text = repr(Run(0.1, 60).ended(np.ones(60)))
    assert text.startswith("Run(lr=0.1, steps=60, schedule='constant'")
    assert len(text) < 100
