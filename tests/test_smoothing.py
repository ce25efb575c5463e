"""The moving average and the spline against formulas and plain loops."""

import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_lrfinder.analysis.smoothing import RunningEMA
from keras_lrfinder.analysis.smoothing import ema
from keras_lrfinder.analysis.smoothing import ema_span
from keras_lrfinder.drawing.spline import smoothing_spline

FINITE = st.floats(allow_nan=False, allow_infinity=False)
# Beyond, sums of two have no float; a picture clips such losses before.
ANY_LOSS = st.one_of(
    st.floats(min_value=-1e300, max_value=1e300),
    st.sampled_from([math.nan, math.inf, -math.inf]),
)
LRS = st.floats(min_value=1e-12, max_value=1e6)


def descent(lrs):
    """A loss from 2.3 to 0.3, halfway at 1e-3, flat at both ends."""
    return 0.3 + 2.0 / (1.0 + (lrs / 1e-3) ** 1.5)


def literal_ema(values, span):
    """The weights of every average, written out."""
    beta = 1 - 2 / (span + 1)
    averages = []
    for i in range(len(values)):
        weights = [(1 - beta) * beta ** (i - j) for j in range(i + 1)]
        total = math.fsum(w * x for w, x in zip(weights, values))
        averages.append(total / math.fsum(weights))
    return averages


class TestEMA:
    @pytest.mark.parametrize("span", [1.0, 2.5, 20.0])
    def test_equals_the_weighted_means_written_out(self, span):
        """Every value is the mean with weights beta^age, divided by theirs."""
        values = np.random.default_rng(0).normal(2.0, 1.0, 60)

        np.testing.assert_allclose(
            literal_ema(values, span), ema(values, span), rtol=1e-12
        )

    def test_keeps_a_constant(self):
        """Bias correction: a constant is itself from the first value on."""
        np.testing.assert_allclose([3.7] * 50, ema([3.7] * 50, 30), rtol=1e-14)

    def test_span_one_is_the_identity(self):
        """A span of one step smooths nothing."""
        assert ema([3.0, -1.0, 2.0], 1).tolist() == [3.0, -1.0, 2.0]

    def test_steps_over_what_is_not_finite(self):
        """NaN and infinities leave the average as it was."""
        found = ema([1.0, math.nan, 4.0, math.inf, -math.inf], 3)

        assert math.isnan(found[1])
        assert math.isnan(found[3])
        assert math.isnan(found[4])
        assert ema([1.0, 4.0], 3)[1] == found[2]

    def test_one_by_one_is_all_at_once(self):
        """`RunningEMA` and `ema` give the same numbers."""
        values = np.random.default_rng(1).normal(size=40).tolist()
        average = RunningEMA(7.0)

        assert [average.update(x) for x in values] == ema(values, 7.0).tolist()

    @pytest.mark.parametrize("span", [0.0, 0.99, -3.0, math.nan, math.inf])
    def test_refuses_a_span_below_one(self, span):
        """A span is at least one step."""
        with pytest.raises(ValueError, match="`span` must be at least 1"):
            RunningEMA(span)

    @pytest.mark.parametrize(
        ("steps", "span"), [(1, 1.0), (10, 1.0), (100, 10.0), (469, 46.9)]
    )
    def test_span_is_a_tenth_of_the_test(self, steps, span):
        """A tenth of the steps, and one at least."""
        assert span == ema_span(steps)


class TestSplineTruth:
    def test_follows_a_smooth_curve(self):
        """Without noise the formula comes back, to a hundredth of its fall."""
        lrs = np.geomspace(1e-6, 1.0, 200)

        grid, values = smoothing_spline(lrs, descent(lrs))

        np.testing.assert_allclose(descent(grid), values, atol=0.02)

    @pytest.mark.parametrize("seed", range(5))
    def test_takes_most_of_the_noise_away(self, seed):
        """The error of the line is under half of that of the points."""
        lrs = np.geomspace(1e-6, 1.0, 300)
        noise = np.random.default_rng(seed).normal(0.0, 0.2, 300)

        grid, values = smoothing_spline(lrs, descent(lrs) + noise)

        assert np.std(values - descent(grid)) < 0.2 / 2

    def test_is_evenly_spaced_in_log_lr(self):
        """Neighbours on the grid have one and the same ratio."""
        lrs = np.linspace(1e-4, 1.0, 200)

        grid, values = smoothing_spline(lrs, descent(lrs))

        assert (len(grid), len(values)) == (300, 300)
        np.testing.assert_allclose(
            1e4 ** (1 / 299), grid[1:] / grid[:-1], rtol=1e-9
        )

    def test_spans_the_finite_points_exactly(self):
        """Its ends are the first and the last LR with a finite loss."""
        lrs = np.geomspace(3e-7, 7.0, 90)
        losses = descent(lrs)
        losses[-5:] = np.nan

        grid, _ = smoothing_spline(lrs, losses)

        assert (lrs[0], lrs[-6]) == (grid[0], grid[-1])

    def test_linear_ramp_is_smoothed_in_log_too(self):
        """Nine tenths of the steps in one decade leave the others drawn."""
        lrs = np.linspace(1e-4, 1.0, 2000)
        rng = np.random.default_rng(3)

        losses = descent(lrs / 100.0) + rng.normal(0, 0.05, 2000)
        grid, values = smoothing_spline(lrs, losses)

        np.testing.assert_allclose(descent(grid / 100.0), values, atol=0.1)


class TestSplineBlowUp:
    @pytest.mark.parametrize("height", [1e1, 1e3, 1e6, 1e30, 1e300])
    def test_leaves_the_descent_alone(self, height):
        """A blow-up of any height moves the line before it by little."""
        lrs = np.geomspace(1e-6, 10.0, 300)
        noise = np.random.default_rng(0).normal(0.0, 0.03, 300)
        losses = descent(lrs) + noise
        losses[-6:] = height * np.linspace(0.1, 1.0, 6)

        grid, values = smoothing_spline(lrs, losses)

        before = grid < lrs[-6] / 2.0
        np.testing.assert_allclose(
            descent(grid)[before], values[before], atol=0.15
        )

    @pytest.mark.parametrize("height", [1e3, 1e6, 1e12])
    def test_reaches_the_blow_up(self, height):
        """The line leaves the window where the losses do."""
        lrs = np.geomspace(1e-6, 10.0, 300)
        losses = descent(lrs)
        losses[-12:] = np.geomspace(3.0, height, 12)

        _, values = smoothing_spline(lrs, losses)

        assert values[-1] > 0.01 * height

    @pytest.mark.parametrize("seed", range(4))
    def test_does_not_dip_before_the_rise(self, seed):
        """No minimum that the data lack appears before a steep rise."""
        lrs = np.geomspace(1e-6, 10.0, 400)
        losses = descent(lrs)
        losses += np.random.default_rng(seed).normal(0.0, 0.02, 400)
        losses[-10:] = np.geomspace(1.0, 1e5, 10)

        _, values = smoothing_spline(lrs, losses)

        assert values.min() > 0.3 - 0.04

    def test_stays_within_the_losses(self):
        """The line never goes beyond the lowest and the highest loss."""
        lrs = np.geomspace(1e-6, 10.0, 100)
        losses = np.where(lrs > 1, 1e4, np.where(lrs > 1e-3, -5.0, 2.0))

        _, values = smoothing_spline(lrs, losses)

        assert losses.min() <= values.min()
        assert values.max() <= losses.max()


class TestSplineScale:
    @pytest.mark.parametrize("factor", [1e-12, 1e-3, 0.7, 3.0, 1e9, 1e200])
    def test_losses_times_c_give_the_line_times_c(self, factor):
        """The spline has no scale of its own."""
        lrs = np.geomspace(1e-6, 10.0, 250)
        noise = np.random.default_rng(7).normal(0.0, 0.1, 250)
        losses = descent(lrs) + noise + np.where(lrs > 1, lrs**3, 0)

        _, values = smoothing_spline(lrs, losses)
        _, scaled = smoothing_spline(lrs, factor * losses)

        np.testing.assert_allclose(factor * values, scaled, rtol=1e-6)

    @settings(max_examples=40, deadline=None)
    @given(
        losses=st.lists(
            st.floats(min_value=-100, max_value=100).filter(
                lambda x: x == 0 or abs(x) > 1e-3
            ),
            min_size=1,
            max_size=30,
        ),
        exponent=st.integers(min_value=-60, max_value=60),
    )
    def test_losses_times_a_power_of_two(self, losses, exponent):
        """Any losses at all; a power of two rounds nothing."""
        lrs = np.geomspace(1e-6, 1.0, len(losses))
        factor = 2.0**exponent

        _, values = smoothing_spline(lrs, losses)
        _, scaled = smoothing_spline(lrs, factor * np.array(losses))

        np.testing.assert_allclose(factor * values, scaled, rtol=1e-6)

    def test_lrs_times_c_move_the_line(self):
        """Nor does it know of decades: shifted LRs give the same values."""
        lrs = np.geomspace(1e-6, 10.0, 200)
        losses = descent(lrs)

        _, values = smoothing_spline(lrs, losses)
        grid, moved = smoothing_spline(lrs * 1e-5, losses)

        assert grid[0] == pytest.approx(1e-11)
        np.testing.assert_allclose(values, moved, rtol=1e-6)


class TestSplineAnything:
    @pytest.mark.filterwarnings("error")
    @settings(max_examples=150, deadline=None)
    @given(points=st.lists(st.tuples(LRS, ANY_LOSS), max_size=40))
    def test_no_input_breaks_it(self, points):
        """Finite values on a rising grid, without a warning, always."""
        lrs = [lr for lr, _ in points]
        losses = [loss for _, loss in points]

        grid, values = smoothing_spline(lrs, losses)

        assert len(grid) == len(values)
        assert np.all(np.isfinite(values))
        assert np.all(np.diff(grid) >= 0)
        # Halves: their sum with a tolerance is still a float.
        half = [x / 2 for x in losses if math.isfinite(x)]
        if half:
            low, high = values.min() / 2, values.max() / 2
            assert min(half) <= low + 1e-9 * abs(low)
            assert high <= max(half) + 1e-9 * abs(high)

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("size", [1e308, 1e-300, 5e-324])
    def test_extremes_of_float64(self, size):
        """Huge and tiny losses, of both signs, neither warn nor overflow."""
        lrs = np.geomspace(1e-6, 1.0, 100)
        losses = size * np.sign(np.sin(np.arange(100.0)))

        _, values = smoothing_spline(lrs, losses)

        assert np.all(np.isfinite(values))
        assert np.abs(values).max() <= size

    def test_nothing_gives_nothing(self):
        """No points, or none finite: two empty arrays."""
        assert [len(a) for a in smoothing_spline([], [])] == [0, 0]
        assert [len(a) for a in smoothing_spline([1.0], [math.nan])] == [0, 0]

    def test_one_lr_gives_its_mean(self):
        """Repeated losses of one LR are averaged."""
        grid, values = smoothing_spline([0.1, 0.1, 0.1], [1.0, 2.0, 6.0])

        assert (grid.tolist(), values.tolist()) == ([0.1], [3.0])

    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_few_points_are_joined_by_lines(self, count):
        """Below five points: straight lines in log LR."""
        lrs, losses = 10.0 ** np.arange(count), np.arange(count) ** 2.0

        grid, values = smoothing_spline(lrs, losses)

        np.testing.assert_allclose(
            np.interp(np.log10(grid), np.arange(count), losses),
            values,
            atol=1e-12,
        )

    def test_repeated_lrs_are_averaged(self):
        """Each LR twice, at 1 and at 3: the line is at 2."""
        lrs = np.repeat(np.geomspace(1e-5, 1.0, 40), 2)
        losses = np.tile([1.0, 3.0], 40)

        _, values = smoothing_spline(lrs, losses)

        np.testing.assert_allclose(2.0, values, atol=1e-9)

    def test_order_does_not_matter(self):
        """Shuffled points give the same line."""
        lrs = np.geomspace(1e-6, 1.0, 80)
        order = np.random.default_rng(0).permutation(80)

        _, values = smoothing_spline(lrs, descent(lrs))
        _, mixed = smoothing_spline(lrs[order], descent(lrs)[order])

        np.testing.assert_allclose(values, mixed, rtol=1e-12)

    def test_leaves_its_arguments_alone(self):
        """Read-only arrays go in, and come out as they were."""
        lrs, losses = np.geomspace(1e-6, 1.0, 50), np.arange(50.0)
        lrs.setflags(write=False)
        losses.setflags(write=False)

        smoothing_spline(lrs, losses)

        assert np.arange(50.0).tolist() == losses.tolist()

    def test_a_hundred_thousand_points_follow_the_descent(self):
        """Merged into cells first, 100,000 noisy points still show it."""
        lrs = np.geomspace(1e-7, 10.0, 100_000)
        losses = descent(lrs) + np.random.default_rng(0).normal(0, 0.3, 100_000)

        grid, values = smoothing_spline(lrs, losses)

        np.testing.assert_allclose(descent(grid), values, atol=0.1)

    @pytest.mark.parametrize(
        ("lrs", "losses", "words"),
        [
            ([1.0, 2.0], [1.0], "equal length"),
            ([[1.0]], [[1.0]], "one dimension"),
            ([0.0, 1.0], [1.0, 1.0], "positive and finite"),
            ([-1.0], [1.0], "positive and finite"),
            ([math.nan], [1.0], "positive and finite"),
        ],
    )
    def test_refuses_what_it_cannot_fit(self, lrs, losses, words):
        """Each bad argument has its message."""
        with pytest.raises(ValueError, match=words):
            smoothing_spline(lrs, losses)

    @settings(max_examples=40, deadline=None)
    @given(
        st.lists(FINITE, min_size=5, max_size=50),
        st.floats(min_value=1e-9, max_value=1e-6),
    )
    def test_lrs_that_all_but_coincide(self, losses, gap):
        """LRs a hair apart neither warn nor break the equations."""
        lrs = 1e-3 * (1.0 + gap * np.arange(len(losses)) ** 2.0)
        with warnings.catch_warnings():
            warnings.simplefilter("error")

            _, values = smoothing_spline(lrs, losses)

        assert np.all(np.isfinite(values))


def test_scipy_is_loaded_by_the_first_spline_only():
    """Importing the module loads no scipy; a spline does."""
    code = (
        "import sys, keras_lrfinder.drawing.spline as s; "
        "assert 'scipy' not in sys.modules; "
        "s.smoothing_spline([1., 2., 3., 4., 5., 6.], [1.] * 6); "
        "assert 'scipy' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
