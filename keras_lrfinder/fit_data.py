"""The data of a `fit`, as `lr_find` needs it: bounded, split, held out."""

from __future__ import annotations

import itertools
import math
import types
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

__all__ = ["FitData"]


class FitData:
    """What `fit` trains on, and how much of it a range test may use.

    Args:
        fit_kwargs: The arguments of `fit`: `x`, `y`, `sample_weight`,
            `validation_split`, `validation_data`, `steps_per_epoch` are
            taken out of the dictionary, what is left goes to `fit` as it is.
    """

    def __init__(self, fit_kwargs: dict[str, Any]) -> None:
        self._x = fit_kwargs.pop("x", None)
        self._y = fit_kwargs.pop("y", None)
        self._weights = fit_kwargs.pop("sample_weight", None)
        self._per_epoch = fit_kwargs.pop("steps_per_epoch", None)
        split = fit_kwargs.pop("validation_split", 0.0)
        self.held_out = fit_kwargs.pop("validation_data", None)
        if split and self.held_out is None:
            self._hold_out(split)

    def for_fit(self, batches: int, initial_epoch: int = 0) -> dict[str, Any]:
        """Returns the arguments of a `fit` that can run `batches` batches.

        Not one batch more is taken from a generator. Everything else starts
        again when it ends; the fit is stopped from within.
        """
        if isinstance(self._x, types.GeneratorType):
            # One epoch: in a second one Keras would bring the batches that
            # it peeked at once more.
            return {
                "x": _first(self._x, batches),
                "steps_per_epoch": batches,
                "epochs": 1,
            }
        return {
            "x": self._x,
            "y": self._y,
            "sample_weight": self._weights,
            "steps_per_epoch": self._per_epoch,
            "epochs": initial_epoch + batches,
        }

    def _hold_out(self, split: Any) -> None:
        if not 0 < split < 1:
            raise ValueError(
                "`validation_split` must be between 0 and 1. "
                f"Received: validation_split={split}"
            )
        if not is_arrays((self._x, self._y, self._weights)):
            raise ValueError(
                "`validation_split` must go with arrays. Received: "
                f"validation_split={split}, x of type {type(self._x).__name__}"
            )
        # The last samples, before any shuffling: those that `fit` takes.
        rows = length((self._x, self._y))
        kept = math.floor(rows * (1.0 - split))
        everything = (self._x, self._y, self._weights)
        self.held_out = take(everything, slice(kept, rows))
        if self._weights is None:
            self.held_out = self.held_out[:2]
        self._x, self._y, self._weights = take(everything, slice(0, kept))


def _first(generator: Any, batches: int) -> Iterator[Any]:
    # A generator, not an `islice`: Keras knows generators by their type.
    yield from itertools.islice(generator, batches)


def is_arrays(structure: Any) -> bool:
    """Returns whether everything in a nested structure is an array."""
    leaves = [v for v in keras.tree.flatten(structure) if v is not None]
    return bool(leaves) and all(
        hasattr(v, "shape") and hasattr(v, "__getitem__") for v in leaves
    )


def length(structure: Any) -> int:
    """Returns the number of rows of a nested structure of arrays."""
    leaves = [v for v in keras.tree.flatten(structure) if v is not None]
    return int(leaves[0].shape[0])


def take(structure: Any, rows: slice | np.ndarray[Any, Any]) -> Any:
    """Returns some rows of every array of a nested structure."""

    def some(array: Any) -> Any:
        if array is None:
            return None
        if isinstance(rows, slice) or isinstance(array, np.ndarray):
            return array[rows]
        return keras.ops.take(array, rows, axis=0)

    return keras.tree.map_structure(some, structure)
