"""Samples by row, and batches by order: what can be read of each.

Rows are whatever `fit` takes as `x`, `y` and `sample_weight` and has one entry
for each sample: arrays, tables, sparse and ragged ones, lists, nested too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

# Batches are kept in memory; of large ones at least what a probe takes.
MOST_BYTES = 2**30
FEWEST = 76


class UnreadableError(Exception):
    """Data that runs cannot read. The message ends "not probed, as …"."""


class Rows:
    """`(x, y, sample_weight)` whose columns have one entry for each sample.

    Args:
        values: The three, nested as `fit` takes them, None where not given.
        count: Integer, how many samples there are.
    """

    def __init__(self, values: Any, count: int) -> None:
        self.values = values
        self.count = count
        self.are_numbers = all(map(_is_numbers, leaves_of(values)))

    @classmethod
    def of(cls, values: Any) -> Rows | None:
        """Returns the rows of `values`; None: they are nothing of the kind."""
        leaves = leaves_of(values)
        if not leaves or not all(map(_has_rows, leaves)):
            return None
        counts = set(map(_length, leaves))
        # Of unequal ones `fit` knows best what to say.
        return cls(values, counts.pop()) if len(counts) == 1 else None

    def take(self, rows: Indices | slice) -> Rows:
        """Returns some rows, each as often and where `rows` names it."""
        numbers = np.arange(self.count)[rows]
        values = _map(lambda leaf: _taken(leaf, rows), self.values)
        return Rows(values, len(numbers))

    def as_numbers(self) -> Rows:
        """Returns the arrays of numbers that Keras makes of them, or self."""
        rows = Rows(_map(_as_numbers, self.values), self.count)
        return rows if rows.are_numbers else self

    def like(self, other: Rows) -> Rows | None:
        """Returns them in the form of others; None: they have another."""
        x, y, weight = (self.as_numbers() if other.are_numbers else self).values
        wanted = other.values[2]
        if weight is None and other.are_numbers:
            rows = (self.count,)
            weight = _map(lambda w: np.ones(rows + w.shape[1:]), wanted)
        mine = Rows((x, y, None if wanted is None else weight), self.count)
        if not (mine.are_numbers and other.are_numbers):
            both = mine, other.take(slice(0, 1))
            kinds = [list(map(type, leaves_of(rows.values))) for rows in both]
            known = (list, np.ndarray)
            can = all(k in known or hasattr(k, "tocsr") for k in kinds[0])
            return mine if can and kinds[0] == kinds[1] else None
        try:
            values = keras.tree.map_structure(_like, mine.values, other.values)
        except (TypeError, ValueError):
            return None
        return Rows(values, self.count)

    def joined(self, more: Rows) -> Rows:
        """Returns these and others that are like them."""
        others = iter(leaves_of(more.values))
        values = _map(lambda leaf: _joined(leaf, next(others)), self.values)
        return Rows(values, self.count + more.count)

    def batch(self) -> Any:
        """Returns them as one batch."""
        x, y, weight = self.values
        if isinstance(y, (dict, list, tuple)) and hasattr(weight, "shape"):
            weight = _map(lambda leaf: weight, y)  # as Keras
        return keras.utils.pack_x_y_sample_weight(x, y, weight)

    def batches(self, size: int) -> list[Any]:
        """Returns them as whole batches."""
        ends = range(size, self.count + 1, size)
        return [self.take(slice(end - size, end)).batch() for end in ends]


def leaves_of(structure: Any) -> list[Any]:
    """Returns the columns of a nested structure, in order, without None."""
    found: list[Any] = []
    _map(found.append, structure)
    return found


def bytes_of(structure: Any) -> int:
    """Returns about how much memory a nested structure takes."""
    return sum(map(_bytes_of, leaves_of(structure)))


def not_finite(batches: Iterable[Any]) -> dict[str, str]:
    """Returns which of `x`, `y` and `sample_weight` has NaN, or infinity."""
    found: dict[str, str] = {}
    for batch in batches:
        values = keras.utils.unpack_x_y_sample_weight(batch)
        for name, value in zip(("x", "y", "sample_weight"), values):
            for what in filter(None, map(_not_finite, leaves_of(value))):
                found.setdefault(name, what)
    return found


# --- Columns -----------------------------------------------------------------


def _is_column(value: Any) -> bool:
    """Returns whether it is a list of samples, rather than several inputs."""
    if (
        isinstance(value, list)
        and value
        and isinstance(value[0], (list, tuple))
    ):
        return _is_column(value[0])
    if not isinstance(value, (list, tuple)) or not value:
        return isinstance(value, list)
    plain = (str, bytes, int, float, complex, np.generic)
    return isinstance(value[0], plain) or getattr(value[0], "shape", None) == ()


def _map(function: Callable[[Any], Any], structure: Any) -> Any:
    if structure is None:
        return None
    if isinstance(structure, dict):
        values = {k: _map(function, v) for k, v in structure.items()}
        return type(structure)(values)
    if isinstance(structure, (list, tuple)) and not _is_column(structure):
        parts = [_map(function, v) for v in structure]
        named = hasattr(structure, "_fields")
        return type(structure)(*parts) if named else type(structure)(parts)
    return function(structure)


def _has_rows(leaf: Any) -> bool:
    arrays = ("__array__", "iloc", "tocsr", "indices", "row_splits")
    return _is_column(leaf) or (
        len(getattr(leaf, "shape", None) or ()) > 0
        and any(hasattr(leaf, name) for name in arrays)
    )


def _length(leaf: Any) -> int:
    shape = getattr(leaf, "shape", None)
    return len(leaf) if shape is None else int(shape[0])


def _is_numbers(leaf: Any) -> bool:
    if hasattr(leaf, "todense") and not hasattr(leaf, "tocsr"):
        return bool(keras.backend.backend() == "jax")  # its own sparse ones
    return isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fiub"


def _parts(leaf: Any) -> Any:
    """Returns the numbers of a sparse or ragged column; None: it is none."""
    if hasattr(leaf, "tocsr"):
        return leaf.tocsr().data
    for mark, name in (
        ("row_splits", "flat_values"),
        ("dense_shape", "values"),
        ("todense", "data"),
    ):
        if hasattr(leaf, mark):
            return getattr(leaf, name)
    return None


def as_array(leaf: Any) -> NDArray[Any] | None:
    """Returns a column as an array; None: it cannot be one."""
    if hasattr(leaf, "detach"):  # PyTorch
        leaf = leaf.detach().cpu()
    try:
        return np.asarray(leaf) if _parts(leaf) is None else None
    except (TypeError, ValueError):
        return None


def _as_numbers(leaf: Any) -> Any:
    several = getattr(leaf, "ndim", 1) > 1 and hasattr(leaf, "dtypes")
    if isinstance(leaf, (list, tuple)) or (
        several and len(set(leaf.dtypes)) > 1
    ):
        return leaf
    array = as_array(leaf)
    if array is None:
        return leaf
    if hasattr(leaf, "iloc") and array.ndim == 1:
        array = array[:, None]  # as Keras takes one column of a table
    if array.dtype.kind == "f":
        array = array.astype(keras.config.floatx(), copy=False)
    return array


def _like(mine: Any, other: Any) -> Any:
    if mine is None and other is None:
        return None
    if mine is None or other is None or mine.shape[1:] != other.shape[1:]:
        raise ValueError("of another form")
    is_array = isinstance(mine, np.ndarray)
    return mine.astype(other.dtype, copy=False) if is_array else mine


def _joined(leaf: Any, more: Any) -> Any:
    if isinstance(leaf, list):
        return leaf + more
    if hasattr(leaf, "tocsr"):
        import scipy.sparse

        return scipy.sparse.vstack([leaf, more]).tocsr()
    return np.concatenate([leaf, more])


def _taken(leaf: Any, rows: Indices | slice) -> Any:
    if isinstance(leaf, (list, tuple)):
        some = range(len(leaf))[rows] if isinstance(rows, slice) else rows
        return [leaf[i] for i in some]
    if hasattr(leaf, "iloc"):
        return leaf.iloc[rows]
    if hasattr(leaf, "dense_shape"):
        leaf = _matrix(leaf)
    if hasattr(leaf, "tocsr"):
        return leaf.tocsr()[rows]
    library = type(leaf).__module__.partition(".")[0]
    if isinstance(rows, slice) or library in ("numpy", "torch"):
        return leaf[rows]
    if library == "tensorflow":
        import tensorflow as tf

        return tf.gather(leaf, rows, axis=0)
    sparse = hasattr(leaf, "todense")
    return leaf[rows, ...] if sparse else np.asarray(leaf)[rows]


def _matrix(leaf: Any) -> Any:
    """Returns a `tf.SparseTensor`, whose rows none can pick, as SciPy's."""
    import scipy.sparse

    if len(leaf.shape) != 2:
        raise UnreadableError(
            "only `fit` can read a sparse tensor of this rank"
        )
    values, places = np.asarray(leaf.values), np.asarray(leaf.indices).T
    return scipy.sparse.coo_matrix((values, places), leaf.shape)


def _bytes_of(leaf: Any) -> int:
    if isinstance(leaf, (list, tuple)):
        return 8 * len(leaf)  # what it refers to is there anyway
    if (parts := _parts(leaf)) is not None:
        return 3 * _bytes_of(parts)  # and where they are
    if hasattr(leaf, "memory_usage"):  # pandas
        return int(np.sum(leaf.memory_usage()))
    dtype = getattr(leaf, "dtype", None)
    size = getattr(dtype, "itemsize", None) or getattr(dtype, "size", None)
    return math.prod(int(d or 1) for d in leaf.shape) * int(size or 8)


def _not_finite(leaf: Any) -> str:
    parts = _parts(leaf)
    array = as_array(leaf if parts is None else parts)
    if array is None or not array.size or array.dtype.kind not in "fO":
        return ""
    try:
        # Both pass a NaN on; nothing as large as the data is made.
        ends = float(array.min()), float(array.max())
    except (TypeError, ValueError):
        return ""
    if any(map(math.isnan, ends)):
        return "NaN"
    return "infinity" if any(map(math.isinf, ends)) else ""


# --- Batches -----------------------------------------------------------------


def length_of(data: Any) -> int | None:
    """Returns how many batches there are, as far as it is known."""
    try:
        items = isinstance(data, keras.utils.PyDataset)
        number: int | None = data.num_batches if items else len(data)
        return number
    except TypeError:
        return None


def batch_rows(batch: Any) -> int:
    """Returns how many samples a batch has."""
    leaves = leaves_of(batch)
    return max(_length(leaves[0]), 1) if leaves else 1


def batches_of(data: Any, shuffle: bool = False) -> Iterator[Any]:
    """Returns the batches, in the order of the data.

    Args:
        data: What was given as `x`.
        shuffle: Whether those of a `PyDataset` come in any order, as in a
            `fit`. The first two stay: Keras takes the form of all from them.

    Raises:
        UnreadableError: Nobody but `fit` knows how.
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


def first_batches(
    data: Any, wanted: Callable[[int], int], shuffle: bool = False
) -> tuple[list[Any], bool]:
    """Returns the first batches, and whether there are no others.

    Args:
        data: As for `batches_of`.
        wanted: Function of how many samples the first one has: how many
            batches, at most.
        shuffle: As for `batches_of`.

    Raises:
        UnreadableError: There are none, or they do not fit into memory.
    """
    batches = batches_of(data, shuffle)
    first = list(itertools.islice(batches, 1))
    if not first:
        raise UnreadableError("there are no batches")
    most, size = wanted(batch_rows(first[0])), max(bytes_of(first[0]), 1)
    room = MOST_BYTES // size
    if room < min(most, FEWEST):
        raise UnreadableError(
            f"{most} batches of {size / 2**20:.3g} MiB are more than the "
            f"{MOST_BYTES / 2**30:g} GiB that are kept in memory"
        )
    most = min(most, room)
    some = itertools.chain(first, itertools.islice(batches, most - 1))
    found = list(map(copied, some))
    return found, len(found) < most


def copied(batch: Any) -> Any:
    """Returns a batch that nobody else writes into."""
    on_torch = keras.backend.backend() == "torch"

    def copy(value: Any) -> Any:
        if hasattr(value, "detach"):
            value = value.detach().cpu().clone()
            return value if on_torch else value.numpy()
        is_array = hasattr(value, "shape") and hasattr(value, "copy")
        return value.copy() if is_array else value

    return keras.tree.map_structure(copy, batch)


def stacked(batches: list[Any]) -> Rows | None:
    """Returns the samples of batches as rows; None: they cannot be."""

    def stack(*leaves: Any) -> Any:
        if leaves[0] is None:
            return None
        return np.concatenate(list(map(as_array, leaves)))

    parts = map(keras.utils.unpack_x_y_sample_weight, batches)
    try:
        return Rows.of(keras.tree.map_structure(stack, *parts))
    except (TypeError, ValueError):
        return None
