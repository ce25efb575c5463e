"""Drive the package's own search with recorded runs, as if it trained."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quality.cells import RUNS
from benchmarks.quality.cells import Cell
from benchmarks.quality.cells import Target
from benchmarks.quality.cells import Vector
from keras_lrfinder.analysis.posterior import CONSTANTS
from keras_lrfinder.analysis.posterior import Constants
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.search import Plan
from keras_lrfinder.analysis.search import search
from keras_lrfinder.analysis.suggestions import Suggestion

LEFT_OUT = Path(__file__).with_name("left_out.json")
# So many batches of 32 are held out.
HELD = 256


def trainer(cell: Cell, seed: int) -> Callable[[Run], Vector]:
    """What makes a run: it takes the recorded one that is nearest."""
    before = float(cell.arrays["before"][seed])

    def train(run: Run) -> Vector:
        if not run.steps:
            return np.full(len(run.lrs), before)
        place = int(np.argmin(np.abs(cell.x - np.log10(run.lr))))
        # The search is told which one it was.
        object.__setattr__(run, "lr", float(10.0 ** cell.x[place]))
        which = RUNS.index((run.schedule, run.steps))
        held, tail = (
            float(cell.arrays[name][seed, which, place])
            for name in ("held", "tail")
        )
        losses = np.full(run.steps, tail)
        if not np.isfinite(tail):
            return losses
        # What it trained on was not judged by itself when it was recorded:
        # the training loss stands for it.
        ends = [held] * run.held_out + [tail] * run.again
        return np.append(losses, ends)

    return train


def plan(cell: Cell, target: Target, trainings: int = 0, **more: Any) -> Plan:
    """What the package would plan."""
    epoch = int(cell.arrays["facts"][1])
    longest = max(60, target[1] if trainings else 0)
    held_out = max(HELD // (cell.batch or 32), 1)
    return Plan(
        *target,
        trainings=trainings,
        held_out=held_out,
        again=held_out if epoch < longest else 0,
        **more,
    )


@functools.cache
def left_out(family: str) -> Constants:
    """The constants that were fitted without a family; `""`: the package's."""
    stored: dict[str, Constants] = {}
    if LEFT_OUT.exists():
        stored = json.loads(LEFT_OUT.read_text("utf-8"))
    return stored.get(family, CONSTANTS)


def searched(
    cell: Cell,
    seed: int,
    target: Target,
    *,
    probes: int = 3,
    trainings: int = 0,
    constants: Constants = CONSTANTS,
) -> tuple[tuple[Run, ...], Suggestion]:
    """What the package's search makes and says; without probes: a ramp."""
    asked = plan(cell, target, trainings, probes=probes)
    return search(
        cell.curve(seed), trainer(cell, seed), asked, constants=constants
    )


def walk(
    cells: Iterable[Cell], targets: Sequence[Target], **given: Any
) -> Iterator[tuple[tuple[Run, ...], Suggestion]]:
    """All that is made and said of the tests of some cells."""
    for cell in cells:
        for target in (t for t in targets if t in cell.targets):
            for seed in range(cell.seeds):
                yield searched(cell, seed, target, **given)
