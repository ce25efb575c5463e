"""Run the package's probes and trials on the recordings, as if it trained."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.outcome.readings import SHIPPED
from benchmarks.outcome.readings import Known
from benchmarks.outcome.recording import SHORT
from benchmarks.outcome.recording import Cell
from benchmarks.quality.simulate import driven
from benchmarks.quality.simulate import judged
from benchmarks.quality.simulate import until_lost
from keras_lrfinder.analysis.probe_levels import Probe
from keras_lrfinder.analysis.probes import Climb
from keras_lrfinder.analysis.search import CONSTANTS
from keras_lrfinder.analysis.search import Constants
from keras_lrfinder.analysis.search import Search


def recorded(cell: Cell, seed: int) -> Callable[[int, int], Probe]:
    """The runs of a seed, by the place of their learning rate and length."""
    held_out, before = cell.held_out

    def at(place: int, steps: int) -> Probe:
        losses = until_lost(cell.arrays["losses"][seed, place], steps)
        held = float(held_out[seed, place, SHORT.index(steps)])
        start = float(before[seed])
        one = Probe(10.0 ** cell.x[place], losses, held, start, "reserved")
        return judged(one, cell.steps_per_epoch, steps)

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
