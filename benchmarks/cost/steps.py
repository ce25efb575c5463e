"""How much longer a step takes with the finder in the fit, and where."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from benchmarks.cost import models
from benchmarks.cost import pairing
from keras_lrfinder import LRFinder

__all__ = ["measure_hooks", "measure_steps"]

PLAIN = "plain fit"
# So that every run goes all the way.
_GIVEN: dict[str, Any] = {"end_lr": 1e-3, "stop_factor": None, "verbose": 0}
# Of two cores the threads of a small step take now one and now both, which
# changes its time by more than a finder does. JAX keeps both: there a fit
# without a finder runs ahead of the device, which is what a finder may cost.
_ONE_CORE = keras.backend.backend() != "jax"
_HOOK_FITS, _HOOK_STEPS, _SKIPPED = 9, 100, 10


class _End(keras.callbacks.Callback):
    """Knows when the epoch was over. No batch hooks: changes nothing."""

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """By now Keras has waited for everything."""
        self.at = time.perf_counter()


class _Nothing(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        pass


class _AssignsRate(keras.callbacks.Callback):
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = 1e-4 + batch * 1e-9


CONTENDERS: dict[str, Callable[[int], list[Any]]] = {
    PLAIN: lambda steps: [],
    "callback that does nothing": lambda steps: [_Nothing()],
    "only assigns the learning rate": lambda steps: [_AssignsRate()],
    "LRFinder": lambda steps: [LRFinder(steps=steps, **_GIVEN)],
}


def measure_steps(quick: bool = False, gpu: bool = False) -> pairing.Rows:
    """Measures all models; microseconds."""
    _keep_to_one_core(gpu)
    rows = []
    for name, shape in models.shapes(gpu).items():
        for row in _steps(shape, 2 if quick else shape.rounds):
            rows.append({"model": name, **row})
    return rows


def _keep_to_one_core(gpu: bool) -> None:
    """Does so with all threads to come: the process is this part's own."""
    if _ONE_CORE and not gpu:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _steps(shape: models.Shape, rounds: int) -> pairing.Rows:
    model = models.compiled(shape)
    x, y = models.data(shape, shape.steps)
    times: list[float] = []
    end = _End()
    # Without batch hooks, Keras on JAX runs ahead of the device. (Elsewhere
    # one more callback would have the finder watch the learning rate for it.)
    ahead = [end] if keras.backend.backend() == "jax" else []
    # What a test finds traced it leaves in its place.
    model.fit(x, y, shape.batch, verbose=0)
    train_function = model.train_function

    def clocked(*args: Any) -> Any:
        """Is called once a step whatever callbacks there are, or none."""
        times.append(time.perf_counter())
        return train_function(*args)

    model.train_function = clocked

    def run(name: str) -> float:
        times.clear()
        callbacks = [*CONTENDERS[name](shape.steps), *ahead]
        model.fit(x, y, shape.batch, callbacks=callbacks, verbose=0)
        assert len(times) >= shape.steps, "another train function was called"
        kept = times[min(_SKIPPED, len(times) // 3) :]
        if ahead:
            return (end.at - kept[0]) / len(kept)
        # Of steps some are interrupted and most are not: one of the latter.
        return float(np.median(np.diff(kept)))

    runs = {name: functools.partial(run, name) for name in CONTENDERS}
    found = pairing.interleave(runs, rounds)
    return [
        {"in the fit": name, **pairing.compare(found, name, PLAIN, "µs")}
        for name in CONTENDERS
    ]


class _ClockedFinder(LRFinder):
    """Times its own two hooks."""

    def on_train_begin(self, logs: Any = None) -> None:
        self.before: list[float] = []
        self.after: list[float] = []
        super().on_train_begin(logs)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        hook = super().on_train_batch_begin
        self.before.append(1e6 * pairing.timed(lambda: hook(batch, logs)))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        hook = super().on_train_batch_end
        self.after.append(1e6 * pairing.timed(lambda: hook(batch, logs)))


def measure_hooks(quick: bool = False, gpu: bool = False) -> pairing.Rows:
    """Times the finder's hooks on the smaller models; microseconds."""
    _keep_to_one_core(gpu)
    fits = 1 if quick else _HOOK_FITS
    smaller = list(models.shapes(gpu).items())[:2]
    return [{"model": name, **_hooks(shape, fits)} for name, shape in smaller]


def _hooks(shape: models.Shape, fits: int) -> dict[str, Any]:
    model = models.compiled(shape)
    x, y = models.data(shape, _HOOK_STEPS)
    before: list[float] = []
    after: list[float] = []
    for number in range(1 + fits):
        finder = _ClockedFinder(**_GIVEN)
        model.fit(x, y, shape.batch, callbacks=[finder], verbose=0)
        if number:  # a first round warms up
            before += finder.before[_SKIPPED:]
            after += finder.after[_SKIPPED:]
    return {
        "hook before the batch, µs": pairing.spread(before),
        "hook after it, µs": pairing.spread(after),
    }
