"""Samples side by side: arrays, tables, sparse matrices and Python lists.

Whatever `fit` takes as `x`, `y` and `sample_weight` and can be read row by
row, in nested structures too. Rows that are taken out have the kind of what
they were taken from, as a model's own `fit` may know no other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

# Of arrays larger than this only a part is searched for NaN.
_MOST_SEARCHED = 2**28


class Rows:
    """`(x, y, sample_weight)` whose leaves have one entry for each sample.

    Args:
        values: The three, nested as `fit` takes them, None where not given.
        count: Integer, how many samples there are.
    """

    def __init__(self, values: tuple[Any, Any, Any], count: int) -> None:
        self.values = values
        self.count = count

    @classmethod
    def of(cls, values: tuple[Any, Any, Any]) -> Rows | None:
        """Returns the rows of `values`; None: they are nothing of the kind."""
        leaves = leaves_of(values)
        if not leaves or not all(map(_has_rows, leaves)):
            return None
        counts = {rows_of(leaf) for leaf in leaves}
        # Of unequal ones `fit` knows best what to say.
        return cls(values, counts.pop()) if len(counts) == 1 else None

    def take(self, rows: Indices | slice) -> Rows:
        """Returns some rows, each as often and where `rows` names it."""
        if isinstance(rows, slice):
            count = len(range(*rows.indices(self.count)))
        else:
            count = len(rows)
        values = _map(lambda leaf: _taken(leaf, rows, self.count), self.values)
        return Rows(values, count)

    def named(self, batch_size: int) -> dict[str, Any]:
        """Returns them as arguments of `fit` and `evaluate`."""
        names = ("x", "y", "sample_weight")
        given = {k: v for k, v in zip(names, self.values) if v is not None}
        return {**given, "batch_size": batch_size}

    def bytes_per_row(self) -> float:
        """Returns about how much memory a sample takes."""
        return bytes_of(self.values) / max(self.count, 1)

    def not_finite(self) -> dict[str, str]:
        """Returns which of `x`, `y` and `sample_weight` has NaN, or infinity.

        Returns:
            The names of those that have, and `"NaN"` or `"infinity"`.
        """
        most = int(_MOST_SEARCHED / max(self.bytes_per_row(), 1.0))
        part = self.take(slice(0, most)) if most < self.count else self
        return not_finite([part.values])


def leaves_of(structure: Any) -> list[Any]:
    """Returns the columns of a nested structure, in order, without None."""
    return list(_leaves(structure))


def rows_of(leaf: Any) -> int:
    """Returns the length of a column, or of a batch's first one."""
    shape = getattr(leaf, "shape", None)
    if shape is None:
        return len(leaf)
    return int(shape[0]) if len(shape) and shape[0] is not None else 1


def bytes_of(structure: Any) -> int:
    """Returns about how much memory a nested structure takes."""
    return sum(map(_bytes_of, _leaves(structure)))


def as_numpy(leaf: Any) -> NDArray[Any] | None:
    """Returns a column as one NumPy array; None: it cannot be one."""
    if isinstance(leaf, np.ndarray):
        return leaf
    if hasattr(leaf, "detach"):  # PyTorch
        leaf = leaf.detach().cpu()
    if _is_sparse(leaf) or _is_ragged(leaf):
        return None
    try:
        return np.asarray(leaf)
    except (TypeError, ValueError):
        return None


def _is_column(value: Any) -> bool:
    """Returns whether it is a list of samples, rather than several inputs."""
    if isinstance(value, tuple):
        return bool(value) and _is_scalar(value[0])
    if not isinstance(value, list):
        return False
    if value and isinstance(value[0], (list, tuple)):
        return _is_column(value[0])
    return not value or _is_scalar(value[0])


def _is_scalar(value: Any) -> bool:
    plain = (str, bytes, int, float, complex, np.generic)
    return isinstance(value, plain) or getattr(value, "shape", None) == ()


def _leaves(structure: Any) -> Iterator[Any]:
    if structure is None:
        return
    if isinstance(structure, dict):
        for value in structure.values():
            yield from _leaves(value)
    elif isinstance(structure, (list, tuple)) and not _is_column(structure):
        for value in structure:
            yield from _leaves(value)
    else:
        yield structure


def _map(function: Callable[[Any], Any], structure: Any) -> Any:
    if structure is None:
        return None
    if isinstance(structure, dict):
        values = {k: _map(function, v) for k, v in structure.items()}
        return type(structure)(values)
    if isinstance(structure, (list, tuple)) and not _is_column(structure):
        parts = [_map(function, v) for v in structure]
        if hasattr(structure, "_fields"):
            return type(structure)(*parts)
        return type(structure)(parts)
    return function(structure)


def _has_rows(leaf: Any) -> bool:
    if _is_column(leaf):
        return True
    arrays = ("__array__", "iloc", "tocsr", "indices", "row_splits")
    return len(getattr(leaf, "shape", None) or ()) > 0 and (
        any(hasattr(leaf, name) for name in arrays)
    )


def _library(leaf: Any) -> str:
    return type(leaf).__module__.partition(".")[0]


def _is_sparse(leaf: Any) -> bool:
    """Returns whether it is sparse: of SciPy, TensorFlow or JAX."""
    return hasattr(leaf, "tocsr") or (
        hasattr(leaf, "indices")
        and (hasattr(leaf, "dense_shape") or hasattr(leaf, "todense"))
    )


def _is_ragged(leaf: Any) -> bool:
    return hasattr(leaf, "row_splits")


def _bytes_of(leaf: Any) -> int:
    if isinstance(leaf, (list, tuple)):
        return 8 * len(leaf)  # what it refers to is there anyway
    if hasattr(leaf, "tocsr"):
        return 2 * int(leaf.nnz) * 8
    for part in ("flat_values", "values", "data"):  # ragged, sparse
        if (_is_sparse(leaf) or _is_ragged(leaf)) and hasattr(leaf, part):
            return 2 * _bytes_of(getattr(leaf, part))
    nbytes = getattr(leaf, "nbytes", None)
    if isinstance(nbytes, int):
        return nbytes
    if hasattr(leaf, "memory_usage"):  # pandas
        return int(np.sum(leaf.memory_usage()))
    dtype = getattr(leaf, "dtype", None)
    size = getattr(dtype, "itemsize", None) or getattr(dtype, "size", None)
    shape = getattr(leaf, "shape", ())
    return math.prod(int(d or 1) for d in shape) * int(size or 8)


def _taken(leaf: Any, rows: Indices | slice, count: int) -> Any:
    if isinstance(leaf, (list, tuple)):
        if isinstance(rows, slice):
            return list(leaf[rows])
        return [leaf[i] for i in rows.tolist()]
    if hasattr(leaf, "iloc"):
        return leaf.iloc[rows]
    if hasattr(leaf, "tocsr"):
        return leaf.tocsr()[rows]
    if _is_sparse(leaf):
        if isinstance(rows, slice):
            rows = np.arange(count)[rows]
        return _rows_of_sparse(leaf, rows)
    if isinstance(rows, slice) and hasattr(leaf, "__getitem__"):
        return leaf[rows]
    return _picked(leaf, rows)


def _picked(leaf: Any, rows: Indices | slice) -> Any:
    if isinstance(leaf, np.ndarray):
        return leaf[rows]
    library = _library(leaf)
    if library == "tensorflow":
        import tensorflow as tf

        return tf.gather(leaf, rows, axis=0)
    if library == "torch":
        import torch

        return leaf[torch.as_tensor(rows, device=leaf.device)]
    if library in ("jax", "jaxlib") or not hasattr(leaf, "__getitem__"):
        # What Keras makes of it as well.
        return np.asarray(leaf)[rows]
    if isinstance(rows, slice):
        rows = np.arange(len(leaf))[rows]
    # Files of arrays want their indices rising, and each of them once.
    once, where = np.unique(rows, return_inverse=True)
    return np.asarray(leaf[once])[where]


def _rows_of_sparse(leaf: Any, rows: Indices) -> Any:
    """Returns rows of a `tf.SparseTensor` or of a JAX `BCOO`."""
    of_tensorflow = hasattr(leaf, "dense_shape")
    indices = np.asarray(leaf.indices)
    values = np.asarray(leaf.values if of_tensorflow else leaf.data)
    order = np.argsort(indices[:, 0], kind="stable")
    row = indices[order, 0]
    begin = np.searchsorted(row, rows, "left")
    sizes = np.searchsorted(row, rows, "right") - begin
    within = np.arange(sizes.sum()) - np.repeat(sizes.cumsum() - sizes, sizes)
    picked = order[np.repeat(begin, sizes) + within]
    found = indices[picked].copy()
    found[:, 0] = np.repeat(np.arange(len(rows)), sizes)
    shape = (len(rows), *(int(d) for d in leaf.shape[1:]))
    if of_tensorflow:
        import tensorflow as tf

        return tf.SparseTensor(found, values[picked], shape)
    from jax.experimental import sparse

    return sparse.BCOO((values[picked], found), shape=shape)


def not_finite(batches: Iterable[Any]) -> dict[str, str]:
    """Returns which of `x`, `y` and `sample_weight` has NaN, or infinity."""
    found: dict[str, str] = {}
    for batch in batches:
        values = keras.utils.unpack_x_y_sample_weight(batch)
        for name, value in zip(("x", "y", "sample_weight"), values):
            if what := _not_finite(value):
                found.setdefault(name, what)
    return found


def _not_finite(structure: Any) -> str:
    for leaf in _leaves(structure):
        for part in ("data", "values", "flat_values"):  # sparse, ragged
            if (_is_sparse(leaf) or _is_ragged(leaf)) and hasattr(leaf, part):
                leaf = getattr(leaf, part)
                break
        array = as_numpy(leaf)
        if array is None or array.dtype.kind not in "fO":
            continue
        if array.dtype.kind == "O":
            try:
                array = array.astype("float64")
            except (TypeError, ValueError):
                continue
        if array.size:
            # Both pass a NaN on; nothing as large as the data is made.
            ends = float(array.min()), float(array.max())
            if any(map(math.isnan, ends)):
                return "NaN"
            if any(map(math.isinf, ends)):
                return "infinity"
    return ""
