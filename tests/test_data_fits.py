"""What fits leave behind and trace, on the data that `lr_find` gives them."""

import threading

import keras
import kinds
import numpy as np
import pytest
import reference
import tiny
from kinds import SIZE
from kinds import arrays
from kinds import of_kinds

from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason
from keras_lrfinder import lr_find
from keras_lrfinder.training.data import FitData

tensorflow = pytest.mark.backend("tensorflow")


def weighted(rows, first):
    y = (np.arange(rows) % 2)[:, None]
    return {**arrays(rows), "y": y, "class_weight": {0: first}}


def inputs(rows, kind):
    return {**arrays(rows), "x": kind(kinds.columns(rows)[0])}


def judged(data):
    return {"validation_data": data}


class Sequences(kinds.Items):
    """One is longer than the others: the first, whose form Keras takes."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return np.repeat(x[:, None], 3 if index == 0 else 2, axis=1), y


KINDS = {
    "even": lambda: arrays(100),
    "odd": lambda: arrays(103),
    "float64": lambda: inputs(100, lambda x: x.astype("float64")),
    "integers": lambda: inputs(103, lambda x: x.astype("int64")),
    "booleans": lambda: inputs(100, lambda x: x > 50),
    "weights": lambda: {**arrays(100), "sample_weight": np.ones(100)},
    "class_weight": lambda: weighted(100, 2),
    "class_weight_odd": lambda: weighted(103, 0.5),
    "inputs": lambda: inputs(100, lambda x: [x, x]),
    "dictionary": lambda: inputs(103, lambda x: {"a": x, "b": x}),
    "pandas": lambda: kinds.pandas(103),
    "sparse": lambda: kinds.csr(100),
    "sparse_odd": lambda: kinds.csr(103),
    "split": lambda: {**arrays(103), "validation_split": 0.25},
    "validation": lambda: KINDS["weights"]() | judged(kinds.columns(50)),
    "items": lambda: kinds.items(100),
    "items_odd": lambda: kinds.items(103) | judged(kinds.Items(50)),
    "items_class_weight": lambda: {**kinds.items(100), "class_weight": {1: 2}},
    "items_sequences": lambda: {"x": Sequences(60)},
    "generator": lambda: kinds.generator_endless(103),
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
    if name == "items_sequences":
        inputs = keras.Input((None, 3))
        outputs = keras.layers.GlobalAveragePooling1D()(inputs)
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
    [pytest.param(k, marks=[tensorflow] * k.startswith("tf")) for k in KINDS],
)
def test_a_run_is_trained_by_the_step_that_fit_has(name):
    """Its batches have the form of the user's, whatever the data are."""
    model = model_for(name)
    data = FitData(KINDS[name]())
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


@of_kinds(
    arrays, kinds.csr, kinds.items_workers, kinds.generator, kinds.tf_sparse
)
def test_reading_draws_no_random_number_and_leaves_no_thread(kind):
    """Neither of Python's, nor NumPy's, nor the backend's; no worker begins."""
    data, before = FitData(kind(200)), threading.active_count()
    list(data.ramp(50)["x"]) if kind is kinds.generator else None
    tiny.start()
    expected = tiny.draws()
    tiny.start()
    data.not_finite()
    replay = data.replay(10)
    replay.fit_data(kinds.run_of(replay, 10))
    assert tiny.draws() == expected
    assert threading.active_count() == before


def measured(finder, weights, source, steps=reference.STEPS):
    """Asserts that each step's loss is that of its batch, in NumPy's words."""
    lrs = reference.ramp(reference.STEPS)[:steps]
    losses, _ = reference.train(weights, source, lrs)
    np.testing.assert_allclose(finder.curve.lrs, lrs, rtol=1e-12)
    np.testing.assert_allclose(finder.curve.losses, losses, rtol=1e-5)


def find(net, **kwargs):
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
        finder = find(net, **given)
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
        {"class_weight": {0: 0.5, 1: 3.0}},
        {"validation_data": reference.data(rows=9)},
        {"validation_split": 0.25},
    ],
    ids=lambda more: next(iter(more)),
)
def test_other_arguments_of_fit_count_as_they_do_there(more):
    """Short epochs go on through the data; nothing is evaluated."""
    x, _ = reference.data()
    y = (x.sum(axis=1, keepdims=True) > 0).astype("float32")
    weight = more.get("sample_weight")
    if "class_weight" in more:
        weight = np.where(y > 0, 3.0, 0.5).ravel()
    end = 45 if "validation_split" in more else 60
    net = reference.kept()
    weights = net.get_weights()
    finder = find(net, x=x, y=y, batch_size=SIZE, shuffle=False, **more)
    source = reference.batches(x[:end], y[:end], SIZE, weight)
    measured(finder, weights, source)


@pytest.mark.parametrize("steps_per_epoch", [None, 4], ids=["none", "four"])
def test_lr_find_stops_where_a_generator_ends(steps_per_epoch, monkeypatch):
    """Data that run out before the last step end the test, not the run."""
    xy = reference.data(rows=5 * SIZE)
    monkeypatch.setattr(kinds, "columns", lambda rows: xy)
    net = reference.kept()
    weights = net.get_weights()
    given = kinds.generator(5 * SIZE)
    finder = find(net, **given, steps_per_epoch=steps_per_epoch)
    measured(finder, weights, reference.batches(*xy, SIZE), 5)
    assert finder.curve.stop_reason is StopReason.OUT_OF_DATA
