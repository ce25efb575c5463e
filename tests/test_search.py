"""The longer search: its trials, and what it makes of them."""

import dataclasses
import math

import numpy as np
import pytest

from keras_lrfinder import Curve
from keras_lrfinder import StopReason
from keras_lrfinder import suggest
from keras_lrfinder.analysis import schedule_factors
from keras_lrfinder.analysis import search
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probes import MOST_PROBES
from keras_lrfinder.analysis.probes import Climb
from keras_lrfinder.analysis.search import TRIAL_STEPS
from keras_lrfinder.analysis.search import TRIALS
from keras_lrfinder.analysis.search import Search


def test_trials_lie_evenly_round_what_probes_answered():
    """Three of them, three quarters of a decade apart."""
    made = ran(fallen_curve(), bowl(-3.0))
    decades = np.log10([trial.lr for trial in made.probes[-TRIALS:]])
    np.testing.assert_allclose(decades - made.centre, [-0.75, 0.0, 0.75])


def test_probes_are_followed_by_longer_runs():
    """As many and as long as the budget of `lr_find` is reckoned by."""
    made = ran(fallen_curve(), bowl(-3.0))
    lengths = [len(probe.losses) for probe in made.probes]
    probes, trials = [PROBE_STEPS] * MOST_PROBES, [TRIAL_STEPS] * TRIALS
    assert lengths == probes + trials


def test_probes_of_a_search_are_those_without_one():
    """A larger budget goes on where the usual one ends."""
    made, curve = ran(fallen_curve(), bowl(-3.0)), fallen_curve()
    climb = Climb(curve, suggest(curve))
    while runs := climb.next_runs():
        for lr, steps, _ in runs:
            climb.add(run(lr, steps, bowl(-3.0)))
    usual = [probe.lr for probe in climb.probes]
    assert [probe.lr for probe in made.probes[:-TRIALS]] == usual


@pytest.mark.parametrize("kind", ["adam", "lion"])
def test_answer_is_that_of_the_formula(kind):
    """Centre, what trials like, trust, offset and a middle length."""
    curve = dataclasses.replace(fallen_curve(), optimizer=kind)
    made = ran(curve, bowl(-2.6))
    constants = search.CONSTANTS
    trials = made.probes[-TRIALS:]
    x = np.log10([t.lr for t in trials])
    loss = np.array([t.held_out for t in trials])
    # Equal steps: the vertex of the parabola by its differences.
    before, after = np.diff(loss)
    liked = x[1] - 0.75 * (before + after) / (after - before) / 2
    expected = x[1] + constants.trust * (liked - x[1])
    expected += constants.offset[kind]
    expected += schedule_factors.shift(kind, "constant", 1000)
    assert np.log10(made.suggestion().lr) == pytest.approx(expected)


def test_moved_landscape_moves_the_answer():
    """By the trials' weight: where one alone learns, it goes beyond it."""
    answers = []
    for learns in (-1, 1):
        only = 10.0 ** (ran(fallen_curve(), bowl(-3.0)).centre + 0.75 * learns)

        def held_out(lr, steps, only=only):
            if steps == PROBE_STEPS:
                return bowl(-3.0)(lr, steps)
            return 0.2 if math.isclose(lr, only) else 1.0

        made = ran(fallen_curve(), held_out)
        answers.append(np.log10(made.suggestion().lr))
    between = 1.5 + 0.2 + 0.4
    expected = search.CONSTANTS.trust * between
    assert answers[1] - answers[0] == pytest.approx(expected, rel=1e-2)


def test_one_trial_that_blew_up_bounds_the_answer():
    """It stays half a step of probes below it."""
    falling = ran(fallen_curve(), lambda lr, n: 1.0 - 0.1 * lr**0.1)
    top = max(p.lr for p in falling.probes)

    def held_out(lr, steps):
        long = steps == TRIAL_STEPS
        return math.nan if long and lr > top / 10 else 1.0 - 0.3 * lr**0.1

    found = ran(fallen_curve(), held_out)
    lost = min(p.lr for p in found.probes if not math.isfinite(p.held_out))
    said = found.suggestion()
    assert np.log10(lost / said.lr) >= 0.375 - 1e-9
    assert said.high <= lost * (1 + 1e-9)
    assert f"training blew up at {lost:.1e}" in said.reason


def test_one_probe_that_blew_up_bounds_the_range():
    """Even where no trial blows up."""

    def held_out(lr, steps):
        lost = steps == PROBE_STEPS and lr > 2e-3
        return math.nan if lost else 1.0 - 0.3 * lr**0.1

    made = ran(fallen_curve(), held_out)
    lost = [p.lr for p in made.probes if not math.isfinite(p.held_out)]
    assert made.suggestion().high <= min(lost) * (1 + 1e-9)


def test_what_blew_up_bounds_an_answer_that_trials_do_not_support():
    """Those that did not blow up learnt nothing; the others did."""

    def held_out(lr, steps):
        if steps == PROBE_STEPS:
            return bowl(-3.0)(lr, steps)
        return math.nan if lr > 1e-3 else 1.0

    made = ran(fallen_curve(), held_out)
    lost = min(p.lr for p in made.probes if not math.isfinite(p.held_out))
    said = made.suggestion()
    assert np.log10(lost / said.lr) >= 0.375 - 1e-9
    assert said.low < said.lr < said.high <= lost * (1 + 1e-9)
    assert said.confidence == "low"


def test_no_trials_where_every_probe_blew_up():
    """Longer runs at what blows up in sixty steps show nothing."""
    made = ran(fallen_curve(), lambda lr, n: math.nan)
    assert {len(p.losses) for p in made.probes} == {PROBE_STEPS}
    assert made.suggestion().lr is None


def test_trials_that_learn_nothing_leave_low_confidence():
    """What probes said stays, and that is said."""

    def held_out(lr, steps):
        return bowl(-3.0)(lr, steps) if steps == PROBE_STEPS else 1.0

    made = ran(fallen_curve(), held_out)
    climb = Climb(fallen_curve(), suggest(fallen_curve()))
    for probe in made.probes[:-3]:
        climb.add(probe)
    said = made.suggestion()
    assert said.lr == climb.suggestion().lr
    assert said.confidence == "low"
    assert "240 steps did not lower the loss" in said.reason


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_what_trials_memorise_lowers_the_answer(share):
    """By the caution; from a half on in full."""
    answers = []
    for memorised in (0.0, share):
        made = Search(fallen_curve(), suggest(fallen_curve()))
        while runs := made.next_runs():
            for lr, steps, _ in runs:
                one = run(lr, steps, bowl(-3.0))
                if steps == TRIAL_STEPS:
                    fall = (1.0 - one.held_out) / (1.0 - memorised)
                    one = dataclasses.replace(
                        one, trained=1.0 - fall, trained_before=1.0
                    )
                made.add(one)
        answers.append(np.log10(made.suggestion().lr))
    lower = search.CONSTANTS.caution * min(1.0, 2.0 * share)
    assert answers[0] - answers[1] == pytest.approx(lower)


def test_trials_without_held_out_samples_count_for_a_fourth():
    """Where they meet samples twice, all that fell may be memorised."""
    # A generator has no epoch: of it there is what the ramp took.
    middle = schedule_factors.shift("adam", "constant", 1000)
    moves = []
    for epoch in (1000, 100, None):
        curve = dataclasses.replace(fallen_curve(), steps_per_epoch=epoch)
        made = ran(curve, bowl(-2.6), checked=False)
        moves.append(np.log10(made.suggestion().lr) - middle - made.centre)
    np.testing.assert_allclose(moves[1:], moves[0] / 4.0)


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


def bowl(best):
    """Held-out losses that are lowest at 10**best."""
    return lambda lr, steps: 0.2 + abs(math.log10(lr) - best) / 9


def run(lr, steps, held_out, checked=True):
    """A run that ends with `held_out(lr, steps)`."""
    loss = held_out(lr, steps)
    falls = np.linspace(1.0, loss, steps)
    held = (loss, 1.0, "reserved", 256) if checked else ()
    return Probe(lr, falls, *held)


def ran(curve, held_out, checked=True):
    """A whole search, whose runs end with `held_out(lr, steps)`."""
    made = Search(curve, suggest(curve))
    while runs := made.next_runs():
        for lr, steps, _ in runs:
            made.add(run(lr, steps, held_out, checked))
    return made


def searched(curve, held_out):
    """What a search says whose runs end with `held_out(lr)`."""
    return ran(curve, lambda lr, steps: held_out(lr)).suggestion()


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
    [(middle, _, _)] = Search(curve, suggest(curve)).next_runs()
    found = searched(curve, lambda lr: 0.5 + 0.2 * abs(np.log10(lr / middle)))
    assert found.confidence == "low"
    assert abs(np.log10(found.lr / middle)) < 0.75
    assert "the ramp alone gave no answer" in found.reason


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
    told = found.reason.partition("240 steps at")[2]
    assert "what they learnt is too little to judge by" in told


def test_trials_can_answer_where_neither_ramp_nor_probes_can():
    """Then the reason is theirs alone."""

    def held_out(lr, steps):
        if steps == PROBE_STEPS:
            return 1.0
        return 0.3 + 0.2 * abs(math.log10(lr) + 3.0)

    said = ran(flat_curve(), held_out).suggestion()
    assert said.confidence == "low"
    assert said.low < said.lr < said.high
    assert said.reason.startswith("neither ramp nor probes gave an answer. 240")


def test_search_without_a_curve_runs_nothing():
    """Where the ramp has no losses there is nothing to search round."""
    curve = Curve(
        lrs=[1e-7],
        losses=[math.nan],
        steps=100,
        end_lr=10.0,
        stop_reason=StopReason.NOT_FINITE,
    )
    assert not Search(curve, suggest(curve)).next_runs()


def test_trials_that_all_blow_up_are_refused():
    """What blows up later is no learning rate, though probes learnt there."""

    def held_out(lr, steps):
        return bowl(-3.0)(lr, steps) if steps == PROBE_STEPS else math.nan

    found = ran(fallen_curve(), held_out).suggestion()
    assert found.lr is None
    assert "240 steps blew up at every learning rate tried" in found.reason
