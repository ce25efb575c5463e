"""Takes the measurements of one environment, in its own interpreter.

python -m benchmarks.cost.measure tensorflow results/tensorflow.json
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.cost.machine import describe_machine
from benchmarks.cost.machine import load
from benchmarks.cost.machine import versions

__all__ = ["ENVIRONMENTS", "PARTS"]

# Module and function of each part. Imported when measured: most need a
# backend, or the peers.
PARTS = {
    "steps": ("steps", "measure_steps"),
    "hooks": ("hooks", "measure_hooks"),
    "calls": ("call", "measure_calls"),
    "memory": ("memory", "measure_memory"),
    "imports": ("imports", "measure_imports"),
    "analysis": ("analysis", "measure_analysis"),
    "peers": ("peers", "measure_peers"),
    "packages": ("keras_packages", "measure_packages"),
}
_ON_KERAS = ("steps", "hooks", "calls", "memory", "imports")
ENVIRONMENTS = {
    # The analysis is plain NumPy: once is enough.
    "tensorflow": (*_ON_KERAS, "analysis"),
    "jax": _ON_KERAS,
    "torch": _ON_KERAS,
    "peers": ("peers",),
    "packages": ("packages",),
}
# Of two cores the threads of a small step take now one and now both, which
# changes its time by more than a finder does. JAX keeps both: there a fit
# without a finder runs ahead of the device, which is what a finder may cost.
_ON_ONE_CORE = {
    ("steps", "tensorflow"),
    ("steps", "torch"),
    ("hooks", "tensorflow"),
    ("hooks", "torch"),
    ("peers", "peers"),
}
_NAMED = (
    "keras_lrfinder",
    "keras",
    "tensorflow",
    "tensorflow-cpu",
    "jax",
    "torch",
    "numpy",
    "scipy",
    "matplotlib",
    "torch-lr-finder",
    "lightning",
    "fastai",
    "fastcore",
    "fastprogress",
    "keras-lr-finder",
    "keras-one-cycle-lr",
    "tavolo",
)


def main() -> None:
    """Measures what the command line says and adds it to the file."""
    parser = argparse.ArgumentParser()
    parser.add_argument("environment", choices=ENVIRONMENTS)
    parser.add_argument("file", type=Path)
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--quick", action="store_true")
    chosen = parser.parse_args()
    parts = chosen.part or ENVIRONMENTS[chosen.environment]
    found: dict[str, Any] = {"parts": {}}
    if chosen.file.exists():
        found = json.loads(chosen.file.read_text())
    found["machine"] = describe_machine()
    found["versions"] = versions(_NAMED)
    for part in parts:
        if part in ENVIRONMENTS[chosen.environment]:
            with _cores((part, chosen.environment) in _ON_ONE_CORE):
                found["parts"][part] = _measure(part, chosen.quick)
            text = json.dumps(found, indent=1, default=float)
            chosen.file.write_text(text + "\n")


@contextlib.contextmanager
def _cores(one: bool) -> Iterator[None]:
    """Keeps this process, with all its threads to come, on one core."""
    if not one or not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _measure(part: str, quick: bool) -> dict[str, Any]:
    module, function = PARTS[part]
    measure = getattr(
        importlib.import_module(f"benchmarks.cost.{module}"), function
    )
    start, before = time.perf_counter(), load()
    figures = measure(quick)
    seconds = time.perf_counter() - start
    print(f"{part}: {seconds:.0f} s", flush=True)
    return {
        "figures": figures,
        "quick": quick,
        "seconds": round(seconds),
        "load": [round(before, 1), round(load(), 1)],
    }


if __name__ == "__main__":
    main()
