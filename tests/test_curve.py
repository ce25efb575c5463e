"""A curve keeps what was measured: in memory, on disk, on the screen."""

import copy
import dataclasses
import io
import json
import math
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

from keras_lrfinder import Curve
from keras_lrfinder import StopReason
from keras_lrfinder.analysis.curve import ema

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


def full():
    """A curve of which no field has its default."""
    return Curve(
        lrs=[1e-3, 1e-2, 1e-1],
        losses=[2.0, 1.0, math.nan],
        smoothed=[2.0, 1.5, math.nan],
        best_loss=1.5,
        stop_reason=StopReason.NOT_FINITE,
        start_lr=1e-3,
        end_lr=10.0,
        steps=5,
        ramp="linear",
        optimizer="sgd",
        hyperparameters={"momentum": 0.9, "betas": [0.9, 0.999]},
        stop_factor=None,
        monitor="dense_loss",
        batch_size=32,
        steps_per_epoch=157,
        environment={"keras": "3.15.1"},
    )


def other_values():
    """For every field a value unlike that of `full`."""
    return {
        "lrs": [1e-3, 1e-2, 2e-1],
        "losses": [2.0, 1.0, math.inf],
        "smoothed": [2.0, 1.4, math.nan],
        "best_loss": math.nan,
        "stop_reason": StopReason.DIVERGED,
        "start_lr": 2e-3,
        "end_lr": 20.0,
        "steps": 6,
        "ramp": "exponential",
        "optimizer": "adam",
        "hyperparameters": {"momentum": 0.8, "betas": [0.9, 0.999]},
        "stop_factor": 4.0,
        "monitor": "loss",
        "batch_size": None,
        "steps_per_epoch": None,
        "environment": {},
    }


def record_with(**changes):
    """The JSON text of `full`, some entries replaced."""
    return json.dumps(json.loads(full().to_json()) | changes)


class TestFields:
    def test_defaults_come_from_the_arrays(self):
        """Ends, steps, average and best loss need not be given."""
        curve = Curve(lrs=[1e-3, 1e-2], losses=[2.0, 1.0])

        assert (curve.start_lr, curve.end_lr, curve.steps) == (1e-3, 1e-2, 2)
        assert ema([2.0, 1.0], 1).tolist() == curve.smoothed.tolist()
        assert curve.best_loss == 1.0
        assert StopReason.COMPLETED is curve.stop_reason

    def test_raw_losses_are_kept_exactly(self):
        """NaN, infinities and negative zero stay as they came."""
        losses = [-0.0, math.inf, -math.inf, math.nan, 1e-320]
        curve = Curve(lrs=[1.0, 2.0, 3.0, 4.0, 5.0], losses=losses)

        assert np.array(losses).tobytes() == curve.losses.tobytes()

    @pytest.mark.parametrize("name", ["lrs", "losses", "smoothed"])
    def test_arrays_are_read_only(self, name):
        """Nobody changes what was measured."""
        with pytest.raises(ValueError, match="read-only"):
            getattr(full(), name)[0] = 3.0

    def test_arrays_are_copies(self):
        """Changing the list or array that came in changes nothing."""
        losses = np.array([1.0, 2.0])
        curve = Curve(lrs=[1.0, 2.0], losses=losses)
        losses[0] = 9.0

        assert curve.losses[0] == 1.0

    def test_fields_cannot_be_set(self):
        """A curve is frozen."""
        with pytest.raises(dataclasses.FrozenInstanceError):
            full().steps = 3

    @pytest.mark.parametrize("name", ["hyperparameters", "environment"])
    def test_mappings_are_read_only(self, name):
        """Nor can its mappings be changed."""
        with pytest.raises(TypeError):
            getattr(full(), name)["new"] = 1

    def test_settings_become_plain(self):
        """Arrays, numpy scalars and objects become what JSON can hold."""
        found = Curve(
            lrs=[],
            losses=[],
            hyperparameters={
                "beta": np.float32(0.5),
                "list": [1, "a", np.int64(3)],
                "array": np.array([1.5, 2.5]),
                "path": pathlib.PurePosixPath("a/b"),
                1: {2: None},
            },
        ).hyperparameters

        assert dict(found) == {
            "beta": 0.5,
            "list": (1, "a", 3),
            "array": (1.5, 2.5),
            "path": "a/b",
            "1": {"2": None},
        }

    def test_no_step_is_a_curve_too(self):
        """A test interrupted before its first step."""
        curve = Curve(lrs=[], losses=[], steps=10)

        assert len(curve) == 0
        assert math.isnan(curve.best_loss)
        assert math.isnan(curve.start_lr)

    # Up to numpy 1.23 a ragged list is an array of objects, and a warning.
    @pytest.mark.filterwarnings("ignore:Creating an ndarray from ragged")
    @pytest.mark.parametrize(
        ("changes", "error", "words"),
        [
            ({"lrs": ["1", "2", "3"]}, TypeError, "`lrs` must be numbers"),
            ({"losses": [1.0, None, 2.0]}, TypeError, "`losses` must be num"),
            ({"losses": [True, False, True]}, TypeError, "`losses` must be"),
            ({"losses": [1j, 1j, 1j]}, TypeError, "`losses` must be numbers"),
            ({"losses": [1.0, [2.0], 3.0]}, TypeError, "`losses` must be num"),
            ({"losses": "text"}, TypeError, "`losses` must be numbers"),
            ({"losses": {}}, TypeError, "`losses` must be numbers"),
            ({"losses": 3.0}, ValueError, "one dimension"),
            ({"losses": [[1.0, 2.0, 3.0]]}, ValueError, "one dimension"),
            ({"losses": [1.0]}, ValueError, "one entry per step"),
            ({"steps": 2}, ValueError, "at most `steps`"),
            ({"lrs": [0.0, 1.0, 2.0]}, ValueError, "positive and finite"),
            ({"lrs": [1.0, math.nan, 2.0]}, ValueError, "positive and finite"),
            ({"lrs": [1.0, math.inf, 2.0]}, ValueError, "positive and finite"),
            ({"ramp": "cosine"}, ValueError, "`ramp` must be"),
            ({"ramp": None}, TypeError, "`ramp` must be a string"),
            ({"optimizer": None}, TypeError, "`optimizer` must be a string"),
            ({"monitor": 3}, TypeError, "`monitor` must be a string"),
            ({"stop_reason": "DIVERGED"}, TypeError, "must be a StopReason"),
            ({"steps": 5.5}, TypeError, "`steps` must be an integer"),
            ({"steps": True}, TypeError, "`steps` must be an integer"),
            ({"batch_size": "32"}, TypeError, "`batch_size` must be an int"),
            ({"steps_per_epoch": 1.5}, TypeError, "`steps_per_epoch` must"),
            ({"best_loss": "1"}, TypeError, "`best_loss` must be a number"),
            ({"end_lr": [1.0]}, TypeError, "`end_lr` must be a number"),
            ({"stop_factor": "4"}, TypeError, "`stop_factor` must be a num"),
            ({"environment": 3}, TypeError, "`environment` must be a map"),
        ],
        ids=str,
    )
    def test_refuses_what_is_no_curve(self, changes, error, words):
        """Each wrong field has its message."""
        with pytest.raises(error, match=words):
            dataclasses.replace(full(), **changes)

    def test_long_values_make_short_messages(self):
        """A hundred thousand wrong losses do not fill the screen."""
        with pytest.raises(TypeError) as caught:
            Curve(lrs=range(1, 100_001), losses=["x"] * 100_000)

        assert len(str(caught.value)) < 200

    @pytest.mark.parametrize("reason", StopReason)
    def test_stop_reason_says_cause_and_remedy(self, reason):
        """Every reason is a cause, said by str, and a remedy."""
        assert reason.cause == str(reason)
        assert reason.remedy.endswith(".")


class TestEquality:
    def test_same_contents_are_equal(self):
        """Contents count, NaN equals NaN, and equal curves hash alike."""
        assert full() == full()
        assert hash(full()) == hash(full())

    @pytest.mark.parametrize(
        "name", [field.name for field in dataclasses.fields(Curve)]
    )
    def test_every_field_counts(self, name):
        """A difference in any one field is a difference."""
        changed = dataclasses.replace(full(), **{name: other_values()[name]})

        assert full() != changed

    def test_nan_inside_settings_equals_itself(self):
        """Also where a NaN hides in a mapping of a mapping."""
        one, other = (
            Curve(lrs=[], losses=[], hyperparameters={"a": {"b": [math.nan]}})
            for _ in range(2)
        )

        assert one == other

    def test_zeros_of_either_sign_hash_alike(self):
        """0.0 == -0.0, so their hashes have to agree."""
        plus = Curve(lrs=[1.0], losses=[0.0])
        minus = Curve(lrs=[1.0], losses=[-0.0])

        assert plus == minus
        assert hash(plus) == hash(minus)

    @pytest.mark.parametrize("other", [None, 3, "curve", (1.0, 2.0)])
    def test_other_things_are_not_equal(self, other):
        """Comparing with something else is no error."""
        assert (full() == other) is False


class TestCopies:
    @pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
    def test_pickle(self, protocol):
        """A pickled curve comes back equal and read-only."""
        back = pickle.loads(pickle.dumps(full(), protocol))

        assert full() == back
        assert not back.losses.flags.writeable

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
    def test_copy(self, copied):
        """So does a copied one."""
        back = copied(full())

        assert full() == back
        assert not back.losses.flags.writeable


class TestJSON:
    @settings(max_examples=150, deadline=None)
    @given(curves())
    def test_any_curve_survives(self, curve):
        """Written and read, a curve is equal, to the sign of its zeros."""
        back = Curve.from_json(curve.to_json())

        assert curve == back
        assert repr(curve.losses.tolist()) == repr(back.losses.tolist())
        assert hash(curve) == hash(back)

    def test_is_strict_json(self):
        """No bare NaN: any reader of JSON can read it."""

        def refuse(name):
            raise AssertionError(name)

        record = json.loads(full().to_json(), parse_constant=refuse)

        assert record["losses"] == [2.0, 1.0, "NaN"]
        assert (
            record["format"],
            record["version"],
        ) == ("keras_lrfinder.Curve", 1)

    def test_holds_every_field(self):
        """No field is left out of the file."""
        names = {field.name for field in dataclasses.fields(Curve)}

        assert names | {"format", "version"} == set(
            json.loads(full().to_json())
        )

    @pytest.mark.parametrize("as_path", [str, pathlib.Path])
    def test_writes_and_reads_a_file(self, tmp_path, as_path):
        """The text goes to the path as well, and comes back from it."""
        path = as_path(tmp_path / "curve.json")

        text = full().to_json(path)

        assert text == pathlib.Path(path).read_text(encoding="utf-8")
        assert full() == Curve.from_json(path)

    def test_reads_what_editors_do_to_a_file(self, tmp_path):
        """A byte order mark, line ends and spaces around do no harm."""
        path = tmp_path / "curve.json"
        text = "\ufeff \r\n" + full().to_json() + "\r\n"
        path.write_bytes(text.encode())

        assert full() == Curve.from_json(path)
        assert full() == Curve.from_json(text)

    @pytest.mark.parametrize("count", [1, 2, 10, 50, 100, 200, 300])
    def test_cut_off_text_is_damaged(self, count):
        """A text that lost its end is refused, wherever it was cut."""
        with pytest.raises(ValueError, match="damaged"):
            Curve.from_json(full().to_json()[:count])

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{}", "lacks the mark"),
            ('{"format": "other"}', "lacks the mark"),
            ("", "damaged"),
            ("\n", "damaged"),
            ("{]", "damaged"),
            ('{"a":' * 100_000, "damaged"),
            (record_with(version=2), "format version 2"),
            (record_with(version=None), "format version None"),
            (record_with(version="1"), "format version '1'"),
            (record_with(version=True), "format version True"),
            (record_with(colour="red"), r"unknown \['colour'\]"),
            (record_with(lrs=None), "null in"),
            (record_with(best_loss=None), "null in"),
            (record_with(smoothed=None), "null in"),
            (record_with(stop_reason="BORED"), "unknown stop_reason 'BORED'"),
            (record_with(stop_reason=[]), "unknown stop_reason"),
            (record_with(losses=["1", "2", "3"]), "`losses` must be numbers"),
            (record_with(losses=[1.0, None, 2.0]), "`losses` must be numbers"),
            (record_with(losses="NaN"), "one dimension"),
            (record_with(losses=[1.0]), "one entry per step"),
            (record_with(lrs=[1.0, 1.0, -1.0]), "positive and finite"),
            (record_with(steps="5"), "`steps` must be an integer"),
            (record_with(hyperparameters=[1]), "must be a mapping"),
            (record_with(ramp="spiral"), "`ramp` must be"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_refuses_with_the_reason(self, text, words):
        """Damage, foreign files and wrong entries: a ValueError that says."""
        with pytest.raises(ValueError, match=words):
            Curve.from_json(text)

    @pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
    def test_refuses_bare_constants(self, constant):
        """What no other reader takes was not written by us."""
        text = full().to_json().replace('"NaN"', constant)

        with pytest.raises(ValueError, match=f"bare {constant}"):
            Curve.from_json(text)

    @pytest.mark.parametrize(
        "name", [field.name for field in dataclasses.fields(Curve)]
    )
    def test_refuses_a_missing_field(self, name):
        """Each field has to be there."""
        record = json.loads(full().to_json())
        del record[name]

        with pytest.raises(ValueError, match=rf"missing \['{name}'\]"):
            Curve.from_json(json.dumps(record))

    def test_missing_file_is_an_os_error(self, tmp_path):
        """A path that leads nowhere is said to be one."""
        with pytest.raises(FileNotFoundError):
            Curve.from_json(tmp_path / "none.json")

    @pytest.mark.parametrize("source", [None, 0, b"{}", ["{}"]])
    def test_refuses_other_sources(self, source):
        """Neither text nor path; 0 would be the standard input."""
        with pytest.raises(TypeError, match="expected JSON text or a path"):
            Curve.from_json(source)

    @settings(max_examples=100, deadline=None)
    @given(st.text() | st.text().map(lambda text: "{" + text))
    def test_no_text_gives_half_a_curve(self, text):
        """Any text is refused, as damaged or as no such file."""
        with pytest.raises((ValueError, OSError)):
            Curve.from_json(text)

    @given(SETTINGS)
    @settings(max_examples=100, deadline=None)
    def test_settings_of_any_kind_survive(self, value):
        """Strings that read like numbers stay strings."""
        curve = Curve([1.0], [1.0], hyperparameters={"it": value})
        back = Curve.from_json(curve.to_json())

        assert repr(back.hyperparameters) == repr(curve.hyperparameters)


class TestTables:
    def test_csv_holds_every_digit(self):
        """Read back by a reader of floats, the numbers are the same."""
        lines = full().to_csv().splitlines()
        rows = [line.split(",") for line in lines[1:]]

        assert lines[0] == "step,lr,loss,smoothed"
        assert [row[0] for row in rows] == ["0", "1", "2"]
        np.testing.assert_array_equal(
            np.array([row[1:] for row in rows], dtype=np.float64),
            np.stack([full().lrs, full().losses, full().smoothed], axis=1),
        )

    def test_csv_is_read_by_numpy(self):
        """NaN and infinities are spelt as numpy reads them."""
        curve = Curve([1.0, 2.0, 3.0], [math.nan, math.inf, -math.inf])
        table = np.genfromtxt(
            io.StringIO(curve.to_csv()), delimiter=",", names=True
        )

        np.testing.assert_array_equal(curve.losses, table["loss"])

    def test_csv_goes_to_a_file(self, tmp_path):
        """The text that comes back is the text in the file."""
        path = tmp_path / "curve.csv"

        assert full().to_csv(path) == path.read_bytes().decode()


class TestDisplay:
    def test_repr_is_one_short_line(self):
        """Steps, learning rates, best loss and the reason."""
        assert (
            repr(full())
            == "Curve(3 of 5 steps, lr 1.0e-03..1.0e-01, best loss 1.5, "
            "NOT_FINITE)"
        )

    def test_repr_of_no_steps(self):
        """An empty curve has a repr as well."""
        assert (
            repr(Curve([], []))
            == "Curve(0 of 0 steps, lr -, best loss nan, COMPLETED)"
        )

    def test_loads_neither_keras_nor_matplotlib(self):
        """Loading, suggesting and showing need neither."""
        code = (
            "import sys; from keras_lrfinder.analysis.curve import Curve; "
            "from keras_lrfinder.analysis.suggestions import suggest; "
            "c = Curve.from_json(sys.stdin.read()); suggest(c); "
            "assert not {'keras', 'tensorflow', 'matplotlib'} & "
            "set(sys.modules)"
        )
        subprocess.run(
            [sys.executable, "-c", code],
            input=full().to_json(),
            text=True,
            check=True,
            timeout=120,
        )
