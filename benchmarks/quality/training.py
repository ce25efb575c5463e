"""Train a real Keras model many times in one compiled call (JAX backend).

Keras's own stateless interface does the work: `model.stateless_call` and
`optimizer.stateless_apply`, in a loop over steps inside a loop over learning
rates. A whole row of an LR grid costs one call.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import keras
import numpy as np

from benchmarks.quality.tasks import Task

OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.01),
    "momentum": lambda: keras.optimizers.SGD(0.01, momentum=0.9),
    "adam": lambda: keras.optimizers.Adam(),
    "adamw": lambda: keras.optimizers.AdamW(),
    "rmsprop": lambda: keras.optimizers.RMSprop(),
    "lion": lambda: keras.optimizers.Lion(),
}


class Run(NamedTuple):
    """What a run recorded.

    Attributes:
        losses: Loss of each step's batch before its update, (LR, step).
        fresh: Loss on reserved training samples after each part.
        held: Held-out loss after each part.
    """

    losses: np.ndarray
    fresh: np.ndarray
    held: np.ndarray


class Trainer:
    """A task and an optimizer, ready to be run from many seeds and LRs."""

    def __init__(self, task: Task, optimizer: str) -> None:
        self.task = task
        self.data = task.data()
        self.optimizer_name = optimizer
        self._runs = {}
        self.seed(0)

    def seed(self, seed: int, reserve: bool = False) -> None:
        """Draw new weights and a new order of the samples.

        `reserve`: keep a fifth of the training samples (at most 256) out of
        the batches; they are the fresh ones.
        """
        keras.utils.set_random_seed(seed)
        model = self.task.model()
        optimizer = OPTIMIZERS[self.optimizer_name]()
        optimizer.build(model.trainable_variables)
        self._state = (
            [v.value for v in model.trainable_variables],
            [v.value for v in model.non_trainable_variables],
            [v.value for v in optimizer.variables],
        )
        if not self._runs:
            self.model, self.optimizer = model, optimizer
            names = [v.name for v in optimizer.variables]
            self._lr_slot = names.index("learning_rate")
        rng = np.random.default_rng(seed)
        count = len(self.data.x)
        order = rng.permutation(count)
        kept = min(count // 5, 256)
        self.fresh = order[:kept]
        self._pool = order[kept:] if reserve else order
        self._rng = rng

    def batches(self, steps: int) -> np.ndarray:
        """Indices of `steps` batches: epochs of reshuffled whole batches."""
        size = min(self.task.batch, len(self._pool))
        per_epoch = len(self._pool) // size
        epochs = [
            self._rng.permutation(self._pool)[: per_epoch * size]
            for _ in range(-(-steps // per_epoch))
        ]
        return np.concatenate(epochs).reshape(-1, size)[:steps]

    def steps_per_epoch(self) -> int:
        """How many batches one pass over the training samples has."""
        return len(self.data.x) // min(self.task.batch, len(self.data.x))

    def run(self, lrs: np.ndarray, parts: int, evaluate: bool = True) -> Run:
        """Train from the seed's state once per row of `lrs` (row, step)."""
        lrs = np.asarray(lrs, "float32")
        steps = lrs.shape[1]
        key = (steps, parts, evaluate)
        if key not in self._runs:
            rows = partial(self._rows, parts=parts, evaluate=evaluate)
            self._runs[key] = jax.jit(rows)
        run = self._runs[key](
            self._state, jnp.asarray(self.batches(steps)), self.fresh, lrs
        )
        losses, fresh, held = (np.asarray(v, "float32") for v in run)
        return Run(losses.reshape(len(lrs), steps), fresh, held)

    def initial(self) -> float:
        """Held-out loss of the seed's untrained weights."""
        trainable, other, _ = self._state
        return float(self._evaluate(trainable, other, None))

    def _rows(self, state, batches, fresh, lrs, parts, evaluate):
        shape = (parts, -1)
        batches = batches.reshape(*shape, batches.shape[1])

        def row(lr):
            def part(carry, inputs):
                carry, losses = jax.lax.scan(self._step, carry, inputs)
                if not evaluate:
                    return carry, (losses, 0.0, 0.0)
                scores = [
                    self._evaluate(*carry[:2], which) for which in (fresh, None)
                ]
                return carry, (losses, *scores)

            return jax.lax.scan(part, state, (lr.reshape(shape), batches))[1]

        return jax.lax.map(row, lrs)

    def _step(self, carry, inputs):
        trainable, other, slots = carry
        lr, batch = inputs
        x, y = jnp.asarray(self.data.x)[batch], jnp.asarray(self.data.y)[batch]

        def loss(trainable):
            p, new = self.model.stateless_call(
                trainable, other, x, training=True
            )
            return self.task.loss(y, p), new

        (value, other), gradients = jax.value_and_grad(loss, has_aux=True)(
            trainable
        )
        slots = list(slots)
        slots[self._lr_slot] = lr
        trainable, slots = self.optimizer.stateless_apply(
            slots, gradients, trainable
        )
        return (list(trainable), list(other), list(slots)), value

    def _evaluate(self, trainable, other, which):
        if which is None:
            x, y = jnp.asarray(self.data.x_held), jnp.asarray(self.data.y_held)
        else:
            x, y = (jnp.asarray(v)[which] for v in (self.data.x, self.data.y))
        p, _ = self.model.stateless_call(trainable, other, x, training=False)
        return self.task.loss(y, p)
