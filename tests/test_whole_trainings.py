"""The training that follows, tried at several learning rates."""

import dataclasses
import math

import numpy as np
import pytest

from keras_lrfinder import Curve
from keras_lrfinder import suggest
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probes import Climb
from keras_lrfinder.analysis.schedule_factors import shift
from keras_lrfinder.analysis.whole_trainings import MOST
from keras_lrfinder.analysis.whole_trainings import WholeTrainings

STEPS = 500


def curve(**fields):
    """A ramp with a clear fall, and a rise after it."""
    x = np.linspace(-7.0, 1.0, 100)
    losses = 0.2 + 0.8 / (1 + np.exp(3 * (x + 3))) + np.exp(4 * (x + 0.3))
    known = {"steps": 100, "optimizer": "adam", **fields}
    return Curve(lrs=10**x, losses=losses, **known)


def ran(
    held_out, schedule="constant", most=MOST, checked=True, probed=None, of=None
):
    """Probes and trainings, of which the latter end with `held_out(x)`.

    `x` is log10 of the learning rate, `probed` what probes end with.
    """
    of = of or curve()
    made = WholeTrainings(of, suggest(of), schedule, STEPS, most)
    while runs := made.next_runs():
        for run in runs:
            x = math.log10(run.lr)
            short = run.steps == PROBE_STEPS
            loss = (probed or bowl(-3.0))(x) if short else held_out(x)
            falls = np.linspace(1.0, loss, run.steps)
            held = (loss, 1.0, "reserved samples", 256) if checked else ()
            made.add(Probe(run.lr, falls, *held))
    return made


def bowl(best, steep=0.1):
    """Held-out losses that are lowest at 10**best."""
    return lambda x: 0.2 + steep * abs(x - best)


def trained(made):
    """log10 of the learning rates of the trainings, in their order."""
    runs = [p for p in made.probes if len(p.losses) == STEPS]
    return np.log10([run.lr for run in runs])


def test_first_training_takes_what_probes_say():
    """For that schedule and length."""
    of = curve()
    climb = Climb(of, suggest(of))
    while runs := climb.next_runs():
        for run in runs:
            loss = bowl(-3.0)(math.log10(run.lr))
            falls = np.linspace(1.0, loss, run.steps)
            climb.add(Probe(run.lr, falls, loss, 1.0, "reserved", 256))
    for schedule in ("constant", "one_cycle"):
        said = climb.suggestion().lr_for(schedule, STEPS)
        first = trained(ran(bowl(-3.0), schedule))[0]
        assert 10.0**first == pytest.approx(said)


def test_trainings_go_up_while_that_ends_lower():
    """Half a decade each."""
    x = trained(ran(bowl(3.0)))
    np.testing.assert_allclose(np.diff(x), 0.5)
    assert len(x) == MOST


def test_trainings_go_down_where_higher_ends_higher():
    """From the lowest one so far."""
    x = trained(ran(bowl(-9.0)))
    np.testing.assert_allclose(x - x[0], [0.0, 0.5, -0.5, -1.0, -1.5])


def test_trainings_end_between_neighbours_of_the_best():
    """Both gaps beside it are halved, and no further."""
    best = trained(ran(bowl(-3.0)))[0]
    x = trained(ran(bowl(best + 0.01)))
    np.testing.assert_allclose(x - x[0], [0.0, 0.5, -0.5, 0.25, -0.25])


@pytest.mark.parametrize("most", [3, 4, 5])
def test_no_more_trainings_than_there_may_be(most):
    """However far away the best one is."""
    assert len(trained(ran(bowl(3.0), most=most))) == most


def test_answer_is_the_minimum_of_the_formula():
    """Found on a fine grid, with a line from training to training."""
    made = ran(bowl(-1.6, steep=0.05))
    x = np.sort(trained(made))
    held = bowl(-1.6, steep=0.05)(x)
    fine = np.linspace(x[0], x[-1], 200_001)
    lost = np.interp(fine, x, np.log(held / held.min()))
    total = lost + 0.2 * (fine - trained(made)[0]) ** 2
    expected = fine[total.argmin()]
    assert np.log10(made.suggestion().lr) == pytest.approx(expected, abs=1e-4)


def test_flat_landscape_leaves_what_probes_say():
    """Which of a few equal ones ended lowest is chance."""
    noise = np.random.default_rng(0)
    made = ran(lambda x: 0.2 + 1e-4 * noise.random())
    moved = np.log10(made.suggestion().lr) - trained(made)[0]
    assert abs(moved) < 0.01
    assert made.suggestion().confidence == "low"


def test_steep_landscape_is_followed_all_the_way():
    """Two decades of it move the answer to the highest one tried."""
    made = ran(lambda x: 0.9 * 10.0 ** (-0.9 * (x + 4.0)))
    assert np.log10(made.suggestion().lr) == pytest.approx(trained(made)[-1])


def test_losses_below_zero_are_compared_by_their_fall():
    """A likelihood that falls to -3 is no division by zero."""
    best = trained(ran(bowl(-3.0)))[0] + 0.5
    said = ran(lambda x: -3.0 + 2.0 * abs(x - best)).suggestion()
    assert np.log10(said.lr) == pytest.approx(best, abs=0.15)


def test_what_blew_up_bounds_the_answer():
    """By three eighths of a decade, however low the others end."""
    first = trained(ran(bowl(-3.0)))[0]

    def held_out(x):
        return math.nan if x > first + 0.4 else 1.0 - 0.3 * 10.0 ** (x - first)

    said = ran(held_out).suggestion()
    assert np.log10(said.lr) <= first + 0.5 - 0.375 + 1e-9
    assert np.log10(said.high) <= first + 0.5 + 1e-9


def test_trainings_that_all_blow_up_are_refused():
    """They went down, and no learning rate was found that stands them."""
    made = ran(lambda x: math.nan)
    assert made.suggestion().lr is None
    assert (
        "500 steps blew up at every learning rate" in made.suggestion().reason
    )
    x = trained(made)
    np.testing.assert_allclose(x - x[0], -0.5 * np.arange(MOST))


def test_trainings_that_learn_nothing_leave_what_probes_said():
    """With low confidence, and that is said."""
    said = ran(lambda x: 1.0).suggestion()
    assert said.confidence == "low"
    assert "500 steps did not lower the loss" in said.reason
    assert (said.schedule, said.total_steps) == ("constant", None)


def test_answer_is_for_the_training_that_was_tried():
    """Its schedule and length go with it; `lr_for` begins there."""
    said = ran(bowl(-2.6), "cosine").suggestion()
    assert (said.schedule, said.total_steps) == ("cosine", STEPS)
    ratio = said.lr_for("constant", 2000) / said.lr
    expected = shift("adam", "constant", 2000) - shift("adam", "cosine", STEPS)
    assert np.log10(ratio) == pytest.approx(expected)


def test_best_between_others_is_sure():
    """At an end of what was tried it is not."""
    assert ran(bowl(-2.6)).suggestion().confidence == "high"
    assert ran(bowl(3.0)).suggestion().confidence == "low"


@pytest.mark.parametrize(("fall", "level"), [(0.1, "low"), (0.3, "high")])
def test_little_fall_is_not_sure_where_probes_were_not(fall, level):
    """Random labels take off a tenth: what is random is unlearnt."""
    made = ran(
        lambda x: 1.0 - fall * max(0.0, 1.0 - (x + 3.0) ** 2),
        probed=lambda x: 0.99,
    )
    assert made.suggestion().confidence == level


def test_trainings_that_end_above_a_probe_are_not_sure():
    """Longer training only memorises there, as of random labels."""
    said = ran(bowl(-2.6), probed=lambda x: 0.1).suggestion()
    assert said.confidence == "low"
    assert said.reason.endswith("a probe of 60 steps ended lower: stop early")


def test_without_held_out_samples_a_fourth_of_the_way_is_gone():
    """Where samples are met twice, what fell may be memorised."""
    moves = []
    for epoch in (1000, 100):
        made = ran(bowl(-1.6), checked=False, of=curve(steps_per_epoch=epoch))
        said = made.suggestion()
        assert said.confidence == "low"
        moves.append(np.log10(said.lr) - trained(made)[0])
    assert moves[1] == pytest.approx(moves[0] / 4.0)


def test_trainings_find_what_ramp_and_probes_cannot():
    """From a flat ramp, and probes that learn nothing."""
    losses = 1.0 + 0.01 * np.random.default_rng(0).normal(size=100)
    flat = dataclasses.replace(curve(), losses=losses, end_lr=10.0)
    said = ran(
        lambda x: 0.3 + 0.2 * abs(x + 3.0), probed=lambda x: 1.0, of=flat
    ).suggestion()
    assert said.low < said.lr < said.high
    assert said.reason.startswith("neither ramp nor probes gave an answer. Wh")
