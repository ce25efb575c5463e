"""Run the package's own rule and probes on the stored measurements."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from benchmarks.quality.cells import Cell
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.probes import PROBE_STEPS
from keras_lrfinder.analysis.probes import Probe
from keras_lrfinder.analysis.probes import next_lr
from keras_lrfinder.analysis.suggestions import Suggestion

PART = 10


@functools.cache
def curve(cell: Cell, seed: int, ramp: int) -> Curve:
    """The curve of a stored ramp (they are read many times)."""
    return cell.curve(seed, ramp)


def nearest(cell: Cell, lr: float) -> int:
    """The position of the probe that was recorded closest to `lr`."""
    return int(np.argmin(np.abs(np.log(cell.grid) - np.log(lr))))


def probe(cell: Cell, seed: int, position: int, held: str) -> Probe:
    """A stored probe as the finder would hand it over.

    `held`: `"fresh"` for reserved training samples, `"held"` for validation
    data, `"none"` for neither.
    """
    losses = cell.probe_losses[seed, position, :PROBE_STEPS]
    bad = np.flatnonzero(~np.isfinite(losses))
    losses = losses[: bad[0] + 1] if len(bad) else losses
    lr, part = float(cell.grid[position]), PROBE_STEPS // PART - 1
    if held == "none":
        return Probe(lr, losses)
    if held == "held":
        after, before = cell.probe_held, cell.probe_initial[seed]
        source = "validation data"
    else:
        # After ten steps at the lowest LR nothing has happened yet.
        after, before = cell.probe_fresh, cell.probe_fresh[seed, 0, 0]
        source = "reserved samples"
    found = Probe(
        lr, losses, float(after[seed, position, part]), float(before), source
    )
    if cell.steps_per_epoch >= PROBE_STEPS:
        # Nothing is met twice, so nothing is memorised.
        return found
    # What was trained on was not judged by itself when this was recorded.
    return dataclasses.replace(
        found, trained=found.tail, trained_before=float(before)
    )


def probes(
    cell: Cell, seed: int, ramp: int, suggestion: Suggestion, held: str
) -> list[Probe]:
    """The probes that the package asks for, from the nearest stored ones."""
    found: list[Probe] = []
    while True:
        lr = next_lr(curve(cell, seed, ramp), suggestion, found)
        if lr is None:
            return found
        position = nearest(cell, lr)
        if any(p.lr == float(cell.grid[position]) for p in found):
            return found
        found.append(probe(cell, seed, position, held))
