"""Train one task at many learning rates at once.

A `Trainer` holds one compiled chunk of ten steps, mapped over seeds (each
with its own weights and batches) and over rows (each with its own learning
rate at every step; all rows of a seed see the same batches).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.quality import problems
from benchmarks.quality.optimizers import OPTIMIZERS
from benchmarks.quality.tasks import Task

Vector = NDArray[np.float64]
CHUNK = 10
EVAL_BATCH = 32


def batches(count: int, size: int, steps: int, seed: int) -> np.ndarray:
    """Indices of `steps` batches: whole batches of reshuffled epochs."""
    rng = np.random.default_rng(seed)
    each = count // size
    epochs = [
        rng.permutation(count)[: each * size] for _ in range(-(-steps // each))
    ]
    return np.concatenate(epochs).reshape(-1, size)[:steps].astype("int32")


class Trainer:
    """A task with an optimizer, ready to run rows of learning rates.

    Args:
        task: The task.
        optimizer: Name.
        batch: Integer, another size of batches than the task's.
    """

    def __init__(self, task: Task, optimizer: str, batch: int | None = None):
        self.task = task
        self.problem = _made(task.name)
        self.optimizer = OPTIMIZERS[optimizer]
        self.data = {
            part: jax.tree.map(jnp.asarray, arrays)
            for part, arrays in self.problem.data.items()
        }
        self.count = len(next(iter(self.data["train"].values())))
        self.batch = min(batch or task.batch, self.count)
        self._chunk = jax.jit(self._run_chunk, donate_argnums=0)

    @property
    def steps_per_epoch(self) -> int:
        """How many batches one pass has."""
        return self.count // self.batch

    def start(self, seeds: Sequence[int], rows: int):
        """The state before training: per seed its weights, once per row."""
        drawn = [self.problem.init(seed) for seed in seeds]
        params, stats = jax.tree.map(
            lambda *v: np.stack([np.stack(v)] * rows, axis=1), *drawn
        )
        init = jax.vmap(jax.vmap(self.optimizer.init))
        slots = jax.tree.map(
            lambda v: np.zeros(v.shape, v.dtype), jax.eval_shape(init, params)
        )
        # Copies: the compiled chunk takes over what it is given.
        return jax.tree.map(jnp.array, (params, stats, slots))

    def run(self, seeds, lrs, at, part) -> tuple[Vector, Vector]:
        """Train, and evaluate.

        Args:
            seeds: One integer per seed.
            lrs: (row, step), the same for all seeds.
            at: After which steps to evaluate, multiples of ten.
            part: `"reserved"` (as the package judges: in training mode, by
                batches of this size, with masks that are always the same) or
                `"test"` (in inference mode).

        Returns:
            Batch losses, (seed, row, step), and losses of the part, (seed,
            row, evaluation).
        """
        steps = lrs.shape[1]
        state = self.start(seeds, len(lrs))
        order = np.stack(
            [batches(self.count, self.batch, steps, s) for s in seeds], 1
        )
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds) + 10_000)
        table = np.ascontiguousarray(lrs.T.astype("float32"))
        losses, found = [], []
        for begin in range(0, steps, CHUNK):
            end = begin + CHUNK
            state, loss = self._chunk(
                state,
                self.data["train"],
                keys,
                jnp.asarray(begin),
                order[begin:end],
                table[begin:end],
            )
            losses.append(loss)
            if end in at:
                found.append(self.judge(state, seeds, part))
        return np.moveaxis(np.concatenate(losses), 0, -1), np.stack(found, -1)

    def before(self, seeds, rows, part) -> Vector:
        """Losses of a part before training, (seed,).

        `rows` as in the runs, so that nothing is compiled anew.
        """
        return self.judge(self.start(seeds, rows), seeds, part)[:, 0]

    def judge(self, state, seeds, part) -> Vector:
        """Losses of a part, (seed, row)."""
        evaluate = _evaluator(self.task.name, part, self.batch)
        given = jnp.asarray(seeds), self.data[part]
        return np.asarray(evaluate(*state[:2], *given))

    def _run_chunk(self, state, train, keys, begin, order, table):
        def step(carry, inputs):
            number, which, lrs = inputs
            return self._step(carry, train, keys, number, which, lrs)

        numbers = begin + jnp.arange(CHUNK)
        return jax.lax.scan(step, state, (numbers, order, table))

    def _step(self, state, train, keys, number, which, lrs):
        def row(state, lr, batch, key):
            params, stats, slots = state

            def loss(params):
                return self.problem.loss(params, stats, batch, key, True)

            (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(
                params
            )
            params, slots = self.optimizer.update(
                params, grads, slots, number, lr
            )
            return (params, stats, slots), value

        def seed(state, which, key):
            batch = {k: v[which] for k, v in train.items()}
            key = jax.random.fold_in(key, number)
            rows = jax.vmap(row, in_axes=(0, 0, None, None))
            return rows(state, lrs, batch, key)

        return jax.vmap(seed)(state, which, keys)


@functools.cache
def _made(name: str):
    return getattr(problems, name)()


@functools.cache
def _evaluator(name: str, part: str, batch: int):
    """Losses of all seeds and rows; compiled once for a task."""
    problem, training = _made(name), part == "reserved"

    def mean(params, stats, key, arrays):
        count = len(next(iter(arrays.values())))
        size = min(batch if training else EVAL_BATCH, count)
        parts = {
            k: v[: count // size * size].reshape(-1, size, *v.shape[1:])
            for k, v in arrays.items()
        }
        keys = jax.random.split(key, count // size)
        loss = functools.partial(problem.loss, params, stats)
        return jax.vmap(lambda b, k: loss(b, k, training)[0])(
            parts, keys
        ).mean()

    def evaluate(params, stats, seeds, arrays):
        keys = jax.vmap(jax.random.key)(
            seeds + 20_000 if training else 0 * seeds + 99
        )
        rows = jax.vmap(mean, in_axes=(0, 0, None, None))
        return jax.vmap(rows, in_axes=(0, 0, 0, None))(
            params, stats, keys, arrays
        )

    return jax.jit(evaluate)
