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
        # Whether all columns are plain arrays of numbers.
        self.are_numbers = all(map(_is_numbers, leaves_of(values)))

    @classmethod
    def of(cls, values: Any) -> Rows | None:
        """Returns the rows of `values`; None: they are nothing of the kind."""
        leaves = leaves_of(values)
        if not leaves or not all(map(_has_rows, leaves)):
            return None
        counts = {_length(leaf) for leaf in leaves}
        # Of unequal ones `fit` knows best what to say.
        return cls(values, counts.pop()) if len(counts) == 1 else None

    def take(self, rows: Indices | slice) -> Rows:
        """Returns some rows, each as often and where `rows` names it."""
        if isinstance(rows, slice):
            count = len(range(*rows.indices(self.count)))
        else:
            count = len(rows)
        return Rows(_map(lambda leaf: _taken(leaf, rows), self.values), count)

    def as_numbers(self) -> Rows:
        """Returns them as the arrays of numbers that Keras makes of them.

        They stay as they are where one column cannot be one.
        """
        rows = Rows(_map(_as_numbers, self.values), self.count)
        return rows if rows.are_numbers else self

    def like(self, other: Rows) -> Rows | None:
        """Returns them in the form of others; None: they have another."""
        mine = self.as_numbers() if other.are_numbers else self
        x, y, weight = mine.values
        theirs = other.values[2]
        if weight is None and other.are_numbers:
            shape = (self.count,)
            weight = _map(lambda w: np.ones(shape + w.shape[1:]), theirs)
        mine = Rows((x, y, None if theirs is None else weight), self.count)
        if not (mine.are_numbers and other.are_numbers):
            kinds = [
                [type(v) for v in leaves_of(r.values)] for r in (mine, other)
            ]
            return mine if kinds[0] == kinds[1] else None
        try:
            values = keras.tree.map_structure(_like, mine.values, other.values)
        except (TypeError, ValueError):
            return None
        return Rows(values, self.count)

    def joined(self, more: Rows) -> Rows:
        """Returns these and other ones, in lists and tables of their kind."""
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
    if not isinstance(value, (list, tuple)):
        return False
    if (
        isinstance(value, list)
        and value
        and isinstance(value[0], (list, tuple))
    ):
        return _is_column(value[0])
    plain = (str, bytes, int, float, complex, np.generic)
    return all(
        isinstance(first, plain) or getattr(first, "shape", None) == ()
        for first in value[:1]
    ) and (bool(value) or isinstance(value, list))


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
        return keras.backend.backend() == "jax"  # its own sparse arrays
    return isinstance(leaf, np.ndarray) and leaf.dtype.kind in "fiub"


def _parts(leaf: Any) -> Any:
    """Returns the numbers that a sparse or ragged column consists of."""
    if hasattr(leaf, "row_splits"):
        return leaf.flat_values
    if hasattr(leaf, "tocsr") or hasattr(leaf, "todense"):  # SciPy, JAX
        return leaf.data
    return leaf.values if hasattr(leaf, "dense_shape") else None


def _as_array(leaf: Any) -> NDArray[Any] | None:
    """Returns a column as an array; None: it cannot be one."""
    if _parts(leaf) is not None:
        return None
    if hasattr(leaf, "detach"):  # PyTorch
        leaf = leaf.detach().cpu()
    try:
        return np.asarray(leaf)
    except (TypeError, ValueError):
        return None


def _as_numbers(leaf: Any) -> Any:
    if isinstance(leaf, (list, tuple)):
        return leaf
    if hasattr(leaf, "iloc"):
        if leaf.ndim > 1 and leaf.dtypes.nunique() > 1:
            return leaf
        array = leaf.to_numpy()
        # As Keras takes one column of a table.
        array = array[:, None] if array.ndim == 1 else array
    else:
        array = _as_array(leaf)
    if array is not None and array.dtype.kind == "f":
        array = array.astype(keras.config.floatx(), copy=False)
    return leaf if array is None else array


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
    if hasattr(leaf, "iloc"):
        import pandas

        return pandas.concat([leaf, more])
    if hasattr(leaf, "tocsr"):
        import scipy.sparse

        return scipy.sparse.vstack([leaf, more]).tocsr()
    if type(leaf).__module__.startswith("tensorflow"):
        import tensorflow as tf

        return tf.concat([leaf, more], axis=0)
    return np.concatenate([_as_array(leaf), _as_array(more)])


def _taken(leaf: Any, rows: Indices | slice) -> Any:
    if isinstance(leaf, (list, tuple)):
        some = range(len(leaf))[rows] if isinstance(rows, slice) else rows
        return [leaf[i] for i in some]
    if hasattr(leaf, "dense_shape"):
        leaf = _csr(leaf)
    for name in ("iloc", "tocsr"):
        if hasattr(leaf, name):
            found = getattr(leaf, name)
            return (found if name == "iloc" else found())[rows]
    if isinstance(rows, slice) or isinstance(leaf, np.ndarray):
        return leaf[rows]
    if hasattr(leaf, "detach"):
        return leaf[rows]
    if type(leaf).__module__.startswith("tensorflow"):
        import tensorflow as tf

        return tf.gather(leaf, rows, axis=0)
    return (
        leaf[rows, ...] if hasattr(leaf, "todense") else np.asarray(leaf)[rows]
    )


def _csr(leaf: Any) -> Any:
    """Returns a `tf.SparseTensor`, which has no rows to pick, as a matrix."""
    import scipy.sparse

    if len(leaf.shape) != 2:
        raise UnreadableError(
            "only `fit` can read a sparse tensor of more axes"
        )
    places = np.asarray(leaf.indices).T
    found = scipy.sparse.coo_matrix(
        (np.asarray(leaf.values), places), leaf.shape
    )
    return found.tocsr()


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
    array = _as_array(leaf if parts is None else parts)
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
    if isinstance(data, keras.utils.PyDataset):
        number = data.num_batches
    elif hasattr(data, "cardinality"):  # tf.data
        number = int(data.cardinality())
    else:
        try:
            number = len(data)
        except TypeError:
            number = None
    return None if number is None or number < 0 else number


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
        number = data.num_batches
        numbers: Iterable[int] = itertools.count()
        if number is not None:
            numbers = range(number)
        if number is not None and shuffle:
            later = 2 + np.random.default_rng(0).permutation(max(number - 2, 0))
            numbers = [*range(min(number, 2)), *later.tolist()]
        return (data[index] for index in numbers)
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
    parts = [keras.utils.unpack_x_y_sample_weight(b) for b in batches]
    try:
        values = keras.tree.map_structure(
            lambda *v: (
                None
                if v[0] is None
                else np.concatenate([_as_array(a) for a in v])
            ),
            *parts,
        )
    except (TypeError, ValueError):
        return None
    return Rows.of(values)


def marks_of(batch: Any, new: Iterator[int]) -> list[Any]:
    """Returns a mark for each sample: equal samples have equal marks.

    Args:
        batch: A batch.
        new: Marks for samples that cannot be compared.
    """
    rows = batch_rows(batch)
    columns = [_marks(leaf, rows) for leaf in leaves_of(batch)]
    if not columns or None in columns:
        return [("new", next(new)) for _ in range(rows)]
    return [hash(parts) for parts in zip(*columns)]


def _marks(leaf: Any, rows: int) -> list[Any] | None:
    array = _as_array(leaf)
    if array is None or array.ndim == 0 or len(array) != rows:
        return None
    if array.dtype.kind in "OUS":
        return [str(row) for row in array.tolist()]
    flat = np.ascontiguousarray(array).reshape(rows, -1)
    return [row.tobytes() for row in flat]
