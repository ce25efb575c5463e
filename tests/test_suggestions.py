"""Rules, refusals and confidence, on curves whose answer is known."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
from landscape import ramp as run
from landscape import usual

from keras_lrfinder import RULES
from keras_lrfinder import Curve
from keras_lrfinder import Suggestion
from keras_lrfinder import compare_rules
from keras_lrfinder import suggest

MOMENTUM = {"momentum": 0.9}


def factor(a, b):
    """How many times one learning rate is the other."""
    return max(a.lr, b.lr) / min(a.lr, b.lr)


def test_usual_curve_is_sure():
    """A clear fall and a clear edge: high confidence, and both are named."""
    found = suggest(run(noise=0.05))
    assert found.confidence == "high"
    assert found.low < found.lr < found.high
    assert "fell" in found.reason
    assert "unstable" in found.reason


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "lion"])
def test_answer_is_below_the_edge(optimizer):
    """Training at the answer is stable, for every optimizer."""
    assert suggest(run(optimizer=optimizer)).lr < 10**-0.6


def test_optimizers_differ():
    """Near the edge for SGD, lower with momentum, far below it for Adam."""
    plain = suggest(run(optimizer="sgd")).lr
    heavy = suggest(run(optimizer="sgd", hyperparameters=MOMENTUM)).lr
    adam = suggest(run(optimizer="adam")).lr
    assert plain > 2 * heavy > 4 * adam


@pytest.mark.parametrize("batch", [None, 8, 32])
def test_little_data_lower_the_answer(batch):
    """They are memorised: the shorter an epoch, unless of many samples."""
    epochs = (None, 500, 100, 30, 10)
    lrs = [suggest(run(steps_per_epoch=n, batch_size=batch)).lr for n in epochs]
    assert lrs[0] == lrs[1] == lrs[2] > lrs[3] > lrs[4]
    many, few = (run(steps_per_epoch=n, batch_size=3200) for n in (1000, 10))
    assert suggest(many).lr == suggest(few).lr


def test_large_batches_raise_the_answer():
    """By the eighth root of the size, as measured up to 512; small ones not."""
    sizes = (None, 8, 32, 128, 512, 4096)
    curves = [dataclasses.replace(run(), batch_size=size) for size in sizes]
    found = [suggest(curve).lr for curve in curves]
    usual = found[0]
    expected = [1.0, 1.0, 1.0, 4**0.125, 16**0.125, 16**0.125]
    np.testing.assert_allclose([lr / usual for lr in found], expected)


@given(st.floats(1e-6, 1e6), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_scale_changes_nothing(scale, seed):
    """Multiplying the losses by a constant multiplies nothing."""
    plain = run(noise=0.05, seed=seed)
    scaled = Curve(
        plain.lrs,
        plain.losses * scale,
        steps=plain.steps,
        stop_reason=plain.stop_reason,
        optimizer="adam",
    )
    for rule in RULES:
        found = suggest(scaled, rule).lr
        assert found == pytest.approx(suggest(plain, rule).lr), rule


@pytest.mark.parametrize(
    "other",
    [{"steps": 200}, {"steps": 400}, {"start": 1e-9}, {"start": 1e-5}],
    ids=str,
)
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_what_was_not_meant_moves_it_little(other, noise):
    """More steps or another start move the answer by less than 2."""
    found = [suggest(run(noise=noise, **how)) for how in ({}, other)]
    assert factor(*found) < 2


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(lambda x: usual(x) - 5.0, id="negative"),
        pytest.param(lambda x: usual(x) if x < 0 else np.nan, id="NaN at end"),
        pytest.param(lambda x: usual(x) + 5 * (-6.6 < x < -6.5), id="spike"),
        pytest.param(lambda x: usual(min(x, 0)) + 1e6 * (x > 0), id="cliff"),
    ],
)
def test_odd_curves_have_nearly_the_same_answer(loss):
    """What happens elsewhere on the curve does not move the answer far."""
    assert factor(suggest(run(loss)), suggest(run())) < 2.5


def blown_up_at_once(x):
    """A loss of 2.4, and what the first update makes of it: never "fell"."""
    x += -np.log10(0.3)
    return 2.4 if x < 1e-6 else 19.0 + 100.0 * np.exp(-8.0 * x)


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        (run(lambda x: 2.3), "never fell"),
        (run(lambda x: 2.3, noise=0.1), "never fell"),
        (run(lambda x: 2.3 * np.exp(3 * (x + 7))), "blew up"),
        (run(lambda x: 2.3 + 0.6 * (x + 7), noise=0.05), "Lower `start_lr`"),
        # Not "fell from 119 to 19": before the first update it was 2.4.
        (
            run(blown_up_at_once, start=0.3, stop_factor=None),
            "Lower `start_lr`",
        ),
        (run(lambda x: np.nan), "very first step"),
        (run(lambda x: 2.3 if x < -6.8 else np.nan), "finite losses"),
        (Curve([], []), "No loss"),
    ],
    ids=[
        *("flat", "pure noise", "explodes", "rises"),
        *("blows up at once and comes back", "NaN at once", "NaN soon"),
        "empty",
    ],
)
def test_refusals(curve, words):
    """No number where there is none, and words that say what to do."""
    found = suggest(curve)
    assert found.lr is found.low is found.high is None
    assert found.confidence == "none"
    assert words in found.reason
    with pytest.raises(ValueError, match="There is no learning rate"):
        float(found)


@pytest.mark.parametrize("steps", [100, 300])
@pytest.mark.parametrize(
    ("draw", "most"),
    [
        (lambda rng, n: 2.3 + 0.1 * rng.normal(size=n), 2),
        (lambda rng, n: 1.0 + 0.3 * rng.normal(size=n), 4),
        (lambda rng, n: np.exp(rng.normal(size=n)), 4),
        (lambda rng, n: rng.exponential(size=n), 4),
    ],
    ids=["a little", "gaussian", "log-normal", "exponential"],
)
def test_noise_alone_is_refused(draw, most, steps):
    """Of a hundred curves of noise hardly any gets a learning rate."""
    lrs = np.geomspace(1e-7, 10.0, steps)
    draws = (draw(np.random.default_rng(seed), steps) for seed in range(100))
    assert sum(suggest(Curve(lrs, d)).lr is not None for d in draws) <= most


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_visible_falls_are_never_refused(noise):
    """A fall of six times the noise and more always has an answer."""
    for seed in range(30):
        assert suggest(run(noise=noise, seed=seed)).lr is not None


def test_still_falling_is_a_lower_bound():
    """The end of the range is no edge: low confidence, and what to do."""
    found = suggest(run(end=1e-3))
    assert found.confidence == "low"
    assert "still falling at 1.0e-03" in found.reason
    assert "lower bound: raise `end_lr`" in found.reason
    assert found.lr <= 1e-3


def test_no_fall_but_an_edge_is_answered_with_caution():
    """Slow learners fall too little in a short test; the edge is seen."""
    found = suggest(run(lambda x: 1.1 + np.exp(6 * (x - 0.5)), noise=0.02))
    assert found.lr is not None
    assert found.confidence == "low"
    assert "did not fall" in found.reason


@pytest.mark.parametrize("rule", sorted(RULES))
def test_rules_by_name(rule):
    """Every rule answers within the range and gives its name."""
    curve = run(noise=0.05)
    found = suggest(curve, rule)
    assert found.rule == rule
    assert curve.lrs[0] <= found.lr <= curve.lrs[-1]


def test_minimum_is_a_tenth_of_the_lowest():
    """On a parabola in log(LR) without noise, up to the average's lag."""
    curve = run(lambda x: 1 + (x + 2) ** 2, stop_factor=None)
    assert 1e-3 <= suggest(curve, "minimum").lr <= 3e-3


def half(curve):
    """A rule of the user's own."""
    return float(curve.lrs[len(curve) // 2])


def test_rule_of_ones_own():
    """A function is a rule; its name is given."""
    found = suggest(run(), half)
    assert (found.lr, found.rule) == (half(run()), "half")


@pytest.mark.parametrize("answer", [np.nan, -1.0, 0.0, np.inf])
def test_rule_without_an_answer(answer):
    """A rule that answers no learning rate has none suggested."""
    found = suggest(run(), lambda curve: answer)
    assert found.lr is None
    assert "The rule <lambda> found" in found.reason


def test_rule_far_from_the_default_is_not_to_be_trusted():
    """A clear curve says nothing for an answer at its start."""
    own = suggest(run())
    assert own.confidence == "high"
    near = suggest(run(), lambda curve: own.lr * 1.1)
    far = suggest(run(), lambda curve: curve.lrs[0])
    assert near.confidence == "high"
    assert far.confidence == "low"
    assert f"the default rule says {own.lr:.1e}" in far.reason
    assert (near.low, near.high) == (own.low, own.high)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ([[1.0]], TypeError, "`curve`"),
        ([run(), "steep"], ValueError, "`rule` must be one of"),
        ([run(), 3], TypeError, "`rule`"),
        ([run(), lambda c: "fast"], TypeError, "`answer of the rule` must be"),
        ([run(), lambda c: [1.0, 2.0]], TypeError, "`answer of the rule`"),
    ],
)
def test_wrong_arguments(arguments, error, words):
    """Errors name the argument, or what a rule of the user's own gave."""
    with pytest.raises(error, match=words):
        suggest(*arguments)


@given(
    st.lists(
        st.floats(allow_nan=True, allow_infinity=True, width=32), max_size=60
    )
)
@settings(max_examples=200, deadline=None)
def test_any_losses_have_an_answer(losses):
    """Whatever the losses, there is a number or a reason."""
    lrs = np.geomspace(1e-7, 10, max(len(losses), 1))[: len(losses)]
    found = suggest(Curve(lrs, losses, optimizer="adam"))
    assert isinstance(found, Suggestion)
    assert found.reason
    assert (found.lr is None) == (found.confidence == "none")
    if found.lr is not None:
        assert 0 < found.low < found.lr < found.high
        # Nothing of NumPy leaks out.
        numbers = (found.lr, found.low, found.high, float(found))
        assert {type(n) for n in numbers} == {float}


def test_a_million_points_give_the_answer_of_a_hundred():
    """The default rule looks at decades, not at how many points they have."""
    x = np.linspace(-7, 1, 1_000_000)
    losses = usual(x) + np.random.default_rng(0).normal(0, 0.1, len(x))
    curve = Curve(10**x, losses, smoothed=losses, optimizer="adam")
    found = suggest(curve)
    assert factor(found, suggest(run(stop_factor=None))) < 2


def test_suggestion_is_readable():
    """One line has the number, the interval, the confidence, the reason."""
    found = suggest(run())
    assert str(found) == (
        f"{found.lr:.1e} ({found.low:.1e} to {found.high:.1e}, high "
        f"confidence). {found.reason}"
    )
    assert f"{found}" == str(found)
    assert f"{found:.3g}" == f"{found.lr:.3g}"
    assert str(suggest(run(lambda x: 2.3))).startswith("No learning rate. ")


def test_an_optimizer_without_a_name_is_a_doubt():
    """The reason asks for it; the answer is that for Adam."""
    found = suggest(run(optimizer=""))
    assert (found.lr, found.confidence) == (suggest(run()).lr, "low")
    assert "the optimizer is not known: name it" in found.reason


def test_a_plain_fall_in_large_noise_is_not_refused():
    """A squared error in small batches falls from 6 to 1: a person sees it."""
    rng = np.random.default_rng(0)
    lrs = np.geomspace(1e-6, 10.0, 100)
    level = 1.0 + 5.0 / (1.0 + (lrs / 3e-2) ** 2)
    losses = level * rng.chisquare(8, size=100) / 8
    assert suggest(Curve(lrs=lrs, losses=losses, optimizer="adam")).lr


NONE = Suggestion(None, None, None, "none", "default", "It never fell.")
SCHEDULES = ("constant", "cosine", "one_cycle", "triangular")
LENGTHS = (100, 500, 1000, 4000)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_another_training_is_what_it_would_have_been(
    optimizer, schedule, steps
):
    """`lr_for` says what `suggest` says of that training."""
    curve = run(optimizer=optimizer, steps_per_epoch=50)
    first = suggest(curve, schedule="cosine", total_steps=300)
    asked = suggest(curve, schedule=schedule, total_steps=steps)
    assert first.lr_for(schedule, steps) == pytest.approx(asked.lr)


def test_lr_for_takes_the_length_that_it_is_for():
    """Where no other is said; and 1,000 steps where none was."""
    found = suggest(run(), total_steps=300)
    assert found.lr_for("cosine") == found.lr_for("cosine", 300)
    assert suggest(run()).lr_for() == suggest(run()).lr_for("constant", 1000)


def test_no_learning_rate_raises_the_reason():
    """Without a learning rate the error says why there is none."""
    for use in (float, Suggestion.lr_for, "{:.2e}".format):
        with pytest.raises(ValueError, match="It never fell"):
            use(NONE)


@pytest.mark.parametrize(
    "wrong", [{"schedule": "linear"}, {"total_steps": 0}, {"total_steps": 1.5}]
)
def test_a_wrong_training_is_refused_by_name(wrong):
    """By all that take one."""
    found = suggest(run())
    (name,) = wrong
    for call in (lambda **k: suggest(run(), **k), found.lr_for):
        with pytest.raises((TypeError, ValueError), match=f"`{name}` must be"):
            call(**wrong)


@pytest.mark.parametrize(
    ("samples", "words"),
    [(1, "1 step of 1 sample is"), (12, "12 steps of 1 sample is little")],
)
def test_few_samples_are_a_doubt(samples, words):
    """In words that are right for one and for many."""
    found = suggest(run(batch_size=1, steps_per_epoch=samples))
    assert found.confidence == "low"
    assert words in found.reason


def test_all_rules_at_once_are_what_each_says_alone():
    """One table, whose lines are the suggestions."""
    curve = run()
    table = compare_rules(curve)
    assert dict(table) == {name: suggest(curve, name) for name in RULES}
    lines = str(table).splitlines()
    assert [line.split()[0] for line in lines] == list(RULES)
    assert list(compare_rules(curve, ["slide", half])) == ["slide", "half"]
