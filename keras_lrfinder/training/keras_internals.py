"""All that this package knows of Keras's private parts.

Every function here leans on something that Keras does not document, says why
there is no public way, and names the versions in which it was seen. Each has
a test of its own in `tests/test_keras_internals.py`: when a new version
breaks one, this file and that test say which part. Nothing else in the
package touches a private name of another library, but `backend_internals.py`
those of TensorFlow and JAX.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras

# --- Optimizers --------------------------------------------------------------


def learning_rate_of(optimizer: Any) -> Any:
    """Returns what holds the learning rate: variable, schedule or function.

    The public property returns the current number in all three cases, so
    that a schedule object could not be put back. Keras 3.3 to 3.15.
    """
    return optimizer._learning_rate


def set_learning_rate(optimizer: Any, held: Any) -> None:
    """Puts an object back that `learning_rate_of` returned.

    The public setter takes schedules and functions, and no variable.
    Keras 3.3 to 3.15.
    """
    if hasattr(held, "assign"):
        optimizer._learning_rate = held
    else:
        optimizer.learning_rate = held


def exchange_learning_rate(optimizer: Any, other: Any) -> Any:
    """Puts something in the learning rate's place, and returns what was there.

    Past Keras's `__setattr__`: the variable stays among those of the
    optimizer, in its place, and checkpoints are as before. Keras 3.3 to 3.15.
    """
    held = vars(optimizer)["_learning_rate"]
    vars(optimizer)["_learning_rate"] = other
    return held


def batches_seen(optimizer: Any) -> Any:
    """Returns the variable that counts every batch.

    It is what schedules are called with. The public `iterations` counts
    updates where gradients are accumulated, since Keras 3.4; in 3.3 the
    two are the same.
    """
    return getattr(optimizer, "_iterations", optimizer.iterations)


def after_build(optimizer: Any, action: Callable[[], None]) -> None:
    """Has something done as soon as an optimizer has its slots.

    A method of its own needs to go past Keras's `__setattr__`, which tracks
    what it is given, and refuses it once an optimizer is built. And a slot
    made within a trace has no value yet. Keras 3.3 to 3.15.
    """
    original = optimizer.build

    def build(variables: Any) -> None:
        object.__delattr__(optimizer, "build")
        with outside_of_trace():
            original(variables)
            action()

    object.__setattr__(optimizer, "build", build)


# --- Models and metrics ------------------------------------------------------


def layers_of(model: Any) -> list[Any]:
    """Returns every layer that a model is made of, at any depth.

    The public `layers` are those of the first level. Keras 3.3 to 3.15.
    """
    layers = model._flatten_layers(include_self=False, recursive=True)
    return [layer for layer in layers if layer is not model]


def layers_run_by_python(model: Any) -> list[Any]:
    """Returns the layers and modules whose Python code runs at every step.

    Those of Keras's own keep nothing in Python that a step changes, and are
    left out; wrapped modules of PyTorch are not. Keras 3.3 to 3.15.
    """
    if keras.backend.backend() != "torch" and not model.run_eagerly:
        return []
    layers = layers_of(model)
    modules = [getattr(layer, "module", None) for layer in layers]
    own = [v for v in layers if not type(v).__module__.startswith("keras.")]
    return own + [module for module in modules if module is not None]


def members_of(metric: Any) -> list[Any]:
    """Returns the metrics that a metric of the model is made of.

    Keras keeps what `compile` was given in one metric that has the others
    in a list. Keras 3.3 to 3.15.
    """
    members = getattr(metric, "metrics", None)
    if not isinstance(members, list):
        return [metric]
    return [member for member in members if hasattr(member, "name")]


def rises(metric: Any) -> bool:
    """Returns whether Keras knows a metric to be better the higher it is.

    Public is only the string "auto" of callbacks, which ask the same.
    Keras 3.5 to 3.15; older ones know of no metric.
    """
    return getattr(metric, "_direction", None) == "up"


def is_overridden(owner: Any, names: Iterable[str]) -> bool:
    """Returns whether any of some methods is not what Keras made it.

    Args:
        owner: A Keras model or callback.
        names: Strings, methods of `keras.Model` or `keras.callbacks.Callback`
            that Keras calls, documented or not.
    """
    base = keras.callbacks.Callback
    if isinstance(owner, keras.Model):
        base = keras.Model
    return any(
        _own_method(owner, name)
        or getattr(type(owner), name, None) is not getattr(base, name, None)
        for name in names
    )


def _own_method(owner: Any, name: str) -> Any:
    method = vars(owner).get(name)
    while hasattr(method, _STANDS_FOR):
        method = getattr(method, _STANDS_FOR)
    return method


def is_variable(value: Any) -> bool:
    """Returns whether something is a Keras variable.

    In Keras 3.3 `keras.Variable` is a class of which no variable is an
    instance. Keras 3.3 to 3.15.
    """
    return any(
        kind.__name__ in ("Variable", "KerasVariable")
        and kind.__module__.startswith("keras.")
        for kind in type(value).__mro__
    )


def array_within(value: Any) -> Any:
    """Returns the backend's array that a Keras variable wraps, or None.

    Not by the property, which may convert it. Keras 3.3 to 3.15.
    """
    return getattr(value, "_value", None) if is_variable(value) else None


def is_part_of_keras(value: Any) -> bool:
    """Returns whether something is made of attributes that training sets.

    Keras 3.3 to 3.15; what `compile` makes, and the lists of variables, are
    of classes that it does not export.
    """
    if isinstance(value, _KERAS_OBJECTS):
        return True
    kind = type(value)
    return kind.__module__.startswith("keras.src.") and kind.__name__ in (
        "CompileLoss",
        "CompileMetrics",
        "MetricsList",
        "OptimizerMap",
        "Tracker",
    )


_KERAS_OBJECTS = (
    keras.layers.Layer,
    keras.losses.Loss,
    keras.metrics.Metric,
    keras.optimizers.Optimizer,
    keras.optimizers.schedules.LearningRateSchedule,
    keras.random.SeedGenerator,
)


# --- The running fit ---------------------------------------------------------


def first_epoch(model: Any) -> int:
    """Returns the epoch with which a `fit` begins, whatever it is told.

    BackupAndRestore leaves it there for good. Keras 3.3 to 3.15.
    """
    return getattr(model, "_initial_epoch", None) or 0


def callback_list(callback: Any) -> Any:
    """Returns the CallbackList of the fit that is calling a callback's hook.

    A callback has no reference to it. The list's own method is what calls
    the hook, so it is in a frame not far up. None: nobody is calling.
    Keras 3.3 to 3.15.
    """
    frame = sys._getframe(1)
    for _ in range(12):
        if frame is None:
            return None
        owner = frame.f_locals.get("self")
        if isinstance(owner, keras.callbacks.CallbackList) and any(
            each is callback for each in owner.callbacks
        ):
            return owner
        frame = frame.f_back  # type: ignore[assignment]
    return None


def fit_begins(callback: Any) -> bool:
    """Returns whether a `fit` is making the list that calls `set_params`.

    A user's own CallbackList may have been made long before. Keras 3.3 to
    3.15.
    """
    frame = sys._getframe(1)
    for _ in range(12):
        if frame is None:
            return False
        owner = frame.f_locals.get("self")
        if frame.f_code.co_name == "fit" and isinstance(owner, keras.Model):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def wait_for_batch_hooks(callbacks: Any) -> None:
    """Has a CallbackList call the hooks of batches between two steps.

    With `callbacks=finder` instead of `callbacks=[finder]` Keras on JAX and
    PyTorch believes that nobody waits for them and runs them in a thread
    pool, while the next step is already under way. Keras 3.6 to 3.15.
    """
    if getattr(callbacks, "_async_train", False):
        callbacks._async_train = False


def renewed_train_function(model: Any) -> Any:
    """Makes a model trace its training step anew, and returns it.

    On JAX with a step that equals no other: see `set_steps_apart`.
    """
    model.train_function = None
    own = dict(vars(model))
    if keras.backend.backend() == "jax":
        vars(model)["train_step"] = _apart(model, "train_step")
    try:
        model.make_train_function()
    finally:
        if keras.backend.backend() == "jax":
            del vars(model)["train_step"]
            if "train_step" in own:
                vars(model)["train_step"] = own["train_step"]
    return model.train_function


def set_steps_apart(model: Any) -> None:
    """Has JAX compile the steps of functions that are made from now on.

    jax.jit finds an earlier compilation by the equality of functions, and
    two bound `train_step`s of one model are equal. As long as somebody holds
    a function compiled before, a new one would silently train with that
    one's schedule. To undo it, take the attributes away. JAX 0.4 to 0.10.
    """
    if keras.backend.backend() == "jax":
        for name in ("train_step", "test_step", "predict_step"):
            vars(model)[name] = _apart(model, name)


def _apart(model: Any, name: str) -> Callable[..., Any]:
    step = getattr(model, name)

    def apart(*args: Any, **kwargs: Any) -> Any:
        return step(*args, **kwargs)

    vars(apart)[_STANDS_FOR] = vars(model).get(name)
    return apart


_STANDS_FOR = "stands_for"


def inputs_of(iterator: Any) -> Any:
    """Returns what a model is called with in a fit on TensorFlow.

    Args:
        iterator: What Keras calls the train function with.

    Returns:
        (Nested) `keras.KerasTensor`s. Keras 3.3 to 3.15.
    """
    import tensorflow as tf

    x = keras.utils.unpack_x_y_sample_weight(iterator.element_spec)[0]
    return tf.nest.map_structure(
        lambda spec: keras.KerasTensor(spec.shape, spec.dtype.name), x
    )


# --- JAX ---------------------------------------------------------------------


def jax_state_places(model: Any) -> dict[int, tuple[int, int]]:
    """Returns where in the state of a running fit its variables' values are.

    The train function gets (trainable, non-trainable, optimizer's, metrics')
    values, each in the order of the model's variables. Keras 3.3 to 3.15.

    Returns:
        Dictionary from the `id` of a variable of the optimizer or a metric
        to (part, index).
    """
    parts = ((2, model.optimizer.variables), (3, model.metrics_variables))
    return {
        id(variable): (part, index)
        for part, variables in parts
        for index, variable in enumerate(variables)
    }


def variables_are_current(model: Any) -> bool:
    """Returns whether a running fit reads the model's variables again.

    On JAX it does so only after somebody has had a look at `Callback.model`.
    Keras 3.3 to 3.15.
    """
    return bool(getattr(model, "_jax_state_synced", True))


# --- TensorFlow --------------------------------------------------------------


@contextlib.contextmanager
def strategy_scope(model: Any) -> Iterator[None]:
    """Makes variables where the model's own ones are, on all devices."""
    strategy = getattr(model, "distribute_strategy", None)
    with strategy.scope() if strategy is not None else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def outside_of_trace() -> Iterator[None]:
    """Lets variables that are made while TensorFlow traces have values."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    with tf.init_scope():
        yield


def own_variable(model: Any, optimizer: Any) -> Any:
    """Gives an optimizer that holds a schedule a variable for it instead.

    On JAX it becomes an attribute, so that it joins `optimizer.variables`: a
    variable outside of them is a constant to a compiled step. Elsewhere it
    must not: on TensorFlow, untracking a variable leaves an optimizer that
    can never be saved again. Keras 3.3 to 3.15.
    """
    with strategy_scope(model):
        variable = keras.Variable(
            0.0, trainable=False, dtype="float32", name="learning_rate"
        )
    if keras.backend.backend() == "jax":
        optimizer._learning_rate = variable
    else:
        optimizer.learning_rate = _Held(variable)
    return variable


class _Held(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that returns the value of a variable at every step."""

    def __init__(self, variable: Any) -> None:
        self._variable = variable

    def __call__(self, step: Any) -> Any:
        return self._variable

    def get_config(self) -> dict[str, Any]:
        return {"learning_rate": float(self._variable)}


# --- Random states -----------------------------------------------------------


def global_seed_generator() -> Any:
    """Returns the generator behind `keras.random.*` without a seed, or None.

    There is no public way to ask whether it exists; asking for it would make
    one. Keras 3.3 to 3.15.
    """
    state = sys.modules.get("keras.src.backend.common.global_state")
    if state is None:
        return None
    return state.get_global_attribute("global_seed_generator")


def forget_global_seed_generator() -> None:
    """Has the next `keras.random.*` without a seed make one anew.

    Nothing public takes it away again but `clear_session`, which forgets
    more. Keras 3.3 to 3.15.
    """
    state = sys.modules["keras.src.backend.common.global_state"]
    state.set_global_attribute("global_seed_generator", None)


def counts_of_names() -> dict[str, int] | None:
    """Returns how often each name was given to an object without one.

    It is the very dictionary, or None where there is none yet. The next
    layer is called after it, and nothing public tells. Keras 3.3 to 3.15.
    """
    state = sys.modules["keras.src.backend.common.global_state"]
    found: dict[str, int] | None = state.get_global_attribute(
        "object_name_uids"
    )
    return found
