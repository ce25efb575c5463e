"""Rules, refusals and confidence, on curves whose answer is known."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_lrfinder.analysis import landmarks as landmarks_module
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.curve import StopReason
from keras_lrfinder.analysis.default_rule import DEFAULT_RULE
from keras_lrfinder.analysis.default_rule import Raised
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.landmarks import landmarks
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probes import Climb
from keras_lrfinder.analysis.range_test import RangeTest
from keras_lrfinder.analysis.range_test import ramp_lrs
from keras_lrfinder.analysis.suggestions import RULES
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import compare_rules
from keras_lrfinder.analysis.suggestions import suggest

MOMENTUM = {"momentum": 0.9}


def usual(x):
    """A fall from 2.3 to 0.5 around 10^-2.5, unstable beyond 10^-0.3."""
    return 2.3 - 1.8 / (1 + np.exp(-3 * (x + 2.5))) + np.exp(4 * (x + 0.3))


def run(
    loss=usual,
    noise=0.0,
    seed=0,
    start=1e-7,
    end=10.0,
    steps=100,
    optimizer="adam",
    **settings,
):
    """The curve of a range test on a loss that is a function of log10(LR)."""
    rng = np.random.default_rng(seed)
    test = RangeTest(start, end, steps, optimizer=optimizer, **settings)
    while test.record(loss(np.log10(test.lr)) + noise * rng.normal()):
        pass
    return test.curve


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


def test_answer_is_below_the_edge():
    """Training at the answer is stable, for every optimizer."""
    for optimizer in ("sgd", "adam", "lion"):
        curve = run(optimizer=optimizer)
        assert suggest(curve).lr <= 10 ** (landmarks(curve).edge - 0.5)


def test_optimizers_differ():
    """Near the edge for SGD, lower with momentum, far below it for Adam."""
    plain = suggest(run(optimizer="sgd")).lr
    heavy = suggest(run(optimizer="sgd", hyperparameters=MOMENTUM)).lr
    adam = suggest(run(optimizer="adam")).lr
    assert plain > 2 * heavy > 4 * adam


@pytest.mark.parametrize(
    "decades",
    [
        lambda c: DEFAULT_RULE.of(c, longest=1.5).offset,
        Raised({"sgd": 0.1, "momentum": 0.7}, few=0.3).of,
    ],
    ids=["offset", "raised"],
)
def test_momentum_is_interpolated(decades):
    """Half of momentum's lengthening of a step has half of the change."""
    curves = [
        run(optimizer="sgd", hyperparameters={"momentum": m})
        for m in (0.0, 1 - 10**-0.5, 0.9)
    ]
    none, half, full = map(decades, curves)
    assert abs(full - none) > 0.5
    assert half == pytest.approx((none + full) / 2)


def test_raise_is_that_of_the_kind_and_less_for_few_batches():
    """An optimizer never measured counts as one of Adam's kin."""
    raised = Raised({"adam": 0.5, "lion": 0.1}, few=0.3)
    found = [
        raised.of(run(optimizer=name, steps_per_epoch=steps))
        for name, steps in (("Lion", 100), ("Ftrl", None), ("adam", 10))
    ]
    np.testing.assert_allclose(found, [0.1, 0.5, 0.2])


def test_nameless_optimizer_is_cautious():
    """Without a name, too low is the cheaper mistake."""
    assert suggest(run(optimizer="")).lr == suggest(run()).lr


def test_few_steps_per_epoch_lower_the_answer():
    """Little data is memorised: the shorter an epoch, the lower."""
    lrs = [suggest(run(steps_per_epoch=n)).lr for n in (None, 500, 100, 30, 5)]
    assert lrs[0] == lrs[1] == lrs[2] > lrs[3] > lrs[4]


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
    assert (
        factor(suggest(run(noise=noise)), suggest(run(noise=noise, **other)))
        < 2
    )


@pytest.mark.parametrize(
    "loss",
    [
        pytest.param(lambda x: usual(x) - 5.0, id="negative"),
        pytest.param(
            lambda x: usual(x) if x < 0 else np.nan, id="NaN at the end"
        ),
        pytest.param(
            lambda x: usual(x) + 5.0 * (-6.6 < x < -6.5), id="early spike"
        ),
        pytest.param(
            lambda x: 2.3 - 1.8 / (1 + np.exp(-3 * (x + 2.5))) + 1e6 * (x > 0),
            id="cliff",
        ),
    ],
)
def test_odd_curves_have_nearly_the_same_answer(loss):
    """What happens elsewhere on the curve does not move the answer far."""
    assert factor(suggest(run(loss)), suggest(run())) < 2.5


def blown_up_at_once(x):
    """What the first update does to a loss of 2.4, and what comes after."""
    x += -np.log10(0.3)
    return 2.4 if x < 1e-6 else 19.0 + 100.0 * np.exp(-8.0 * x)


@pytest.mark.parametrize(
    ("curve", "words"),
    [
        pytest.param(run(lambda x: 2.3), "never fell", id="flat"),
        pytest.param(
            run(lambda x: 2.3, noise=0.1), "never fell", id="pure noise"
        ),
        pytest.param(
            run(lambda x: 2.3 * np.exp(3 * (x + 7))), "diverged", id="explodes"
        ),
        pytest.param(
            run(lambda x: 2.3 + 0.6 * (x + 7), noise=0.05),
            "start lower",
            id="rises",
        ),
        pytest.param(
            # Not "fell from 119 to 19": before the first update it was 2.4.
            run(blown_up_at_once, start=0.3, stop_factor=None),
            "start lower",
            id="blows up at once and comes back",
        ),
        pytest.param(
            run(lambda x: np.nan), "very first step", id="NaN at once"
        ),
        pytest.param(
            run(lambda x: 2.3 if x < -6.8 else np.nan),
            "finite losses",
            id="NaN soon",
        ),
        pytest.param(Curve([], []), "no loss", id="empty"),
    ],
)
def test_refusals(curve, words):
    """No number where there is none, and words that say what to do."""
    found = suggest(curve)
    assert found.lr is found.low is found.high is None
    assert found.confidence == "none"
    assert words in found.reason
    with pytest.raises(ValueError, match="no learning rate"):
        float(found)


@pytest.mark.parametrize("steps", [100, 300])
def test_noise_is_refused_nearly_always(steps):
    """Of a hundred tests of pure noise, at most two are answered."""
    answered = sum(
        suggest(run(lambda x: 2.3, noise=0.1, seed=s, steps=steps)).lr
        is not None
        for s in range(100)
    )
    assert answered <= 2


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_visible_falls_are_never_refused(noise):
    """A fall of six times the noise and more always has an answer."""
    for seed in range(30):
        assert suggest(run(noise=noise, seed=seed)).lr is not None


def test_still_falling_is_a_lower_bound():
    """The end of the range is no edge: low confidence, and what to do."""
    found = suggest(run(end=1e-3))
    assert found.confidence == "low"
    assert "still falling at end_lr=0.001" in found.reason
    assert "raise end_lr" in found.reason
    assert found.lr <= 1e-3


def test_no_fall_but_an_edge_is_answered_with_caution():
    """Slow learners fall too little in a short test; the edge is seen."""
    found = suggest(run(lambda x: 1.1 + np.exp(6 * (x - 0.5)), noise=0.02))
    assert found.lr is not None
    assert found.confidence == "low"
    assert "did not fall" in found.reason


def test_low_confidence_is_wider():
    """What is less sure has the wider interval."""
    sure, unsure = suggest(run()), suggest(run(end=1e-3))
    assert unsure.high / unsure.low > 2 * sure.high / sure.low


def test_interval_and_numbers_are_plain_floats():
    """Nothing of numpy leaks out."""
    found = suggest(run())
    for value in (found.lr, found.low, found.high, float(found)):
        assert type(value) is float


@pytest.mark.parametrize("rule", sorted(RULES))
def test_rules_by_name(rule):
    """Every rule answers within the range and gives its name."""
    curve = run(noise=0.05)
    found = suggest(curve, rule)
    assert found.rule == rule
    assert curve.lrs[0] <= found.lr <= curve.lrs[-1]


def test_minimum_is_a_tenth_of_the_lowest():
    """On a parabola in log(LR) without noise, up to the average's lag."""
    found = suggest(
        run(lambda x: 1 + (x + 2) ** 2, stop_factor=None), "minimum"
    )
    assert 1e-3 <= found.lr <= 3e-3


def test_rule_of_ones_own():
    """A function is a rule; its name is given."""

    def mine(curve):
        return 0.02

    found = suggest(run(), mine)
    assert (found.lr, found.rule) == (0.02, "mine")


@pytest.mark.parametrize("answer", [np.nan, -1.0, 0.0, np.inf])
def test_rule_without_an_answer(answer):
    """A rule that answers no learning rate has none suggested."""
    found = suggest(run(), lambda curve: answer)
    assert found.lr is None
    assert "answered" in found.reason


@pytest.mark.parametrize("answer", ["fast", [1.0, 2.0]])
def test_rule_that_answers_no_number(answer):
    """That is a mistake in the rule, and said so."""
    with pytest.raises(TypeError, match="`rule` must return a learning rate"):
        suggest(run(), lambda curve: answer)


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


def test_wrong_arguments():
    """Errors name the argument."""
    with pytest.raises(TypeError, match="`curve`"):
        suggest([1.0])
    with pytest.raises(ValueError, match="`rule` must be one of"):
        suggest(run(), "steep")
    with pytest.raises(TypeError, match="`rule`"):
        suggest(run(), 3)


def test_empty_curve_has_no_landmarks():
    """The rule itself says so instead of failing somewhere inside."""
    assert landmarks(Curve([], [])) is None
    with pytest.raises(ValueError, match="without a finite loss"):
        RULES["default"](Curve([], []))


@given(
    st.lists(
        st.floats(allow_nan=True, allow_infinity=True, width=64), max_size=60
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


@pytest.mark.parametrize(
    ("steps", "batch", "decades"),
    [(10, 32, 1.0), (10, 8, 1.0), (10, None, 1.0), (10, 3200, 0.0)],
)
def test_little_data_is_told_by_steps_and_batch(steps, batch, decades):
    """Ten steps of a hundred times as many samples are not little."""
    curve = Curve(
        [1e-3, 1e-2],
        [2.0, 1.0],
        steps=2,
        steps_per_epoch=steps,
        batch_size=batch,
    )
    assert few_batches(curve) == pytest.approx(decades)


def test_a_million_points_give_the_answer_of_a_hundred():
    """The default rule looks at decades, not at how many points they have."""
    x = np.linspace(-7, 1, 1_000_000)
    losses = usual(x) + np.random.default_rng(0).normal(0, 0.1, len(x))
    curve = Curve(10**x, losses, smoothed=losses, optimizer="adam")
    found = suggest(curve)
    assert factor(found, suggest(run(stop_factor=None))) < 2


def test_suggestion_is_readable():
    """One line has the number, the interval, the confidence, the reason."""
    text = str(suggest(run()))
    assert "lr=" in text
    assert "high confidence" in text
    assert "no learning rate" in str(suggest(run(lambda x: 2.3)))


def test_rules_import_neither_scipy_nor_keras():
    """Suggesting from a stored curve is light."""
    code = (
        "import sys, keras_lrfinder.analysis.probes;"
        "from keras_lrfinder.analysis.suggestions import suggest;"
        "from keras_lrfinder.analysis.curve import Curve;"
        "suggest(Curve([1e-3, 1e-2], [1.0, 2.0]));"
        "sys.exit(int('scipy' in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("optimizer", "words"),
    [("", "name the optimizer"), ("adadelta", "never measured")],
)
def test_strange_optimizers_are_not_sure(optimizer, words):
    """What was never measured is not claimed."""
    found = suggest(run(optimizer=optimizer))
    assert found.confidence == "low"
    assert words in found.reason


def test_a_plain_fall_in_large_noise_is_not_refused():
    """A squared error in small batches falls from 6 to 1: a person sees it."""
    rng = np.random.default_rng(0)
    lrs = ramp_lrs(1e-6, 10.0, 100)
    level = 1.0 + 5.0 / (1.0 + (lrs / 3e-2) ** 2)
    losses = level * rng.chisquare(8, size=100) / 8
    assert suggest(Curve(lrs=lrs, losses=losses, optimizer="adam")).lr


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: 1.0 + 0.3 * rng.normal(size=100),
        lambda rng: np.exp(rng.normal(size=100)),
        lambda rng: rng.exponential(size=100),
    ],
    ids=["gaussian", "log-normal", "exponential"],
)
def test_noise_alone_is_refused(draw):
    """Of a hundred curves of noise hardly any gets a learning rate."""
    lrs = ramp_lrs(1e-7, 10.0, 100)
    answered = [
        seed
        for seed in range(100)
        if suggest(Curve(lrs=lrs, losses=draw(np.random.default_rng(seed)))).lr
    ]
    assert len(answered) <= 4


def test_data_that_ran_out_are_the_reason_not_end_lr():
    """A curve cut short by its data does not ask for a higher end."""
    lrs = ramp_lrs(1e-7, 10.0, 100)[:70]
    losses = 2.3 - 1.8 / (1 + np.exp(-3 * (np.log10(lrs) + 3.0)))
    found = suggest(
        Curve(
            lrs=lrs,
            losses=losses,
            steps=100,
            end_lr=10.0,
            stop_reason=StopReason.OUT_OF_DATA,
            optimizer="adam",
        )
    )
    assert "the data ran out" in found.reason
    assert "end_lr" not in found.reason


NARROW = Suggestion(0.01, 0.008, 0.012, "high", "default", "seen")
WIDE = Suggestion(0.01, 0.001, 0.1, "low", "default", "seen")
NONE = Suggestion(None, None, None, "none", "default", "it never fell")


def test_constant_is_the_suggestion():
    """A constant learning rate is the suggested one."""
    assert WIDE.constant_lr == 0.01


def test_peak_is_that_of_the_schedule():
    """The peak is the one-cycle's learning rate, at most the upper end."""
    assert WIDE.one_cycle_max_lr == WIDE.lr_for("one_cycle") > 0.02
    assert NARROW.one_cycle_max_lr == 0.012


def test_base_is_a_fourth_of_the_peak():
    """A triangular cycle spans a factor of four, as Smith (2015) says."""
    base, peak = WIDE.triangular_bounds
    assert peak == WIDE.lr_for("triangular")
    assert base == pytest.approx(peak / 4.0)


@pytest.mark.parametrize(
    "use", ["constant_lr", "one_cycle_max_lr", "triangular_bounds"]
)
def test_no_learning_rate_raises_the_reason(use):
    """Without a learning rate the error says why there is none."""
    with pytest.raises(ValueError, match="it never fell"):
        getattr(NONE, use)


def test_a_suggestion_shows_itself_in_a_notebook():
    """Its card has the number, or says that there is none and why."""
    assert "1.00e-02" in WIDE._repr_html_()
    assert "it never fell" in NONE._repr_html_()


@pytest.fixture
def looks(monkeypatch):
    """How often the landmarks of a curve are computed."""
    whose = []

    def counted(curve, x, y):
        whose.append(curve)
        return computed(curve, x, y)

    computed = landmarks_module._landmarks
    monkeypatch.setattr(landmarks_module, "_landmarks", counted)
    return whose


@pytest.mark.parametrize("rule", [*RULES, lambda curve: 0.01])
def test_a_curve_is_looked_at_once(looks, rule):
    """A suggestion computes the landmarks once, whatever its rule."""
    suggest(run(noise=0.05), rule)

    assert len(looks) == 1


@pytest.mark.parametrize("held_out", [None, 1.0, 3.0])
def test_probes_look_at_the_curve_once(looks, held_out):
    """So do the choice of its probes and the decision about them."""
    curve = run(noise=0.05)
    found = suggest(curve)
    falls = np.linspace(2.3, 1.0, 60)
    looks.clear()

    climb = Climb(curve, found)
    while runs := climb.next_runs():
        climb.add(Probe(runs[0][0], falls, held_out, 2.3))
    climb.suggestion()

    assert len(looks) == 1


def test_all_rules_at_once_are_what_each_says_alone():
    """One table, whose lines are the suggestions."""
    curve = run()
    table = compare_rules(curve)
    assert dict(table) == {name: suggest(curve, name) for name in RULES}
    lines = str(table).splitlines()
    assert [line.split()[0] for line in lines] == ["rule", *RULES]
    assert "<th>confidence</th>" in table._repr_html_()


def test_some_rules_and_functions_can_be_compared():
    """By their names."""
    table = compare_rules(run(), ["default", halfway])
    assert list(table) == ["default", "halfway"]


def halfway(curve):
    """A rule of the user's own."""
    return float(curve.lrs[len(curve) // 2])
