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


def steps_of(low, middle, high):
    """Returns stored figures: the finder's own cost of a step, thrice."""
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


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_verdict_needs_the_whole_interval(verdict):
    """At most 60 us, as shown: the target of the tiny model."""
    finder = {"LRFinder": steps_of(*VERDICTS[verdict])}
    steps = {"tiny MLP": finder, "small CNN": finder}
    rows = judge({"tensorflow": stored("steps", steps)})
    assert rows[0][-1] == verdict


BESIDE = {
    "met": (20.0, 30.0, 39.0),
    "open": (35.0, 45.0, 50.0),
    "missed": (61.0, 65.0, 70.0),
}


@pytest.mark.parametrize("verdict", BESIDE)
def test_a_peer_is_beaten_where_the_intervals_are_apart(verdict):
    """The peer's own interval is 40 to 60."""
    finder = {"LRFinder": steps_of(*BESIDE[verdict])}
    steps = {"tiny MLP": finder, "small CNN": finder}
    peers = {"tiny MLP": {"another": steps_of(40.0, 50.0, 60.0)}}
    rows = judge(
        {
            "tensorflow": stored("steps", steps),
            "peers": stored("peers", peers),
        }
    )
    assert "another" in rows[-1][0]
    assert rows[-1][-1] == verdict
