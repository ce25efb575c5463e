"""Which methods of a Keras object are the user's own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import keras

__all__ = ["overrides"]


def overrides(owner: Any, names: Iterable[str]) -> bool:
    """Returns whether any of some methods is not what Keras made it.

    Args:
        owner: A Keras model or callback.
        names: Strings, methods of `keras.Model` or `keras.callbacks.Callback`.
    """
    base = keras.callbacks.Callback
    if isinstance(owner, keras.Model):
        base = keras.Model
    return any(
        name in vars(owner)
        or getattr(type(owner), name, None) is not getattr(base, name, None)
        for name in names
    )
