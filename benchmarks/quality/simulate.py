"""Run the package's own rule and probes on the stored measurements."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence

import numpy as np

from benchmarks.quality.cells import Cell
from benchmarks.quality.cells import Vector
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probes import Climb
from keras_lrfinder.analysis.probes import Reading
from keras_lrfinder.analysis.suggestions import Suggestion

PART = 10


@functools.cache
def curve(cell: Cell, seed: int, ramp: int) -> Curve:
    """The curve of a stored ramp (they are read many times)."""
    return cell.curve(seed, ramp)


def until_lost(losses: Vector) -> Vector:
    """The losses of a probe: no more than it has, none after a NaN."""
    losses = losses[:PROBE_STEPS]
    bad = np.flatnonzero(~np.isfinite(losses))
    return losses[: bad[0] + 1] if len(bad) else losses


def judged(probe: Probe, steps_per_epoch: float) -> Probe:
    """The probe with what it trained on, if it met any of it twice.

    That was not judged by itself when it was recorded: the training loss
    stands for it.
    """
    if steps_per_epoch >= PROBE_STEPS:
        return probe
    return dataclasses.replace(
        probe, trained=probe.tail, trained_before=probe.held_out_before
    )


def climb(
    curve: Curve,
    suggestion: Suggestion,
    x: Vector,
    at: Callable[[int], Probe],
) -> list[Probe]:
    """The probes that the package asks for, from the nearest recorded ones.

    `x` has log10 of the learning rates that were recorded, `at` the probes.
    """
    asked, found = Climb(curve, suggestion), set()
    while runs := asked.next_runs():
        [(lr, _)] = runs
        place = int(np.argmin(np.abs(x - np.log10(lr))))
        if place in found:
            break
        found.add(place)
        asked.add(at(place))
    return asked.probes


def decided(
    curve: Curve,
    suggestion: Suggestion,
    probes: Sequence[Probe],
    constants: Mapping[str, Reading],
) -> Suggestion:
    """What the package says of a ramp and these probes."""
    asked = Climb(curve, suggestion, constants=constants)
    for one in probes:
        asked.add(one)
    return asked.suggestion()


def probe(cell: Cell, seed: int, position: int, held: str) -> Probe:
    """A stored probe as the finder would hand it over.

    `held`: `"fresh"` for reserved training samples, `"held"` for validation
    data, `"none"` for neither.
    """
    losses = until_lost(cell.probe_losses[seed, position])
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
    return judged(found, cell.steps_per_epoch)


def probes(
    cell: Cell, seed: int, ramp: int, suggestion: Suggestion, held: str
) -> list[Probe]:
    """The probes that the package asks for, from the nearest stored ones."""
    measured = curve(cell, seed, ramp)

    def at(position: int) -> Probe:
        return probe(cell, seed, position, held)

    return climb(measured, suggestion, np.log10(cell.grid), at)
