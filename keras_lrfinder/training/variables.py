"""Quick access to single Keras variables, from inside a running fit."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training.backend_internals import plain_tensorflow

_MOST_EXPECTED = 10_000


def assigner(
    variable: Any, expected: Sequence[float] = ()
) -> Callable[[float], Any]:
    """Returns a function that assigns a number to a scalar variable.

    Args:
        variable: `keras.Variable` of shape `()`.
        expected: Numbers that will be assigned.
    """
    if keras.backend.backend() == "torch":
        return lambda number: _fill(variable, number)
    value = plain_tensorflow(variable)
    if value is None:
        return variable.assign  # type: ignore[no-any-return]
    return _tensorflow_assigner(value, expected)


def emptier(variables: list[Any]) -> Callable[[], None]:
    """Returns a function that sets scalar variables to zero.

    Args:
        variables: `keras.Variable`s of shape `()`.
    """
    assigns = [assigner(variable, (0.0,)) for variable in variables]

    def assign_zeros() -> None:
        for assign in assigns:
            assign(0.0)

    return assign_zeros


def reader(variable: Any) -> Callable[[], float]:
    """Returns a function that reads a scalar variable as a float.

    Args:
        variable: `keras.Variable` of shape `()`.
    """
    value = plain_tensorflow(variable)
    if value is None:
        return lambda: float(keras.ops.convert_to_numpy(variable))
    import tensorflow as tf

    handle, dtype = value.handle, value.dtype
    return lambda: float(
        tf.raw_ops.ReadVariableOp(resource=handle, dtype=dtype)
    )


def host_copy(variable: Any) -> Any:
    """Returns the value of a variable as a NumPy array of its own."""
    # Of a variable itself Keras makes a copy of a copy on TensorFlow and
    # PyTorch: one variable more at the memory's peak. On several devices its
    # value is not one array, and Keras knows which to take.
    if keras.backend.backend() == "tensorflow":
        value = plain_tensorflow(variable)
        if value is not None:
            return np.asarray(value.numpy())
        array = keras.ops.convert_to_numpy(variable)
    else:
        array = keras.ops.convert_to_numpy(variable.value)
    # It may be a view, which changes as training goes on.
    return array if array.flags.owndata else array.copy()


def _tensorflow_assigner(
    value: Any, expected: Sequence[float]
) -> Callable[[float], None]:
    # On TensorFlow Keras's assign takes some 40 µs (scopes, shape checks):
    # with three a step more than a small model's step may cost. The public
    # op beneath takes 8. A variable on several devices needs Keras's way.
    import tensorflow as tf

    handle, dtype = value.handle, value.dtype
    assign, constant = tf.raw_ops.AssignVariableOp, tf.constant
    # Making a tensor right after a step takes longer than assigning it: it
    # waits for the step. All at once beforehand they take next to nothing.
    numbers = list(dict.fromkeys(expected))[:_MOST_EXPECTED]
    tensors = tf.unstack(constant(numbers, dtype)) if numbers else []
    ready = dict(zip(numbers, tensors))

    def assign_number(number: float) -> None:
        tensor = ready.get(number)
        if tensor is None:
            tensor = constant(number, dtype)
        assign(resource=handle, value=tensor)

    return assign_number


def _fill(variable: Any, number: float) -> None:
    # Keras's assign on PyTorch makes a tensor of the number first. On a GPU
    # that is a copy from the host, which waits for the step; a fill does not.
    variable.value.data.fill_(number)
