"""This package's rules and probes as contenders."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.outcome import readings
from benchmarks.outcome.readings import Known
from benchmarks.quality.cells import RAMPS
from benchmarks.quality.cells import Cell
from benchmarks.quality.contenders import Contender
from benchmarks.quality.simulate import climbed
from benchmarks.quality.simulate import curve
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.analysis.suggestions import RULES
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import suggest

Fitted = Callable[[Cell], Known]


def shipped(cell: Cell) -> Known:
    """The package's constants, fitted on this cell too."""
    return readings.SHIPPED


def left_out(cell: Cell) -> Known:
    """Constants that never saw the cell's family."""
    return readings.left_out(cell.family)


def suggested(cell: Cell, seed: int, ramp: int, fitted: Fitted) -> Suggestion:
    """What `suggest` says, with the rule's constants exchanged."""
    return fitted(cell).suggested(curve(cell, seed, ramp))


def probed(
    cell: Cell, seed: int, ramp: int, fitted: Fitted, held: str
) -> tuple[Suggestion, int]:
    """What ramp and probes say together, and the steps they took."""
    climb = climbed(cell, seed, ramp, held, fitted(cell))
    steps = sum(len(probe.losses) for probe in climb.probes)
    return climb.suggestion(), len(curve(cell, seed, ramp)) + steps


def by_ramp(name: str, ramp: int, fitted: Fitted) -> Contender:
    """The default rule on one of the recorded ramps."""
    return Contender(
        name,
        lambda cell, seed: suggested(cell, seed, ramp, fitted).lr,
        lambda cell, seed: RAMPS[ramp][2],
    )


def by_probes(
    name: str, ramp: int, fitted: Fitted, held: str = "fresh"
) -> Contender:
    """The default rule and the probes after it."""
    return Contender(
        name,
        lambda cell, seed: probed(cell, seed, ramp, fitted, held)[0].lr,
        lambda cell, seed: RAMPS[ramp][2] + 3 * PROBE_STEPS,
    )


def other_rules(ramp: int) -> list[Contender]:
    """The package's other rules."""

    def contender(rule: str) -> Contender:
        return Contender(
            f"keras_lrfinder, {rule}",
            lambda cell, seed: suggest(curve(cell, seed, ramp), rule).lr,
            lambda cell, seed: RAMPS[ramp][2],
        )

    return [contender(rule) for rule in RULES if rule != "default"]
