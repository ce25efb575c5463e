"""The cost benchmark's arithmetic: what it calls sure, met, and shows."""

import json

import numpy as np
import pytest

from benchmarks.cost.pairing import compare
from benchmarks.cost.pairing import interleave
from benchmarks.cost.pairing import spread
from benchmarks.cost.table import cell
from benchmarks.cost.table import write_table
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


def test_a_drift_that_both_share_cancels():
    """Rounds differ by a factor of two, the difference is the same."""
    drift = np.linspace(1.0, 2.0, 20)
    rounds = {"plain": list(drift), "finder": list(drift + 1e-5)}
    added = compare(rounds, "finder", "plain", "µs")["added, µs"]
    for name in ("median", "low", "high", "sure_low", "sure_high"):
        assert added[name] == pytest.approx(10.0, rel=1e-6)


def test_every_contender_runs_once_a_round_and_the_first_warms_up():
    """What it took then is not among the figures."""
    calls = iter(range(100))
    found = interleave({"a": lambda: next(calls), "b": lambda: next(calls)}, 3)
    assert sorted(found["a"] + found["b"]) == [2, 3, 4, 5, 6, 7]


def tiny_mlp(interval):
    """Returns stored figures of a step on TensorFlow, in microseconds."""
    added = dict(zip(("sure_low", "median", "sure_high"), interval))
    row = {"model": "tiny MLP", "in the fit": "LRFinder", "added, µs": added}
    return {"tensorflow": {"steps": {"rows": [row]}}}


@pytest.mark.parametrize(
    ("interval", "alone", "beside_a_peer"),
    [
        ((20.0, 30.0, 39.0), "met", "met"),
        ((40.0, 50.0, 60.4), "met", "open"),
        ((55.0, 58.0, 61.0), "open", "open"),
        ((60.6, 70.0, 80.0), "missed", "missed"),
    ],
)
def test_a_verdict_needs_the_whole_interval(interval, alone, beside_a_peer):
    """At most 60 us, as shown; a peer is at 40 to 60, with an interval too."""
    (row,) = judge(tiny_mlp(interval))  # what was not measured gets no row
    assert row["verdict"] == alone
    added = {"sure_low": 40.0, "median": 50.0, "sure_high": 60.0}
    peer = {"model": "tiny MLP", "finder": "another", "added, µs": added}
    found = {**tiny_mlp(interval), "peers": {"peers": {"rows": [peer]}}}
    row = judge(found)[-1]
    assert "another" in row["figure"]
    assert row["verdict"] == beside_a_peer


def test_what_is_stale_is_marked(tmp_path):
    """And every figure is shown with its quartiles."""
    about = {"machine": "one", "versions": "0.1", "date": "today"}
    rows = [{"import, ms": spread([12.0, 13.0, 15.0])}]
    stored = {"imports": {"rows": rows, "stale": True, **about}}
    document = tmp_path / "RESULTS.md"
    (tmp_path / "jax.json").write_text(json.dumps(stored))
    write_table(tmp_path, document)
    assert "| JAX † | 13.0 [12.5, 14.0] |" in document.read_text()
    assert cell(-0.0) == "0.000"
