"""The search for a learning rate: ladders, trials, and their reading."""

import dataclasses
import math

import numpy as np
import pytest

from keras_lrfinder import Curve
from keras_lrfinder import StopReason
from keras_lrfinder import suggest
from keras_lrfinder.analysis import schedule_factors
from keras_lrfinder.analysis import search
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probes import Climb
from keras_lrfinder.analysis.search import Trial
from keras_lrfinder.analysis.search_answer import Search

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
    at = [schedule_factors.shift("adam", "cosine", n) for n in (80_000, 100)]
    table = schedule_factors.FACTORS["adam"]
    assert at == [table["cosine 8000"], table["cosine 500"]]


def test_few_batches_make_length_matter_more():
    """By 1.2 decades for each of length and each of an epoch, round 1,000."""
    more = [
        schedule_factors.shift("adam", "constant", n, few=0.5)
        - schedule_factors.shift("adam", "constant", n)
        for n in (1000, 4000, 500)
    ]
    length = np.log10([1.0, 4.0, 0.5])
    np.testing.assert_allclose(more, -1.2 * 0.5 * length, atol=1e-12)


def test_length_in_between_follows_its_logarithm():
    """At 1,000 steps half of what 2,000 steps add is added."""
    at = [schedule_factors.shift("lion", "constant", n) for n in (1000, 2000)]
    assert at[0] == pytest.approx(at[1] / 2.0)


def flat_curve():
    """A ramp that shows noise and no fall."""
    losses = 1.0 + 0.01 * np.random.default_rng(0).normal(size=100)
    return Curve(
        lrs=np.geomspace(1e-7, 10.0, 100),
        losses=losses,
        steps=100,
        end_lr=10.0,
        stop_reason=StopReason.COMPLETED,
        optimizer="adam",
    )


def fallen_curve():
    """A ramp with a clear fall, and a rise after it."""
    x = np.linspace(-7.0, 1.0, 100)
    losses = 0.2 + 0.8 / (1 + np.exp(3 * (x + 3))) + np.exp(4 * (x + 0.3))
    return Curve(lrs=10**x, losses=losses, steps=100, optimizer="adam")


def searched(curve, held_out):
    """What a search says whose trials end with `held_out(lr)`."""
    made = Search(curve, suggest(curve), SHORT)
    while runs := made.next_runs():
        for lr, steps in runs:
            loss = held_out(lr)
            falls = np.linspace(1.0, loss, steps)
            made.add(Probe(lr, falls, loss, 1.0, "reserved", 256), steps)
    return made.suggestion("")


def test_an_answer_knows_how_short_an_epoch_is():
    """That of a ramp, of probes and of a search: `lr_for` goes by it."""
    curve = dataclasses.replace(fallen_curve(), steps_per_epoch=10)
    climb = Climb(curve, suggest(curve))
    climb.add(Probe(1e-3, np.linspace(1.0, 0.2, 60), 0.2, 1.0, "it", 256))
    answers = [
        suggest(curve),
        climb.suggestion(),
        searched(curve, lambda lr: 0.2 + abs(np.log10(lr) + 3) / 9),
    ]
    for said in answers:
        assert said.few == pytest.approx(1.0)
        plain = dataclasses.replace(said, few=0.0).lr_for("constant", 4000)
        ratio = said.lr_for("constant", 4000) / plain
        assert ratio == pytest.approx(4.0**-1.2)


def test_search_can_answer_where_the_ramp_cannot():
    """Held-out losses that fall by half are an answer, of low confidence."""
    curve = flat_curve()
    assert suggest(curve).lr is None
    middle = 10.0 ** (sum(np.log10(lr) for lr in _first(curve)) / 6)
    found = searched(curve, lambda lr: 0.5 + 0.2 * abs(np.log10(lr / middle)))
    assert found.confidence == "low"
    assert abs(np.log10(found.lr / middle)) < 0.75
    assert "the ramp alone gave no answer" in found.reason


def _first(curve):
    return [lr for lr, _ in Search(curve, suggest(curve), SHORT).next_runs()]


def test_search_does_not_outvote_the_ramp_by_noise():
    """Where held-out losses fall by half a percent, there is no answer."""
    rng = np.random.default_rng(1)
    found = searched(flat_curve(), lambda lr: 0.995 + 0.004 * rng.random())
    assert found.lr is None
    assert found.confidence == "none"


def test_search_does_not_take_what_happens_at_any_rate():
    """Where all trials end alike the learning rate was not what helped."""
    found = searched(flat_curve(), lambda lr: 0.7)
    assert found.lr is None
    assert "too little to judge by" in found.reason


def test_search_without_a_curve_runs_nothing():
    """Where the ramp has no losses there is nothing to search round."""
    curve = Curve(
        lrs=[1e-7],
        losses=[math.nan],
        steps=100,
        end_lr=10.0,
        stop_reason=StopReason.NOT_FINITE,
    )
    assert not Search(curve, suggest(curve), SHORT).next_runs()


def test_trials_that_all_blow_up_are_refused():
    """Every learning rate lost is no learning rate, with what to do."""
    lrs = np.geomspace(1e-7, 10.0, 100)
    losses = 1.0 / (1.0 + lrs / 1e-3) + np.where(lrs > 1.0, 9.0, 0.0)
    curve = dataclasses.replace(flat_curve(), lrs=lrs, losses=losses)
    assert suggest(curve).lr is not None
    found = searched(curve, lambda lr: math.nan)
    assert found.lr is None
    assert "blew up at every learning rate" in found.reason
