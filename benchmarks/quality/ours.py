"""This package's rules and probes as contenders."""

from __future__ import annotations

import json
from collections.abc import Callable
from collections.abc import Mapping

from benchmarks.outcome import readings
from benchmarks.quality.cells import RAMPS
from benchmarks.quality.cells import Cell
from benchmarks.quality.contenders import Contender
from benchmarks.quality.simulate import climbed
from benchmarks.quality.simulate import curve
from keras_lrfinder.analysis.default_rule import DEFAULT_RULE
from keras_lrfinder.analysis.default_rule import ByOptimizer
from keras_lrfinder.analysis.default_rule import Constants
from keras_lrfinder.analysis.default_rule import default_lr
from keras_lrfinder.analysis.landmarks import landmarks
from keras_lrfinder.analysis.probe_levels import PROBE_STEPS
from keras_lrfinder.analysis.probes import READINGS
from keras_lrfinder.analysis.probes import Reading
from keras_lrfinder.analysis.suggestions import RULES
from keras_lrfinder.analysis.suggestions import Suggestion
from keras_lrfinder.analysis.suggestions import suggest

Both = tuple[ByOptimizer[Constants], Mapping[str, Reading]]
Fitted = Callable[[Cell], Both]


def shipped(cell: Cell) -> Both:
    """The package's constants, fitted on this cell too."""
    return DEFAULT_RULE, READINGS


def left_out(text: str) -> Fitted:
    """From the text of `constants.json`: those that never saw the family."""
    stored = json.loads(text)

    def constants(cell: Cell) -> Both:
        rule = stored.get(cell.family, stored[""])
        return (
            ByOptimizer(**{k: Constants(**v) for k, v in rule.items()}),
            readings.left_out(cell.family),
        )

    return constants


def suggested(cell: Cell, seed: int, ramp: int, fitted: Fitted) -> Suggestion:
    """What `suggest` says, with the rule's constants exchanged."""
    constants = fitted(cell)[0]
    return suggest(
        curve(cell, seed, ramp),
        lambda c: default_lr(c, landmarks(c), constants),
    )


def probed(
    cell: Cell, seed: int, ramp: int, fitted: Fitted, held: str
) -> tuple[Suggestion, int]:
    """What ramp and probes say together, and the steps they took."""
    first = suggested(cell, seed, ramp, fitted)
    climb = climbed(cell, seed, ramp, first, held, fitted(cell)[1])
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
