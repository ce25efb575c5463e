"""What the package knows of the private parts of others is still so.

One test for each function of `training/keras_internals.py`, named after it:
where a new version of a library breaks one, its name says which.
"""

import threading

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder.training import keras_internals as internals


class During(keras.callbacks.Callback):
    """Calls a function of the callback in one of Keras's hooks."""

    def __init__(self, hook, action):
        super().__init__()
        self.results = []

        def note(*args, **kwargs):
            self.results.append(action(self))

        setattr(self, hook, note)


def during(hook, action, model=None, **kwargs):
    """What `action(callback)` returns in each call of a hook of a fit."""
    callback = During(hook, action)
    model = tiny.compiled() if model is None else model
    tiny.fit(model, 1, [callback], **kwargs)
    return callback.results


RATES = [0.5, tiny.decay(), lambda: 0.5]


@pytest.mark.parametrize("rate", RATES)
def test_learning_rate_of(rate):
    """It is the object itself: the schedule, the function, the variable."""
    held = internals.learning_rate_of(keras.optimizers.SGD(rate))
    assert held is rate or isinstance(rate, float)
    assert isinstance(rate, float) == hasattr(held, "assign")


@pytest.mark.parametrize("rate", RATES)
def test_set_learning_rate(rate):
    """What was read can be put back, whatever took its place."""
    optimizer = keras.optimizers.SGD(rate)
    held = internals.learning_rate_of(optimizer)
    if not hasattr(held, "assign"):
        optimizer.learning_rate = tiny.decay()
    internals.set_learning_rate(optimizer, held)
    assert internals.learning_rate_of(optimizer) is held


def test_batches_seen():
    """It counts batches where the public count may be one of updates."""
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model = tiny.compiled(optimizer=optimizer)
    tiny.fit(model, epochs=1)
    batches = tiny.ROWS // tiny.BATCH
    assert int(tiny.host(internals.batches_seen(optimizer))) == batches


def test_after_build():
    """Called once, when the slots have values, also while a step is traced."""
    seen, optimizer = [], keras.optimizers.Adam()

    def look():
        seen.append([tiny.host(slot) for slot in optimizer.variables])

    internals.after_build(optimizer, look)
    tiny.fit(tiny.compiled(optimizer=optimizer), 1)
    assert [len(values) for values in seen] == [len(optimizer.variables)]
    assert "build" not in vars(optimizer)


def test_is_variable():
    """A weight is one, a number and an array are none."""
    weight = tiny.functional().weights[0]
    assert internals.is_variable(weight)
    assert not internals.is_variable(weight.value)
    assert not internals.is_variable(np.zeros(2))


def test_array_within():
    """The very array that holds a weight's numbers."""
    weight = tiny.functional().weights[0]
    assert internals.array_within(weight) is not None
    assert internals.array_within(np.zeros(2)) is None


def test_layers_of():
    """Layers within layers are found, the model itself is not among them."""
    inner = tiny.functional()
    model = keras.Sequential([inner, keras.layers.Dense(1)])
    found = internals.layers_of(model)
    assert set(map(id, inner.layers)) < set(map(id, found))
    assert model not in found


@pytest.mark.keras("3.15")
def test_rises():
    """An accuracy rises, a mean need not."""
    assert internals.rises(keras.metrics.SparseCategoricalAccuracy())
    assert not internals.rises(keras.metrics.Mean())


def test_is_overridden():
    """A method of a subclass or of the object itself is the user's own."""

    class Own(keras.Model):
        def train_step(self, data):
            return {}

    plain = tiny.functional()
    assert internals.is_overridden(Own(), ["train_step"])
    assert not internals.is_overridden(plain, ["train_step", "metrics"])
    vars(plain)["train_step"] = lambda data: {}
    assert internals.is_overridden(plain, ["train_step"])


def test_first_epoch(tmp_path):
    """What BackupAndRestore leaves behind decides how many epochs run."""
    model = tiny.compiled()
    for epochs in (2, 3):
        path, keep = tmp_path / "backup", {"delete_checkpoint": False}
        backup = keras.callbacks.BackupAndRestore(path, **keep)
        tiny.fit(model, epochs, [backup])

    assert internals.first_epoch(tiny.compiled()) == 0
    assert internals.first_epoch(model) == 2
    assert len(tiny.fit(model, 3)["loss"]) == 1


@pytest.mark.parametrize("hook", ["set_params", "on_train_begin"])
def test_callback_list(hook):
    """Found from within a hook of `fit`, not from outside."""
    callback = During(hook, internals.callback_list)
    tiny.fit(tiny.compiled(), 1, [callback])
    assert callback in callback.results[0].callbacks
    assert internals.callback_list(callback) is None


def test_wait_for_batch_hooks():
    """A CallbackList that would use threads uses none afterwards."""
    callbacks = keras.callbacks.CallbackList(None)
    callbacks._async_train = True
    internals.wait_for_batch_hooks(callbacks)
    assert callbacks._async_train is False


@pytest.mark.backend("tensorflow")
def test_inputs_of():
    """A model can be built from what its train function is called with."""
    model, seen = tiny.compiled(tiny.deferred()), []
    model.make_train_function()
    own = model.train_function

    def first(iterator):
        seen.append(internals.inputs_of(iterator))
        return own(iterator)

    model.train_function = first
    tiny.fit(model, 1)
    x, y, weights = seen[0]
    assert x.shape in ((None, tiny.FEATURES), (tiny.BATCH, tiny.FEATURES))
    assert len(y.shape) == 1
    assert weights is None


def test_variables_are_current(backend):
    """On JAX only after somebody had a look at the callback's model."""
    model = tiny.compiled()

    def look(callback):
        unseen = internals.variables_are_current(model)
        _ = callback.model
        return unseen, internals.variables_are_current(model)

    seen = during("on_train_batch_end", look, model)
    assert seen == [(backend != "jax", True)] * len(seen)


def test_global_seed_generator():
    """None until something draws without a seed; then it is what moves."""
    keras.utils.set_random_seed(1)
    keras.backend.clear_session()
    assert internals.global_seed_generator() is None
    keras.random.normal((2,))
    generator = internals.global_seed_generator()
    before = tiny.host(generator.state)
    keras.random.normal((2,))
    assert (tiny.host(generator.state) != before).any()


def test_forget_global_seed_generator():
    """The next one has the seed that the first one had."""
    numbers = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        internals.forget_global_seed_generator()
        numbers.append(tiny.host(keras.random.normal((2,))).tolist())
    assert numbers[0] == numbers[1]


def test_counts_of_names():
    """Put back, the next layer gets the name of the last one again."""
    first = keras.layers.Dense(1).name
    counts = dict(internals.counts_of_names())
    names = [keras.layers.Dense(1).name for _ in range(2)]
    internals.counts_of_names().clear()
    internals.counts_of_names().update(counts)
    assert keras.layers.Dense(1).name == names[0] != first


def test_slots_of():
    """Neither the learning rate, nor the count, nor the average."""
    optimizer = keras.optimizers.Adam(use_ema=True)
    optimizer.build([keras.Variable(1.0)])
    assert len(internals.slots_of(optimizer)) == 2
    assert len(optimizer.variables) == 5


def test_made_by_compile():
    """Loss, metrics, and the mean of the loss."""
    model = tiny.compiled(metrics=["accuracy"])
    names = [type(made).__name__ for made in internals.made_by_compile(model)]
    assert names == ["CompileLoss", "CompileMetrics", "Mean"]


def test_plain_fit(monkeypatch):
    """Past what is put into the place of Keras's, not of the user's."""

    class Own(keras.Sequential):
        def fit(self, *args, **kwargs):
            return "own"

    monkeypatch.setattr(keras.Model, "fit", lambda *a, **k: "logged")
    x, y = tiny.data()
    assert tiny.compiled().fit(x, y) == "logged"
    assert internals.plain_fit(tiny.compiled())(x, y, verbose=0) != "logged"
    assert internals.plain_fit(Own([keras.layers.Dense(1)]))() == "own"


def test_is_fitting():
    """Of this model, and in that thread."""
    model, here = tiny.compiled(), threading.get_ident()

    def ask(callback):
        other = internals.is_fitting(tiny.functional(), here)
        return internals.is_fitting(model, here), other

    assert during("on_train_begin", ask, model) == [(True, False)]
    assert not internals.is_fitting(model, here)


def test_is_called_by():
    """By the name of the function that called."""

    def asked():
        return internals.is_called_by("test_is_called_by")

    assert asked()
    assert not internals.is_called_by("asked")


@pytest.mark.keras("3.15")
def test_running_epoch():
    """What the fit reads, and nothing where there is none."""
    found = during("on_train_begin", lambda _: internals.running_epoch())
    assert hasattr(found[0], "reset")
    assert internals.running_epoch() is None


@pytest.mark.keras("3.15")
def test_close_epoch():
    """Of an epoch that was left in its middle nothing is open."""

    def leave(callback):
        callback.model.stop_training = True
        return internals.running_epoch()

    epoch = during("on_train_batch_end", leave)[0]
    internals.close_epoch(epoch)
    assert getattr(epoch._epoch_iterator, "gi_frame", None) is None


@pytest.mark.backend("tensorflow")
def test_build_metrics():
    """As the step would make them."""
    names = []
    for early in (False, True):
        keras.backend.clear_session()
        model = tiny.compiled(metrics=["accuracy"])
        if early:
            batches = tf_data()
            internals.build_metrics(model, batches)
        tiny.fit(model, 1)
        names.append([v.path for v in model.metrics_variables])
    assert names[0] == names[1]


def tf_data():
    """An iterator as TensorFlow's fit has one."""
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(tiny.data())
    return iter(dataset.batch(tiny.BATCH))


@pytest.mark.backend("tensorflow")
def test_mend_lists_of(tmp_path):
    """An optimizer can be saved whose variable has given way."""
    import tensorflow as tf

    optimizer = tiny.compiled().optimizer
    optimizer.learning_rate = tiny.decay()
    internals.mend_lists_of(optimizer)
    tf.train.Checkpoint(optimizer=optimizer).save(str(tmp_path / "saved"))


@pytest.mark.backend("tensorflow")
def test_plain_tensorflow():
    """The variable beneath has the same value, and a handle to assign to."""
    variable = keras.Variable(3.0)
    found = internals.plain_tensorflow(variable)
    assert float(found) == 3.0
    assert found.handle.dtype == "resource"


def fitted(**kwargs):
    """A compiled model after an epoch."""
    model = tiny.compiled(**kwargs)
    tiny.fit(model, 1)
    return model


@pytest.mark.backend("tensorflow", "jax")
def test_compiled_functions():
    """Those of a fit, more after an evaluation, none before."""
    assert internals.compiled_functions(tiny.compiled()) == []
    model = fitted()
    of_fit = internals.compiled_functions(model)
    assert of_fit
    model.evaluate(*tiny.data(), verbose=0)
    of_both = internals.compiled_functions(model)
    assert {id(f) for f in of_fit} < {id(f) for f in of_both}


@pytest.mark.backend("tensorflow", "jax")
def test_times_traced():
    """Once more for another size of batches."""
    model = fitted()
    functions = internals.compiled_functions(model)
    before = sum(map(internals.times_traced, functions))
    x, y = tiny.data()
    model.fit(x, y, verbose=0, batch_size=tiny.BATCH)
    assert sum(map(internals.times_traced, functions)) == before
    model.fit(x, y, batch_size=3, verbose=0)
    assert sum(map(internals.times_traced, functions)) > before


@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize("of_keras", [True, False])
def test_draws_by_itself(of_keras):
    """`tf.random` has ops with a state; dropout of Keras has none."""
    import tensorflow as tf

    class Noise(keras.layers.Layer):
        def call(self, x):
            return x + tf.random.normal(tf.shape(x))

    hidden = keras.layers.Dropout(0.5) if of_keras else Noise()
    net = tiny.chained(hidden, tiny.last())
    functions = internals.compiled_functions(fitted(model=net))
    assert any(map(internals.draws_by_itself, functions)) is not of_keras


@pytest.mark.backend("tensorflow")
def test_draw_other_seeds():
    """Others come until it is undone, and then those that would have come."""
    import tensorflow as tf

    def numbers():
        return tf.random.normal((5,)).numpy().tolist()

    tf.random.set_seed(3)
    expected = [numbers() for _ in range(2)]
    tf.random.set_seed(3)
    first, undo = numbers(), internals.draw_other_seeds()
    others = [numbers() for _ in range(2)]
    undo()
    assert [first, numbers()] == expected
    assert expected[1] not in others


@pytest.mark.backend("tensorflow")
def test_global_tensorflow_generator():
    """The generator that TensorFlow itself returns."""
    import tensorflow as tf

    generator = tf.random.get_global_generator()
    assert internals.global_tensorflow_generator() is generator


FUNCTIONS = [
    name
    for name, value in vars(internals).items()
    if getattr(value, "__module__", None) == internals.__name__
    and not name.startswith("_")
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_a_test_that_names_it(name):
    """Which one fails says what a new version has changed."""
    assert f"test_{name}" in globals()
    assert internals.__dict__[name].__doc__
