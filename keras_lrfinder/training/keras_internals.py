"""All that this package knows of the private parts of other libraries.

Every function here leans on something that Keras, TensorFlow or JAX do not
document, and says why there is no public way. It was seen in Keras 3.3 to
3.15, TensorFlow 2.16 to 2.21 and JAX 0.4 to 0.10, unless it says otherwise.
`tests/test_keras_internals.py` has a test named after each, to say which one a
new version breaks. Nothing else in the package touches such a name.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import random
import sys
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras

_COMMON = sys.modules["keras.src.backend.common"]

# On a function that stands in for a method: what was there before.
STANDS_FOR = "stands_for"
FUNCTIONS = ("train_function", "test_function", "predict_function")

# --- Optimizers --------------------------------------------------------------


def learning_rate_of(optimizer: Any) -> Any:
    """Returns what holds the learning rate: variable, schedule or function."""
    # The public property returns the current number in all three cases.
    return optimizer._learning_rate


def set_learning_rate(optimizer: Any, held: Any) -> None:
    """Puts it back; the public setter takes no variable."""
    if hasattr(held, "assign"):
        optimizer._learning_rate = held
    else:
        optimizer.learning_rate = held


def mend_lists_of(optimizer: Any) -> None:
    """Lets an optimizer be saved whose learning rate is a variable no more."""
    # Keras takes the variable out of its list, and TensorFlow refuses to save
    # a list from which anything was taken. In a new one each has its own place.
    variables = vars(optimizer).get("_variables")
    if getattr(variables, "_non_append_mutation", False):
        kind, _ = optimizer._tracker.config["variables"]
        new = type(variables)(list(variables))
        vars(optimizer)["_variables"] = new
        optimizer._track_trackable(new, "_variables", overwrite=True)
        optimizer._tracker.config["variables"] = kind, new


def batches_seen(optimizer: Any) -> Any:
    """Returns the variable that schedules are called with; counts batches."""
    # The public `iterations` counts updates, since Keras 3.4. Not as a default:
    # it is computed, of what JAX has taken away in a fit.
    seen = getattr(optimizer, "_iterations", None)
    return optimizer.iterations if seen is None else seen


def slots_of(optimizer: Any) -> list[Any]:
    """Returns the variables that an optimizer's past gradients are in."""
    # Public is only the list of all, with rate, count and averages.
    others = [learning_rate_of(optimizer), batches_seen(optimizer)]
    others += getattr(optimizer, "_model_variables_moving_average", None) or []
    known = {id(variable) for variable in others}
    return [v for v in optimizer.variables if id(v) not in known]


def after_build(optimizer: Any, action: Callable[[], None]) -> None:
    """Has something done as soon as an optimizer has its slots."""
    original, outside = optimizer.build, contextlib.nullcontext
    if keras.backend.backend() == "tensorflow":
        # A slot that is made within a trace has no value yet.
        outside = sys.modules["tensorflow"].init_scope

    def build(variables: Any) -> None:
        object.__delattr__(optimizer, "build")
        with outside():
            original(variables)
            action()

    # Keras's own `__setattr__` tracks what it is given, or refuses it.
    object.__setattr__(optimizer, "build", build)


# --- Models, metrics and variables -------------------------------------------


def layers_of(model: Any) -> list[Any]:
    """Returns a model's layers at any depth; `layers` are the first level."""
    layers = model._flatten_layers(include_self=False, recursive=True)
    return [layer for layer in layers if layer is not model]


def made_by_compile(model: Any) -> list[Any]:
    """Returns what `compile` gave a model to keep its losses and metrics in."""
    # Public are only the metrics, once they are built.
    names = ("_compile_loss", "_compile_metrics", "_loss_tracker")
    return [v for v in (getattr(model, n, None) for n in names) if v]


def rises(metric: Any) -> bool:
    """Returns whether higher is better, of what Keras (3.5 to 3.15) knows."""
    return getattr(metric, "_direction", None) == "up"


def is_overridden(owner: Any, names: Iterable[str]) -> bool:
    """Returns whether any of a model's or callback's methods is the user's."""
    is_model = isinstance(owner, keras.Model)
    base = keras.Model if is_model else keras.callbacks.Callback
    for name in names:
        own = vars(owner).get(name)
        while hasattr(own, STANDS_FOR):
            own = getattr(own, STANDS_FOR)
        of_class = getattr(type(owner), name, None)
        if own or of_class is not getattr(base, name, None):
            return True
    return False


def is_variable(value: Any) -> bool:
    """Returns whether it is a Keras variable; 3.3's are no `keras.Variable`."""
    return isinstance(value, _COMMON.KerasVariable)


def array_within(value: Any) -> Any:
    """Returns what a Keras variable wraps, not converted; else None."""
    return getattr(value, "_value", None) if is_variable(value) else None


def plain_tensorflow(variable: Any) -> Any:
    """Returns the TensorFlow variable beneath a Keras one, or None."""
    # On several devices it is a container, for Keras's own methods.
    value = variable.value if keras.backend.backend() == "tensorflow" else None
    return value if type(value).__name__ == "ResourceVariable" else None


# --- Fits, and what is compiled for them -------------------------------------

# The attributes that Keras's own fit sets on the model itself.
SET_BY_FIT = {*FUNCTIONS, "history", "stop_evaluating", "stop_training"}
SET_BY_FIT |= {"_called", "_eval_epoch_iterator", "_jax_state"}
SET_BY_FIT |= {"_jax_state_synced"}


def plain_fit(model: Any) -> Any:
    """Returns a model's `fit`, past what trackers put into its place.

    They replace that of `keras.Model`, or of another class of Keras's, and
    log each fit. A `fit` of the user's own class stays.
    """
    for kind in type(model).__mro__:
        fit = vars(kind).get("fit")
        of_keras = kind.__module__.startswith("keras.")
        if fit is None or (of_keras and issubclass(kind, keras.Model)):
            continue
        if of_keras:  # Others wrap the one in Keras's base class.
            fit = inspect.unwrap(fit, stop=_is_written_in_keras)
        return fit.__get__(model)
    return model.fit


def _is_written_in_keras(function: Any) -> bool:
    name = getattr(function, "__globals__", {}).get("__name__", "")
    return name.startswith("keras.")  # type: ignore[no-any-return]


def first_epoch(model: Any) -> int:
    """Returns the epoch that `fit` begins with: BackupAndRestore leaves it."""
    return getattr(model, "_initial_epoch", None) or 0


def _frames(frame: Any) -> Iterator[Any]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def is_fitting(model: Any, thread: int) -> bool:
    """Returns whether a `fit` of a model runs in a thread, however deep."""
    return any(
        frame.f_code.co_name == "fit" and frame.f_locals.get("self") is model
        for frame in _frames(sys._current_frames().get(thread))
    )


def callback_list(callback: Any) -> Any:
    """Returns the CallbackList whose method is calling a callback's hook.

    A callback has no reference to it. None: nobody is calling.
    """
    for frame in _frames(sys._getframe(1)):
        owner = frame.f_locals.get("self")
        if isinstance(owner, keras.callbacks.CallbackList) and any(
            each is callback for each in owner.callbacks
        ):
            return owner
    return None


def is_called_by(name: str) -> bool:
    """Returns whether a function of that name calls whoever asks."""
    return sys._getframe(2).f_code.co_name == name


def wait_for_batch_hooks(callbacks: Any) -> None:
    """Has a CallbackList call the hooks of batches between two steps."""
    # Given `callbacks=finder`, not `[finder]`, Keras 3.6 to 3.15 runs them in
    # threads, on JAX and PyTorch, while the next step is under way.
    if callbacks is not None:
        callbacks._async_train = False


def running_epoch() -> Any:
    """Returns what the innermost `fit` or `evaluate` reads, or None."""
    # It is a local variable there.
    frames = _frames(sys._getframe(1))
    found = (frame.f_locals.get("epoch_iterator") for frame in frames)
    return next((epoch for epoch in found if epoch is not None), None)


def close_epoch(epoch: Any) -> None:
    """Lets go of an epoch that was not read to its end: Keras forgets to."""
    # Threads of workers wait for ever, and a dataset holds its cache's lock.
    batches = getattr(epoch, "_epoch_iterator", None)
    if getattr(batches, "gi_frame", None) is not None:
        # What a worker fails at, and the test has not come to, is not its own.
        with contextlib.suppress(Exception):
            epoch.reset()


def inputs_of(iterator: Any) -> Any:
    """Returns (x, y, weights) of a TensorFlow step, as `KerasTensor`s."""

    def symbol(spec: Any) -> Any:
        return spec and keras.KerasTensor(spec.shape, spec.dtype.name)

    batch = keras.utils.unpack_x_y_sample_weight(iterator.element_spec)
    return sys.modules["tensorflow"].nest.map_structure(symbol, batch)


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
    """Returns whether a running fit reads the model's variables again."""
    # On JAX only after somebody has had a look at `Callback.model`.
    return bool(getattr(model, "_jax_state_synced", True))


def compiled_functions(
    model: Any, names: Iterable[str] = FUNCTIONS
) -> list[Any]:
    """Returns what Keras has had compiled, within attributes of a model."""
    found: dict[int, Any] = {}
    todo = [vars(model).get(name) for name in names]
    while todo:
        function = todo.pop()
        function = getattr(function, "inner", function)
        of_jax = hasattr(function, "clear_cache")
        if of_jax or hasattr(function, "experimental_get_tracing_count"):
            found[id(function)] = function
            continue
        for cell in getattr(function, "__closure__", None) or ():
            if callable(getattr(cell, "cell_contents", None)):
                todo.append(cell.cell_contents)
    return list(found.values())


def times_traced(function: Any) -> int:
    """Returns a number that is higher once a compiled function is traced."""
    count = getattr(function, "experimental_get_tracing_count", None)
    return int(function._cache_size() if count is None else count())


def draws_by_itself(function: Any) -> bool:
    """Returns whether a compiled function has random ops with a state.

    Nothing puts back the state of such an op of TensorFlow's
    (`tf.random.normal`); `keras.random` and its layers have none.
    """
    for concrete in getattr(function, "_list_all_concrete_functions", list)():
        graph = concrete.graph.as_graph_def()
        within = (inner.node_def for inner in graph.library.function)
        for node in itertools.chain(graph.node, *within):
            if "seed2" in node.attr:
                return True
    return False


# --- Random states -----------------------------------------------------------


def global_seed_generator() -> Any:
    """Returns what `keras.random` draws from, or None: publicly it is made."""
    return _COMMON.global_state.get_global_attribute("global_seed_generator")


def forget_global_seed_generator() -> None:
    """Has it made anew; the public `clear_session` forgets more."""
    _COMMON.global_state.set_global_attribute("global_seed_generator", None)


def counts_of_names() -> Any:
    """Returns the very dictionary of how often each name was given, if any."""
    return _COMMON.global_state.get_global_attribute("object_name_uids", {})


def draw_other_seeds() -> Callable[[], None]:
    """Has TensorFlow draw seeds from another stream; returns what undoes it.

    An eager op draws a seed there, and for each seed TensorFlow keeps a
    generator. Were the stream only put back, the same seeds would meet
    generators that were used already.
    """
    if keras.backend.backend() != "tensorflow":
        return lambda: None
    context = sys.modules["tensorflow.python.eager.context"].context()
    seed, own = context._seed, getattr(context, "_rng", None)
    if own is not None:
        context._rng = random.Random(repr(own.getstate()))

    def undo() -> None:
        context._seed, context._rng = seed, own

    return undo


def global_tensorflow_generator() -> Any:
    """Returns `tf.random.get_global_generator()`, or None: it makes one."""
    name = "tensorflow.python.ops.stateful_random_ops"
    return getattr(sys.modules.get(name), "global_generator", None)
