"""Batches for runs: to train on again and again, and held out to judge by.

Runs are compared with each other, so they all meet the same batches in the
same order. Every batch has one size, and the form that it has in the `fit` of
the user's own: a step that a run had compiled is the one that it takes.
"""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any
from typing import Protocol

import keras
import numpy as np

from keras_lrfinder.training.samples import Indices
from keras_lrfinder.training.samples import Rows
from keras_lrfinder.training.samples import batch_rows
from keras_lrfinder.training.samples import marks_of
from keras_lrfinder.training.samples import stacked

# Held out: about so many samples, of the data a fifth where that is a batch.
_RESERVED_SAMPLES = 256
_RESERVED_SHARE = 5
# Not longer than a probe, and no more than a probe has trained on.
MOST_HELD_OUT = 60


class Source(Protocol):
    """Makes the data of a fit of rows or batches by their numbers."""

    def fit_data(self, order: Indices) -> dict[str, Any]:
        """Returns arguments of `fit`: these rows or batches, in order."""


class Replay:
    """The batches of all runs.

    Args:
        source: Makes the data of a fit.
        seen: Array of integers, the numbers of what is trained on.
        kept: Array of integers, the numbers of what is held out.
        size: Integer, how many of these are a batch.
        steps: Integer, of the longest run.
        per_update: Integer, how many batches an update takes.
        shuffle: Whether each epoch after the first has an order of its own.
        epoch: Integer, after how many batches samples come again; None:
            after those of `seen`; 0: nobody knows.
        most: Integer, of how many batches a run is still what a training as
            long would be; None: of any number.
        why_not: String, why nothing is held out.

    Attributes:
        held_out: Integer, how many batches are held out.
        again: Integer, how many that were trained on are judged beside them;
            0 where a run meets no sample twice.
        epoch: Integer, after how many steps it meets samples again, or None.
        why_not: As given.
    """

    def __init__(
        self,
        source: Source,
        seen: Indices,
        kept: Indices,
        size: int,
        *,
        steps: int,
        per_update: int,
        shuffle: bool,
        epoch: int | None = None,
        most: int | None = None,
        why_not: str = "",
    ) -> None:
        self._source = source
        self._per_epoch = len(seen) // size
        self._seen, self._kept, self._size = seen, kept, size
        self._per_update, self._shuffle = per_update, shuffle
        self._most = most
        self.why_not = why_not
        self.held_out = len(kept) // size
        batches = self._per_epoch if epoch is None else epoch
        self.epoch = max(batches // per_update, 1) if batches else None
        comes_again = self._per_epoch < steps * per_update
        self.again = min(self.held_out, self._per_epoch) if comes_again else 0

    def enough(self, steps: int) -> bool:
        """Returns whether a run of so many steps is what a training is.

        Not where it would meet what was kept of the data again and again.
        """
        return self._most is None or steps * self._per_update <= self._most

    def fit_data(self, run: Any) -> dict[str, Any]:
        """Returns the arguments of `fit` that name the data of a run.

        One epoch: the batches of `run.steps` updates, then `run.held_out`
        that are held out, then the first `run.again` that were trained on.
        """
        order = [
            self._order(run.steps * self._per_update),
            self._kept[: run.held_out * self._size],
            self._order(run.again),
        ]
        data = self._source.fit_data(np.concatenate(order))
        return {**data, "epochs": 1, "shuffle": False}

    def _order(self, batches: int) -> Indices:
        """Returns the numbers of the first batches, epoch after epoch."""
        random = np.random.default_rng(1)
        seen, whole = self._seen, self._per_epoch * self._size
        order = [seen[:whole]]
        for _ in range(1, -(-batches // self._per_epoch)):
            order.append(random.permutation(seen) if self._shuffle else seen)
        found = np.concatenate([each[:whole] for each in order])
        return found[: batches * self._size]


def reserved(batches: int, size: int) -> int:
    """Returns how many of some batches are held out.

    Args:
        batches: Integer, how many whole ones there are.
        size: Integer, how many samples each has.
    """
    if batches < 2:
        return 0
    wanted = min(max(_RESERVED_SAMPLES // size, 1), MOST_HELD_OUT)
    return min(wanted, max(batches // _RESERVED_SHARE, 1))


# --- Samples by row ----------------------------------------------------------


class RowRuns:
    """Makes the data of runs of samples by row.

    Args:
        rows: `data.Rows`; those of validation data have the numbers after.
        validation: The same, or None.
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
        self._on_tensorflow = keras.backend.backend() == "tensorflow"
        self._by_index = rows.are_numbers and not as_given
        if self._by_index and self._on_tensorflow:
            self._tensors = [_tensors(part.batch()) for part in self._parts]

    def fit_data(self, order: Indices) -> dict[str, Any]:
        """Returns arguments of `fit`: these rows, in this order."""
        weight: dict[str, Any] = {}
        if self._class_weight is not None:
            # Whole numbers would be another type than they are with arrays.
            weights = {k: float(v) for k, v in self._class_weight.items()}
            weight = {"class_weight": weights}
        if not self._by_index:
            return {**self._named(order), **weight}
        if self._on_tensorflow:
            return {"x": self._dataset(order), **weight}
        batches = order.reshape(-1, self._size)
        return {"x": InOrder(self._batch, batches), **weight}

    def _split(self, order: Indices) -> Iterator[tuple[int, Indices]]:
        """Yields what is of one part, with its numbers there."""
        first = self._parts[0].count
        later = order >= first
        for part, rows in itertools.groupby(
            range(len(order)), later.__getitem__
        ):
            found = order[np.fromiter(rows, dtype=np.int64)]
            yield int(part), found - first if part else found

    def _batch(self, order: Indices) -> Any:
        ((part, rows),) = self._split(order)
        return self._parts[part].take(rows).batch()

    def _named(self, order: Indices) -> dict[str, Any]:
        """Returns the rows themselves: Keras makes batches of them."""
        if self._ragged and self._on_tensorflow:
            # One that is never reached: without it, TensorFlow knew the size
            # of every batch and would trace the step anew.
            order = np.append(order, order[:1])
        taken = [self._parts[p].take(rows) for p, rows in self._split(order)]
        rows = functools.reduce(lambda one, more: one.joined(more), taken)
        given = zip(("x", "y", "sample_weight"), rows.values)
        named = {name: value for name, value in given if value is not None}
        return {**named, "batch_size": self._size}

    def _dataset(self, order: Indices) -> Any:
        """Returns what Keras would make of the arrays, of tensors made once."""
        import tensorflow as tf

        def batches(part: int, rows: Indices) -> Any:
            def pick(some: Any) -> Any:
                return keras.tree.map_structure(
                    lambda tensor: tf.gather(tensor, some), self._tensors[part]
                )

            numbers = tf.data.Dataset.from_tensor_slices(rows)
            # The size is part of the shape where it is for the user's fit.
            numbers = numbers.batch(self._size, drop_remainder=not self._ragged)
            return numbers.map(pick)

        parts = itertools.starmap(batches, self._split(order))
        return functools.reduce(lambda a, b: a.concatenate(b), parts).prefetch(
            2
        )


def _tensors(arrays: Any) -> Any:
    import tensorflow as tf

    with tf.device("cpu:0"):
        return keras.tree.map_structure(
            tf.convert_to_tensor, keras.tree.lists_to_tuples(arrays)
        )


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
        self._begun = False

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, index: int) -> Any:
        early = not self._begun and index < len(self._first)
        return self._make(self._first[index] if early else self._of[index])

    def on_epoch_begin(self) -> None:
        """Marks that from now on batches are trained on."""
        self._begun = True


# --- Batches by order --------------------------------------------------------


class BatchRuns:
    """Makes the data of runs of batches.

    Args:
        items: List of the batches.
        spec: On TensorFlow, the `element_spec` of the dataset that they come
            from; else None.
        class_weight: As given to `fit`.
    """

    def __init__(
        self,
        items: list[Any],
        spec: Any = None,
        class_weight: dict[int, float] | None = None,
    ) -> None:
        self._items, self._spec = items, spec
        self._weight = (
            {} if class_weight is None else {"class_weight": class_weight}
        )

    def fit_data(self, order: Indices) -> dict[str, Any]:
        """Returns arguments of `fit`: these batches, in this order."""
        numbers = order.tolist()
        if self._spec is None:
            data: Any = InOrder(self._items.__getitem__, numbers, range(2))
        else:
            import tensorflow as tf

            data = tf.data.Dataset.from_generator(
                lambda: map(self._items.__getitem__, numbers),
                output_signature=self._spec,
            ).prefetch(2)
        return {"x": data, **self._weight}


def of_one_size(batches: list[Any]) -> tuple[list[Any], int]:
    """Returns batches without the ragged ones, and how many rows each has.

    All of them, where most are of other sizes.
    """
    sizes = list(map(batch_rows, batches))
    size, number = collections.Counter(sizes).most_common(1)[0]
    if 2 * number < len(sizes):
        return batches, size
    return [b for b, rows in zip(batches, sizes) if rows == size], size


def apart(batches: list[Any], size: int) -> tuple[list[Any], list[Any], str]:
    """Returns batches to train on, and the last ones, to judge by.

    Where samples come again before the end, what is kept out of some batches
    would be in others: then each is taken once, in batches made anew.

    Returns:
        The two, and why there are none of the second.
    """
    end = len(batches) - reserved(len(batches), size)
    new = itertools.count()
    marks = [marks_of(batch, new) for batch in batches]
    of_seen = set(itertools.chain(*marks[:end]))
    if not of_seen.isdisjoint(itertools.chain(*marks[end:])):
        rows = stacked(batches)
        first: dict[Any, int] = {}
        for index, mark in enumerate(itertools.chain(*marks)):
            first.setdefault(mark, index)
        once = (
            []
            if rows is None
            else rows.take(np.array([*first.values()])).batches(size)
        )
        if not once:
            return batches, [], "its samples come again in other batches"
        batches, end = once, len(once) - reserved(len(once), size)
    number = len(batches)
    only = "1 batch is" if number == 1 else f"{number} batches are"
    why_not = "" if end < number else f"{only} too few to keep one out"
    return batches[:end], batches[end:], why_not
