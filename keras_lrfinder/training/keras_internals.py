"""All that this package knows of the private parts of other libraries.

Every function here leans on something that Keras, TensorFlow or JAX do not
document, and says why there is no public way. It was seen in Keras 3.3 to
3.15, TensorFlow 2.16 to 2.21 and JAX 0.4 to 0.10, unless it says otherwise.
Each has a test of its own in `tests/test_keras_internals.py`: when a new
version breaks one, this file and that test say which part. Nothing else in the
package touches a private name of another library.
"""

from __future__ import annotations

import contextlib
import random
import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from types import FrameType
from typing import Any

import keras

# On a function that stands in for a method: what was there before.
STANDS_FOR = "stands_for"
FUNCTIONS = ("train_function", "test_function", "predict_function")

# --- Optimizers --------------------------------------------------------------


def learning_rate_of(optimizer: Any) -> Any:
    """Returns what holds the learning rate: variable, schedule or function.

    The public property returns the current number in all three cases.
    """
    return optimizer._learning_rate


def set_learning_rate(optimizer: Any, held: Any) -> None:
    """Puts it back; the public setter takes no variable."""
    if hasattr(held, "assign"):
        optimizer._learning_rate = held
    else:
        optimizer.learning_rate = held


def mend_lists_of(optimizer: Any) -> None:
    """Lets an optimizer be saved whose learning rate is a variable no more.

    Keras takes the variable out of its list, and TensorFlow refuses to save a
    list from which anything was taken. In a new one each has its own place.
    """
    variables = vars(optimizer).get("_variables")
    if getattr(variables, "_non_append_mutation", False):
        kind, _ = optimizer._tracker.config["variables"]
        new = type(variables)(list(variables))
        vars(optimizer)["_variables"] = new
        optimizer._track_trackable(new, "_variables", overwrite=True)
        optimizer._tracker.config["variables"] = kind, new


def batches_seen(optimizer: Any) -> Any:
    """Returns the variable that schedules are called with.

    It counts batches. The public `iterations` counts updates where gradients
    are accumulated, since Keras 3.4; in 3.3 the two are the same.
    """
    # Not as a default: it is computed, of what JAX has taken away in a fit.
    seen = getattr(optimizer, "_iterations", None)
    return optimizer.iterations if seen is None else seen


def slots_of(optimizer: Any) -> list[Any]:
    """Returns the variables that an optimizer's past gradients are in.

    Public is only the list of all: with the learning rate, the count of
    updates and the average of the weights.
    """
    others = [learning_rate_of(optimizer), batches_seen(optimizer)]
    others += getattr(optimizer, "_model_variables_moving_average", None) or []
    known = {id(variable) for variable in others}
    return [v for v in optimizer.variables if id(v) not in known]


def after_build(optimizer: Any, action: Callable[[], None]) -> None:
    """Has something done as soon as an optimizer has its slots.

    Past Keras's `__setattr__`, which tracks what it is given, and refuses it
    once an optimizer is built. A slot made within a trace has no value yet.
    """
    original = optimizer.build

    def build(variables: Any) -> None:
        object.__delattr__(optimizer, "build")
        with outside_of_trace():
            original(variables)
            action()

    object.__setattr__(optimizer, "build", build)


# --- Models, metrics and variables -------------------------------------------


def layers_of(model: Any) -> list[Any]:
    """Returns a model's layers at any depth; `layers` are the first level."""
    layers = model._flatten_layers(include_self=False, recursive=True)
    return [layer for layer in layers if layer is not model]


def made_by_compile(model: Any) -> list[Any]:
    """Returns what `compile` gave a model to keep its losses and metrics in.

    Public are only the metrics, once they are built.
    """
    names = ("_compile_loss", "_compile_metrics", "_loss_tracker")
    return [v for v in (getattr(model, n, None) for n in names) if v]


def rises(metric: Any) -> bool:
    """Returns whether Keras knows a metric to be better the higher it is.

    Only "auto" of callbacks asks it. Keras 3.5 to 3.15; older ones know none.
    """
    return getattr(metric, "_direction", None) == "up"


def is_overridden(owner: Any, names: Iterable[str]) -> bool:
    """Returns whether any of a model's or callback's methods is the user's."""
    is_model = isinstance(owner, keras.Model)
    base = keras.Model if is_model else keras.callbacks.Callback
    return any(
        _own_method(owner, name)
        or getattr(type(owner), name, None) is not getattr(base, name, None)
        for name in names
    )


def _own_method(owner: Any, name: str) -> Any:
    method = vars(owner).get(name)
    while hasattr(method, STANDS_FOR):
        method = getattr(method, STANDS_FOR)
    return method


def is_variable(value: Any) -> bool:
    """Returns whether something is a Keras variable.

    In Keras 3.3 none is an instance of `keras.Variable`.
    """
    return any(
        kind.__name__ in ("Variable", "KerasVariable")
        and kind.__module__.startswith("keras.")
        for kind in type(value).__mro__
    )


def array_within(value: Any) -> Any:
    """Returns what a Keras variable wraps, not converted; else None."""
    return getattr(value, "_value", None) if is_variable(value) else None


def plain_tensorflow(variable: Any) -> Any:
    """Returns the TensorFlow variable beneath a Keras one, if it is just one.

    On several devices it is a container, for Keras's own methods. Else None.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    value = variable.value
    return value if type(value).__name__ == "ResourceVariable" else None


# --- The running fit ---------------------------------------------------------

# The attributes that Keras's own fit sets on the model itself.
SET_BY_FIT = {*FUNCTIONS, "history", "stop_evaluating", "stop_training"}
SET_BY_FIT |= {"_called", "_eval_epoch_iterator"}
SET_BY_FIT |= {"_jax_state", "_jax_state_synced"}


def plain_fit(model: Any) -> Callable[..., Any]:
    """Returns a model's `fit`, past what trackers put into its place.

    They replace that of `keras.Model`, or of another class of Keras's, and
    log each fit. A `fit` of the user's own class stays.
    """
    for kind in type(model).__mro__:
        fit = vars(kind).get("fit")
        patched = issubclass(kind, keras.Model) and _is_of_keras(kind)
        if fit is not None and not patched:
            # Others wrap the one in Keras's base class.
            while _is_of_keras(kind) and not _is_written_in_keras(fit):
                fit = fit.__wrapped__
            return fit.__get__(model)  # type: ignore[no-any-return]
    return model.fit  # type: ignore[no-any-return]


def _is_written_in_keras(function: Any) -> bool:
    """Returns whether it is, or wraps nothing that could be."""
    name = getattr(function, "__globals__", {}).get("__name__", "")
    ours = name.partition(".")[0] == "keras"
    return ours or not hasattr(function, "__wrapped__")


def _is_of_keras(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "keras"


def first_epoch(model: Any) -> int:
    """Returns the epoch with which a `fit` begins, whatever it is told.

    BackupAndRestore leaves it there for good.
    """
    return getattr(model, "_initial_epoch", None) or 0


def is_fitting(model: Any, thread: int) -> bool:
    """Returns whether a `fit` of a model runs in a thread, however deep."""
    return any(
        frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model
        for frame in _frames(sys._current_frames().get(thread))
    )


def callback_list(callback: Any) -> Any:
    """Returns the CallbackList of the fit that is calling a callback's hook.

    A callback has no reference to it. The list's own method is what calls
    the hook, so it is in a frame not far up. None: nobody is calling.
    """
    for frame in _frames(sys._getframe(1), 12):
        owner = frame.f_locals.get("self")
        if isinstance(owner, keras.callbacks.CallbackList) and any(
            each is callback for each in owner.callbacks
        ):
            return owner
    return None


def is_called_by(name: str) -> bool:
    """Returns whether a function of that name calls whoever asks."""
    return sys._getframe(2).f_code.co_name == name


def _frames(
    frame: FrameType | None, most: int = 1_000_000
) -> Iterator[FrameType]:
    while frame is not None and most:
        yield frame
        frame, most = frame.f_back, most - 1


def wait_for_batch_hooks(callbacks: Any) -> None:
    """Has a CallbackList call the hooks of batches between two steps.

    With `callbacks=finder` instead of `callbacks=[finder]` Keras on JAX and
    PyTorch believes that nobody waits for them and runs them in a thread
    pool, while the next step is already under way. Keras 3.6 to 3.15.
    """
    if getattr(callbacks, "_async_train", False):
        callbacks._async_train = False


def running_epoch() -> Any:
    """Returns what the `fit` or `evaluate` that runs reads its batches from.

    It is a local variable there. None: nothing of the kind runs.
    """
    found = (
        f.f_locals.get("epoch_iterator") for f in _frames(sys._getframe(1))
    )
    return next((epoch for epoch in found if epoch is not None), None)


def close_epoch(epoch: Any) -> None:
    """Lets go of an epoch that was not read to its end.

    Keras forgets to: threads of workers wait for ever, and a dataset holds
    the lock of its cache until a reference cycle is collected.
    """
    batches = getattr(epoch, "_epoch_iterator", None)
    if getattr(batches, "gi_frame", None) is not None:
        # What a worker fails at, and the test has not come to, is not its own.
        with contextlib.suppress(Exception):
            epoch.reset()


def inputs_of(iterator: Any) -> Any:
    """Returns (x, y, weights) as `KerasTensor`s, on TensorFlow.

    The iterator is what Keras calls the train function with.
    """
    import tensorflow as tf

    def symbol(spec: Any) -> Any:
        return spec and keras.KerasTensor(spec.shape, spec.dtype.name)

    batch = keras.utils.unpack_x_y_sample_weight(iterator.element_spec)
    return tf.nest.map_structure(symbol, batch)


def build_metrics(model: Any, iterator: Any) -> None:
    """Makes the metrics: a step that does so TensorFlow traces twice over."""
    metrics = getattr(model, "_compile_metrics", None)
    own = is_overridden(model, ("train_step", "compute_metrics"))
    if metrics is None or metrics.built or own:
        return
    with contextlib.suppress(Exception):  # what cannot be is left to the step
        one = model.outputs[0] if len(model.outputs) == 1 else model.output
        metrics.build(inputs_of(iterator)[1], one)


def variables_are_current(model: Any) -> bool:
    """Returns whether a running fit reads the model's variables again.

    On JAX only after somebody has had a look at `Callback.model`.
    """
    return bool(getattr(model, "_jax_state_synced", True))


# --- Compiled functions ------------------------------------------------------


@contextlib.contextmanager
def outside_of_trace() -> Iterator[None]:
    """Lets variables that are made while TensorFlow traces have values."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    with tf.init_scope():
        yield


def compiled_functions(
    model: Any, names: Sequence[str] = FUNCTIONS
) -> list[Any]:
    """Returns what Keras has had compiled for a model, on TensorFlow and JAX.

    It lies within the functions that are attributes of the model.
    """
    found: dict[int, Any] = {}
    todo = [vars(model).get(name) for name in names]
    while todo:
        function = todo.pop()
        function = getattr(function, "inner", function)
        # JAX's or TensorFlow's.
        if hasattr(function, "clear_cache") or hasattr(
            function, "experimental_get_tracing_count"
        ):
            found[id(function)] = function
            continue
        for cell in getattr(function, "__closure__", None) or ():
            if callable(getattr(cell, "cell_contents", None)):
                todo.append(cell.cell_contents)
    return list(found.values())


def times_traced(function: Any) -> int:
    """Returns a number that is higher once a compiled function is traced."""
    if hasattr(function, "experimental_get_tracing_count"):
        return int(function.experimental_get_tracing_count())
    return int(function._cache_size())


def draws_by_itself(function: Any) -> bool:
    """Returns whether a function of TensorFlow has random ops with a state.

    Such an op (`tf.random.normal`) keeps a state of its own, which nothing
    puts back; `keras.random` and its layers have none.
    """
    if not hasattr(function, "_list_all_concrete_functions"):
        return False
    for concrete in function._list_all_concrete_functions():
        graph = concrete.graph.as_graph_def()
        nodes = [
            *graph.node,
            *(n for f in graph.library.function for n in f.node_def),
        ]
        if any("seed2" in node.attr for node in nodes):
            return True
    return False


# --- Random states -----------------------------------------------------------


def global_seed_generator() -> Any:
    """Returns the generator behind `keras.random.*` without a seed, or None.

    The public way would make one.
    """
    return _global_state("global_seed_generator")


def forget_global_seed_generator() -> None:
    """Has the next `keras.random.*` without a seed make one anew.

    Of what is public only `clear_session` does, which forgets more.
    """
    state = sys.modules["keras.src.backend.common.global_state"]
    state.set_global_attribute("global_seed_generator", None)


def counts_of_names() -> dict[str, int] | None:
    """Returns how often each name was given to an object without one.

    The very dictionary, or None where there is none yet.
    """
    return _global_state("object_name_uids")  # type: ignore[no-any-return]


def _global_state(name: str) -> Any:
    state = sys.modules["keras.src.backend.common.global_state"]
    return state.get_global_attribute(name)


def enter_other_seeds() -> Any:
    """Has TensorFlow draw seeds from another stream, and returns its own.

    An eager op draws a seed there, and for each seed TensorFlow keeps a
    generator. So it is not enough to put the stream back: the same seeds
    would meet generators that were used already. From another stream they
    are not used.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    context = _tensorflow_context()
    own = getattr(context, "_rng", None)
    state = None if own is None else own.getstate()
    if own is not None:
        context._rng = random.Random(repr(state))
    return context._seed, own, state


def leave_other_seeds(entered: Any) -> None:
    """Puts back what `enter_other_seeds` returned."""
    if entered is None:
        return
    context = _tensorflow_context()
    context._seed, context._rng, state = entered
    if state is not None:
        context._rng.setstate(state)


def global_tensorflow_generator() -> Any:
    """Returns `tf.random.get_global_generator()`, or None: it makes one."""
    name = "tensorflow.python.ops.stateful_random_ops"
    return getattr(sys.modules.get(name), "global_generator", None)


def _tensorflow_context() -> Any:
    return sys.modules["tensorflow.python.eager.context"].context()
