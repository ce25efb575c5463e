"""Which samples of some batches are the same one, met again."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lrfinder.training.data_reader import batch_rows
from keras_lrfinder.training.data_rows import as_numpy
from keras_lrfinder.training.data_rows import leaves_of


class Marks:
    """A mark for each sample: equal samples have equal marks.

    Args:
        of_batches: For each batch its samples' marks.
    """

    def __init__(self, of_batches: list[list[Any]]) -> None:
        self._of_batches = of_batches
        self.rows = [len(marks) for marks in of_batches]

    def shared(self, kept: int) -> bool:
        """Returns whether the first `kept` batches and the others share any."""
        first = set(itertools.chain.from_iterable(self._of_batches[:kept]))
        later = itertools.chain.from_iterable(self._of_batches[kept:])
        return not first.isdisjoint(later)

    def first_ones(self) -> NDArray[np.int64]:
        """Returns where, in all batches on end, each sample is first met."""
        found: dict[Any, int] = {}
        everything = itertools.chain.from_iterable(self._of_batches)
        for index, mark in enumerate(everything):
            found.setdefault(mark, index)
        return np.fromiter(found.values(), dtype=np.int64)

    def batches_of(self, rows: int, begin: int) -> int:
        """Returns how many batches from `begin` on have so many samples."""
        total = 0
        for number, size in enumerate(self.rows[begin:], start=1):
            total += size
            if total >= rows:
                return number
        return len(self.rows) - begin

    def repeats(self, begin: int, batches: int) -> tuple[int, int]:
        """Returns how many samples there are, and how many are met again.

        Args:
            begin: Integer, the first batch.
            batches: Integer, how many are gone through; they begin again
                when they end.
        """
        cycle = itertools.cycle(self._of_batches[begin:])
        met = itertools.islice(cycle, batches)
        counts = collections.Counter(itertools.chain.from_iterable(met))
        return len(counts), sum(n > 1 for n in counts.values())


def marks_of(batches: Iterable[Any]) -> Marks:
    """Returns the marks of the samples of some batches."""
    new = itertools.count()  # for what cannot be compared
    return Marks([_marks(batch, new) for batch in batches])


def _marks(batch: Any, new: Iterable[int]) -> list[Any]:
    rows = batch_rows(batch)
    columns = [_column(leaf, rows) for leaf in leaves_of(batch)]
    if not columns or any(column is None for column in columns):
        return [("unknown", number) for number in itertools.islice(new, rows)]
    return [hash(parts) for parts in zip(*columns)]


def _column(leaf: Any, rows: int) -> list[Any] | None:
    array = as_numpy(leaf)
    if array is None or array.ndim == 0 or len(array) != rows:
        return None
    if array.dtype.kind in "OUS":
        return [str(row) for row in array.tolist()]
    flat = np.ascontiguousarray(array).reshape(rows, -1)
    return [row.tobytes() for row in flat]
