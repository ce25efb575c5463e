"""Run the package's probes and trials on the recordings, as if it trained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.outcome.readings import SHIPPED
from benchmarks.outcome.readings import Known
from benchmarks.outcome.recording import SHORT
from benchmarks.outcome.recording import Cell
from benchmarks.outcome.recording import Target
from benchmarks.outcome.recording import Vector
from benchmarks.quality.simulate import driven
from benchmarks.quality.simulate import judged
from benchmarks.quality.simulate import until_lost
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probes import Climb
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.schedule_factors import FACTORS
from keras_lrfinder.analysis.schedule_factors import Factors
from keras_lrfinder.analysis.search import CONSTANTS
from keras_lrfinder.analysis.search import Constants
from keras_lrfinder.analysis.search import Search
from keras_lrfinder.analysis.whole_trainings import WholeTrainings


def recorded(cell: Cell, seed: int) -> Callable[[int, Run], Probe]:
    """The runs of a seed, by the place of their learning rate."""
    held_out, before = cell.held_out

    def at(place: int, run: Run) -> Probe:
        if run.schedule == "constant" and run.steps in SHORT:
            losses = cell.arrays["losses"][seed, place]
            held = held_out[seed, place, SHORT.index(run.steps)]
        else:
            held, tail = cell.tried(Target(run.schedule, run.steps), seed)[
                place
            ]
            losses = np.array([tail])
        losses = until_lost(losses, run.steps)
        given = float(held), float(before[seed]), "reserved"
        one = Probe(10.0 ** cell.x[place], losses, *given)
        return judged(one, cell.steps_per_epoch, run.steps)

    return at


def climbed(cell: Cell, seed: int, known: Known = SHIPPED) -> Climb:
    """The package's climb, with its probes."""
    curve = cell.curve(seed)
    climb = Climb(curve, known.suggested(curve), constants=known.readings)
    return driven(climb, cell.x, recorded(cell, seed))


def searched(
    cell: Cell,
    seed: int,
    known: Known,
    constants: Constants = CONSTANTS,
) -> Search:
    """The package's search, with its probes and trials."""
    curve = cell.curve(seed)
    first = known.suggested(curve)
    search = Search(curve, first, known.readings, constants)
    return driven(search, cell.x, recorded(cell, seed))


def rehearsed(
    cell: Cell,
    seed: int,
    target: Target,
    most: int,
    known: Known,
    factors: Factors = FACTORS,
) -> WholeTrainings:
    """The package's probes, and then whole trainings of a target."""
    curve = cell.curve(seed)
    whole = WholeTrainings(
        curve,
        known.suggested(curve),
        target.schedule,
        target.steps,
        most,
        known.readings,
        factors,
    )
    return driven(whole, cell.x, recorded(cell, seed))


def ends(cell: Cell, seed: int, target: Target) -> Vector:
    """Held-out loss that a whole training ends with, by grid LR.

    At most that before, as which what is lost counts.
    """
    at, (_, before) = recorded(cell, seed), cell.held_out
    runs = [Run(10.0**x, target.steps, target.schedule) for x in cell.x]
    found = [at(i, run).held_out for i, run in enumerate(runs)]
    return np.fmin(np.array(found, float), before[seed])
