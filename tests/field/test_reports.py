"""What broke for people who train with Keras, one claim after the other.

Numbers are those of the reports.
"""

import copy
import functools
import gc
import importlib
import re
import sys
import threading

import keras
import numpy as np
import pytest
from keras import layers

from field.same import assert_same
from field.same import everything
from keras_lrfinder import LRFinder
from keras_lrfinder import lr_find

tensorflow = pytest.mark.backend("tensorflow")


def rows(count=640, width=6):
    """Rows that a linear layer learns at once."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, width)).astype("float32")
    return x, (x @ rng.normal(size=(width, 1))).astype("float32")


def net(optimizer="adam", width=6, drop=0.1, **settings):
    """A small network, compiled."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((width,)),
            layers.Dense(8, "relu"),
            layers.Dropout(drop),
            layers.Dense(1),
        ]
    )
    model.compile(optimizer, **{"loss": "mse", **settings})
    return model


def at_once(model, *data, **more):
    """A range test by `lr_find`."""
    return lr_find(model, *data, steps=40, verbose=0, **more)


def in_a_fit(model, *data, callbacks=(), **more):
    """A range test by the callback."""
    finder = LRFinder(steps=40, verbose=0)
    more = {"epochs": 9, "verbose": 0, **more}
    model.fit(*data, callbacks=[*callbacks, finder], **more)
    return finder


both = pytest.mark.parametrize("way", [at_once, in_a_fit])


@tensorflow
@both
def test_1_a_cache_on_disk_is_free_for_the_next_fit(way, tmp_path):
    """1: an epoch that a test has stopped holds no lock of its cache."""
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(rows(1600))
    data = data.cache(str(tmp_path / "cache")).batch(16)
    model = net()
    gc.disable()  # what is let go of goes at once
    try:
        way(model, data)
        model.fit(data, verbose=0)
    finally:
        gc.enable()


class Items(keras.utils.PyDataset):
    """Batches of eight, made by threads."""

    rows = rows(400)

    def __len__(self):
        return len(self.rows[0]) // 8

    def __getitem__(self, index):
        x, y = self.rows
        return x[8 * index : 8 * index + 8], y[8 * index : 8 * index + 8]


@both
def test_1_no_worker_of_a_dataset_stays(way):
    """1: the threads that make batches end with the test."""
    model, before = net(), threading.active_count()
    way(model, Items(workers=3))
    assert threading.active_count() == before


class Interrupts(keras.callbacks.Callback):
    """Ctrl-C after so many batches."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        """Counts."""
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_2_an_interrupted_schedule_is_plain_to_replace():
    """2: after Ctrl-C the optimizer holds a Keras schedule, and no more."""
    model, (x, y) = net(keras.optimizers.SGD(0.01, momentum=0.9)), rows()
    found = at_once(model, x, y, epochs=2, schedule="one_cycle")
    found.apply(model)
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, y, epochs=2, verbose=0, callbacks=[Interrupts(15)])
    assert model.optimizer.momentum == 0.9
    found.apply(model)  # again, from where it stands
    schedule = keras.optimizers.schedules.CosineDecay(0.5, 40)
    model.optimizer.learning_rate = schedule
    model.fit(x, y, verbose=0)
    now = int(model.optimizer.iterations)
    assert float(model.optimizer.learning_rate) == float(schedule(now))


def test_3_epochs_of_a_resumed_fit_are_its_own():
    """3: a schedule has the length that it is told, wherever `fit` begins."""
    model, (x, y) = net(), rows()
    found = at_once(model, x, y, batch_size=16, epochs=5, schedule="cosine")
    assert found.suggestion.total_steps == 200
    model.fit(x, y, 16, epochs=3, verbose=0)
    found.apply(model)
    held = model.optimizer._learning_rate
    model.fit(x, y, 16, initial_epoch=3, epochs=8, verbose=0)
    assert int(model.optimizer.iterations) == 320
    path = [float(held(step)) for step in range(110, 330)]
    assert max(path) == pytest.approx(found.lr, rel=1e-3)
    assert path[0] == path[10] and path[209] == path[219] < path[199]


@pytest.mark.parametrize("place", ["before", "after"])
@pytest.mark.parametrize("use", ["evaluate", "predict", "train_on_batch"])
def test_4_what_others_do_in_hooks_is_not_read(use, place):
    """4: losses and batch size are of the step, on either side."""
    x, y = rows()

    class Uses(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if use == "predict":
                self.model.predict(x[:3], verbose=0)
            elif use == "evaluate":
                self.model.evaluate(x[:3], y[:3], verbose=0)
            elif batch == 2:
                self.model.train_on_batch(x[:3], y[:3])

        on_train_batch_begin = on_train_batch_end

    curves = []
    for others in ([], [Uses()]):
        model, finder = net(drop=0), LRFinder(steps=30, verbose=0)
        given = [*others, finder] if place == "before" else [finder, *others]
        model.fit(x, y, 16, shuffle=False, verbose=0, callbacks=given)
        curves.append(finder.curve)
    alone, shared = curves
    assert shared.batch_size == alone.batch_size == 16
    same = slice(None) if use != "train_on_batch" else slice(2)
    np.testing.assert_array_equal(shared.losses[same], alone.losses[same])


@pytest.mark.parametrize("owner", ["model", "trainer"])
def test_5_who_logs_every_fit_logs_none_of_a_test(owner, monkeypatch):
    """5: a tracker in the place of `fit` sees the user's fit, and no other."""
    kind = keras.Model
    if owner == "trainer":
        kind = next(c for c in kind.__mro__ if "fit" in vars(c))
    calls, fit = [], kind.fit

    @functools.wraps(fit)
    def logged(self, *args, **kwargs):
        calls.append(kwargs.get("epochs"))
        return fit(self, *args, **kwargs)

    monkeypatch.setattr(kind, "fit", logged)
    model, (x, y) = net(), rows()
    assert at_once(model, x, y).runs
    assert calls == []
    model.fit(x, y, epochs=2, verbose=0)
    assert calls == [2]


# On PyTorch Keras's own `fit` of a stateful LSTM fails.
@pytest.mark.backend("tensorflow", "jax")
def test_6_a_stateful_network_of_one_batch_size_is_judged():
    """6: what is kept out is whole batches, so nothing is said to fail."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(8, 10, 3)),
            layers.LSTM(12, stateful=True),
            layers.Dense(1),
        ]
    )
    model.compile("adam", "mse")
    x = np.random.default_rng(0).normal(size=(256, 10, 3)).astype("float32")
    before = everything(model)
    found = at_once(model, x, x[:, -1, :1], batch_size=8, shuffle=False)
    assert_same(before, everything(model)[: len(before)])
    assert [run.held_out_loss is not None for run in found.runs] == [True] * 3
    assert "ot checked" not in found.suggestion.reason


class Notes(keras.Model):
    """Keeps of each batch that it is trained on what numbers its rows have."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, x, training=False):
        """Keeps the first column."""
        if training and not isinstance(x, keras.KerasTensor):
            column = np.array(keras.ops.convert_to_numpy(x))[:, 0]
            NOTED.append(np.rint(column * 640).astype(int).tolist())
        return self.dense(x)


NOTED = []


@pytest.mark.parametrize("trainings", [0, 2])
@pytest.mark.parametrize("kind", ["arrays", "items"])
def test_7_data_in_order_stay_in_order(kind, trainings):
    """7: with shuffle=False each run meets the data as `fit` does."""
    x, y = rows(160)
    x[:, 0] = np.arange(160) / 640
    data = (x, y)
    if kind == "items":
        data = (Items(),)
        data[0].rows = x, y
    model = Notes()
    model(x[:1])
    model.compile("sgd", "mse", run_eagerly=True)
    NOTED.clear()
    more = {} if kind == "items" else {"batch_size": 8}
    at_once(
        model, *data, shuffle=False, trainings=trainings, epochs=2, **more
    )
    ramp, later = NOTED[:20], NOTED[40:]
    assert ramp == [list(range(8 * i, 8 * i + 8)) for i in range(20)]
    begun = [i for i, batch in enumerate(later) if batch == ramp[0]]
    assert len(begun) > 3
    for batch in later:
        assert batch in ramp
    for this, then in zip(later, later[1:]):
        assert then[0] in (this[-1] + 1, 0, 128) or this[0] >= 128


@both
@pytest.mark.parametrize("built", [True, False])
def test_8_nothing_to_train_is_said_at_once(way, built):
    """8: before the first step, with what to do."""
    model = keras.Sequential([layers.Dense(1)])
    if built:
        model.build((None, 6))
    model.trainable = False
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="trainable weights"):
        way(model, *rows())
    model.trainable = True
    model.compile("adam", "mse")
    assert way(model, *rows()).lr


def callbacks_of_tuner(kind):
    """A callback of KerasTuner, or what looks like it."""
    name = "keras_tuner.src.engine.tuner_utils"
    try:
        module = importlib.import_module(name)
        return getattr(module, kind)
    except ImportError:
        return type(kind, (keras.callbacks.Callback,), {"__module__": name})


@pytest.mark.parametrize("saver", ["SaveBestEpoch", "TunerCallback"])
def test_9_a_tuner_is_told_where_the_test_belongs(saver):
    """9: a copy of the finder in a trial would change scores and files."""
    kind = callbacks_of_tuner(saver)
    theirs = kind.__new__(kind)  # what it is made of is the tuner's
    keras.callbacks.Callback.__init__(theirs)
    mine = [LRFinder(steps=40, verbose=0)]
    model, (x, y) = net(), rows()
    before = everything(model)
    copied = [*copy.deepcopy(mine), theirs]
    for callbacks in (copied, copied[::-1]):
        with pytest.raises(ValueError, match=r"HyperModel\.fit"):
            model.fit(x, y, callbacks=callbacks, verbose=0)
    assert_same(before, everything(model)[: len(before)])


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
        model = keras.Sequential([keras.Input((1500,)), layers.Dense(1400)])
        model.compile("adam", "mse")
        return model

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

    def test(*data):
        lr_find(*data, steps=4, probe=False, verbose=0)

    def fit(model, *data):
        model.fit(*data, verbose=0)

    gc.unfreeze()
    assert growth(test, fresh) < (growth(fit, fresh) if fresh else 0) + 4


@both
def test_11_pictures_go_home_and_lose_nothing(way, tmp_path, monkeypatch):
    """11: `~` is the home; a picture that cannot be written costs nothing."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    model, (x, y) = net(), rows()
    settings = {"steps": 40, "verbose": 0, "plot_dir": "~/plots"}

    def test():
        if way is at_once:
            return lr_find(model, x, y, probe=False, **settings)
        finder = LRFinder(**settings)
        model.fit(x, y, epochs=9, verbose=0, callbacks=[finder])
        return finder

    test()
    written = sorted(p.name for p in (tmp_path / "plots").iterdir())
    assert written == ["loss.jpg", "smooth_loss.jpg"]
    assert not (tmp_path / "~").exists()
    for path in (tmp_path / "plots").iterdir():
        path.unlink()
        path.mkdir()
    with pytest.warns(UserWarning, match="no picture was written"):
        assert test().lr


@both
def test_12_another_thread_is_told_that_a_test_runs(way):
    """12: nothing of either is harmed."""
    model, (x, y) = net(), rows()
    before, told = everything(model), []

    class Beside(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 5 and not told:
                thread = threading.Thread(target=self.tries)
                thread.start()
                thread.join()

        def tries(self):
            for other in (at_once, in_a_fit):
                try:
                    other(model, x, y)
                except RuntimeError as error:
                    told.append(str(error))

    assert way(model, x, y, callbacks=[Beside()]).lr
    assert_same(before, everything(model)[: len(before)])
    assert len(told) == 2
    assert all("range test of this model is running" in one for one in told)
    assert at_once(model, x, y).lr


class Totals(keras.Model):
    """Logs what it trains on, `total`, beside a part of it, `loss`."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, x):
        """Maps."""
        return self.dense(x)

    def train_step(self, *args):
        """That of Keras, with one more number."""
        logs = super().train_step(*args)
        if keras.backend.backend() == "jax":
            return {**logs[0], "total": 3 * logs[0]["loss"] + 1}, logs[1]
        return {**logs, "total": 3 * logs["loss"] + 1}


@both
def test_13_what_a_train_step_logs_may_be_monitored(way):
    """13: probes read `total` as the ramp does, and judge by it."""
    curves = []
    for monitor in ("loss", "total"):
        keras.utils.set_random_seed(1)
        model, (x, y) = Totals(), rows()
        model(x[:1])
        model.compile("adam", "mse")
        if way is at_once:
            found = at_once(model, x, y, monitor=monitor)
            assert all(run.held_out_loss is not None for run in found.runs)
            assert len(found.runs) == 3
        else:
            found = LRFinder(steps=40, verbose=0, monitor=monitor)
            model.fit(x, y, epochs=9, verbose=0, callbacks=[found])
        curves.append(found.curve.losses[:20])
    np.testing.assert_allclose(curves[1], 3 * curves[0] + 1, rtol=1e-5)


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
    assert not re.search(r"\b1 (\w+ )?(\w+(es|ps|ns|hs))\b(?<!less)", said), said
    assert "all steps ran after" not in said


class Counts(keras.Model):
    """Counts the traces of its step."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(1)

    def call(self, x):
        """Maps."""
        return self.dense(x)

    def train_step(self, *args):
        """That of Keras."""
        TRACES.append(1)
        return super().train_step(*args)


TRACES = []


@pytest.mark.parametrize("built", [True, False])
@pytest.mark.backend("tensorflow", "jax")
def test_a_step_is_traced_no_more_than_by_two_fits(built):
    """1 of the redesign: Keras's own `test_retracing`, tests before the fits.

    That one has ones of shape (100, 3), batches of 10, two fits. A model that
    has no weights before the test has none after it, nor a step.
    """
    x, y, counts = np.ones((100, 3)), np.zeros((100, 1)), []
    for tested in (False, True):
        model = Counts()
        if built:
            model(x[:1])
        model.compile("sgd", "mse")
        TRACES.clear()
        for _ in range(2):
            if tested:
                at_once(model, x, y, batch_size=10)
            model.fit(x, y, batch_size=10, verbose=0)
        counts.append(len(TRACES))
    assert counts[1] <= counts[0] + (not built)
