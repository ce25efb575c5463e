"""Samples by row: what `fit` takes as `x`, `y` and `sample_weight`.

That is whatever has one entry for each sample: arrays, tables, sparse and
ragged ones, lists, nested too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

# What sparse and ragged columns are known by, and what has their numbers.
_PARTS = {
    "row_splits": "flat_values",
    "dense_shape": "values",
    "tocsr": "data",
    "todense": "data",
}


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
        counts = {_length(leaf) for leaf in leaves}
        # Of unequal ones `fit` knows best what to say.
        if len(counts) > 1:
            return None
        return cls(_map(_sliceable, values), counts.pop())

    def take(self, rows: Indices | slice) -> Rows:
        """Returns some rows, each as often and where `rows` names it."""
        values = _map(lambda leaf: _taken(leaf, rows), self.values)
        return Rows(values, len(np.arange(self.count)[rows]))

    def as_numbers(self) -> Rows:
        """Returns the arrays of numbers that Keras makes of them, or self."""
        rows = Rows(_map(_as_numbers, self.values), self.count)
        return rows if rows.are_numbers else self

    def joined(self, more: Rows) -> Rows | None:
        """Returns these and others; None: the others have another form."""
        if self.are_numbers:
            more = more.as_numbers()
        x, y, weight = more.values
        try:
            if weight is None:  # samples that count alike
                weight = _map(
                    lambda leaf: np.ones((more.count, *leaf.shape[1:])),
                    self.values[2],
                )
            values = _map(_joined, self.values, (x, y, weight))
        except (AttributeError, KeyError, TypeError, ValueError):
            return None
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


def stacked(batches: list[Any]) -> Rows | None:
    """Returns the samples of batches as rows; None: they cannot be."""

    def stack(*leaves: Any) -> Any:
        return np.concatenate([as_array(leaf) for leaf in leaves])

    parts = map(keras.utils.unpack_x_y_sample_weight, batches)
    try:
        return Rows.of(_map(stack, *parts))
    except (KeyError, TypeError, ValueError):
        return None


def marks_of(batch: Any) -> list[Any]:
    """Returns a mark for each sample: equal samples have equal ones."""
    rows = stacked([batch])
    if rows is None:
        return [object() for _ in range(batch_rows(batch))]
    columns = leaves_of(rows.values)
    columns = [c.astype(str) if c.dtype == "O" else c for c in columns]
    return [hash(tuple(r.tobytes() for r in row)) for row in zip(*columns)]


def leaves_of(structure: Any) -> list[Any]:
    """Returns the columns of a nested structure, in order, without None."""
    found: list[Any] = []
    _map(found.append, structure)
    return found


def batch_rows(batch: Any) -> int:
    """Returns how many samples a batch has."""
    leaves = leaves_of(batch)
    return max(_length(leaves[0]), 1) if leaves else 1


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


def as_array(leaf: Any) -> NDArray[Any] | None:
    """Returns a column as an array; None: it cannot be one."""
    if hasattr(leaf, "detach"):  # PyTorch
        leaf = leaf.detach().cpu()
    try:
        return np.asarray(leaf) if _parts(leaf) is None else None
    except (TypeError, ValueError):
        return None


def _map(function: Callable[..., Any], *structures: Any) -> Any:
    """Returns a structure of what a function makes of each column."""
    first = structures[0]
    if first is None:
        return None
    if isinstance(first, dict):
        pairs = {k: _map(function, *(s[k] for s in structures)) for k in first}
        return type(first)(pairs)
    if isinstance(first, (list, tuple)) and not _is_column(first):
        parts = [
            _map(function, *some) for some in zip(*structures, strict=True)
        ]
        named = hasattr(first, "_fields")
        return type(first)(*parts) if named else type(first)(parts)
    return function(*structures)


def _is_column(value: Any) -> bool:
    """Returns whether it is a list of samples, rather than several inputs."""
    while isinstance(value, list) and value:
        if not isinstance(value[0], (list, tuple)):
            break
        value = value[0]
    if not isinstance(value, (list, tuple)) or not value:
        return isinstance(value, list)
    plain = (str, bytes, int, float, complex, np.generic)
    return isinstance(value[0], plain) or getattr(value[0], "shape", None) == ()


def _has_rows(leaf: Any) -> bool:
    shape = getattr(leaf, "shape", None) or ()
    if hasattr(leaf, "dense_shape"):
        return len(shape) == 2  # as a matrix; of others none can be picked
    arrays = ("__array__", "iloc", "tocsr", "indices", "row_splits")
    return _is_column(leaf) or (
        len(shape) > 0 and any(hasattr(leaf, name) for name in arrays)
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
    names = [name for mark, name in _PARTS.items() if hasattr(leaf, mark)]
    return getattr(leaf, names[0]) if names else None


def _sliceable(leaf: Any) -> Any:
    """Returns a column whose rows can be picked: sparse ones as SciPy's."""
    if hasattr(leaf, "dense_shape"):
        import scipy.sparse

        values, places = np.asarray(leaf.values), np.asarray(leaf.indices).T
        leaf = scipy.sparse.coo_matrix((values, places), leaf.shape)
    return leaf.tocsr() if hasattr(leaf, "tocsr") else leaf


def _as_numbers(leaf: Any) -> Any:
    several = getattr(leaf, "ndim", 1) > 1 and hasattr(leaf, "dtypes")
    if several and len(set(leaf.dtypes)) > 1:
        return leaf
    array = None if isinstance(leaf, (list, tuple)) else as_array(leaf)
    if array is None:
        return leaf
    if hasattr(leaf, "iloc") and array.ndim == 1:
        array = array[:, None]  # as Keras takes one column of a table
    if array.dtype.kind == "f":
        array = array.astype(keras.config.floatx(), copy=False)
    return array


def _joined(leaf: Any, more: Any) -> Any:
    if type(leaf) is not type(more):
        raise TypeError("of another kind")
    if isinstance(leaf, list):
        return leaf + more
    if hasattr(leaf, "tocsr"):
        import scipy.sparse

        return scipy.sparse.vstack([leaf, more]).tocsr()
    if hasattr(leaf, "todense"):  # JAX's
        return keras.ops.concatenate([leaf, more])
    if not isinstance(leaf, np.ndarray):
        raise TypeError("not to be joined")
    return np.concatenate([leaf, more.astype(leaf.dtype, copy=False)])


def _taken(leaf: Any, rows: Indices | slice) -> Any:
    if isinstance(leaf, (list, tuple)):
        return [leaf[i] for i in np.arange(len(leaf))[rows]]
    if hasattr(leaf, "iloc"):
        return leaf.iloc[rows]
    if isinstance(rows, slice) or hasattr(leaf, "tocsr"):
        return leaf[rows]
    library = type(leaf).__module__.partition(".")[0]
    if library == "tensorflow":
        import tensorflow as tf

        return tf.gather(leaf, rows, axis=0)
    if library == "torch" or not hasattr(leaf, "__array__"):
        return leaf[rows, ...]
    return np.asarray(leaf)[rows]


def _bytes_of(leaf: Any) -> int:
    if (parts := _parts(leaf)) is not None:
        return 3 * _bytes_of(parts)  # and where they are
    if isinstance(leaf, (list, tuple)):
        return 8 * len(leaf)  # what it refers to is there anyway
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
