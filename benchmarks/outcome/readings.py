"""How probes are read, as `probing.py` fitted it. Needs no JAX."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from keras_lrfinder.analysis.probes import Reading

CONSTANTS = Path(__file__).with_name("probing.json")

Readings = dict[str, Reading]


@functools.cache
def read() -> dict[str, Readings]:
    """What `main` wrote."""
    stored = json.loads(CONSTANTS.read_text())
    return {
        family: {kind: Reading(*values) for kind, values in found.items()}
        for family, found in stored.items()
    }


def left_out(family: str) -> Readings:
    """The readings that never saw the family."""
    return read().get(family, read()[""])
