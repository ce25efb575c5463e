"""How much longer a step takes with the finder in the fit."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras

from benchmarks.cost.keras_models import compiled
from benchmarks.cost.keras_models import data
from benchmarks.cost.pairing import Cost
from benchmarks.cost.pairing import compare
from benchmarks.cost.pairing import interleave
from benchmarks.cost.shapes import SHAPES
from benchmarks.cost.shapes import Shape
from keras_lrfinder import LRFinder

__all__ = ["Clock", "measure_steps"]

PLAIN = "plain fit"
_HIGHEST_LR = 1e-3  # low, so that every run goes all the way


class Clock(keras.callbacks.Callback):
    """Times the epochs. Without batch hooks, Keras runs as if without it."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the watch."""
        self._start = Cost.now()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stops it. By now Keras has waited for everything."""
        self.cost = Cost.now().since(self._start)


class _Nothing(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pass


class _ReadsLoss(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.loss = float(logs["loss"])


class _AssignsRate(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = 1e-4 + batch * 1e-9


class _ReadsLossAndAssignsRate(_AssignsRate):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.loss = float(logs["loss"])
        super().on_train_batch_end(batch)


CONTENDERS: dict[str, Callable[[], list[Any]]] = {
    PLAIN: list,
    "callback that does nothing": lambda: [_Nothing()],
    "only reads the loss": lambda: [_ReadsLoss()],
    "only assigns the learning rate": lambda: [_AssignsRate()],
    "reads and assigns": lambda: [_ReadsLossAndAssignsRate()],
    "LRFinder": lambda: [LRFinder(end_lr=_HIGHEST_LR, verbose=0)],
}


def measure_steps(quick: bool = False) -> dict[str, Any]:
    """Measures all models; microseconds.

    Args:
        quick: Whether to do as little as possible, to try it out.
    """
    return {
        name: _measure(shape, rounds=2 if quick else shape.rounds)
        for name, shape in SHAPES.items()
    }


def _measure(shape: Shape, rounds: int) -> dict[str, Any]:
    model = compiled(shape)
    x, y = data(shape, shape.steps)

    def run(callbacks: Callable[[], list[Any]]) -> Cost:
        clock = Clock()
        model.fit(
            x,
            y,
            batch_size=shape.batch,
            callbacks=[*callbacks(), clock],
            verbose=0,
        )
        return clock.cost / shape.steps

    runs = {
        name: functools.partial(run, callbacks)
        for name, callbacks in CONTENDERS.items()
    }
    found = interleave(runs, rounds)
    return {name: compare(found, name, PLAIN, unit=1e-6) for name in CONTENDERS}
