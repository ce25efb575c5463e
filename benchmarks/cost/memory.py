"""How much memory a test takes, and what a snapshot costs a large model.

Each run has a process of its own, whose highest resident set is the figure:
nothing that looks on takes memory in it.
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cost import pairing

__all__ = ["hold", "measure_memory", "measure_snapshot", "run"]

# 42 million weights, in float32, with both moments of Adam: 503 MB.
WIDTH, DEPTH = 2048, 10
BATCH, STEPS = 8, 6
RUNS = ("fit", "lr_find", "lr_find with probes")
_ROUNDS = 6  # on PyTorch the peak of one fit varies by a third of a state
_LARGE_WIDTH = 4096  # 67 MB a layer
_SNAPSHOTS = 3
_MB = 1e6


def measure_memory(quick: bool = False, gpu: bool = False) -> pairing.Rows:
    """Runs each kind of run in a process of its own; megabytes."""
    names = [f"dense, {DEPTH // 8 if quick else DEPTH} layers"]
    if gpu:
        from benchmarks.cost.models import ON_GPU

        names += ON_GPU
    rows = []
    for name in names:
        rounds = [
            {kind: pairing.fresh(__name__, "run", kind, name) for kind in RUNS}
            for _ in range(1 if quick else _ROUNDS)
        ]
        rows += [{"model": name, **_compare(rounds, kind)} for kind in RUNS]
    return rows


def _compare(rounds: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    ours = [each[kind] for each in rounds]
    fits = [each["fit"] for each in rounds]

    def added(key: str) -> dict[str, float]:
        pairs = zip(ours, fits)
        return pairing.spread(
            [(run[key] - fit[key]) / run["state"] for run, fit in pairs]
        )

    row = {
        "run": kind,
        "state, MB": ours[0]["state"],
        "peak, MB": pairing.spread([run["peak"] for run in ours]),
        "peak over fit, states": added("peak"),
        "left over fit, states": added("left"),
    }
    if ours[0]["device"]:
        row["peak of the device over fit, states"] = added("device")
    return row


def run(kind: str, name: str) -> dict[str, float]:
    """Trains or tests a model; megabytes."""
    from benchmarks.cost import models
    from keras_lrfinder import lr_find

    if name in models.ON_GPU:
        shape = models.ON_GPU[name]
        model, batch = models.compiled(shape), shape.batch
        x, y = models.data(shape, STEPS)
    else:
        model, batch = models.heavy(WIDTH, int(name.split()[1])), BATCH
        x = np.random.default_rng(1).random((batch * STEPS, WIDTH), np.float32)
        y = np.arange(len(x), dtype="int32") % 10
    given = {"x": x, "y": y, "batch_size": batch, "verbose": 0}
    if kind != "fit":
        probe = "probes" in kind
        lr_find(model, **given, steps=STEPS, end_lr=1e-4, probe=probe)
    # In any case, so that the peak of plain training is in it.
    model.fit(**given)
    del given, x, y
    gc.collect()
    return {
        "state": _state(model),
        "left": _resident("VmRSS"),
        "peak": _resident("VmHWM"),
        "device": _device_peak(),
    }


def measure_snapshot(
    quick: bool = False, gpu: bool = False, gigabytes: float = 1.0
) -> pairing.Rows:
    """Takes one of a model of such a size, frozen and not; seconds, MB."""
    rows = []
    for name, frozen in {
        "all but the last layer": True,
        "nothing": False,
    }.items():
        runs = [
            pairing.fresh(__name__, "hold", frozen, gigabytes)
            for _ in range(1 if quick else _SNAPSHOTS)
        ]
        figures = {
            key: pairing.spread([each[key] for each in runs]) for key in runs[0]
        }
        rows.append({"frozen": name, **figures})
    return rows


def hold(frozen: bool, gigabytes: float) -> dict[str, float]:
    """Takes one snapshot, trains and leaves it; seconds, megabytes."""
    from benchmarks.cost import models
    from keras_lrfinder import snapshot

    layers = max(round(gigabytes * 1e9 / (4 * _LARGE_WIDTH**2)), 1)
    model = models.heavy(_LARGE_WIDTH, layers, frozen)
    x = np.random.default_rng(1).random((BATCH, _LARGE_WIDTH), np.float32)

    def fit() -> None:
        model.fit(x, np.arange(BATCH), batch_size=BATCH, epochs=2, verbose=0)

    fit()
    gc.collect()
    found = {"state, MB": _state(model)}
    before, device = _resident("VmRSS"), _device_peak()
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    with contextlib.ExitStack() as stack:
        taken = snapshot(model)
        found["take, s"] = pairing.timed(lambda: stack.enter_context(taken))
        found["held, MB"] = _resident("VmRSS") - before
        found["peak, MB"] = _resident("VmHWM") - before
        if device:
            found["peak of the device, MB"] = _device_peak() - device
        fit()
        found["give back, s"] = pairing.timed(stack.close)
    return found


def _state(model: Any) -> float:
    """Returns the size of what a model and its optimizer have."""
    sizes = {
        id(each): math.prod(each.shape) * np.dtype(each.dtype).itemsize
        for each in (*model.variables, *model.optimizer.variables)
    }
    return sum(sizes.values()) / _MB


def _resident(name: str) -> float:
    # Not `getrusage`: its peak is that of the parent process, if higher.
    lines = Path("/proc/self/status").read_text().splitlines()
    rows = dict(line.split(":", 1) for line in lines)
    return int(rows[name].split()[0]) * 1024 / _MB


def _device_peak() -> float:
    """Returns the most memory of a GPU in use so far, 0 where there is none."""
    peak = 0
    if os.environ["KERAS_BACKEND"] == "jax":
        import jax

        statistics = jax.local_devices()[0].memory_stats() or {}
        peak = statistics.get("peak_bytes_in_use", 0)
    elif os.environ["KERAS_BACKEND"] == "torch":
        import torch

        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
    return peak / _MB
