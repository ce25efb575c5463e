"""What a model reaches beside Keras's own numbers comes back as well.

Each claim holds for `lr_find`, for the callback where it makes sense, and for
`snapshot`: `WAYS` are the three.
"""

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder import LRFinder
from keras_lrfinder import lr_find
from keras_lrfinder import snapshot

STEPS = 8


def find(model, **kwargs):
    """A short range test on the data that `tiny.fit` trains on."""
    x, y = tiny.data()
    kwargs = {"steps": STEPS, "probe": False, **kwargs}
    return lr_find(
        model,
        x,
        y,
        batch_size=tiny.BATCH,
        stop_factor=None,
        verbose=0,
        **kwargs,
    )


def in_callback(model):
    """The same within a fit of the user's."""
    finder = LRFinder(stop_factor=None, verbose=0)
    tiny.fit(model, callbacks=[finder])


def in_snapshot(model):
    """A plain fit within a snapshot."""
    with snapshot(model):
        tiny.fit(model)


WAYS = pytest.mark.parametrize("way", [find, in_callback, in_snapshot])


def classifier(*parts, kind=keras.Model):
    """A compiled classifier of the layers given and a last one."""
    inputs = outputs = keras.Input((tiny.FEATURES,))
    for layer in parts:
        outputs = layer(outputs)
    last = keras.layers.Dense(tiny.CLASSES, activation="softmax")
    return tiny.compiled(kind(inputs, last(outputs)))


# PyTorch modules inside Keras layers.


def wrapped_model():
    """A model with a PyTorch module that keeps state of every kind."""
    import torch

    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(tiny.FEATURES)
            self.spectral = torch.nn.utils.spectral_norm(
                torch.nn.Linear(tiny.FEATURES, tiny.FEATURES)
            )
            self.register_buffer("hidden", torch.zeros(2), persistent=False)
            self.tensor = torch.zeros(2)
            self.noise = torch.Generator().manual_seed(1)
            self.calls = 0

        def forward(self, x):
            if self.training:
                self.hidden = self.hidden + 1
                self.tensor += 1
                self.calls += 1
                x = x + 0.1 * torch.rand(x.shape, generator=self.noise)
            return self.spectral(self.norm(x))

    layer = keras.layers.TorchModuleWrapper(
        Odd(), output_shape=(None, tiny.FEATURES)
    )
    return classifier(layer), layer.module


def module_state(module):
    """Everything that such a module keeps, as comparable values."""
    numbers = {
        **module.state_dict(),
        "hidden": module.hidden,
        "tensor": module.tensor,
        "noise": module.noise.get_state(),
    }
    host = {k: v.detach().cpu().numpy().tobytes() for k, v in numbers.items()}
    return {**host, "calls": module.calls}


@pytest.mark.backend("torch")
@pytest.mark.parametrize("fitted", [False, True], ids=["fresh", "fitted"])
@WAYS
def test_state_of_a_wrapped_module_comes_back(way, fitted):
    """Buffers, tensors, generators and counters, not parameters alone."""
    model, module = wrapped_model()
    if fitted:
        tiny.fit(model, epochs=1)
    before = module_state(module)
    way(model)
    after = module_state(module)
    assert [k for k in before if before[k] != after[k]] == []


@pytest.mark.backend("torch")
@WAYS
def test_wrapped_module_predicts_the_same(way):
    """The running statistics are those of before."""
    model, _ = wrapped_model()
    x, _ = tiny.data()
    before = model.predict(x, verbose=0)
    way(model)
    np.testing.assert_array_equal(model.predict(x, verbose=0), before)


# Raw TensorFlow variables.


def raw_model():
    """A model with raw variables in every place; and these."""
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.box = {"inner": [tf.Variable(0.0)]}

    class Augment(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.chance = tf.Variable(0.5, trainable=False)
            self.listed = [tf.Variable(0.0)]
            self.nested = {"a": {"b": [tf.Variable(0.0)]}}
            self.pair = (tf.Variable(0.0), 1)
            self.module = Module()
            self.noise = tf.random.Generator.from_seed(5)

        def raw(self):
            return {
                "attribute": self.chance,
                "list": self.listed[0],
                "nested": self.nested["a"]["b"][0],
                "tuple": self.pair[0],
                "module": self.module.box["inner"][0],
            }

        def call(self, x, training=False):
            if not training:
                return x
            for variable in self.raw().values():
                variable.assign_add(1.0)
            return x + 0.1 * self.noise.normal(tf.shape(x))

    class Curriculum(keras.Model):
        def __init__(self, *args):
            super().__init__(*args)
            self.current_step = tf.Variable(0, dtype=tf.int64)

        def train_step(self, data):
            self.current_step.assign_add(1)
            return super().train_step(data)

    layer = Augment()
    model = classifier(layer, kind=Curriculum)
    places = {**layer.raw(), "generator": layer.noise.state}
    return model, {**places, "train_step": model.current_step}


@pytest.mark.backend("tensorflow")
@WAYS
def test_raw_variables_come_back(way):
    """Wherever the model or a layer holds them."""
    model, raw = raw_model()
    before = {name: v.numpy().tolist() for name, v in raw.items()}
    way(model)
    after = {name: v.numpy().tolist() for name, v in raw.items()}
    assert after == before


# Python's own attributes.


class Counts(keras.layers.Layer):
    """Counts its calls in Python: each step where nothing is compiled."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.seen = []
        self.noise = np.random.default_rng(0)

    def call(self, x):
        self.calls += 1
        self.seen.append(self.calls)
        self.noise.random()
        return x


@WAYS
def test_python_state_of_a_layer_comes_back(way):
    """Counters, lists and generators of a layer's own."""
    layer = Counts()
    model = classifier(layer)
    tiny.fit(model, epochs=1)
    before = layer.calls, list(layer.seen), layer.noise.bit_generator.state
    way(model)
    after = layer.calls, list(layer.seen), layer.noise.bit_generator.state
    assert after == before


# PyTorch compiles nothing anyway; what is not compiled takes JAX long.
@pytest.mark.thorough_on("jax", "tensorflow")
@pytest.mark.parametrize("fitted", [False, True], ids=["fresh", "fitted"])
def test_every_probe_starts_from_the_same_python_state(fitted):
    """A layer that counts its calls counts from the same number each time."""
    seen = []

    class Notes(Counts):
        def call(self, x, training=False):
            if training:
                seen.append((self.calls, len(self.seen)))
            return super().call(x)

    model = classifier(Notes())
    tiny.compiled(model, run_eagerly=True)
    if fitted:
        tiny.fit(model, epochs=1)
    seen.clear()
    finder = find(model, steps=20, probe=True)
    assert finder.probes
    assert seen.count(min(seen)) >= len(finder.probes)


@pytest.mark.backend("torch")
def test_every_probe_starts_from_the_same_module_state():
    """Counts, lists and replaced buffers of a wrapped PyTorch module."""
    model, module = wrapped_model()
    tiny.fit(model, epochs=1)
    starts = []

    def note(module, inputs):
        if module.training:
            starts.append((module.calls, float(module.hidden[0])))

    module.register_forward_pre_hook(note)
    finder = find(model, steps=40, probe=True)
    assert finder.probes
    assert starts.count(min(starts)) >= 1 + len(finder.probes)


# Metrics.


class Everything(keras.metrics.Metric):
    """Counts over all epochs: its reset does nothing."""

    def __init__(self, name="everything"):
        super().__init__(name=name)
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.count.assign_add(1.0)

    def result(self):
        return self.count + 0.0

    def reset_state(self):
        """Keeps the count."""


@pytest.mark.parametrize("fitted", [False, True], ids=["fresh", "fitted"])
@pytest.mark.parametrize("way", [find, in_snapshot])
def test_metric_that_is_never_reset_comes_back(way, fitted):
    """What it counted before the test, and no step of the test."""
    metric = Everything()
    model = tiny.compiled(None, "sgd", metrics=[metric])
    if fitted:
        tiny.fit(model, epochs=1)
    before = float(tiny.host(metric.count))
    way(model)
    assert float(tiny.host(metric.count)) == before


def test_callback_of_the_users_still_runs():
    """Only what is known to write or send is left out."""
    losses = tiny.Losses()
    find(tiny.compiled(), callbacks=[losses])
    assert len(losses.values) >= STEPS


# Callbacks that write or send.


def test_appended_log_gets_no_rows_of_the_test(tmp_path):
    """A CSVLogger is left out, also where it appends."""
    model = tiny.compiled()
    log = tmp_path / "log.csv"
    tiny.fit(model, callbacks=[keras.callbacks.CSVLogger(str(log))])
    before = log.read_text()
    find(model, callbacks=[keras.callbacks.CSVLogger(str(log), append=True)])
    assert log.read_text() == before


def test_new_log_is_not_written(tmp_path):
    """The first fit's log is the first fit's."""
    log = tmp_path / "log.csv"
    find(tiny.compiled(), callbacks=[keras.callbacks.CSVLogger(str(log))])
    assert not log.exists()


def test_remote_monitor_sends_nothing():
    """No epoch of the test leaves the machine."""
    sent = []

    class Monitor(keras.callbacks.RemoteMonitor):
        def on_epoch_end(self, epoch, logs=None):
            sent.append(epoch)

    find(tiny.compiled(), callbacks=[Monitor()])
    assert sent == []


@pytest.mark.backend("tensorflow")
def test_tensorboard_logs_nothing(tmp_path):
    """No event file of the test among those of the trainings."""
    logs = tmp_path / "logs"
    find(tiny.compiled(), callbacks=[keras.callbacks.TensorBoard(str(logs))])
    assert not logs.exists()


@pytest.mark.parametrize("frequency", ["epoch", 2])
def test_checkpoints_are_not_written(tmp_path, frequency):
    """Nor is anything restored or deleted."""
    path = str(tmp_path / "{epoch}.weights.h5")
    callback = keras.callbacks.ModelCheckpoint(
        path, save_weights_only=True, save_freq=frequency
    )
    backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
    find(tiny.compiled(), callbacks=[callback, backup])
    assert list(tmp_path.rglob("*.h5")) == []
