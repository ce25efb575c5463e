"""A small part of a data set, to be trained on again and again.

Probes are compared with each other, so they all see the same batches in the
same order; and they are judged by samples that they do not train on.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np

__all__ = [
    "MOST_BYTES",
    "Arrays",
    "Replay",
    "bytes_of",
    "copied",
    "is_arrays",
    "length",
    "make_replay",
    "sample",
    "take",
]

# Of the samples, kept out of the probes' batches to judge them by.
_RESERVED_SHARE = 5
_MOST_RESERVED = 256
# Validation data beyond this tells nothing more about a short run.
_MOST_VALIDATION = 2048
# Batches are held in memory; more than this is not worth a probe.
MOST_BYTES = 2**30


@dataclasses.dataclass
class Replay:
    """Data for probes.

    Attributes:
        train: Arguments of `fit` that name the data.
        held_out: Arguments of `evaluate` that name samples which `train`
            does not have, or None where there are too few.
        source: String, what these are.
    """

    train: dict[str, Any]
    held_out: dict[str, Any] | None
    source: str = "reserved samples"


@dataclasses.dataclass(frozen=True)
class Arrays:
    """Arrays of samples: `(x, y, sample_weight)`, nested as `fit` takes."""

    values: Any
    batch_size: int


class _Batches(keras.utils.PyDataset):
    """Ready batches, in their order."""

    def __init__(self, batches: list[Any]) -> None:
        super().__init__()
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Any:
        return self._batches[index]


def make_replay(source: Any, batches: int, *, reserve: bool) -> Replay | None:
    """Returns a part of `source` to train on, and another to judge by.

    Args:
        source: `Arrays`, a list of batches, a `tf.data.Dataset`, a
            `PyDataset` or a PyTorch `DataLoader`.
        batches: Integer, how many batches one run trains on; where there are
            fewer, it goes through them several times.
        reserve: Whether to keep samples out to judge by.

    Returns:
        `Replay`, or None where `source` is nothing of these, is empty, or
        its batches are too large to be held in memory.
    """
    if isinstance(source, Arrays):
        return _of_arrays(source, batches, reserve)
    if hasattr(source, "element_spec"):
        return _of_dataset(source, batches, reserve)
    if isinstance(source, keras.utils.PyDataset):
        return _of_batches(_items(source), batches, reserve, _Batches)
    if isinstance(source, list):
        return _of_batches(source, batches, reserve, _Batches)
    if type(source).__module__.startswith("torch.utils.data"):
        return _of_batches(source, batches, reserve, _loader)
    return None


def sample(validation: Any, batch_size: int) -> dict[str, Any]:
    """Returns arguments of `evaluate` for a part of the validation data."""
    if not isinstance(validation, (tuple, list)):
        if hasattr(validation, "element_spec"):
            validation = validation.take(-(-_MOST_VALIDATION // batch_size))
        return {"x": validation}
    values = (*validation, None)[:3]
    if is_arrays(values) and length(values) > _MOST_VALIDATION:
        rows = _shuffled(length(values))[:_MOST_VALIDATION]
        values = take(values, np.sort(rows))
    return _named(values, batch_size)


def is_arrays(structure: Any) -> bool:
    """Returns whether everything in a nested structure is an array."""
    leaves = [v for v in keras.tree.flatten(structure) if v is not None]
    return bool(leaves) and all(
        hasattr(v, "shape") and hasattr(v, "__getitem__") for v in leaves
    )


def length(structure: Any) -> int:
    """Returns the number of rows of a nested structure of arrays."""
    leaves = [v for v in keras.tree.flatten(structure) if v is not None]
    return int(leaves[0].shape[0])


def take(structure: Any, rows: slice | np.ndarray[Any, Any]) -> Any:
    """Returns some rows of every array of a nested structure."""

    def some(array: Any) -> Any:
        if array is None:
            return None
        if isinstance(rows, slice) or isinstance(array, np.ndarray):
            return array[rows]
        if hasattr(array, "iloc"):
            return array.iloc[rows]
        return keras.ops.take(array, rows, axis=0)

    return keras.tree.map_structure(some, structure)


def copied(batch: Any) -> Any:
    """Returns a batch whose arrays no generator can write into any more."""
    return keras.tree.map_structure(
        lambda v: v.copy() if isinstance(v, np.ndarray) else v, batch
    )


def bytes_of(batch: Any) -> int:
    """Returns about how much memory a batch takes, at eight bytes a number."""
    return sum(
        int(np.prod([d or 1 for d in v.shape])) * 8
        for v in keras.tree.flatten(batch)
        if hasattr(v, "shape")
    )


def _of_arrays(source: Arrays, batches: int, reserve: bool) -> Replay | None:
    rows = length(source.values)
    order = _shuffled(rows)
    kept = _reserved(rows) if reserve else 0
    if rows == kept:
        return None
    size = min(source.batch_size, rows - kept)
    # One epoch without a ragged batch, however few samples there are: the
    # epoch ends of a fit take longer than its steps.
    used = np.resize(order[kept:], batches * size)
    train = _named(take(source.values, used), size, whole=True)
    held_out = None
    if kept:
        held_out = _named(take(source.values, order[:kept]), source.batch_size)
    return Replay(train, held_out)


def _of_batches(
    source: Iterable[Any], batches: int, reserve: bool, wrap: Any
) -> Replay | None:
    found = list(itertools.islice(source, 1))
    if not found:
        return None
    kept = _reserved_batches(found[0]) if reserve else 0
    wanted = batches + kept
    if bytes_of(found[0]) * wanted > MOST_BYTES:
        return None
    found = list(itertools.islice(source, wanted))
    kept = min(kept, len(found) // _RESERVED_SHARE)
    held_out = {"x": wrap(found[:kept])} if kept else None
    return Replay({"x": wrap(found[kept:])}, held_out)


def _of_dataset(source: Any, batches: int, reserve: bool) -> Replay | None:
    first = next(iter(source.take(1)), None)
    if first is None:
        return None
    kept = _reserved_batches(first) if reserve else 0
    wanted = batches + kept
    if bytes_of(first) * wanted > MOST_BYTES:
        return None
    cached = source.take(wanted).cache()
    found = sum(1 for _ in cached)  # a cache must be read to its end once
    kept = min(kept, found // _RESERVED_SHARE)
    held_out = {"x": cached.take(kept)} if kept else None
    return Replay({"x": cached.skip(kept)}, held_out)


def _items(dataset: Any) -> Iterable[Any]:
    batches = dataset.num_batches
    indices = itertools.count() if batches is None else range(batches)
    return (dataset[index] for index in indices)


def _loader(batches: list[Any]) -> Any:
    import torch

    return torch.utils.data.DataLoader(batches, batch_size=None)


def _shuffled(rows: int) -> np.ndarray[Any, Any]:
    # A generator of its own: the global ones belong to the user.
    return np.random.default_rng(0).permutation(rows)


def _reserved(rows: int) -> int:
    return min(rows // _RESERVED_SHARE, _MOST_RESERVED)


def _reserved_batches(batch: Any) -> int:
    rows = length(batch) if is_arrays(batch) else 1
    return max(1, _MOST_RESERVED // max(rows, 1))


def _named(values: Any, batch_size: int, whole: bool = False) -> dict[str, Any]:
    """Returns arguments of `fit` and `evaluate` for arrays, in this order.

    `whole` says that every batch has `batch_size` rows.
    """
    x, y, weights = values
    dataset = _ready_dataset(values, batch_size, whole)
    if dataset is not None:
        return {"x": dataset}
    return {
        "x": x,
        "y": y,
        "sample_weight": weights,
        "batch_size": batch_size,
    }


def _ready_dataset(values: Any, batch_size: int, whole: bool) -> Any:
    """Returns the batches that TensorFlow would make of some arrays, or None.

    It makes them anew for every `fit` and `evaluate`, which takes 0.1 s:
    longer than small models need for a probe, or for what judges it.
    """
    x, y, weights = values
    if keras.backend.backend() != "tensorflow" or y is None:
        return None
    arrays = (x, y) if weights is None else (x, y, weights)
    if not all(isinstance(a, np.ndarray) for a in arrays):
        return None
    if not all(a.dtype.kind in "fiub" for a in arrays):
        return None
    import tensorflow as tf

    numbers = tuple(
        a.astype(keras.config.floatx()) if a.dtype.kind == "f" else a
        for a in arrays
    )
    dataset = tf.data.Dataset.from_tensor_slices(numbers)
    # Which makes their size part of the shape, as with Keras's own batches:
    # with it the training step need not be traced anew.
    return dataset.batch(batch_size, drop_remainder=whole)
