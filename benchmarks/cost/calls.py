"""What `lr_find` takes over as many steps of `fit`, on a trained model."""

from __future__ import annotations

import functools
from typing import Any

from benchmarks.cost import models
from benchmarks.cost import pairing
from keras_lrfinder import lr_find

__all__ = ["measure_calls"]

STEPS = 100
FIT = "fit of 100 steps"
_ROUNDS = 40
_SECONDS = 120.0
_KINDS: dict[str, dict[str, Any]] = {
    # A low end, so that the ramp goes all the way.
    "ramp": {"probe": False, "end_lr": 1e-3},
    "ramp and probes": {},
    # Long beside the ramp and the probes that come first.
    "two trainings of 500 steps": {"epochs": 5, "trainings": 2},
}


def measure_calls(quick: bool = False, gpu: bool = False) -> pairing.Rows:
    """Measures all models; milliseconds for each 100 steps."""
    rows = []
    some = list(models.shapes(gpu).items())
    for name, shape in some if gpu else some[:2]:
        for row in _calls(shape, 1 if quick else _ROUNDS):
            rows.append({"model": name, **row})
    return rows


def _calls(shape: models.Shape, rounds: int) -> pairing.Rows:
    model = models.compiled(shape)
    x, y = models.data(shape, STEPS)
    given = {"x": x, "y": y, "batch_size": shape.batch, "verbose": 0}
    steps = dict.fromkeys(_KINDS, 0)

    def call(kind: str) -> float:
        """Returns the time of 100 of its steps, the judging ones too."""

        def test() -> None:
            found = lr_find(model, **given, steps=STEPS, **_KINDS[kind])
            steps[kind] = pairing.steps_taken(found)

        seconds = pairing.timed(test)
        return seconds / steps[kind] * STEPS

    runs = {kind: functools.partial(call, kind) for kind in _KINDS}
    runs[FIT] = lambda: pairing.timed(lambda: model.fit(**given))
    found = pairing.interleave(runs, rounds, seconds=_SECONDS)
    return [
        {
            "call": kind,
            "steps": steps[kind],
            **pairing.compare(found, kind, FIT, "ms"),
        }
        for kind in _KINDS
    ]
