"""Run the package's search on the recordings, as if it trained."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from benchmarks.outcome.optimizers import OPTIMIZERS
from benchmarks.outcome.recording import RAMPS
from benchmarks.outcome.recording import SHORT
from benchmarks.outcome.recording import Cell
from keras_lrfinder.analysis.landmarks import Landmarks
from keras_lrfinder.analysis.landmarks import landmarks
from keras_lrfinder.analysis.schedule_factors import kind_of
from keras_lrfinder.analysis.search import LADDERS
from keras_lrfinder.analysis.search import Ladder
from keras_lrfinder.analysis.search import Trial
from keras_lrfinder.analysis.search import at_end
from keras_lrfinder.analysis.search import next_trials
from keras_lrfinder.analysis.search import reading

# Beside what the package offers: the ramp alone, and a search as short as the
# package's probes.
TRIED = (
    Ladder("ramp", 0.0, ()),
    Ladder("300", 0.5, ((4, 40), (2, 80))),
    *LADDERS,
)
PLANS = {plan.name: plan for plan in TRIED}


def ramp_of(plan: Ladder) -> int:
    """How many steps its ramp has."""
    return 60 if plan.name == "300" else 100


@dataclasses.dataclass(frozen=True)
class Found:
    """What a search read off a cell with one seed.

    Attributes:
        reading: log10(LR) that the trials like best.
        steps: Steps that ramp and trials took.
        end: Whether the first rung's best lay at its end.
        trials: All of them.
    """

    reading: float
    steps: int
    end: bool
    trials: tuple[Trial, ...]


def kind(cell: Cell) -> str:
    """The kind of the cell's optimizer."""
    name, settings = OPTIMIZERS[cell.optimizer].keras
    return kind_of(name, settings.get("momentum", 0.0))[0]


@functools.cache
def seen(cell: Cell, seed: int, which: int) -> Landmarks:
    """The landmarks of a recorded ramp."""
    return landmarks(cell.curve(seed, which))


def trial(cell: Cell, seed: int, lr: float, until: int) -> Trial:
    """The recorded run at the grid LR nearest to `lr`, by step `until`."""
    place = int(np.argmin(np.abs(cell.x - np.log10(lr))))
    kept = min(until, cell.arrays["losses"].shape[-1])
    first = kept - max(kept // 4, 10)
    losses = cell.arrays["losses"][seed, place, first:kept]
    held = cell.held_out[0][seed, place, SHORT.index(until)]
    return Trial(
        float(10.0 ** cell.x[place]), until, losses.mean(), float(held)
    )


def run(cell: Cell, seed: int, plan: Ladder, centre: float) -> Found:
    """The search round `centre`; a trial that is there is not run twice."""
    before = float(cell.held_out[1][seed])
    trials: list[Trial] = []
    steps, reached = len(cell.curve(seed, RAMPS.index(ramp_of(plan)))), {}
    while todo := next_trials(plan, centre, trials, before):
        new = {t.lr: t for t in (trial(cell, seed, *each) for each in todo)}
        for lr, each in new.items():
            # Only the short one goes on from where a trial stopped.
            on = reached.get(lr, 0) if plan.name == "300" else 0
            steps += each.until - on
            reached[lr] = each.until
        trials += new.values()
    found = reading(plan, centre, trials, before)
    return Found(found, steps, at_end(plan, trials, before), tuple(trials))
