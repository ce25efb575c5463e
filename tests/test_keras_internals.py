"""What the package knows of Keras's private parts is still so.

One test for each function of `training/keras_internals.py`, named after it:
where a new version of Keras breaks one, its name says which.
"""

import ast
import functools
import pathlib

import keras
import numpy as np
import pytest
import tiny

import keras_lrfinder
from keras_lrfinder.training import keras_internals as internals

PACKAGE = pathlib.Path(keras_lrfinder.__file__).parent
SEAM = PACKAGE / "training" / "keras_internals.py"
SEAMS = (SEAM, SEAM.with_name("backend_internals.py"))


class During(keras.callbacks.Callback):
    """Calls a function of the callback in one of Keras's hooks."""

    def __init__(self, hook, action):
        super().__init__()
        self.results = []
        setattr(self, hook, lambda *args, **kwargs: self.note(action(self)))

    def note(self, result):
        """Keeps what came out."""
        self.results.append(result)


def during(hook, action, model=None, **kwargs):
    """What `action(callback)` returns in each call of a hook of a fit."""
    callback = During(hook, action)
    model = tiny.compiled() if model is None else model
    tiny.fit(model, 1, [callback], **kwargs)
    return callback.results


def decay():
    """A schedule of Keras's own."""
    return keras.optimizers.schedules.ExponentialDecay(0.5, 10, 0.9)


@pytest.mark.parametrize("rate", [0.5, decay(), lambda: 0.5])
def test_learning_rate_of(rate):
    """It is the object itself: the schedule, the function, the variable."""
    held = internals.learning_rate_of(keras.optimizers.SGD(rate))

    assert held is rate or isinstance(rate, float)
    assert isinstance(rate, float) == hasattr(held, "assign")


@pytest.mark.parametrize("rate", [0.5, decay(), lambda: 0.5])
def test_set_learning_rate(rate):
    """What was read can be put back, whatever took its place."""
    optimizer = keras.optimizers.SGD(rate)
    held = internals.learning_rate_of(optimizer)
    if not hasattr(held, "assign"):
        optimizer.learning_rate = decay()

    internals.set_learning_rate(optimizer, held)

    assert internals.learning_rate_of(optimizer) is held


def test_exchange_learning_rate():
    """The other is used, and the variables stay in their order."""
    optimizer = keras.optimizers.Adam(0.5)
    before = [v.path for v in optimizer.variables]

    held = internals.exchange_learning_rate(optimizer, decay())

    assert float(tiny.host(optimizer.learning_rate)) == pytest.approx(
        float(tiny.host(decay()(0)))
    )
    assert [v.path for v in optimizer.variables] == before
    internals.exchange_learning_rate(optimizer, held)
    assert float(tiny.host(optimizer.learning_rate)) == 0.5


def test_batches_seen():
    """It counts batches where the public count may be one of updates."""
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model = tiny.compiled(optimizer=optimizer)

    tiny.fit(model, epochs=1)

    batches = tiny.ROWS // tiny.BATCH
    assert int(tiny.host(internals.batches_seen(optimizer))) == batches


def test_after_build():
    """Called once, when the slots are there."""
    model, seen = tiny.compiled(optimizer="adam"), []
    optimizer = keras.optimizers.Adam()
    internals.after_build(
        optimizer, lambda: seen.append(len(optimizer.variables))
    )

    optimizer.build(model.trainable_variables)

    assert seen == [len(optimizer.variables)]
    assert "build" not in vars(optimizer)


def test_is_variable():
    """A weight is one, a number and an array are none."""
    weight = tiny.functional().weights[0]
    assert internals.is_variable(weight)
    assert not internals.is_variable(weight.value)
    assert not internals.is_variable(np.zeros(2))


def test_array_within():
    """The very array that holds a weight's numbers."""
    weight = tiny.functional().weights[0]
    assert internals.array_within(weight) is not None
    assert internals.array_within(np.zeros(2)) is None


def test_is_part_of_keras():
    """Also what `compile` makes, which Keras does not export."""
    model = tiny.compiled(metrics=["accuracy"])
    tiny.fit(model, 1)
    made = {
        type(value).__name__
        for value in vars(model).values()
        if internals.is_part_of_keras(value)
    }
    assert {"CompileLoss", "CompileMetrics", "Tracker", "SGD"} <= made


def test_fit_begins():
    """Yes within a fit, no where a user makes the list."""
    model = tiny.compiled()
    callback = During("set_params", internals.fit_begins)

    tiny.fit(model, 1, [callback])
    keras.callbacks.CallbackList([callback], model=model, epochs=1)

    assert callback.results == [True, False]


def test_layers_of():
    """Layers within layers are found, the model itself is not among them."""
    inner = tiny.sequential()
    model = keras.Sequential([inner, keras.layers.Dense(1)])

    found = internals.layers_of(model)

    assert set(map(id, inner.layers)) < set(map(id, found))
    assert model not in found


@pytest.mark.parametrize("eagerly", [False, True])
def test_layers_run_by_python(eagerly, backend):
    """Only what is no layer of Keras's, and where nothing is compiled."""

    class Own(keras.layers.Layer):
        def call(self, x):
            return x

    own = Own()
    net = keras.Sequential([keras.Input((2,)), own, keras.layers.Dense(1)])
    net.compile("sgd", "mse", run_eagerly=eagerly)
    found = internals.layers_run_by_python(net)
    assert found == ([own] if eagerly or backend == "torch" else [])


def test_members_of():
    """The metrics given to `compile` are in one metric of the model's."""
    model = tiny.compiled(metrics=["accuracy"])
    tiny.fit(model, 1)

    names = {
        member.name
        for metric in model.metrics
        for member in internals.members_of(metric)
    }

    assert {"loss", "accuracy"} <= names


@pytest.mark.keras("3.15")
def test_rises():
    """An accuracy rises, a mean need not."""
    assert internals.rises(keras.metrics.SparseCategoricalAccuracy())
    assert not internals.rises(keras.metrics.Mean())


def test_is_overridden():
    """A method of a subclass or of the object itself is the user's own."""

    class Own(keras.Model):
        def train_step(self, data):
            return {}

    plain = tiny.functional()
    assert internals.is_overridden(Own(), ["train_step"])
    assert not internals.is_overridden(plain, ["train_step", "metrics"])
    vars(plain)["train_step"] = lambda data: {}
    assert internals.is_overridden(plain, ["train_step"])


def test_first_epoch(tmp_path):
    """What BackupAndRestore leaves behind decides how many epochs run."""
    model = tiny.compiled()
    backup = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    tiny.fit(model, 2, [backup])
    assert internals.first_epoch(tiny.compiled()) == 0

    again = keras.callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    tiny.fit(model, 3, [again])

    assert internals.first_epoch(model) == 2
    assert len(tiny.fit(model, 3)["loss"]) == 1


@pytest.mark.parametrize("hook", ["set_params", "on_train_begin"])
def test_callback_list(hook):
    """Found from within a hook of `fit`, not from outside."""
    callback = During(hook, internals.callback_list)

    tiny.fit(tiny.compiled(), 1, [callback])

    assert callback in callback.results[0].callbacks
    assert internals.callback_list(callback) is None


def test_wait_for_batch_hooks():
    """A CallbackList that would use threads uses none afterwards."""
    callbacks = keras.callbacks.CallbackList(None)
    callbacks._async_train = True

    internals.wait_for_batch_hooks(callbacks)

    assert callbacks._async_train is False


def test_renewed_train_function():
    """The new function traces the step again, and sees what has changed."""
    model = tiny.unit_gradient_model(keras.optimizers.SGD(decay()))
    x, y = tiny.ones(4)
    model.fit(x, y, verbose=0)
    model.optimizer.learning_rate = keras.optimizers.schedules.ExponentialDecay(
        8.0, 10, 1.0
    )
    before = tiny.host(model.weights[0])
    old = model.train_function

    found = internals.renewed_train_function(model)
    model.fit(x, y, verbose=0)

    assert found is model.train_function is not old
    moved = float((before - tiny.host(model.weights[0])).item())
    assert moved == pytest.approx(8.0, rel=1e-5)


@pytest.mark.backend("jax")
def test_set_steps_apart():
    """A new function obeys its own schedule while an older one is held."""
    model = tiny.unit_gradient_model(keras.optimizers.SGD(decay()))
    x, y = tiny.ones(4)
    model.fit(x, y, verbose=0)
    held = model.train_function
    constant = keras.optimizers.schedules.ExponentialDecay(8.0, 10, 1.0)
    before = float(tiny.host(model.weights[0]).item())

    internals.set_steps_apart(model)
    model.compile(keras.optimizers.SGD(constant), model.loss)
    model.fit(x, y, verbose=0)

    moved = before - float(tiny.host(model.weights[0]).item())
    assert held is not model.train_function
    assert moved == pytest.approx(8.0, rel=1e-5)
    assert not internals.is_overridden(model, ["train_step"])


@pytest.mark.backend("tensorflow")
def test_inputs_of():
    """A model can be built from what its train function is called with."""
    model, seen = tiny.compiled(tiny.deferred()), []
    model.make_train_function()
    own = model.train_function

    def first(iterator):
        seen.append(internals.inputs_of(iterator))
        return own(iterator)

    model.train_function = first
    tiny.fit(model, 1)

    assert tuple(seen[0].shape) == (None, tiny.FEATURES) or tuple(
        seen[0].shape
    ) == (tiny.BATCH, tiny.FEATURES)


@pytest.mark.backend("jax")
def test_jax_state_places():
    """What a step is called with holds each variable's value in its place."""
    model = tiny.compiled(optimizer="adam")
    tiny.fit(model, 1)
    own, seen = model.train_function, []

    def step(state, iterator):
        if not seen:
            seen.append(
                {
                    variable.path: np.array(state[part][index])
                    for variable in model.optimizer.variables
                    for part, index in [places[id(variable)]]
                }
            )
        return own(state, iterator)

    places = internals.jax_state_places(model)
    before = {v.path: tiny.host(v) for v in model.optimizer.variables}
    model.train_function = step
    tiny.fit(model, 1)

    assert set(seen[0]) == set(before)
    for name, value in before.items():
        np.testing.assert_array_equal(seen[0][name], value)


def test_variables_are_current(backend):
    """On JAX only after somebody had a look at the callback's model."""
    model = tiny.compiled()

    def look(callback):
        unseen = internals.variables_are_current(model)
        _ = callback.model
        return unseen, internals.variables_are_current(model)

    seen = during("on_train_batch_end", look, model)

    assert seen == [(backend != "jax", True)] * len(seen)


@pytest.mark.backend("tensorflow")
def test_strategy_scope():
    """Variables are made as those of a model under a strategy."""
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        model = tiny.compiled()

    with internals.strategy_scope(model):
        assert tf.distribute.get_strategy() is strategy
    with internals.strategy_scope(tiny.functional()):
        assert tf.distribute.get_strategy() is not strategy


@pytest.mark.backend("tensorflow")
def test_outside_of_trace():
    """A variable that is made while TensorFlow traces has its value."""
    import tensorflow as tf

    values = []

    @tf.function
    def traced():
        with internals.outside_of_trace():
            values.append(float(tf.constant(2.0)))
        return tf.constant(0.0)

    traced()

    assert values == [2.0]


def test_own_variable():
    """The step of an optimizer with a schedule uses the variable's value."""
    model = tiny.unit_gradient_model(keras.optimizers.SGD(decay()))

    def begin(callback):
        variable = internals.own_variable(callback.model, model.optimizer)
        variable.assign(4.0)
        internals.renewed_train_function(model)

    x, y = tiny.ones(4)
    callback = During("on_train_begin", begin)
    model.fit(x, y, verbose=0, callbacks=[callback])

    assert float(tiny.host(model.weights[0]).item()) == pytest.approx(-4.0)


def test_global_seed_generator():
    """None until something draws without a seed; then it is what moves."""
    keras.utils.set_random_seed(1)
    keras.backend.clear_session()
    assert internals.global_seed_generator() is None

    keras.random.normal((2,))
    generator = internals.global_seed_generator()
    before = tiny.host(generator.state)
    keras.random.normal((2,))

    assert (tiny.host(generator.state) != before).any()


def test_forget_global_seed_generator():
    """The next one has the seed that the first one had."""
    numbers = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        internals.forget_global_seed_generator()
        numbers.append(tiny.host(keras.random.normal((2,))).tolist())
    assert numbers[0] == numbers[1]


def test_counts_of_names():
    """Put back, the next layer gets the name of the last one again."""
    first = keras.layers.Dense(1).name
    counts = dict(internals.counts_of_names())
    names = [keras.layers.Dense(1).name for _ in range(2)]

    internals.counts_of_names().clear()
    internals.counts_of_names().update(counts)

    assert keras.layers.Dense(1).name == names[0] != first


FUNCTIONS = [
    name
    for name, value in vars(internals).items()
    if getattr(value, "__module__", None) == internals.__name__
    and not name.startswith("_")
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_has_a_test_that_names_it(name):
    """Which one fails says what a new version has changed."""
    assert f"test_{name}" in globals()
    assert internals.__dict__[name].__doc__


def private_names(path):
    """The underscore attributes that a file touches, but its own objects'."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            owner = node.value
            if not (isinstance(owner, ast.Name) and owner.id in OWN):
                yield node.attr
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ASKING:
            for argument in node.args[1:2]:
                if isinstance(argument, ast.Constant):
                    yield str(argument.value)


OWN = ("self", "cls")
ASKING = ("getattr", "hasattr", "setattr", "delattr")
# Of named tuples, where Python documents them.
PYTHONS = {"_asdict", "_fields", "_make", "_replace"}


@functools.cache
def ours():
    """The underscore names that the package itself gives its objects."""
    names = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                names.add(node.name)
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and ast.unparse(node.value) == "self"
            ):
                names.add(node.attr)
    return names


@pytest.mark.parametrize(
    "path",
    [p for p in sorted(PACKAGE.rglob("*.py")) if p not in SEAMS],
    ids=lambda p: str(p.relative_to(PACKAGE)),
)
def test_private_names_are_touched_in_the_seams_only(path):
    """Nothing else needs to be read when Keras changes."""
    foreign = {n for n in private_names(path) if n.startswith("_")}
    pythons = {name for name in foreign if name.endswith("__")}

    assert foreign - pythons - PYTHONS - ours() == set()


def test_search_for_private_names_can_fail():
    """In these files there are some."""
    found = {name for seam in SEAMS for name in private_names(seam)}
    assert {"_learning_rate", "_flatten_layers", "_rng"} <= found
    assert not {"_learning_rate", "_flatten_layers", "_rng"} & ours()
