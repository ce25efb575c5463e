"""The cost benchmark's arithmetic: what it calls sure, and what met."""

import numpy as np
import pytest

from benchmarks.cost.pairing import Cost
from benchmarks.cost.pairing import compare
from benchmarks.cost.pairing import spread
from benchmarks.cost.targets import judge


@pytest.mark.parametrize("rounds", [6, 15, 100])
def test_the_interval_holds_the_true_median_in_95_of_100(rounds):
    """Of a skewed distribution, whose median is that of no normal one."""
    rng = np.random.default_rng(1)
    trials, median = 2000, np.log(2.0)
    draws = [spread(rng.exponential(size=rounds)) for _ in range(trials)]
    held = [s["sure_low"] <= median <= s["sure_high"] for s in draws]
    error = 3 * np.sqrt(0.95 * 0.05 / trials)
    assert np.mean(held) > 0.95 - error


def test_the_interval_is_narrower_than_the_quartiles_after_many_rounds():
    """The quartiles stay as wide as the noise, the interval does not."""
    found = spread(np.random.default_rng(2).normal(size=400))
    sure = found["sure_high"] - found["sure_low"]
    assert sure < (found["high"] - found["low"]) / 3


def test_a_drift_that_both_share_cancels():
    """Rounds differ by a factor of two, the difference is the same."""
    drift = np.linspace(1.0, 2.0, 20)
    rounds = {
        "plain": [Cost(speed, speed) for speed in drift],
        "finder": [Cost(speed + 1e-5, speed + 1e-5) for speed in drift],
    }
    wall = compare(rounds, "finder", "plain", unit=1e-6)["wall"]
    for name in ("median", "low", "high", "sure_low", "sure_high"):
        assert wall["added"][name] == pytest.approx(10.0, rel=1e-6)


def test_the_interval_of_thousands_of_values_is_the_normal_one():
    """Their ranks are the values; a hook has been timed as often."""
    values = 2500
    found = spread(range(values))
    half = 1.96 * np.sqrt(values) / 2
    assert found["sure_high"] - found["median"] == pytest.approx(half, abs=1.5)
    assert found["median"] - found["sure_low"] == pytest.approx(half, abs=1.5)


def cost_of_a_step(low, middle, high):
    """Returns stored figures, the same in microseconds and as a ratio."""
    added = {"median": middle, "sure_low": low, "sure_high": high}
    wall = {"added": added, "ratio": added}
    wall["fastest"] = {"added": middle, "ratio": middle}
    return {"wall": wall}


def stored(part, figures):
    return {"parts": {part: {"figures": figures}}}


VERDICTS = {
    "met": (40.0, 50.0, 60.4),
    "open": (55.0, 58.0, 61.0),
    "missed": (60.6, 70.0, 80.0),
}


def rows_of(interval, **others):
    finder = {"LRFinder": cost_of_a_step(*interval)}
    steps = {"tiny MLP": finder, "small CNN": finder}
    return judge({"tensorflow": stored("steps", steps), **others})


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_verdict_needs_the_whole_interval(verdict):
    """At most 60 us, as shown: the target of the tiny model."""
    assert rows_of(VERDICTS[verdict])[0][-1] == verdict


def test_a_quick_try_measures_fewer_points():
    """What it left out gets no row."""
    analysis = {"100": {"suggest": spread([0.001])}}
    assert judge({"tensorflow": stored("analysis", analysis)}) == []


BESIDE = {
    "met": (20.0, 30.0, 39.0),
    "open": (35.0, 45.0, 50.0),
    "missed": (61.0, 65.0, 70.0),
}


@pytest.mark.parametrize("verdict", BESIDE)
def test_a_peer_is_beaten_where_the_intervals_are_apart(verdict):
    """The peer's own interval is 40 to 60."""
    peers = {"tiny MLP": {"another": cost_of_a_step(40.0, 50.0, 60.0)}}
    row = rows_of(BESIDE[verdict], peers=stored("peers", peers))[-1]
    assert "another" in row[0]
    assert row[-1] == verdict
