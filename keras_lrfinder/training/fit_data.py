"""The data of a `fit`, as `lr_find` needs it: bounded, split, held out."""

from __future__ import annotations

import itertools
import math
import types
from collections.abc import Iterator
from typing import Any

from keras_lrfinder.training.probe_data import MOST_BYTES
from keras_lrfinder.training.probe_data import Arrays
from keras_lrfinder.training.probe_data import Replay
from keras_lrfinder.training.probe_data import bytes_of
from keras_lrfinder.training.probe_data import copied
from keras_lrfinder.training.probe_data import is_arrays
from keras_lrfinder.training.probe_data import length
from keras_lrfinder.training.probe_data import make_replay
from keras_lrfinder.training.probe_data import sample
from keras_lrfinder.training.probe_data import take

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
        self._kept: list[Any] = []
        self._most_kept = 0
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
            return {"x": self._keep_some(batches), "epochs": 1}
        return {
            "x": self._x,
            "y": self._y,
            "sample_weight": self._weights,
            "steps_per_epoch": self._per_epoch,
            "epochs": initial_epoch + batches,
        }

    def keep(self, batches: int) -> None:
        """Has `for_fit` keep the first batches of a generator, as copies.

        A generator cannot be read again; `replay` reads these.
        """
        self._most_kept = batches

    def replay(self, batches: int, batch_size: int | None) -> Replay | None:
        """Returns some of the data, to be read again and again.

        Args:
            batches: Integer, how many batches one run trains on.
            batch_size: As given to `fit`.

        Returns:
            `Replay`, or None where the data cannot be read twice.
        """
        everything = (self._x, self._y, self._weights)
        if self._kept or isinstance(self._x, types.GeneratorType):
            source: Any = self._kept
        elif is_arrays(everything):
            source = Arrays(everything, batch_size or 32)
        else:
            source = self._x
        reserve = self.held_out is None
        replay = make_replay(source, batches, reserve=reserve)
        if replay is not None and not reserve:
            replay.held_out = sample(self.held_out, batch_size or 32)
            replay.source = "validation data"
        return replay

    def _keep_some(self, batches: int) -> Iterator[Any]:
        # A generator, not an `islice`: Keras knows generators by their type.
        for batch in itertools.islice(self._x, batches):
            if bytes_of(batch) * self._most_kept > MOST_BYTES:
                self._most_kept = 0
            if len(self._kept) < self._most_kept:
                self._kept.append(copied(batch))
            yield batch

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
