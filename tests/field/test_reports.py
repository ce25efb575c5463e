"""What broke for people who train with Keras, one claim after the other.

Numbers are those of the reports; `test_more_reports.py` has the others.
"""

import functools
import gc
import itertools
import threading

import keras
import numpy as np
import pytest
from keras import layers

from field.same import at_once
from field.same import compiled
from field.same import in_a_fit
from field.same import net
from field.same import rows
from keras_lrfinder import LRFinder

tensorflow = pytest.mark.backend("tensorflow")
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


def by_validation(model):
    """A fit whose validation is cut short."""
    in_a_fit(model, *rows(), validation_data=Items(workers=3))


def by_ctrl_c(model):
    """`lr_find` cut off."""
    with pytest.raises(KeyboardInterrupt):
        at_once(model, Items(workers=3), callbacks=[Interrupts(5)])


def in_a_fit_by_ctrl_c(model):
    """A fit with a test cut off, which is put back by hand."""
    finder = LRFinder(steps=40, verbose=0)
    both = [finder, Interrupts(5)]
    with pytest.raises(KeyboardInterrupt):
        model.fit(Items(workers=3), verbose=0, callbacks=both)
    finder.restore()


@pytest.mark.parametrize(
    "test",
    [
        lambda model: at_once(model, Items(workers=3)),
        lambda model: in_a_fit(model, Items(workers=3)),
        by_validation,
        by_ctrl_c,
        in_a_fit_by_ctrl_c,
    ],
)
def test_1_no_worker_of_a_dataset_stays(test):
    """1: the threads that make batches end with the test, whoever ends it."""
    model, before = net(), threading.active_count()
    test(model)
    assert threading.active_count() == before


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


@pytest.mark.parametrize("place", ["before", "after"])
def test_4_what_others_do_in_hooks_is_not_read(place):
    """4: losses and batch size are of the step, on either side."""
    x, y = rows()

    class Uses(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                self.model.train_on_batch(x[:3], y[:3])

        on_train_batch_begin = on_train_batch_end

    curves = []
    for others in ([], [Uses()]):
        model, finder = net(drop=0), LRFinder(steps=12, verbose=0)
        given = [*others, finder] if place == "before" else [finder, *others]
        model.fit(x, y, 16, shuffle=False, verbose=0, callbacks=given)
        curves.append(finder.curve)
    alone, shared = curves
    assert shared.batch_size == alone.batch_size == 16
    np.testing.assert_array_equal(shared.losses[:2], alone.losses[:2])


def test_5_who_logs_every_fit_logs_none_of_a_test(monkeypatch):
    """5: a tracker in the place of `fit` sees the user's fit, and no other."""
    kind = next(c for c in keras.Model.__mro__ if "fit" in vars(c))
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


class Notes(layers.Layer):
    """Keeps of each batch that it is trained on what numbers its rows have."""

    def call(self, x, training=False):
        """Keeps the first column."""
        if training and not isinstance(x, keras.KerasTensor):
            column = np.array(keras.ops.convert_to_numpy(x))[:, 0]
            NOTED.append(np.rint(column * 640).astype(int).tolist())
        return x


NOTED = []


# A step without a program takes JAX a tenth of a second.
@pytest.mark.thorough_on("jax")
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
    model = compiled([Notes(), layers.Dense(1)], "sgd", run_eagerly=True)
    model(x[:1])
    NOTED.clear()
    more = {} if kind == "items" else {"batch_size": 8}
    at_once(model, *data, shuffle=False, trainings=trainings, epochs=2, **more)
    ramp, later = NOTED[:20], NOTED[40:]
    assert ramp == [list(range(8 * i, 8 * i + 8)) for i in range(20)]
    begun = [i for i, batch in enumerate(later) if batch == ramp[0]]
    assert len(begun) > 3
    for batch in later:
        assert batch in ramp
    for this, then in itertools.pairwise(later):
        assert then[0] in (this[-1] + 1, 0, 128) or this[0] >= 128
