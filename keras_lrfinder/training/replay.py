"""Batches for runs: to train on again and again, and held out to judge by.

Runs are compared with each other, so they all meet the same batches in the
same order. Every batch has one size, and the form that it has in the `fit` of
the user's own: a step that a run had compiled is the one that it takes.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

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


@dataclasses.dataclass(eq=False, repr=False)
class Replay:
    """The batches of all runs, by their numbers.

    Attributes:
        make: Function of the numbers of rows, or of batches: the arguments
            of a `fit` on these, in this order.
        seen: Integer, how many are trained on: the first ones.
        kept: Integer, how many are held out: those after them.
        size: Integer, how many of these are a batch.
        longest: Integer, the batches that the longest run trains on.
        per_update: Integer, how many batches an update takes.
        shuffle: Whether each epoch has an order of its own.
        batches: Integer, after how many samples come again; 0: nobody knows.
        most: Integer, on how many a run is what a training is; None: on any.
        why_not: String, why nothing is held out.
        held_out: Integer, how many batches are held out.
        again: Integer, how many trained on are judged beside them; 0 where a
            run meets no sample twice.
        epoch: Integer, after how many steps samples come again, or None.
    """

    make: Callable[[Indices], dict[str, Any]]
    seen: int
    kept: int
    size: int
    longest: int
    per_update: int
    shuffle: bool
    batches: int
    most: int | None = None
    why_not: str = ""

    def __post_init__(self) -> None:
        updates = max(self.batches // self.per_update, 1)
        self.epoch = updates if self.batches > 0 else None
        self.held_out = self.kept // self.size
        here = self.seen // self.size
        self.again = min(self.held_out, here) if here < self.longest else 0

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
            self.seen + np.arange(run.held_out * self.size),
            self._order(run.again),
        ]
        data = self.make(np.concatenate(order))
        return {**data, "epochs": 1, "shuffle": False}

    def _order(self, batches: int) -> Indices:
        """Returns the numbers of the first batches, epoch after epoch."""
        random = np.random.default_rng(1)
        seen = np.arange(self.seen)
        whole = self.seen // self.size * self.size
        order = [seen[:whole]]
        while len(order) * whole < batches * self.size:
            again = random.permutation(seen) if self.shuffle else seen
            order.append(again[:whole])
        return np.concatenate(order)[: batches * self.size]


def reserved(batches: int, size: int, wanted: int | None = None) -> int:
    """Returns how many whole batches of `size` samples are held out.

    Where more were read than the `wanted` ones, all that are left over may be.
    """
    if batches < 2:
        return 0
    most = min(max(_RESERVED_SAMPLES // size, 1), MOST_HELD_OUT)
    share = max(batches // _RESERVED_SHARE, 1)
    return min(most, max(share, batches - (wanted or batches)))


def row_runs(
    rows: Rows,
    size: int,
    *,
    ragged: bool,
    as_given: bool,
    class_weight: dict[int, float] | None,
) -> Callable[[Indices], dict[str, Any]]:
    """Returns what makes the data of runs of samples by row.

    They are `ragged` where `fit` itself ends an epoch with a smaller batch.
    """
    on = keras.backend.backend()
    can_weigh = class_weight is None or on != "torch"
    by_index = rows.are_numbers and not as_given and can_weigh
    # Whole numbers would be another type than they are with arrays.
    weights = class_weight and {k: float(v) for k, v in class_weight.items()}

    def batch(order: Indices) -> Any:
        return rows.take(order).batch()

    def make(order: Indices) -> dict[str, Any]:
        batches = InOrder(batch, order.reshape(-1, size))
        if not by_index:
            data = _as_rows(rows, order, size, ragged and on == "tensorflow")
        elif on == "tensorflow":
            spec = _spec(rows, None if ragged else size)
            data = {"x": _dataset(batches, spec)}
        else:
            data = {"x": _loader(batches) if on == "torch" else batches}
        return {**data, "class_weight": weights} if weights else data

    return make


def batch_runs(
    items: list[Any], spec: Any, class_weight: dict[int, float] | None
) -> Callable[[Indices], dict[str, Any]]:
    """Returns what makes the data of runs of batches.

    Those of a `tf.data.Dataset` have the `spec` of its elements.
    """

    def make(order: Indices) -> dict[str, Any]:
        first = range(min(len(items), 2))
        if spec is None:
            data: Any = InOrder(items.__getitem__, order, first)
        else:
            data = _dataset(InOrder(items.__getitem__, order), spec)
        weight = {} if class_weight is None else {"class_weight": class_weight}
        return {"x": data, **weight}

    return make


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


def _as_rows(
    rows: Rows, order: Indices, size: int, open_end: bool
) -> dict[str, Any]:
    """Returns the rows themselves: Keras makes batches of them."""
    if open_end:
        # A batch that is never reached: without it, TensorFlow knew the size
        # of every batch and would trace the step anew.
        order = np.append(order, order[:1])
    given = zip(("x", "y", "sample_weight"), rows.take(order).values)
    data = {name: value for name, value in given if value is not None}
    return {**data, "batch_size": size}


def _spec(rows: Rows, size: int | None) -> Any:
    """Returns the `element_spec` of what Keras makes of arrays."""
    import tensorflow as tf

    def spec(array: Any) -> Any:
        return tf.TensorSpec((size, *array.shape[1:]), array.dtype)

    one = rows.take(slice(0, 1)).batch()
    return keras.tree.map_structure(spec, keras.tree.lists_to_tuples(one))


def _dataset(batches: InOrder, spec: Any) -> Any:
    """Returns batches as TensorFlow reads them."""
    import tensorflow as tf

    def made() -> Iterator[Any]:
        items = (batches[i] for i in range(len(batches)))
        return map(keras.tree.lists_to_tuples, items)

    dataset = tf.data.Dataset.from_generator(made, output_signature=spec)
    return dataset.prefetch(2)


def _loader(batches: InOrder) -> Any:
    """Returns batches as Keras itself reads arrays on PyTorch: as tensors."""
    import torch

    def tensors(batch: Any) -> Any:
        return keras.tree.map_structure(keras.ops.convert_to_tensor, batch)

    loader = torch.utils.data.DataLoader
    return loader(batches, batch_size=None, collate_fn=tensors)


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
    """Returns batches to train on, the last ones, and why there are none.

    Where samples come again before the end, what is kept out of some batches
    would be in others: then each is taken once, in batches made anew.
    """
    end = len(batches) - reserved(len(batches), size, wanted)
    marks = list(map(marks_of, batches))
    seen, kept = (itertools.chain(*some) for some in (marks[:end], marks[end:]))
    if not set(seen).isdisjoint(kept):
        once = []
        if rows := stacked(batches):
            _, first = np.unique(np.concatenate(marks), return_index=True)
            once = rows.take(np.sort(first)).batches(size)
        if not once:
            return batches, [], "its samples come again in other batches"
        batches, end = once, len(once) - reserved(len(once), size)
    few = f"{are(len(batches), 'batch', 'es')} too few to keep one out"
    return batches[:end], batches[end:], "" if end < len(batches) else few


def are(number: int, what: str, plural: str = "s") -> str:
    """Returns "1 batch is", or "2 batches are"."""
    return f"1 {what} is" if number == 1 else f"{number} {what}{plural} are"
