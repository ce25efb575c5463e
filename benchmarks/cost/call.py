"""What `lr_find` takes over as many steps of plain `fit`, and for what."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import keras

from benchmarks.cost.compiling import PassThrough
from benchmarks.cost.compiling import count_compiling
from benchmarks.cost.keras_models import compiled
from benchmarks.cost.keras_models import data
from benchmarks.cost.pairing import Cost
from benchmarks.cost.pairing import compare
from benchmarks.cost.pairing import interleave
from benchmarks.cost.pairing import spread
from benchmarks.cost.pairing import timed
from benchmarks.cost.shapes import SHAPES
from benchmarks.cost.shapes import SMALLER
from benchmarks.cost.shapes import Shape
from keras_lrfinder import lr_find
from keras_lrfinder.training import finder as finder_module
from keras_lrfinder.training.snapshot import ModelState

__all__ = ["measure_calls"]

STEPS = 100
_HIGHEST_LR = 1e-3  # low, so that every ramp goes all the way
_WARM_ROUNDS = 40
_COLD_ROUNDS = 6


def measure_calls(quick: bool = False) -> dict[str, Any]:
    """Measures all models; milliseconds.

    Args:
        quick: Whether to do as little as possible, to try it out.
    """
    found: dict[str, Any] = {}
    for name, shape in SHAPES.items():
        warm = 1 if quick else _WARM_ROUNDS
        found[name] = _Calls(shape).warm(warm)
    for name in SMALLER:
        cold = 1 if quick else _COLD_ROUNDS
        found[name] |= _Calls(SHAPES[name]).cold(cold)
        found[name]["compiled"] = _Calls(SHAPES[name]).compiling()
    return found


class _Clock(keras.callbacks.Callback):
    """Times the epochs. Without batch hooks, Keras runs as if without it."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Starts the watch."""
        self._start = Cost.now()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Stops it. By now Keras has waited for everything."""
        self.cost = Cost.now().since(self._start)


class _Calls:
    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        x, y = data(shape, STEPS)
        self._given = {"x": x, "y": y, "batch_size": shape.batch, "verbose": 0}
        self._probed: list[int] = []
        self._parts: list[dict[str, float]] = []

    def fit(self, model: Any) -> None:
        model.fit(**self._given)

    def ramp(self, model: Any, **kwargs: Any) -> Any:
        """Runs no probes; with the suggestion, made when it is asked for."""
        given = {**self._given, "steps": STEPS, "end_lr": _HIGHEST_LR}
        found = lr_find(model, **given, probe=False, **kwargs)
        assert found.suggestion.rule, "none was made"
        return found

    def probed(self, model: Any) -> Any:
        """Runs the defaults: a ramp up to where it diverges, then probes."""
        found = lr_find(model, **self._given, steps=STEPS)
        probes = sum(len(probe.losses) for probe in found.probes)
        self._probed.append(len(found.curve) + probes)
        return found

    def probed_per_step(self, model: Any) -> Cost:
        """Returns the time of as many of its steps as the others make."""
        cost = timed(lambda: self.probed(model))
        return cost / (self._probed[-1] / STEPS)

    def split(self, model: Any) -> Cost:
        clock, parts = _Clock(), {}
        with _watch_parts(parts):
            whole = timed(lambda: self.ramp(model, callbacks=[clock]))
        parts["steps"] = clock.cost.wall
        parts["rest"] = whole.wall - sum(parts.values())
        self._parts.append(parts)
        return whole

    def warm(self, rounds: int) -> dict[str, Any]:
        """Compares calls on a model that has been trained before."""
        model = compiled(self._shape)
        contenders = {
            "fit": lambda: timed(lambda: self.fit(model)),
            "lr_find": lambda: timed(lambda: self.ramp(model)),
            "with probes": lambda: self.probed_per_step(model),
            "split": lambda: self.split(model),
        }
        runs = interleave(contenders, rounds, seconds=120.0)
        found = self.ramp(model)
        plots = [
            timed(lambda: _draw(found)).wall * 1e3
            for _ in range(max(rounds // 3, 2))
        ]
        return {
            "warm": compare(runs, "lr_find", "fit", 1e-3),
            "warm, with probes, per step": compare(
                runs, "with probes", "fit", 1e-3
            ),
            "steps with probes": spread(self._probed),
            "split": _spreads(self._parts[1:]),
            "plot": spread(plots),
        }

    def cold(self, rounds: int) -> dict[str, Any]:
        """Compares calls on new models, traced or compiled within them."""
        runs = interleave(
            {
                "fit": lambda: self._on_new_model(self.fit),
                "lr_find": lambda: self._on_new_model(self.ramp),
            },
            rounds,
            seconds=6.0,
        )
        return {"cold": compare(runs, "lr_find", "fit", 1e-3)}

    def compiling(self) -> dict[str, Any]:
        """Counts what is traced and compiled, in three calls on one model."""
        keras.backend.clear_session()
        layer = PassThrough()
        model = compiled(self._shape, layer)
        found = {}
        for name, call in {
            "fit before": self.fit,
            "lr_find": self.ramp,
            "fit after": self.fit,
            "lr_find again": self.ramp,
            "lr_find with probes": self.probed,
            "next fit": self.fit,
        }.items():
            with count_compiling(layer) as counts:
                call(model)
            found[name] = dict(counts)
        return found

    def _on_new_model(self, call: Callable[[Any], Any]) -> Cost:
        keras.backend.clear_session()
        gc.collect()
        model = compiled(self._shape)
        return timed(lambda: call(model))


def _draw(found: Any) -> None:
    found.plot().figure.canvas.draw()


def _spreads(parts: list[dict[str, float]]) -> dict[str, Any]:
    return {
        name: spread([1e3 * part.get(name, 0.0) for part in parts])
        for name in parts[0]
    }


@contextlib.contextmanager
def _watch_parts(parts: dict[str, float]) -> Iterator[None]:
    """Adds up the seconds spent in some functions of the package."""
    watched = {
        "snapshot": (ModelState, "__init__"),
        "restore": (ModelState, "restore"),
        "suggestion": (finder_module, "suggest"),
    }
    originals = {
        name: getattr(owner, attribute)
        for name, (owner, attribute) in watched.items()
    }
    for name, (owner, attribute) in watched.items():
        parts[name] = 0.0
        setattr(owner, attribute, _stopwatch(originals[name], name, parts))
    try:
        yield
    finally:
        for name, (owner, attribute) in watched.items():
            setattr(owner, attribute, originals[name])


def _stopwatch(
    function: Callable[..., Any], name: str, parts: dict[str, float]
) -> Callable[..., Any]:
    def stopwatch(*args: Any, **kwargs: Any) -> Any:
        start = Cost.now()
        try:
            return function(*args, **kwargs)
        finally:
            parts[name] += Cost.now().since(start).wall

    return stopwatch
