"""What the Keras packages on the package index say on Keras 3.

Each is used as its own documents say, in a process of its own, on a model
that any of them should manage. To be run in an environment with TensorFlow
and with the packages of `keras-packages-requirements.txt`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from typing import Any

__all__ = ["PACKAGES", "measure_packages"]

_MODEL = """
import keras, numpy as np
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
model.compile(keras.optimizers.SGD(0.01), "mse")
x, y = np.zeros((64, 4), "float32"), np.zeros((64, 3), "float32")
"""

PACKAGES = {
    "keras-lr-finder": """
from keras_lr_finder import LRFinder
LRFinder(model).find(x, y, 1e-4, 1.0, 8, 1)
""",
    "keras-one-cycle-lr": """
from one_cycle_lr.lr_finder import LRFinder
batches = [(x[i:i + 8], y[i:i + 8]) for i in range(0, 64, 8)]
LRFinder(model).find(batches, 1e-4, 1.0, num_iter=8)
""",
    "tavolo": """
import tavolo
tavolo.learning.LearningRateFinder(model).scan(
    x, y, min_lr=1e-4, max_lr=1.0, batch_size=8, steps=8
)
""",
}


def measure_packages(quick: bool = False) -> dict[str, Any]:
    """Runs each of them and returns the last line that it printed.

    Args:
        quick: Changes nothing.
    """
    return {name: _outcome(program) for name, program in PACKAGES.items()}


def _outcome(program: str) -> str:
    with tempfile.TemporaryDirectory() as directory:  # some write files
        done = subprocess.run(
            [sys.executable, "-c", _MODEL + program],
            check=False,
            capture_output=True,
            text=True,
            cwd=directory,
        )
    if done.returncode == 0:
        return "runs"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line.partition(":")[0]]
    return (errors or lines or ["died"])[-1].strip()
