"""Run the package's own rule and probes on the stored measurements."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from benchmarks.outcome.readings import SHIPPED
from benchmarks.outcome.readings import Known
from benchmarks.quality.cells import Cell
from benchmarks.quality.cells import Vector
from keras_lrfinder.analysis.curve import Curve
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probes import Climb
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.search import Search
from keras_lrfinder.analysis.whole_trainings import WholeTrainings

PART = 10
Asking = TypeVar("Asking", Climb, Search, WholeTrainings)


@functools.cache
def curve(cell: Cell, seed: int, ramp: int) -> Curve:
    """The curve of a stored ramp (they are read many times)."""
    return cell.curve(seed, ramp)


def until_lost(losses: Vector, steps: int = PROBE_STEPS) -> Vector:
    """The losses of a run: no more than it has, none after a NaN."""
    losses = losses[:steps]
    bad = np.flatnonzero(~np.isfinite(losses))
    return losses[: bad[0] + 1] if len(bad) else losses


def judged(
    probe: Probe, steps_per_epoch: float, steps: int = PROBE_STEPS
) -> Probe:
    """The probe, with what it trained on, if it met any of it twice.

    That was not judged by itself when it was recorded: the training loss
    stands for it.
    """
    if steps_per_epoch >= steps:
        return probe
    return dataclasses.replace(
        probe, trained=probe.tail, trained_before=probe.held_out_before
    )


def driven(
    search: Asking, x: Vector, at: Callable[[int, Run], Probe]
) -> Asking:
    """Has a search run what it asks for, from the nearest recorded runs.

    Args:
        search: The package's own, as `Climb` or `Search`.
        x: log10 of the learning rates that were recorded.
        at: From the place of one of these, and what is asked for, to what
            that run gave.
    """
    while runs := search.next_runs():
        for run in runs:
            place = int(np.argmin(np.abs(x - np.log10(run.lr))))
            search.add(at(place, run))
    return search


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


def climbed(
    cell: Cell, seed: int, ramp: int, held: str, known: Known = SHIPPED
) -> Climb:
    """The package's climb from a stored ramp, with its probes."""

    def at(position: int, run: Run) -> Probe:
        return probe(cell, seed, position, held)

    measured = curve(cell, seed, ramp)
    first = known.suggested(measured)
    climb = Climb(measured, first, constants=known.readings)
    return driven(climb, np.log10(cell.grid), at)
