"""A run: its learning rates are trained with, its losses those of its steps.

And from `run.steps` on the weights stand still, so that what is lost is what
was learnt. Each is a real fit on a loan, from the same restored state.
"""

import itertools
import math
import sys
import threading
import types

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder import LRFinder
from keras_lrfinder import RangeTest
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.training.learning_rate import stands_still
from keras_lrfinder.training.loan import Loan
from keras_lrfinder.training.run import Path
from keras_lrfinder.training.run import RunCallback
from keras_lrfinder.training.run import train_run

MOVING = {"Ftrl", "ScheduleFreeAdamW"}


def batches(number, size=tiny.BATCH):
    """The data of so many batches, in order."""
    x, y = tiny.data(number * size)
    return {"x": x, "y": y, "batch_size": size, "shuffle": False}


class Weights(keras.callbacks.Callback):
    """Keeps the weights after each step."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        """Copies them."""
        weights = self.model.trainable_variables
        self.seen.append(
            np.concatenate([tiny.host(w).ravel() for w in weights])
        )


def watched(loan, run, data, callback):
    """As `train_run`, in company."""
    path = Path(run)
    callbacks = [RunCallback(loan, path), callback]
    loan.fit(**data, callbacks=callbacks, verbose=0)
    loan.rewind()
    return path.losses


def moved(seen):
    """After which steps the weights are others than before them."""
    pairs = itertools.pairwise(seen)
    return [bool((a != b).any()) for a, b in pairs]


@pytest.mark.parametrize("name", [*tiny.OPTIMIZERS, "momentum", "decay"])
def test_weights_stand_still_where_they_are_said_to(name):
    """Of every optimizer of Keras, once there are slots to be emptied."""
    own = {
        "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.9),
        "decay": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1),
    }
    make = own.get(name, getattr(keras.optimizers, name, None))
    model, weights = tiny.compiled(optimizer=make()), Weights()
    tiny.fit(model, epochs=1)
    with Loan(model) as loan:
        watched(loan, Run(0.01, 3, held_out=4, again=1), batches(8), weights)
        assert bool(loan.why_not_judged) == (name in MOVING)
    if name not in MOVING:
        assert moved(weights.seen) == [True] * 2 + [False] * 5


def test_optimizer_of_the_users_is_tried():
    """Whether it stands still is seen of the thing itself."""

    class Still(keras.optimizers.SGD):
        pass

    class Restless(keras.optimizers.SGD):
        def update_step(self, gradient, variable, learning_rate):
            self.assign_sub(variable, 0.1 * gradient)

    class Odd(keras.optimizers.SGD):
        def get_config(self):
            raise NotImplementedError

    assert stands_still(Still(0.1, momentum=0.9))
    assert not stands_still(Restless())
    assert not stands_still(Odd())
    overwriting = {"use_ema": True, "ema_overwrite_frequency": 2}
    assert not stands_still(keras.optimizers.Adam(**overwriting))


def test_every_run_starts_from_the_same_state():
    """The same losses each time, dropout and all, and the model is back."""
    model = tiny.compiled(tiny.functional(), "adam")
    before = tiny.state(model)
    run = Run(0.01, 6, held_out=3, again=2)
    with Loan(model) as loan:
        # On PyTorch the very first fit of a model draws as it builds it.
        train_run(loan, Run(0.0, 0, held_out=1), batches(1))
        first = train_run(loan, run, batches(11))
        other = train_run(loan, Run(1.0, 6, held_out=3), batches(9))
        again = train_run(loan, run, batches(11))
    assert first == again != other
    assert tiny.differences(before, tiny.state(model)) == []


def test_losses_before_training_are_those_of_the_first_weights():
    """A run of no steps trains nothing."""
    model, weights = tiny.compiled(optimizer="adam"), Weights()
    with Loan(model) as loan:
        losses = watched(loan, Run(0.0, 0, held_out=4), batches(4), weights)
    assert len(losses) == 4
    assert moved(weights.seen) == [False] * 3


def test_schedule_is_trained_as_its_path():
    """Each step with the learning rate of the run."""
    model = tiny.unit_gradient_model(0.5)
    x, y = tiny.ones(12)
    run, weights = Run(0.1, 5, "triangular", held_out=1), Weights()
    data = {"x": x, "y": y, "batch_size": 2, "shuffle": False}
    with Loan(model) as loan:
        watched(loan, run, data, weights)
    steps = -np.diff([0.0, *(seen.item() for seen in weights.seen)])
    np.testing.assert_allclose(steps, run.lrs, rtol=1e-5, atol=1e-7)


def test_steps_of_accumulated_gradients_are_batches_times_k():
    """Trained on by k, judged one by one."""
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model, weights = tiny.compiled(optimizer=optimizer), Weights()
    with Loan(model) as loan:
        assert loan.per_update == 2
        losses = watched(loan, Run(0.1, 3, held_out=4), batches(10), weights)
    assert len(losses) == 7
    assert moved(weights.seen) == [True, False, True, False, True] + [False] * 4


def test_skipped_updates_shift_nothing():
    """Batches that are held out stay so where gradients overflow at first."""
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.1), initial_scale=1e38
    )
    model, weights = tiny.compiled(optimizer=optimizer), Weights()
    with Loan(model) as loan:
        losses = watched(loan, Run(0.1, 6, held_out=4), batches(10), weights)
    assert len(losses) == 10
    assert moved(weights.seen)[5:] == [False] * 4


class Two(keras.Model):
    """A model that two optimizers train."""

    def compile(self, first, second, **kwargs):
        """Takes the second one."""
        super().compile(first, **kwargs)
        self.second = second

    def train_step(self, data):
        """A step of each, on TensorFlow or PyTorch."""
        x, y = data
        own = [self.layers[1].trainable_variables]
        own += [self.layers[-1].trainable_variables]
        if keras.backend.backend() == "torch":
            self.zero_grad()
            loss = self.compute_loss(x, y, self(x, training=True))
            loss.backward()
            gradients = [[v.value.grad for v in part] for part in own]
        else:
            import tensorflow as tf

            with tf.GradientTape() as tape:
                loss = self.compute_loss(x, y, self(x, training=True))
            gradients = tape.gradient(loss, own)
        self.optimizer.apply(gradients[0], own[0])
        self.second.apply(gradients[1], own[1])
        return {"loss": loss}


def two(second):
    """Such a model."""
    plain = tiny.functional()
    model = Two(plain.inputs, plain.outputs)
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(0.1), second, loss=loss)
    return model


@pytest.mark.backend("tensorflow", "torch")
def test_all_optimizers_of_a_model_stand_still():
    """Also those that are not swept; their own rates come back."""
    second = keras.optimizers.SGD(0.25, momentum=0.9)
    model, weights = two(second), Weights()
    with Loan(model) as loan:
        watched(loan, Run(0.1, 3, held_out=4), batches(7), weights)
        assert not loan.why_not_judged
    assert moved(weights.seen) == [True] * 2 + [False] * 4
    assert float(tiny.host(second.learning_rate)) == 0.25


@pytest.mark.backend("tensorflow", "torch")
def test_other_optimizer_with_a_schedule_is_not_judged():
    """It goes on as it would, and the reason is said."""
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 10)
    with Loan(two(keras.optimizers.Adam(schedule))) as loan:
        assert "Adam with a schedule of its own" in loan.why_not_judged


def test_run_that_fails_ends_early():
    """With what made it fail."""
    model = tiny.compiled(optimizer=keras.optimizers.SGD(0.1))
    x, y = tiny.data(40)
    x[20:] = np.nan
    data = {"x": x, "y": y, "batch_size": 4, "shuffle": False}
    with Loan(model) as loan:
        losses = train_run(loan, Run(0.1, 8, held_out=2), data)
    assert len(losses) == 6
    assert math.isnan(losses[-1])


def test_weights_that_are_not_finite_are_told():
    """Where the loss hides them: relu makes zero of NaN."""
    model = tiny.unit_gradient_model(0.5)
    x, y = tiny.ones(12)
    x[4:] = np.nan

    def loss(y_true, y_pred):
        known = keras.ops.where(keras.ops.isnan(y_pred), 0.0, y_pred)
        return keras.ops.mean(known * known)

    model.compile("sgd", loss)
    data = {"x": x, "y": y, "batch_size": 2, "shuffle": False}
    with Loan(model) as loan:
        losses = train_run(loan, Run(0.1, 4, held_out=2), data)
    assert len(losses) == 4
    assert math.isnan(losses[-1])
    assert np.isfinite(tiny.host(model.weights[0])).all()


# In company that uses the model in its hooks.


class Uses(keras.callbacks.Callback):
    """Evaluates and predicts in every hook of a batch."""

    def use(self, *args, **kwargs):
        """On more samples than a batch has."""
        x, y = tiny.data(9)
        self.model.evaluate(x, y, batch_size=9, verbose=0)
        self.model.predict(x, verbose=0)

    on_train_batch_begin = on_train_batch_end = use


@pytest.mark.parametrize("metrics", [None, ["accuracy"]])
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_what_others_evaluate_is_not_read(before, metrics):
    """Batch size and losses are those of the step, on either side."""

    def tested(others):
        tiny.start()
        # Without dropout, which an evaluation turns off on PyTorch.
        last = keras.layers.Dense(tiny.CLASSES, activation="softmax")
        net = keras.Sequential([keras.Input((tiny.FEATURES,)), last])
        model = tiny.compiled(net, metrics=metrics)
        finder = LRFinder(stop_factor=None, verbose=0)
        company = [*others, finder] if before else [finder, *others]
        # Whoever evaluates draws as well.
        tiny.fit(model, callbacks=company, shuffle=False)
        return finder.curve

    plain, shared = tested([]), tested([Uses()])
    assert plain.losses.tolist() == shared.losses.tolist()
    assert plain.batch_size == shared.batch_size == tiny.BATCH


@pytest.mark.backend("tensorflow", "torch")
def test_another_key_of_the_logs_can_be_monitored():
    """Of a `train_step` that logs a loss as well."""

    class Logs(keras.Model):
        def train_step(self, data):
            logs = super().train_step(data)
            return {**logs, "total": 2.0 * logs["loss"]}

    plain = tiny.functional()
    model = tiny.compiled(Logs(plain.inputs, plain.outputs))
    result = tiny.find(model, monitor="total", probe=True, steps=20)
    assert result.curve.monitor == "total"


def test_two_threads_on_one_model():
    """The second is told that a test is running; the first goes on."""
    model, raised = tiny.compiled(), []

    class Beside(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if not raised:
                thread = threading.Thread(target=self.test)
                thread.start()
                thread.join()

        def test(self):
            try:
                tiny.find(model)
            except RuntimeError as error:
                raised.append(str(error))

    tiny.find(model, callbacks=[Beside()])
    assert "range test of this model is running" in raised[0]
    tiny.find(model)


@pytest.mark.parametrize("name", ["SaveBestEpoch", "TunerCallback"])
def test_savers_of_a_tuner_are_refused(name, monkeypatch):
    """The message says where a test has its place; `lr_find` needs none."""
    module = types.ModuleType("keras_tuner.src.engine.tuner_utils")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    kind = type(
        name, (keras.callbacks.Callback,), {"__module__": module.__name__}
    )
    with pytest.raises(ValueError, match=r"lr_find` in `HyperModel\.fit"):
        tiny.in_callback(tiny.compiled(), callbacks=[kind()])
    tiny.find(tiny.compiled(), callbacks=[kind()])


def test_internal_fits_are_not_logged(monkeypatch):
    """By what takes the place of `keras.Model.fit`, as autologging does."""
    own, logged = keras.Model.fit, []

    def fit(self, *args, **kwargs):
        logged.append(self)
        return own(self, *args, **kwargs)

    monkeypatch.setattr(keras.Model, "fit", fit)
    model = tiny.compiled()
    tiny.find(model)
    assert logged == []
    tiny.fit(model)
    assert logged == [model]


def test_hooks_called_by_hand_make_a_run():
    """A loop of the user's own, without epochs."""
    model = tiny.compiled()
    x, y = tiny.data()
    test = RangeTest(1e-4, 1.0, 5)
    with Loan(model) as loan:
        callback = RunCallback(loan, test)
        callback.set_model(model)
        callback.on_train_begin()
        for step in range(5):
            callback.on_train_batch_begin(step)
            logs = model.train_on_batch(x[:4], y[:4], return_dict=True)
            callback.on_train_batch_end(step, logs)
        callback.on_train_end()
    assert len(test.curve) == 5
