"""Every check of an argument: what is a number, an integer, a flag.

All follow one form, "`name` must be …. Received: name=…". A number is
whatever `float` makes one of without guessing: Python's and NumPy's scalars,
arrays and tensors of no dimension, fractions and decimals, a `Suggestion`;
no text and no truth value.
"""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Collection
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

__all__ = [
    "check_flag",
    "check_type",
    "fraction",
    "integer",
    "learning_rates",
    "number",
    "one_of",
    "positive",
    "text",
    "vector",
]


def number(name: str, value: Any, finite: bool = True) -> float:
    """Returns a number as a float.

    Args:
        name: String, what the argument is called.
        value: What was given.
        finite: Whether to refuse NaN and infinities.

    Raises:
        TypeError: `value` is no number.
        ValueError: It is not finite, or too large for a float.

    Example:
    >>> number("rate", np.float32(0.5))
    0.5
    """
    if not _is_number(value):
        raise _wrong_type(name, value, "a number")
    try:
        result = float(value)
    except OverflowError as error:
        raise ValueError(
            f"`{name}` must fit into a float. "
            f"Received: {name}={reprlib.repr(value)}"
        ) from error
    if finite and not math.isfinite(result):
        raise ValueError(f"`{name}` must be finite. {_received(name, value)}")
    return result


def positive(name: str, value: Any) -> float:
    """Returns a finite number above 0 as a float."""
    result = number(name, value)
    if not result > 0:
        raise ValueError(f"`{name}` must be positive. {_received(name, value)}")
    return result


def fraction(name: str, value: Any) -> float:
    """Returns a number in [0, 1) as a float."""
    result = number(name, value)
    if not 0 <= result < 1:
        raise ValueError(
            f"`{name}` must be at least 0 and below 1. {_received(name, value)}"
        )
    return result


def integer(
    name: str, value: Any, least: int | None = None, most: int | None = None
) -> int:
    """Returns an integer, of NumPy's too, as Python's; 5.0 is none.

    Args:
        name: String, what the argument is called.
        value: What was given.
        least: The smallest that will do; None: any.
        most: The largest, with `least`; None: any.
    """
    try:
        if not _is_number(value):
            raise TypeError
        result = operator.index(value)
    except TypeError:
        raise _wrong_type(name, value, "an integer") from None
    too_small = least is not None and result < least
    if too_small or (most is not None and result > most):
        need = f"between {least} and {most}" if most else f"at least {least}"
        raise ValueError(f"`{name}` must be {need}. {_received(name, value)}")
    return result


def text(name: str, value: Any) -> str:
    """Returns a string."""
    check_type(name, value, str, "a string")
    return str(value)


def one_of(name: str, value: Any, choices: Collection[str]) -> str:
    """Returns a string that is one of the choices."""
    if text(name, value) not in choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(map(repr, choices))}. "
            f"Received: {name}={value!r}"
        )
    return str(value)


def check_flag(name: str, value: object) -> None:
    """Raises a `TypeError` where `value` is no truth value and no integer.

    A string would be true whatever it says.
    """
    if not isinstance(_item(value), Integral):
        raise TypeError(
            f"`{name}` must be True or False, or 1 or 0. "
            f"Received: {name}={value!r}"
        )


def check_type(name: str, value: object, kind: type, what: str) -> None:
    """Raises a `TypeError` where `value` is not a `kind`, called `what`."""
    if not isinstance(value, kind):
        raise _wrong_type(name, value, what)


def vector(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Returns a read-only float64 copy of an array of one dimension.

    To float64, NumPy makes numbers of text, of None and of truth values
    too; these are refused.
    """
    try:
        array = np.asarray(values)
        # "V" is what NumPy calls bfloat16.
        if array.dtype.kind not in "iufOV" or (
            array.dtype.kind == "O" and not all(map(_is_number, array.flat))
        ):
            raise TypeError(f"array of {array.dtype}")
        result = np.array(array, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(
            f"`{name}` must be numbers. Received: {name}={reprlib.repr(values)}"
        ) from error
    if result.ndim != 1:
        raise ValueError(
            f"`{name}` must have one dimension. Received: shape={result.shape}"
        )
    result.setflags(write=False)
    return result


def learning_rates(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Returns a `vector` whose entries are positive and finite."""
    result = vector(name, values)
    if not np.all(np.isfinite(result) & (result > 0)):
        raise ValueError(
            f"`{name}` must be positive and finite. "
            f"Received: {name}={reprlib.repr(values)}"
        )
    return result


def _is_number(value: Any) -> bool:
    item = _item(value)
    has_number = hasattr(item, "__float__") or hasattr(item, "__index__")
    return has_number and not isinstance(item, (bool, str, bytes, type))


def _item(value: Any) -> Any:
    """Returns a scalar as Python's; None for more than a scalar."""
    if len(getattr(value, "shape", ())):
        return None
    return value.item() if hasattr(value, "item") else value


def _received(name: str, value: Any) -> str:
    return f"Received: {name}={value}"


def _wrong_type(name: str, value: Any, what: str) -> TypeError:
    return TypeError(
        f"`{name}` must be {what}. Received: {name}={reprlib.repr(value)} "
        f"(of type {type(value).__name__})"
    )
