"""Batches for runs: to train on again and again, and held out to judge by.

Runs are compared with each other, so they all meet the same batches in the
same order. Every batch has one size, and the form that it has in the `fit` of
the user's own: a step that a run had compiled is the one that it takes.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training.samples import Indices
from keras_lrfinder.training.samples import Rows
from keras_lrfinder.training.samples import as_array
from keras_lrfinder.training.samples import batch_rows
from keras_lrfinder.training.samples import leaves_of
from keras_lrfinder.training.samples import stacked

# Held out: about so many samples, of the data a fifth where that is a batch.
_RESERVED_SAMPLES = 256
_RESERVED_SHARE = 5
# Not longer than a probe, and no more than a probe has trained on.
MOST_HELD_OUT = 60


@dataclasses.dataclass(eq=False, repr=False)
class Replay:
    """The batches of all runs.

    Attributes:
        make: Function of the numbers of rows, or of batches: the arguments
            of a `fit` on these, in this order.
        seen: Array of integers, what is trained on.
        kept: Array of integers, what is held out.
        size: Integer, how many of these are a batch.
        steps: Integer, of the longest run.
        per_update: Integer, how many batches an update takes.
        shuffle: Whether each epoch has an order of its own.
        batches: Integer, after how many samples come again; 0: nobody knows.
            None: those of `seen`.
        most: Integer, on how many a run is what a training is; None: on any.
        why_not: String, why nothing is held out.
        held_out: Integer, how many batches are held out.
        again: Integer, how many trained on are judged beside them; 0 where a
            run meets no sample twice.
        epoch: Integer, after how many steps samples come again, or None.
    """

    make: Callable[[Indices], dict[str, Any]]
    seen: Indices
    kept: Indices
    size: int
    steps: int
    per_update: int
    shuffle: bool
    batches: int | None = None
    most: int | None = None
    why_not: str = ""

    def __post_init__(self) -> None:
        here = len(self.seen) // self.size
        batches = here if self.batches is None else self.batches
        self.epoch = max(batches // self.per_update, 1) if batches else None
        self.held_out = len(self.kept) // self.size
        comes_again = here < self.steps * self.per_update
        self.again = min(self.held_out, here) if comes_again else 0

    def enough(self, steps: int) -> bool:
        """Returns whether a run of so many steps is what a training is.

        Not where it would meet what was kept of the data again and again.
        """
        return self.most is None or steps * self.per_update <= self.most

    def fit_data(self, run: Any) -> dict[str, Any]:
        """Returns the arguments of `fit` that name the data of a run.

        One epoch: the batches of `run.steps` updates, then `run.held_out`
        that are held out, then the first `run.again` that were trained on.
        """
        order = [
            self._order(run.steps * self.per_update),
            self.kept[: run.held_out * self.size],
            self._order(run.again),
        ]
        data = self.make(np.concatenate(order))
        return {**data, "epochs": 1, "shuffle": False}

    def _order(self, batches: int) -> Indices:
        """Returns the numbers of the first batches, epoch after epoch."""
        random = np.random.default_rng(1)
        whole = len(self.seen) // self.size * self.size
        order = [self.seen[:whole]]
        while len(order) * whole < batches * self.size:
            again = random.permutation(self.seen) if self.shuffle else self.seen
            order.append(again[:whole])
        return np.concatenate(order)[: batches * self.size]


def reserved(batches: int, size: int, wanted: int | None = None) -> int:
    """Returns how many of some whole batches are held out.

    Args:
        batches: Integer, how many there are.
        size: Integer, how many samples each has.
        wanted: Integer, how many are trained on where there are more of them
            than were read. None: these are all.
    """
    if batches < 2:
        return 0
    most = min(max(_RESERVED_SAMPLES // size, 1), MOST_HELD_OUT)
    share = max(batches // _RESERVED_SHARE, 1)
    return min(most, max(share, batches - (wanted or batches)))


class RowRuns:
    """Makes the data of runs of samples by row.

    Args:
        rows: Those that are trained on, and may be held out.
        validation: Others, like them, whose numbers come after; or None.
        size: Integer, rows of a batch.
        ragged: Whether `fit` itself ends an epoch with a smaller batch.
        as_given: Whether they have to stay the kind that they are.
        class_weight: As given to `fit`.
    """

    def __init__(
        self,
        rows: Rows,
        validation: Rows | None,
        size: int,
        *,
        ragged: bool,
        as_given: bool,
        class_weight: dict[int, float] | None,
    ) -> None:
        self._parts = [rows] if validation is None else [rows, validation]
        self._size, self._ragged = size, ragged
        self._class_weight = class_weight
        self._on = keras.backend.backend()
        no_weights = class_weight is None or self._on != "torch"
        self._by_index = rows.are_numbers and not as_given and no_weights
        if self._by_index and self._on == "tensorflow":
            self._tensors = [_tensors(part.batch()) for part in self._parts]

    def make(self, order: Indices) -> dict[str, Any]:
        """Returns arguments of `fit`: these rows, in this order."""
        if not self._by_index:
            data = self._rows(order)
        elif self._on == "tensorflow":
            data = {"x": self._dataset(order)}
        else:
            batches = InOrder(self._batch, order.reshape(-1, self._size))
            data = {"x": _loader(batches) if self._on == "torch" else batches}
        if self._class_weight is not None:
            # Whole numbers would be another type than they are with arrays.
            weights = {k: float(v) for k, v in self._class_weight.items()}
            data["class_weight"] = weights
        return data

    def _split(self, order: Indices) -> Iterator[tuple[int, Indices]]:
        """Yields what is of one part, with its numbers there."""
        first = self._parts[0].count
        later = order >= first
        for some in np.split(order, np.flatnonzero(np.diff(later)) + 1):
            part = int(some[0] >= first)
            yield part, some - part * first

    def _batch(self, order: Indices) -> Any:
        ((part, rows),) = self._split(order)
        return self._parts[part].take(rows).batch()

    def _rows(self, order: Indices) -> dict[str, Any]:
        """Returns the rows themselves: Keras makes batches of them."""
        if self._ragged and self._on == "tensorflow":
            # One that is never reached: without it, TensorFlow knew the size
            # of every batch and would trace the step anew.
            order = np.append(order, order[:1])
        taken = [self._parts[p].take(rows) for p, rows in self._split(order)]
        rows = functools.reduce(Rows.joined, taken)
        given = zip(("x", "y", "sample_weight"), rows.values)
        data = {name: value for name, value in given if value is not None}
        return {**data, "batch_size": self._size}

    def _dataset(self, order: Indices) -> Any:
        """Returns what Keras makes of arrays, of tensors that are made once."""
        import tensorflow as tf

        def batches(part: int, rows: Indices) -> Any:
            def pick(some: Any) -> Any:
                return keras.tree.map_structure(
                    lambda tensor: tf.gather(tensor, some), self._tensors[part]
                )

            numbers = tf.data.Dataset.from_tensor_slices(rows)
            # The size is part of the shape where it is for the user's fit.
            return numbers.batch(self._size, not self._ragged).map(pick)

        parts = itertools.starmap(batches, self._split(order))
        whole = functools.reduce(lambda one, more: one.concatenate(more), parts)
        return whole.prefetch(2)


def _tensors(arrays: Any) -> Any:
    import tensorflow as tf

    with tf.device("cpu:0"):
        return keras.tree.map_structure(
            tf.convert_to_tensor, keras.tree.lists_to_tuples(arrays)
        )


def _loader(batches: Any) -> Any:
    """Returns batches as Keras itself reads arrays on PyTorch: as tuples."""
    import torch

    def tensors(batch: Any) -> Any:
        return keras.tree.map_structure(keras.ops.convert_to_tensor, batch)

    loader = torch.utils.data.DataLoader
    return loader(batches, batch_size=None, collate_fn=tensors)


class InOrder(keras.utils.PyDataset):
    """Batches in their order, each made when it is asked for.

    Args:
        make: Function that makes a batch.
        of: What each is made of.
        first: What the first two of all are made of: Keras takes the form
            of all others from them, before an epoch begins.
    """

    def __init__(
        self, make: Callable[[Any], Any], of: Any, first: Any = ()
    ) -> None:
        super().__init__()
        self._make, self._of, self._first = make, of, first

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, index: int) -> Any:
        of = self._first if index < len(self._first) else self._of
        return self._make(of[index])

    def on_epoch_begin(self) -> None:
        """Goes on to what is trained on."""
        self._first = ()


def batch_runs(
    items: list[Any], spec: Any, class_weight: dict[int, float] | None
) -> Callable[[Indices], dict[str, Any]]:
    """Returns what makes the data of runs of batches.

    Args:
        items: The batches.
        spec: The `element_spec` of the `tf.data.Dataset` that they are of,
            or None.
        class_weight: As given to `fit`.
    """

    def make(order: Indices) -> dict[str, Any]:
        numbers, item = order.tolist(), items.__getitem__
        data: Any = InOrder(item, numbers, range(min(len(items), 2)))
        if spec is not None:
            import tensorflow as tf

            data = tf.data.Dataset.from_generator(
                lambda: map(item, numbers), output_signature=spec
            ).prefetch(2)
        weight = {} if class_weight is None else {"class_weight": class_weight}
        return {"x": data, **weight}

    return make


def of_one_size(batches: list[Any]) -> tuple[list[Any], int]:
    """Returns batches without the ragged ones, and how many rows each has.

    All of them, where most are of other sizes.
    """
    sizes = list(map(batch_rows, batches))
    size, number = collections.Counter(sizes).most_common(1)[0]
    if 2 * number < len(sizes):
        return batches, size
    return [b for b, rows in zip(batches, sizes) if rows == size], size


def apart(
    batches: list[Any], size: int, wanted: int
) -> tuple[list[Any], list[Any], str]:
    """Returns batches to train on, and the last ones, to judge by.

    Where samples come again before the end, what is kept out of some batches
    would be in others: then each is taken once, in batches made anew.

    Args:
        batches: List of batches.
        size: Integer, how many samples each has.
        wanted: Integer, how many are to train on.

    Returns:
        The two, and why there are none of the second.
    """
    end = len(batches) - reserved(len(batches), size, wanted)
    marks = list(map(_marks_of, batches))
    of_seen = set(itertools.chain(*marks[:end]))
    if not of_seen.isdisjoint(itertools.chain(*marks[end:])):
        first: dict[Any, int] = {}
        for index, mark in enumerate(itertools.chain(*marks)):
            first.setdefault(mark, index)
        rows = stacked(batches)
        order = np.array(list(first.values()))
        once = rows.take(order).batches(size) if rows else []
        if not once:
            return batches, [], "its samples come again in other batches"
        batches, end = once, len(once) - reserved(len(once), size)
    number = len(batches)
    only = "1 batch is" if number == 1 else f"{number} batches are"
    why_not = "" if end < number else f"{only} too few to keep one out"
    return batches[:end], batches[end:], why_not


def _marks_of(batch: Any) -> list[Any]:
    """Returns a mark for each sample: equal samples have equal ones."""
    rows = batch_rows(batch)
    columns = [_column_marks(leaf, rows) for leaf in leaves_of(batch)]
    if columns and all(columns):
        return [hash(parts) for parts in zip(*columns)]
    return [object() for _ in range(rows)]  # equal to no other


def _column_marks(leaf: Any, rows: int) -> list[Any]:
    array = as_array(leaf)
    if array is None or array.ndim == 0 or len(array) != rows:
        return []
    if array.dtype.kind in "OUS":
        return [str(row) for row in array.tolist()]
    flat = np.ascontiguousarray(array).reshape(rows, -1)
    return [row.tobytes() for row in flat]
