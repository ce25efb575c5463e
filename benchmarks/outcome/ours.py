"""What the package would answer on a recorded cell."""

from __future__ import annotations

import dataclasses

from benchmarks.outcome import simulate
from benchmarks.outcome.recording import RAMPS
from benchmarks.outcome.recording import Cell
from benchmarks.outcome.recording import Target
from benchmarks.outcome.search import Constants
from benchmarks.outcome.search import Ladder
from benchmarks.outcome.search import answer

# Ramp and trials agree within so many decades.
_AGREE = 0.6


@dataclasses.dataclass(frozen=True)
class Answer:
    """A search's answer.

    Attributes:
        decades: log10 of the learning rate.
        sure: Whether confidence is high.
        steps: Training steps spent.
    """

    decades: float
    sure: bool
    steps: int


def answered(
    cell: Cell, seed: int, plan: Ladder, target: Target, constants: Constants
) -> Answer:
    """Ramp, search and reading for the training that follows."""
    kind = simulate.kind(cell)
    seen = simulate.seen(cell, seed, RAMPS.index(plan.ramp))
    slope, middle, offset = constants.ramp[kind]
    centre = slope * ((seen.edge + seen.bottom) / 2.0 - middle) + offset
    found = simulate.run(cell, seed, plan, centre)
    decades = answer(
        kind,
        plan.name,
        centre,
        found.reading,
        target.schedule,
        target.steps,
        constants,
    )
    agree = abs(found.reading - centre) <= _AGREE
    sure = seen.fell and seen.rose and agree
    return Answer(decades, bool(sure), found.steps)
