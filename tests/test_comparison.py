"""Several range tests side by side."""

import dataclasses

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder import Curve
from keras_lrfinder import Suggestion
from keras_lrfinder import compare_lr
from keras_lrfinder import lr_find
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.training.comparison import Comparison
from keras_lrfinder.training.result import Result

CURVE = Curve(lrs=[1e-3, 1e-2, 1e-1], losses=[2.0, 1.0, 9.0], batch_size=16)
FOUND = Suggestion(0.25, 0.1, 0.5, "high", "default", "Seen.")
NONE = Suggestion.refused("default", "It never fell.")
RUNS = [
    Run(0.1, 3).ended([2.0, 1.5, 1.25]),
    Run(1.0, 3).ended([2.0, np.inf]),
    Run(0.4, 99, "one_cycle").ended(np.full(99, 0.5)),
]


def result(batch_size, found=FOUND, runs=RUNS):
    """What `lr_find` would have returned."""
    curve = dataclasses.replace(CURVE, batch_size=batch_size)
    return Result(curve, found, runs, model=None)


def model(optimizer):
    keras.utils.set_random_seed(1)
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    net.compile(optimizer, "mse")
    return net


def test_a_table_has_a_row_for_each():
    """With the probe that ended lowest; a whole training is none."""
    found = Comparison({"sgd": result(16), "adam": result(16, NONE, ())})
    head, sgd, adam = str(found).splitlines()
    assert head.split("  ")[0] == ""
    assert "loss of the best probe" in head
    row = ["sgd", "2.5e-01", "1.0e-01", "to", "5.0e-01", "high", "1.25"]
    assert sgd.split() == row
    assert adam.split() == ["adam", "none", "none"]
    assert "2.5e-01</td>" in found._repr_html_()
    row = found.rows[0]
    assert (row["label"], row["lr"], row["batch_size"]) == ("sgd", 0.25, 16)
    assert (row["best_probe_loss"], row["reason"]) == (1.25, "Seen.")


def test_probes_of_several_batch_sizes_are_not_compared():
    """They have seen unequal numbers of samples, which is said."""
    sizes = Comparison({"16": result(16), "64": result(64)})
    assert "more samples" in str(sizes)
    assert "more samples" in sizes._repr_html_()
    alike = Comparison({"a": result(16), "b": result(16)})
    assert "more samples" not in str(alike)


def test_compare_finds_what_lr_find_finds(capsys):
    """It says which model it is at, and leaves nothing behind."""
    one, other = model("sgd"), model("adam")
    before = tiny.state(one)
    x = np.random.default_rng(0).normal(size=(320, 4)).astype("float32")
    xy, both = (x, x.sum(1)), {"sgd": one, "adam": (other, {"batch_size": 8})}
    kwargs = {"steps": 40, "probe": False, "batch_size": 16}
    found = compare_lr(both, *xy, **kwargs)
    said = capsys.readouterr().out
    assert "sgd (1 of 2):\n" in said
    assert "adam (2 of 2):\n" in said
    alone = lr_find(model("sgd"), *xy, **kwargs, verbose=0)
    assert found.rows[0]["lr"] == alone.lr
    assert found.finders["adam"].curve.batch_size == 8
    assert not tiny.differences(before, tiny.state(one))
    assert len(found.plot().lines) >= 2


@pytest.mark.parametrize("models", [{}, [1]])
def test_compare_wants_a_mapping_of_models(models):
    """Labels are what tells the rows apart."""
    with pytest.raises((TypeError, ValueError), match="`models` must"):
        compare_lr(models, np.ones((4, 4)))
