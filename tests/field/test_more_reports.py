"""What broke for people who train with Keras, one claim after the other.

Numbers are those of the reports; `test_reports.py` has the first, and
`tests/` what shows on small models: 3, 6, 12.
"""

import functools
import gc
import re
import sys

import keras
import numpy as np
import pytest
from keras import layers

from field.same import Tells
from field.same import at_once
from field.same import compiled
from field.same import in_a_fit
from field.same import net
from field.same import ramp_alone
from field.same import rows
from keras_lrfinder import LRFinder
from keras_lrfinder import lr_find

tensorflow = pytest.mark.backend("tensorflow")
both = pytest.mark.parametrize("way", [at_once, in_a_fit])


@both
@pytest.mark.parametrize("built", [True, False])
def test_8_nothing_to_train_is_said_at_once(way, built):
    """8: before the first step, with what to do."""
    model = keras.Sequential([layers.Dense(1)])
    if built:
        model.build((None, 6))
    model.trainable = False
    with pytest.raises(ValueError, match="trainable weights"):
        way(compiled(model), *rows())
    model.trainable = True
    assert way(compiled(model), *rows()).lr


@tensorflow
def test_9_a_search_is_told_and_goes_on_with_the_call(tmp_path, capsys):
    """9: KerasTuner itself, with a test as callback and as it should be."""
    tuner = pytest.importorskip("keras_tuner")
    found = []

    class Model(tuner.HyperModel):
        def build(self, hp):
            return net(drop=hp.Choice("drop", [0.1]))

        def fit(self, hp, model, *data, **more):
            found.append(at_once(model, *data))
            found[-1].apply(model)
            return model.fit(*data, **more)

    def search(**more):
        tuner.RandomSearch(
            Model(),
            "loss",
            max_trials=1,
            directory=tmp_path,
            overwrite=True,
            max_consecutive_failed_trials=1,
        ).search(*rows(), verbose=0, **more)

    search()
    assert found[0].lr
    with pytest.raises(RuntimeError, match="failures"):
        search(callbacks=[LRFinder(steps=40, verbose=0)])
    assert "call `lr_find` in `HyperModel.fit`" in capsys.readouterr().err


def resident():
    """Megabytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096 / 2**20


def growth(use, fresh):
    """Megabytes that stay of a call with a model of 8 MB, never trained."""

    def made():
        gc.collect()
        keras.backend.clear_session()
        return compiled([keras.Input((1500,)), layers.Dense(1400)], "adam")

    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 1500)).astype("float32")
    y, model, sizes = np.zeros((64, 1400), "float32"), made(), []
    for _ in range(12):
        if fresh:
            model = None
            model = made()
        use(model, x, y)
        sizes.append(resident())
    return (sizes[-1] - sizes[3]) / 8


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.backend("tensorflow", "torch")
def test_10_memory_does_not_grow(fresh):
    """10: twelve tests leave no more than twelve fits do.

    On TensorFlow these leave three times the weights of each new model.
    """

    def fit(model, *data):
        model.fit(*data, verbose=0)

    test = functools.partial(ramp_alone, steps=4)
    assert growth(test, fresh) < (growth(fit, fresh) if fresh else 0) + 4


@both
def test_11_pictures_go_home_and_lose_nothing(way, tmp_path, monkeypatch):
    """11: `~` is the home; a picture that cannot be written costs nothing."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model, (x, y) = net(), rows()
    test = functools.partial(way, model, x, y, plot_dir="~/plots")
    test()
    written = sorted(p.name for p in (tmp_path / "plots").iterdir())
    assert written == ["loss.jpg", "smooth_loss.jpg"]
    assert not (tmp_path / "~").exists()
    for path in (tmp_path / "plots").iterdir():
        path.unlink()
        path.mkdir()
    with pytest.warns(UserWarning, match="no picture was written"):
        assert test().lr


def built(then, x):
    """A model that tells, called once and compiled."""
    keras.utils.set_random_seed(1)
    model = Tells(then)
    model(x[:1])
    return compiled(model, "adam")


@both
def test_13_what_a_train_step_logs_may_be_monitored(way):
    """13: probes read `total` as the ramp does, and judge by it."""

    def with_total(logs):
        return {**logs, "total": 3 * logs["loss"] + 1}

    x, y = rows()
    found = [
        way(built(with_total, x), x, y, monitor=monitor)
        for monitor in ("loss", "total")
    ]
    loss, total = (finder.curve.losses[:20] for finder in found)
    np.testing.assert_allclose(total, 3 * loss + 1, rtol=1e-5)
    for finder in found if way is at_once else ():
        judged = [run.held_out_loss is not None for run in finder.runs]
        assert judged == [True] * 3


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_14_numbers_agree_with_their_nouns(count, capsys):
    """14: no "1 samples", no "all steps ran after 100 of 100 steps"."""
    model, (x, y) = net(), rows(count)
    for more in ({}, {"batch_size": 1}, {"end_lr": 1e-6}, {"epochs": 1}):
        found = lr_find(model, x, y, steps=12, **more)
        print(found, found.runs, found.to_dict())
    finder = LRFinder(steps=12)
    model.fit(x, y, epochs=12, callbacks=[finder], verbose=0)
    print(finder)
    said = capsys.readouterr().out
    assert not re.search(r"\b1 (\w+ )?\w+(es|ps|ns|hs)\b(?<!less)", said)
    assert "all steps ran after" not in said


@pytest.mark.parametrize("is_built", [True, False])
@pytest.mark.backend("tensorflow", "jax")
def test_a_step_is_traced_no_more_than_by_two_fits(is_built):
    """1 of the redesign: Keras's own `test_retracing`, tests before the fits.

    That one has ones of shape (100, 3), batches of 10, two fits. A model that
    has no weights before the test has none after it, nor a step.
    """
    x, y, counts = np.ones((100, 3)), np.zeros((100, 1)), []
    for tested in (False, True):
        traces = []

        def counted(logs, traces=traces):
            traces.append(1)
            return logs

        model = built(counted, x) if is_built else compiled(Tells(counted))
        for _ in range(2):
            if tested:
                at_once(model, x, y, batch_size=10)
            model.fit(x, y, batch_size=10, verbose=0)
        counts.append(len(traces))
    assert counts[1] <= counts[0] + (not is_built)
