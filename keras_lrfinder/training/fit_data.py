"""The data of a `fit`, as `lr_find` needs it: bounded, split, held out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

from keras_lrfinder.training.data_reader import Batches
from keras_lrfinder.training.data_reader import BatchReader
from keras_lrfinder.training.data_reader import UnreadableError
from keras_lrfinder.training.data_reader import copied
from keras_lrfinder.training.data_reader import fitting
from keras_lrfinder.training.data_reader import reader
from keras_lrfinder.training.data_reader import ready
from keras_lrfinder.training.data_rows import Rows
from keras_lrfinder.training.data_rows import not_finite
from keras_lrfinder.training.probe_data import HeldOut
from keras_lrfinder.training.probe_data import Replay
from keras_lrfinder.training.probe_data import replay_of
from keras_lrfinder.training.probe_data import validation_of

# What Keras takes where nobody says anything.
_BATCH_SIZE = 32
_TAKEN_OUT = (
    "x",
    "y",
    "sample_weight",
    "steps_per_epoch",
    "validation_split",
    "validation_data",
    "validation_steps",
    "validation_batch_size",
)


class FitData:
    """What `fit` trains on, and how much of it a range test may use.

    Args:
        fit_kwargs: The arguments of `fit`. Those that name data, or say how
            they are read, are taken out of the dictionary; what is left,
            `batch_size` too, goes to `fit` as it is.

    Attributes:
        why_not: String, why the last `replay` was None.

    Raises:
        ValueError: There are no samples, or `validation_split` is not
            between 0 and 1 or does not go with the data.
    """

    def __init__(self, fit_kwargs: dict[str, Any]) -> None:
        given = {name: fit_kwargs.pop(name, None) for name in _TAKEN_OUT}
        self._given = given
        values = (given["x"], given["y"], given["sample_weight"])
        self._source: Rows | BatchReader = reader(values)
        _check_some(self._source, given["x"])
        self._validation = self._validation_reader(given["validation_data"])
        self._batch_size = fit_kwargs.get("batch_size")
        self._kept: list[Any] = []
        self._most_kept = 0
        self.why_not = ""
        split = given["validation_split"]
        if split and given["validation_data"] is None:
            self._hold_out(split)

    def for_fit(self, batches: int, initial_epoch: int = 0) -> dict[str, Any]:
        """Returns the arguments of a `fit` that can run `batches` batches.

        Not one batch more is taken from what can be read only once.
        Everything else starts again when it ends; the fit is stopped from
        within.
        """
        if isinstance(self._source, BatchReader) and self._source.once:
            # One epoch: in a second one Keras would bring the batches that
            # it peeked at once more.
            return {"x": self._keep_some(batches), "epochs": 1}
        names = ("x", "y", "sample_weight", "steps_per_epoch")
        given = {k: v for k in names if (v := self._given[k]) is not None}
        return {**given, "epochs": initial_epoch + batches}

    def keep(self, batches: int) -> None:
        """Has `for_fit` keep the first batches of a generator, as copies.

        A generator cannot be read again; `replay` reads these.
        """
        self._most_kept = batches

    def replay(
        self, batches: int, batch_size: int | None = None
    ) -> Replay | None:
        """Returns some of the data, to be read again and again.

        Args:
            batches: Integer, how many batches one run trains on.
            batch_size: As given to `fit`; None: the one of `fit_kwargs`.

        Returns:
            `Replay`, or None where the data cannot be read twice; `why_not`
            says why.
        """
        size = batch_size or self._rows_per_batch()
        try:
            source = self._readable()
            return replay_of(source, batches, size, self._held_out(size))
        except UnreadableError as error:
            self.why_not = str(error)
            return None

    def not_finite(self, batches: int = 16) -> dict[str, str]:
        """Returns which of `x`, `y` and `sample_weight` has NaN, or infinity.

        Args:
            batches: Integer, how many are looked at where the data come in
                batches; 0 reads none.

        Returns:
            The names of those that have, and `"NaN"` or `"infinity"`.
        """
        if isinstance(self._source, Rows):
            return self._source.not_finite()
        if not batches:
            return {}
        try:
            source = self._readable()
            if isinstance(source, BatchReader):
                source = source.read(lambda first: batches)
            assert isinstance(source, Batches)
        except UnreadableError:
            return {}
        return not_finite(itertools.islice(source.items(), batches))

    def _readable(self) -> Rows | BatchReader | Batches:
        if not isinstance(self._source, BatchReader) or not self._source.once:
            return self._source
        if not self._kept:
            raise UnreadableError(
                "a generator cannot be read twice, and what the ramp took "
                "from it was too much to be kept in memory"
            )
        return Batches(self._kept, ready)

    def _keep_some(self, batches: int) -> Iterator[Any]:
        # A generator, not an `islice`: Keras knows generators by their type.
        for batch in itertools.islice(self._given["x"], batches):
            self._most_kept = fitting(batch, min(self._most_kept, batches))
            if not self._most_kept:
                self._kept.clear()
            if len(self._kept) < self._most_kept:
                self._kept.append(copied(batch))
            yield batch

    def _rows_per_batch(self) -> int:
        if self._batch_size:
            return int(self._batch_size)
        steps = self._given["steps_per_epoch"]
        if steps and isinstance(self._source, Rows):
            return math.ceil(self._source.count / int(steps))  # as Keras
        return _BATCH_SIZE

    def _validation_reader(self, data: Any) -> Rows | BatchReader | None:
        if data is None:
            return None
        if isinstance(data, (tuple, list)) and len(data) <= 3:
            return reader((*data, None, None)[:3])
        return reader((data, None, None))

    def _held_out(self, batch_size: int) -> HeldOut | None:
        if self._validation is None:
            return None
        size = self._given["validation_batch_size"] or batch_size
        steps = self._given["validation_steps"]
        return validation_of(self._validation, size, steps)

    def _hold_out(self, split: Any) -> None:
        if not 0 < split < 1:
            raise ValueError(
                "`validation_split` must be between 0 and 1. "
                f"Received: validation_split={split}"
            )
        if not isinstance(self._source, Rows):
            kind = type(self._given["x"]).__name__
            raise ValueError(
                "`validation_split` must go with arrays. Received: "
                f"validation_split={split}, x of type {kind}"
            )
        # The last samples, before any shuffling: those that `fit` takes.
        rows = self._source.count
        kept = math.floor(rows * (1.0 - split))
        if not 0 < kept < rows:
            raise ValueError(
                "`validation_split` must leave samples on both sides. "
                f"Received: validation_split={split}, {rows} samples"
            )
        self._validation = self._source.take(slice(kept, rows))
        self._source = self._source.take(slice(0, kept))
        names = ("x", "y", "sample_weight")
        self._given.update(zip(names, self._source.values))


def _check_some(source: Rows | BatchReader, x: Any) -> None:
    empty = not source.count if isinstance(source, Rows) else source.is_empty()
    if empty:
        shape = getattr(x, "shape", None)
        kind = type(x).__name__ + (f" of shape {tuple(shape)}" if shape else "")
        raise ValueError(f"`x` must have samples. Received: an empty {kind}")
