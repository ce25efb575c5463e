"""How much memory the finder takes, beside a model of some 500 MB of state.

Each run has a process of its own, whose highest resident set is the figure:
nothing that looks on takes memory in it.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from typing import Any

from benchmarks.cost.pairing import spread

__all__ = ["measure_memory"]

# 42 million weights, in float32, with both moments of Adam: 503 MB.
WIDTH, DEPTH = 2048, 10
BATCH, STEPS = 8, 6
RUNS = ("fit", "lr_find", "lr_find with probes")
_ROUNDS = 6  # on PyTorch the peak of one fit varies by a third of a state
_MB = 1e6


def measure_memory(quick: bool = False) -> dict[str, Any]:
    """Runs each kind of run in a process of its own; megabytes.

    Args:
        quick: Whether to measure a model of an eighth of the size.
    """
    depth, rounds = (DEPTH // 8, 1) if quick else (DEPTH, _ROUNDS)
    runs = [
        {run: _in_process(run, depth) for run in RUNS} for _ in range(rounds)
    ]
    return {run: _compare(runs, run) for run in RUNS}


def _compare(rounds: list[dict[str, Any]], run: str) -> dict[str, Any]:
    found: dict[str, Any] = {"state": rounds[0][run]["state"]}
    for key in ("peak", "after"):
        found[key] = spread([each[run][key] for each in rounds])
        found[f"{key} over fit, states"] = spread(
            [
                (each[run][key] - each["fit"][key]) / found["state"]
                for each in rounds
            ]
        )
    return found


def _in_process(run: str, depth: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", __name__, run, str(depth)],
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _run(run: str, depth: int) -> dict[str, float]:
    import keras
    import numpy as np

    from benchmarks.cost.keras_models import heavy
    from keras_lrfinder import lr_find

    model = heavy(WIDTH, depth)
    x = np.random.default_rng(1).random((BATCH * STEPS, WIDTH), np.float32)
    given = {
        "x": x,
        "y": np.arange(BATCH * STEPS, dtype="int32"),
        "batch_size": BATCH,
        "verbose": 0,
    }
    if run == "fit":
        model.fit(**given)
    else:
        probe = "probes" in run
        lr_find(model, **given, steps=STEPS, end_lr=1e-4, probe=probe)
        # So that the peak of plain training is in it in any case.
        model.fit(**given)
    del given
    gc.collect()
    after, peak = _resident("VmRSS"), _resident("VmHWM")
    variables = {
        id(v): v for v in (*model.variables, *model.optimizer.variables)
    }
    state = sum(
        keras.ops.convert_to_numpy(v).nbytes for v in variables.values()
    )
    return {"state": state / _MB, "peak": peak / _MB, "after": after / _MB}


def _resident(name: str) -> int:
    # Not `getrusage`: its peak is that of the parent process, if higher.
    with open("/proc/self/status") as file:
        rows = dict(line.split(":", 1) for line in file)
    return int(rows[name].split()[0]) * 1024


if __name__ == "__main__":
    print(json.dumps(_run(sys.argv[1], int(sys.argv[2]))))
