"""What is shown of a curve: its window, and fewer points of it."""

import math

import numpy as np
import pytest
from descents import POINTS
from descents import run
from hypothesis import given
from hypothesis import settings

from keras_lrfinder.drawing.view import thin_out
from keras_lrfinder.drawing.view import view


class TestView:
    @pytest.mark.parametrize("height", [10.0, 1e5, 1e200])
    def test_blow_up_does_not_flatten_the_descent(self, height):
        """The descent fills over half of the window, whatever follows."""
        shown = view(*run(height=height))

        assert 2.0 / (shown.high - shown.low) > 0.5
        assert shown.low < 0.35
        assert shown.high > 2.3

    def test_scale_of_the_losses_is_the_windows(self):
        """Losses times a thousand: limits times a thousand."""
        lrs, losses = run()
        one, many = view(lrs, losses), view(lrs, 1e3 * losses)

        assert many.low == pytest.approx(1e3 * one.low)
        assert many.high == pytest.approx(1e3 * one.high)

    def test_deep_descent_is_logarithmic(self):
        """A fall over decades is seen to its end."""
        lrs = np.geomspace(1e-6, 1.0, 200)
        shown = view(lrs, 1.0 / (1.0 + (lrs / 1e-4) ** 2))

        assert shown.log
        assert 0 < shown.low < 1e-7
        assert 1 < shown.high < 1e3

    def test_usual_descent_is_linear(self):
        """From 2.3 to 0.3 needs no logarithm."""
        assert not view(*run()).log

    def test_negative_losses_are_linear(self):
        """Where losses are negative a logarithm means nothing."""
        lrs, losses = run()
        shown = view(lrs, losses - 50.0)

        assert not shown.log
        assert shown.low == pytest.approx(view(lrs, losses).low - 50, rel=0.01)

    def test_rise_from_the_start_is_seen(self):
        """A test that only got worse shows how."""
        lrs = np.geomspace(1e-3, 10.0, 100)
        shown = view(lrs, 1.0 + lrs)

        assert shown.high > 2.0

    @pytest.mark.parametrize("loss", [0.0, 3.0, -3.0, 1e-300, 1e308])
    def test_constant_losses_have_a_window(self, loss):
        """Around them, and not empty."""
        shown = view(np.geomspace(1e-3, 1, 20), [loss] * 20)

        assert shown.low < shown.high

    @pytest.mark.filterwarnings("error")
    @settings(max_examples=100, deadline=None)
    @given(POINTS)
    def test_any_points_have_a_window(self, points):
        """Finite limits with room between, without a warning."""
        shown = view([lr for lr, _ in points], [y for _, y in points])

        assert math.isfinite(shown.low)
        assert math.isfinite(shown.high)
        assert shown.low < shown.high
        assert not shown.log or shown.low > 0


class TestThinOut:
    def test_short_curves_stay_whole(self):
        """Up to two points a cell nothing is left out, NaNs included."""
        lrs, losses = run(200)
        losses[7] = np.nan
        found = thin_out(lrs, losses, 100)

        np.testing.assert_array_equal(lrs, found[0])
        np.testing.assert_array_equal(losses, found[1])

    def test_every_cell_keeps_its_extremes(self):
        """Lowest and highest of each cell, found one cell at a time."""
        lrs, losses = run(5000)
        found = thin_out(lrs, losses, 50)
        share = np.log(lrs / lrs[0]) / np.log(lrs[-1] / lrs[0])
        cell = np.minimum((share * 50).astype(int), 49)
        expected = sorted(
            chosen
            for c in range(50)
            for chosen in {losses[cell == c].min(), losses[cell == c].max()}
        )

        assert expected == sorted(found[1].tolist())

    def test_order_is_kept(self):
        """Points stay in the order of their LRs, each with its loss."""
        lrs, losses = run(5000)
        x, y = thin_out(lrs, losses, 50)

        assert np.all(np.diff(x) > 0)
        assert np.isin(y, losses).all()
