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
from tiny import decay
from tiny import fit

from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason
from keras_lrfinder import lr_find
from keras_lrfinder import snapshot

FITTED = pytest.mark.parametrize(
    "fitted", [False, True], ids=["fresh", "fitted"]
)


def standstill():
    """A schedule under which nothing moves."""
    return keras.optimizers.schedules.PolynomialDecay(0.0, 1, 0.0)


def with_schedule(fitted):
    """A model whose learning rate is a schedule's."""
    model = tiny.compiled(None, keras.optimizers.Adam(decay()))
    if fitted:
        fit(model, epochs=1)
    return model


# Replaced inside.


def other_schedule(model):
    """Trains with a schedule of learning rate 0."""
    model.optimizer.learning_rate = standstill()
    fit(model)


def other_schedule_recompiled(model):
    """Likewise, traced anew, and what is compiled inside trains inside."""
    before = tiny.host(model.weights[0])
    tiny.compiled(model, keras.optimizers.Adam(standstill()), metrics=[])
    fit(model)
    np.testing.assert_array_equal(tiny.host(model.weights[0]), before)


def other_batch_size(model):
    """Another schedule, traced for another shape."""
    model.optimizer.learning_rate = standstill()
    fit(model, batch_size=3)


@FITTED
@pytest.mark.parametrize(
    ("experiment", "batch_size"),
    [
        (other_schedule, 4),
        (other_schedule_recompiled, 4),
        (other_batch_size, 4),
        # A shape first met inside is not left with what was inside.
        (other_batch_size, 3),
    ],
)
def test_next_fit_uses_the_original_schedule(experiment, batch_size, fitted):
    """In what is compiled too, not only in what `optimizer` shows."""

    def after(experiment):
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        model = with_schedule(fitted)
        with snapshot(model):
            experiment(model)
        return fit(model, batch_size=batch_size), tiny.state(model)

    history, plain = after(lambda model: None)
    history_after, state = after(experiment)
    assert tiny.differences(plain, state) == []
    assert history_after == history


@FITTED
def test_everything_that_compile_sets_comes_back(fitted):
    """The very objects and their settings; what was frozen trains again."""
    model = with_schedule(fitted)
    before, function = tiny.contents(model), model.train_function
    with snapshot(model, verify=True):
        model.layers[1].trainable = False
        model.compile(
            keras.optimizers.SGD(0.5),
            keras.losses.SparseCategoricalCrossentropy(),
            metrics=["accuracy"],
            run_eagerly=True,
        )
        fit(model, 1)
        assert tiny.changed(before, tiny.contents(model))
    assert tiny.changed(before, tiny.contents(model)) == []
    assert model.train_function is function


def test_snapshots_can_be_nested():
    """Each comes back to its own beginning."""
    model = with_schedule(True)
    outer = tiny.contents(model)
    with snapshot(model):
        fit(model, epochs=1)
        inner = tiny.contents(model)
        with snapshot(model):
            fit(model, epochs=1)
        assert tiny.changed(inner, tiny.contents(model)) == []
    assert tiny.changed(outer, tiny.contents(model)) == []


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
    """Slots, count and learning rate; the model need not be compiled."""
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


@pytest.mark.parametrize(
    ("arguments", "verify", "words"),
    [
        ([None], False, r"keras\.Model"),
        (["model"], False, r"keras\.Model"),
        ([keras.layers.Dense(1)], False, r"keras\.Model"),
        ([keras.Model(), "adam"], False, "optimizers"),
        ([keras.Model()], None, "verify"),
        ([keras.Model()], "yes", "verify"),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused(arguments, verify, words):
    """Before the body runs."""
    with (
        pytest.raises(TypeError, match=words),
        snapshot(*arguments, verify=verify),
    ):
        pytest.fail("the body must not run")


# `verify`: what did not come back is named.


class Tally:
    """An object of the user's own, of which Keras knows nothing."""

    batches = 0


class Tallies(keras.callbacks.Callback):
    """Counts batches in an object that the model holds."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.tally.batches += 1


@pytest.mark.parametrize(
    ("killed", "error", "words"),
    [
        ([], RuntimeError, r"tally\.batches"),
        # The user's own exception goes on to the caller.
        ([tiny.Raises(3, KeyError("mine"))], KeyError, "mine"),
    ],
    ids=["", "killed"],
)
def test_what_differs_is_named(killed, error, words):
    """By the way that leads to it from the model."""
    model = tiny.compiled(None, "adam")
    model.tally = Tally()
    with pytest.raises(error, match=words), snapshot(model, verify=True):
        fit(model, callbacks=[Tallies(), *killed])


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
            fit(model, 1, validation_data=tiny.data())
        fit(model, 1, validation_data=tiny.data())
    assert not [w for w in recwarn if "iterators" in str(w.message)]


def test_weights_pass_bit_for_bit():
    """A NaN is no difference to itself."""
    model = tiny.compiled()
    weights = [np.full_like(w, np.nan) for w in model.get_weights()]
    model.set_weights(weights)
    with snapshot(model, verify=True):
        fit(model, 1)
    assert all(np.isnan(w).all() for w in model.get_weights())


# Cut off by an exception or Ctrl-C.


def reference_fit(model, callbacks=(), **kwargs):
    x, y = reference.data()
    kwargs = {"batch_size": 8, "epochs": 3, "verbose": 0, **kwargs}
    return model.fit(x, y, callbacks=list(callbacks), **kwargs)


@pytest.fixture(params=[KeyboardInterrupt(), RuntimeError("on purpose")])
def interrupted(request):
    """A finder and its model, whose test ended in an exception."""
    model = reference.model()
    before = model.get_weights()
    finder = LRFinder(**reference.RAMP)
    with pytest.raises(type(request.param)):
        reference_fit(model, [finder, tiny.Raises(10, request.param)])
    assert any((a != b).any() for a, b in zip(model.get_weights(), before))
    return finder, model, before


class Start(keras.callbacks.Callback):
    """Notes the weights that a fit begins with."""

    def on_train_begin(self, logs=None):
        self.weights = self.model.get_weights()


def first_weights(model):
    """Fits the model, and returns what it began with."""
    start = Start()
    reference_fit(model, [start])
    return start.weights


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def copy(model):
    """Trains in a snapshot."""
    with snapshot(model):
        reference_fit(model)


# Each leaves the model as it finds it.
USES = {
    "evaluate": lambda m: m.evaluate(*reference.data(), verbose=0),
    "predict": lambda m: m.predict(reference.data()[0], verbose=0),
    "lr_find": lambda m: lr_find(m, *reference.data(), steps=9, verbose=0),
    "snapshot": copy,
}


@pytest.mark.parametrize("use", ["fit", *USES])
def test_next_use_puts_it_back(interrupted, use):
    """And says so; the curve stays readable."""
    finder, model, before = interrupted
    with pytest.warns(UserWarning, match="interrupted"):
        found = USES.get(use, first_weights)(model)
    assert_same(found if use == "fit" else model.get_weights(), before)
    assert finder.curve.stop_reason is StopReason.INTERRUPTED
    assert len(finder.curve) > 0


def test_what_is_compiled_after_it_stays(interrupted):
    """The model is put back before it is compiled, not by the next fit."""
    _, model, before = interrupted
    optimizer = keras.optimizers.Adam(0.001)
    with pytest.warns(UserWarning, match="interrupted"):
        model.compile(optimizer, "mse")
    assert_same(first_weights(model), before)
    assert model.optimizer is optimizer


def test_weights_that_are_set_after_it_stay(interrupted):
    """The next fit starts from what the user has put in."""
    _, model, before = interrupted
    weights = [np.ones_like(w) for w in before]
    with pytest.warns(UserWarning, match="interrupted"):
        model.set_weights(weights)
    assert_same(first_weights(model), weights)


def test_restore_by_hand_says_nothing(interrupted, recwarn):
    """Who has done it needs no warning; until then, the finder says it."""
    finder, model, before = interrupted
    assert "not put back yet" in str(finder)
    finder.restore()
    assert "not put back yet" not in str(finder)
    assert_same(model.get_weights(), before)
    reference_fit(model)
    assert not [w for w in recwarn if "interrupted" in str(w.message)]


class Beside(keras.callbacks.Callback):
    """Predicts in another thread, once, while the fit runs."""

    def on_train_batch_end(self, batch, logs=None):
        if batch == 3:
            thread = threading.Thread(
                target=USES["predict"], args=(self.model,)
            )
            thread.start()
            thread.join()


@pytest.mark.parametrize(
    ("callbacks", "kwargs"),
    [
        # Keras calls `evaluate` from within the fit of a test, too.
        ([], {"validation_data": reference.data()}),
        # The stack of another thread does not show the fit.
        ([Beside()], {}),
    ],
    ids=["validation", "thread"],
)
@pytest.mark.parametrize("restore", [True, False])
def test_a_fit_that_goes_on_is_no_interruption(
    callbacks, kwargs, restore, recwarn
):
    """Nothing is said, and afterwards nothing stays on the model."""
    model = reference.model()
    finder = LRFinder(**reference.RAMP, restore=restore)
    reference_fit(model, [finder, *callbacks], **kwargs)
    assert len(finder.curve) == reference.STEPS
    assert not [w for w in recwarn if "interrupted" in str(w.message)]
    assert not {"fit", "evaluate", "save"} & set(vars(model))


def test_hooks_called_by_hand_are_no_interruption(recwarn):
    """In a loop of the user's own there is no fit to be cut off."""
    model = reference.model()
    x, y = reference.data()
    finder = LRFinder(**reference.RAMP)
    finder.set_model(model)
    finder.set_params({"steps": reference.STEPS, "epochs": 1})
    finder.on_train_begin()
    for step in range(reference.STEPS):
        finder.on_train_batch_begin(step)
        logs = model.train_on_batch(x[:8], y[:8], return_dict=True)
        finder.on_train_batch_end(step, logs)
    finder.on_train_end()
    assert len(finder.curve) == reference.STEPS
    assert not [w for w in recwarn if "interrupted" in str(w.message)]
