"""The train function has one owner at a time, and comes back."""

import gc
import weakref

import keras
import pytest
import tiny

from keras_lrfinder import LRFinder
from keras_lrfinder import OneCycle
from keras_lrfinder import OneCycleMomentum
from keras_lrfinder import lr_find
from keras_lrfinder.training.train_function import TrainFunction


def fitted():
    """A model whose train function has been traced."""
    model = tiny.compiled()
    tiny.fit(model, 1)
    return model


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_holders_may_end_in_any_order(order):
    """Of two that hold it, the last to end leaves the model's own."""
    model = fitted()
    own = model.train_function
    holders = [TrainFunction(model), TrainFunction(model)]
    for holder in holders:
        holder.renew()

    holders[order[0]].give_back()
    tiny.fit(model, 1)
    holders[order[1]].give_back()

    assert model.train_function is own


def test_giving_back_twice_changes_nothing():
    """Whoever has compiled since keeps what is there."""
    model = fitted()
    holder = TrainFunction(model)
    holder.renew()
    holder.give_back()
    model.train_function = None

    holder.give_back()

    assert model.train_function is None


def test_compiling_anew_takes_it_out_of_our_hands():
    """The new function of a model compiled meanwhile is the user's."""
    model = fitted()
    holder = TrainFunction(model)
    holder.renew()
    tiny.compiled(model)

    holder.give_back()

    assert model.train_function is None


def test_calls_are_counted():
    """So that a trainer that never calls it can be found out."""
    model = fitted()
    holder = TrainFunction(model)
    holder.renew()

    tiny.fit(model, 1)

    assert holder.calls == tiny.ROWS // tiny.BATCH
    holder.give_back()


def test_first_step_is_prepared_once():
    """With what the first step is called with."""
    model = fitted()
    holder, seen = TrainFunction(model), []
    holder.before_first_step(lambda *args: seen.append(len(args)))

    tiny.fit(model, 2)
    holder.give_back()

    assert len(seen) == 1


def test_a_model_can_be_freed_while_it_is_held():
    """The list of holders keeps no model alive."""
    model = fitted()
    TrainFunction(model).renew()
    freed = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()

    assert freed() is None


@pytest.mark.backend("tensorflow", "jax")
@pytest.mark.parametrize("momentum_first", [True, False])
def test_momentum_and_range_test_leave_the_own_function(momentum_first):
    """Both replace it in one fit, and end in the order of the list."""
    schedule = OneCycle(0.1, 12)
    model = tiny.compiled(optimizer=keras.optimizers.SGD(schedule, 0.9))
    tiny.fit(model, 1)
    own = model.train_function
    both = [OneCycleMomentum(schedule), LRFinder(verbose=0)]

    tiny.fit(model, 2, both if momentum_first else both[::-1])

    assert model.train_function is own


class OwnLoop(keras.Model):
    """Trains by a function of its own, and never looks at the replaced one."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(tiny.CLASSES)

    def call(self, x):
        """The logits."""
        return self.dense(x)

    def fit(self, x, y, callbacks, epochs=1, **kwargs):
        """A loop like Keras's, over `train_on_batch`-like steps."""
        import tensorflow as tf

        callbacks = keras.callbacks.CallbackList(
            callbacks,
            add_history=True,
            model=self,
            epochs=epochs,
            steps=len(x) // tiny.BATCH,
        )
        self.stop_training = False
        step = tf.function(self.train_step)
        callbacks.on_train_begin()
        for epoch in range(epochs):
            callbacks.on_epoch_begin(epoch)
            for i in range(0, len(x), tiny.BATCH):
                callbacks.on_train_batch_begin(i)
                batch = (x[i : i + tiny.BATCH], y[i : i + tiny.BATCH])
                logs = {k: float(v) for k, v in step(batch).items()}
                callbacks.on_train_batch_end(i, logs)
                if self.stop_training:
                    break
            callbacks.on_epoch_end(epoch, {})
            if self.stop_training:
                break
        callbacks.on_train_end({})


def own_loop(rate=0.01):
    """Such a model, compiled, without weights."""
    model = OwnLoop()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss)
    return model


@pytest.mark.backend("tensorflow")
def test_a_deferred_model_in_a_loop_of_its_own_comes_back():
    """Without weights again, though its loop ignores all replacements."""
    model = own_loop()
    x, y = tiny.data()

    model.fit(x, y, callbacks=[LRFinder(verbose=0)], epochs=2)

    assert model.weights == []
    assert int(tiny.host(model.optimizer.iterations)) == 0


@pytest.mark.backend("tensorflow")
def test_a_copy_for_the_probes_never_taken_is_an_error():
    """After one step, which is put back as well."""
    model = own_loop()
    x, y = tiny.data()

    with pytest.raises(RuntimeError, match="call the model on one batch"):
        lr_find(model, x, y, verbose=0)

    assert model.weights == []
    assert int(tiny.host(model.optimizer.iterations)) == 0


@pytest.mark.backend("tensorflow")
def test_a_replaced_function_never_called_is_an_error():
    """Where the LR was to come from a function that nobody calls."""
    model = own_loop(keras.optimizers.schedules.ExponentialDecay(0.1, 5, 0.9))
    x, y = tiny.data()
    model(x)
    before = tiny.host(model.weights[0])

    with pytest.raises(RuntimeError, match="other means"):
        model.fit(x, y, callbacks=[LRFinder(verbose=0)], epochs=2)

    assert (tiny.host(model.weights[0]) == before).all()


@pytest.mark.backend("tensorflow")
def test_a_loop_of_its_own_over_a_built_model_is_fine():
    """Nothing had to be replaced there, so nothing was ignored."""
    model = own_loop()
    x, y = tiny.data()
    model(x)
    before = tiny.host(model.weights[0])
    finder = LRFinder(verbose=0)

    model.fit(x, y, callbacks=[finder], epochs=2)

    assert len(finder.curve) > 2
    assert (tiny.host(model.weights[0]) == before).all()
