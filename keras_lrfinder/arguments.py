"""Checks that several modules make of what they are given."""

from __future__ import annotations

from numbers import Integral

import numpy as np

__all__ = ["check_flag"]


def check_flag(name: str, value: object) -> None:
    """Raises a `TypeError` where `value` is no truth value and no integer.

    A string would be true whatever it says.

    Args:
        name: String, what the argument is called.
        value: What was given.
    """
    if not isinstance(value, (bool, np.bool_, Integral)):
        raise TypeError(
            f"`{name}` must be True or False, or 1 or 0. "
            f"Received: {name}={value!r}"
        )
