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
from benchmarks.cost.pairing import typical_step
from benchmarks.cost.pairing import whole_run
from benchmarks.cost.shapes import SHAPES
from benchmarks.cost.shapes import Shape
from keras_lrfinder import LRFinder

__all__ = ["measure_steps"]

PLAIN = "plain fit"
_HIGHEST_LR = 1e-3  # low, so that every run goes all the way


class _End(keras.callbacks.Callback):
    """Knows when the epoch was over. No batch hooks: changes nothing."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """By now Keras has waited for everything."""
        self.at = Cost.now()


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
    times: list[Cost] = []
    end = _End()
    # Without batch hooks, Keras on JAX runs ahead of the device. (Elsewhere
    # one more callback would have the finder watch the learning rate for it.)
    ahead = keras.backend.backend() == "jax"
    model.make_train_function()
    model.train_function = _timed(model.train_function, times)

    def run(callbacks: Callable[[], list[Any]]) -> Cost:
        times.clear()
        model.fit(
            x,
            y,
            batch_size=shape.batch,
            callbacks=[*callbacks(), *([end] if ahead else [])],
            verbose=0,
        )
        return whole_run(times, end.at) if ahead else typical_step(times)

    runs = {
        name: functools.partial(run, callbacks)
        for name, callbacks in CONTENDERS.items()
    }
    found = interleave(runs, rounds)
    return {name: compare(found, name, PLAIN, unit=1e-6) for name in CONTENDERS}


def _timed(
    train_function: Callable[..., Any], times: list[Cost]
) -> Callable[..., Any]:
    """Returns the train function, with both clocks read at each call.

    It is called once a step whatever callbacks there are, so a fit without
    any can be timed like this, too.
    """

    def timed(*args: Any) -> Any:
        times.append(Cost.now())
        return train_function(*args)

    return timed
