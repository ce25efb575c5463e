"""One notion of a number, an integer and a flag, wherever one is asked for."""

import decimal
import fractions

import numpy as np
import pytest

from keras_lrfinder import Curve
from keras_lrfinder import OneCycle
from keras_lrfinder import RangeTest
from keras_lrfinder import Suggestion
from keras_lrfinder import Triangular
from keras_lrfinder import arguments

HALVES = [
    0.5,
    np.float16(0.5),
    np.float32(0.5),
    np.longdouble(0.5),
    np.array(0.5),
    fractions.Fraction(1, 2),
    decimal.Decimal("0.5"),
    Suggestion(0.5, 0.1, 0.9, "high", "default", "seen"),
]
NO_NUMBERS = [True, np.bool_(True), np.array(True), 1j, np.complex64(1)]
NO_NUMBERS += ["0.5", b"0.5", np.str_("0.5"), np.array("0.5")]
NO_NUMBERS += [[0.5], np.array([0.5]), None, float]
# Every public door through which a number comes in.
DOORS = {
    "RangeTest.start_lr": lambda x: RangeTest(x, 1.0, 5).curve.start_lr,
    "RangeTest.end_lr": lambda x: RangeTest(0.1, x, 5).curve.end_lr,
    "Curve.end_lr": lambda x: Curve([1.0], [1.0], end_lr=x).end_lr,
    "Curve.best_loss": lambda x: Curve([1.0], [1.0], best_loss=x).best_loss,
    "OneCycle.max_lr": lambda x: OneCycle(x, 5).max_lr,
    "OneCycle.final_lr": lambda x: OneCycle(1.0, 5, final_lr=x).final_lr,
    "Triangular.base_lr": lambda x: Triangular(x, 1.0, 5).base_lr,
}
# None stands for a default there.
OPTIONAL = ("Curve.end_lr", "Curve.best_loss", "OneCycle.final_lr")
COUNTS = {
    "RangeTest.steps": lambda n: RangeTest(0.1, 1.0, n).curve.steps,
    "Curve.batch_size": lambda n: Curve([], [], batch_size=n).batch_size,
    "Curve.steps": lambda n: Curve([1.0], [1.0], steps=n).steps,
    "OneCycle.total_steps": lambda n: OneCycle(1.0, n).total_steps,
    "Triangular.step_size": lambda n: Triangular(0.1, 1.0, n).step_size,
}


def is_exactly(value, expected):
    """Whether a value is the same number, and one of Python's own."""
    return value == expected and isinstance(value, type(expected))


@pytest.mark.parametrize("half", HALVES, ids=repr)
@pytest.mark.parametrize("door", DOORS)
def test_every_door_takes_every_kind_of_number(door, half):
    """What is a number in one place is one in all, and becomes a float."""
    assert is_exactly(DOORS[door](half), 0.5)


@pytest.mark.parametrize(
    ("door", "value"),
    [
        (door, value)
        for door in DOORS
        for value in NO_NUMBERS
        if value is not None or door not in OPTIONAL
    ],
    ids=repr,
)
def test_no_door_takes_what_is_no_number(door, value):
    """Text, truth values and arrays are refused, by the argument's name."""
    name = door.split(".")[1]
    with pytest.raises(TypeError, match=f"`{name}` must be a number.*Rec"):
        DOORS[door](value)


@pytest.mark.parametrize("half", HALVES, ids=repr)
def test_entries_of_arrays_are_the_same_numbers(half):
    """A list of them is a vector."""
    found = arguments.vector("x", [half, half])
    np.testing.assert_array_equal(found, [0.5, 0.5])


@pytest.mark.parametrize("value", [True, "0.5", None, 1j], ids=repr)
def test_entries_of_arrays_are_nothing_else(value):
    """NumPy would make numbers of some of these."""
    with pytest.raises(TypeError, match="`x` must be numbers"):
        arguments.vector("x", [value, value])


@pytest.mark.parametrize(
    "five", [5, np.int8(5), np.uint64(5), np.array(5)], ids=repr
)
@pytest.mark.parametrize("door", COUNTS)
def test_every_door_takes_every_kind_of_integer(door, five):
    """NumPy's integers become Python's."""
    assert is_exactly(COUNTS[door](five), 5)


@pytest.mark.parametrize(
    "value",
    [True, np.bool_(True), 5.0, np.float64(5), "5", [5], np.array([5])],
    ids=repr,
)
@pytest.mark.parametrize("door", COUNTS)
def test_no_door_takes_what_is_no_integer(door, value):
    """Neither a truth value nor a float without decimals."""
    with pytest.raises(TypeError, match=r"must be an integer\. Received"):
        COUNTS[door](value)


@pytest.mark.parametrize(
    ("check", "given", "words"),
    [
        ("number", [np.nan], "`x` must be finite. Received: x=nan"),
        ("number", [10**400], "`x` must be small enough for a float. Rec"),
        ("positive", [0], "`x` must be positive. Received: x=0"),
        ("fraction", [1.0], "`x` must be at least 0 and below 1. Rec"),
        ("integer", [1, 2], "`x` must be at least 2. Rec"),
        ("integer", [10, 2, 9], "`x` must be between 2 and 9. Rec"),
        ("one_of", ["c", ("a", "b")], "must be one of 'a', 'b'"),
        ("learning_rates", [[1.0, 0.0]], "`x` must be positive and finite. R"),
        ("vector", [[[1.0]]], "`x` must have one dimension. Received"),
        ("text", [3], "`x` must be a string. Received: x=3 .of type int"),
        ("one_of", [3, ("a",)], "`x` must be a string. Rec"),
    ],
)
def test_what_will_not_do_is_refused(check, given, words):
    """The message says what must hold, then what came."""
    with pytest.raises((TypeError, ValueError), match=words):
        getattr(arguments, check)("x", *given)


def test_nan_and_infinities_pass_where_they_mean_something():
    """An empty curve has no lowest loss, and a stop factor no limit."""
    assert np.isnan(arguments.number("x", np.nan, finite=False))
    assert arguments.number("x", np.inf, finite=False) == np.inf


@pytest.mark.parametrize(
    "flag", [True, False, np.bool_(True), np.array(False), 1, 0, np.int64(2)]
)
def test_flags_are_truth_values_and_integers(flag):
    """`verbose=2` is Keras's way."""
    arguments.check_flag("x", flag)


@pytest.mark.parametrize("value", ["no", 1.0, None, [True]])
def test_nothing_else_is_a_flag(value):
    """The text "no" would be true."""
    with pytest.raises(TypeError, match="`x` must be True or False"):
        arguments.check_flag("x", value)
