"""In compile, test, fit the training step is compiled once.

The next fit uses what the test compiled, wherever a step compiled anew would
be the same one; and it computes what that would have, bit for bit.
"""

import gc

import keras
import numpy as np
import pytest
import tiny
from tiny import WAYS
from tiny import find
from tiny import in_callback

pytestmark = pytest.mark.backend("tensorflow", "jax")
# By `lr_find` with probes too; the callback is in a fit of its own.
TESTS = {
    "ramp": find,
    "probes": lambda model: find(model, rows=200, probe=True, steps=20),
    "callback": in_callback,
    "twice": lambda model: (find(model), find(model)),
    "then-callback": lambda model: (find(model), in_callback(model)),
}


class Own(keras.Model):
    """A model with a step of the user's own."""

    def train_step(self, *args, **kwargs):
        """As Keras's."""
        return super().train_step(*args, **kwargs)


class Counting(keras.layers.Layer):
    """Counts how often Python runs it: once a trace, if compiled."""

    traces = 0

    def call(self, x, training=None):
        """Counts what is traced for training."""
        if training:
            Counting.traces += 1
        return x


def made(optimizer="adam", *layers, kind=keras.Model, **kwargs):
    """A compiled model, built, with every kind of state, that counts."""
    Counting.traces = 0
    model = tiny.chained(Counting(), *(layers or tiny.layers()), kind=kind)
    return tiny.compiled(model, optimizer, **kwargs)


def trained(make, before=lambda model: None, fit=tiny.fit):
    """State and History after a fit, and the traces of all."""
    tiny.start()
    model = make()
    before(model)
    history = fit(model)
    return tiny.state(model), history, Counting.traces


def assert_same(make, before, fit=tiny.fit, most=1):
    """Asserts that the step is traced `most` times, and trains the same."""
    plain, history, _ = trained(make, fit=fit)
    state, history_after, traces = trained(make, before, fit)
    assert tiny.differences(plain, state) == []
    assert history_after == history
    assert traces <= most


@pytest.mark.keras("3.15")
@pytest.mark.parametrize("test", TESTS)
def test_step_is_traced_once_in_all(test):
    """Test and fit together trace no more than a fit alone must."""
    assert_same(made, TESTS[test])


@pytest.mark.keras("3.15")
@pytest.mark.parametrize("test", ["probes", "callback"])
@pytest.mark.parametrize("kwargs", [{"metrics": ["accuracy"]}, {"kind": Own}])
def test_metrics_count_from_zero(test, kwargs):
    """Those that a test has built; or all of them, at each step."""
    assert_same(lambda: made(**kwargs), TESTS[test])


def test_model_looks_untouched_until_its_next_fit():
    """Its optimizer has no slots, as it had none."""
    model = made()
    find(model)
    assert not model.optimizer.built
    assert "history" not in vars(model)
    tiny.fit(model, epochs=1)
    assert model.optimizer.built
    assert not hasattr(model.train_function, "resume")


@pytest.mark.keras("3.15")
def test_retracing_within_the_bounds_of_keras():
    """Keras's own `test_retracing`, with a range test before its fit."""
    x, y = np.ones((100, tiny.FEATURES)), np.ones((100, 1))
    relu = keras.layers.Dense(1, activation="relu")
    options = {"loss": "mse", "steps_per_execution": 20}
    model = made("adam", relu, kind=Own, **options)
    find(model, x=x, y=y)
    model.fit(x=x, y=y, batch_size=1, epochs=1, verbose=0)
    assert Counting.traces <= 2


# What has been changed since is met by a new trace.


def freeze(model):
    """A layer that trains no more."""
    model.layers[2].trainable = False


def freeze_and_compile(model):
    """Likewise, as Keras would have it; with the same optimizer object."""
    freeze(model)
    tiny.compiled(model, model.optimizer)


def unfreeze_and_compile(model):
    """A backbone that trains now; the optimizer knows of no weights yet."""
    model.layers[2].trainable = True
    tiny.compiled(model, model.optimizer)


def halve(model):
    """Other weights."""
    model.set_weights([w * 0.5 for w in model.get_weights()])


def set_rate(model, rate):
    """Another learning rate, by Keras's own setter."""
    model.optimizer.learning_rate = rate


def frozen():
    """A model whose first layer does not train."""
    model = made()
    freeze_and_compile(model)
    return model


def averaging():
    """A model whose optimizer has an average that starts from the weights."""
    return made(keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5))


CosineDecay = keras.optimizers.schedules.CosineDecay
CHANGES = {
    "schedule": (made, lambda m: set_rate(m, CosineDecay(0.01, 12))),
    "number": (made, lambda m: set_rate(m, 0.02)),
    "freeze": (made, freeze),
    "freeze-and-compile": (made, freeze_and_compile),
    "unfreeze": (frozen, unfreeze_and_compile),
    "dropout": (made, lambda m: setattr(m.layers[4], "rate", 0.9)),
    "weights": (made, halve),
    "average": (averaging, halve),
    "built": (made, lambda m: m.optimizer.build(m.trainable_variables)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_after_the_test_counts(change):
    """As it does without a test, where no step is compiled yet."""
    make, changed = CHANGES[change]

    def fit(model):
        changed(model)
        return tiny.fit(model)

    assert_same(make, find, fit, most=3)


def test_evaluation_in_between_changes_nothing():
    """Nor what it says afterwards."""

    def fit(model):
        x, y = tiny.data()
        model.evaluate(x, y, verbose=0)
        history = tiny.fit(model, validation_data=(x, y))
        return history, model.evaluate(x, y, verbose=0)

    def make():
        net = keras.layers.BatchNormalization(), tiny.last()
        return made("adam", *net, metrics=["accuracy"])

    assert_same(make, find, fit, most=9)


def test_optimizer_may_train_another_model_afterwards():
    """It is bound to none."""
    model = made()
    find(model)
    tiny.fit(tiny.compiled(tiny.small(), model.optimizer))


@pytest.mark.parametrize("way", WAYS)
def test_traced_before_is_traced_no_more(way):
    """A trained model keeps its very function, with all its traces."""
    model = made()
    tiny.fit(model)
    function, count = model.train_function, Counting.traces
    WAYS[way](model)
    tiny.fit(model)
    assert Counting.traces == count
    assert model.train_function is function


@pytest.mark.keras("3.15")
def test_snapshot_after_a_test_leaves_as_it_came():
    """What waits for the next fit is as good after one that is undone."""

    def before(model):
        find(model)
        tiny.in_snapshot(model)

    assert_same(made, before, most=3)


def test_slots_have_the_paths_that_they_would_have():
    """So that a state saved without the test fits one with it."""

    def paths(before):
        tiny.start()
        inner = keras.optimizers.Adam()
        model = made(keras.optimizers.LossScaleOptimizer(inner))
        before(model)
        tiny.fit(model, epochs=1)
        return [v.path for v in model.optimizer.variables]

    assert paths(find) == paths(lambda model: None)


@pytest.mark.backend("tensorflow")
def test_model_can_be_saved_by_tensorflow_afterwards(tmp_path):
    """TensorFlow's own notes of what an object holds are in order."""
    import tensorflow as tf

    model = made()
    find(model)
    tiny.fit(model, epochs=1)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(
        str(tmp_path / "checkpoint")
    )
    names = [name for name, _ in tf.train.list_variables(path)]
    assert len([n for n in names if "optimizer" in n and "SAVE" not in n]) >= 14
    model.export(str(tmp_path / "model"))


@pytest.mark.backend("tensorflow")
def test_many_tests_leave_one_set_of_slots():
    """Four on a model that is never trained: no more than the first."""
    import tensorflow as tf

    kind = type(tf.Variable(0.0))

    def held():
        gc.collect()
        # Of this test alone: what was there before is frozen.
        return sum(type(o) is kind for o in gc.get_objects())

    model = tiny.compiled(optimizer="adam")
    find(model)
    first = held()
    for _ in range(3):
        find(model)
    assert 0 < held() <= first
