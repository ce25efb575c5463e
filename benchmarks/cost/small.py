"""What an import adds to Keras's, and what a long curve takes."""

from __future__ import annotations

import compileall
import importlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cost import pairing

__all__ = ["measure_analysis", "measure_imports"]

POINTS = (100, 10_000, 100_000, 1_000_000)
_INTERPRETERS = 9


def measure_imports(quick: bool = False, gpu: bool = False) -> pairing.Rows:
    """Imports the package where Keras is imported already; milliseconds."""
    import keras_lrfinder

    count = 1 if quick else _INTERPRETERS
    # As an installer does.
    compileall.compile_dir(Path(keras_lrfinder.__file__).parent, quiet=1)
    times = [1e3 * pairing.fresh(__name__, "import_") for _ in range(count)]
    return [{"import, ms": pairing.spread(times)}]


def import_() -> float:
    """Returns the seconds of our import, after Keras's."""
    importlib.import_module("keras")

    def ours() -> None:
        from keras_lrfinder import LRFinder  # noqa: F401
        from keras_lrfinder import lr_find  # noqa: F401

    return pairing.timed(ours)


def measure_analysis(quick: bool = False, gpu: bool = False) -> pairing.Rows:
    """Measures curves of all lengths; milliseconds."""
    return [_analysis(points) for points in (POINTS[:2] if quick else POINTS)]


def _analysis(points: int) -> dict[str, Any]:
    """Of losses that fall, turn and blow up, with noise on them."""
    from keras_lrfinder import RangeTest
    from keras_lrfinder import suggest

    test = RangeTest(1e-7, 10.0, points, stop_factor=None)
    at = np.linspace(-7.0, 1.0, points)
    losses = 2.3 - 1.8 / (1.0 + np.exp(-3.0 * (at + 3.5)))
    losses += 0.05 * np.exp(3.0 * at)
    losses *= np.exp(0.1 * np.random.default_rng(3).standard_normal(points))
    for loss in losses.tolist():
        test.record(loss)
    curve = test.curve
    times = [1e3 * pairing.timed(lambda: suggest(curve)) for _ in range(5)]
    return {"points": points, "suggest, ms": pairing.spread(times)}
