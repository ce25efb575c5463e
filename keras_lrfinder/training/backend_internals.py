"""All that this package knows of TensorFlow's and JAX's private parts.

As `keras_internals.py`: what is not documented, why there is no public way,
in which versions it was seen; and a test of its own for each function, in
`tests/test_backend_internals.py`.
"""

from __future__ import annotations

import collections
import functools
import random
import sys
from typing import Any

import keras

_FUNCTIONS = ("train_function", "test_function", "predict_function")

# --- Variables and containers ------------------------------------------------


def plain_tensorflow(variable: Any) -> Any:
    """Returns the TensorFlow variable beneath a Keras one, if it is just one.

    On several devices it is a container, which only Keras's own methods
    know how to read and write. None then, and on other backends.
    TensorFlow 2.16 to 2.21.
    """
    if keras.backend.backend() != "tensorflow":
        return None
    value = variable.value
    return value if type(value).__name__ == "ResourceVariable" else None


def is_tensorflow_wrapper(value: Any) -> bool:
    """Returns whether something is TensorFlow's proxy of a plain container.

    TensorFlow puts them in place of lists and dictionaries that are
    attributes. They pass for what they wrap, but are emptied and filled by
    their own attributes only. (Its proxy of a tuple is like a tuple.)
    TensorFlow 2.16 to 2.21.
    """
    return type(value).__name__ in _WRAPPERS


def tensorflow_wrapper_children(value: Any) -> list[tuple[str, Any]]:
    """Returns what such a proxy holds: the container, and notes about it."""
    wrapped = [("", v) for v in vars(value).values()]
    if type(value).__name__ != "ListWrapper":
        wrapped.append(("", value.__wrapped__))
    return wrapped


_WRAPPERS = ("ListWrapper", "_DictWrapper")

# --- Compiled functions ------------------------------------------------------


def compiled_functions(model: Any) -> list[Any]:
    """Returns what Keras has had compiled for a model, on TensorFlow and JAX.

    They lie within the functions that Keras keeps as attributes of the
    model. Keras 3.3 to 3.15.
    """
    found: dict[int, Any] = {}
    todo = [vars(model).get(name) for name in _FUNCTIONS]
    while todo:
        function = todo.pop()
        if _is_compiled(function):
            found[id(function)] = function
            continue
        for cell in getattr(function, "__closure__", None) or ():
            if callable(getattr(cell, "cell_contents", None)):
                todo.append(cell.cell_contents)
    return list(found.values())


def _is_compiled(function: Any) -> bool:
    names = ("clear_cache", "experimental_get_tracing_count")
    return any(hasattr(function, name) for name in names)


def times_traced(function: Any) -> int:
    """Returns a number that is higher once a compiled function is traced.

    Of JAX: how often any function of its name was, since this was first
    asked. The size of a function's cache does not tell it, as JAX leaves out
    new entries once those of the whole process are 8,192. TensorFlow 2.16 to
    2.21, JAX 0.4 to 0.10.
    """
    if hasattr(function, "experimental_get_tracing_count"):
        return int(function.experimental_get_tracing_count())
    return _traces_on_jax()[function.__name__]


@functools.cache
def _traces_on_jax() -> collections.Counter[str]:
    import jax

    counter: collections.Counter[str] = collections.Counter()

    def count(event: str, duration: float, **details: Any) -> None:
        if event == "/jax/core/compile/jaxpr_trace_duration":
            counter[details["fun_name"]] += 1

    jax.monitoring.register_event_duration_secs_listener(count)
    return counter


def draws_by_itself(function: Any) -> bool:
    """Returns whether a function of TensorFlow has random ops with a state.

    Such an op (`tf.random.normal`) keeps a state of its own, which nothing
    puts back; `keras.random` and its layers have none. TensorFlow 2.16 to
    2.21.
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


def enter_other_seeds() -> Any:
    """Has TensorFlow draw seeds from another stream, and returns its own.

    An eager op draws a seed there, and for each seed TensorFlow keeps a
    generator. So it is not enough to put the stream back: the same seeds
    would meet generators that were used already. From another stream they
    are not used. TensorFlow 2.16 to 2.21.
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
    """Puts back what `enter_other_seeds` returned. TensorFlow 2.16 to 2.21."""
    if entered is None:
        return
    context = _tensorflow_context()
    context._seed, context._rng, state = entered
    if state is not None:
        context._rng.setstate(state)


def global_tensorflow_generator() -> Any:
    """Returns what `tf.random.get_global_generator` returns, or None.

    Asking by that name would make one. TensorFlow 2.16 to 2.21.
    """
    name = "tensorflow.python.ops.stateful_random_ops"
    return getattr(sys.modules.get(name), "global_generator", None)


def _tensorflow_context() -> Any:
    return sys.modules["tensorflow.python.eager.context"].context()
