"""What `fit` was given to train on, as `lr_find` needs it."""

from __future__ import annotations

import contextlib
import copy
import functools
import itertools
import math
import types
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training import replay
from keras_lrfinder.training import samples
from keras_lrfinder.training.replay import Replay
from keras_lrfinder.training.samples import Indices
from keras_lrfinder.training.samples import Rows

# What names the data of a `fit`, beside all about validation.
_OTHERS = ("batch_size", "class_weight", "shuffle", "steps_per_epoch")
_NAMES = (*samples.NAMES, *_OTHERS)
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
    """The arguments `given` to a `fit`, and what a test may use of its data.

    `rest` are those that do not name data. `batches` are in an epoch; None:
    nobody knows. With `as_given` rows stay the kind that they are: a `fit` of
    the model's own may know no other.
    """

    def __init__(self, given: dict[str, Any], as_given: bool = False) -> None:
        about = {k for k in given if k in _NAMES or k.startswith("validation_")}
        self.rest = {k: v for k, v in given.items() if k not in about}
        self._given = given = {k: given[k] for k in about}
        self._as_given = as_given
        self._x: Any = given["x"]
        self._rows = Rows.of(tuple(map(given.get, samples.NAMES)))
        split, steps = map(given.get, ("validation_split", "steps_per_epoch"))
        if split and given.get("validation_data") is None:
            self._split(split)
        self._are_items = isinstance(self._x, keras.utils.PyDataset)
        self._is_generator = isinstance(self._x, types.GeneratorType)
        self.batch_size: Any = given.get("batch_size")
        length: int | None = None
        with contextlib.suppress(TypeError):
            length = self._x.num_batches if self._are_items else len(self._x)
        if self._rows is not None:
            count = self._rows.count
            if not self.batch_size:  # as Keras
                self.batch_size = -(-count // steps) if steps else _BATCH_SIZE
            length = -(-count // self.batch_size)
        if length == 0:
            raise ValueError(
                "`x` must have samples. Received: an empty "
                f"{type(self._x).__name__}"
            )
        self._length, self.batches = length, steps or length
        self._shuffles = given.get("shuffle") not in (False, "batch")
        # How many batches the ramp takes, and copies of some.
        self._ramp, self._room = 0, MOST_BYTES
        self._kept: list[Any] = []

    def ramp(self, batches: int, initial_epoch: int = 0) -> dict[str, Any]:
        """Returns the arguments of a `fit` that can run so many batches.

        Not one batch more is taken from a generator. Everything else starts
        again when it ends; the fit is stopped from within.
        """
        self._ramp = epochs = batches
        given = {k: v for k, v in self._given.items() if k in _NAMES}
        given = {k: v for k, v in given.items() if v is not None}
        if self._is_generator:
            # One epoch: in a second one Keras would bring the batches that it
            # peeked at once more.
            given.pop("steps_per_epoch", None)
            given["x"], epochs = self._keeping(batches), 1
        return {**given, "epochs": initial_epoch + epochs}

    def replay(self, steps: int, per_update: int = 1) -> Replay:
        """Returns what runs of so many updates, or fewer, read."""
        longest = steps * per_update
        if self._rows is not None:
            return self._of_rows(self._rows, longest, per_update)
        return self._of_batches(longest, per_update)

    def not_finite(self) -> dict[str, str]:
        """Returns which of `x`, `y` and `sample_weight` has NaN or infinity."""
        batches: Iterable[Any] = self._kept
        if self._rows is not None:
            one = samples.bytes_of(self._rows.take(slice(0, 1)).values)
            some = slice(0, _MOST_SEARCHED // max(one, 1))
            batches = [self._rows.take(some).values]
        elif not self._kept and not self._is_generator:
            with contextlib.suppress(UnreadableError):
                batches = itertools.islice(_batches_of(self._x), self._ramp)
        return samples.not_finite(batches)

    def _split(self, split: float) -> None:
        """Takes the last samples, before any shuffling: as `fit` does."""
        count = self._rows.count if self._rows else 0
        kept = math.floor(count * (1.0 - split))
        if self._rows is None or not 0 < kept < count:
            raise ValueError(
                "`validation_split` must go with arrays, be between 0 and 1, "
                "and leave samples on both sides. Received: validation_split="
                f"{split}, x of type {type(self._x).__name__}"
            )
        out = self._rows.take(slice(kept, None)).values
        self._rows = self._rows.take(slice(0, kept))
        named = zip(samples.NAMES, self._rows.values)
        self._given.update(named, validation_data=out)

    def _of_rows(self, rows: Rows, longest: int, per_update: int) -> Replay:
        size = min(self.batch_size, rows.count)
        order, why_not = self._order(rows.count), ""
        if not self._shuffles:
            order = order[: rows.count // size * size]

        # No more than a run meets: the rest need not be taken at all.
        def pooled(kept: Indices) -> Rows:
            some = rows.take(np.append(order[: longest * size], kept))
            return some if self._as_given else some.as_numbers()

        pool = None
        if self._validation_rows is not None:
            pool = self._with_validation(pooled(order[:0]), size)
        if pool is None:
            end = len(order) - replay.reserved(rows.count // size, size) * size
            order, kept = order[:end], order[end:]
            pool = pooled(kept)
            if not len(kept):
                many = "samples are" if rows.count > 1 else "sample is"
                few = f"too few to keep a batch of {size} out"
                why_not = f"{rows.count} {many} {few}"
        if weights := self._given.get("class_weight"):
            pool = pool.weighted(weights)
        begin = min(len(order), longest * size)
        return Replay(
            replay.row_runs(pool, size, self._as_given),
            replay.epochs(len(order), size, longest, self._shuffles),
            np.arange(begin, pool.count).reshape(-1, size),
            len(order) // size,
            per_update,
            why_not=why_not,
        )

    def _of_batches(self, longest: int, per_update: int) -> Replay:
        are_all, why_not = False, ""
        if not self._is_generator:
            batches = _batches_of(self._x, self._shuffles)
            are_all = self._read(batches, longest, replay.MOST_SAMPLES)
        read, size = replay.of_one_size(self._checked())
        like = Rows.of_batches(read[:1])
        pool = like and self._with_validation(like, size)
        if like is None or pool is None:
            read, kept, why_not = replay.apart(read, size, longest)
            out = len(kept)
        else:
            kept, out = pool.take(slice(like.count, None)).batches(size), 0
        number: int | None = len(read)
        if not are_all and len(read) >= longest:
            number = self._length and self._length - out
        items, weights = [*read, *kept], self._given.get("class_weight")
        more = {"class_weight": weights} if weights else {}
        form = getattr(self._x, "element_spec", None), items[:2]
        shuffle = self._shuffles and self._are_items
        return Replay(
            lambda order: {
                "x": replay.in_order(lambda i: items[i[0]], order, *form),
                **more,
            },
            replay.epochs(number or longest, 1, longest, shuffle),
            np.arange(len(read), len(items))[:, None],
            number,
            per_update,
            most=None if are_all else len(self._kept) - out,
            why_not=why_not,
        )

    def _order(self, count: int) -> Indices:
        # A generator of its own: the global ones belong to the user.
        random = np.random.default_rng(0)
        return random.permutation(count) if self._shuffles else np.arange(count)

    def _keeping(self, batches: int) -> Iterator[Any]:
        # A generator, not an `islice`: Keras knows generators by their type.
        for batch in itertools.islice(self._x, batches):
            self._keep(batch)
            yield batch

    def _keep(self, batch: Any) -> bool:
        """Keeps a copy; returns whether there was memory for it."""
        self._room -= samples.bytes_of(batch)
        if self._room >= 0:
            self._kept.append(keras.tree.map_structure(_copied, batch))
        return self._room >= 0

    def _read(self, batches: Iterable[Any], number: int, rows: int) -> bool:
        """Keeps a number, and more of so many rows; returns if they are all."""
        self._kept, self._room = [], MOST_BYTES
        for batch in batches:
            most = number + -(-rows // samples.rows_of(batch))
            if not self._keep(batch) or len(self._kept) >= most:
                return False
        return True

    def _checked(self) -> list[Any]:
        """Returns the batches that were kept, where these are enough."""
        number = len(self._kept)
        if not number or (self._room < 0 and number < _FEWEST):
            raise UnreadableError(
                f"only {number} of its batches could be read and kept in "
                f"{MOST_BYTES / 2**30:g} GiB of memory"
            )
        return self._kept

    def _with_validation(self, rows: Rows, size: int) -> Rows | None:
        """Returns rows and whole batches of validation data, or None."""
        more = self._validation_rows
        if more is None or more.count < size:
            return None
        most = min(max(_MOST_VALIDATION // size, 1), replay.MOST_HELD_OUT)
        number = min(more.count // size, most) * size
        return rows.joined(more.take(self._order(more.count)[:number]))

    @functools.cached_property
    def _validation_rows(self) -> Rows | None:
        """The samples of the validation data, which are read once."""
        data = self._given.get("validation_data")
        steps = self._given.get("validation_steps")
        if data is None:
            return None
        if not isinstance(data, (tuple, list)) or len(data) > 3:
            data = (data,)
        with contextlib.suppress(UnreadableError, ValueError):
            other = FitData(dict(zip(samples.NAMES, data)))
            if other._rows is None:
                batches = itertools.islice(_batches_of(data[0]), steps)
                other._read(batches, 0, _MOST_VALIDATION)
                return Rows.of_batches(other._checked())
            size = self._given.get("validation_batch_size") or self.batch_size
            end = steps and steps * (size or _BATCH_SIZE)
            return other._rows.take(slice(end))
        return None


def _batches_of(data: Any, shuffle: bool = False) -> Iterator[Any]:
    """Returns the batches, in the order of the data or as a fit shuffles."""
    if isinstance(data, keras.utils.PyDataset):
        if data.num_batches is None:
            return map(data.__getitem__, itertools.count())
        order = np.arange(data.num_batches)
        if shuffle:
            # But the first two: Keras takes the form of all from them.
            order[2:] = np.random.default_rng(0).permutation(order[2:])
        return map(data.__getitem__, order.tolist())
    of_devices = hasattr(data, "element_spec") and not hasattr(data, "take")
    if of_devices or not hasattr(data, "__iter__"):
        kind = type(data).__name__
        raise UnreadableError(f"only `fit` can read data of type {kind}")
    return iter(data)


def _copied(leaf: Any) -> Any:
    """Returns a column of a batch that nobody else writes into."""
    own = leaf.detach().cpu() if hasattr(leaf, "detach") else leaf
    return copy.deepcopy(own)
