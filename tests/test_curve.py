"""A curve keeps what was measured: in memory, on disk, on the screen."""

import copy
import dataclasses
import json
import math
import pathlib
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_lrfinder import Curve
from keras_lrfinder import RangeTest
from keras_lrfinder import StopReason

SETTINGS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["NaN", "Infinity", "-Infinity", "~NaN", "~~NaN"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def curves(draw):
    """Any curve there can be."""
    steps = draw(st.integers(min_value=0, max_value=12))
    ran = draw(st.integers(min_value=0, max_value=steps))
    sequence = st.lists(st.floats(), min_size=ran, max_size=ran)
    positive = st.floats(min_value=5e-324, allow_infinity=False)
    return Curve(
        lrs=sorted(
            draw(st.lists(positive, min_size=ran, max_size=ran, unique=True))
        ),
        losses=draw(sequence),
        smoothed=draw(sequence),
        best_loss=draw(st.floats()),
        stop_reason=draw(st.sampled_from(StopReason)),
        start_lr=draw(st.floats()),
        end_lr=draw(st.floats()),
        steps=steps,
        ramp=draw(st.sampled_from(["exponential", "linear"])),
        optimizer=draw(st.text()),
        hyperparameters=draw(st.dictionaries(st.text(), SETTINGS, max_size=3)),
        stop_factor=draw(st.none() | st.floats(min_value=1.1)),
        monitor=draw(st.text()),
        batch_size=draw(st.none() | st.integers(min_value=1)),
        steps_per_epoch=draw(st.none() | st.integers(min_value=1)),
        environment=draw(st.dictionaries(st.text(), st.text(), max_size=3)),
    )


# Of each field a value that is not its default, and yet another.
FIELDS = {
    "lrs": ([1e-3, 1e-2, 1e-1], [1e-3, 1e-2, 2e-1]),
    "losses": ([2.0, 1.0, math.nan], [2.0, 1.0, math.inf]),
    "smoothed": ([2.0, 1.5, math.nan], [2.0, 1.4, math.nan]),
    "best_loss": (1.5, math.nan),
    "stop_reason": (StopReason.NOT_FINITE, StopReason.DIVERGED),
    "start_lr": (1e-3, 2e-3),
    "end_lr": (10.0, 20.0),
    "steps": (5, 6),
    "ramp": ("linear", "exponential"),
    "optimizer": ("sgd", "adam"),
    "hyperparameters": (
        {"momentum": 0.9, "betas": [0.9, 0.999]},
        {"momentum": 0.8, "betas": [0.9, 0.999]},
    ),
    "stop_factor": (None, 4.0),
    "monitor": ("dense_loss", "loss"),
    "batch_size": (32, None),
    "steps_per_epoch": (157, None),
    "environment": ({"keras": "3.15.1"}, {}),
}


def full():
    """A curve of which no field has its default."""
    return Curve(**{name: value for name, (value, _) in FIELDS.items()})


def record_with(**changes):
    """The JSON text of `full`, some entries replaced."""
    return json.dumps(json.loads(full().to_json()) | changes)


def test_defaults_come_from_the_arrays():
    """Ends, steps, average and best loss need not be given."""
    curve = Curve(lrs=[1e-3, 1e-2], losses=[2.0, 1.0])
    assert (curve.start_lr, curve.end_lr, curve.steps) == (1e-3, 1e-2, 2)
    assert curve.smoothed.tolist() == [2.0, 1.0]
    assert curve.best_loss == 1.0
    assert StopReason.COMPLETED is curve.stop_reason


def mean_written_out(losses, steps):
    """That of all losses with weights beta^age, by the sum of these."""
    beta = 1 - 2 / (max(1, steps / 10) + 1)
    weights = [beta**age for age in reversed(range(len(losses)))]
    return sum(w * x for w, x in zip(weights, losses)) / sum(weights)


@pytest.mark.parametrize("steps", [60, 101, 469])
def test_the_average_is_the_formula(steps):
    """Over a tenth of the test; in `RangeTest` and for a curve made by hand."""
    losses = np.random.default_rng(0).normal(2.0, 0.1, 60).tolist()
    expected = [mean_written_out(losses[:n], steps) for n in range(1, 61)]
    test = RangeTest(1e-3, 1.0, steps)
    for loss in losses:
        test.record(loss)
    by_hand = Curve(test.curve.lrs, losses, steps=steps)
    for curve in (test.curve, by_hand):
        np.testing.assert_allclose(curve.smoothed, expected, rtol=1e-12)


def test_the_average_steps_over_what_is_not_finite():
    """It is NaN there, goes on as if that had not been, and keeps constants."""
    losses = [3.7, math.nan, 3.7, math.inf, -math.inf, 3.7]
    smoothed = Curve(range(1, 7), losses, steps=100).smoothed
    expected = [3.7, math.nan, 3.7, math.nan, math.nan, 3.7]
    np.testing.assert_allclose(smoothed, expected, rtol=1e-14)


def test_raw_losses_are_kept_exactly():
    """NaN, infinities and negative zero stay as they came, in a copy."""
    losses = np.array([-0.0, math.inf, -math.inf, math.nan, 1e-320])
    curve, as_given = Curve(range(1, 6), losses), losses.tobytes()
    losses[0] = 9.0
    assert curve.losses.tobytes() == as_given


def test_nobody_changes_what_was_measured():
    """Fields, arrays and mappings are frozen."""
    curve = full()
    with pytest.raises(dataclasses.FrozenInstanceError):
        curve.steps = 3
    for name in ("lrs", "losses", "smoothed"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(curve, name)[0] = 3.0
    for name in ("hyperparameters", "environment"):
        with pytest.raises(TypeError):
            getattr(curve, name)["new"] = 1


def test_settings_become_plain():
    """Arrays, numpy scalars and objects become what JSON can hold."""
    given = {
        "beta": np.float32(0.5),
        "list": [1, "a", np.int64(3)],
        "array": np.array([1.5, 2.5]),
        "path": pathlib.PurePosixPath("a/b"),
        1: {2: None},
    }
    assert dict(Curve([], [], hyperparameters=given).hyperparameters) == {
        "beta": 0.5,
        "list": (1, "a", 3),
        "array": (1.5, 2.5),
        "path": "a/b",
        "1": {"2": None},
    }


def test_no_step_is_a_curve_too():
    """A test interrupted before its first step."""
    curve = Curve(lrs=[], losses=[], steps=10)
    assert len(curve) == 0
    assert math.isnan(curve.best_loss + curve.start_lr)


# Up to numpy 1.23 a ragged list is an array of objects, and a warning.
@pytest.mark.filterwarnings("ignore:Creating an ndarray from ragged")
@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"lrs": ["1", "2", "3"]}, TypeError, "`lrs` must be numbers"),
        ({"losses": [1.0, None, 2.0]}, TypeError, "`losses` must be numbers"),
        ({"losses": [True, False, True]}, TypeError, "`losses` must be numb"),
        ({"losses": [1.0, [2.0], 3.0]}, TypeError, "`losses` must be numbers"),
        ({"losses": {}}, TypeError, "`losses` must be numbers"),
        ({"losses": [[1.0, 2.0, 3.0]]}, ValueError, "one dimension"),
        ({"losses": [1.0]}, ValueError, "one entry per step"),
        ({"steps": 2}, ValueError, "at most `steps`"),
        ({"lrs": [0.0, 1.0, 2.0]}, ValueError, "positive and finite"),
        ({"lrs": [1.0, math.nan, 2.0]}, ValueError, "positive and finite"),
        ({"ramp": "cosine"}, ValueError, "`ramp` must be"),
        ({"ramp": None}, TypeError, "`ramp` must be a string"),
        ({"optimizer": None}, TypeError, "`optimizer` must be a string"),
        ({"monitor": 3}, TypeError, "`monitor` must be a string"),
        ({"stop_reason": "DIVERGED"}, TypeError, "must be a StopReason"),
        ({"steps": 5.5}, TypeError, "`steps` must be an integer"),
        ({"batch_size": "32"}, TypeError, "`batch_size` must be an int"),
        ({"steps_per_epoch": 1.5}, TypeError, "`steps_per_epoch` must"),
        ({"best_loss": "1"}, TypeError, "`best_loss` must be a number"),
        ({"end_lr": [1.0]}, TypeError, "`end_lr` must be a number"),
        ({"stop_factor": "4"}, TypeError, "`stop_factor` must be a num"),
        ({"environment": 3}, TypeError, "`environment` must be a map"),
    ],
    ids=str,
)
def test_what_is_no_curve_is_refused(changes, error, words):
    """Each wrong field has its message."""
    with pytest.raises(error, match=words):
        dataclasses.replace(full(), **changes)


def test_long_values_make_short_messages():
    """A hundred thousand wrong losses do not fill the screen."""
    with pytest.raises(TypeError) as caught:
        Curve(lrs=range(1, 100_001), losses=["x"] * 100_000)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("reason", StopReason)
def test_stop_reason_says_cause_and_remedy(reason):
    """Every reason is a cause, said by str, and a remedy."""
    assert reason.cause == str(reason)
    assert reason.remedy.endswith(".")


@pytest.mark.parametrize(
    ("steps", "reason", "words"),
    [
        (100, StopReason.COMPLETED, "all 100 steps ran"),
        (70, StopReason.DIVERGED, "the loss blew up after 70 of 100 steps"),
    ],
)
def test_a_curve_says_how_it_ended(steps, reason, words):
    """A test that ran to its end did not do so "after 100 of 100"."""
    lrs = np.geomspace(1e-5, 1.0, 100)[:steps]
    curve = Curve(lrs, np.ones(steps), steps=100, stop_reason=reason)
    assert curve.ending == words


def test_same_contents_are_equal():
    """NaN equals NaN, also in a mapping; zeros hash alike; others differ."""
    for made in (
        full,
        lambda: Curve([], [], hyperparameters={"a": {"b": [math.nan]}}),
    ):
        assert made() == made()
        assert hash(made()) == hash(made())
    plus, minus = (Curve([1.0], [zero]) for zero in (0.0, -0.0))
    assert (plus, hash(plus)) == (minus, hash(minus))
    for other in (None, 3, "curve", (1.0, 2.0)):
        assert (full() == other) is False


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_counts(name):
    """A difference in any one field is a difference."""
    assert full() != dataclasses.replace(full(), **{name: FIELDS[name][1]})


def test_a_copy_is_equal_and_read_only():
    """Copied, or pickled by any protocol."""
    protocols = range(2, pickle.HIGHEST_PROTOCOL + 1)
    pickled = [pickle.loads(pickle.dumps(full(), n)) for n in protocols]
    for back in (copy.copy(full()), copy.deepcopy(full()), *pickled):
        assert full() == back
        assert not back.losses.flags.writeable


@settings(max_examples=150, deadline=None)
@given(curves())
def test_any_curve_survives_as_json(curve):
    """Written and read, a curve is equal, to the sign of its zeros."""
    back = Curve.from_json(curve.to_json())
    assert curve == back
    assert repr(curve.losses.tolist()) == repr(back.losses.tolist())
    assert hash(curve) == hash(back)
    # Strings that read like numbers stay strings.
    assert repr(back.hyperparameters) == repr(curve.hyperparameters)


def test_json_is_strict_and_holds_every_field():
    """No bare NaN: any reader of JSON can read it."""

    def refuse(name):
        raise AssertionError(name)

    record = json.loads(full().to_json(), parse_constant=refuse)
    assert record["losses"] == [2.0, 1.0, "NaN"]
    assert record.pop("format") == "keras_lrfinder.Curve"
    assert record.pop("version") == 1
    assert set(record) == {f.name for f in dataclasses.fields(Curve)}
    assert set(record) == set(FIELDS)


@pytest.mark.parametrize("as_path", [str, pathlib.Path])
def test_json_goes_to_a_file_and_comes_from_it(tmp_path, as_path):
    """Also where an editor has put a mark, line ends and spaces around it."""
    path = as_path(tmp_path / "curve.json")
    text = full().to_json(path)
    assert text == pathlib.Path(path).read_text(encoding="utf-8")
    assert full() == Curve.from_json(path)
    edited = "\ufeff \r\n" + text + "\r\n"
    pathlib.Path(path).write_bytes(edited.encode())
    assert full() == Curve.from_json(path) == Curve.from_json(edited)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "lacks the mark"),
        ('{"format": "other"}', "lacks the mark"),
        ("", "damaged"),
        ("\n", "damaged"),
        ("{]", "damaged"),
        ('{"a":' * 100_000, "damaged"),
        (full().to_json()[:1], "damaged"),
        (full().to_json()[:300], "damaged"),
        (full().to_json().replace('"NaN"', "NaN"), "bare NaN"),
        (full().to_json().replace('"NaN"', "-Infinity"), "bare -Infinity"),
        (record_with(version=2), "format version 2"),
        (record_with(version=None), "format version None"),
        (record_with(version=True), "format version True"),
        (record_with(colour="red"), r"unknown \['colour'\]"),
        (record_with(lrs=None), "null in"),
        (record_with(best_loss=None), "null in"),
        (record_with(stop_reason="BORED"), "unknown stop_reason 'BORED'"),
        (record_with(stop_reason=[]), "unknown stop_reason"),
        (record_with(losses=["1", "2", "3"]), "`losses` must be numbers"),
        (record_with(losses="NaN"), "one dimension"),
        (record_with(losses=[1.0]), "one entry per step"),
        (record_with(lrs=[1.0, 1.0, -1.0]), "positive and finite"),
        (record_with(steps="5"), "`steps` must be an integer"),
        (record_with(hyperparameters=[1]), "must be a mapping"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_json_is_refused_with_the_reason(text, words):
    """Damage, foreign files and wrong entries: a ValueError that says."""
    with pytest.raises(ValueError, match=words):
        Curve.from_json(text)


@pytest.mark.parametrize("name", FIELDS)
def test_json_that_lacks_a_field_is_refused(name):
    """Each has to be there."""
    record = json.loads(full().to_json())
    del record[name]
    with pytest.raises(ValueError, match=rf"missing \['{name}'\]"):
        Curve.from_json(json.dumps(record))


def test_missing_file_is_an_os_error(tmp_path):
    """A path that leads nowhere is said to be one."""
    with pytest.raises(FileNotFoundError):
        Curve.from_json(tmp_path / "none.json")


@pytest.mark.parametrize("source", [None, 0, b"{}", ["{}"]])
def test_other_sources_are_refused(source):
    """Neither text nor path; 0 would be the standard input."""
    with pytest.raises(TypeError, match="expected JSON text or a path"):
        Curve.from_json(source)


@settings(max_examples=100, deadline=None)
@given(st.text() | st.text().map(lambda text: "{" + text))
def test_no_text_gives_half_a_curve(text):
    """Any text is refused, as damaged or as no such file."""
    with pytest.raises((ValueError, OSError)):
        Curve.from_json(text)


def test_csv_holds_every_digit(tmp_path):
    """NumPy reads the file back as what was measured."""
    losses = [1 / 3, math.nan, math.inf, -math.inf]
    curve, path = Curve([1.0, 2.0, 3.0, 4.0], losses), tmp_path / "curve.csv"
    text = curve.to_csv(path)
    assert text == path.read_bytes().decode()
    assert text.splitlines()[0] == "step,lr,loss,smoothed"
    table = np.genfromtxt(path, delimiter=",", names=True)
    assert table["step"].tolist() == [0, 1, 2, 3]
    for name, values in (
        ("lr", curve.lrs),
        ("loss", curve.losses),
        ("smoothed", curve.smoothed),
    ):
        np.testing.assert_array_equal(values, table[name])


def test_repr_is_one_short_line():
    """Steps, learning rates, best loss and the reason."""
    text = "Curve(3 of 5 steps, lr 1.0e-03..1.0e-01, best loss 1.5, NOT_FINITE)"
    assert repr(full()) == text
    text = "Curve(0 of 0 steps, lr -, best loss nan, COMPLETED)"
    assert repr(Curve([], [])) == text
