"""What the package says of a run is so, in hopeless cases above all."""

import numpy as np
import pytest
from landscape import ramp
from landscape import trainer

from benchmarks.quality.hopeless import CASES
from benchmarks.quality.hopeless import all_nan
from benchmarks.quality.hopeless import by_callback
from benchmarks.quality.hopeless import by_lr_find
from benchmarks.quality.hopeless import net
from benchmarks.quality.hopeless import regression
from benchmarks.quality.hopeless import with_bad_row
from keras_lrfinder import Curve
from keras_lrfinder import Plan
from keras_lrfinder import search
from keras_lrfinder import suggest
from keras_lrfinder.pictures.report import run_rows
from keras_lrfinder.pictures.report import text_table

# A callback does not see the data, and a bias learns well without them.
HOPELESS = [
    pytest.param(
        way,
        name,
        marks=[] if "NaN" in name else pytest.mark.thorough_on("tensorflow"),
    )
    for way in (by_lr_find, by_callback)
    for name in CASES
    if (way, name) != (by_callback, "NaN everywhere")
]


@pytest.mark.parametrize(("way", "name"), HOPELESS)
def test_hopeless_cases_are_never_called_sure(way, name):
    """Nothing learnt, or nothing to judge it by, is no high confidence."""
    assert way(*CASES[name]("adam")).suggestion.confidence != "high"


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_two_sure_answers_to_one_question_agree(optimizer, recwarn):
    """Where callback and `lr_find` are both sure, each is in its range.

    And nobody is accused of having set the learning rate, who did not.
    """
    x, y = regression(2000)
    one, other = (
        way(net(optimizer), x, y).suggestion
        for way in (by_callback, by_lr_find)
    )
    if one.confidence == other.confidence == "high":
        assert one.low <= other.lr <= one.high
        assert other.low <= one.lr <= other.high
    assert not [w for w in recwarn if "learning rate" in str(w.message)]


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("x", lambda: (net("adam"), *with_bad_row("x", np.nan))),
        ("y", lambda: (net("adam"), *with_bad_row("y", np.nan))),
        # Also where a layer hides it from the loss.
        ("x", lambda: all_nan("adam")),
    ],
)
def test_a_nan_in_the_data_is_called_one(name, make):
    """By the name of the argument, instead of "test lower"."""
    found = by_lr_find(*make()).suggestion
    assert f"`{name}` has NaN" in found.reason
    assert "ower `start_lr`" not in found.reason
    assert found.confidence != "high"


def curve_of(lrs, losses, **more):
    return Curve(np.asarray(lrs), np.asarray(losses), **more)


def usual(rows=60):
    x = np.linspace(-6, 0, rows)
    losses = 2.3 - 1.8 / (1 + np.exp(-3 * (x + 2.5))) + np.exp(4 * (x + 0.3))
    return curve_of(10.0**x, losses, optimizer="adam")


def test_a_run_that_learns_nothing_above_one_that_does_is_too_high():
    """As a network whose units have died: half a decade lower is safe."""

    def train(run):
        return [2.3 if run.lr > 3e-2 else loss for loss in trainer(-2.0)(run)]

    curve, plan = ramp(optimizer="adam"), Plan("one_cycle", 100)
    runs, found = search(curve, train, plan)
    top = min(run.lr for run in runs if run.final_loss == 2.3)
    assert found.lr <= top / np.sqrt(10)
    assert f"The training loss did not fall at {top:.1e}." in found.reason


def test_a_run_that_has_a_loss_did_not_blow_up():
    """The words say of a run what the table says."""

    def train(run):
        risen = [9.0 if run.lr > 3e-3 else loss for loss in trainer()(run)]
        return risen if run.lr else [*risen[:-1], 2.3]

    runs, found = search(ramp(), train, Plan(held_out=4))
    table = text_table(run_rows(runs))
    assert "blew up" not in table + found.reason
    top = min(run.lr for run in runs if run.final_loss == 9.0)
    assert f"The training loss did not fall at {top:.1e}." in found.reason
    _, found = search(ramp(), lambda run: [9.0] * len(run.lrs), Plan())
    assert found.lr is None
    assert "made the training loss rise" in found.reason


def test_a_curve_has_one_lowest_loss():
    """In words, as a number and in its repr."""
    curve = usual()
    assert f" to {curve.best_loss:.3g} near" in suggest(curve).reason


@pytest.mark.parametrize("falls", [False, True])
@pytest.mark.parametrize("end", [0.1, 10.0])
def test_no_higher_end_is_asked_for_where_it_is_high(falls, end):
    """Then the loss may not fit the last layer: softmax and logits."""
    lrs = np.geomspace(1e-7, end, 60)
    losses = 2.0 + 0.01 * np.sin(np.arange(60.0)) - falls * np.sqrt(lrs / end)
    reason = suggest(curve_of(lrs, losses, optimizer="adam")).reason
    assert ("aise `end_lr`" in reason) == (end < 1.0)
    assert ("`from_logits`" in reason) == (end > 1.0)


@pytest.mark.parametrize("lrs", [[1e-1, 1e-2, 1e-3], [1e-3, 1e-1, 1e-2]])
def test_falling_learning_rates_are_no_curve(lrs):
    """A range test goes up; of anything else the reasons would be false."""
    with pytest.raises(ValueError, match="`lrs` must"):
        Curve(lrs, [3.0, 2.0, 1.0])


def test_valley_is_in_the_longest_descent():
    """Three decades of descent, and then a deeper one of half a decade."""
    x = np.linspace(-7, -1, 601)
    corners = [-7.0, -6.0, -3.0, -2.8, -2.2, -1.7, -1.3, -1.0]
    losses = np.interp(x, corners, [2.0, 2.0, 1.0, 3.0, 3.0, 0.2, 0.2, 4.0])
    found = suggest(curve_of(10.0**x, losses), "valley").lr
    assert -6 < np.log10(found) < -3


def test_a_rule_that_finds_none_is_a_refusal():
    """None is an answer: that there is no learning rate."""

    def nothing(curve):
        return None

    found = suggest(usual(), nothing)
    assert (found.lr, found.confidence) == (None, "none")
    assert "nothing found none" in found.reason
