"""Tiny models and data, and how to compare what training made of them."""

import functools
import itertools
import random

import keras
import numpy as np

ROWS, FEATURES, CLASSES = 24, 4, 3
BATCH = 4  # six batches an epoch; a ragged one would be traced once more

# Every optimizer that Keras exports but those that hold others.
WRAPPERS = {"Optimizer", "LossScaleOptimizer", "MultiOptimizer"}
OPTIMIZERS = sorted(
    name
    for name, kind in vars(keras.optimizers).items()
    if isinstance(kind, type)
    and issubclass(kind, keras.optimizers.Optimizer)
    and name not in WRAPPERS
)


def decay():
    """A schedule that moves at every step."""
    return keras.optimizers.schedules.ExponentialDecay(0.02, 3, 0.5)


def data(rows=ROWS):
    """Inputs and class numbers that a small net can learn, in float32."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(rows, FEATURES)).astype("float32")
    y = (x @ rng.normal(size=(FEATURES, CLASSES))).argmax(axis=1)
    return x, y.astype("int32")


def last():
    """The last layer of a classifier."""
    return keras.layers.Dense(CLASSES, activation="softmax")


def layers():
    """Layers with every kind of state: weights, statistics, random seeds."""
    return [
        keras.layers.Dense(5, activation="relu"),
        keras.layers.BatchNormalization(),
        keras.layers.Dropout(0.3),
        last(),
    ]


def chained(*layers, kind=keras.Model):
    """A functional model of one layer after the other, built by its making."""
    inputs = outputs = keras.Input((FEATURES,))
    for layer in layers:
        outputs = layer(outputs)
    return kind(inputs, outputs)


def functional():
    """A model of `layers`."""
    return chained(*layers())


def small():
    """The least model with weights and a random seed, which knows its input."""
    return keras.Sequential(
        [keras.Input((FEATURES,)), keras.layers.Dropout(0.3), last()]
    )


def deferred():
    """A Sequential model that gets its weights from its first batch."""
    return keras.Sequential(layers())


class Subclass(keras.Model):
    """A subclassed model, without weights until its first batch."""

    def __init__(self):
        super().__init__()
        self.parts = layers()

    def call(self, x):
        """Calls one layer after the other."""
        for part in self.parts:
            x = part(x)
        return x


def subclass_built():
    """A subclassed model that has been called once."""
    model = Subclass()
    model(np.zeros((1, FEATURES), "float32"))
    return model


def compiled(model=None, optimizer="sgd", **kwargs):
    """Compiles `model` (default: small) with a loss, and without a metric.

    On TensorFlow a test takes as long as its traces, and these as long as
    there are layers, slots and metrics.
    """
    model = small() if model is None else model
    kwargs = {"loss": "sparse_categorical_crossentropy", **kwargs}
    model.compile(optimizer, **kwargs)
    return model


@functools.cache
def _made(make):
    model = make()
    return model, model.get_weights()


def as_new(make):
    """`make()` as new, traced once for all tests that leave it as it was."""
    model, weights = _made(make)
    model.set_weights(weights)
    return model


def unit_gradient_model(optimizer=0.01, **compile_kwargs):
    """One weight with gradient 1: plain SGD moves it by minus the LR.

    `optimizer` may be a learning rate, for plain SGD.
    """
    dense = keras.layers.Dense(
        1, use_bias=False, kernel_initializer="zeros", dtype="float32"
    )
    model = keras.Sequential([keras.Input((1,)), dense])
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        optimizer = keras.optimizers.SGD(optimizer)
    model.compile(
        optimizer,
        lambda y_true, y_pred: keras.ops.mean(y_pred),
        **compile_kwargs,
    )
    return model


def ones(rows):
    """Data for `unit_gradient_model`."""
    return np.ones((rows, 1), "float32"), np.zeros((rows, 1), "float32")


def fit(model, epochs=2, callbacks=(), **kwargs):
    """Fits on `data()`, shuffled; returns the History's numbers."""
    x, y = data()
    kwargs = {"x": x, "y": y, "batch_size": BATCH, **kwargs}
    callbacks = list(callbacks)
    run = model.fit(**kwargs, epochs=epochs, callbacks=callbacks, verbose=0)
    return run.history


def apply(optimizer, variables, loss_of):
    """A step of one's own, on TensorFlow or PyTorch; returns its loss."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss = loss_of()
        optimizer.apply(tape.gradient(loss, variables), variables)
        return loss
    import torch

    for variable in variables:
        variable.value.grad = None
    loss = loss_of()
    loss.backward()
    with torch.no_grad():
        optimizer.apply([v.value.grad for v in variables], variables)
    return loss.detach()


def host(value):
    """A variable or tensor as a NumPy array that nobody else changes."""
    return np.array(keras.ops.convert_to_numpy(value), copy=True)


def state(model):
    """Every number that training changes in a model, by where it is."""
    optimizer = getattr(model, "optimizer", None)
    kinds = {
        "weights": model.variables,
        "optimizer": optimizer.variables if optimizer is not None else [],
        "metrics": model.metrics_variables,
    }
    return {
        f"{kind}[{i}] {v.path}": host(v)
        for kind, variables in kinds.items()
        for i, v in enumerate(variables)
    }


def differences(before, after):
    """The names of what is not bit for bit the same in two `state`s."""
    # A variable made outside of TensorFlow's step lacks its scope's name.
    if len(before) != len(after):
        return [f"{len(before)} entries became {len(after)}"]
    return [
        f"{name}: {a} became {b}"
        for (name, a), b in zip(before.items(), after.values())
        if a.dtype != b.dtype or a.tobytes() != b.tobytes()
    ]


def contents(model):
    """What a model reaches by attributes and items, by its path.

    Numbers are there as their bits, anything else as the object itself.
    """
    found, seen, todo = {}, set(), [("", model)]
    while todo:
        path, value = todo.pop()
        found[path] = bits = _bits(value)
        if id(value) in seen or bits is not value:
            continue
        seen.add(id(value))
        inner = []
        if isinstance(value, dict):
            inner = [(f"[{k!r}]", v) for k, v in list(value.items())]
        elif isinstance(value, (list, tuple)):
            inner = [(f"[{i}]", v) for i, v in enumerate(value)]
        elif any(c.__module__.startswith(_OPEN) for c in type(value).__mro__):
            inner = [(f".{k}", v) for k, v in vars(value).items()]
        todo += [(path + step, v) for step, v in inner]
    # The compiled step may wait for the next fit.
    return {k: v for k, v in found.items() if "train_function" not in k}


# Modules whose objects are looked into; classes of a test derive from them.
_OPEN = ("keras.", "torch.nn.modules.")
_OPEN += ("tensorflow.python.module", "tensorflow.python.ops.stateful_random")


def _bits(value):
    """The bytes of a number, or of a generator's state; else the value."""
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state).encode()
    if type(value).__name__ == "Generator" and hasattr(value, "get_state"):
        value = value.get_state()  # of PyTorch
    is_variable = hasattr(value, "assign") or isinstance(value, np.ndarray)
    if is_variable or keras.ops.is_tensor(value):
        trains = bool(getattr(value, "trainable", False))
        return host(value).tobytes() + bytes([trains])
    return value


def changed(before, after):
    """The paths of `contents` where there is something else now."""
    plain = (bytes, str, bool, int, float)
    return [
        path
        for path in sorted({*before, *after})
        if (a := before.get(path)) is not (b := after.get(path))
        and not (isinstance(a, plain) and type(a) is type(b) and a == b)
    ]


class Losses(keras.callbacks.Callback):
    """Collects the loss of each batch."""

    def __init__(self):
        super().__init__()
        self.values = []

    def on_train_batch_end(self, batch, logs=None):
        """Keeps the value."""
        self.values.append(logs["loss"])


class Weights(keras.callbacks.Callback):
    """Keeps the trainable weights before a fit, and after each batch."""

    def on_train_begin(self, logs=None):
        """Begins anew."""
        self.seen = []
        self.on_train_batch_end(0)

    def on_train_batch_end(self, batch, logs=None):
        """Copies them."""
        weights = self.model.trainable_variables
        self.seen.append(np.concatenate([host(w).ravel() for w in weights]))

    @property
    def moved(self):
        """Whether each batch has moved them."""
        pairs = itertools.pairwise(self.seen)
        return [bool((a != b).any()) for a, b in pairs]


class Raises(keras.callbacks.Callback):
    """Raises an exception at the end of batch number `at`, from 0."""

    def __init__(self, at, error=None):
        super().__init__()
        self.at = at
        self.error = error or RuntimeError("killed on purpose")
        self.batches = 0

    def on_train_batch_end(self, batch, logs=None):
        """Raises in its time."""
        if self.batches == self.at:
            raise self.error
        self.batches += 1


# The three ways into a test, each short, on the data that `fit` trains on.

STEPS = 8


def find(model, rows=ROWS, **kwargs):
    """A range test by `lr_find`, without probes unless asked for."""
    # Here, as many a test needs no more than the models.
    from keras_lrfinder import lr_find

    x, y = data(rows)
    kwargs = {"x": x, "y": y, "batch_size": BATCH, **kwargs}
    kwargs = {"steps": STEPS, "stop_factor": None, "probe": False, **kwargs}
    return lr_find(model, **{"verbose": 0, **kwargs})


def in_callback(model, callbacks=(), **kwargs):
    """The same in a fit of the user's; put back by hand if it is cut off."""
    from keras_lrfinder import LRFinder

    finder = LRFinder(stop_factor=None, **{"verbose": 0, **kwargs})
    try:
        fit(model, callbacks=[finder, *callbacks])
    finally:
        finder.restore()
    return finder


def in_snapshot(model, callbacks=(), **kwargs):
    """A plain fit within a snapshot."""
    from keras_lrfinder import snapshot

    with snapshot(model, **kwargs):
        fit(model, callbacks=callbacks)


WAYS = {"lr_find": find, "callback": in_callback, "snapshot": in_snapshot}


class Draws(keras.callbacks.Callback):
    """Draws from every global generator at each batch."""

    def on_train_batch_end(self, batch, logs=None):
        """Draws."""
        draws()


def start():
    """Seeds every generator, and makes those that are made when asked for."""
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(3)
    keras.random.uniform((1,))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        generator = tf.random.Generator.from_seed(3)
        tf.random.set_global_generator(generator)


def draws():
    """One number from each global generator, Python's last as well."""
    found = [random.random(), float(np.random.random())]
    found += host(keras.random.uniform((2,))).tolist()
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        found += tf.random.uniform((2,)).numpy().tolist()
        generator = tf.random.get_global_generator()
        found += generator.uniform((2,)).numpy().tolist()
    if keras.backend.backend() == "torch":
        import torch

        found += torch.rand(2).tolist()
    return [*found, random.random()]
