"""Runs, seen from outside: what they train, and when they stand still.

A run is a fit of the model's own. So a model that watches its fits sees the
weights after each step: they move for the 60 steps of a probe, and stand
still after them, where losses are those of what was learnt.
"""

import re
import sys
import threading
import types

import keras
import pytest
import tiny

from keras_lrfinder import LRFinder
from keras_lrfinder import lr_find

# Not the model's own: a range test would put it back.
FITS = []


class Watched(keras.Model):
    """Keeps what its fits do to the weights, one after the other."""

    def fit(self, *args, callbacks=(), **kwargs):
        """Watches."""
        FITS.append(tiny.Weights())
        callbacks = [*callbacks, FITS[-1]]
        return super().fit(*args, callbacks=callbacks, **kwargs)


class Two(Watched):
    """A model that two optimizers train."""

    def compile(self, first, second, **kwargs):
        """Takes the second one."""
        super().compile(first, **kwargs)
        self.second = second

    def train_step(self, data):
        """A step of each, on TensorFlow or PyTorch."""
        x, y = data
        first, *_, last = (v.trainable_variables for v in self.layers[1:])

        def loss_of():
            return self.compute_loss(x, y, self(x, training=True))

        tiny.apply(self.optimizer, first, loss_of)
        return {"loss": tiny.apply(self.second, last, loss_of)}


def probed(*optimizers, layers=()):
    """A result of ramp and probes; `FITS` has what each fit did."""
    FITS.clear()
    kind = Two if optimizers[1:] else Watched
    model = tiny.chained(*layers, tiny.last(), kind=kind)
    model.compile(*optimizers, loss="sparse_categorical_crossentropy")
    x, y = tiny.data(48)
    return lr_find(model, x, y, batch_size=tiny.BATCH, steps=40, verbose=0)


def sgd(**kwargs):
    """An SGD that wants to move."""
    return keras.optimizers.SGD(0.1, **kwargs)


OPTIMIZERS = {name: getattr(keras.optimizers, name) for name in tiny.OPTIMIZERS}
OPTIMIZERS |= {
    # The velocity has the learning rate in it, and would move on.
    "momentum": lambda: sgd(momentum=0.9),
    "decay": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1),
    "accumulation": lambda: sgd(gradient_accumulation_steps=2),
    # Its first updates are skipped.
    "overflow": lambda: keras.optimizers.LossScaleOptimizer(
        sgd(), initial_scale=1e38
    ),
    "average": lambda: keras.optimizers.Adam(
        use_ema=True, ema_overwrite_frequency=2
    ),
}
MOVING = {"Ftrl", "ScheduleFreeAdamW", "average"}


def assert_judged(result):
    """Asserts that each probe trains for 60 steps, and then stands still."""
    _, untrained, *probes = FITS
    assert untrained.moved == [False] * 4
    assert len(probes) == len(result.runs) == 3
    for run, fit in zip(result.runs, probes, strict=True):
        assert (run.held_out, run.again) == (2, 2)
        assert sum(fit.moved[:-4]) >= 50
        assert fit.moved[-4:] == [False] * 4


def is_judged(result):
    """Whether losses are taken of weights that stand still."""
    assert len(result.runs) == 3
    return all(run.held_out for run in result.runs)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weights_stand_still_where_they_are_said_to(name):
    """Whatever the optimizer keeps of the steps before."""
    result = probed(OPTIMIZERS[name]())
    if name in MOVING:
        assert not is_judged(result)
    else:
        assert_judged(result)


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

    assert_judged(probed(Still(0.1, momentum=0.9)))
    assert not is_judged(probed(Restless()))
    assert len(probed(Odd()).runs) == 3


@pytest.mark.backend("tensorflow", "torch")
def test_all_optimizers_of_a_model_stand_still():
    """Also those that are not swept; their own rates come back."""
    second = keras.optimizers.SGD(0.25, momentum=0.9)
    assert_judged(probed(sgd(), second, layers=[keras.layers.Dense(4)]))
    assert float(tiny.host(second.learning_rate)) == 0.25


@pytest.mark.backend("tensorflow", "torch")
def test_other_optimizer_with_a_schedule_is_not_judged():
    """It goes on as it would, and the reason is said."""
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 1000)
    second = keras.optimizers.Adam(schedule)
    result = probed(sgd(), second, layers=[keras.layers.Dense(4)])
    assert not is_judged(result)
    assert re.search(r"memorised \(.*the weights", result.suggestion.reason)


def test_every_run_starts_from_the_same_state():
    """A second test measures the same: dropout, statistics and all."""
    model, (x, y) = tiny.compiled(tiny.functional(), "adam"), tiny.data(48)
    # On PyTorch the very first fit of a model draws as it builds it.
    tiny.find(model)
    first, again = (
        lr_find(model, x, y, batch_size=tiny.BATCH, steps=20, verbose=0)
        for _ in range(2)
    )
    assert first.curve.losses.tolist() == again.curve.losses.tolist()
    assert len(first.runs) == 3
    for one, other in zip(first.runs, again.runs, strict=True):
        assert one.losses.tolist() == other.losses.tolist()


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
        model = tiny.compiled(tiny.chained(tiny.last()), metrics=metrics)
        finder = LRFinder(stop_factor=None, verbose=0)
        company = [*others, finder] if before else [finder, *others]
        # Whoever evaluates draws as well.
        tiny.fit(model, 1, company, shuffle=False)
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

    model = tiny.compiled(tiny.chained(*tiny.layers(), kind=Logs))
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
