"""Where the finder's own time in a step goes: a profile of its hooks."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras

from benchmarks.cost.keras_models import compiled
from benchmarks.cost.keras_models import data
from benchmarks.cost.pairing import spread
from benchmarks.cost.shapes import SHAPES
from benchmarks.cost.shapes import SMALLER
from benchmarks.cost.shapes import Shape
from keras_lrfinder import LRFinder
from keras_lrfinder.analysis.range_test import RangeTest
from keras_lrfinder.training.batch_loss import BatchLoss
from keras_lrfinder.training.learning_rate import SweptRate

__all__ = ["measure_hooks"]

_HOOKS = {
    "hook before the batch": (LRFinder, "on_train_batch_begin"),
    "hook after the batch": (LRFinder, "on_train_batch_end"),
}
# Timed in fits of their own: a stopwatch inside another one adds to it.
_WITHIN = {
    "emptying the mean": (BatchLoss, "start_batch"),
    "setting the learning rate": (SweptRate, "set"),
    "recording the loss": (RangeTest, "record"),
}
_FITS, _STEPS, _SKIPPED = 9, 200, 20


class _Operation(keras.callbacks.Callback):
    """Runs the least that TensorFlow can be asked to do after each step."""

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.run()

    def run(self) -> None:
        import tensorflow as tf

        tf.raw_ops.NoOp()


def measure_hooks(quick: bool = False) -> dict[str, Any]:
    """Profiles the hooks on the smaller models; microseconds a step.

    Args:
        quick: Whether to do as little as possible, to try it out.
    """
    fits = 1 if quick else _FITS
    return {name: _measure(SHAPES[name], fits) for name in SMALLER}


def _measure(shape: Shape, fits: int) -> dict[str, Any]:
    model = compiled(shape)
    x, y = data(shape, _STEPS)

    def fit(callback: Any) -> None:
        model.fit(x, y, batch_size=shape.batch, callbacks=[callback], verbose=0)

    def finder() -> Any:
        return LRFinder(end_lr=1e-3, verbose=0)

    watched = [(_HOOKS, finder), (_WITHIN, finder)]
    if keras.backend.backend() == "tensorflow":
        least = {"an operation that does nothing": (_Operation, "run")}
        watched.append((least, _Operation))
    found: dict[str, list[float]] = {}
    for number in range(1 + fits):
        for functions, callback in watched:
            with _stopwatches(functions) as times:
                fit(callback())
            for name, seconds in times.items():
                kept = found.setdefault(name, [])
                if number:  # a first round warms up
                    kept += [1e6 * s for s in seconds[_SKIPPED:]]
    return {name: spread(values) for name, values in found.items()}


@contextlib.contextmanager
def _stopwatches(
    functions: dict[str, tuple[Any, str]],
) -> Iterator[dict[str, list[float]]]:
    """Times every call of some methods, in seconds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    with contextlib.ExitStack() as stack:
        for name, (owner, method) in functions.items():
            own = vars(owner).get(method)
            timed = _timed(getattr(owner, method), times[name])
            setattr(owner, method, timed)
            stack.callback(_put_back, owner, method, own)
        yield times


def _put_back(owner: Any, method: str, own: Any) -> None:
    if own is None:
        delattr(owner, method)  # it was inherited
    else:
        setattr(owner, method, own)


def _timed(
    function: Callable[..., Any], seconds: list[float]
) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        result = function(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
        return result

    return timed
