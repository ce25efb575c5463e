"""A learning rate into a compiled model, in real fits."""

import keras
import numpy as np
import pytest

from keras_lrfinder import lr_find
from keras_lrfinder.training.learning_rate import apply_learning_rate

ROWS = 8


def mean_output(y, output):
    return keras.ops.mean(output, axis=-1)


def slope_model(learning_rate):
    """A model whose gradient is 1, so that a step moves it by the LR."""
    inputs = keras.Input((1,))
    outputs = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")(
        inputs
    )
    model = keras.Model(inputs, outputs)
    model.compile(
        keras.optimizers.SGD(learning_rate),
        loss=mean_output,
    )
    return model


def step(model):
    """Returns by how much one step of `fit` moves the weight."""
    before = model.get_weights()[0][0, 0]
    x = np.ones((ROWS, 1), "float32")
    model.fit(x, x, batch_size=ROWS, verbose=0)
    return before - model.get_weights()[0][0, 0]


def halving():
    return keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)


def always_half():
    return 0.5


HELD = {
    "number": lambda: 0.5,
    "schedule": halving,
    "function": lambda: always_half,
}


@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
@pytest.mark.parametrize("held", HELD)
def test_next_fit_trains_with_it(held, trained):
    """Whatever was held, traced or not, the next step has the new LR."""
    model = slope_model(HELD[held]())
    if trained:
        step(model)

    apply_learning_rate(model, [model.optimizer], 0.125)

    steps = [step(model), step(model)]
    assert steps == [0.125, 0.125]


@pytest.mark.parametrize("held", ["number", "schedule"])
def test_model_is_saved_and_loaded_with_it(held, tmp_path):
    """A `.keras` file keeps the new learning rate and the step count."""
    model = slope_model(HELD[held]())
    step(model)
    apply_learning_rate(model, [model.optimizer], 0.125)
    model.save(tmp_path / "model.keras")

    loaded = keras.saving.load_model(
        tmp_path / "model.keras",
        custom_objects={"mean_output": mean_output},
    )

    assert step(loaded) == 0.125
    assert int(keras.ops.convert_to_numpy(loaded.optimizer.iterations)) == 2


@pytest.mark.backend("tensorflow")
def test_checkpoint_and_export_work_after_it(tmp_path):
    """TensorFlow can still checkpoint and export the model."""
    import tensorflow as tf

    model = slope_model(halving())
    step(model)

    apply_learning_rate(model, [model.optimizer], 0.125)

    tf.train.Checkpoint(model=model, optimizer=model.optimizer).save(
        str(tmp_path / "checkpoint")
    )
    model.export(str(tmp_path / "exported"))


def test_it_says_what_it_replaced():
    """The sentence names the schedule that is gone."""
    model = slope_model(halving())

    said = apply_learning_rate(model, [model.optimizer], 0.125)

    assert said == (
        "learning rate set to 0.125, constant, in place of ExponentialDecay"
    )


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_rates_are_refused(lr):
    """A learning rate that is not positive and finite changes nothing."""
    model = slope_model(0.5)

    with pytest.raises(ValueError, match="positive and finite"):
        apply_learning_rate(model, [model.optimizer], lr)

    assert step(model) == 0.5


def test_loss_scaling_passes_it_on():
    """An optimizer that scales the loss hands it to its inner one."""
    model = slope_model(0.5)
    inner = keras.optimizers.SGD(halving())
    scaled = keras.optimizers.LossScaleOptimizer(inner, initial_scale=1.0)
    model.compile(scaled, loss=mean_output)

    apply_learning_rate(model, [model.optimizer], 0.125)

    assert step(model) == 0.125


def line_model(learning_rate):
    """A model that a range test can find a learning rate for, and data."""
    keras.utils.set_random_seed(1)
    x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
    y = x @ np.array([[1.0], [-2.0], [0.5], [0.0]], "float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    return model, x, y


def rate(model):
    """Returns the learning rate that the next step would use."""
    return float(
        keras.ops.convert_to_numpy(
            keras.ops.convert_to_tensor(model.optimizer.learning_rate)
        )
    )


@pytest.mark.parametrize("held", ["number", "schedule"])
def test_finder_applies_its_suggestion(held, capsys):
    """`apply` sets what was suggested, says so, and returns it."""
    model, x, y = line_model(HELD[held]())
    finder = lr_find(model, x, y, batch_size=8, steps=60)

    lr = finder.apply()

    assert lr == finder.suggestion.lr
    assert rate(model) == pytest.approx(lr, rel=1e-6)
    assert f"learning rate set to {lr:.3g}" in capsys.readouterr().out


def test_finder_applies_to_the_optimizer_of_another_model():
    """Given a model, `apply` leaves the tested one alone."""
    model, x, y = line_model(0.5)
    other, _, _ = line_model(0.5)
    finder = lr_find(model, x, y, batch_size=8, steps=60, verbose=0)

    lr = finder.apply(other)

    assert (rate(model), rate(other)) == (0.5, pytest.approx(lr, rel=1e-6))


def test_finder_applies_to_models_only():
    """Not to the name of one."""
    model, x, y = line_model(0.5)
    finder = lr_find(model, x, y, batch_size=8, steps=60, verbose=0)
    with pytest.raises(TypeError, match="`model` must be a keras"):
        finder.apply("model")


def test_finder_without_a_suggestion_applies_nothing():
    """`apply` raises the reason, and the learning rate stays."""
    model, x, y = line_model(0.5)
    finder = lr_find(model, x, y, batch_size=8, steps=4, verbose=0, probe=False)
    assert finder.suggestion.lr is None

    with pytest.raises(ValueError, match="no learning rate"):
        finder.apply()

    assert rate(model) == 0.5
