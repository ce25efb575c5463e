"""What `fit` was given to train on, as `lr_find` needs it."""

from __future__ import annotations

import functools
import itertools
import math
import types
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training import samples
from keras_lrfinder.training.replay import MOST_HELD_OUT
from keras_lrfinder.training.replay import Replay
from keras_lrfinder.training.replay import RowRuns
from keras_lrfinder.training.replay import apart
from keras_lrfinder.training.replay import batch_runs
from keras_lrfinder.training.replay import of_one_size
from keras_lrfinder.training.replay import reserved
from keras_lrfinder.training.samples import Indices
from keras_lrfinder.training.samples import Rows
from keras_lrfinder.training.samples import UnreadableError as UnreadableError

_NAMES = ("x", "y", "sample_weight")
_TAKEN_OUT = (
    *_NAMES,
    "batch_size",
    "class_weight",
    "shuffle",
    "steps_per_epoch",
    "validation_batch_size",
    "validation_data",
    "validation_freq",
    "validation_split",
    "validation_steps",
)
# What Keras takes where nobody says anything.
_BATCH_SIZE = 32
# Validation data beyond this tell nothing more about a short run.
_MOST_VALIDATION = 2048
# Of arrays larger than this only a part is searched for NaN.
_MOST_SEARCHED = 2**28


class FitData:
    """What a `fit` trains on, and how much of it a test may use.

    Args:
        fit_kwargs: The arguments of `fit`; they stay as they are.
        as_given: Whether rows have to stay the kind that they are: a `fit`
            of the model's own may know no other.

    Attributes:
        rest: Dictionary, the arguments of `fit` that do not name data.
        batch_size: Integer, of rows; None where batches come ready.
        steps_per_epoch: Integer as given, or None.
        batches: Integer, the batches of an epoch; None where nobody knows.

    Raises:
        ValueError: There are no samples, or `validation_split` is not
            between 0 and 1 or does not go with the data.
    """

    def __init__(
        self, fit_kwargs: dict[str, Any], as_given: bool = False
    ) -> None:
        given = {name: fit_kwargs.get(name) for name in _TAKEN_OUT}
        self.rest = {k: v for k, v in fit_kwargs.items() if k not in given}
        self._given, self._as_given = given, as_given
        self._x: Any = given["x"]
        self._rows = rows = Rows.of(tuple(given[name] for name in _NAMES))
        length = samples.length_of(self._x) if rows is None else rows.count
        if length == 0:
            shape = getattr(self._x, "shape", None)
            kind = type(self._x).__name__
            kind += f" of shape {tuple(shape)}" if shape else ""
            raise ValueError(
                f"`x` must have samples. Received: an empty {kind}"
            )
        self._validation = given["validation_data"]
        if given["validation_split"] and self._validation is None:
            self._split(given["validation_split"])
        self.steps_per_epoch: int | None = given["steps_per_epoch"]
        self.batch_size: int | None = given["batch_size"]
        if self._rows is not None:
            count, steps = self._rows.count, self.steps_per_epoch
            if not self.batch_size:  # as Keras
                self.batch_size = -(-count // steps) if steps else _BATCH_SIZE
            length = -(-count // self.batch_size)
        self.batches = self.steps_per_epoch or length
        self._is_generator = isinstance(self._x, types.GeneratorType)
        self._shuffles = given["shuffle"] not in (False, "batch")
        # Batches that were read, and how many the ramp takes.
        self._items: list[Any] = []
        self._room = self._ramp = 0

    def ramp(self, batches: int, initial_epoch: int = 0) -> dict[str, Any]:
        """Returns the arguments of a `fit` that can run so many batches.

        Not one batch more is taken from a generator. Everything else starts
        again when it ends; the fit is stopped from within.
        """
        self._ramp = batches
        given = {k: v for k, v in self._given.items() if v is not None}
        given = {k: v for k, v in given.items() if "validation" not in k}
        if not self._is_generator:
            return {**given, "epochs": initial_epoch + batches}
        # One epoch: in a second one Keras would bring the batches that it
        # peeked at once more.
        given.pop("steps_per_epoch", None)
        given["x"] = self._keeping(batches)
        return {**given, "epochs": initial_epoch + 1}

    def replay(self, steps: int, per_update: int = 1) -> Replay:
        """Returns batches for runs, to be read again and again.

        Args:
            steps: Integer, how many updates the longest run makes.
            per_update: Integer, how many batches each takes.

        Raises:
            UnreadableError: These data cannot be.
        """
        if self._rows is not None:
            return self._of_rows(self._rows, steps, per_update)
        return self._of_batches(steps, per_update)

    def not_finite(self, read: bool = True) -> dict[str, str]:
        """Returns which of `x`, `y` and `sample_weight` has NaN, or infinity.

        Args:
            read: Whether batches may be read once more, as many as the ramp
                took, where none were kept.

        Returns:
            The names of those that have, and `"NaN"` or `"infinity"`.
        """
        if self._rows is not None:
            size = samples.bytes_of(self._rows.values) / self._rows.count
            most = int(_MOST_SEARCHED / max(size, 1.0))
            return samples.not_finite([self._rows.take(slice(0, most)).values])
        batches: Iterable[Any] = self._items
        if read and not self._items and not self._is_generator:
            batches = itertools.islice(samples.batches_of(self._x), self._ramp)
        return samples.not_finite(batches)

    def _split(self, split: Any) -> None:
        if not 0 < split < 1:
            raise ValueError(
                "`validation_split` must be between 0 and 1. "
                f"Received: validation_split={split}"
            )
        rows = self._rows
        if rows is None:
            raise ValueError(
                "`validation_split` must go with arrays. Received: "
                f"validation_split={split}, x of type {type(self._x).__name__}"
            )
        # The last samples, before any shuffling: those that `fit` takes.
        kept = math.floor(rows.count * (1.0 - split))
        if not 0 < kept < rows.count:
            raise ValueError(
                "`validation_split` must leave samples on both sides. "
                f"Received: validation_split={split}, {rows.count} samples"
            )
        self._validation = rows.take(slice(kept, rows.count)).values
        self._rows = rows.take(slice(0, kept))
        self._given.update(zip(_NAMES, self._rows.values))

    def _of_rows(self, rows: Rows, steps: int, per_update: int) -> Replay:
        size = min(self.batch_size or _BATCH_SIZE, rows.count)
        rows = rows if self._as_given else rows.as_numbers()
        order = self._order(rows.count)
        if not self._shuffles:
            order = order[: rows.count // size * size]
        validation = self._held_out(rows, size)
        if validation is None:
            end = len(order) - reserved(rows.count // size, size) * size
            order, kept = order[:end], order[end:]
        else:
            kept = rows.count + np.arange(validation.count)
        only = "1 sample is" if rows.count == 1 else f"{rows.count} samples are"
        runs = RowRuns(
            rows,
            validation,
            size,
            ragged=rows.count % (self.batch_size or _BATCH_SIZE) != 0,
            as_given=self._as_given,
            class_weight=self._given["class_weight"],
        )
        return Replay(
            runs.make,
            order,
            kept,
            size,
            steps,
            per_update,
            self._shuffles,
            why_not=""
            if len(kept)
            else f"{only} too few to keep a batch of {size} out",
        )

    def _of_batches(self, steps: int, per_update: int) -> Replay:
        wanted = steps * per_update
        read, are_all = self._read(wanted)
        seen, size = of_one_size(read)
        like = samples.stacked(seen[:1])
        validation = self._held_out(like, size) if like else None
        if validation is None:
            seen, kept, why_not = apart(seen, size, wanted)
        else:
            kept, why_not = validation.batches(size), ""
        length, comes_again = None, are_all or len(seen) < wanted
        if not comes_again:
            length = (samples.length_of(self._x) or len(kept)) - len(kept)
        spec = getattr(self._x, "element_spec", None)
        items = isinstance(self._x, keras.utils.PyDataset)
        return Replay(
            batch_runs([*seen, *kept], spec, self._given["class_weight"]),
            np.arange(len(seen)),
            len(seen) + np.arange(len(kept)),
            1,
            steps,
            per_update,
            self._shuffles and items,
            batches=length,
            most=None if are_all else len(read) - len(kept),
            why_not=why_not,
        )

    def _order(self, count: int) -> Indices:
        # A generator of its own: the global ones belong to the user.
        random = np.random.default_rng(0)
        return random.permutation(count) if self._shuffles else np.arange(count)

    def _read(self, wanted: int) -> tuple[list[Any], bool]:
        """Returns the first batches, and whether there are no others."""
        if self._is_generator:
            if self._room < 0 and len(self._items) < samples.FEWEST:
                raise UnreadableError(
                    "a generator cannot be read twice, and what the ramp took "
                    "from it was too much to be kept in memory"
                )
            if not self._items:
                raise UnreadableError("there are no batches")
            return self._items, False

        def most(rows: int) -> int:
            return wanted + reserved(wanted + 10**4, rows)

        found = samples.first_batches(self._x, most, self._shuffles)
        self._items = found[0]
        return found

    def _keeping(self, batches: int) -> Iterator[Any]:
        """Yields a generator's batches, and keeps copies of the first."""
        # A generator, not an `islice`: Keras knows generators by their type.
        self._room = samples.MOST_BYTES
        for batch in itertools.islice(self._x, batches):
            self._room -= samples.bytes_of(batch)
            if self._room >= 0:
                self._items.append(samples.copied(batch))
            yield batch

    def _held_out(self, like: Rows, size: int) -> Rows | None:
        """Returns whole batches of validation data, in the form of `like`."""
        rows = self._validation_rows
        if rows is None or rows.count < size:
            return None
        order = self._order(rows.count)[: max(_MOST_VALIDATION, size)]
        order = order[: min(len(order) // size, MOST_HELD_OUT) * size]
        return rows.take(order).like(like)

    @functools.cached_property
    def _validation_rows(self) -> Rows | None:
        """The samples of the validation data, which are read once."""
        data, steps = self._validation, self._given["validation_steps"]
        if data is None:
            return None
        if not isinstance(data, (tuple, list)) or len(data) > 3:
            data = (data,)
        rows = Rows.of((*data, None, None)[:3])
        if rows is not None:
            size = self._given["validation_batch_size"] or self.batch_size
            end = rows.count if steps is None else steps * (size or _BATCH_SIZE)
            return rows.take(slice(0, end))

        def most(rows: int) -> int:
            number = -(-_MOST_VALIDATION // rows)
            return number if steps is None else min(number, steps)

        try:
            return samples.stacked(samples.first_batches(data[0], most)[0])
        except UnreadableError:
            return None
