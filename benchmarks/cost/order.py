"""`compile → lr_find → fit`, cold: each order in a process of its own.

What everybody does first, on a real network whose step takes longer to trace
and compile than to run some hundred times.
"""

from __future__ import annotations

import functools
from typing import Any

import keras
import numpy as np

from benchmarks.cost import models
from benchmarks.cost import pairing

__all__ = ["measure_order"]

PLAIN = "fit, and 280 steps more"
ORDERS = {PLAIN: None, "ramp, fit": False, "ramp and probes, fit": True}
BATCH, BATCHES, MORE = 32, 70, 4  # 4 further epochs are the 280 steps
_ROUNDS = 3
_TIMES = ("lr_find", "fit", "more")
_TRACES = "traces, training"
_COMPILES = "/jax/core/compile/backend_compile_duration"

# Not attributes of the layer: the test would put them back.
_traced: list[bool] = []
_compiled: list[str] = []


class PassThrough(keras.layers.Layer):
    """Hands on its input, and notes when Python calls it: in a trace.

    On PyTorch, which traces nothing, that is at every step.
    """

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Returns `inputs`."""
        _traced.append(bool(training))
        return inputs


def measure_order(quick: bool = False, gpu: bool = False) -> pairing.Rows:
    """Measures every order; seconds."""
    jobs: dict[str, pairing.Rows] = {name: [] for name in ORDERS}

    def run(name: str) -> float:
        side = 32 if quick else 64
        jobs[name].append(pairing.fresh(__name__, "order", ORDERS[name], side))
        return float(sum(jobs[name][-1][part] for part in _TIMES))

    runs = {name: functools.partial(run, name) for name in ORDERS}
    found = pairing.interleave(runs, 1 if quick else _ROUNDS, warm_up=0)
    rows = []
    for name, costs in found.items():
        last = jobs[name][-1]
        ratios = np.array(costs) / np.array(found[PLAIN])
        times = {
            f"{part}, s": pairing.spread([job[part] for job in jobs[name]])
            for part in _TIMES
        }
        counts = {key: last[key] for key in last if key not in _TIMES}
        more = last[_TRACES] - jobs[PLAIN][-1][_TRACES]
        row = {"order": name, "ratio": pairing.spread(ratios), **times}
        rows.append({**row, **counts, "more than plain": more})
    return rows


def order(probe: bool | None, side: int) -> dict[str, Any]:
    """Compiles, tests (None: does not) and fits; seconds and counts."""
    from keras_lrfinder import lr_find

    _listen()
    keras.utils.set_random_seed(1)  # every round tests the same
    model = models.compile_(_network(side))
    rng = np.random.default_rng(5)
    y = rng.integers(10, size=BATCH * BATCHES).astype("int32")
    x = rng.random((len(y), side, side, 3), np.float32) * 128.0
    x += 12.0 * y[:, None, None, None]  # the brighter, the higher
    given = {"x": x, "y": y, "batch_size": BATCH, "verbose": 0}
    steps = []

    def test() -> None:
        found = lr_find(model, **given, probe=probe)
        steps.append(pairing.steps_taken(found))

    def fit(epochs: int = 1) -> None:
        model.fit(**given, epochs=epochs)

    found = {
        "lr_find": 0.0 if probe is None else pairing.timed(test),
        "fit": pairing.timed(fit),
        "more": pairing.timed(lambda: fit(MORE)) if probe is None else 0.0,
    }
    counts = _counts()
    if probe is not None:  # and once more: nothing is traced any longer
        test()
        fit()
    later = sum(_counts().values()) - sum(counts.values())
    return {**found, "steps": max(steps, default=0), **counts, "later": later}


def _network(side: int) -> Any:
    passed = PassThrough()(keras.Input((side, side, 3)))
    return keras.applications.MobileNetV3Small(
        input_tensor=passed,
        weights=None,
        classes=10,
        classifier_activation=None,
    )


def _counts() -> dict[str, int]:
    """Returns how often what was traced or compiled."""
    counts = {
        _TRACES: sum(_traced),
        "other traces": len(_traced) - sum(_traced),
    }
    if keras.backend.backend() == "jax":
        steps = sum("train_step" in name for name in _compiled)
        counts["compiled steps"] = steps
        counts["other compiled"] = len(_compiled) - steps
    return counts


def _listen() -> None:
    if keras.backend.backend() != "jax":
        return
    import jax

    def listener(event: str, seconds: float, **about: Any) -> None:
        if event == _COMPILES:
            _compiled.append(str(about.get("fun_name")))

    jax.monitoring.register_event_duration_secs_listener(listener)
