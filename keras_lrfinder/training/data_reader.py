"""One reader for each kind of data that `fit` takes.

A reader says how much there is, and gives the first batches: a bounded
number of them, to be read again and again, as arguments of `fit` and
`evaluate`. Nothing is read without a bound, and nothing before it is asked
for.
"""

from __future__ import annotations

import itertools
import types
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras

from keras_lrfinder.training.data_rows import Rows
from keras_lrfinder.training.data_rows import bytes_of
from keras_lrfinder.training.data_rows import leaves_of
from keras_lrfinder.training.data_rows import rows_of

# Batches are held in memory; more than this is not worth a probe.
MOST_BYTES = 2**30
# As are fewer, if more are wanted: what a probe of 60 steps takes.
_FEWEST = 76

# How many batches are wanted, said by the first of them.
Wanted = Callable[[Any], int]


class UnreadableError(Exception):
    """Data that cannot be read again and again. The message says why."""


class Batches:
    """Some batches in memory, in their order.

    Args:
        items: The batches.
        wrap: Function that makes of them what `fit` takes.
        are_all: Whether it is known that there are no others.
    """

    def __init__(
        self,
        items: list[Any],
        wrap: Callable[[list[Any]], Any],
        are_all: bool = False,
    ) -> None:
        self._items = items
        self._wrap = wrap
        self.count = len(items)
        self.are_all = are_all

    def items(self) -> Iterator[Any]:
        """Yields the batches themselves."""
        yield from self._items

    def part(self, begin: int, end: int, length: int | None = None) -> Any:
        """Returns batches as `x` of `fit`.

        Args:
            begin: Integer, the first one.
            end: Integer, the one after the last.
            length: Integer, of how many it is to consist: it begins again
                when it ends. None: of each once.
        """
        some = self._items[begin:end]
        if length is not None:
            some = list(itertools.islice(itertools.cycle(some), length))
        return self._wrap(some)


class _Cached(Batches):
    """The first batches of a `tf.data.Dataset`, kept by TensorFlow."""

    def __init__(self, dataset: Any, most: int) -> None:
        self._cached = dataset.take(most).cache()
        # A cache must be read to its end once.
        self.count = sum(1 for _ in self._cached)
        self.are_all = self.count < most

    def items(self) -> Iterator[Any]:
        yield from self._cached

    def part(self, begin: int, end: int, length: int | None = None) -> Any:
        some = self._cached.skip(begin).take(end - begin)
        return some if length is None else some.repeat().take(length)


class BatchReader:
    """Reads data that come in batches.

    Args:
        data: What was given as `x`.
    """

    # Whether what has been read is gone.
    once = False

    def __init__(self, data: Any) -> None:
        self._data = data

    def is_empty(self) -> bool:
        """Returns whether it is known, without reading, that there is none."""
        return self._length() == 0

    def read(self, wanted: Wanted) -> Batches:
        """Returns the first batches.

        Args:
            wanted: Function of the first batch: how many, at most.

        Raises:
            UnreadableError: There are none, or they do not fit into memory.
        """
        batches = self._batches()
        first = list(itertools.islice(batches, 1))
        most = _checked(first, wanted)
        items = [*first, *itertools.islice(batches, most - 1)]
        return Batches(items, self._wrap, are_all=len(items) < most)

    def _batches(self) -> Iterator[Any]:
        return iter(self._data)

    def _length(self) -> int | None:
        return None

    def _wrap(self, batches: list[Any]) -> Any:
        return ready(batches)


class _PyDatasetReader(BatchReader):
    def _batches(self) -> Iterator[Any]:
        length = self._length()
        indices = itertools.count() if length is None else range(length)
        return (self._data[index] for index in indices)

    def _length(self) -> int | None:
        number: int | None = self._data.num_batches
        return number


class _LoaderReader(BatchReader):
    def _length(self) -> int | None:
        if not hasattr(self._data.dataset, "__len__"):
            return None
        return len(self._data)

    def _wrap(self, batches: list[Any]) -> Any:
        import torch

        return torch.utils.data.DataLoader(batches, batch_size=None)


class _GeneratorReader(BatchReader):
    once = True

    def _batches(self) -> Iterator[Any]:
        return map(copied, self._data)


class _DatasetReader(BatchReader):
    def _length(self) -> int | None:
        number = int(self._data.cardinality())
        return None if number < 0 else number

    def read(self, wanted: Wanted) -> Batches:
        first = list(self._data.take(1))
        return _Cached(self._data, _checked(first, wanted))


class _NoReader(BatchReader):
    """What `fit` may know how to read, and nobody else."""

    def _length(self) -> int | None:
        return None

    def read(self, wanted: Wanted) -> Batches:
        kind = type(self._data).__name__
        raise UnreadableError(f"only `fit` can read data of type {kind}")


def reader(values: tuple[Any, Any, Any]) -> Rows | BatchReader:
    """Returns what reads the data of a `fit`.

    Args:
        values: `x`, `y` and `sample_weight`, None where not given.
    """
    rows = Rows.of(values)
    if rows is not None:
        return rows
    x = values[0]
    if hasattr(x, "element_spec") and hasattr(x, "take"):
        return _DatasetReader(x)
    if isinstance(x, keras.utils.PyDataset):
        return _PyDatasetReader(x)
    if _is(x, ("DataLoader",), "torch.utils.data"):
        return _LoaderReader(x)
    if _is(x, ("MapDataset", "IterDataset", "DataLoader"), "grain"):
        return BatchReader(x)
    if isinstance(x, types.GeneratorType):
        return _GeneratorReader(x)
    return _NoReader(x)


def copied(batch: Any) -> Any:
    """Returns a batch whose arrays nobody can write into any more."""

    def copy(value: Any) -> Any:
        for name in ("clone", "copy"):  # PyTorch, NumPy
            if hasattr(value, "shape") and hasattr(value, name):
                return getattr(value, name)()
        return value

    return keras.tree.map_structure(copy, batch)


def batch_rows(batch: Any) -> int:
    """Returns how many samples a batch has."""
    leaves = leaves_of(batch)
    return max(rows_of(leaves[0]), 1) if leaves else 1


def ready(batches: list[Any]) -> Any:
    """Returns batches as a `PyDataset`, in their order."""
    return _Ready(batches)


class _Ready(keras.utils.PyDataset):
    """Ready batches, in their order."""

    def __init__(self, batches: list[Any]) -> None:
        super().__init__()
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Any:
        return self._batches[index]


def fitting(batch: Any, most: int) -> int:
    """Returns how many batches like this one are kept in memory.

    Args:
        batch: One of them.
        most: Integer, how many are wanted.

    Returns:
        At most `most`; 0 where there is room for too few.
    """
    room = MOST_BYTES // max(bytes_of(batch), 1)
    return min(most, room) if room >= min(most, _FEWEST) else 0


def _checked(first: list[Any], wanted: Wanted) -> int:
    if not first:
        raise UnreadableError("there are no batches")
    most = wanted(first[0])
    if not fitting(first[0], most):
        raise UnreadableError(
            f"{most} batches of {bytes_of(first[0]) / 2**20:.3g} MiB are more "
            f"than the {MOST_BYTES / 2**30:g} GiB that are kept in memory"
        )
    return fitting(first[0], most)


def _is(value: Any, names: tuple[str, ...], module: str) -> bool:
    return any(
        kind.__name__ in names and module in kind.__module__
        for kind in type(value).__mro__
    )
