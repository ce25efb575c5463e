"""What `import keras_lrfinder` takes where Keras is imported already."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import Any

from benchmarks.cost.pairing import spread

__all__ = ["measure_imports"]

_PROGRAM = """
import time
import keras
start = time.perf_counter(), time.thread_time()
from keras_lrfinder import LRFinder, lr_find
print(time.perf_counter() - start[0], time.thread_time() - start[1])
"""
_INTERPRETERS = 9


def measure_imports(quick: bool = False) -> dict[str, Any]:
    """Imports it in fresh interpreters; milliseconds.

    Args:
        quick: Whether to start one only.
    """
    rows = []
    with tempfile.TemporaryDirectory() as compiled:
        _import(compiled)  # as an installer does
        for _ in range(1 if quick else _INTERPRETERS):
            rows.append(_import(compiled))
    wall, cpu = zip(*rows)
    return {"wall": spread(wall), "cpu": spread(cpu)}


def _import(compiled: str) -> tuple[float, float]:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": compiled}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    wall, cpu = done.stdout.split()[-2:]
    return float(wall) * 1e3, float(cpu) * 1e3
