"""`snapshot`, and a model whose range test was cut off.

Whatever happens inside a snapshot, the model leaves as it came: the very
optimizer, schedule, loss and train function too. What the table of
`test_restore.py` has is not here again.
"""

import threading

import keras
import numpy as np
import pytest
import reference
import tiny
from tiny import fit

from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason
from keras_lrfinder import lr_find
from keras_lrfinder import snapshot

FITTED = pytest.mark.parametrize(
    "fitted", [False, True], ids=["fresh", "fitted"]
)


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
        fit(model, epochs=1)
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


# Replaced inside.


def other_schedule(model):
    """Trains with a schedule of learning rate 0."""
    with snapshot(model):
        model.optimizer.learning_rate = standstill()
        fit(model)


def other_schedule_recompiled(model):
    """Likewise, traced anew: the loss is another as well."""
    with snapshot(model):
        tiny.compiled(model, keras.optimizers.Adam(standstill()), metrics=[])
        fit(model)


def other_batch_size(model):
    """Another schedule, traced for another shape."""
    with snapshot(model):
        model.optimizer.learning_rate = standstill()
        fit(model, batch_size=3)


@FITTED
@pytest.mark.parametrize(
    "experiment",
    [
        other_schedule,
        other_schedule_recompiled,
        other_batch_size,
    ],
)
def test_next_fit_uses_the_original_schedule(experiment, fitted):
    """In what is compiled too, not only in what `optimizer` shows."""
    assert_no_trace(experiment, lambda: with_schedule(fitted))


@FITTED
def test_other_shapes_do_not_keep_the_inner_schedule(fitted):
    """A shape first met inside is not left with what was inside."""

    def threes(model):
        return fit(model, batch_size=3)

    assert_no_trace(other_batch_size, lambda: with_schedule(fitted), threes)


@FITTED
def test_what_is_compiled_inside_is_what_trains_inside(fitted):
    """The function of before, which is kept, does not stand in for it."""
    model = with_schedule(fitted)
    before = tiny.host(model.weights[0])
    with snapshot(model):
        tiny.compiled(model, keras.optimizers.Adam(standstill()))
        fit(model)
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


def everything(model):
    """All that must be the same, in one comparable value."""
    state = {name: v.tobytes() for name, v in tiny.state(model).items()}
    flags = ("stop_training", "stop_evaluating", "history")
    return (
        list(state.values()),
        {name: vars(model).get(name, "absent") for name in flags},
        model.optimizer._learning_rate,
    )


def assigns(model):
    """The weights overwritten."""
    model.set_weights([np.full_like(w, 7.0) for w in model.get_weights()])


def test_snapshots_can_be_nested():
    """Each comes back to its own beginning."""
    model = with_schedule(True)
    outer = everything(model)
    with snapshot(model):
        fit(model, epochs=1)
        inner = everything(model)
        with snapshot(model):
            fit(model, epochs=1)
        assert everything(model) == inner
    assert everything(model) == outer


@pytest.mark.parametrize("trained", [True, False])
def test_a_layer_frozen_inside_trains_again(trained):
    """The flag is the layer's and each of its variables'."""
    model = tiny.compiled(None, "adam")
    if trained:
        fit(model, epochs=1)
    with snapshot(model, verify=True):
        model.layers[1].trainable = False
        tiny.compiled(model, "adam")
        fit(model, epochs=1)

    before = tiny.host(model.layers[1].kernel)
    fit(model, epochs=1)

    assert model.layers[1].kernel.trainable
    assert (tiny.host(model.layers[1].kernel) != before).any()


def test_uncompiled_model_is_fine():
    """A model without an optimizer has weights to come back to as well."""
    model = tiny.functional()
    before = [w.tobytes() for w in model.get_weights()]
    with snapshot(model):
        assigns(model)
    assert [w.tobytes() for w in model.get_weights()] == before


@pytest.mark.parametrize("model", [None, "model", keras.layers.Dense(1)])
def test_what_is_no_model_is_refused(model):
    """Before the body runs."""
    with pytest.raises(TypeError, match=r"keras\.Model"), snapshot(model):
        pytest.fail("the body must not run")


@pytest.mark.backend("torch")
def test_training_mode_comes_back():
    """A PyTorch module remembers whether it trains or evaluates."""
    model = with_schedule(True)
    model.eval()
    with snapshot(model):
        fit(model, epochs=1)
        model.train()
    assert not model.training


def test_optimizers_of_a_loop_leave_as_they_came():
    """Slots, count and learning rate of what the model does not hold."""
    model = tiny.small()
    fresh, trained = keras.optimizers.Adam(), keras.optimizers.SGD(decay())
    weights = model.trainable_variables
    trained.build(weights)
    gradients = [keras.ops.ones(w.shape) for w in weights]
    trained.apply(gradients, weights)
    before = [tiny.host(v) for v in [*model.variables, *trained.variables]]
    with snapshot(model, fresh, trained, verify=True):
        trained.learning_rate = standstill()
        for optimizer in (fresh, trained):
            optimizer.apply(gradients, weights)
    after = [tiny.host(v) for v in [*model.variables, *trained.variables]]
    assert all((a == b).all() for a, b in zip(before, after, strict=True))
    assert not fresh.built
    assert trained._learning_rate.decay_rate == 0.5


def test_what_is_no_optimizer_is_refused():
    """Before the body runs."""
    with (
        pytest.raises(TypeError, match="optimizers"),
        snapshot(tiny.small(), "adam"),
    ):
        pytest.fail("the body must not run")


# `verify`: what did not come back is named.


class Tally:
    """An object of the user's own, of which Keras knows nothing."""

    def __init__(self):
        self.batches = 0
        self.losses = []


class Tallies(keras.callbacks.Callback):
    """Counts batches in an object that the model holds."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.tally.batches += 1


def tallying_model():
    """A compiled model that holds a `Tally`."""
    model = tiny.compiled(None, "adam")
    model.tally = Tally()
    return model


@pytest.mark.parametrize(("callback", "name"), [(Tallies, "batches")])
def test_what_differs_is_named(callback, name):
    """By the way that leads to it from the model."""
    model = tallying_model()
    with (
        pytest.raises(RuntimeError, match=rf"tally\.{name}"),
        snapshot(model, verify=True),
    ):
        fit(model, callbacks=[callback()])


@pytest.mark.parametrize(
    "stream", [iter([1, 2]), (i for i in range(3)), zip([1], [2])]
)
def test_an_iterator_of_the_models_is_named_before(stream):
    """What is drawn from it is gone, so it is said at the beginning."""
    model = tiny.compiled()
    model.stream = stream
    with (
        pytest.warns(UserWarning, match=r"\.stream") as said,
        snapshot(model, verify=True),
    ):
        assert [w for w in said if "iterators" in str(w.message)]


def test_an_ordinary_model_is_not_warned_of(recwarn):
    """Neither fresh nor with what a fit has left in it."""
    model = tiny.compiled()
    for _ in range(2):
        with snapshot(model):
            x, y = tiny.data()
            model.fit(x, y, validation_data=(x, y), verbose=0)
        fit(model, validation_data=tiny.data())
    assert not [w for w in recwarn if "iterators" in str(w.message)]


def test_an_error_inside_is_not_hidden_by_the_check():
    """The user's own exception goes on to the caller."""
    model = tallying_model()
    callbacks = [Tallies(), tiny.Raises(3, KeyError("mine"))]
    with pytest.raises(KeyError, match="mine"), snapshot(model, verify=True):
        fit(model, callbacks=callbacks)


@pytest.mark.parametrize("verify", [None, "yes"])
def test_verify_is_a_flag(verify):
    """Anything else is refused before the body runs."""
    model = tiny.compiled()
    with (
        pytest.raises(TypeError, match="verify"),
        snapshot(model, verify=verify),
    ):
        pytest.fail("the body must not run")


def test_weights_pass_bit_for_bit():
    """A NaN is no difference to itself."""
    model = tiny.compiled()
    weights = [np.full_like(w, np.nan) for w in model.get_weights()]
    model.set_weights(weights)
    with snapshot(model, verify=True):
        fit(model)
    assert all(np.isnan(w).all() for w in model.get_weights())


# Cut off by an exception or Ctrl-C.


def reference_fit(model, callbacks, **kwargs):
    x, y = reference.data()
    kwargs = {"batch_size": 8, "epochs": 3, "verbose": 0, **kwargs}
    return model.fit(x, y, callbacks=callbacks, **kwargs)


@pytest.fixture(params=[KeyboardInterrupt(), RuntimeError("on purpose")])
def interrupted(request):
    """A finder and its model, whose test ended in an exception."""
    model = reference.model()
    before = model.get_weights()
    finder = LRFinder(**reference.RAMP)
    raises = tiny.Raises(at=10, error=request.param)
    with pytest.raises(type(request.param)):
        reference_fit(model, [finder, raises])
    assert any((a != b).any() for a, b in zip(model.get_weights(), before))
    return finder, model, before


class Start(keras.callbacks.Callback):
    """Notes the weights that a fit begins with."""

    def on_train_begin(self, logs=None):
        self.weights = self.model.get_weights()


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_next_fit_starts_from_the_weights_before(interrupted):
    """And says so; the curve stays readable."""
    finder, model, before = interrupted
    start = Start()
    with pytest.warns(UserWarning, match="interrupted"):
        reference_fit(model, [start])
    assert_same(start.weights, before)
    assert finder.curve.stop_reason is StopReason.INTERRUPTED
    assert len(finder.curve) > 0


USES = {
    "evaluate": lambda m, x, y: m.evaluate(x, y, verbose=0),
    "predict": lambda m, x, y: m.predict(x, verbose=0),
    "lr_find": lambda m, x, y: lr_find(m, x, y, steps=9, verbose=0),
}


@pytest.mark.parametrize("use", USES)
def test_other_uses_put_it_back_as_well(interrupted, use):
    """What is said of the model is of the one that the user has."""
    _, model, before = interrupted
    with pytest.warns(UserWarning, match="interrupted"):
        USES[use](model, *reference.data())
    assert_same(model.get_weights(), before)


def test_snapshot_is_of_the_weights_before(interrupted):
    """Not of the swept ones."""
    _, model, before = interrupted
    with pytest.warns(UserWarning, match="interrupted"), snapshot(model):
        reference_fit(model, [])
    assert_same(model.get_weights(), before)


def test_restore_by_hand_says_nothing(interrupted, recwarn):
    """Who has done it needs no warning; until then, the finder says it."""
    finder, model, before = interrupted
    assert "not put back yet" in str(finder)
    finder.restore()
    assert "not put back yet" not in str(finder)
    assert_same(model.get_weights(), before)
    reference_fit(model, [])
    assert not [w for w in recwarn if "interrupted" in str(w.message)]


@pytest.mark.parametrize("restore", [True, False])
def test_nothing_stays_on_the_model_after_a_test(restore):
    """Its methods are those of its class again."""
    model = reference.model()
    finder = LRFinder(**reference.RAMP, restore=restore)
    reference_fit(model, [finder])
    assert not {"fit", "evaluate", "save"} & set(vars(model))


def test_a_validation_within_the_fit_is_no_interruption(recwarn):
    """Keras calls `evaluate` from within the fit of a test, too."""
    model = reference.model()
    finder = LRFinder(**reference.RAMP)
    reference_fit(model, [finder], validation_data=reference.data())
    assert finder.curve.stop_reason is not StopReason.INTERRUPTED
    assert not [w for w in recwarn if "interrupted" in str(w.message)]


def test_what_is_compiled_after_it_stays(interrupted):
    """The model is put back before it is compiled, not by the next fit."""
    _, model, before = interrupted
    optimizer = keras.optimizers.Adam(0.001)
    with pytest.warns(UserWarning, match="interrupted"):
        model.compile(optimizer, "mse")
    start = Start()
    reference_fit(model, [start])
    assert model.optimizer is optimizer
    assert_same(start.weights, before)


def test_weights_that_are_set_after_it_stay(interrupted):
    """The next fit starts from what the user has put in."""
    _, model, before = interrupted
    weights = [np.ones_like(w) for w in before]
    with pytest.warns(UserWarning, match="interrupted"):
        model.set_weights(weights)
    start = Start()
    reference_fit(model, [start])
    assert_same(start.weights, weights)


class Beside(keras.callbacks.Callback):
    """Predicts in another thread, once, while the fit runs."""

    def on_train_batch_end(self, batch, logs=None):
        if batch != 3:
            return
        x, _ = reference.data()
        model = self.model
        thread = threading.Thread(target=lambda: model.predict(x, verbose=0))
        thread.start()
        thread.join()


def test_another_thread_beside_the_fit_is_no_interruption(recwarn):
    """Its stack does not show the fit, which goes on all the same."""
    finder = LRFinder(**reference.RAMP)
    reference_fit(reference.model(), [finder, Beside()])
    assert len(finder.curve) == reference.RAMP["steps"]
    assert not [w for w in recwarn if "interrupted" in str(w.message)]


def test_hooks_called_by_hand_are_no_interruption(recwarn):
    """In a loop of the user's own there is no fit to be cut off."""
    model = reference.model()
    x, y = reference.data()
    finder = LRFinder(**reference.RAMP)
    finder.set_model(model)
    finder.set_params({"steps": reference.RAMP["steps"], "epochs": 1})
    finder.on_train_begin()
    for step in range(reference.RAMP["steps"]):
        finder.on_train_batch_begin(step)
        logs = model.train_on_batch(x[:8], y[:8], return_dict=True)
        finder.on_train_batch_end(step, logs)
    finder.on_train_end()
    assert len(finder.curve) == reference.RAMP["steps"]
    assert not [w for w in recwarn if "interrupted" in str(w.message)]
