"""`snapshot`: whatever happens inside, the model leaves as it came in."""

import gc

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder import snapshot
from keras_lrfinder.training.snapshot import Snapshot


def model_with_schedule():
    """A trained model whose learning rate is a schedule's."""
    schedule = keras.optimizers.schedules.ExponentialDecay(0.02, 3, 0.5)
    model = tiny.compiled(None, keras.optimizers.Adam(schedule))
    tiny.fit(model, epochs=1)
    return model


def everything(model):
    """All that must be the same, in one comparable value."""
    state = {name: v.tobytes() for name, v in tiny.state(model).items()}
    flags = ("stop_training", "stop_evaluating", "history")
    return (
        list(state.values()),
        {name: vars(model).get(name, "absent") for name in flags},
        model.optimizer._learning_rate,
    )


def trains(model):
    """Two epochs of training."""
    tiny.fit(model)


def trains_otherwise(model):
    """Training with another learning rate, and everything reset by hand."""
    constant = keras.optimizers.schedules.PolynomialDecay(3.0, 1, 3.0)
    model.optimizer.learning_rate = constant
    tiny.fit(model, epochs=1)
    model.stop_training = True
    model.reset_metrics()


def assigns(model):
    """The weights overwritten."""
    model.set_weights([np.full_like(w, 7.0) for w in model.get_weights()])


@pytest.mark.parametrize("experiment", [trains, trains_otherwise, assigns])
def test_model_leaves_as_it_came_in(experiment):
    """Bit for bit, with the very schedule object."""
    model = model_with_schedule()
    before = everything(model)
    with snapshot(model):
        experiment(model)
        assert everything(model)[0] != before[0]
    assert everything(model) == before


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_model_comes_back_after_an_exception(error):
    """The exception goes on to the caller, the model is back."""
    model = model_with_schedule()
    before = everything(model)

    def experiment():
        with snapshot(model):
            tiny.fit(model, epochs=1, callbacks=[tiny.Raises(3, error())])

    with pytest.raises(error):
        experiment()
    assert everything(model) == before


def test_fit_afterwards_is_as_if_nothing_had_been():
    """The next fit draws the same numbers and learns the same weights."""

    def run(experiment):
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        model = model_with_schedule()
        experiment(model)
        return tiny.fit(model), tiny.state(model)

    def experiment(model):
        with snapshot(model):
            tiny.fit(model)

    history, state = run(lambda model: None)
    history_after, state_after = run(experiment)
    assert tiny.differences(state, state_after) == []
    assert history_after == history


def test_snapshots_can_be_nested():
    """Each comes back to its own beginning."""
    model = model_with_schedule()
    outer = everything(model)
    with snapshot(model):
        tiny.fit(model, epochs=1)
        inner = everything(model)
        with snapshot(model):
            tiny.fit(model, epochs=1)
        assert everything(model) == inner
    assert everything(model) == outer


def test_what_is_compiled_inside_trains_with_its_own_schedule():
    """And what was compiled before with its own again, afterwards."""
    decay = keras.optimizers.schedules.ExponentialDecay
    model = tiny.unit_gradient_model(keras.optimizers.SGD(decay(0.5, 9, 1.0)))
    x, y = tiny.ones(4)

    def moved():
        before = tiny.host(model.weights[0])
        model.fit(x, y, verbose=0)
        return float((before - tiny.host(model.weights[0])).item())

    assert moved() == pytest.approx(0.5)
    optimizer = model.optimizer
    with snapshot(model):
        inner = keras.optimizers.SGD(decay(8.0, 9, 1.0))
        model.compile(inner, model.loss)
        assert moved() == pytest.approx(8.0)

    assert model.optimizer is optimizer
    assert moved() == pytest.approx(0.5)


def test_a_schedule_set_inside_is_gone_afterwards():
    """Also from the training step, which has it compiled in."""
    decay = keras.optimizers.schedules.ExponentialDecay
    model = tiny.unit_gradient_model(keras.optimizers.SGD(decay(0.5, 9, 1.0)))
    x, y = tiny.ones(4)
    with snapshot(model):
        model.optimizer.learning_rate = decay(0.0, 9, 1.0)
        model.fit(x, y, verbose=0)

    before = tiny.host(model.weights[0])
    model.fit(x, y, verbose=0)

    moved = float((before - tiny.host(model.weights[0])).item())
    assert moved == pytest.approx(0.5)


@pytest.mark.parametrize("trained", [True, False])
def test_a_layer_frozen_inside_trains_again(trained):
    """The flag is the layer's and each of its variables'."""
    model = tiny.compiled(None, "adam")
    if trained:
        tiny.fit(model, epochs=1)
    with snapshot(model, verify=True):
        model.layers[1].trainable = False
        tiny.compiled(model, "adam")
        tiny.fit(model, epochs=1)

    before = tiny.host(model.layers[1].kernel)
    tiny.fit(model, epochs=1)

    assert model.layers[1].kernel.trainable
    assert (tiny.host(model.layers[1].kernel) != before).any()


def test_state_can_be_restored_again_and_again():
    """The copy is not used up: training after it does not write into it."""
    model = model_with_schedule()
    before, state = everything(model)[0], Snapshot(model)
    for _ in range(3):
        tiny.fit(model, epochs=1)
        state.restore()
        assert everything(model)[0] == before


def test_uncompiled_model_is_fine():
    """A model without an optimizer has weights to come back to as well."""
    model = tiny.functional()
    before = [w.tobytes() for w in model.get_weights()]
    with snapshot(model):
        assigns(model)
    assert [w.tobytes() for w in model.get_weights()] == before


def test_unfitted_model_stays_unfitted():
    """No attribute appears that a virgin model has not."""
    model = tiny.compiled()
    assert "history" not in vars(model)
    with snapshot(model):
        tiny.fit(model, epochs=1)
    assert "history" not in vars(model)


def test_optimizer_built_inside_is_as_new():
    """It is unbuilt again, and so is what `compile` had made."""
    model = tiny.compiled(None, "adam")
    variables = len(model.optimizer.variables)
    with snapshot(model):
        tiny.fit(model, epochs=1)
        assert model.optimizer.built
    assert not model.optimizer.built
    assert len(model.optimizer.variables) == variables


@pytest.mark.parametrize("kind", ["deferred-sequential", "deferred-subclass"])
def test_unbuilt_model_is_unbuilt_again(kind):
    """And gets the first weights that it would have had."""

    def run(experiment):
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        model = tiny.compiled(tiny.MODELS[kind]())
        experiment(model)
        return tiny.fit(model), tiny.state(model)

    def experiment(model):
        with snapshot(model, verify=True):
            tiny.fit(model)
        assert not model.weights

    history, state = run(lambda model: None)
    history_after, state_after = run(experiment)
    assert tiny.differences(state, state_after) == []
    assert history_after == history


@pytest.mark.parametrize("model", [None, "model", keras.layers.Dense(1)])
def test_what_is_no_model_is_refused(model):
    """Before the body runs."""
    with pytest.raises(TypeError, match=r"keras\.Model"), snapshot(model):
        pytest.fail("the body must not run")


def test_no_copy_remains():
    """The copy is freed at the end, also after an exception."""
    model = model_with_schedule()

    def experiment():
        with snapshot(model):
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        experiment()
    with snapshot(model):
        tiny.fit(model, epochs=1)
    gc.collect()
    assert [o for o in gc.get_objects() if type(o) is Snapshot] == []


@pytest.mark.backend("torch")
def test_training_mode_comes_back():
    """A PyTorch module remembers whether it trains or evaluates."""
    model = model_with_schedule()
    model.eval()
    with snapshot(model):
        tiny.fit(model, epochs=1)
        model.train()
    assert not model.training
