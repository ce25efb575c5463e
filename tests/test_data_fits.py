"""What fits leave behind and trace, on the data that `lr_find` gives them."""

import random
import threading
import types

import keras
import kinds
import numpy as np
import pytest
import reference
from test_data import of_kinds

from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason
from keras_lrfinder import lr_find
from keras_lrfinder.training.data import FitData

SIZE = 8
tensorflow = pytest.mark.backend("tensorflow")


def xy(rows, dtype="float32"):
    rng = np.random.default_rng(1)
    return [rng.uniform(0, 9, (rows, n)).astype(dtype) for n in (3, 1)]


def arrays(rows, dtype="float32", **more):
    return {**dict(zip("xy", xy(rows, dtype))), "batch_size": SIZE, **more}


class Items(keras.utils.PyDataset):
    def __init__(self, rows, **kwargs):
        super().__init__(**kwargs)
        self.xy = xy(rows)

    def __len__(self):
        return -(-len(self.xy[0]) // SIZE)

    def __getitem__(self, index):
        part = slice(index * SIZE, (index + 1) * SIZE)
        return tuple(values[part] for values in self.xy)


def dataset(rows, **kwargs):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(tuple(xy(rows)))
    return data.batch(SIZE, **kwargs)


def two(rows, kind):
    x, y = xy(rows)
    return {"x": kind(x), "y": y, "batch_size": SIZE}


def pandas(rows):
    pd = pytest.importorskip("pandas")
    x, y = xy(rows, "float64")
    return arrays(rows) | {"x": pd.DataFrame(x), "y": pd.Series(y[:, 0])}


def sparse(rows):
    matrix = pytest.importorskip("scipy.sparse").csr_matrix
    return arrays(rows) | {"x": matrix(np.round(xy(rows)[0]) + 1)}


def tf_sparse(rows):
    import tensorflow as tf

    return arrays(rows) | {"x": tf.sparse.from_dense(xy(rows)[0])}


def generator(rows):
    data = Items(rows)
    return {"x": (data[i % len(data)] for i in range(200))}


def weighted(rows, first):
    y = (np.arange(rows) % 2)[:, None]
    return arrays(rows, y=y, class_weight={0: first, 1: 2})


KINDS = {
    "even": lambda: arrays(200),
    "odd": lambda: arrays(203),
    "float64": lambda: arrays(200, "float64"),
    "integers": lambda: arrays(203, "int64"),
    "booleans": lambda: arrays(200, "bool"),
    "weights": lambda: arrays(200, sample_weight=np.ones(200)),
    "class_weight": lambda: weighted(200, 1),
    "class_weight_odd": lambda: weighted(203, 0.5),
    "inputs": lambda: two(200, lambda x: [x, x]),
    "dictionary": lambda: two(203, lambda x: {"a": x, "b": x}),
    "pandas": lambda: pandas(203),
    "sparse": lambda: sparse(200),
    "sparse_odd": lambda: sparse(203),
    "split": lambda: arrays(203, validation_split=0.25),
    "validation": lambda: arrays(
        200, sample_weight=np.ones(200), validation_data=xy(50, "float64")
    ),
    "items": lambda: {"x": Items(200)},
    "items_odd": lambda: {"x": Items(203), "validation_data": Items(50)},
    "generator": lambda: generator(203),
}
KINDS_OF_TENSORFLOW = {
    "tf_sparse": lambda: tf_sparse(200),
    "tf_data": lambda: {"x": dataset(203)},
    "tf_data_static": lambda: {"x": dataset(203, drop_remainder=True)},
    "tf_data_unknown": lambda: {"x": dataset(203).filter(lambda *b: True)},
    "tf_data_endless": lambda: {"x": dataset(203).repeat()},
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
    return Traced(inputs, keras.layers.Dense(1)(outputs))


def train(model, replay, steps=40):
    """Trains as a run does, and returns how many batches it had."""
    run = types.SimpleNamespace(
        steps=steps, held_out=replay.held_out, again=replay.again
    )
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
    model.compile("sgd", "mse")
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
    model = keras.Sequential(
        [
            keras.Input(batch_shape=(SIZE, 5, 2)),
            keras.layers.SimpleRNN(3, stateful=True),
        ]
    )
    model.compile("sgd", "mse")
    x = np.random.default_rng(1).normal(size=(93, 5, 2)).astype("float32")
    data = {"x": x, "y": x[:, 0, :1], "batch_size": SIZE, "shuffle": False}
    replay = FitData(data).replay(20)
    assert replay.held_out == 2
    train(model, replay, 20)


@tensorflow
def test_a_cache_on_disk_can_be_read_again(tmp_path):
    """No iterator is alive that would hold its lock."""
    data = dataset(400).cache(str(tmp_path / "cache"))
    replay = FitData({"x": data}).replay(10)
    assert replay.held_out == 32
    FitData({"x": data}).replay(10)
    model = model_for("tf_data")
    model.compile("sgd", "mse")
    model.fit(data, verbose=0)


def test_no_thread_stays():
    """Where a dataset has workers, they are not begun."""
    before = threading.active_count()
    data = FitData({"x": Items(200, workers=3)})
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


@pytest.mark.parametrize("name", ["even", "sparse", "items", "tf_sparse"])
def test_reading_draws_no_random_number(name, backend):
    """Neither of Python's, nor NumPy's, nor the backend's."""
    if name == "tf_sparse" and backend != "tensorflow":
        name = "generator"
    data = FitData((KINDS | KINDS_OF_TENSORFLOW)[name]())
    list(data.ramp(50)["x"]) if name == "generator" else None
    keras.utils.set_random_seed(3)
    expected = draws()
    keras.utils.set_random_seed(3)
    run = types.SimpleNamespace(steps=10, held_out=2, again=0)
    data.replay(10).fit_data(run)
    assert draws() == expected


def measured(finder, weights, source, steps=reference.STEPS):
    """Asserts that each step's loss is that of its batch, in NumPy's words."""
    lrs = reference.ramp(reference.STEPS)[:steps]
    losses, _ = reference.train(weights, source, lrs)
    np.testing.assert_allclose(finder.curve.lrs, lrs, rtol=1e-12)
    np.testing.assert_allclose(finder.curve.losses, losses, rtol=1e-5)


def find(net, **kwargs):
    return lr_find(net, **{**reference.RAMP, "probe": False, **kwargs})


@of_kinds(
    kinds.arrays,
    kinds.tensors,
    kinds.items,
    kinds.items_workers,
    kinds.generator_endless,
    pytest.param(kinds.tf_data, marks=tensorflow),
    pytest.param(kinds.tf_data_unknown, marks=tensorflow),
    pytest.param(kinds.tf_data_endless, marks=tensorflow),
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
    measured(finder, weights, reference.batches(*xy, kinds.SIZE))
    assert finder.curve.stop_reason is StopReason.COMPLETED


@pytest.mark.parametrize(
    "more",
    [
        {"steps_per_epoch": 3},
        {"sample_weight": np.linspace(0.1, 3.0, 60).astype("float32")},
        {"validation_data": reference.data(rows=9)},
    ],
    ids=lambda more: next(iter(more)),
)
def test_other_arguments_of_fit_count_as_they_do_there(more):
    """Short epochs go on through the data; nothing is evaluated."""
    x, y = reference.data()
    net = reference.kept()
    weights, weight = net.get_weights(), more.get("sample_weight")
    finder = find(net, x=x, y=y, batch_size=SIZE, shuffle=False, **more)
    measured(finder, weights, reference.batches(x, y, SIZE, weight))


def test_the_split_is_not_trained_on():
    """`validation_split` holds the last rows out."""
    x, y = reference.data()
    net, split = reference.kept(), {"validation_split": 0.25}
    weights = net.get_weights()
    finder = find(net, x=x, y=y, batch_size=SIZE, shuffle=False, **split)
    measured(finder, weights, reference.batches(x[:45], y[:45], SIZE))


def test_class_weights_count():
    """The loss recorded has each class weighted."""
    x, _ = reference.data()
    y = (x.sum(axis=1, keepdims=True) > 0).astype("int32")
    weight = np.where(y > 0, 3.0, 0.5).ravel()
    net = reference.kept()
    weights = net.get_weights()
    given = {"class_weight": {0: 0.5, 1: 3.0}, "shuffle": False}
    finder = find(net, x=x, y=y, batch_size=SIZE, **given)
    source = reference.batches(x, y.astype("float32"), SIZE, weight)
    measured(finder, weights, source)


@pytest.mark.parametrize("steps_per_epoch", [None, 4], ids=["none", "four"])
def test_lr_find_stops_where_a_generator_ends(steps_per_epoch):
    """Data that run out before the last step end the test, not the run."""
    x, y = reference.data(rows=5 * SIZE)
    net = reference.kept()
    weights = net.get_weights()
    batches = ((x[i : i + SIZE], y[i : i + SIZE]) for i in range(0, 40, SIZE))
    finder = find(net, x=batches, steps_per_epoch=steps_per_epoch)
    measured(finder, weights, reference.batches(x, y, SIZE), 5)
    assert finder.curve.stop_reason is StopReason.OUT_OF_DATA
