"""What fits leave behind and trace, on the data that `lr_find` gives them."""

import random
import threading

import keras
import kinds
import numpy as np
import pytest
import reference
from kinds import SIZE
from kinds import arrays
from kinds import of_kinds

from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason
from keras_lrfinder import lr_find
from keras_lrfinder.training.data import FitData

tensorflow = pytest.mark.backend("tensorflow")


def typed(rows, dtype):
    x, y = kinds.columns(rows)
    return {**arrays(rows), "x": x.astype(dtype), "y": y.astype(dtype)}


def weighted(rows, first):
    y = (np.arange(rows) % 2)[:, None]
    return {**arrays(rows), "y": y, "class_weight": {0: first}}


def inputs(rows, kind):
    return {**arrays(rows), "x": kind(kinds.columns(rows)[0])}


def validated(data, rows):
    return {**data, "validation_data": rows}


KINDS = {
    "even": lambda: arrays(100),
    "odd": lambda: arrays(103),
    "float64": lambda: typed(100, "float64"),
    "integers": lambda: typed(103, "int64"),
    "booleans": lambda: typed(100, "bool"),
    "weights": lambda: {**arrays(100), "sample_weight": np.ones(100)},
    "class_weight": lambda: weighted(100, 2),
    "class_weight_odd": lambda: weighted(103, 0.5),
    "inputs": lambda: inputs(100, lambda x: [x, x]),
    "dictionary": lambda: inputs(103, lambda x: {"a": x, "b": x}),
    "pandas": lambda: kinds.pandas(103),
    "sparse": lambda: kinds.csr(100),
    "sparse_odd": lambda: kinds.csr(103),
    "split": lambda: {**arrays(103), "validation_split": 0.25},
    "validation": lambda: validated(
        KINDS["weights"](), [c.astype("float64") for c in kinds.columns(50)]
    ),
    "items": lambda: kinds.items(100),
    "items_odd": lambda: validated(kinds.items(103), kinds.Items(50)),
    "items_class_weight": lambda: {**kinds.items(100), "class_weight": {1: 2}},
    "generator": lambda: kinds.generator_endless(103),
}
KINDS_OF_TENSORFLOW = {
    "tf_sparse": lambda: kinds.tf_sparse(100),
    "tf_data": lambda: kinds.tf_data(103),
    "tf_data_static": lambda: kinds.tf_data(103, drop_remainder=True),
    "tf_data_unknown": lambda: kinds.tf_data_unknown(103),
    "tf_data_endless": lambda: kinds.tf_data_endless(103),
}


class Traced(keras.Model):
    """Counts what its step is traced for; Python runs it in no other way."""

    traces = 0

    def train_step(self, *args):
        self.traces += 1
        return super().train_step(*args)


class Stops(keras.callbacks.Callback):
    """Ends a fit after some batches."""

    def __init__(self, batches):
        super().__init__()
        self.left = batches

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        self.model.stop_training = self.left == 0


def model_for(name):
    inputs = keras.Input((3,), sparse="sparse" in name)
    outputs = inputs
    if name in ("inputs", "dictionary"):
        parts = [keras.Input((3,), name=n) for n in "ab"]
        inputs = dict(zip("ab", parts)) if name == "dictionary" else parts
        outputs = keras.layers.Add()(parts)
    model = Traced(inputs, keras.layers.Dense(1)(outputs))
    model.compile("sgd", "mse")
    return model


def train(model, replay, steps=40):
    """Trains as a run does, on so many batches."""
    run = kinds.run_of(replay, steps)
    stops = Stops(steps + run.held_out + run.again)
    model.fit(**replay.fit_data(run), verbose=0, callbacks=[stops])
    assert stops.left == 0


@pytest.mark.backend("tensorflow", "jax")
@pytest.mark.parametrize(
    "name",
    [
        *KINDS,
        *(pytest.param(k, marks=tensorflow) for k in KINDS_OF_TENSORFLOW),
    ],
)
def test_a_run_is_trained_by_the_step_that_fit_has(name):
    """Its batches have the form of the user's, whatever the data are."""
    model = model_for(name)
    data = FitData((KINDS | KINDS_OF_TENSORFLOW)[name]())
    ramp = data.ramp(100)
    model.fit(**ramp, verbose=0, callbacks=[Stops(60)])
    before = model.traces
    replay = data.replay(40)
    train(model, replay, 0)
    train(model, replay)
    assert model.traces == before


def test_a_batch_shape_may_be_fixed():
    """In order, in whole batches: a stateful network can be judged."""
    inputs = keras.Input(batch_shape=(SIZE, 5, 2))
    layer = keras.layers.SimpleRNN(3, stateful=True)
    model = keras.Sequential([inputs, layer])
    model.compile("sgd", "mse")
    x = np.random.default_rng(1).normal(size=(45, 5, 2)).astype("float32")
    data = {"x": x, "y": x[:, 0, :1], "batch_size": SIZE, "shuffle": False}
    replay = FitData(data).replay(20)
    assert replay.held_out == 2
    train(model, replay, 20)


@tensorflow
def test_a_cache_on_disk_can_be_read_again(tmp_path):
    """No iterator is alive that would hold its lock."""
    data = kinds.tf_data(400)["x"].cache(str(tmp_path / "cache"))
    for _ in range(2):
        assert FitData({"x": data}).replay(10).held_out == 60
    model_for("tf_data").fit(data, verbose=0)


def test_no_thread_stays():
    """Where a dataset has workers, they are not begun."""
    before = threading.active_count()
    data = FitData(kinds.items_workers(200))
    data.replay(10)
    data.ramp(10)
    data.not_finite()
    assert threading.active_count() == before


def draws():
    """What comes next of every global generator."""
    found = [random.random(), np.random.rand()]
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        found.append(float(tf.random.uniform(())))
    if keras.backend.backend() == "torch":
        import torch

        found.append(float(torch.rand(())))
    return found


@of_kinds(arrays, kinds.csr, kinds.items, kinds.generator, kinds.tf_sparse)
def test_reading_draws_no_random_number(kind):
    """Neither of Python's, nor NumPy's, nor the backend's."""
    data = FitData(kind(200))
    list(data.ramp(50)["x"]) if kind is kinds.generator else None
    keras.utils.set_random_seed(3)
    expected = draws()
    keras.utils.set_random_seed(3)
    replay = data.replay(10)
    replay.fit_data(kinds.run_of(replay, 10))
    assert draws() == expected


def measured(finder, weights, source, steps=reference.STEPS):
    """Asserts that each step's loss is that of its batch, in NumPy's words."""
    lrs = reference.ramp(reference.STEPS)[:steps]
    losses, _ = reference.train(weights, source, lrs)
    np.testing.assert_allclose(finder.curve.lrs, lrs, rtol=1e-12)
    np.testing.assert_allclose(finder.curve.losses, losses, rtol=1e-5)


def find(net, **kwargs):
    kwargs = {"shuffle": False, "batch_size": SIZE, **kwargs}
    return lr_find(net, **{**reference.RAMP, "probe": False, **kwargs})


@of_kinds(
    arrays,
    kinds.tensors,
    kinds.items,
    kinds.items_workers,
    kinds.generator_endless,
    kinds.tf_data,
    kinds.tf_data_unknown,
    kinds.tf_data_endless,
)
@pytest.mark.parametrize("way", ["lr_find", "callback"])
def test_each_step_has_the_loss_of_its_batch(kind, way, monkeypatch):
    """With no jump where one epoch ends, with a ragged batch, and the next."""
    xy = reference.data(rows=42)
    monkeypatch.setattr(kinds, "columns", lambda rows: xy)
    net = reference.kept()
    if kind is kinds.items_workers:
        # On JAX and PyTorch a first fit takes one batch of a queue to build by.
        net.train_on_batch(*xy)
    weights, given = net.get_weights(), kind(42)
    if not hasattr(given["x"], "send"):
        given["shuffle"] = False
    if way == "lr_find":
        finder = lr_find(net, **{**reference.RAMP, "probe": False, **given})
    else:
        finder = LRFinder(**reference.RAMP)
        given["epochs"] = 1 if "endless" in kind.__name__ else 3
        net.fit(**given, verbose=0, callbacks=[finder])
    measured(finder, weights, reference.batches(*xy, SIZE))
    assert finder.curve.stop_reason is StopReason.COMPLETED


@pytest.mark.parametrize(
    "more",
    [
        {"steps_per_epoch": 3},
        {"sample_weight": np.linspace(0.1, 3.0, 60).astype("float32")},
        {"validation_data": reference.data(rows=9)},
        {"validation_split": 0.25},
    ],
    ids=lambda more: next(iter(more)),
)
def test_other_arguments_of_fit_count_as_they_do_there(more):
    """Short epochs go on through the data; nothing is evaluated."""
    x, y = reference.data()
    net = reference.kept()
    weights, weight = net.get_weights(), more.get("sample_weight")
    finder = find(net, x=x, y=y, **more)
    end = 45 if "validation_split" in more else 60
    source = reference.batches(x[:end], y[:end], SIZE, weight)
    measured(finder, weights, source)


def test_class_weights_count():
    """The loss recorded has each class weighted."""
    x, _ = reference.data()
    y = (x.sum(axis=1, keepdims=True) > 0).astype("int32")
    weight = np.where(y > 0, 3.0, 0.5).ravel()
    net = reference.kept()
    weights = net.get_weights()
    finder = find(net, x=x, y=y, class_weight={0: 0.5, 1: 3.0})
    source = reference.batches(x, y.astype("float32"), SIZE, weight)
    measured(finder, weights, source)


@pytest.mark.parametrize("steps_per_epoch", [None, 4], ids=["none", "four"])
def test_lr_find_stops_where_a_generator_ends(steps_per_epoch):
    """Data that run out before the last step end the test, not the run."""
    x, y = reference.data(rows=5 * SIZE)
    net = reference.kept()
    weights, ends = net.get_weights(), range(SIZE, 6 * SIZE, SIZE)
    batches = ((x[end - SIZE : end], y[end - SIZE : end]) for end in ends)
    more = {"steps_per_epoch": steps_per_epoch, "batch_size": None}
    finder = find(net, x=batches, **more)
    measured(finder, weights, reference.batches(x, y, SIZE), 5)
    assert finder.curve.stop_reason is StopReason.OUT_OF_DATA
