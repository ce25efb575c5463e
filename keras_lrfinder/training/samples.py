"""Samples by row: what `fit` takes as `x`, `y` and `sample_weight`.

That is whatever has one entry for each sample: arrays, tables, sparse and
ragged ones, lists, nested too.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]

NAMES = ("x", "y", "sample_weight")


class Rows:
    """`(x, y, sample_weight)`, nested as `fit` takes them, None: not given."""

    def __init__(self, values: Any) -> None:
        leaves = leaves_of(values)
        self.values = values
        self.count = _length(leaves[0])
        self.kinds = list(map(type, leaves))
        self.are_numbers = all(
            isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fiub"
            for leaf in leaves
        )

    @classmethod
    def of(cls, values: Any) -> Rows | None:
        """Returns the rows of `values`; None: they are nothing of the kind."""
        try:
            values = _map(_column, values)
        except (TypeError, ValueError):
            return None
        counts = {_length(leaf) for leaf in leaves_of(values)}
        # Of unequal ones `fit` knows best what to say.
        return cls(values) if len(counts) == 1 else None

    @classmethod
    def of_batches(cls, batches: list[Any]) -> Rows | None:
        """Returns the samples of batches; None: they cannot be put together."""
        parts = map(keras.utils.unpack_x_y_sample_weight, batches)
        try:
            return cls.of(_map(_joined, *parts))
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return None

    def take(self, rows: Indices | slice) -> Rows:
        """Returns some rows, each as often and where `rows` names it."""
        return Rows(_map(lambda leaf: _taken(leaf, rows), self.values))

    def as_numbers(self) -> Rows:
        """Returns the arrays of numbers that Keras makes of them, or self."""
        rows = Rows(_map(_as_numbers, self.values))
        return rows if rows.are_numbers else self

    def joined(self, more: Rows) -> Rows | None:
        """Returns these and others; None: the others have another form."""
        x, y, weight = (more.as_numbers() if self.are_numbers else more).values
        if weight is None:  # samples that count alike
            weight = _map(
                lambda leaf: np.ones((more.count, *np.shape(leaf)[1:])),
                self.values[2],
            )
        rows = Rows.of_batches([self.values, (x, y, weight)])
        return rows if rows and rows.kinds == self.kinds else None

    def weighted(self, class_weight: dict[int, float]) -> Rows:
        """Returns them weighted by their classes, as Keras weighs arrays."""
        x, y, _ = self.values
        classes = _numbers(y)
        if classes.ndim > 1:
            one_hot = classes.shape[-1] > 1
            classes = classes.argmax(-1) if one_hot else classes[..., 0]
        weights = [class_weight.get(round(c), 1.0) for c in classes.tolist()]
        return Rows((x, y, np.array(weights, keras.config.floatx())))

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


def marks_of(batch: Any) -> list[Any]:
    """Returns a mark for each sample: equal samples have equal ones."""
    rows = Rows.of_batches([batch])
    if rows is None or {*rows.kinds} != {np.ndarray}:
        return [object()]
    columns = leaves_of(rows.values)
    columns = [c.astype(str) if c.dtype == "O" else c for c in columns]
    return [hash(tuple(r.tobytes() for r in row)) for row in zip(*columns)]


def leaves_of(structure: Any) -> list[Any]:
    """Returns the columns of a nested structure, in order, without None."""
    found: list[Any] = []
    _map(found.append, structure)
    return found


def rows_of(batch: Any) -> int:
    """Returns how many samples a batch has."""
    return max(_length(leaves_of(batch)[0]), 1)


def bytes_of(batch: Any) -> int:
    """Returns about how much memory a batch takes."""
    return sum(_numbers(leaf).nbytes for leaf in leaves_of(batch))


def not_finite(batches: Iterable[Any]) -> dict[str, str]:
    """Returns which of `x`, `y` and `sample_weight` has NaN, or infinity."""
    found: dict[str, str] = {}
    for batch in batches:
        parts = batch if isinstance(batch, (list, tuple)) else (batch,)
        for name, value in zip(NAMES, parts):
            arrays = [a for a in map(_numbers, leaves_of(value)) if a.size]
            arrays = [a for a in arrays if a.dtype.kind == "f"]
            # Both pass a NaN on; nothing as large as the data is made.
            ends = [end for a in arrays for end in (a.min(), a.max())]
            if not np.isfinite(ends).all():
                what = "NaN" if np.isnan(ends).any() else "infinity"
                found.setdefault(name, what)
    return found


def _map(function: Callable[..., Any], *structures: Any) -> Any:
    """Returns a structure of what a function makes of each column."""
    first = structures[0]
    if first is None:
        return None
    if isinstance(first, dict):
        return {k: _map(function, *(s[k] for s in structures)) for k in first}
    if isinstance(first, (list, tuple)) and not _is_list(first):
        together = zip(*structures, strict=True)
        parts = [_map(function, *some) for some in together]
        return parts if isinstance(first, list) else tuple(parts)
    return function(*structures)


def _is_list(value: Any) -> bool:
    """Returns whether it is a list of samples, rather than several inputs."""
    entry = value
    while isinstance(entry, (list, tuple)) and entry:
        entry = entry[0]
    return isinstance(value, list) and getattr(entry, "shape", ()) == ()


def _length(leaf: Any) -> int:
    shape = getattr(leaf, "shape", None)
    return len(leaf) if shape is None else int(shape[0])


def _numbers(leaf: Any) -> NDArray[Any]:
    """Returns an array of all numbers in a column."""
    leaf = leaf.tocsr().data if hasattr(leaf, "tocsr") else leaf
    leaf = getattr(leaf, "flat_values", leaf)  # of a ragged one
    leaf = leaf.detach().cpu() if hasattr(leaf, "detach") else leaf
    return np.asarray(leaf, None if hasattr(leaf, "__array__") else object)


def _column(leaf: Any) -> Any:
    """Returns a column whose rows can be picked: sparse ones as SciPy's."""
    if isinstance(leaf, list) or hasattr(leaf, "row_splits"):
        return leaf
    if hasattr(leaf, "tocsr"):
        return leaf.tocsr()
    if hasattr(leaf, "dense_shape") or hasattr(leaf, "todense"):
        import scipy.sparse

        values = getattr(leaf, "values", None)  # JAX has them as `data`
        values = np.asarray(leaf.data if values is None else values)
        places = np.asarray(leaf.indices).T
        return scipy.sparse.csr_matrix((values, places), leaf.shape)
    if not hasattr(leaf, "__array__") or not len(leaf.shape):
        raise TypeError("no rows")
    return leaf


def _as_numbers(leaf: Any) -> Any:
    """Returns the array that Keras makes of a column, or the column."""
    if not hasattr(leaf, "__array__"):
        return leaf
    array = _numbers(leaf)
    if hasattr(leaf, "iloc") and array.ndim == 1:
        array = array[:, None]  # as Keras takes one column of a table
    is_float = array.dtype.kind == "f"
    return (
        array.astype(keras.config.floatx(), copy=False) if is_float else array
    )


def _joined(*leaves: Any) -> Any:
    """Returns one column of several."""
    first = leaves[0]
    if len({*map(type, leaves)}) > 1 or hasattr(first, "row_splits"):
        raise TypeError("not to be joined")
    if isinstance(first, list):
        return [entry for leaf in leaves for entry in leaf]
    if hasattr(first, "tocsr"):
        import scipy.sparse

        return scipy.sparse.vstack(leaves).tocsr()
    arrays = list(map(_numbers, leaves))
    dtype = arrays[0].dtype
    same = None if dtype.kind == "U" else dtype  # strings may be longer
    return np.concatenate(arrays, dtype=same, casting="unsafe")


def _taken(leaf: Any, rows: Indices | slice) -> Any:
    leaf = getattr(leaf, "iloc", leaf)
    library = type(leaf).__module__.partition(".")[0]
    if isinstance(rows, slice) or library in ("pandas", "scipy", "torch"):
        return leaf[rows]
    if isinstance(leaf, list):
        return [leaf[i] for i in rows]
    if library != "tensorflow":
        return np.asarray(leaf)[rows]
    import tensorflow as tf

    return tf.gather(leaf, rows, axis=0)
