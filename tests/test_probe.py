"""What probes are asked for, and what is made of them."""

import dataclasses

import numpy as np
import pytest

from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probes import MOST_PROBES
from keras_lrfinder.analysis.probes import READINGS
from keras_lrfinder.analysis.probes import Climb
from keras_lrfinder.analysis.range_test import RangeTest
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import suggest

FIRST = 2.3


def ramp(optimizer="adam", **settings):
    """A usual curve that starts at a loss of 2.3."""
    test = RangeTest(1e-7, 10.0, 100, optimizer=optimizer, **settings)
    while True:
        x = np.log10(test.lr)
        loss = FIRST - 1.8 / (1 + np.exp(-3 * (x + 2.5)))
        if not test.record(loss + np.exp(4 * (x + 0.3))):
            return test.curve


def probe(lr, reached, held_out=None, steps=PROBE_STEPS):
    """A probe whose loss falls to `reached`, or ends early in a NaN."""
    losses = np.linspace(FIRST, reached, steps)
    losses[-(steps // 4) :] = reached
    before = None if held_out is None else FIRST
    seen = None if held_out is None else reached
    return Probe(
        lr,
        losses,
        held_out,
        before,
        "reserved samples",
        trained=seen,
        trained_before=before,
    )


def blown(lr):
    """A probe that became NaN in its tenth step."""
    return Probe(lr, np.r_[np.full(9, FIRST), np.nan], np.nan, FIRST, "it")


def after(curve, suggestion, probes):
    """A climb that has had these probes."""
    asked = Climb(curve, suggestion)
    for one in probes:
        asked.add(one)
    return asked


def next_lr(curve, suggestion, probes):
    """Where the next probe is to be; None: nowhere."""
    runs = after(curve, suggestion, probes).next_runs()
    return runs[0][0] if runs else None


def decide(curve, suggestion, probes, **said):
    """What ramp and probes say together."""
    return after(curve, suggestion, probes).suggestion(**said)


def climb(curve, suggestion, level):
    """Run probes until no more are wanted; `level`: LR to held-out loss."""
    asked = Climb(curve, suggestion)
    while runs := asked.next_runs():
        [(lr, steps, _)] = runs
        assert steps == PROBE_STEPS
        loss = level(lr)
        asked.add(probe(lr, loss, loss) if np.isfinite(loss) else blown(lr))
    return asked.probes


def test_ramp_and_probes_stay_within_300_steps():
    """The default cost: a ramp of 100 steps and all probes."""
    assert 100 + MOST_PROBES * PROBE_STEPS <= 300


def test_first_probe_is_the_suggestion():
    """What would be trained with is what is tried first."""
    curve = ramp()
    found = suggest(curve)
    assert next_lr(curve, found, []) == found.lr


def test_probes_climb_while_it_gets_better():
    """Higher and higher, and no more than allowed."""
    curve = ramp()
    probes = climb(curve, suggest(curve), lambda lr: FIRST - lr**0.1)
    lrs = [p.lr for p in probes]
    assert len(lrs) == MOST_PROBES
    assert lrs == sorted(lrs)


def test_probes_go_lower_once_higher_is_worse():
    """The third looks on the other side."""
    curve = ramp()
    found = suggest(curve)
    probes = climb(curve, found, lambda lr: 1.0 + abs(np.log10(lr / found.lr)))
    assert probes[1].lr > found.lr > probes[2].lr


def test_probes_back_off_at_once_when_the_first_blows_up():
    """No higher one is tried then."""
    curve = ramp()
    found = suggest(curve)
    probes = climb(curve, found, lambda lr: np.nan if lr >= found.lr else 1.5)
    assert [p.lr < found.lr for p in probes] == [False, True, True]
    last = decide(curve, found, probes)
    assert last.lr < last.high < found.lr * 1.01
    assert "blew up" in last.reason


def test_slow_learning_is_no_blow_up():
    """A first probe that has not moved yet is followed by a higher one."""
    curve = ramp()
    found = suggest(curve)
    first = probe(found.lr, FIRST * 1.01, FIRST)
    assert next_lr(curve, found, [first]) > found.lr


def test_order_of_probes_does_not_matter():
    """They are read by learning rate."""
    curve = ramp()
    found = suggest(curve)
    probes = climb(curve, found, lambda lr: 1.0 + lr)
    assert decide(curve, found, probes) == decide(curve, found, probes[::-1])


def test_memorising_lowers_the_answer():
    """The same training losses with a held-out loss that stays high."""
    curve = ramp()
    found = suggest(curve)
    lrs = [found.lr * k for k in (1, 5, 25)]
    sound = [probe(lr, 1.0, 1.05) for lr in lrs]
    false = [probe(lr, 1.0, 2.0) for lr in lrs]
    high, low = (decide(curve, found, p) for p in (sound, false))
    # 4 % and 77 % of the fall: the latter counts in full.
    caution = READINGS["adam"].caution * (1.0 - 2.0 * 0.05 / 1.3)
    assert np.log10(high.lr / low.lr) == pytest.approx(caution)
    assert low.lr < 0.75 * high.lr
    assert "memorised" in low.reason
    assert "holds on reserved samples" in high.reason


def test_agreement_is_sure_and_disagreement_is_not():
    """Probes that want another decade than the ramp take its confidence."""
    curve = ramp()
    found = suggest(curve)
    near = [probe(found.lr * k, 1.0, 1.0) for k in (1, 5, 25)]
    far = [
        probe(found.lr * k, level, level)
        for k, level in ((1, 2.2), (30, 2.0), (900, 0.5))
    ]
    assert decide(curve, found, near).confidence == "high"
    assert decide(curve, found, far).confidence == "low"


def test_without_held_out_samples_training_losses_are_read():
    """They cannot tell memorising: the answer is not sure, and says why."""
    curve = ramp()
    found = suggest(curve)
    probes = [probe(found.lr, 2.0), probe(30 * found.lr, 0.1)]
    last = decide(curve, found, probes, unchecked="there are three")
    assert found.lr < last.lr < 30 * found.lr
    assert last.confidence == "low"
    assert "could not be checked: there are three" in last.reason


def test_what_is_met_once_is_not_memorised():
    """Without a loss on samples met twice, a gap is that of the samples."""
    curve = ramp()
    found = suggest(curve)
    gap = dataclasses.replace(
        probe(found.lr, 1.0, 2.0), trained=None, trained_before=None
    )
    assert "memorised" not in decide(curve, found, [gap]).reason


@pytest.mark.parametrize("samples", [3, 49])
def test_few_held_out_samples_make_no_sure_answer(samples):
    """Their loss is a matter of chance."""
    curve = ramp()
    found = suggest(curve)
    one = probe(found.lr, 1.0, 1.0)
    assert decide(curve, found, [one]).confidence == "high"
    few = dataclasses.replace(one, samples=samples)
    assert decide(curve, found, [few]).confidence == "low"


def test_where_nothing_moves_the_next_probe_is_far_above():
    """One and a half decades, up to the end of the ramp."""
    curve = ramp()
    found = suggest(curve)
    still = probe(found.lr, FIRST - 1e-4, FIRST - 1e-4)
    up = next_lr(curve, found, [still])
    assert up == pytest.approx(min(found.lr * 10**1.5, curve.end_lr))
    end = probe(curve.end_lr, FIRST - 1e-4, FIRST - 1e-4)
    assert next_lr(curve, found, [still, end]) is None


def test_all_blown_up_is_a_refusal():
    """No number from probes that all failed."""
    curve = ramp()
    found = suggest(curve)
    probes = climb(curve, found, lambda lr: np.nan)
    last = decide(curve, found, probes)
    assert last.lr is None
    assert last.confidence == "none"
    assert "every learning rate tried" in last.reason


@pytest.mark.parametrize(
    ("reached", "held_out", "words"),
    [(FIRST, FIRST, "did not lower"), (1.0, FIRST, "did not improve")],
)
def test_probes_that_say_nothing(reached, held_out, words):
    """The ramp's answer stays, with low confidence."""
    curve = ramp()
    found = suggest(curve)
    last = decide(curve, found, [probe(found.lr, reached, held_out)])
    assert last.lr == pytest.approx(found.lr)
    assert last.confidence == "low"
    assert words in last.reason


def shallow():
    """A curve that falls by half a percent before it blows up."""
    test = RangeTest(1e-7, 10.0, 100, optimizer="adam")
    while True:
        x = np.log10(test.lr)
        loss = FIRST * (1 - 0.005 / (1 + np.exp(-3 * (x + 2.5))))
        if not test.record(loss + np.exp(4 * (x + 0.3))):
            return test.curve


def test_neither_ramp_nor_probes_learn_anything():
    """A fall of nothing, confirmed by no probe, is no answer."""
    curve = shallow()
    found = suggest(curve)
    assert found.lr is not None
    probes = climb(curve, found, lambda lr: FIRST)
    last = decide(curve, found, probes)
    assert (last.lr, last.confidence) == (None, "none")
    assert "belong together" in last.reason


def test_a_shallow_fall_that_probes_confirm_is_an_answer():
    """Where 60 steps at one learning rate do lower the loss."""
    curve = shallow()
    found = suggest(curve)
    probes = climb(curve, found, lambda lr: 0.8 * FIRST)
    assert decide(curve, found, probes).lr is not None


def refused():
    """What is said of a ramp that showed nothing."""
    return Suggestion.refused("default", "the loss never fell")


def test_no_probes_change_nothing():
    """What the ramp said stays, be it an answer or none."""
    for found in (refused(), suggest(ramp())):
        assert decide(ramp(), found, []) is found


def test_too_short_a_ramp_is_not_probed():
    """It does not say where."""
    test = RangeTest(1e-7, 10.0, 100, optimizer="adam")
    for _ in range(7):
        test.record(FIRST)
    assert next_lr(test.curve, suggest(test.curve), []) is None


def test_probes_find_what_a_ramp_did_not_show():
    """A model that visibly learns gets an answer, with low confidence."""
    curve = ramp()
    best = suggest(curve).lr
    probes = climb(
        curve, refused(), lambda lr: 1.0 + 0.5 * abs(np.log10(lr / best))
    )
    assert probes[0].lr == best
    last = decide(curve, refused(), probes)
    assert best / 5 < last.lr < 5 * best
    assert (last.confidence, last.kind) == ("low", "adam")
    assert "the ramp alone gave no answer (the loss never fell)" in last.reason


@pytest.mark.parametrize("level", [FIRST - 0.01, 0.5])
def test_probes_that_do_not_differ_do_not_outvote_a_ramp(level):
    """Neither noise nor what happens at any learning rate is an answer."""
    curve = ramp()
    probes = climb(curve, refused(), lambda lr: level)
    last = decide(curve, refused(), probes)
    assert last.lr is None
    assert last.reason.startswith("the loss never fell. Probes at ")
    assert "too little to judge by" in last.reason


def test_what_learns_best_on_held_out_samples_is_liked_most():
    """Three answers, in the order of what is liked; nothing else differs."""
    curve = ramp()
    found = suggest(curve)
    lrs = [found.lr * k for k in (1, 5, 25)]

    def told(best):
        probes = [probe(lr, 1.0, 1.0 if lr == best else 1.8) for lr in lrs]
        plain = [dataclasses.replace(p, trained=None) for p in probes]
        return decide(curve, found, plain).lr

    answers = [told(best) for best in lrs]
    assert answers == sorted(answers)
    assert answers[2] > 2 * answers[0]


def test_unchecked_probes_of_few_batches_are_hardly_believed():
    """What they learn of samples that they meet again may be memorised."""
    curve = ramp()
    probes = [probe(suggest(curve).lr * k, 2.0 - k / 30) for k in (1, 5, 25)]

    def moved(steps_per_epoch):
        one = dataclasses.replace(curve, steps_per_epoch=steps_per_epoch)
        first = suggest(one).lr
        return np.log10(decide(one, suggest(one), probes).lr / first)

    assert moved(1000) > 0.3
    assert abs(moved(50)) < moved(1000) / 2


@pytest.mark.parametrize("batch_size", [32, 512])
def test_unchecked_probes_of_large_batches_are_as_little_believed(batch_size):
    """They meet the samples again, too, though the data are not few."""
    curve = dataclasses.replace(
        ramp(), steps_per_epoch=50, batch_size=batch_size
    )
    first = suggest(curve)
    probes = [probe(first.lr * k, 2.0 - k / 30) for k in (1, 5, 25)]
    moved = np.log10(decide(curve, first, probes).lr / first.lr)
    assert abs(moved) < 0.15


def test_large_batches_raise_what_probes_say():
    """By as much as what the ramp says, on the very same probes."""
    small = ramp()
    large = dataclasses.replace(small, batch_size=512)
    probes = climb(small, suggest(small), lambda lr: 1.0 + lr**0.1)
    lrs = [decide(c, suggest(c), probes).lr for c in (small, large)]
    assert lrs[1] / lrs[0] == pytest.approx(16**0.125)


@pytest.mark.parametrize("scale", [1e-4, 1e5])
def test_scale_changes_nothing(scale):
    """Neither which probes run nor what is made of them."""
    plain = ramp()
    curve = Curve(
        plain.lrs,
        plain.losses * scale,
        steps=plain.steps,
        stop_reason=plain.stop_reason,
        optimizer="adam",
    )
    found, probes = suggest(curve), []
    while (lr := next_lr(curve, found, probes)) is not None:
        p = probe(lr, 1.0 + lr, 1.2 + lr)
        probes.append(
            Probe(lr, p.losses * scale, p.held_out * scale, FIRST * scale, "x")
        )
    expected = climb(plain, suggest(plain), lambda lr: 1.0 + lr)
    assert [p.lr for p in probes] == pytest.approx([p.lr for p in expected])


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
def test_optimizers_of_all_kinds(momentum):
    """SGD with any momentum has an answer near where its probes learn."""
    curve = ramp("sgd", hyperparameters={"momentum": momentum})
    found = suggest(curve)
    probes = climb(curve, found, lambda lr: 1.0)
    assert found.lr / 10 < decide(curve, found, probes).lr < found.lr * 10


def liked(x, held):
    """What probes at 10 ** x like that end at these held-out losses."""
    curve = ramp()
    probes = [probe(10.0**a, h, h) for a, h in zip(x, held)]
    return after(curve, suggest(curve), probes).levels.liked


def test_what_is_liked_is_the_lowest_point_of_a_parabola():
    """Three probes, unevenly spaced, on a parabola that is known."""
    x = np.array([-3.5, -2.9, -2.0])
    assert liked(x, 1 + 0.3 * (x + 2.7) ** 2) == pytest.approx(-2.7)


@pytest.mark.parametrize(
    ("held", "expected"), [([1.5, 1.2, 1.0], -1.6), ([1.0, 1.2, 1.5], -3.7)]
)
def test_what_is_liked_lies_beyond_the_last_probe(held, expected):
    """A little, where that is the best of them."""
    assert liked([-3.5, -2.75, -2.0], held) == pytest.approx(expected)


def test_one_probe_is_liked_itself():
    """Twice at one learning rate, too: there is no parabola then."""
    assert liked([-3.0], [1.0]) == pytest.approx(-3.0)
    assert liked([-3.0, -3.0], [1.0, 1.0]) == pytest.approx(-3.0)
