"""The engine: the formula of the ramp, and when to stop."""

import decimal
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_lrfinder import Curve
from keras_lrfinder import RangeTest
from keras_lrfinder import StopReason

RANGES = [(1e-7, 10.0), (1e-5, 1e-4), (3e-300, 2e300), (0.1, 0.1 + 1e-12)]


def exact_lr(start, end, steps, ramp, i):
    """The formula of the ramp in 60 decimal digits."""
    with decimal.localcontext() as context:
        context.prec = 60
        first, last = decimal.Decimal(start), decimal.Decimal(end)
        progress = decimal.Decimal(i) / (steps - 1)
        if ramp == "linear":
            return float(first + progress * (last - first))
        return float(first * ((last / first).ln() * progress).exp())


def path(start, end, steps, ramp="exponential"):
    """What `lr` is before each loss, which is what the curve has."""
    test, asked = RangeTest(start, end, steps, ramp), []
    while not test.done:
        asked.append(test.lr)
        test.record(1.0)
    assert test.curve.lrs.tolist() == asked
    return np.array(asked)


@pytest.mark.parametrize("ramp", ["exponential", "linear"])
@pytest.mark.parametrize("steps", [2, 3, 5, 100, 777])
@pytest.mark.parametrize(("start", "end"), RANGES)
def test_ramp_is_the_formula(start, end, steps, ramp):
    """Every LR is the closed form to a relative 1e-12; both ends are exact."""
    lrs = path(start, end, steps, ramp)
    some = sorted({0, 1, steps // 3, steps - 2, steps - 1})
    exact = [exact_lr(start, end, steps, ramp, i) for i in some]
    np.testing.assert_allclose(lrs[some], exact, rtol=1e-12)
    assert (lrs[0], lrs[-1]) == (start, end)


@given(
    start=st.floats(1e-30, 1e30),
    factor=st.floats(1.001, 1e30),
    steps=st.integers(2, 300),
    ramp=st.sampled_from(["exponential", "linear"]),
)
def test_ramp_never_falls_nor_leaves_its_range(start, factor, steps, ramp):
    """Any ramp goes up, from one end to the other."""
    lrs = path(start, start * factor, steps, ramp)
    assert (np.diff(lrs) >= 0).all()
    assert (lrs.min(), lrs.max()) == (start, start * factor)


def run(losses, steps=None, **kwargs):
    """The curve of a range test with invented losses."""
    losses = list(losses)
    steps = max(len(losses), 2) if steps is None else steps
    test = RangeTest(1e-5, 10.0, steps, **kwargs)
    for loss in losses:
        if not test.record(loss):
            break
    return test.curve


def noisy(mean, spread, seed=0, n=200):
    """`n` losses around `mean` (a number or an array)."""
    return mean + spread * np.random.default_rng(seed).normal(size=n)


RAMP = np.linspace(0.0, 1.0, 200)
BLOW_UP = np.where(RAMP < 0.6, 0.0, np.exp(60 * (RAMP - 0.6)) - 1.0)
FALL = -np.clip(RAMP - 0.2, 0.0, 0.4)

NEVER_STOP = {
    "falling-to-zero": 2.3 * np.exp(-20 * RAMP),
    "falling-far-below-its-best": 10.0 ** (-12 * RAMP),
    "falling-through-zero": 1.0 - 3.0 * RAMP,
    "falling-when-negative": -10.0 - 100.0 * RAMP,
    "falling-faster-and-faster": -np.exp(10 * RAMP),
    "flat": np.full(200, 2.3),
    "flat-at-zero": np.zeros(200),
    "flat-when-negative": np.full(200, -2.3),
    "noisy-flat": noisy(2.3, 0.5),
    "noisy-around-zero": noisy(0.0, 1.0),
    "noisy-when-negative": noisy(-5.0, 2.0),
    "noisy-small-batches": np.abs(noisy(1.0, 1.0)),
    "noisy-falling": noisy(2.3 + 2 * FALL, 0.3),
    "one-outlier": np.where(np.arange(200) == 90, 20.0, 2.3),
    "rising-a-little": 2.3 + 2.0 * RAMP,
}

ALWAYS_STOP = {
    "plain": 2.3 + FALL + BLOW_UP,
    "never-fell": 2.3 + BLOW_UP,
    "noisy": noisy(2.3 + 2 * FALL, 0.3) + BLOW_UP,
    "from-zero": BLOW_UP,
    "through-zero": 0.3 + 2 * FALL + BLOW_UP,
    "negative": -5.0 + FALL + BLOW_UP,
    "very-negative": -500.0 + 100 * FALL + 1e3 * BLOW_UP,
    "near-zero": 1e-9 * (2.3 + FALL + BLOW_UP),
    "huge": 1e30 * (2.3 + FALL + BLOW_UP),
    "noisy-negative": noisy(-5.0 + 2 * FALL, 0.3) + BLOW_UP,
}


@pytest.mark.parametrize("case", NEVER_STOP)
def test_run_that_does_not_blow_up_is_not_stopped(case):
    """Zero, negative, noisy or falling: the test goes on to its end."""
    curve = run(NEVER_STOP[case])
    assert curve.stop_reason is StopReason.COMPLETED
    assert len(curve) == 200


@pytest.mark.parametrize("case", ALWAYS_STOP)
def test_run_that_blows_up_is_stopped(case):
    """Within the tenth of the ramp after; without a factor it goes on."""
    curve = run(ALWAYS_STOP[case])
    assert curve.stop_reason is StopReason.DIVERGED
    assert 120 <= len(curve) < 160
    curve = run(ALWAYS_STOP[case], stop_factor=None)
    assert curve.stop_reason is StopReason.COMPLETED


@pytest.mark.parametrize("factor", [1.5, 4.0, 100.0])
def test_stop_factor_is_measured_from_the_best(factor):
    """The smoothed loss has just passed that many times the best one."""
    curve = run(2.3 + FALL + BLOW_UP, stop_factor=factor)
    assert curve.smoothed[-1] > factor * curve.best_loss
    assert curve.smoothed[-2] <= factor * curve.best_loss
    assert curve.best_loss == curve.smoothed.min()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("step", [0, 1, 50])
@pytest.mark.parametrize("stop_factor", [4.0, None])
def test_nan_and_infinities_stop_at_once(bad, step, stop_factor):
    """At any step, whatever the factor; and the curve keeps them."""
    losses = [1.0] * step + [bad] + [1.0] * 50
    curve = run(losses, stop_factor=stop_factor)
    assert curve.stop_reason is StopReason.NOT_FINITE
    np.testing.assert_array_equal(curve.losses, losses[: step + 1])


@pytest.mark.parametrize(
    "kind", [float, np.float32, np.float64, np.array, np.longdouble]
)
def test_numbers_of_numpy_will_do(kind):
    """As losses; and as whatever `len` and `shape` arithmetic gives."""
    test = RangeTest(np.float32(1e-3), np.float64(1), np.int32(5))
    test.record(kind(0.5))
    assert (test.curve.losses.tolist(), test.curve.steps) == ([0.5], 5)


@pytest.mark.parametrize("bad", [None, "high", [1.0, 2.0], np.ones(2)])
def test_what_is_no_number_is_refused_and_not_recorded(bad):
    """With an error that shows it; the test can go on, but not past its end."""
    test = RangeTest(1e-3, 1.0, 2)
    with pytest.raises(TypeError, match="loss"):
        test.record(bad)
    assert len(test.curve) == 0
    assert test.record(1.0)
    assert not test.record(1.0)
    with pytest.raises(RuntimeError, match="over"):
        test.record(1.0)
    assert len(test.curve) == 2


@pytest.mark.parametrize("ran", [0, 1, 3])
def test_curve_of_an_unfinished_test_is_interrupted(ran):
    """A curve can be read at any time, and says that it is not whole."""
    curve = run([1.0] * ran, steps=5)
    assert curve.stop_reason is StopReason.INTERRUPTED
    assert (len(curve), curve.steps) == (ran, 5)


@pytest.mark.parametrize(
    "reason", [StopReason.OUT_OF_DATA, StopReason.INTERRUPTED]
)
def test_end_gives_the_reason_once(reason):
    """The first one is what counts; its name is none."""
    test = RangeTest(1e-3, 1.0, 5)
    test.record(1.0)
    with pytest.raises(TypeError, match="reason"):
        test.end("interrupted")
    test.end(reason)
    test.end(StopReason.COMPLETED)
    assert test.done
    assert test.curve.stop_reason is reason


BAD = {
    "start_lr": (0, -1.0, math.nan, "1e-3", None, True),
    "end_lr": (math.inf, 1e-3, 1e-4),
    "steps": (1, 5.0, True),
    "ramp": ("cosine",),
    "stop_factor": (1, math.nan, "4"),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, v) for name in BAD for v in BAD[name]]
)
def test_bad_argument_is_refused_by_name(name, value):
    """The error names the argument and shows what was received."""
    given = {"start_lr": 1e-3, "end_lr": 1.0, "steps": 5, name: value}
    with pytest.raises((TypeError, ValueError), match=f"`{name}`.*Received"):
        RangeTest(**given)


any_loss = st.floats(allow_nan=True, allow_infinity=True)
finite_loss = st.floats(-1e6, 1e6)


@given(
    losses=st.lists(any_loss, max_size=60),
    steps=st.integers(2, 60),
    stop_factor=st.one_of(st.none(), st.floats(1.01, 100.0)),
)
def test_any_losses_make_a_curve(losses, steps, stop_factor):
    """No list of floats is an error; the curve is as long as what ran."""
    curve = run(losses, steps=steps, stop_factor=stop_factor)
    assert isinstance(curve, Curve)
    assert len(curve) <= min(steps, len(losses))
    np.testing.assert_array_equal(curve.losses, losses[: len(curve)])
    json.loads(curve.to_json())


@given(
    losses=st.lists(finite_loss, min_size=2, max_size=60).map(
        lambda losses: sorted(losses, reverse=True)
    )
)
def test_no_falling_run_is_ever_stopped(losses):
    """However fast, through zero and beyond."""
    assert run(losses).stop_reason is StopReason.COMPLETED


@given(
    losses=st.lists(st.floats(1e-3, 1e3), min_size=2, max_size=60),
    power=st.integers(-40, 40),
)
def test_scaling_the_losses_changes_nothing(losses, power):
    """Twice the loss, the same test: to the bit, for powers of two."""
    plain, scaled = run(losses), run(np.array(losses) * 2.0**power)
    assert scaled.stop_reason is plain.stop_reason
    assert len(scaled) == len(plain)


def test_long_test_is_quick():
    """A hundred thousand steps take the engine a second or so, not more."""
    test = RangeTest(1e-7, 10.0, 100_000, stop_factor=None)
    losses = itertools.cycle(range(7))
    while test.record(2.3 + next(losses)):
        pass
    assert len(test.curve) == 100_000
