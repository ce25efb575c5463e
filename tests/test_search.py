"""The search for a learning rate: ladders, trials, and their reading."""

import math

import numpy as np
import pytest

from keras_lrfinder.analysis import schedule_factors
from keras_lrfinder.analysis import search
from keras_lrfinder.analysis.search import Trial

SHORT, LONG = search.LADDERS


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


@pytest.mark.parametrize("plan", search.LADDERS, ids=lambda p: p.name)
def test_ladder_keeps_its_budget(plan):
    """Ramp and trials together take no more than the ladder's name says."""
    assert 100 + plan.steps <= int(plan.name)
    assert sum(plan.lengths) == plan.steps


def test_larger_budget_gets_a_longer_ladder():
    """Below a thousand steps there are probes only."""
    found = [search.ladder(b, ramp=100) for b in (300, 1059, 1060, 2260, 9999)]
    assert found == [None, None, SHORT, LONG, LONG]


def test_reading_goes_to_the_best_of_the_bowl():
    """The last rung's reading lies within half a spacing of the best."""
    trials = found(SHORT, -2.2, -2.0)
    assert abs(search.reading(SHORT, -2.2, trials, 2.0) + 2.0) <= 0.25


def test_better_trials_go_on():
    """The second rung runs the first one's two best learning rates."""
    trials = found(SHORT, -2.0, -2.0)
    second = [t.lr for t in trials if t.until == 240]
    np.testing.assert_allclose(np.log10(second), [-2.25, -1.75])


def test_lost_trial_counts_as_not_trained():
    """What blew up is ranked behind everything that learnt."""
    first = [lr for lr, _ in search.next_trials(SHORT, -2.0, [], 2.0)]
    trials = [Trial(lr, 80, 1.0, 1.0) for lr in first]
    trials[-1] = Trial(first[-1], 80, math.nan, math.inf)
    trials[0] = Trial(first[0], 80, 0.5, 0.5)
    on = [lr for lr, _ in search.next_trials(SHORT, -2.0, trials, 2.0)]
    assert first[0] in on
    assert first[-1] not in on


def test_best_at_an_end_is_told():
    """A bowl whose bottom is outside has its best trial at an end."""
    assert search.at_end(SHORT, found(SHORT, -2.0, -5.0), 9.0)
    assert not search.at_end(SHORT, found(SHORT, -2.0, -2.0), 9.0)


@pytest.mark.parametrize("plan", search.LADDERS, ids=lambda p: p.name)
@pytest.mark.parametrize("kind", schedule_factors.KINDS)
def test_moved_landscape_moves_the_answer(plan, kind):
    """Trials move the answer by at least 0.4 decades for each of theirs."""
    answers = [search.answer(kind, plan.name, -3.0, x) for x in (-3.0, -2.0)]
    assert answers[1] - answers[0] >= 0.4 - 1e-9


@pytest.mark.parametrize("kind", schedule_factors.KINDS)
def test_constant_500_is_the_reference(kind):
    """Nothing is added for the training that all is measured against."""
    assert schedule_factors.shift(kind, "constant", 500) == 0.0


def test_length_is_not_extrapolated():
    """Beyond what was measured the factor stays."""
    at = [schedule_factors.shift("adam", "cosine", n) for n in (2000, 9000)]
    assert at[0] == at[1]


def test_length_in_between_follows_its_logarithm():
    """At 1,000 steps half of what 2,000 steps add is added."""
    at = [schedule_factors.shift("lion", "constant", n) for n in (1000, 2000)]
    assert at[0] == pytest.approx(at[1] / 2.0)
