"""The moving average against its formula and a plain loop."""

import math

import numpy as np
import pytest

from keras_lrfinder.analysis.curve import RunningEMA
from keras_lrfinder.analysis.curve import ema
from keras_lrfinder.analysis.curve import ema_span


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
