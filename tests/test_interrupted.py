"""A model whose range test was interrupted is not used as it was left."""

import threading

import keras
import numpy as np
import pytest
import reference
import tiny

from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason
from keras_lrfinder import lr_find
from keras_lrfinder import snapshot


def fit(model, callbacks, **kwargs):
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
        fit(model, [finder, raises])
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
        fit(model, [start])
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
        fit(model, [])
    assert_same(model.get_weights(), before)


def test_saved_file_has_the_weights_before(interrupted, tmp_path):
    """A file of swept weights would be taken for the model."""
    _, model, before = interrupted
    with pytest.warns(UserWarning, match="interrupted"):
        model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(loaded.get_weights(), before)


def test_restore_by_hand_says_nothing(interrupted, recwarn):
    """Who has done it needs no warning."""
    finder, model, before = interrupted
    finder.restore()
    assert_same(model.get_weights(), before)
    fit(model, [])
    assert not [w for w in recwarn if "interrupted" in str(w.message)]


@pytest.mark.parametrize("restore", [True, False])
def test_nothing_stays_on_the_model_after_a_test(restore):
    """Its methods are those of its class again."""
    model = reference.model()
    finder = LRFinder(**reference.RAMP, restore=restore)
    fit(model, [finder])
    assert not {"fit", "evaluate", "save"} & set(vars(model))


def test_a_validation_within_the_fit_is_no_interruption(recwarn):
    """Keras calls `evaluate` from within the fit of a test, too."""
    model = reference.model()
    finder = LRFinder(**reference.RAMP)
    fit(model, [finder], validation_data=reference.data())
    assert finder.curve.stop_reason is not StopReason.INTERRUPTED
    assert not [w for w in recwarn if "interrupted" in str(w.message)]


def test_what_is_compiled_after_it_stays(interrupted):
    """The model is put back before it is compiled, not by the next fit."""
    _, model, before = interrupted
    optimizer = keras.optimizers.Adam(0.001)
    with pytest.warns(UserWarning, match="interrupted"):
        model.compile(optimizer, "mse")
    start = Start()
    fit(model, [start])
    assert model.optimizer is optimizer
    assert_same(start.weights, before)


def test_weights_that_are_set_after_it_stay(interrupted):
    """The next fit starts from what the user has put in."""
    _, model, before = interrupted
    weights = [np.ones_like(w) for w in before]
    with pytest.warns(UserWarning, match="interrupted"):
        model.set_weights(weights)
    start = Start()
    fit(model, [start])
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
    fit(reference.model(), [finder, Beside()])
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
