"""What follows a ramp: which runs are made, and what they are taken to mean."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from landscape import START
from landscape import flat
from landscape import ramp
from landscape import trainer

from keras_lrfinder import Curve
from keras_lrfinder import Plan
from keras_lrfinder import StopReason
from keras_lrfinder import search
from keras_lrfinder import suggest

JUDGED = {"held_out": 4, "again": 2}


def decades(found):
    """log10 of what was suggested."""
    return math.log10(found.lr)


def searched(curve=None, *, plan=None, **truth):
    """The runs of a search whose truth is a formula, and what it says."""
    plan = Plan(**JUDGED) if plan is None else plan
    return search(curve or ramp(), trainer(**truth), plan)


def test_probes_are_short_runs_after_the_untrained_model():
    """It is judged first and once, on the batches that judge all others."""
    made = []
    runs, _ = search(ramp(), trainer(made=made), Plan(**JUDGED))
    assert (made[0].lr, made[0].lrs.tolist()) == (0.0, [0.0] * 6)
    assert [(r.lr, r.schedule) for r in made[1:]] == [
        (r.lr, "constant") for r in runs
    ]
    assert len({r.lr for r in runs}) == 3
    for run in made[1:]:
        assert run.lrs.tolist() == [run.lr] * 60 + [0.0] * 6


def test_nothing_is_run_where_nothing_is_planned():
    """Then the answer is that of the ramp, for the training that follows."""
    made = []
    plan = Plan("cosine", 300, probes=0, held_out=4)
    runs, found = search(ramp(), trainer(made=made), plan)
    assert (runs, made) == ((), [])
    assert found == suggest(ramp(), schedule="cosine", total_steps=300)
    assert (found.schedule, found.total_steps) == ("cosine", 300)
    assert f"{found.lr:.1e}, the peak of cosine over 300 steps" in found.reason


def test_the_answer_follows_what_probes_like():
    """A decade higher or lower moves it, by less than that."""
    low, high = (decades(searched(best=x)[1]) for x in (-3.0, -1.0))
    assert 0.4 < high - low < 2.0


@pytest.mark.parametrize("probes", [0, 3])
@pytest.mark.parametrize("away", [-0.9, 0.0, 0.9])
@pytest.mark.parametrize("schedule", ["constant", "one_cycle"])
def test_whole_trainings_find_what_is_best_for_them(away, schedule, probes):
    """Five of them, away from what the ramp says, to a fourth of a decade."""
    plan = Plan(schedule, 500, probes, trainings=5, **JUDGED)
    best = away + decades(suggest(ramp(), schedule=schedule, total_steps=500))
    runs, found = searched(plan=plan, best=-2.0, whole=best)
    whole = [r for r in runs if r.steps == 500]
    assert {r.schedule for r in whole} == {schedule}
    assert 2 <= len(whole) <= 5
    assert abs(decades(found) - best) < 0.25


@pytest.mark.parametrize("plan", [Plan(**JUDGED), Plan(trainings=3, **JUDGED)])
def test_more_evidence_makes_the_range_narrower(plan):
    """Than that of the ramp alone."""
    alone, found = suggest(ramp()), searched(plan=plan)[1]
    assert found.high / found.low < 0.8 * alone.high / alone.low


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon", "adafactor"])
@pytest.mark.parametrize("trainings", [0, 2])
def test_a_clear_case_is_sure(optimizer, trainings):
    """Also after two whole trainings, and for every optimizer measured."""
    curve = ramp(optimizer=optimizer)
    best = math.log10(suggest(curve).lr)
    plan = Plan(trainings=trainings, **JUDGED)
    _, found = searched(curve, plan=plan, best=best)
    assert (found.confidence, found.reason.count("low")) == ("high", 0)


def test_what_blew_up_bounds_the_answer():
    """It stays below, as does its range, and the learning rate is named."""
    runs, found = searched(best=-1.0, blows=-1.8)
    top = min(r.lr for r in runs if r.blew_up)
    assert found.lr < found.high <= top
    assert f"Training blew up at {top:.1e}." in found.reason


@pytest.mark.parametrize("trainings", [0, 2])
def test_probes_that_all_blow_up_are_refused(trainings):
    """No training follows, and each learning rate is named."""
    plan = Plan(trainings=trainings, **JUDGED)
    runs, found = searched(plan=plan, blows=-9.0)
    assert (len(runs), found.lr) == (3, None)
    assert "blew up" in found.reason
    assert all(f"{run.lr:.1e}" in found.reason for run in runs)


def test_trainings_that_all_blow_up_are_refused():
    """What blows up later is no learning rate, though probes learnt there."""

    def train(run):
        losses = trainer()(run)
        if run.steps == 500:
            losses[400] = math.inf
        return losses

    plan = Plan(total_steps=500, trainings=3, **JUDGED)
    _, found = search(ramp(), train, plan)
    assert (found.lr, found.confidence) == (None, "none")
    assert "blew up" in found.reason


@pytest.mark.parametrize("count", [60, 40])
def test_training_losses_alone_will_do(count):
    """Where nothing is held out; or as far as a run came that ended early."""
    runs, found = search(
        ramp(steps_per_epoch=1000), lambda run: trainer()(run)[:count]
    )
    assert [(r.held_out_loss, len(r.losses)) for r in runs] == [
        (None, count)
    ] * 3
    assert (found.schedule, found.total_steps) == ("constant", None)
    assert found.confidence == "high"


def test_a_run_that_ends_at_its_nan_blew_up():
    """A list that is shorter for it."""

    def train(run):
        losses = trainer()(run)
        return [*losses[:7], math.nan] if run.lr > 2e-3 else losses

    runs, found = search(ramp(), train, Plan(**JUDGED))
    assert [r.blew_up for r in runs] == [r.lr > 2e-3 for r in runs]
    assert found.lr < min(r.lr for r in runs if r.blew_up)


@pytest.mark.parametrize(
    "kind", [tuple, np.array, lambda v: np.array(v, "float32")]
)
def test_any_sequence_of_numbers_will_do(kind):
    """Tuples and arrays as well as lists."""
    train = trainer()
    _, found = search(ramp(), lambda run: kind(train(run)), Plan(**JUDGED))
    assert found.lr == pytest.approx(searched()[1].lr, rel=1e-3)


def test_losses_that_reach_zero_are_an_answer():
    """Nothing is divided by it."""

    def train(run):
        end = 2.0 * abs(math.log10(run.lr) + 2.5) if run.steps else 2.0
        return [*np.linspace(2.0, min(end, 2.0), run.steps), *[end] * 4]

    _, found = search(ramp(), train, Plan(held_out=4))
    assert found.low < found.lr < found.high


@pytest.mark.parametrize("losses", [["a"], [[1.0, 2.0]], [1.0] * 65])
def test_what_are_no_losses_of_the_run_is_refused(losses):
    """With an error that names them."""
    with pytest.raises((TypeError, ValueError), match="`losses`"):
        search(ramp(), lambda run: losses)


def slow(run):
    """Held-out losses that hardly fall."""
    return [1.0 - 0.01 * (run.steps > 0)] * len(run.lrs)


LEARNS, FORGETS = trainer(), trainer(memorised=0.7)
CHECKED = Plan(**JUDGED)
UNCHECKED = Plan(unchecked="the data are read once")


@pytest.mark.parametrize(
    ("curve", "train", "plan", "words"),
    [
        ({}, slow, CHECKED, "60 steps took 1.0% off the held-out loss"),
        ({}, FORGETS, CHECKED, "70% is memorised"),
        ({}, FORGETS, CHECKED, "most of what was learnt is memorised"),
        ({"optimizer": "ftrl"}, LEARNS, CHECKED, "ftrl was never measured"),
        (
            {"batch_size": 8, "steps_per_epoch": 500},
            LEARNS,
            CHECKED,
            "32 held-out samples are few",
        ),
        (
            {"batch_size": 1, "steps_per_epoch": 500},
            LEARNS,
            dataclasses.replace(CHECKED, held_out=1),
            "1 held-out sample is little",
        ),
        (
            {"steps_per_epoch": 20},
            LEARNS,
            UNCHECKED,
            "memorised (the data are read once)",
        ),
    ],
)
def test_what_lowers_the_confidence_is_named(curve, train, plan, words):
    """In words that say how much, and why."""
    _, found = search(ramp(**curve), train, plan)
    assert found.confidence == "low"
    assert words in found.reason


def test_what_is_not_checked_weighs_less():
    """It moves the answer of the ramp less than what is."""
    curve = ramp(steps_per_epoch=50)
    alone = decades(suggest(curve))
    moves = [
        abs(decades(searched(curve, plan=plan, best=-4.0)[1]) - alone)
        for plan in (Plan(), Plan(epoch=500))
    ]
    assert 0.0 < moves[0] < moves[1]


def test_trainings_far_from_the_ramp():
    """What the ramp alone gives is named."""
    curve = ramp(lambda x: 2.3 + 0.1 * np.tanh(-x - 2) + 10 ** (3 * x))
    plan = Plan(total_steps=500, trainings=5)
    alone = suggest(curve, total_steps=500)
    _, found = searched(curve, plan=plan, whole=decades(alone) - 2.0)
    assert found.confidence == "low"
    assert f"the ramp alone gives {alone.lr:.1e}" in found.reason


def test_probes_that_ended_lower_than_trainings():
    """What trains longer and ends higher memorises: stop early."""

    def train(run):
        losses = trainer()(run)
        return [x + 0.2 * (run.steps > 60) for x in losses]

    plan = Plan(total_steps=500, trainings=3, **JUDGED)
    runs, found = search(ramp(), train, plan)
    whole = [r.lr for r in runs if r.steps == 500]
    assert found.confidence == "low"
    assert "60 steps ended lower than any training" in found.reason
    assert whole[1] < whole[0]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("probes", [0, 3])
def test_more_steps_of_few_data_do_not_raise_the_answer(optimizer, probes):
    """They memorise more: so it is for the ramp alone, and after probes."""
    curve = ramp(optimizer=optimizer, batch_size=32, steps_per_epoch=11)
    plans = [
        Plan(total_steps=n, probes=probes, **JUDGED)
        for n in (60, 120, 330, 500, 1000, 3000, 8000)
    ]
    lrs = [searched(curve, plan=plan)[1].lr for plan in plans]
    assert all(np.diff(lrs) <= 1e-9)


def test_runs_can_answer_where_the_ramp_cannot():
    """Held-out losses that fall by half are an answer, and a doubt."""
    assert suggest(flat()).lr is None
    _, found = searched(flat(), best=-2.0)
    assert found.confidence == "low"
    assert "the ramp alone gives no answer" in found.reason
    assert abs(decades(found) + 2.0) < 1.5


RISES = {"loss": lambda x: START + np.exp(6 * (x - 0.5))}
RANDOM = np.random.default_rng(1)


@pytest.mark.parametrize(
    ("curve", "loss", "words"),
    [
        (flat(), lambda _: START * (0.99 + 0.01 * RANDOM.random()), ""),
        (flat(), lambda run: 1.5 if run.steps else START, "too little to jud"),
        (ramp(**RISES), lambda _: START, "inputs and targets belong together"),
    ],
    ids=["noise", "the same at any learning rate", "nothing learnt"],
)
def test_runs_that_say_nothing_are_no_answer(curve, loss, words):
    """What happens at any learning rate is not its doing."""

    def train(run):
        return [loss(run) for _ in run.lrs]

    _, found = search(curve, train, Plan(**JUDGED))
    assert (found.lr, found.confidence) == (None, "none")
    assert words in found.reason


def cut(curve, steps):
    """The same test, had its data run out after so many steps."""
    return Curve(
        curve.lrs[:steps],
        curve.losses[:steps],
        steps=100,
        end_lr=10.0,
        optimizer="adam",
        stop_reason=StopReason.OUT_OF_DATA,
    )


@pytest.mark.parametrize("steps", [9, 20, 40])
def test_data_that_ran_out_at_once_are_refused(steps):
    """Not answered by what lies below all learning rates that learn."""
    runs, found = searched(cut(ramp(lambda x: START - 0.001 * x), steps))
    assert (runs, found.lr) == ((), None)
    assert f"the data ran out after {steps} of 100 steps" in found.reason
    assert "`steps`" in found.reason


def test_data_that_ran_out_after_a_clear_fall_are_an_answer():
    """A lower bound within what was seen to learn: `end_lr` is not at fault."""
    found = suggest(cut(ramp(), 70))
    assert found.confidence == "low"
    assert "the data ran out after 70 of 100 steps" in found.reason
    assert "`steps`" in found.reason
    assert "end_lr" not in found.reason
    assert 1e-4 < found.lr < 10 ** (-7 + 8 * 69 / 99)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("schedule", "linear"),
        ("total_steps", 0),
        ("probes", -1),
        ("trainings", 1),
        ("trainings", 6),
        ("held_out", 0.5),
        ("epoch", 0),
        ("unchecked", None),
        ("curve", [1.0]),
        ("plan", 3),
    ],
)
def test_a_wrong_argument_is_refused_by_name(name, value):
    """Before anything is run, of the plan and of the search."""
    call, given = Plan, {name: value}
    if name in ("curve", "plan"):
        call, given = search, {"curve": ramp(), "train": trainer()} | given
    with pytest.raises((TypeError, ValueError), match=f"`{name}` must be"):
        call(**given)


TRUTHS = st.fixed_dictionaries(
    {
        "best": st.floats(-6.0, 0.5),
        "whole": st.floats(-6.0, 0.5),
        "memorised": st.floats(0.0, 1.0),
        "blows": st.floats(-5.0, 1.0),
    }
)
PLANS = st.builds(
    Plan,
    st.sampled_from(["constant", "cosine", "one_cycle", "triangular"]),
    st.none() | st.integers(1, 400),
    st.integers(0, 3),
    st.sampled_from([0, 2, 3, 5]),
    st.sampled_from([0, 4]),
    st.sampled_from([0, 2]),
)


@settings(max_examples=150, deadline=None)
@given(
    TRUTHS,
    PLANS,
    st.sampled_from(["sgd", "adam", "lion", "nadam", ""]),
    st.sampled_from([None, 11, 500]),
)
def test_words_and_numbers_agree(truth, plan, optimizer, epoch):
    """Whatever happens: in range, each low with a doubt, nothing made up."""
    curve = ramp(optimizer=optimizer, steps_per_epoch=epoch)
    runs, found = searched(curve, plan=plan, **truth)
    reason = found.reason
    assert ("Confidence is low: " in reason) == (found.confidence == "low")
    assert ("blew up" in reason) == any(r.blew_up for r in runs)
    if found.lr is None:
        return
    assert all(f"{run.lr:.1e}" in reason for run in runs)
    assert found.low < found.lr <= found.high
    assert f"That gives {found.lr:.1e}, " in reason
    for steps in {r.steps for r in runs}:
        made = [r for r in runs if r.steps == steps]
        losses = [r.final_loss for r in made]
        if (
            len(made) > 1
            and f"{steps:,} steps" in reason
            and (np.nanmin(losses) < START - 1e-3)
        ):
            best = made[int(np.nanargmin(losses))]
            assert f"to {best.final_loss:.3g}" in reason
