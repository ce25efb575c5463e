"""The very optimizer, schedule, loss and train function come back.

Whatever was put in their place within `with snapshot(model)`, and as unbuilt
as they came: the model trains on as one that has never been touched.
"""

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder import lr_find
from keras_lrfinder import snapshot

pytestmark = pytest.mark.thorough_on("tensorflow")


def find(model):
    """A short range test on the data that `tiny.fit` trains on."""
    x, y = tiny.data()
    lr_find(
        model,
        x,
        y,
        batch_size=tiny.BATCH,
        steps=8,
        stop_factor=None,
        probe=False,
        verbose=0,
    )


def in_snapshot(model):
    """A plain fit within a snapshot."""
    with snapshot(model):
        tiny.fit(model)


def decay():
    """A schedule that moves at every step."""
    return keras.optimizers.schedules.ExponentialDecay(0.02, 3, 0.5)


def standstill():
    """A schedule under which nothing moves."""
    return keras.optimizers.schedules.PolynomialDecay(0.0, 1, 0.0)


def with_schedule(fitted):
    """A model whose learning rate is a schedule's."""
    model = tiny.compiled(None, keras.optimizers.Adam(decay()))
    if fitted:
        tiny.fit(model, epochs=1)
    return model


def after(experiment, make, fit=tiny.fit):
    """What a fit leaves after `experiment`, from fixed seeds."""
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    model = make()
    experiment(model)
    history = fit(model)
    return history, tiny.state(model)


def assert_no_trace(experiment, make, fit=tiny.fit):
    """Asserts that the fit is what it is without the experiment."""
    history, state = after(lambda model: None, make, fit)
    history_after, state_after = after(experiment, make, fit)
    assert tiny.differences(state, state_after) == []
    assert history_after == history


FITTED = pytest.mark.parametrize(
    "fitted", [False, True], ids=["fresh", "fitted"]
)

# Replaced inside.


def other_schedule(model):
    """Trains with a schedule of learning rate 0."""
    with snapshot(model):
        model.optimizer.learning_rate = standstill()
        tiny.fit(model)


def other_schedule_recompiled(model):
    """Likewise, traced anew: the loss is another as well."""
    with snapshot(model):
        tiny.compiled(model, keras.optimizers.Adam(standstill()), metrics=[])
        tiny.fit(model)


def other_optimizer_attribute(model):
    """Another optimizer by plain assignment."""
    with snapshot(model):
        model.optimizer = keras.optimizers.SGD(0.5)
        model.train_function = None
        tiny.fit(model)


def other_batch_size(model):
    """Another schedule, traced for another shape."""
    with snapshot(model):
        model.optimizer.learning_rate = standstill()
        tiny.fit(model, batch_size=3)


@FITTED
@pytest.mark.parametrize(
    "experiment",
    [
        other_schedule,
        other_schedule_recompiled,
        other_optimizer_attribute,
        other_batch_size,
    ],
)
def test_next_fit_uses_the_original_schedule(experiment, fitted):
    """In what is compiled too, not only in what `optimizer` shows."""
    assert_no_trace(experiment, lambda: with_schedule(fitted))


@FITTED
def test_other_shapes_do_not_keep_the_inner_schedule(fitted):
    """A shape first met inside is not left with what was inside."""

    def fit(model):
        return tiny.fit(model, batch_size=3)

    assert_no_trace(other_batch_size, lambda: with_schedule(fitted), fit)


@FITTED
def test_model_moves_after_a_standstill_inside(fitted):
    """A schedule of LR 0 inside does not hold the model afterwards."""
    model = with_schedule(fitted)
    other_schedule(model)
    before = tiny.host(model.weights[0])
    tiny.fit(model)
    assert (tiny.host(model.weights[0]) != before).any()


@FITTED
def test_what_is_compiled_inside_is_what_trains_inside(fitted):
    """The function of before, which is kept, does not stand in for it."""
    model = with_schedule(fitted)
    before = tiny.host(model.weights[0])
    with snapshot(model):
        tiny.compiled(model, keras.optimizers.Adam(standstill()))
        tiny.fit(model)
        np.testing.assert_array_equal(tiny.host(model.weights[0]), before)


@FITTED
def test_everything_that_compile_sets_comes_back(fitted):
    """The very objects, and their settings."""
    model = with_schedule(fitted)
    names = ("optimizer", "loss", "jit_compile", "run_eagerly", "compiled")
    names += ("steps_per_execution", "train_function", "test_function")
    before = {name: getattr(model, name) for name in names}
    metrics, config = list(model.metrics), model.get_compile_config()
    with snapshot(model):
        model.compile(
            keras.optimizers.SGD(0.5),
            keras.losses.CategoricalCrossentropy(),
            metrics=["mae", "mse"],
            run_eagerly=True,
        )
    assert {name: getattr(model, name) for name in names} == before
    assert all(a is b for a, b in zip(model.metrics, metrics, strict=True))
    assert model.get_compile_config() == config


def test_uncompiled_model_leaves_uncompiled():
    """What was compiled inside is no more."""
    model = tiny.functional()
    with snapshot(model):
        tiny.compiled(model, "adam")
        tiny.fit(model)
    assert not model.compiled
    assert getattr(model, "optimizer", None) is None


def test_frozen_inside_is_not_frozen_afterwards():
    """`trainable` belongs to the model as it came."""
    model = tiny.compiled(tiny.functional(), "adam")
    with snapshot(model):
        model.layers[1].trainable = False
        tiny.compiled(model, "adam")
        tiny.fit(model)
    assert model.layers[1].trainable
    assert len(model.trainable_variables) == 6


# Unbuilt as it came.

OPTIMIZERS = {
    "Adam": lambda: keras.optimizers.Adam(0.01),
    "schedule": lambda: keras.optimizers.Adam(decay()),
    "ema": lambda: keras.optimizers.Adam(
        0.01, use_ema=True, gradient_accumulation_steps=2
    ),
    "loss-scale": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.Adam(0.01), initial_scale=4.0
    ),
}
WAYS = pytest.mark.parametrize("way", [find, in_snapshot])


@WAYS
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_unbuilt_optimizer_leaves_unbuilt(name, way):
    """Without slots, as one that has never trained."""
    model = tiny.compiled(None, OPTIMIZERS[name]())
    before = [id(v) for v in model.optimizer.variables]
    way(model)
    assert not model.optimizer.built
    assert [id(v) for v in model.optimizer.variables] == before


@WAYS
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_slots_have_the_paths_that_they_would_have(name, way):
    """So that a state saved without the test fits one with it."""

    def paths(before):
        keras.backend.clear_session(free_memory=False)
        model = tiny.compiled(None, OPTIMIZERS[name]())
        before(model)
        tiny.fit(model, epochs=1)
        return [v.path for v in model.optimizer.variables]

    assert paths(way) == paths(lambda model: None)


@pytest.mark.keras("3.4")
@WAYS
def test_state_tree_saved_without_a_test_goes_in_after_one(way):
    """No slot of a loss-scaling optimizer is skipped."""

    def trained(before):
        keras.backend.clear_session(free_memory=False)
        model = tiny.compiled(None, OPTIMIZERS["loss-scale"]())
        before(model)
        tiny.fit(model, epochs=1)
        return model

    saved = trained(lambda model: None)
    tree = saved.get_state_tree(value_format="numpy_array")
    numbers = [tiny.host(v) for v in saved.optimizer.variables]
    model = trained(way)
    for variable in model.optimizer.variables:
        variable.assign(np.zeros_like(tiny.host(variable)))
    model.set_state_tree(tree)
    for variable, number in zip(model.optimizer.variables, numbers):
        np.testing.assert_array_equal(tiny.host(variable), number)


def frozen():
    """A compiled model with a layer that does not train."""
    model = tiny.functional()
    model.layers[1].trainable = False
    return tiny.compiled(model, "adam")


def unfrozen_fit(model):
    """Fits all layers with the same optimizer object."""
    model.layers[1].trainable = True
    return tiny.fit(tiny.compiled(model, model.optimizer))


@WAYS
def test_layer_unfrozen_after_a_test_trains(way):
    """The optimizer has not been bound to the frozen model's weights."""
    assert_no_trace(way, frozen, unfrozen_fit)


@pytest.mark.backend("tensorflow")
@WAYS
def test_model_can_be_saved_by_tensorflow_afterwards(way, tmp_path):
    """TensorFlow's own notes of what an object holds are in order."""
    import tensorflow as tf

    model = with_schedule(False)
    way(model)
    tiny.fit(model, epochs=1)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer)
    checkpoint.save(str(tmp_path / "checkpoint"))
    tf.saved_model.save(model, str(tmp_path / "saved"))
    model.save(tmp_path / "model.keras")
