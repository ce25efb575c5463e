"""A small part of a data set, to be trained on again and again.

Probes are compared with each other, so they all see the same batches in the
same order; and they are judged by samples that they do not train on, beside
samples that they do: both without dropout and with the same statistics.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from keras_lrfinder.training.data_reader import Batches
from keras_lrfinder.training.data_reader import BatchReader
from keras_lrfinder.training.data_reader import UnreadableError
from keras_lrfinder.training.data_reader import batch_rows
from keras_lrfinder.training.data_rows import Rows
from keras_lrfinder.training.data_rows import leaves_of
from keras_lrfinder.training.sample_marks import Marks
from keras_lrfinder.training.sample_marks import marks_of

# Of the samples, kept out of the probes' batches to judge them by.
_RESERVED_SHARE = 5
_MOST_RESERVED = 256
# Validation data beyond this tells nothing more about a short run.
_MOST_VALIDATION = 2048
# Rows of more bytes are taken when they are asked for: a whole training would
# need many copies of each.
_MOST_COPIED = 2**28


@dataclasses.dataclass
class HeldOut:
    """Samples that probes are judged by.

    Attributes:
        data: Arguments of `evaluate`, or None where there are none.
        rows: Integer, how many samples these are.
        why_not: String, why there are none.
    """

    data: dict[str, Any] | None = None
    rows: int = 0
    why_not: str = ""


@dataclasses.dataclass
class Replay:
    """Data for probes.

    Attributes:
        train: Arguments of `fit` that name the data: one epoch.
        held_out: Arguments of `evaluate` that name samples which `train`
            does not have, or None where there are too few.
        trained_on: Arguments of `evaluate` that name samples which `train`
            has, about as many. None where `held_out` is.
        source: String, what the held-out samples are.
        samples: Integer, how many different ones `train` has, as far as it
            can be told.
        repeated: Integer, how many of these one run meets more than once.
            What is met once can be learnt, not memorised.
        rows_held_out: Integer, how many samples `held_out` has.
        is_enough: Whether a run meets what a training as long would, not
            a part of it again and again.
        why_not: String, why there is no `held_out`.
    """

    train: dict[str, Any]
    held_out: dict[str, Any] | None
    trained_on: dict[str, Any] | None = None
    source: str = "reserved samples"
    samples: int = 0
    repeated: int = 0
    rows_held_out: int = 0
    is_enough: bool = True
    why_not: str = ""

    def inputs(self, batches: int) -> Iterator[Any]:
        """Yields the inputs of the first batches of `train`.

        For what is to be taken anew from data, as the statistics of
        BatchNormalization.
        """
        x = batches_of = self.train["x"]
        if "batch_size" in self.train:
            rows = Rows.of((x, None, None))
            assert rows is not None
            size = self.train["batch_size"]
            for begin in range(0, min(batches * size, rows.count), size):
                yield rows.take(slice(begin, begin + size)).values[0]
            return
        if isinstance(x, keras.utils.PyDataset):
            batches_of = (x[index] for index in range(len(x)))
        for batch in itertools.islice(batches_of, batches):
            yield keras.utils.unpack_x_y_sample_weight(batch)[0]


def replay_of(
    source: Rows | BatchReader | Batches,
    batches: int,
    batch_size: int,
    held_out: HeldOut | None,
) -> Replay:
    """Returns a part of `source` to train on, and another to judge by.

    Args:
        source: What to read, or batches that were read.
        batches: Integer, how many batches one run trains on; where there are
            fewer, it goes through them several times.
        batch_size: Integer, of rows.
        held_out: The user's validation data. None: samples are kept out.

    Raises:
        UnreadableError: `source` cannot be read again and again.
    """
    if isinstance(source, Rows):
        return _of_rows(source, batches, batch_size, held_out)
    if isinstance(source, BatchReader):

        def wanted(first: Any) -> int:
            return batches + (0 if held_out else _reserved_batches(first))

        source = source.read(wanted)
    return _of_batches(source, batches, held_out)


def validation_of(
    source: Rows | BatchReader, batch_size: int, steps: int | None
) -> HeldOut:
    """Returns a bounded part of validation data.

    Args:
        source: What reads them.
        batch_size: Integer, of rows.
        steps: Integer, of how many batches they are to consist; or None.
    """
    if isinstance(source, Rows):
        if steps is not None:
            source = source.take(slice(0, steps * batch_size))
        if source.count > _MOST_VALIDATION:
            some = _shuffled(source.count)[:_MOST_VALIDATION]
            source = source.take(np.sort(some))
        if not source.count:
            return HeldOut(None, 0, "the validation data are empty")
        return HeldOut(_named(source, batch_size), source.count)

    def wanted(first: Any) -> int:
        most = -(-_MOST_VALIDATION // batch_rows(first))
        return most if steps is None else min(most, steps)

    try:
        found = source.read(wanted)
    except UnreadableError as error:
        return HeldOut(None, 0, f"of the validation data, {error}")
    rows = sum(map(batch_rows, found.items()))
    return HeldOut({"x": found.part(0, found.count)}, rows)


def _of_rows(
    source: Rows, batches: int, batch_size: int, given: HeldOut | None
) -> Replay:
    order = _shuffled(source.count)
    kept = 0 if given else _reserved(source.count)
    seen = order[kept:]
    size = min(batch_size, len(seen))
    # One epoch without a ragged batch, however few samples there are: the
    # epoch ends of a fit take longer than its steps.
    used = np.resize(seen, batches * size)
    if source.bytes_per_row() * len(used) > _MOST_COPIED:
        train: dict[str, Any] = {"x": _LazyRows(source, used, size)}
    else:
        train = _named(source.take(used), size, whole=True)
    held_out = given or HeldOut(why_not=_too_few(source.count))
    if kept:
        reserved = source.take(order[:kept])
        held_out = HeldOut(_named(reserved, batch_size), kept)
    trained_on = None
    if held_out.data is not None:
        some = source.take(seen[: min(held_out.rows, len(used))])
        trained_on = _named(some, batch_size)
    once, counts = np.unique(used, return_counts=True)
    return Replay(
        train,
        held_out.data,
        trained_on,
        _name(given),
        samples=len(once),
        repeated=int(np.sum(counts > 1)),
        rows_held_out=held_out.rows,
        why_not=held_out.why_not,
    )


def _of_batches(found: Batches, batches: int, given: HeldOut | None) -> Replay:
    marks = marks_of(found.items())
    if not marks.rows:
        raise UnreadableError("there are no batches")
    kept = 0
    if not given:
        wanted = _reserved_batches_of(marks.rows[0])
        kept = min(wanted, found.count // _RESERVED_SHARE)
    if kept and marks.shared(kept):
        # Data that begin again before the end: what is kept out of some
        # batches is in others.
        replay = _without_copies(found, marks, batches)
        return dataclasses.replace(
            replay, is_enough=found.are_all or found.count >= batches
        )
    held_out = given or HeldOut(
        why_not=f"{found.count} batches are too few to keep one out"
    )
    if kept:
        held_out = HeldOut({"x": found.part(0, kept)}, sum(marks.rows[:kept]))
    trained_on = None
    if held_out.data is not None:
        end = kept + marks.batches_of(held_out.rows, kept)
        trained_on = {"x": found.part(kept, end)}
    samples, repeated = marks.repeats(kept, batches)
    return Replay(
        {"x": found.part(kept, found.count, batches)},
        held_out.data,
        trained_on,
        _name(given),
        samples=samples,
        repeated=repeated,
        rows_held_out=held_out.rows,
        is_enough=found.are_all or found.count - kept >= batches,
        why_not=held_out.why_not,
    )


def _without_copies(found: Batches, marks: Marks, batches: int) -> Replay:
    """Returns the replay of batches in which samples come again."""
    values = _stacked(list(found.items()))
    if values is not None:
        rows = Rows.of(values)
        if rows is not None:
            rows = rows.take(marks.first_ones())
            return _of_rows(rows, batches, marks.rows[0], None)
    samples, repeated = marks.repeats(0, batches)
    return Replay(
        {"x": found.part(0, found.count, batches)},
        None,
        samples=samples,
        repeated=repeated,
        why_not="its samples come again and again in other batches",
    )


def _stacked(batches: list[Any]) -> tuple[Any, Any, Any] | None:
    """Returns the samples of all batches as arrays; None: they differ."""
    parts = [keras.utils.unpack_x_y_sample_weight(b) for b in batches]
    try:
        stacked = keras.tree.map_structure(
            lambda *v: (
                None
                if v[0] is None
                else np.concatenate([np.asarray(_on_host(a)) for a in v])
            ),
            *parts,
        )
    except (TypeError, ValueError):
        return None
    return (stacked[0], stacked[1], stacked[2])


def _on_host(value: Any) -> Any:
    return value.detach().cpu() if hasattr(value, "detach") else value


def _name(given: HeldOut | None) -> str:
    return "validation data" if given else "reserved samples"


def _too_few(count: int) -> str:
    only = "1 sample is" if count == 1 else f"{count} samples are"
    return f"{only} too few to keep any out"


def _shuffled(rows: int) -> np.ndarray[Any, Any]:
    # A generator of its own: the global ones belong to the user.
    return np.random.default_rng(0).permutation(rows)


def _reserved(rows: int) -> int:
    return min(rows // _RESERVED_SHARE, _MOST_RESERVED)


def _reserved_batches(batch: Any) -> int:
    return _reserved_batches_of(batch_rows(batch))


def _reserved_batches_of(rows: int) -> int:
    return max(1, _MOST_RESERVED // rows)


class _LazyRows(keras.utils.PyDataset):
    """Batches of rows that are taken when they are asked for."""

    def __init__(
        self, rows: Rows, order: np.ndarray[Any, Any], batch_size: int
    ) -> None:
        super().__init__()
        self._rows, self._order, self._size = rows, order, batch_size

    def __len__(self) -> int:
        return len(self._order) // self._size

    def __getitem__(self, index: int) -> Any:
        begin = index * self._size
        some = self._rows.take(self._order[begin : begin + self._size])
        x, y, weights = some.values
        return (x, y) if weights is None else (x, y, weights)


def _named(rows: Rows, batch_size: int, whole: bool = False) -> dict[str, Any]:
    """Returns arguments of `fit` and `evaluate` for rows, in this order.

    `whole` says that every batch has `batch_size` rows.
    """
    dataset = _ready_dataset(rows, batch_size, whole)
    if dataset is not None:
        return {"x": dataset}
    return rows.named(batch_size)


def _ready_dataset(rows: Rows, batch_size: int, whole: bool) -> Any:
    """Returns the batches that TensorFlow would make of some arrays, or None.

    It makes them anew for every `fit` and `evaluate`, which takes 0.1 s:
    longer than small models need for a probe, or for what judges it.
    """
    x, y, weights = rows.values
    if keras.backend.backend() != "tensorflow" or y is None:
        return None
    arrays = (x, y) if weights is None else (x, y, weights)
    leaves = leaves_of(arrays)
    if not all(isinstance(a, np.ndarray) for a in leaves):
        return None
    if not all(a.dtype.kind in "fiub" for a in leaves):
        return None
    import tensorflow as tf

    def number(array: Any) -> Any:
        if array is not None and array.dtype.kind == "f":
            return array.astype(keras.config.floatx(), copy=False)
        return array

    numbers = keras.tree.map_structure(
        number, keras.tree.lists_to_tuples(arrays)
    )
    dataset = tf.data.Dataset.from_tensor_slices(numbers)
    # Which makes their size part of the shape, as with Keras's own batches:
    # with it the training step need not be traced anew.
    return dataset.batch(batch_size, drop_remainder=whole)
