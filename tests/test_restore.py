"""After a range test, training goes on as if there had been none.

Of each kind of model, each way into a test and each end of one: all that the
model reaches is as it was, bit for bit, and the next fit is the one that it
would have been, down to the random numbers. Nothing is seeded in between.
"""

import functools
import gc
import itertools
import tracemalloc

import keras
import numpy as np
import pytest
import tiny
from tiny import WAYS
from tiny import changed
from tiny import contents
from tiny import decay
from tiny import draws
from tiny import find
from tiny import in_callback

from keras_lrfinder import LRFinder
from keras_lrfinder import StopReason
from keras_lrfinder import snapshot


def by(optimizer, make=tiny.small, **kwargs):
    """A function that makes a compiled model; `optimizer` makes one too."""
    return lambda: tiny.compiled(make(), optimizer(), **kwargs)


def named(name, rate=0.01, **kwargs):
    """A function that makes a Keras optimizer."""
    kind = getattr(keras.optimizers, name)
    return lambda: kind(decay() if rate is decay else rate, **kwargs)


def fitted(make):
    """`make`, and one epoch of training."""

    def make_and_fit():
        model = make()
        tiny.fit(model, epochs=1)
        return model

    return make_and_fit


def classifier(*parts, kind=keras.Model, **kwargs):
    """A compiled classifier of the layers given and a last one."""
    inputs = outputs = keras.Input((tiny.FEATURES,))
    for layer in parts:
        outputs = layer(outputs)
    last = keras.layers.Dense(tiny.CLASSES, activation="softmax")
    return tiny.compiled(kind(inputs, last(outputs)), **kwargs)


def loss_scaled(rate=0.01):
    """A loss-scaling optimizer."""
    return keras.optimizers.LossScaleOptimizer(
        named("Adam", rate)(), initial_scale=4.0, dynamic_growth_steps=3
    )


def several():
    """An optimizer made of two."""
    parts = {"dense/.*": named("Adam", decay)()}
    parts = keras.optimizers.OptimizerMap(named("SGD")(), parts)
    return keras.optimizers.MultiOptimizer(parts)


def frozen():
    """A model with a layer that does not train."""
    model = tiny.functional()
    model.layers[1].trainable = False
    return model


class Counts(keras.layers.Layer):
    """Counts its calls in Python, lists them, and draws."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.seen = []
        self.noise = np.random.default_rng(0)

    def call(self, x):
        """Calls nothing."""
        self.calls += 1
        self.seen.append(self.calls)
        self.noise.random()
        return x


class Noise(keras.layers.Layer):
    """Draws from Keras's global generator, in training."""

    def call(self, x, training=None):
        """Adds noise."""
        if not training:
            return x
        return x + keras.random.normal(keras.ops.shape(x), stddev=0.1)


class Everything(keras.metrics.Mean):
    """Counts over all epochs: its reset does nothing."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts."""
        super().update_state(1.0)

    def reset_state(self):
        """Keeps the count."""


def raw():
    """A model with raw variables of TensorFlow in every place."""
    import tensorflow as tf

    class Module(tf.Module):
        def __init__(self):
            super().__init__()
            self.box = {"inner": [tf.Variable(0.0)]}

    class Augment(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.nested = {"a": {"b": [tf.Variable(0.0)]}}
            self.pair = (tf.Variable(0.0), 1)
            self.module = Module()
            self.noise = tf.random.Generator.from_seed(5)

        def call(self, x, training=False):
            if not training:
                return x
            self.nested["a"]["b"][0].assign_add(1.0)
            self.pair[0].assign_add(1.0)
            self.module.box["inner"][0].assign_add(1.0)
            return x + 0.1 * self.noise.normal(tf.shape(x))

    class Curriculum(keras.Model):
        def __init__(self, *args):
            super().__init__(*args)
            self.current_step = tf.Variable(0, dtype=tf.int64)

        def train_step(self, data):
            self.current_step.assign_add(1)
            return super().train_step(data)

    return classifier(Augment(), kind=Curriculum)


def noisy(**kwargs):
    """Noise of TensorFlow's in a layer and in the training step."""
    import tensorflow as tf

    class Random(keras.layers.Layer):
        def call(self, x):
            return x + tf.random.normal(tf.shape(x))

    class Noisy(keras.Model):
        def train_step(self, data):
            x, y = data
            return super().train_step((x + tf.random.uniform((4, 1)), y))

    return classifier(Random(), kind=Noisy, **kwargs)


def wrapped():
    """A model with a PyTorch module that keeps state of every kind."""
    import torch

    class Odd(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm1d(tiny.FEATURES)
            self.spectral = torch.nn.utils.spectral_norm(
                torch.nn.Linear(tiny.FEATURES, tiny.FEATURES)
            )
            self.register_buffer("hidden", torch.zeros(2), persistent=False)
            self.tensor = torch.zeros(2)
            self.noise = torch.Generator().manual_seed(1)
            self.calls = 0

        def forward(self, x):
            if self.training:
                self.hidden = self.hidden + 1
                self.tensor += 1
                self.calls += 1
                x = x + 0.1 * torch.rand(x.shape, generator=self.noise)
            return self.spectral(self.norm(x))

    return classifier(
        keras.layers.TorchModuleWrapper(
            Odd(), output_shape=(None, tiny.FEATURES)
        )
    )


ALL = ("tensorflow", "jax", "torch")
KINDS = {
    "plain": (by(named("Adam")), ALL),
    "metric": (by(named("Adam"), tiny.functional, metrics=["accuracy"]), ALL),
    "subclass": (by(named("SGD"), tiny.subclass_built), ALL),
    "schedule": (by(named("Adam", decay)), ALL),
    "callable": (by(lambda: keras.optimizers.SGD(lambda: 0.01)), ALL),
    "fitted": (fitted(by(named("Adam"))), ALL),
    "fitted-schedule": (fitted(by(named("Adam", decay))), ALL),
    "deferred": (by(named("Adam"), tiny.deferred), ALL),
    "deferred-subclass": (by(named("SGD", decay), tiny.Subclass), ALL),
    "momentum": (by(named("SGD", momentum=0.9, nesterov=True)), ALL),
    "adagrad": (by(named("Adagrad")), ALL),
    "weight-decay": (by(named("AdamW", decay, weight_decay=0.1)), ALL),
    "ema": (by(named("Adam", use_ema=True, ema_momentum=0.8)), ALL),
    "ema-overwriting": (
        by(named("SGD", decay, use_ema=True, ema_overwrite_frequency=4)),
        ALL,
    ),
    "accumulation": (by(named("Adam", gradient_accumulation_steps=3)), ALL),
    "loss-scale": (by(loss_scaled), ALL),
    "loss-scale-schedule": (by(lambda: loss_scaled(decay)), ALL),
    "several": (by(several), ALL),
    "frozen": (by(named("Adam"), frozen), ALL),
    "never-reset": (lambda: classifier(metrics=[Everything()]), ALL),
    "python": (fitted(lambda: classifier(Counts())), ALL),
    "noise": (lambda: classifier(Noise()), ("tensorflow", "torch")),
    "raw": (raw, ("tensorflow",)),
    "noisy": (noisy, ("tensorflow",)),
    "noisy-fitted": (fitted(noisy), ("tensorflow",)),
    "noisy-eager": (lambda: noisy(run_eagerly=True), ("tensorflow",)),
    "wrapped": (wrapped, ("torch",)),
    "wrapped-fitted": (fitted(wrapped), ("torch",)),
}


def normal(way, model):
    """To its end, in company that draws random numbers."""
    way(model, callbacks=[tiny.Draws()])


def exception(way, model):
    """By an exception of another callback."""
    with pytest.raises(RuntimeError, match="on purpose"):
        way(model, callbacks=[tiny.Raises(4)])


def ctrl_c(way, model):
    """By the user."""
    with pytest.raises(KeyboardInterrupt):
        way(
            model, callbacks=[tiny.Draws(), tiny.Raises(3, KeyboardInterrupt())]
        )


def refused(way, model):
    """By this package: what is monitored is not logged."""
    wrong = {"monitor": "losss"}
    if way is tiny.in_snapshot:
        wrong = {"verify": "yes"}
    with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
        way(model, **wrong)


ENDS = {
    "normal": normal,
    "exception": exception,
    "ctrl-c": ctrl_c,
    "refused": refused,
}


def cases():
    """Each way and end for the plain models; of the others some."""
    kinds = {name: places for name, (_, places) in KINDS.items()}
    thorough = []
    for number, (kind, places) in enumerate(kinds.items()):
        for turn, (way, end) in enumerate(itertools.product(WAYS, ENDS)):
            marks = [] if places == ALL else [pytest.mark.backend(*places)]
            of_some = (turn - number) % 12 in (0, 5) or end == "normal"
            if kind not in ("plain", "fitted-schedule") and not of_some:
                marks.append(pytest.mark.thorough)
            thorough.append(pytest.param(way, kind, end, marks=marks))
    return thorough


def run(kind, before, draw=True):
    """All that a fit leaves after `before`, and what is drawn next."""
    tiny.start()
    model = KINDS[kind][0]()
    before(model)
    after = draws() if draw else None
    history = tiny.fit(model)
    names = keras.layers.Dense(1).name, keras.optimizers.Adam().name
    return tiny.state(model), history, after, draws(), names


@functools.cache
def plain_run(kind, draw=True):
    """The same without a range test."""
    return run(kind, lambda model: None, draw)


@pytest.mark.parametrize(("way", "kind", "end"), cases())
def test_training_goes_on_as_if_untested(way, kind, end):
    """State, History and random numbers, whatever the model, way and end."""

    def before(model):
        state = contents(model)
        variables = [*model.variables, *model.optimizer.variables]
        numbers = [tiny.host(v).tobytes() for v in variables]
        ENDS[end](WAYS[way], model)
        assert [tiny.host(v).tobytes() for v in variables] == numbers
        # A fit of the user's sets attributes, such as its History.
        assert way == "callback" or changed(state, contents(model)) == []

    if kind == "several" and not hasattr(keras.optimizers, "MultiOptimizer"):
        pytest.skip("Keras has none")
    # A first fit draws before its callbacks can put anything back.
    draw = way != "callback"
    plain, tested = plain_run(kind, draw), run(kind, before, draw)
    assert tiny.differences(plain[0], tested[0]) == []
    assert tested[1:] == plain[1:]


@pytest.mark.parametrize("name", tiny.OPTIMIZERS)
def test_every_optimizer_trains_on_as_if_untested(name):
    """Its slots are those of one that has never trained."""

    def trained(before):
        tiny.start()
        model = tiny.compiled(None, named(name)())
        if name == "ScheduleFreeAdamW":
            # Built lazily, inside the first step, Keras's own starts from
            # other slots on TensorFlow than built before.
            model.optimizer.build(model.trainable_variables)
        before(model)
        return tiny.fit(model), tiny.state(model)

    (history, plain), (after, tested) = trained(lambda m: None), trained(find)
    assert tiny.differences(plain, tested) == []
    assert history == after


def twice(model):
    """Two range tests in a row."""
    find(model)
    in_callback(model)


def diverges(model):
    """A range test whose loss and weights end as NaN."""
    finder = find(model, start_lr=1.0, end_lr=1e38, stop_factor=2.0)
    reasons = (StopReason.DIVERGED, StopReason.NOT_FINITE)
    assert finder.curve.stop_reason in reasons


def probes(model):
    """Ramp and probes."""
    find(
        model,
        probe=True,
        x=np.tile(tiny.data()[0], (20, 1)),
        steps=20,
        y=np.tile(tiny.data()[1], 20),
    )


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


def forgotten(model):
    """A finder whose fit was cut off; its next one has to tidy up."""
    finder = LRFinder(stop_factor=None, verbose=0)
    killed = [finder, tiny.Raises(4, KeyboardInterrupt())]
    with pytest.raises(KeyboardInterrupt):
        tiny.fit(model, callbacks=killed)
    with pytest.warns(UserWarning, match="interrupted"):
        tiny.fit(model, callbacks=[finder])


def kills(model):
    """Killed at every step in turn."""
    for step in range(tiny.STEPS):
        with pytest.raises(RuntimeError, match="on purpose"):
            find(model, callbacks=[tiny.Raises(step)])


@pytest.mark.parametrize("kind", ["plain", "fitted-schedule"])
@pytest.mark.parametrize(
    "before", [twice, diverges, probes, killed_by_data, forgotten, kills]
)
def test_other_ends_leave_no_trace_either(before, kind):
    """Nothing adds up, and nothing is left, however the range test ends."""
    plain, tested = plain_run(kind, False), run(kind, before, False)
    assert tiny.differences(plain[0], tested[0]) == []
    assert tested[1:] == plain[1:]


class RaisesIn(keras.callbacks.Callback):
    """Raises in the first call of one hook."""

    def __init__(self, hook):
        super().__init__()

        def fail(*args, **kwargs):
            raise RuntimeError(f"killed on purpose in {hook}")

        setattr(self, hook, fail)


HOOKS = ["on_train_begin", "on_epoch_begin", "on_train_batch_begin"]
HOOKS += ["on_train_batch_end", "on_epoch_end", "on_train_end"]


@functools.cache
def shared():
    """One trained model for all that must not change it."""
    return KINDS["fitted-schedule"][0]()


@pytest.mark.parametrize("way", [find, in_callback])
def test_model_comes_back_whichever_hook_is_killed(way):
    """An exception in any hook of another callback leaves no trace."""
    model = shared()
    state = contents(model)
    for hook in HOOKS:
        with pytest.raises(RuntimeError, match="on purpose"):
            way(model, callbacks=[RaisesIn(hook)])
        found = changed(state, contents(model))
        # What a fit of the user's sets by itself.
        of_fit = (".history", "_torch_params")
        assert [
            path for path in found if not any(n in path for n in of_fit)
        ] == [], hook


# Refused, with nothing changed.

REFUSED = [
    ({"start_lr": 0.0}, "`start_lr` must"),
    ({"start_lr": 1.0, "end_lr": 0.1}, "must be below `end_lr`"),
    ({"steps": 1}, "`steps` must"),
    ({"ramp": "cosine"}, "`ramp` must"),
    ({"stop_factor": 1.0}, "`stop_factor` must"),
    ({"rule": "best"}, "`rule` must"),
    ({"optimizer": "adam"}, "`optimizer` must"),
    ({"optimizer": 0.1}, "`optimizer` must"),
    ({"optimizer": []}, "`optimizer` must name at least one"),
    ({"monitor": "losss"}, "`monitor` must"),
    ({"batchsize": 4}, "batchsize"),
    ({"max_lr": 1.0}, "max_lr"),
    ({"x": None}, "`x` must be the data"),
    ({"probe": "no"}, "`probe` must be True or False"),
    ({"restore": "x"}, "`restore` must be True or False"),
    ({"verbose": "2"}, "`verbose` must be True or False"),
    ({"plot_dir": 3}, "`plot_dir` must be the path"),
    ({"callbacks": [3]}, "`callbacks` must be Keras callbacks"),
    ({"validation": 3}, "`validation` must"),
    ({"validation": ([1.0],)}, "Received: a tuple of 1"),
]


@pytest.mark.parametrize(("wrong", "words"), REFUSED)
def test_bad_argument_is_refused_and_changes_nothing(wrong, words):
    """A clear error names it; model and generators are what they were."""
    model = shared()
    tiny.start()
    expected = draws()
    tiny.start()
    state = contents(model)
    with pytest.raises((TypeError, ValueError), match=words):
        find(model, **wrong)
    assert changed(state, contents(model)) == []
    assert draws() == expected


@pytest.mark.parametrize("way", [find, in_callback])
def test_model_without_anything_to_train_is_refused(way):
    """At once, and in these words."""
    model = tiny.compiled()
    for layer in model.layers:
        layer.trainable = False
    losses = tiny.Losses()
    with pytest.raises(ValueError, match="must have trainable weights"):
        way(tiny.compiled(model), callbacks=[losses])
    assert losses.values == []


# Kept on purpose.


@pytest.mark.parametrize("killed", [False, True], ids=["", "killed"])
@pytest.mark.parametrize("rate", [0.01, decay])
@pytest.mark.parametrize("way", [find, in_callback])
def test_restore_false_keeps_the_weights_alone(rate, way, killed):
    """The trained weights stay; the own learning rate comes back."""
    model = tiny.compiled(None, named("Adam", rate)())
    weights, held = tiny.host(model.weights[0]), model.optimizer._learning_rate
    number = None if rate is decay else tiny.host(held)
    if killed:
        with pytest.raises(RuntimeError, match="on purpose"):
            way(model, restore=False, callbacks=[tiny.Raises(4)])
    else:
        way(model, restore=False)
    assert (tiny.host(model.weights[0]) != weights).any()
    assert model.optimizer._learning_rate is held
    assert number is None or tiny.host(held) == number
    assert not {"fit", "evaluate", "save"} & set(vars(model))


# Memory.


class Memory(keras.callbacks.Callback):
    """What Python and NumPy have allocated at the end of the last batch."""

    def on_train_batch_end(self, batch, logs=None):
        self.traced = tracemalloc.get_traced_memory()[0]


@pytest.fixture
def wide():
    """Makes trained models of a few megabytes; says how many bytes they have.

    What Python and NumPy allocate is counted.
    """

    def make():
        dense = keras.layers.Dense
        model = classifier(dense(600), dense(600), optimizer="adam")
        tiny.fit(model, epochs=1)
        return model, sum(v.nbytes for v in tiny.state(model).values())

    tracemalloc.start()
    yield make
    tracemalloc.stop()


@pytest.mark.parametrize("way", WAYS)
def test_copy_is_of_one_size_with_the_model(way, wide):
    """One times model and optimizer."""
    memory, used = Memory(), []
    # What else allocates in a long process is no copy: the lower of two.
    for _ in range(2):
        model, size = wide()
        base = tracemalloc.get_traced_memory()[0]
        WAYS[way](model, callbacks=[memory])
        used.append((memory.traced - base) / size)
    assert 0.9 < min(used) < 1.3


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", WAYS)
def test_no_copy_of_the_state_remains(way, end, wide):
    """Whatever the end: nothing adds up."""
    model, size = wide()
    base = tracemalloc.get_traced_memory()[0]
    for _ in range(3):
        ENDS[end](WAYS[way], model)
    gc.collect()
    # TensorFlow and JAX take a copy itself for a variable's new memory where
    # its address suits them; then it is the model's, and no second one.
    most = 0.2 if keras.backend.backend() == "torch" else 1.1
    assert tracemalloc.get_traced_memory()[0] - base < most * size


def test_empty_slots_need_no_memory(wide):
    """A fresh optimizer's slots are held as one number each."""
    model, _ = wide()
    model = tiny.compiled(model, "adam")
    model.optimizer.build(model.trainable_variables)
    base = tracemalloc.get_traced_memory()[0]
    with snapshot(model):
        held = tracemalloc.get_traced_memory()[0] - base
    assert held < 1.2 * sum(w.nbytes for w in model.get_weights())
