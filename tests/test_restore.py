"""After a range test, training goes on as if there had been none.

Every comparison is bit for bit, of two runs from the same seed: one only
fits, the other runs a range test before the same fit. Nothing is seeded
again in between.
"""

import csv
import functools
import gc
import itertools
import os
import random
import tracemalloc

import keras
import numpy as np
import pytest
import tiny

from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason
from keras_lrfinder import lr_find
from keras_lrfinder.training import reach
from keras_lrfinder.training.snapshot import Snapshot

STEPS = 8
RATES = {
    "float": lambda: 0.01,
    "schedule": lambda: keras.optimizers.schedules.ExponentialDecay(
        0.02, 3, 0.5
    ),
    "callable": lambda: lambda: 0.01,
}


def often(values, chosen):
    """`values` as parameters; on TensorFlow, which is slow, only `chosen`."""
    slow = pytest.mark.thorough_on("tensorflow")
    return [
        value if value in chosen else pytest.param(value, marks=slow)
        for value in values
    ]


def quick(values, chosen):
    """`values` as parameters; those not among `chosen` are thorough."""
    return [
        pytest.param(
            *(value if isinstance(value, tuple) else (value,)),
            marks=[] if value in chosen else pytest.mark.thorough,
        )
        for value in values
    ]


def optimizer_of(name, rate="float", **kwargs):
    """An optimizer of Keras's by name, with one of `RATES`."""
    return getattr(keras.optimizers, name)(RATES[rate](), **kwargs)


def find(model, **kwargs):
    """A short range test on the data that `tiny.fit` trains on."""
    x, y = tiny.data()
    kwargs = {
        "x": x,
        "y": y,
        "batch_size": tiny.BATCH,
        "steps": STEPS,
        "stop_factor": None,
        "probe": False,
        "verbose": 0,
        **kwargs,
    }
    return lr_find(model, **kwargs)


def run(make, before=None, after=None):
    """Everything that one fit leaves: state, History, and what `after` says.

    Args:
        make: Function that returns the model, from fixed seeds.
        before: Function of the model, called before the fit; or None.
        after: Function of the model, called at the end; or None.
    """
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    model = make()
    if before is not None:
        before(model)
    history = tiny.fit(model)
    return tiny.state(model), history, after(model) if after else None


@functools.cache
def plain_run(make):
    """`run` without a range test; some tests share one."""
    return run(make)


def assert_no_trace(make, before):
    """Asserts that a fit after `before` is the fit that it would have been."""
    plain, history, _ = plain_run(make)
    tested, history_after, _ = run(make, before)
    assert tiny.differences(plain, tested) == []
    assert history_after == history


def fitted(make):
    """`make`, and one epoch of training."""

    def make_and_fit():
        model = make()
        # What the fit would do itself, on TensorFlow by a second trace.
        model.optimizer.build(model.trainable_variables)
        tiny.fit(model, epochs=1)
        return model

    return make_and_fit


def plain_model():
    """The model for claims that do not depend on the model's kind."""
    return tiny.compiled(None, keras.optimizers.Adam(0.01))


def model_with_schedule():
    """The same with a learning rate schedule."""
    return tiny.compiled(None, optimizer_of("Adam", "schedule"))


fitted_with_schedule = fitted(model_with_schedule)
fitted_plain_model = fitted(plain_model)


# Every optimizer, every kind of learning rate.


def test_introspection_finds_the_optimizers():
    """The list of optimizers is not empty by mistake."""
    known = {"SGD", "Adam", "AdamW", "RMSprop", "Ftrl", "Lion", "Adafactor"}
    assert known <= set(tiny.OPTIMIZERS)


@pytest.mark.parametrize(
    "name", often(tiny.OPTIMIZERS, ["Adam", "SGD", "Ftrl", "Muon"])
)
def test_every_optimizer_trains_on_as_if_untested(name):
    """No optimizer that Keras ships keeps anything of a range test."""
    assert_no_trace(functools.partial(model_for, name, "float"), find)


@pytest.mark.parametrize(
    ("name", "rate"),
    quick(
        list(itertools.product(tiny.OPTIMIZERS, ["schedule", "callable"])),
        [("Adam", "schedule"), ("SGD", "schedule"), ("Adam", "callable")],
    ),
)
def test_schedules_and_callables_train_on_as_if_untested(name, rate):
    """Nor does one whose learning rate is no number."""
    assert_no_trace(functools.partial(model_for, name, rate), find)


def model_for(name, rate, **kwargs):
    """A compiled model with the named optimizer."""
    optimizer = optimizer_of(name, rate, **kwargs)
    model = tiny.compiled(None, optimizer)
    if name == "ScheduleFreeAdamW":
        # Built lazily, inside the first step, Keras's own starts from other
        # slots on TensorFlow than built before: not the range test's doing.
        optimizer.build(model.trainable_variables)
    return model


def loss_scale(rate):
    """A loss-scaling optimizer around Adam."""
    return keras.optimizers.LossScaleOptimizer(
        optimizer_of("Adam", rate), initial_scale=4.0, dynamic_growth_steps=3
    )


OPTIONS = {
    "momentum": lambda: optimizer_of("SGD", momentum=0.9, nesterov=True),
    "amsgrad": lambda: optimizer_of("Adam", amsgrad=True),
    "weight-decay": lambda: optimizer_of("AdamW", "schedule", weight_decay=0.1),
    "ema": lambda: optimizer_of("Adam", use_ema=True, ema_momentum=0.8),
    "ema-overwriting": lambda: optimizer_of(
        "SGD", "schedule", use_ema=True, ema_overwrite_frequency=4
    ),
    "accumulation": lambda: optimizer_of("Adam", gradient_accumulation_steps=3),
    "accumulation-schedule": lambda: optimizer_of(
        "SGD", "schedule", gradient_accumulation_steps=2
    ),
    "clipnorm": lambda: optimizer_of("SGD", clipnorm=0.1),
    "loss-scale": lambda: loss_scale("float"),
    "loss-scale-schedule": lambda: loss_scale("schedule"),
}


@pytest.mark.parametrize(
    "option",
    quick(
        OPTIONS,
        [
            "ema",
            "ema-overwriting",
            "accumulation-schedule",
            "loss-scale-schedule",
        ],
    ),
)
def test_every_option_of_an_optimizer_trains_on_as_if_untested(option):
    """Averages, accumulators and loss scales come back as well."""

    def make():
        return tiny.compiled(None, OPTIONS[option]())

    assert_no_trace(make, find)


@pytest.mark.skipif(
    not hasattr(keras.optimizers, "MultiOptimizer"), reason="needs one"
)
def test_several_optimizers_in_one_train_on_as_if_untested():
    """All parts of a MultiOptimizer come back, whatever their rates."""

    def make():
        parts = {"dense/.*": optimizer_of("Adam", "schedule")}
        parts = keras.optimizers.OptimizerMap(optimizer_of("SGD"), parts)
        return tiny.compiled(None, keras.optimizers.MultiOptimizer(parts))

    assert_no_trace(make, find)


# Every kind of model, and both ways in.


def in_callback(model):
    """A range test as a callback in a fit of the user's own."""
    finder = LRFinder(stop_factor=None, verbose=0)
    tiny.fit(model, callbacks=[finder])
    return finder


@pytest.mark.parametrize(
    ("kind", "how"),
    quick(
        list(itertools.product(tiny.MODELS, [find, in_callback])),
        [
            ("functional", in_callback),
            ("sequential", find),
            ("subclass", find),
            ("deferred-sequential", in_callback),
            ("deferred-subclass", find),
            ("deferred-subclass", in_callback),
        ],
    ),
)
def test_every_kind_of_model_trains_on_as_if_untested(kind, how):
    """Functional, Sequential, subclassed; built and not yet built."""
    assert_no_trace(CASES[kind], how)


CASES = {
    kind: lambda make=make: tiny.compiled(
        make(), keras.optimizers.Adam(0.01), metrics=["accuracy"]
    )
    for kind, make in tiny.MODELS.items()
}


@pytest.mark.parametrize("how", [find, in_callback])
def test_deferred_model_with_schedule_trains_on_as_if_untested(how):
    """The hardest of a deferred model: its train function is replaced."""

    def make():
        return tiny.compiled(tiny.deferred(), optimizer_of("SGD", "schedule"))

    assert_no_trace(make, how)


@pytest.mark.parametrize("rate", quick(RATES, ["float", "schedule"]))
@pytest.mark.parametrize("how", [find, in_callback])
def test_trained_model_trains_on_as_if_untested(how, rate):
    """A model that was fitted before goes on from where it was."""
    assert_no_trace(TRAINED[rate], how)


TRAINED = {
    "float": fitted_plain_model,
    "schedule": fitted_with_schedule,
    "callable": fitted(
        lambda: tiny.compiled(None, optimizer_of("SGD", "callable"))
    ),
}


def twice(model):
    """Two range tests in a row."""
    find(model)
    in_callback(model)


@pytest.mark.parametrize(
    "make",
    quick([model_with_schedule, fitted_with_schedule], [fitted_with_schedule]),
)
def test_second_range_test_leaves_no_trace_either(make):
    """Nothing adds up from one range test to the next."""
    assert_no_trace(make, twice)


class Noise(keras.layers.Layer):
    """Draws from Keras's global generator, in training."""

    def call(self, x, training=None):
        if not training:
            return x
        return x + keras.random.normal(keras.ops.shape(x), stddev=0.1)


@pytest.mark.backend("tensorflow", "torch")  # JAX allows no such layer
def test_global_generator_made_in_the_test_starts_again():
    """A generator of Keras's that did not exist before is as good as new."""

    def make():
        inputs = keras.Input((tiny.FEATURES,))
        outputs = keras.layers.Dense(tiny.CLASSES)(Noise()(inputs))
        model = keras.Model(inputs, keras.ops.softmax(outputs))
        return tiny.compiled(model)

    assert_no_trace(make, find)


# Every way a range test can end.


def diverges(model):
    """A range test whose loss and weights end as NaN."""
    finder = find(model, start_lr=1.0, end_lr=1e38, stop_factor=2.0)
    assert finder.curve.stop_reason in (
        StopReason.DIVERGED,
        StopReason.NOT_FINITE,
    )


def killed_by_callback(model):
    """A range test that another callback's exception ends."""
    with pytest.raises(RuntimeError, match="on purpose"):
        find(model, callbacks=[tiny.Raises(4)])


def killed_by_data(model):
    """A range test that an exception of the data ends."""

    def batches():
        x, y = tiny.data()
        for i in range(4):
            yield x[i : i + 4], y[i : i + 4]
        raise OSError("disk on fire")

    # TensorFlow makes an error of its own from it.
    with pytest.raises(Exception, match="disk on fire"):
        find(model, x=batches(), y=None, batch_size=None)


def killed_by_user(model):
    """A range test that Ctrl-C ends."""
    with pytest.raises(KeyboardInterrupt):
        find(model, callbacks=[tiny.Raises(4, KeyboardInterrupt())])


def killed_callback(model):
    """A range test in the user's own fit that an exception ends."""
    finder = LRFinder(stop_factor=None, verbose=0)
    with pytest.raises(RuntimeError, match="on purpose"):
        tiny.fit(model, callbacks=[finder, tiny.Raises(4)])
    finder.restore()


def killed_callback_forgotten(model):
    """The same, and the finder's next fit has to tidy up."""
    finder = LRFinder(stop_factor=None, verbose=0)
    with pytest.raises(KeyboardInterrupt):
        tiny.fit(
            model,
            callbacks=[finder, tiny.Raises(4, KeyboardInterrupt())],
        )
    tiny.fit(model, callbacks=[finder])


ENDS = [
    diverges,
    killed_by_callback,
    killed_by_data,
    killed_by_user,
    killed_callback,
    killed_callback_forgotten,
]


@pytest.mark.parametrize(
    "end", often(ENDS, [killed_by_callback, killed_callback_forgotten])
)
def test_fit_after_every_end_is_as_if_untested(end):
    """The model comes back however the range test ends."""
    assert_no_trace(fitted_with_schedule, end)


def deferred_model():
    """One without weights."""
    return tiny.compiled(tiny.deferred())


@pytest.mark.parametrize(
    "end",
    quick(
        [
            killed_by_callback,
            killed_by_user,
            killed_callback,
            killed_callback_forgotten,
        ],
        [killed_by_callback, killed_callback_forgotten],
    ),
)
def test_fit_of_deferred_model_after_every_end_is_as_if_untested(end):
    """So does one that got its weights within the range test."""
    assert_no_trace(deferred_model, end)


class RaisesIn(keras.callbacks.Callback):
    """Raises in the first call of one hook."""

    def __init__(self, hook):
        super().__init__()

        def fail(*args, **kwargs):
            raise RuntimeError(f"killed on purpose in {hook}")

        setattr(self, hook, fail)


HOOKS = [
    "on_train_begin",
    "on_epoch_begin",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_epoch_end",
    "on_train_end",
]


@pytest.mark.parametrize("how", ["lr_find", "callback"])
def test_model_comes_back_whichever_hook_is_killed(how):
    """An exception in any hook of another callback leaves no trace."""
    model = fitted_model()
    before = tiny.state(model), own_rate(model), model.train_function
    for hook in HOOKS:
        killed(model, how, RaisesIn(hook))
        after = tiny.state(model), own_rate(model), model.train_function
        assert tiny.differences(before[0], after[0]) == [], hook
        assert after[1] is before[1], hook
        assert after[2] is before[2], hook


@pytest.mark.backend("tensorflow")
@pytest.mark.parametrize("hook", HOOKS[:3])
@pytest.mark.parametrize("how", ["lr_find", "callback"])
def test_deferred_model_killed_before_its_first_step_is_clean(how, hook):
    """What waited for the first step does not wait on in the next fit."""
    model = deferred_model()
    killed(model, how, RaisesIn(hook))
    gc.collect()
    assert "first" not in getattr(model.train_function, "__name__", "")


def own_rate(model):
    """The very object that an optimizer has for a learning rate."""
    return model.optimizer._learning_rate


def killed(model, how, callback):
    """Runs a range test that `callback` ends by an exception."""
    if how == "lr_find":
        with pytest.raises(RuntimeError, match="on purpose"):
            find(model, callbacks=[callback])
        return
    finder = LRFinder(stop_factor=None, verbose=0)
    with pytest.raises(RuntimeError, match="on purpose"):
        tiny.fit(model, callbacks=[finder, callback])
    finder.restore()


@pytest.mark.parametrize("how", ["lr_find", "callback"])
def test_model_comes_back_whichever_step_is_killed(how):
    """Killed at every step in turn, the model is there again each time."""
    model = fitted_model()
    before, rate = tiny.state(model), own_rate(model)
    for step in range(STEPS):
        killed(model, how, tiny.Raises(step))
        assert tiny.differences(before, tiny.state(model)) == [], step
        assert own_rate(model) is rate, step


def test_fit_after_a_kill_at_every_step_is_as_if_untested():
    """Nor does anything outside of the model add up over many kills."""

    def kills(model):
        for step in range(STEPS):
            killed(model, "lr_find", tiny.Raises(step))

    assert_no_trace(fitted_plain_model, kills)


def test_second_restore_changes_nothing():
    """`restore()` is free to be called again, even after more training."""
    model = tiny.compiled()
    finder = LRFinder(stop_factor=None, verbose=0)
    with pytest.raises(RuntimeError, match="on purpose"):
        tiny.fit(model, callbacks=[finder, tiny.Raises(2)])
    finder.restore()
    tiny.fit(model, epochs=1)
    trained = tiny.state(model)
    finder.restore()
    assert tiny.differences(trained, tiny.state(model)) == []


@pytest.mark.parametrize("restored", [False, True])
def test_interrupted_curve_can_be_read(restored):
    """What was measured before the exception is there, and says so."""
    finder = LRFinder(stop_factor=None, verbose=0)
    with pytest.raises(RuntimeError, match="on purpose"):
        tiny.fit(tiny.compiled(), callbacks=[finder, tiny.Raises(2)])
    if restored:
        finder.restore()
    assert finder.curve.stop_reason is StopReason.INTERRUPTED
    assert len(finder.curve) == 3
    assert finder.suggestion.lr is None


# The parts, one by one.


@pytest.mark.parametrize("how", [find, in_callback])
@pytest.mark.parametrize("rate", ["schedule", "callable"])
def test_very_schedule_object_comes_back(how, rate):
    """Not a copy of the schedule, nor its current value."""
    model = tiny.compiled(None, optimizer_of("Adam", rate))
    own = own_rate(model)
    how(model)
    assert own_rate(model) is own


@pytest.mark.parametrize("how", [find, in_callback])
def test_learning_rate_comes_back(how):
    """To the last bit of its float32."""
    model = tiny.compiled(None, keras.optimizers.SGD(0.0123))
    own = own_rate(model)
    how(model)
    assert own_rate(model) is own
    assert tiny.host(own) == np.float32(0.0123)


class Traced(keras.layers.Layer):
    """Counts how often Python runs its call: once a trace, if compiled."""

    calls = 0

    def call(self, x):
        Traced.calls += 1
        return x


def traced_model(rate):
    """A compiled model that counts its traces."""
    inputs = keras.Input((tiny.FEATURES,))
    outputs = keras.layers.Dense(tiny.CLASSES, activation="softmax")(
        Traced()(inputs)
    )
    return tiny.compiled(
        keras.Model(inputs, outputs), optimizer_of("SGD", rate)
    )


@pytest.mark.backend("tensorflow", "jax")
@pytest.mark.parametrize("how", [find, in_callback])
@pytest.mark.parametrize("rate", RATES)
def test_next_fit_needs_no_second_trace(rate, how):
    """The train function of before is used on, with all its traces."""
    model = traced_model(rate)
    tiny.fit(model)
    train_function = model.train_function
    how(model)
    Traced.calls = 0
    tiny.fit(model)
    assert Traced.calls == 0
    assert model.train_function is train_function


@pytest.mark.backend("tensorflow", "jax")
@pytest.mark.parametrize("rate", RATES)
def test_first_fit_is_traced_no_more_often_than_without(rate):
    """A range test before the first fit costs that fit no trace."""
    tiny.fit(traced_model(rate))
    without, Traced.calls = Traced.calls, 0
    model = traced_model(rate)
    find(model)
    Traced.calls = 0
    tiny.fit(model)
    assert Traced.calls <= without


@pytest.mark.parametrize("stop", [True, False])
def test_stop_training_comes_back(stop):
    """The flag that ends the range test does not stay set."""
    model = fitted_model()
    model.stop_training = stop
    find(model)
    assert model.stop_training is stop
    model.stop_training = False


def test_history_comes_back():
    """`model.history` is that of the user's last fit, not of the test."""
    model = fitted_model()
    own, epochs = model.history, dict(model.history.history)
    find(model)
    assert model.history is own
    assert model.history.history == epochs


def test_unfitted_model_has_no_new_attributes():
    """A virgin model has no `history`, and has none after the test."""
    model = tiny.compiled()
    before = set(vars(model))
    find(model)
    assert "history" not in set(vars(model)) - before


class Draws(keras.callbacks.Callback):
    """Draws from every global generator at each batch."""

    def on_train_batch_end(self, batch, logs=None):
        draws()


def draws():
    """One number from each global generator."""
    found = {
        "python": random.random(),
        "numpy": float(np.random.random()),
        "keras": tiny.host(keras.random.uniform((2,))).tolist(),
    }
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        found["tensorflow"] = tf.random.uniform((2,)).numpy().tolist()
    if keras.backend.backend() == "torch":
        import torch

        found["torch"] = torch.rand(2).tolist()
    return found


@pytest.mark.parametrize(
    "how",
    [
        find,
        in_callback,
        lambda model: find(model, callbacks=[Draws()]),
        killed_by_user,
    ],
    ids=["find", "in_callback", "drawing", "killed"],
)
def test_global_random_state_comes_back(how):
    """Whoever draws numbers after a range test gets the same ones."""

    def drawn(before):
        make = fitted(plain_model)
        keras.backend.clear_session(free_memory=False)
        keras.utils.set_random_seed(3)
        model = make()
        draws()
        before(model)
        return draws()

    assert drawn(how) == drawn(lambda model: None)


def test_metrics_come_back():
    """What `model.metrics` have counted is there after the test."""
    model = fitted_plain_model()
    before = [tiny.host(v) for v in model.metrics_variables]
    assert any(value.any() for value in before)
    find(model)
    after = [tiny.host(v) for v in model.metrics_variables]
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


# Kept on purpose.


@pytest.mark.parametrize("how", ["lr_find", "callback"])
@pytest.mark.parametrize("rate", ["float", "schedule"])
def test_restore_false_keeps_the_weights_alone(rate, how):
    """The trained weights stay; the own learning rate comes back."""
    model = tiny.compiled(None, optimizer_of("Adam", rate))
    weights, own = tiny.host(model.weights[0]), own_rate(model)
    number = float(tiny.host(own)) if rate == "float" else None
    if how == "lr_find":
        find(model, restore=False)
    else:
        tiny.fit(
            model,
            callbacks=[LRFinder(stop_factor=None, verbose=0, restore=False)],
        )
    assert (tiny.host(model.weights[0]) != weights).any()
    assert own_rate(model) is own
    assert number is None or float(tiny.host(own)) == number


def test_restore_false_after_an_exception_keeps_the_weights_alone():
    """The own learning rate comes back even then."""
    model = tiny.compiled(None, optimizer_of("Adam", "schedule"))
    weights, own = tiny.host(model.weights[0]), own_rate(model)
    with pytest.raises(RuntimeError, match="on purpose"):
        find(model, restore=False, callbacks=[tiny.Raises(4)])
    assert (tiny.host(model.weights[0]) != weights).any()
    assert own_rate(model) is own


# Refused, with nothing changed.

BAD = {
    "start_lr-zero": ({"start_lr": 0.0}, ValueError, "start_lr"),
    "start_lr-negative": ({"start_lr": -1e-3}, ValueError, "start_lr"),
    "start_lr-nan": ({"start_lr": float("nan")}, ValueError, "start_lr"),
    "start_lr-string": ({"start_lr": "1e-5"}, TypeError, "start_lr"),
    "end_lr-below": ({"start_lr": 1.0, "end_lr": 0.1}, ValueError, "end_lr"),
    "end_lr-equal": ({"start_lr": 1.0, "end_lr": 1.0}, ValueError, "end_lr"),
    "end_lr-infinite": ({"end_lr": float("inf")}, ValueError, "end_lr"),
    "end_lr-string": ({"end_lr": "ten"}, TypeError, "end_lr"),
    "steps-one": ({"steps": 1}, ValueError, "steps"),
    "steps-float": ({"steps": 10.0}, TypeError, "steps"),
    "steps-string": ({"steps": "10"}, TypeError, "steps"),
    "ramp-unknown": ({"ramp": "cosine"}, ValueError, "ramp"),
    "stop_factor-one": ({"stop_factor": 1.0}, ValueError, "stop_factor"),
    "stop_factor-string": ({"stop_factor": "4"}, TypeError, "stop_factor"),
    "rule-unknown": ({"rule": "best"}, ValueError, "rule"),
    "rule-number": ({"rule": 3}, TypeError, "rule"),
    "monitor-number": ({"monitor": 1}, TypeError, "monitor"),
    "monitor-unknown": ({"monitor": "losss"}, ValueError, r"\['loss'\]"),
    "optimizer-unknown": ({"optimizer": "adam"}, ValueError, "optimizer"),
    "optimizer-number": ({"optimizer": 0.1}, ValueError, "optimizer"),
    "epochs": ({"epochs": 3}, ValueError, "steps"),
    "misspelt": ({"batchsize": 4}, TypeError, "batchsize"),
    "plot_dir-number": ({"plot_dir": 3}, TypeError, ""),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_argument_is_refused_and_changes_nothing(case):
    """A clear error names the argument; the model is what it was."""
    kwargs, error, names = BAD[case]
    model = fitted_model()
    before = tiny.state(model), own_rate(model), model.history
    with pytest.raises(error, match=names):
        find(model, **kwargs)
    assert tiny.differences(before[0], tiny.state(model)) == []
    assert own_rate(model) is before[1]
    assert model.history is before[2]


@functools.cache
def fitted_model():
    """One trained model for all that must not change it."""
    return fitted_with_schedule()


@pytest.mark.parametrize(
    ("kwargs", "error"),
    [
        ({"monitor": "losss"}, ValueError),
        ({"optimizer": "adam"}, ValueError),
    ],
    ids=["monitor", "optimizer"],
)
def test_bad_argument_of_the_callback_changes_nothing(kwargs, error):
    """Likewise where the fit is the user's own."""
    model = fitted_model()
    before = tiny.state(model), own_rate(model)
    finder = LRFinder(stop_factor=None, verbose=0, **kwargs)
    with pytest.raises(error, match=next(iter(kwargs))):
        tiny.fit(model, callbacks=[finder])
    assert tiny.differences(before[0], tiny.state(model)) == []
    assert own_rate(model) is before[1]


@pytest.mark.parametrize("place", ["a-file", "below-a-file"])
@pytest.mark.parametrize("how", ["lr_find", "callback"])
def test_plot_dir_that_is_no_directory_is_refused(tmp_path, place, how):
    """Before the first step, not after the last one."""
    (tmp_path / "file").write_text("mine")
    path = tmp_path / "file"
    path = path if place == "a-file" else path / "plots"
    assert_refused_untrained(path, how)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="the superuser may write anywhere",
)
@pytest.mark.parametrize("how", ["lr_find", "callback"])
def test_plot_dir_without_leave_to_write_is_refused(tmp_path, how):
    """Likewise where the directory is there but not to be written."""
    tmp_path.chmod(0o500)
    assert_refused_untrained(tmp_path, how)


def assert_refused_untrained(plot_dir, how):
    """Asserts that `plot_dir` is refused before any training."""
    model, steps = fitted_model(), tiny.Losses()
    before = tiny.state(model)
    if how == "lr_find":
        with pytest.raises(ValueError, match="plot_dir"):
            find(model, plot_dir=plot_dir, callbacks=[steps])
    else:
        finder = LRFinder(plot_dir=plot_dir, verbose=0)
        with pytest.raises(ValueError, match="plot_dir"):
            tiny.fit(model, callbacks=[finder, steps])
    assert steps.values == []
    assert tiny.differences(before, tiny.state(model)) == []


def test_uncompiled_model_is_refused():
    """There is no optimizer to sweep."""
    with pytest.raises(ValueError, match="compile"):
        find(tiny.functional())


@pytest.mark.parametrize("model", [None, "model", keras.layers.Dense(1)])
def test_what_is_no_model_is_refused(model):
    """With the words of this package, not from deep inside Keras."""
    with pytest.raises(TypeError, match=r"keras\.Model"):
        find(model)


# Memory.


def size_of(model):
    """Bytes of all that training changes in a model."""
    return sum(value.nbytes for value in tiny.state(model).values())


def wide_model():
    """A model of a few megabytes."""
    inputs = keras.Input((tiny.FEATURES,))
    hidden = keras.layers.Dense(600)(keras.layers.Dense(600)(inputs))
    outputs = keras.layers.Dense(tiny.CLASSES, activation="softmax")(hidden)
    return tiny.compiled(keras.Model(inputs, outputs), "adam")


class Memory(keras.callbacks.Callback):
    """What Python and NumPy have allocated at the end of each batch."""

    def on_train_begin(self, logs=None):
        self.traced = []

    def on_train_batch_end(self, batch, logs=None):
        self.traced.append(tracemalloc.get_traced_memory()[0])


@pytest.mark.parametrize("how", ["lr_find", "callback"])
def test_state_is_copied_once(how, monkeypatch):
    """Every variable is copied to the host once, and none twice."""
    model = fitted_model()
    copied = []
    host_copy = reach.host_copy

    def counting(variable):
        copied.append(id(variable))
        return host_copy(variable)

    monkeypatch.setattr(reach, "host_copy", counting)
    if how == "lr_find":
        find(model)
    else:
        in_callback(model)
    assert len(copied) == len(set(copied)) == len(tiny.state(model))


def traced(how):
    """What a test holds while it runs, and after it, in sizes of its model."""
    model, memory = wide_model(), Memory()
    tiny.fit(model, epochs=1)
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]
        if how == "lr_find":
            find(model, callbacks=[memory])
        else:
            finder = LRFinder(stop_factor=None, verbose=0)
            tiny.fit(model, callbacks=[finder, memory])
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    return (np.array([memory.traced[-1], after]) - base) / size_of(model)


@pytest.mark.parametrize("how", ["lr_find", "callback"])
def test_copy_is_of_one_size_with_the_model(how):
    """One times model and optimizer while it runs, and nothing after."""
    # What else allocates in a long process is no copy: the lower of two.
    during, after = np.minimum(traced(how), traced(how))
    assert 0.9 < during < 1.3
    # TensorFlow and JAX take the copy itself for a variable's new memory
    # where its address suits them; then it is the model's, and no second one.
    copies = keras.backend.backend() == "torch"
    assert after < (0.2 if copies else 1.1)


@pytest.mark.parametrize(
    "end",
    often([find, in_callback, *ENDS], [find, in_callback, killed_by_callback]),
)
def test_no_copy_of_the_state_remains(end):
    """Whatever the end, the copy is garbage when the test is over."""
    finder = end(fitted_model())
    gc.collect()
    left = [o for o in gc.get_objects() if type(o) is Snapshot]
    assert left == []
    del finder


@pytest.mark.parametrize("how", ["lr_find", "callback"])
def test_restore_false_keeps_no_copy_at_the_end(how):
    """Nor does the copy that guards against bad arguments."""
    model = tiny.compiled()
    if how == "lr_find":
        finder = find(model, restore=False)
    else:
        finder = LRFinder(stop_factor=None, verbose=0, restore=False)
        tiny.fit(model, callbacks=[finder])
    gc.collect()
    assert [o for o in gc.get_objects() if type(o) is Snapshot] == []
    assert finder.curve is not None


# Outside of the model.


def test_generator_is_consumed_no_further_than_trained():
    """`lr_find` takes one batch a step from a generator, and the rest stays."""
    x, y = tiny.data()
    batches = ((x[i % 5 :][:4], y[i % 5 :][:4]) for i in range(20))
    find(tiny.compiled(), x=batches, y=None, batch_size=None)
    assert len(list(batches)) == 20 - STEPS


def test_log_of_a_range_test_does_not_empty_another(tmp_path):
    """A CSVLogger that would empty the user's log is left out."""
    log = tmp_path / "log.csv"
    log.write_text("epoch,loss\n0,1.5\n")
    find(tiny.compiled(), callbacks=[keras.callbacks.CSVLogger(str(log))])
    with log.open() as file:
        assert list(csv.DictReader(file)) == [{"epoch": "0", "loss": "1.5"}]
