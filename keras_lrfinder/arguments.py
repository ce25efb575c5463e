"""Every check of an argument: its kind, its bounds, its name.

All follow one form, "`name` must be …. Received: name=…". A number is
whatever `float` makes one of without guessing: Python's and NumPy's scalars,
arrays and tensors of no dimension, fractions and decimals, a `Suggestion`;
no text and no truth value. A name that nobody knows is answered with the one
that may be meant.
"""

from __future__ import annotations

import difflib
import inspect
import math
import operator
import os
import reprlib
import tempfile
from collections.abc import Collection
from collections.abc import Iterable
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

# What other learning rate finders, and papers, call it.
_ELSEWHERE = {
    "min_lr": "start_lr",
    "lr_min": "start_lr",
    "init_value": "start_lr",
    "max_lr": "end_lr",
    "lr_max": "end_lr",
    "final_value": "end_lr",
    "num_iter": "steps",
    "num_it": "steps",
    "num_training": "steps",
    "n_iter": "steps",
    "iterations": "steps",
    "num_steps": "steps",
    "mode": "ramp",
    "step_mode": "ramp",
    "early_stop_threshold": "stop_factor",
    "stop_div": "stop_factor",
    "diverge_th": "stop_factor",
    "suggest_funcs": "rule",
    "metric": "monitor",
    "loss_name": "monitor",
    "val_loader": "validation",
    "train_loader": "x",
    "dataset": "x",
    "data": "x",
    "labels": "y",
    "targets": "y",
    "show_plot": "plot_dir",
    "save_dir": "plot_dir",
}
_NOT_HERE = {
    "learning_rate": "the test finds it: start_lr and end_lr bound it",
    "lr": "the test finds it: start_lr and end_lr bound it",
    "batchsize": "batch_size",
    "val_data": "validation_data, or validation",
    "budget": "trainings says how many whole trainings are tried",
}


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
        raise _wrong_type(name, "a number", value)
    try:
        result = float(value)
    except OverflowError:
        raise _wrong(name, "small enough for a float", value) from None
    if finite and not math.isfinite(result):
        raise _wrong(name, "finite", value)
    return result


def positive(name: str, value: Any) -> float:
    """Returns a finite number above 0 as a float."""
    result = number(name, value)
    if not result > 0:
        raise _wrong(name, "positive", value)
    return result


def fraction(name: str, value: Any) -> float:
    """Returns a number in [0, 1) as a float."""
    result = number(name, value)
    if not 0 <= result < 1:
        raise _wrong(name, "at least 0 and below 1", value)
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
        result = operator.index(value) if _is_number(value) else None
    except TypeError:
        result = None
    if result is None:
        raise _wrong_type(name, "an integer", value)
    too_small = least is not None and result < least
    if too_small or (most is not None and result > most):
        need = f"between {least} and {most}" if most else f"at least {least}"
        raise _wrong(name, need, value)
    return result


def text(name: str, value: Any) -> str:
    """Returns a string."""
    check_type(name, value, str, "a string")
    return str(value)


def one_of(name: str, value: Any, choices: Collection[str]) -> str:
    """Returns a string that is one of the choices."""
    if text(name, value) not in choices:
        raise _wrong(name, f"one of {', '.join(map(repr, choices))}", value)
    return str(value)


def check_flag(name: str, value: object) -> None:
    """Raises a `TypeError` where `value` is no truth value and no integer.

    A string would be true whatever it says.
    """
    if not isinstance(_item(value), Integral):
        raise _wrong_type(name, "True or False, or 1 or 0", value)


def check_type(name: str, value: object, kind: type, what: str) -> None:
    """Raises a `TypeError` where `value` is not a `kind`, called `what`."""
    if not isinstance(value, kind):
        raise _wrong_type(name, what, value)


def directory_path(name: str, value: Any) -> str | None:
    """Returns the path of a directory, with `~` resolved, or None."""
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise _wrong_type(name, "the path of a directory, or None", value)
    return os.path.expanduser(os.fspath(value))


def check_writable(name: str, directory: str | None) -> None:
    """Makes a directory, if any; `ValueError` where it cannot be written."""
    if directory is None:
        return
    try:
        os.makedirs(directory, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise ValueError(
            f"`{name}` must be a directory that can be written. "
            f"Received: {name}={directory!r} ({error})"
        ) from error


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
        raise _wrong_type(name, "numbers", values) from error
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
        raise _wrong(name, "positive and finite", values)
    return result


def meant(name: str, known: Iterable[str]) -> str:
    """Returns a hint for a name that nobody knows, or an empty string.

    Example:
    >>> meant("num_iter", ["steps"])
    ' (did you mean steps?)'
    >>> meant("stpes", ["steps"])
    ' (did you mean steps?)'
    """
    close = difflib.get_close_matches(name, list(known), 1, 0.75)
    found = _ELSEWHERE.get(name) or _NOT_HERE.get(name) or "".join(close)
    if not found:
        return ""
    return f" ({found})" if " " in found else f" (did you mean {found}?)"


def arguments_of(function: Any) -> set[str]:
    """Returns the names of a function's arguments, but `self` and `**`."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name for p in parameters if p.kind != p.VAR_KEYWORD} - {"self"}


def takes_anything(function: Any) -> bool:
    """Returns whether a function has a `**`, so its arguments say nothing."""
    parameters = inspect.signature(function).parameters.values()
    return any(p.kind == p.VAR_KEYWORD for p in parameters)


def check_known(unknown: Iterable[str], *owners: Any) -> None:
    """Raises a `TypeError` for arguments that functions do not have."""
    known = set().union(*map(arguments_of, owners))
    if named := ", ".join(name + meant(name, known) for name in unknown):
        raise TypeError(f"{owners[0].__name__}() has no argument {named}")


def _is_number(value: Any) -> bool:
    item = _item(value)
    has_number = hasattr(item, "__float__") or hasattr(item, "__index__")
    return has_number and not isinstance(item, (bool, str, bytes, type))


def _item(value: Any) -> Any:
    """Returns a scalar as Python's; None for more than a scalar."""
    if len(getattr(value, "shape", ())):
        return None
    return value.item() if hasattr(value, "item") else value


def _wrong(name: str, need: str, value: Any) -> ValueError:
    came = reprlib.repr(_item(value) if _is_number(value) else value)
    return ValueError(f"`{name}` must be {need}. Received: {name}={came}")


def _wrong_type(name: str, need: str, value: Any) -> TypeError:
    return TypeError(
        f"`{name}` must be {need}. Received: {name}={reprlib.repr(value)} "
        f"(of type {type(value).__name__})"
    )
