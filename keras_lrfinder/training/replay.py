"""Batches for runs: to train on again and again, and held out to judge by.

Runs are compared with each other, so they all meet the same batches in the
same order. Every batch has one size, and the form that it has in the `fit` of
the user's own: a step that a run had compiled is the one that it takes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training import samples
from keras_lrfinder.training.samples import Indices
from keras_lrfinder.training.samples import Rows

# Held out: about so many samples, of the data a fifth where that is a batch.
MOST_SAMPLES = 256
_RESERVED_SHARE = 5
# Not longer than a probe, and no more than a probe has trained on.
MOST_HELD_OUT = 60


# What makes the arguments of a `fit` on what has these numbers, in this order.
_Make = Callable[[Indices], dict[str, Any]]


@dataclasses.dataclass(eq=False, repr=False)
class Replay:
    """The batches of all runs, by the numbers of their rows, or their own.

    `held_out` batches are held out, and `again` of those trained on are judged
    beside them: none where a run meets no sample twice. After `epoch` steps
    samples come again; None: nobody knows.
    """

    make: _Make
    trained: Indices  # What the longest run trains on, a line for each batch.
    kept: Indices  # What is held out, likewise.
    batches: int | None  # After how many samples come again, if known.
    per_update: int  # How many batches an update takes.
    most: int | None = None  # On how many a run is what a training is.
    why_not: str = ""  # Why nothing is held out.

    def __post_init__(self) -> None:
        here = len(self.trained) if self.batches is None else self.batches
        self.epoch = self.batches and max(here // self.per_update, 1)
        self.held_out = len(self.kept)
        is_again = here < len(self.trained)
        self.again = min(self.held_out, here) if is_again else 0

    def enough(self, steps: int) -> bool:
        """Returns whether so much was read that a training is no other."""
        return self.most is None or steps * self.per_update <= self.most

    def fit_data(self, run: Any) -> dict[str, Any]:
        """Returns the arguments of `fit` that name the data of a run.

        One epoch: the batches of `run.steps` updates, then `run.held_out`
        that are held out, then the first `run.again` that were trained on.
        """
        trained = self.trained[: run.steps * self.per_update]
        judged = self.kept[: run.held_out], self.trained[: run.again]
        data = self.make(np.concatenate([trained, *judged]))
        return {**data, "epochs": 1, "shuffle": False}


def epochs(count: int, size: int, longest: int, shuffle: bool) -> Indices:
    """Returns the numbers of so many batches, epoch after epoch."""
    random = np.random.default_rng(1)
    numbers = np.arange(count)
    whole = count // size * size
    order = numbers[:whole]
    while len(order) < longest * size:
        again = random.permutation(numbers) if shuffle else numbers
        order = np.append(order, again[:whole])
    return order[: longest * size].reshape(-1, size)


def reserved(batches: int, size: int, wanted: int | None = None) -> int:
    """Returns how many whole batches of `size` samples are held out.

    Where more were read than the `wanted` ones, all that are left over may be.
    """
    if batches < 2:
        return 0
    most = min(max(MOST_SAMPLES // size, 1), MOST_HELD_OUT)
    share = max(batches // _RESERVED_SHARE, 1)
    return min(most, max(share, batches - (wanted or batches)))


def row_runs(rows: Rows, size: int, as_given: bool) -> _Make:
    """Returns what makes the data of runs of samples by row."""
    by_index, spec = rows.are_numbers and not as_given, None
    if by_index and keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # A step traced for batches of any size is taken for these as well.
        one = keras.tree.lists_to_tuples(rows.take(slice(0, size)).batch())
        spec = tf.data.Dataset.from_tensors(one).element_spec

    def make(order: Indices) -> dict[str, Any]:
        if by_index:
            data = in_order(lambda i: rows.take(i).batch(), order, spec)
            on_torch = keras.backend.backend() == "torch"
            return {"x": _loader(data) if on_torch else data}
        given = zip(samples.NAMES, rows.take(order.ravel()).values)
        data = {name: value for name, value in given if value is not None}
        return {**data, "batch_size": size}

    return make


def in_order(
    make: Callable[[Any], Any], of: Any, spec: Any, first: Any = ()
) -> Any:
    """Returns batches, each made of one of these when it is asked for."""
    if spec is None:
        return _InOrder(make, of, first)
    import tensorflow as tf

    dataset = tf.data.Dataset.from_generator(
        lambda: (keras.tree.lists_to_tuples(make(i)) for i in of),
        output_signature=spec,
    )
    return dataset.prefetch(2)


def _loader(batches: Any) -> Any:
    """Returns batches as Keras itself reads arrays on PyTorch: as tensors."""
    import torch

    def tensors(batch: Any) -> Any:
        return keras.tree.map_structure(keras.ops.convert_to_tensor, batch)

    loader = torch.utils.data.DataLoader
    return loader(batches, batch_size=None, collate_fn=tensors)


class _InOrder(keras.utils.PyDataset):
    """Batches, after the first of all where Keras takes the form of them."""

    def __init__(self, make: Callable[[Any], Any], of: Any, first: Any) -> None:
        super().__init__()
        looks_ahead = keras.backend.backend() == "tensorflow"
        self._first = [*first[: len(of)]] if looks_ahead else []
        self._make, self._of = make, of

    def __len__(self) -> int:
        return len(self._of)

    def __getitem__(self, index: int) -> Any:
        return (
            self._first.pop(0) if self._first else self._make(self._of[index])
        )


def of_one_size(batches: list[Any]) -> tuple[list[Any], int]:
    """Returns batches without the ragged ones, and how many rows each has.

    All of them, where most are of other sizes.
    """
    size = samples.rows_of(batches[0])
    same = [batch for batch in batches if samples.rows_of(batch) == size]
    return same if 2 * len(same) >= len(batches) else batches, size


def apart(
    batches: list[Any], size: int, wanted: int
) -> tuple[list[Any], list[Any], str]:
    """Returns batches to train on, the last ones, and why there are none.

    Where samples come again before the end, what is kept out of some batches
    would be in others: then each is taken once, in batches made anew.
    """
    end = len(batches) - reserved(len(batches), size, wanted)
    marks = list(map(samples.marks_of, batches))
    seen, kept = (itertools.chain(*some) for some in (marks[:end], marks[end:]))
    if not set(seen).isdisjoint(kept):
        once = []
        if rows := Rows.of_batches(batches):
            _, first = np.unique(np.concatenate(marks), return_index=True)
            once = rows.take(np.sort(first)).batches(size)
        if not once:
            return batches, [], "its samples come again in other batches"
        batches, end = once, len(once) - reserved(len(once), size)
    few = "1 batch is too few to keep one out"
    return batches[:end], batches[end:], "" if end < len(batches) else few
