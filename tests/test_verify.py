"""`snapshot(model, verify=True)`: what did not come back is named."""

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder import snapshot


class Tally:
    """An object of the user's own, of which Keras knows nothing."""

    def __init__(self):
        self.batches = 0
        self.losses = []


class Tallies(keras.callbacks.Callback):
    """Counts batches in an object that the model holds."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.tally.batches += 1


class Lists(keras.callbacks.Callback):
    """Appends to a list inside such an object."""

    def on_train_batch_end(self, batch, logs=None):
        self.model.tally.losses.append(logs["loss"])


def tallying_model():
    """A compiled model that holds a `Tally`."""
    model = tiny.compiled(None, "adam")
    model.tally = Tally()
    return model


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("fitted", [False, True], ids=["fresh", "fitted"])
def test_nothing_is_said_where_all_came_back(optimizer, fitted):
    """An ordinary model passes the check."""
    model = tiny.compiled(None, optimizer)
    if fitted:
        tiny.fit(model, epochs=1)
    before = tiny.state(model)
    with snapshot(model, verify=True):
        tiny.fit(model)
    assert tiny.differences(before, tiny.state(model)) == []


@pytest.mark.parametrize(
    ("callback", "name"), [(Tallies, "batches"), (Lists, "losses")]
)
def test_what_differs_is_named(callback, name):
    """By the way that leads to it from the model."""
    model = tallying_model()
    with (
        pytest.raises(RuntimeError, match=rf"tally\.{name}"),
        snapshot(model, verify=True),
    ):
        tiny.fit(model, callbacks=[callback()])


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
        tiny.fit(model, validation_data=tiny.data())
    assert not [w for w in recwarn if "iterators" in str(w.message)]


def test_only_what_differs_is_named():
    """Neither the weights, which came back, nor what nobody touched."""
    model = tallying_model()
    with (
        pytest.raises(RuntimeError) as error,
        snapshot(model, verify=True),
    ):
        tiny.fit(model, callbacks=[Tallies()])
    assert "losses" not in str(error.value)
    assert "kernel" not in str(error.value)


def test_model_is_back_before_the_check_speaks():
    """What can be restored is, whatever cannot."""
    model = tallying_model()
    before = tiny.state(model)
    with pytest.raises(RuntimeError), snapshot(model, verify=True):
        tiny.fit(model, callbacks=[Tallies()])
    assert tiny.differences(before, tiny.state(model)) == []


def test_an_error_inside_is_not_hidden_by_the_check():
    """The user's own exception goes on to the caller."""
    model = tallying_model()
    callbacks = [Tallies(), tiny.Raises(3, KeyError("mine"))]
    with pytest.raises(KeyError, match="mine"), snapshot(model, verify=True):
        tiny.fit(model, callbacks=callbacks)


def test_without_verify_nothing_is_raised():
    """The check costs time and is asked for."""
    model = tallying_model()
    with snapshot(model):
        tiny.fit(model, callbacks=[Tallies()])


@pytest.mark.backend("torch")
def test_wrapped_module_passes_the_check():
    """Module state is looked at and has come back."""
    import torch

    module = torch.nn.BatchNorm1d(tiny.FEATURES)
    inputs = keras.Input((tiny.FEATURES,))
    layer = keras.layers.TorchModuleWrapper(
        module, output_shape=(None, tiny.FEATURES)
    )
    last = keras.layers.Dense(tiny.CLASSES, activation="softmax")
    model = tiny.compiled(keras.Model(inputs, last(layer(inputs))))
    before = module.running_mean.tolist()
    with snapshot(model, verify=True):
        tiny.fit(model)
    assert module.running_mean.tolist() == before


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
        tiny.fit(model)
    assert all(np.isnan(w).all() for w in model.get_weights())
