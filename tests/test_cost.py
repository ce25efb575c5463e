"""What a range test must not do, counted. Nothing here is timed.

Counts per step are those of a long fit less those of a short one, so that
what happens once a fit drops out; and those of a plain fit are taken off.
"""

import collections
import gc
import tracemalloc
import weakref

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder import LRFinder
from keras_lrfinder import lr_find
from keras_lrfinder.training import finder as finder_module
from keras_lrfinder.training import jax_state
from keras_lrfinder.training import learning_rate
from keras_lrfinder.training import loan as session
from keras_lrfinder.training import reach
from keras_lrfinder.training import variables
from keras_lrfinder.training.snapshot import Snapshot
from keras_lrfinder.training.variables import host_copy

EPOCH = 6  # the steps of one epoch of `tiny.fit`
SHORT, LONG = 5, 15  # steps


def finder():
    """A callback whose test goes all the way."""
    return LRFinder(end_lr=1e-3, stop_factor=None, verbose=0)


def find(model, steps=2 * EPOCH):
    """The same in one call, without probes."""
    x, y = tiny.data()
    return lr_find(
        model,
        x,
        y,
        batch_size=tiny.BATCH,
        steps=steps,
        end_lr=0.5,
        probe=False,
        verbose=0,
    )


def learnable(rows):
    """Samples whose class shows: a ramp on them falls, and is probed."""
    x = np.random.default_rng(0).normal(size=(rows, tiny.FEATURES))
    return x.astype("float32"), (x[:, 0] > 0).astype("int32")


def find_with_probes(model, x, y):
    """The whole range test in one call."""
    found = lr_find(model, x, y, batch_size=tiny.BATCH, steps=40, verbose=0)
    assert found.probes
    return found


class Counts:
    """Counts the calls of functions, wherever they are looked up."""

    def __init__(self, monkeypatch):
        self.monkeypatch = monkeypatch
        self.calls = collections.Counter()

    def watch(self, owner, name):
        """Counts the calls of `owner.name` from now on."""
        original = getattr(owner, name)

        def counted(*args, **kwargs):
            self.calls[name] += 1
            return original(*args, **kwargs)

        self.monkeypatch.setattr(owner, name, counted)

    def of(self, action):
        """What an action calls, and how often."""
        self.calls.clear()
        action()
        return collections.Counter(self.calls)


@pytest.fixture
def counts(monkeypatch, backend):
    """Watches what a step could cost."""
    found = Counts(monkeypatch)
    found.watch(keras.Model, "reset_metrics")
    found.watch(keras.Variable, "assign")
    found.watch(keras.ops, "convert_to_numpy")
    found.watch(variables, "_fill")
    for module in (variables, jax_state, learning_rate, reach):
        found.watch(module, "host_copy")
    if backend == "tensorflow":
        import tensorflow as tf

        found.watch(tf.raw_ops, "AssignVariableOp")
        found.watch(tf.raw_ops, "ReadVariableOp")
    if backend == "jax":
        found.watch(keras.Model, "jax_state_sync")
        found.watch(keras.Model, "_get_jax_state")
    return found


def added_per_step(counts, model, *others):
    """Calls per step that a fit makes with the finder and not without."""
    # Whatever is built, traced or compiled is so by now.
    tiny.fit(model)
    tiny.fit(model, callbacks=[*others, finder()])

    def once(steps, callbacks):
        x, y = tiny.data(steps * tiny.BATCH)
        return counts.of(lambda: tiny.fit(model, 1, callbacks, x=x, y=y))

    added = collections.Counter()
    for sign, callbacks in ((1, lambda: [finder()]), (-1, list)):
        for longer, steps in ((1, LONG), (-1, SHORT)):
            found = once(steps, [*others, *callbacks()])
            for name, number in found.items():
                added[name] += sign * longer * number
    steps = LONG - SHORT
    return {name: number / steps for name, number in added.items() if number}


# On TensorFlow and PyTorch, the learning rate and the two numbers of the
# loss's mean are written past Keras; on JAX the three go into the state that
# the step gets anyway. Nothing is read back: nobody else in these fits can
# set the rate.
STEP = {
    "tensorflow": {"AssignVariableOp": 3},
    "jax": {},
    "torch": {"_fill": 3},
}


def test_step_costs_what_it_must(counts, backend):
    assert added_per_step(counts, tiny.compiled()) == STEP[backend]


class Epochs(keras.callbacks.Callback):
    """A user's callback that cannot come between two steps."""

    def on_epoch_end(self, epoch, logs=None):
        pass


def test_callback_without_batch_hooks_costs_a_step_nothing(counts, backend):
    assert added_per_step(counts, tiny.compiled(), Epochs()) == STEP[backend]


METRICS = ["accuracy", "sparse_categorical_crossentropy"]


def test_users_metrics_cost_a_step_nothing(counts, backend):
    model = tiny.compiled(metrics=METRICS)
    assert added_per_step(counts, model) == STEP[backend]


def test_schedule_costs_a_step_nothing_more(counts, backend):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.02, 3, 0.5)
    model = tiny.compiled(optimizer=keras.optimizers.SGD(schedule))
    assert added_per_step(counts, model) == STEP[backend]


def test_every_variable_is_copied_once(counts):
    model = tiny.compiled(optimizer="adam")
    tiny.fit(model)
    found = [*model.variables, *model.metrics_variables]
    found += model.optimizer.variables
    kept = len({id(variable) for variable in found})
    per_fit = counts.of(lambda: tiny.fit(model, 1, [finder()]))["host_copy"]
    # And the learning rate apart, Keras's own generator where there is one,
    # and on JAX the dtypes of three numbers and two empty ones.
    assert kept <= per_fit <= kept + 7


def test_copying_a_variable_holds_no_second_copy():
    variable = keras.Variable(np.ones((512, 512), "float32"))
    size = 512 * 512 * 4
    tracemalloc.start()
    try:
        copy = host_copy(variable)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert copy.nbytes == size
    assert size <= peak < 1.5 * size


@pytest.fixture
def states(monkeypatch):
    """Every `Snapshot` made in the test, weakly."""
    found = []

    class Watched(Snapshot):
        def __init__(self, model):
            super().__init__(model)
            found.append(weakref.ref(self))

    for module in (session, finder_module):
        monkeypatch.setattr(module, "Snapshot", Watched)
    return found


CALLS = {
    "without probes": find,
    "with probes": lambda model: find_with_probes(model, *learnable(160)),
}


@pytest.mark.parametrize("how", CALLS)
def test_one_call_copies_the_state_once(states, how):
    CALLS[how](tiny.compiled())
    assert len(states) == 1


def test_callback_copies_the_state_once(states):
    tiny.fit(tiny.compiled(), callbacks=[finder()])
    assert len(states) == 1


def alive(references):
    gc.collect()
    return [r() for r in references if r() is not None]


@pytest.mark.parametrize("how", CALLS)
def test_one_call_keeps_no_copy(states, how):
    found = CALLS[how](tiny.compiled())
    assert not alive(states)
    assert len(found.curve)


def test_callback_keeps_no_copy(states):
    callback = finder()
    tiny.fit(tiny.compiled(), callbacks=[callback])
    assert not alive(states)
    assert len(callback.curve)


def test_without_restore_the_copy_goes_after_the_first_step(states):
    seen = []

    class Looks(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(len(alive(states)))

    callback = LRFinder(end_lr=1e-3, restore=False, verbose=0)
    tiny.fit(tiny.compiled(), callbacks=[callback, Looks()])
    assert seen == [0] * len(seen)


def test_model_is_not_kept_alive(backend):
    model = tiny.compiled()
    find(model)
    reference = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert reference() is None


class PassThrough(keras.layers.Layer):
    """Counts the calls of training from Python: one for each trace."""

    calls = 0

    def call(self, x, training=None):
        """Hands on its input."""
        type(self).calls += bool(training)
        return x


def traceable(rate=0.01):
    """A built model that counts its traces."""
    layers = [keras.Input((tiny.FEATURES,)), PassThrough(), *tiny.layers()]
    optimizer = keras.optimizers.Adam(rate)
    return tiny.compiled(keras.Sequential(layers), optimizer=optimizer)


def traces(action):
    """How often an action traces a model that `traceable` made."""
    before = PassThrough.calls
    action()
    return PassThrough.calls - before


TESTS = {
    "callback": lambda model: tiny.fit(model, callbacks=[finder()]),
    "one call": find,
}


@pytest.mark.backend("tensorflow", "jax")
@pytest.mark.parametrize("how", TESTS)
def test_trained_model_is_not_traced_again(how):
    model = traceable()
    tiny.fit(model)
    assert traces(lambda: TESTS[how](model)) == 0
    assert traces(lambda: tiny.fit(model)) == 0


@pytest.mark.backend("tensorflow", "jax")
@pytest.mark.parametrize("rows", [160, 163], ids=["even", "ragged"])
def test_probes_do_not_trace_a_trained_model_again(rows):
    """But for batch normalisation, whose statistics are taken anew."""
    layers = [keras.Input((tiny.FEATURES,)), PassThrough(), *tiny.layers()]
    norm = keras.layers.BatchNormalization
    plain = [layer for layer in layers if not isinstance(layer, norm)]
    model = tiny.compiled(keras.Sequential(plain), optimizer="adam")
    x, y = learnable(rows)
    tiny.fit(model, x=x, y=y)
    assert traces(lambda: find_with_probes(model, x, y)) == 0
    assert traces(lambda: tiny.fit(model, x=x, y=y)) == 0


@pytest.fixture
def compilations(backend):
    """Everything that JAX compiles, the smallest operation included."""
    import jax

    found = []

    def listener(event, seconds, **kwargs):
        if event.endswith("/backend_compile_duration"):
            found.append(event)

    # It stays, there being no public way to take it back, and fills a list
    # that nobody reads any more.
    jax.monitoring.register_event_duration_secs_listener(listener)
    return found


@pytest.mark.backend("jax")
@pytest.mark.parametrize("how", TESTS)
def test_next_fit_compiles_nothing(compilations, how):
    model = traceable()
    tiny.fit(model)
    TESTS[how](model)
    del compilations[:]
    tiny.fit(model)
    assert compilations == []


@pytest.mark.backend("jax")
def test_next_fit_after_probes_compiles_nothing(compilations):
    model = traceable()
    x, y = learnable(160)
    tiny.fit(model, x=x, y=y)
    find_with_probes(model, x, y)
    del compilations[:]
    tiny.fit(model, x=x, y=y)
    assert compilations == []


@pytest.mark.backend("jax")
def test_second_range_test_compiles_nothing(compilations):
    model = traceable()
    tiny.fit(model)
    find(model)
    del compilations[:]
    find(model)
    assert compilations == []


def bytes_in_fit(model, callbacks, live):
    """Bytes of live tensors in the middle of a fit."""
    seen = []

    class Looks(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == EPOCH // 2:
                gc.collect()
                seen.append(live())

    tiny.fit(model, 1, [*callbacks, Looks()])
    return seen[0]


def live_on_jax():
    """Bytes of all of JAX's arrays."""
    import jax

    return sum(array.nbytes for array in jax.live_arrays())


def live_on_torch():
    """Bytes of all of PyTorch's storages that Python can reach."""
    import torch

    storages = {}
    for thing in gc.get_objects():
        if type(thing) in (torch.Tensor, torch.nn.Parameter):
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


@pytest.mark.backend("jax", "torch")
def test_state_is_not_copied_on_the_device(backend):
    live = {"jax": live_on_jax, "torch": live_on_torch}[backend]
    layers = [keras.Input((tiny.FEATURES,)), keras.layers.Dense(500)]
    model = tiny.compiled(
        keras.Sequential([*layers, keras.layers.Dense(tiny.CLASSES)]),
        optimizer="adam",
    )
    tiny.fit(model)
    plain = bytes_in_fit(model, [], live)
    tested = bytes_in_fit(model, [finder()], live)
    # Of some 48,000. The random state that PyTorch hands out is 5,056 of it.
    assert abs(tested - plain) <= 5_200
