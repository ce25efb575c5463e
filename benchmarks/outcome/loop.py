"""Train one task at many learning rates at once.

A `Trainer` holds one compiled chunk of ten steps, mapped over seeds (each
with its own weights and batches) and over rows (each with its own learning
rate at every step; all rows of a seed see the same batches).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from benchmarks.outcome.nets import MOVED
from benchmarks.outcome.optimizers import OPTIMIZERS
from benchmarks.outcome.tasks import Task

Vector = NDArray[np.float64]
CHUNK = 10
EVAL_BATCH = 32
# Over how many batches the package takes moving statistics anew.
RENEWED = 8


@dataclass(frozen=True, eq=False)
class Run:
    """What a run measured.

    Attributes:
        losses: Batch losses, (seed, row, step), as many as were kept.
        steps: After which steps it was evaluated.
        reserved, test: Losses in inference mode, (seed, row, evaluation).
    """

    losses: Vector
    steps: tuple[int, ...]
    reserved: Vector
    test: Vector


def batches(count: int, size: int, steps: int, seed: int) -> np.ndarray:
    """Indices of `steps` batches: whole batches of reshuffled epochs."""
    rng = np.random.default_rng(seed)
    size = min(size, count)
    each = count // size
    epochs = [
        rng.permutation(count)[: each * size] for _ in range(-(-steps // each))
    ]
    return np.concatenate(epochs).reshape(-1, size)[:steps].astype("int32")


class Trainer:
    """A task with an optimizer, ready to run rows of learning rates."""

    def __init__(self, task: Task, optimizer: str, batch: int | None = None):
        self.task = task
        self.problem = _made(task.make)
        self.optimizer = OPTIMIZERS[optimizer]
        self.data = {
            part: jax.tree.map(jnp.asarray, arrays)
            for part, arrays in self.problem.data.items()
        }
        self.count = len(next(iter(self.data["train"].values())))
        self.batch = min(batch or task.batch, self.count)
        self._chunk = jax.jit(self._run_chunk, donate_argnums=0)
        self._evaluated = _evaluator(task.make)

    @property
    def steps_per_epoch(self) -> int:
        """How many batches one pass has."""
        return self.count // self.batch

    def start(self, seeds: Sequence[int], rows: int):
        """The state before training: per seed its weights, once per row."""
        params, stats = _started(self.task.make, tuple(seeds), rows)
        init = jax.vmap(jax.vmap(self.optimizer.init))
        slots = jax.eval_shape(init, params)
        slots = jax.tree.map(lambda v: np.zeros(v.shape, v.dtype), slots)
        # Copies: the compiled chunk takes over what it is given.
        return jax.tree.map(jnp.array, (params, stats, slots))

    def run(self, seeds, lrs, evaluations, keep, *, renew=False) -> Run:
        """Train.

        Args:
            seeds: One integer per seed.
            lrs: (row, step), the same for all seeds.
            evaluations: After which steps to evaluate, multiples of ten.
            keep: How many of the batch losses to keep.
            renew: Whether to evaluate with moving statistics taken anew.
        """
        steps = lrs.shape[1]
        state = self.start(seeds, len(lrs))
        order = np.stack(
            [batches(self.count, self.batch, steps, s) for s in seeds], 1
        )
        keys = jax.vmap(jax.random.key)(jnp.asarray(seeds) + 10_000)
        table = np.ascontiguousarray(lrs.T.astype("float32"))
        losses, reserved, test = [], [], []
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
            if begin < max(keep, 1):
                losses.append(loss)
            if end in evaluations:
                found = self._evaluate(state, seeds, renew)
                reserved.append(found[0])
                test.append(found[1])
        stack = functools.partial(np.stack, axis=-1)
        return Run(
            np.moveaxis(np.concatenate(losses), 0, -1),
            tuple(e for e in evaluations if e <= steps),
            stack([np.asarray(v) for v in reserved]),
            stack([np.asarray(v) for v in test]),
        )

    def initial(self, seeds: Sequence[int], rows: int, *, renew=False):
        """Losses on reserved and test samples before training, per seed.

        `rows` as in the runs, so that nothing is compiled anew.
        """
        found = self._evaluate(self.start(seeds, rows), seeds, renew)
        return np.asarray(found[0])[:, 0], np.asarray(found[1])[:, 0]

    def _evaluate(self, state, seeds, renew):
        params, stats, _ = state
        if renew:
            order = np.stack(
                [batches(self.count, self.batch, RENEWED, s) for s in seeds]
            )
            stats = renewer(self.task.make)(params, self.data["train"], order)
        return self._evaluated(params, stats, self.data)

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
def _made(make):
    return make()


@functools.cache
def _evaluator(make):
    """Losses on reserved and test samples; compiled once for a task."""
    problem = _made(make)

    def mean(params, stats, arrays):
        parts = {
            k: v.reshape(-1, EVAL_BATCH, *v.shape[1:])
            for k, v in arrays.items()
        }
        count = len(next(iter(parts.values())))
        keys = jax.random.split(jax.random.key(99), count)
        loss = functools.partial(problem.loss, params, stats)
        return jax.vmap(lambda b, k: loss(b, k, False)[0])(parts, keys).mean()

    def evaluate(params, stats, data):
        def both(params, stats):
            parts = ("reserved", "test")
            return tuple(mean(params, stats, data[part]) for part in parts)

        return jax.vmap(jax.vmap(both))(params, stats)

    return jax.jit(evaluate)


@functools.cache
def renewer(make):
    """Statistics of each row: their means over a seed's first batches.

    As the package judges its probes by. In training a layer's own statistics
    are not read, so from none at all a step leaves 0.01 of the batch's.
    """
    problem = _made(make)
    none = jax.tree.map(jnp.zeros_like, problem.init(0)[1])

    def mean(params, train, which):
        def of_batch(which):
            batch = {k: v[which] for k, v in train.items()}
            key = jax.random.key(98)
            return problem.loss(params, none, batch, key, True)[1]

        found = jax.vmap(of_batch)(which)
        return jax.tree.map(lambda v: v.mean(0) / MOVED, found)

    rows = jax.vmap(mean, in_axes=(0, None, None))
    return jax.jit(jax.vmap(rows, in_axes=(0, None, 0)))


@functools.cache
def _started(make, seeds, rows):
    """Weights and statistics of each seed, once per row."""
    drawn = [_made(make).init(seed) for seed in seeds]
    states = jax.tree.map(lambda *v: np.stack(v), *drawn)
    return jax.tree.map(lambda v: np.stack([v] * rows, axis=1), states)
