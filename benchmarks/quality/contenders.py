"""Everything that answers with a learning rate, ready to be scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from benchmarks.quality.cells import RAMPS
from benchmarks.quality.cells import SHORT
from benchmarks.quality.cells import Cell
from benchmarks.quality.peers import PEERS

Answer = Callable[[Cell, int], "float | None"]


@dataclasses.dataclass(frozen=True)
class Contender:
    """A way to choose a learning rate.

    Args:
        name: As printed.
        answer: From a cell and the number of the test's seed to an LR, or
            None for a refusal.
        steps: From a cell and a seed to the training steps spent.
    """

    name: str
    answer: Answer
    steps: Callable[[Cell, int], int]


def nothing(cell: Cell, seed: int) -> int:
    """No step at all."""
    return 0


def peers(ramp: int) -> list[Contender]:
    """Every rule of another finder on one of the recorded ramps."""

    def contender(name, rule):
        return Contender(
            name,
            lambda cell, seed: rule(*cell.losses(seed, ramp)),
            lambda cell, seed: RAMPS[ramp][2],
        )

    return [contender(name, rule) for name, rule in PEERS.items()]


def fixed(cells: Sequence[Cell], budget: int = SHORT) -> Contender:
    """The best single LR of an optimizer over all other families."""

    def best(cell: Cell) -> float:
        others = [
            c
            for c in cells
            if c.optimizer == cell.optimizer and c.family != cell.family
        ]
        lrs = np.logspace(-6, 1, 57)
        regrets = [np.mean([c.regret(x, budget) for c in others]) for x in lrs]
        return float(lrs[np.argmin(regrets)])

    answers = {c.name: best(c) for c in cells}
    return Contender(
        "best fixed LR (left out)",
        lambda cell, seed: answers[cell.name],
        nothing,
    )


def baselines(cells: Sequence[Cell], budget: int = SHORT) -> list[Contender]:
    """What costs nothing, and the oracle itself."""

    def random(cell: Cell, seed: int) -> float:
        key = [*cell.name.encode(), seed]
        return float(10 ** np.random.default_rng(key).uniform(-7, 1))

    return [
        fixed(cells, budget),
        Contender("Keras's default LR", lambda c, s: c.default_lr, nothing),
        Contender("random, 1e-7 to 10", random, nothing),
        Contender("oracle", lambda c, s: c.best_lr(budget), nothing),
    ]
