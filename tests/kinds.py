"""Data of every kind that `fit` takes, whose samples are their own numbers."""

import itertools
import types

import keras
import numpy as np
import pytest

SIZE = 4  # rows of a batch
_serial = itertools.count()


def columns(rows):
    x = np.arange(1, rows + 1, dtype="float32")[:, None] * np.ones(3, "float32")
    return x, np.arange(1, rows + 1, dtype="int32")


class Items(keras.utils.PyDataset):
    """Batches of samples, without an end where `endless`."""

    def __init__(self, rows, endless=False, **kwargs):
        super().__init__(**kwargs)
        self.xy, self.endless, self.taken = columns(rows), endless, 0

    @property
    def num_batches(self):
        return None if self.endless else -(-len(self.xy[0]) // SIZE)

    def __getitem__(self, index):
        self.taken += 1  # What never ends fails, and does not hang.
        assert self.taken < 3000, "read without a bound"
        begin = index * SIZE % len(self.xy[0])
        return tuple(a[begin : begin + SIZE] for a in self.xy)

    def generator(self, times=1):
        for _ in range(times) if times else itertools.count():
            yield from map(self.__getitem__, range(self.num_batches))


def arrays(rows):
    x, y = columns(rows)
    return {"x": x, "y": y, "batch_size": SIZE}


def tensors(rows):
    x, y = map(keras.ops.convert_to_tensor, columns(rows))
    return {"x": x, "y": y, "batch_size": SIZE}


def nested(rows):
    x, y = columns(rows)
    return {"x": {"a": x, "b": [x, (x,)]}, "y": y, "batch_size": SIZE}


def pandas(rows):
    pd = pytest.importorskip("pandas")
    x, y = columns(rows)
    return {"x": pd.DataFrame(x), "y": pd.Series(y), "batch_size": SIZE}


def h5(rows):
    h5py = pytest.importorskip("h5py")
    name = f"rows-{next(_serial)}"
    file = h5py.File(name, "w", driver="core", backing_store=False)
    named = dict(zip("xy", columns(rows)))
    named = {k: file.create_dataset(k, data=v) for k, v in named.items()}
    return {**named, "batch_size": SIZE}


def csr(rows):
    sparse = pytest.importorskip("scipy.sparse")
    return {**arrays(rows), "x": sparse.csr_matrix(columns(rows)[0])}


def coo(rows):
    return {**csr(rows), "x": csr(rows)["x"].tocoo()}


def ragged(rows):
    import tensorflow as tf

    x, _ = columns(rows)
    parts = [list(row[: 1 + i % 3]) for i, row in enumerate(x)]
    return {**arrays(rows), "x": tf.ragged.constant(parts)}


def tf_sparse(rows):
    import tensorflow as tf

    return {**arrays(rows), "x": tf.sparse.from_dense(columns(rows)[0])}


def bcoo(rows):
    from jax.experimental import sparse

    return {**arrays(rows), "x": sparse.BCOO.fromdense(columns(rows)[0])}


def tf_data(rows, **kwargs):
    import tensorflow as tf

    data = tf.data.Dataset.from_tensor_slices(columns(rows))
    return {"x": data.batch(SIZE, **kwargs)}


def tf_data_unknown(rows):
    return {"x": tf_data(rows)["x"].filter(lambda *batch: True)}


def tf_data_shuffled(rows):
    return {"x": tf_data(rows)["x"].unbatch().shuffle(rows).batch(SIZE)}


def tf_data_endless(rows):
    return {"x": tf_data(rows)["x"].repeat()}


def loader(rows):
    import torch
    from torch.utils.data import DataLoader
    from torch.utils.data import TensorDataset

    class OfMyOwn(DataLoader):
        """A subclass, of another module."""

    dataset = TensorDataset(*map(torch.tensor, columns(rows)))
    return {"x": OfMyOwn(dataset, batch_size=SIZE, shuffle=True)}


def items(rows):
    return {"x": Items(rows)}


def items_endless(rows):
    return {"x": Items(rows, endless=True)}


def items_workers(rows):
    return {"x": Items(rows, workers=2)}


def generator(rows):
    return {"x": Items(rows).generator()}


def generator_endless(rows):
    return {"x": Items(rows).generator(times=None)}


ROWS = [arrays, tensors, nested, pandas, h5, csr, coo, ragged, tf_sparse, bcoo]
BATCHES = [tf_data, tf_data_unknown, tf_data_shuffled, tf_data_endless, loader]
BATCHES += [items, items_endless, items_workers, generator, generator_endless]
BACKENDS = {"tf": "tensorflow", "ragged": "tensorflow", "bcoo": "jax"}
BACKENDS["loader"] = "torch"


def of_kinds(*kinds):
    """Runs a test with each kind, where its library is."""
    params = []
    for kind in kinds:
        backend = BACKENDS.get(kind.__name__.partition("_")[0])
        marks = [pytest.mark.backend(backend)] if backend else []
        params.append(pytest.param(kind, marks=marks, id=kind.__name__))
    return pytest.mark.parametrize("kind", params)


def run_of(replay, steps):
    """A run of so many steps, judged on as much as there is."""
    judged = {"held_out": replay.held_out, "again": replay.again}
    return types.SimpleNamespace(steps=steps, **judged)
