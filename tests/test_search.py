"""The search for a learning rate: ladders, trials, and their reading."""

import math

import numpy as np
import pytest

from benchmarks.outcome import schedule_factors
from benchmarks.outcome import search
from benchmarks.outcome.search import Trial


def loss(lr, best=-2.0):
    """A bowl in log(LR)."""
    return 0.2 + (math.log10(lr) - best) ** 2 / 4


def found(plan, centre, best):
    """The trials of a whole search on the bowl."""
    trials = []
    while todo := search.next_trials(plan, centre, trials, 2.0):
        trials += [
            Trial(lr, n, loss(lr, best), loss(lr, best)) for lr, n in todo
        ]
    return trials


@pytest.mark.parametrize("plan", search.LADDERS[1:3], ids=lambda p: p.name)
def test_ladder_keeps_its_budget(plan):
    """Ramp and trials together take no more than the ladder's name says."""
    assert search.steps_of(plan) <= int(plan.name)


def test_larger_budget_gets_a_longer_ladder():
    """Each named budget is the first one that its ladder fits."""
    names = [search.ladder(b).name for b in (100, 299, 300, 1200, 6000)]
    assert names == ["ramp", "ramp", "300", "1200", "grid"]


def test_reading_goes_to_the_best_of_the_bowl():
    """The last rung's reading lies within half a spacing of the best."""
    plan = search.ladder(1200)
    trials = found(plan, -2.2, -2.0)
    assert abs(search.reading(plan, -2.2, trials, 2.0) + 2.0) <= 0.25


def test_better_trials_go_on():
    """The second rung runs the first one's two best learning rates."""
    plan = search.ladder(300)
    trials = found(plan, -2.0, -2.0)
    second = [t.lr for t in trials if t.until == 80]
    np.testing.assert_allclose(np.log10(second), [-2.25, -1.75])


def test_lost_trial_counts_as_not_trained():
    """NaN is no better than the loss before training."""
    plan = search.ladder(300)
    trials = found(plan, -2.0, -2.0)
    highest = max(t.lr for t in trials)
    trials = [
        t if t.lr < highest else Trial(t.lr, t.until, math.nan, math.nan)
        for t in trials
    ]
    assert math.isfinite(search.reading(plan, -2.0, trials, 2.0))


def test_moved_landscape_moves_the_answer_by_half_at_least():
    """No slope of the ramp's rule lies below a half."""
    assert min(c[0] for c in search.CONSTANTS.ramp.values()) >= 0.5


def test_constant_500_is_the_reference():
    """Nothing is added for the training that all is measured against."""
    for kind in schedule_factors.KINDS:
        assert schedule_factors.shift(kind, "constant", 500) == 0.0


def test_length_is_not_extrapolated():
    """Beyond what was measured the factor stays."""
    at = [schedule_factors.shift("adam", "cosine", n) for n in (2000, 9000)]
    assert at[0] == at[1]
