"""The next fit draws what it would have drawn without a range test.

Also the very first one of a fresh model, whose `fit` draws before any
callback is called, and also where the test's own fit never gets that far.
"""

import random

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder import LRFinder
from keras_lrfinder import lr_find
from keras_lrfinder import snapshot

STEPS = 8


class Batches(keras.utils.PyDataset):
    """The tiny data in batches, read by one thread or several."""

    def __init__(self, workers=1):
        super().__init__(workers=workers)

    def __len__(self):
        return 6

    def __getitem__(self, index):
        x, y = tiny.data()
        rows = slice(4 * index, 4 * index + 4)
        return x[rows], y[rows]


def loader():
    """The tiny data from a shuffling DataLoader of PyTorch's."""
    import torch

    tensors = map(torch.as_tensor, tiny.data())
    dataset = torch.utils.data.TensorDataset(*tensors)
    return torch.utils.data.DataLoader(dataset, batch_size=4, shuffle=True)


def whole(x):
    """The arguments of `fit` for data that bring their targets."""
    return {"x": x, "y": None, "batch_size": None}


# On TensorFlow, where a trace takes a second, a sample.
OFTEN = pytest.mark.thorough_on("tensorflow")
DATA = {
    "arrays": dict,
    "in-order": lambda: {"shuffle": False},
    "batches": lambda: whole(Batches()),
    "two-workers": lambda: whole(Batches(workers=2)),
}


class Draws(keras.callbacks.Callback):
    """Draws from every global generator at each batch."""

    def on_train_batch_end(self, batch, logs=None):
        draws()


def draws():
    """One number from each global generator, Python's last as well."""
    found = [random.random(), float(np.random.random())]
    found += tiny.host(keras.random.uniform((2,))).tolist()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        found += tf.random.uniform((2,)).numpy().tolist()
        generator = tf.random.get_global_generator()
        found += generator.uniform((2,)).numpy().tolist()
    if keras.backend.backend() == "torch":
        import torch

        found += torch.rand(2).tolist()
    return [*found, random.random()]


def find(model, data):
    """A short range test on the data of the fit to come."""
    x, y = tiny.data()
    kwargs = {"x": x, "y": y, "batch_size": tiny.BATCH, **data}
    kwargs.update(steps=STEPS, stop_factor=None, probe=False, verbose=0)
    lr_find(model, **kwargs)


def find_drawing(model, data):
    """Likewise, in company that draws."""
    find(model, {**data, "callbacks": [Draws()]})


def in_snapshot(model, data):
    """A plain fit within a snapshot."""
    with snapshot(model):
        tiny.fit(model, **data, callbacks=[Draws()])


def start():
    """Seeds every generator and makes those that are made when asked for."""
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    keras.random.uniform((1,))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        generator = tf.random.Generator.from_seed(3)
        tf.random.set_global_generator(generator)


def run(make, before, data, fitted):
    """All that a fit leaves after `before`, and what is drawn next."""
    start()
    model = make()
    if fitted:
        tiny.fit(model, epochs=1, **data())
    before(model, data())
    history = tiny.fit(model, **data())
    names = keras.layers.Dense(1).name, keras.optimizers.Adam().name
    return history, tiny.state(model), draws(), names


def assert_no_trace(make, before, data=dict, fitted=False):
    """Asserts that a fit after `before` is the fit that it would have been."""
    plain = run(make, lambda model, data: None, data, fitted)
    tested = run(make, before, data, fitted)
    assert tiny.differences(plain[1], tested[1]) == []
    assert (tested[0], *tested[2:]) == (plain[0], *plain[2:])


def dropping_model():
    """A model with dropout, whose noise is Keras's own."""
    return tiny.compiled()


WAYS = pytest.mark.parametrize(
    "way", [pytest.param(find, marks=OFTEN), find_drawing, in_snapshot]
)
FITTED = pytest.mark.parametrize(
    "fitted", [False, True], ids=["fresh", "fitted"]
)


KINDS = pytest.mark.parametrize(
    "kind",
    [k if k == "arrays" else pytest.param(k, marks=OFTEN) for k in DATA],
)


@WAYS
@FITTED
@KINDS
def test_next_numbers_drawn_are_the_same(kind, fitted, way):
    """No generator is ahead by what the first fit of a model draws."""

    def drawn(before):
        start()
        model = dropping_model()
        if fitted:
            tiny.fit(model, epochs=1, **DATA[kind]())
        before(model, DATA[kind]())
        return draws()

    assert drawn(way) == drawn(lambda model, data: None)


@WAYS
@FITTED
@KINDS
def test_next_fit_reads_the_data_in_the_same_order(kind, fitted, way):
    """Whichever generator shuffles, and whenever it does."""
    assert_no_trace(dropping_model, way, DATA[kind], fitted)


@pytest.mark.backend("torch")
@WAYS
@FITTED
def test_next_fit_reads_a_loader_in_the_same_order(fitted, way):
    """A DataLoader draws a seed for each pass."""
    assert_no_trace(dropping_model, way, lambda: whole(loader()), fitted)


@WAYS
@pytest.mark.parametrize("kind", ["deferred-sequential", "deferred-subclass"])
def test_deferred_model_starts_from_the_same_state(kind, way):
    """Its weights are made by the first fit, as if it were the first."""

    def make():
        return tiny.compiled(tiny.MODELS[kind]())

    assert_no_trace(make, way)


# A fit that raises before the first callback.


def failing(way):
    """A model whose loss raises while `way` runs, and that run."""
    broken = []

    def loss(y_true, y_pred):
        if broken:
            raise RuntimeError("on purpose")
        return keras.losses.sparse_categorical_crossentropy(y_true, y_pred)

    def make():
        return tiny.compiled(loss=loss)

    def raises(model, data):
        broken.append(True)
        with pytest.raises(Exception, match="on purpose"):
            way(model, data)
        broken.clear()

    return make, raises


BOTH = pytest.mark.parametrize("way", [find, in_snapshot])


@BOTH
def test_fit_after_one_that_raised_early_is_the_same(way):
    """A loss that raises is met before the first hook is called."""
    assert_no_trace(*failing(way))


@BOTH
def test_fit_that_raises_early_leaves_every_generator(way):
    """Whoever draws next draws what he would have drawn."""

    def drawn(experiment):
        start()
        make, raises = failing(way)
        model = make()
        if experiment:
            raises(model, {})
        return draws()

    assert drawn(True) == drawn(False)


@pytest.mark.parametrize(
    "wrong", [{"validation": 3}, {"x": np.empty((0, 4))}, {"max_lr": 1.0}]
)
def test_what_is_refused_leaves_every_generator(wrong):
    """Nothing has begun where an argument is wrong."""

    def drawn(refused):
        start()
        model = dropping_model()
        if refused:
            with pytest.raises((TypeError, ValueError)):
                find(model, wrong)
        return draws()

    assert drawn(True) == drawn(False)


# `tf.random` in compiled functions.


def noisy_model(**kwargs):
    """Noise of TensorFlow's in a layer and in the training step."""
    import tensorflow as tf

    class Noise(keras.layers.Layer):
        def call(self, x):
            return x + tf.random.normal(tf.shape(x))

    class Noisy(keras.Model):
        def train_step(self, data):
            x, y = data
            return super().train_step((x + tf.random.uniform((4, 1)), y))

    inputs = keras.Input((tiny.FEATURES,))
    last = keras.layers.Dense(tiny.CLASSES, activation="softmax")
    model = Noisy(inputs, last(Noise()(inputs)))
    return tiny.compiled(model, **kwargs)


@pytest.mark.backend("tensorflow")
@WAYS
@FITTED
@pytest.mark.parametrize(
    "eagerly",
    [False, pytest.param(True, marks=OFTEN)],
    ids=["compiled", "eager"],
)
def test_noise_of_the_next_fit_is_the_same(eagerly, fitted, way):
    """Ops in compiled functions have a state of their own."""

    def make():
        return noisy_model(run_eagerly=eagerly)

    assert_no_trace(make, way, fitted=fitted)


@pytest.mark.backend("tensorflow")
@WAYS
def test_noise_of_another_function_goes_on(way):
    """What the user traced elsewhere does not start over."""
    import tensorflow as tf

    def numbers(before):
        start()
        draw = tf.function(lambda: tf.random.uniform((2,)))
        first = draw().numpy().tolist()
        before(dropping_model(), {})
        return first, draw().numpy().tolist()

    assert numbers(way) == numbers(lambda model, data: None)


@pytest.mark.parametrize("fitted", [False, True], ids=["fresh", "fitted"])
def test_callback_leaves_the_order_of_the_next_fit(fitted):
    """In a fit of the user's it sees the state at the fit's beginning."""

    def in_callback(model, data):
        finder = LRFinder(stop_factor=None, verbose=0)
        tiny.fit(model, callbacks=[finder, Draws()], **data)

    assert_no_trace(dropping_model, in_callback, fitted=fitted)
