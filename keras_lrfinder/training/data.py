"""What `fit` was given to train on, as `lr_find` needs it."""

from __future__ import annotations

import functools
import itertools
import math
import types
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training.replay import MOST_HELD_OUT
from keras_lrfinder.training.replay import Replay
from keras_lrfinder.training.replay import apart
from keras_lrfinder.training.replay import are
from keras_lrfinder.training.replay import batch_runs
from keras_lrfinder.training.replay import of_one_size
from keras_lrfinder.training.replay import reserved
from keras_lrfinder.training.replay import row_runs
from keras_lrfinder.training.samples import Indices
from keras_lrfinder.training.samples import Rows
from keras_lrfinder.training.samples import batch_rows
from keras_lrfinder.training.samples import bytes_of
from keras_lrfinder.training.samples import not_finite
from keras_lrfinder.training.samples import stacked

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
# Batches are kept in memory; of large ones at least what a probe takes.
MOST_BYTES = 2**30
_FEWEST = 76


class UnreadableError(Exception):
    """Data that runs cannot read. The message ends "not probed, as …"."""


class FitData:
    """What a `fit` trains on, and how much of it a test may use.

    Args:
        fit_kwargs: The arguments of `fit`; they stay as they are.
        as_given: Whether rows have to stay the kind that they are: a `fit`
            of the model's own may know no other.

    Attributes:
        rest: Dictionary, the arguments of `fit` that do not name data.
        batch_size: Integer, of rows; None where batches come ready.
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
        length = length_of(self._x) if rows is None else rows.count
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
        steps: int | None = given["steps_per_epoch"]
        self.batch_size: int | None = given["batch_size"]
        if self._rows is not None:
            count = self._rows.count
            if not self.batch_size:  # as Keras
                self.batch_size = -(-count // steps) if steps else _BATCH_SIZE
            length = -(-count // self.batch_size)
        self.batches = steps or length
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
        longest = steps * per_update
        if self._rows is not None:
            return self._of_rows(self._rows, longest, per_update)
        return self._of_batches(longest, per_update)

    def not_finite(self) -> dict[str, str]:
        """Returns which of `x`, `y` and `sample_weight` has what.

        That is `"NaN"` or `"infinity"`, by the name of the argument. Batches
        are read once more, as many as the ramp took, where none were kept.
        """
        if self._rows is not None:
            size = bytes_of(self._rows.values) / self._rows.count
            most = int(_MOST_SEARCHED / max(size, 1.0))
            return not_finite([self._rows.take(slice(0, most)).values])
        batches: Iterable[Any] = self._items
        if not self._items and not self._is_generator:
            batches = itertools.islice(_batches_of(self._x), self._ramp)
        return not_finite(batches)

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

    def _of_rows(self, rows: Rows, longest: int, per_update: int) -> Replay:
        asked = self.batch_size or _BATCH_SIZE
        size, whole = min(asked, rows.count), rows.count // asked * asked
        order = self._order(rows.count)
        if not self._shuffles:
            order = order[: whole or rows.count]
        more, why_not = self._held_out(size), ""

        # No more than a run meets: the rest need not be taken at all.
        def pooled(order: Indices) -> Rows:
            some = rows.take(order)
            return some if self._as_given else some.as_numbers()

        seen = order[: longest * size]
        pool = pooled(seen).joined(more) if more else None
        if pool is None:
            end = len(order) - reserved(rows.count // size, size) * size
            order, kept = order[:end], order[end:]
            seen = seen[:end]
            pool = pooled(np.append(seen, kept))
            if not len(kept):
                why_not = f"{are(rows.count, 'sample')} too few to keep a "
                why_not += f"batch of {size} out"
        make = row_runs(
            pool,
            size,
            ragged=rows.count % asked != 0,
            as_given=self._as_given,
            class_weight=self._given["class_weight"],
        )
        return Replay(
            make,
            seen=len(seen),
            kept=pool.count - len(seen),
            size=size,
            longest=longest,
            per_update=per_update,
            shuffle=self._shuffles,
            batches=len(order) // size,
            why_not=why_not,
        )

    def _of_batches(self, longest: int, per_update: int) -> Replay:
        read, are_all = self._read(longest)
        seen, size = of_one_size(read)
        like, why_not = stacked(seen[:1]), ""
        more = self._held_out(size)
        pool = like.joined(more) if like and more else None
        if like is None or pool is None:
            seen, kept, why_not = apart(seen, size, longest)
        else:
            kept = pool.take(slice(like.count, None)).batches(size)
        length = len(seen)
        if not are_all and length >= longest:
            length = (length_of(self._x) or 0) - len(kept)
        spec = getattr(self._x, "element_spec", None)
        items = isinstance(self._x, keras.utils.PyDataset)
        return Replay(
            batch_runs([*seen, *kept], spec, self._given["class_weight"]),
            seen=len(seen),
            kept=len(kept),
            size=1,
            longest=longest,
            per_update=per_update,
            shuffle=self._shuffles and items,
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
            if self._room < 0 and len(self._items) < _FEWEST:
                raise UnreadableError(
                    "a generator cannot be read twice, and what the ramp took "
                    "from it was too much to be kept in memory"
                )
            if not self._items:
                raise UnreadableError("there are no batches")
            return self._items, False

        def most(rows: int) -> int:
            return wanted + reserved(wanted + 10**4, rows)

        found = _first_batches(self._x, most, self._shuffles)
        self._items = found[0]
        return found

    def _keeping(self, batches: int) -> Iterator[Any]:
        """Yields a generator's batches, and keeps copies of the first."""
        # A generator, not an `islice`: Keras knows generators by their type.
        self._room = MOST_BYTES
        for batch in itertools.islice(self._x, batches):
            self._room -= bytes_of(batch)
            if self._room >= 0:
                self._items.append(_copied(batch))
            yield batch

    def _held_out(self, size: int) -> Rows | None:
        """Returns whole batches of validation data; None: there is not one."""
        rows = self._validation_rows
        if rows is None or rows.count < size:
            return None
        order = self._order(rows.count)[: max(_MOST_VALIDATION, size)]
        return rows.take(order[: min(len(order) // size, MOST_HELD_OUT) * size])

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
            return stacked(_first_batches(data[0], most)[0])
        except UnreadableError:
            return None


def length_of(data: Any) -> int | None:
    """Returns how many batches there are, as far as it is known."""
    try:
        items = isinstance(data, keras.utils.PyDataset)
        number: int | None = data.num_batches if items else len(data)
        return number
    except TypeError:
        return None


def _batches_of(data: Any, shuffle: bool = False) -> Iterator[Any]:
    """Returns the batches, in the order of the data.

    Those of a `PyDataset` come in any, as in a `fit` that shuffles. The first
    two stay: Keras takes the form of all from them.
    """
    if isinstance(data, keras.utils.PyDataset):
        number = length_of(data)
        if number is None:
            return map(data.__getitem__, itertools.count())
        order = np.arange(number)
        if shuffle:
            order[2:] = np.random.default_rng(0).permutation(order[2:])
        return map(data.__getitem__, order.tolist())
    of_devices = hasattr(data, "element_spec") and not hasattr(data, "take")
    if of_devices or not hasattr(data, "__iter__"):
        kind = type(data).__name__
        raise UnreadableError(f"only `fit` can read data of type {kind}")
    return iter(data)


def _first_batches(
    data: Any, wanted: Callable[[int], int], shuffle: bool = False
) -> tuple[list[Any], bool]:
    """Returns the first batches, and whether there are no others.

    How many are `wanted` goes by how many samples the first one has.
    """
    batches = _batches_of(data, shuffle)
    first = list(itertools.islice(batches, 1))
    if not first:
        raise UnreadableError("there are no batches")
    most, size = wanted(batch_rows(first[0])), max(bytes_of(first[0]), 1)
    room = MOST_BYTES // size
    if room < min(most, _FEWEST):
        raise UnreadableError(
            f"{most} batches of {size / 2**20:.3g} MiB are more than the "
            f"{MOST_BYTES / 2**30:g} GiB that are kept in memory"
        )
    most = min(most, room)
    some = itertools.chain(first, itertools.islice(batches, most - 1))
    found = list(map(_copied, some))
    return found, len(found) < most


def _copied(batch: Any) -> Any:
    """Returns a batch that nobody else writes into."""
    on_torch = keras.backend.backend() == "torch"

    def copy(value: Any) -> Any:
        if hasattr(value, "detach"):
            value = value.detach().cpu().clone()
            return value if on_torch else value.numpy()
        is_array = hasattr(value, "shape") and hasattr(value, "copy")
        return value.copy() if is_array else value

    return keras.tree.map_structure(copy, batch)
