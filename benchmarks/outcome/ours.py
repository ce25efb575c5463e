"""What the package would answer on a recorded cell."""

from __future__ import annotations

import dataclasses

from benchmarks.outcome import simulate
from benchmarks.outcome.recording import RAMPS
from benchmarks.outcome.recording import Cell
from benchmarks.outcome.recording import Target
from keras_lrfinder.analysis.default_rule import few_batches
from keras_lrfinder.analysis.schedule_factors import Factors
from keras_lrfinder.analysis.schedule_factors import shift
from keras_lrfinder.analysis.search import Constants
from keras_lrfinder.analysis.search import Ladder
from keras_lrfinder.analysis.search import answer
from keras_lrfinder.analysis.search import centre_of

# Ramp and trials agree within so many decades.
_AGREE = 0.6


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The search's constants, and those of schedules and lengths."""

    search: Constants
    factors: Factors


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
    cell: Cell, seed: int, plan: Ladder, target: Target, fitted: Fitted
) -> Answer:
    """Ramp, search and reading for the training that follows."""
    kind = simulate.kind(cell)
    ramp = RAMPS.index(simulate.ramp_of(plan))
    seen = simulate.seen(cell, seed, ramp)
    centre = centre_of(cell.curve(seed, ramp), seen, kind, fitted.search)
    found = simulate.run(cell, seed, plan, centre)
    decades = answer(kind, plan.name, centre, found.reading, fitted.search)
    given = few_batches(cell.curve(seed, ramp)), fitted.factors
    decades += shift(kind, target.schedule, target.steps, *given)
    agree = abs(found.reading - centre) <= _AGREE and not found.end
    sure = seen.fell and seen.rose and agree
    return Answer(decades, bool(sure), found.steps)
