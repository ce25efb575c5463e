"""Turns the stored figures into one markdown document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.cost.targets import BACKENDS
from benchmarks.cost.targets import judge

__all__ = ["cell", "write_table"]

_HEAD = """# What a range test costs

Written by `python -m benchmarks.cost`; `README.md` says how. Machines differ:
read the ratios. Figures are medians over rounds, in brackets the quartiles.

† measured before the redesign of 0.2: to be measured again."""
_VERDICTS = (
    "In parentheses the 95 % interval of the median, from the ranks of the "
    "rounds. *Met*: all of it is within the target. *Missed*: none of it is. "
    "*Open*: the target, or a peer's own interval, overlaps with it."
)
_TITLES = {
    "order": "`compile → lr_find → fit`, cold",
    "steps": "A step, with the finder in the fit",
    "hooks": "The finder's own time in a step",
    "calls": "`lr_find` on a trained model over `fit`, each 100 steps",
    "memory": "Memory of the process",
    "snapshot": "A snapshot of a large model",
    "imports": "Import, after `import keras`",
    "analysis": "A suggestion from a curve",
    "outside": "On a GPU, measured outside this repository",
    "outside calls": "The same machine: whole calls, in seconds",
    "peers": "Other finders on the same shapes, each against its own plain "
    "loop",
    "packages": "Keras packages on Keras 3",
}
# What is said below a table.
_NOTES = {
    "order": "MobileNetV3Small, 64 x 64. *Ratio*: all of it over a plain first "
    "fit and 280 steps more. *Traces*: how often Python ran the network; for "
    "one trace of the step TensorFlow does so twice. *Later*: what a second "
    "`lr_find` and `fit` trace and compile.",
    "snapshot": "*State*: weights, and Adam's slots for those that train. "
    "*Held*: in host memory, until it is given back.",
    "outside": "Recorded: H200, Keras 3.15.1, before the redesign. Where there "
    "is a GPU, `python -m benchmarks.cost --gpu` adds to the tables above.",
    "peers": "Recorded, on PyTorch. The program is in this repository's "
    "history: `benchmarks/cost/peers.py`, until the redesign of 0.2.",
    "packages": "Recorded, likewise (`benchmarks/cost/keras_packages.py`).",
}


def write_table(results: Path, file: Path) -> None:
    """Writes all that has been measured so far.

    Args:
        results: The directory of the stored figures.
        file: The document to write.
    """
    found = {
        path.stem: json.loads(path.read_text())
        for path in sorted(results.glob("*.json"))
    }
    parts = [_HEAD]
    for part, title in _TITLES.items():
        rows = list(_rows(found, part))
        parts.append(_section(title, rows, _NOTES.get(part, "")))
        if part == "order":  # the first row
            parts.append(_section("Targets", judge(found), _VERDICTS))
    parts.append(_section("Machines and versions", list(_origins(found))))
    file.write_text("\n\n".join(part for part in parts if part) + "\n")


def _rows(found: dict[str, Any], part: str) -> Iterator[dict[str, Any]]:
    for name, parts in found.items():
        stored = parts.get(part, {})
        backend, _, device = name.partition("-")
        title = f"{BACKENDS.get(backend, '')} {device.upper()}".strip()
        mark = " †" if stored.get("stale") else ""
        for row in stored.get("rows", ()):
            yield {"backend": title + mark, **row} if title else row


def _origins(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, parts in found.items():
        origins: dict[str, list[str]] = {}
        for part, stored in parts.items():
            keys = ("machine", "versions", "date")
            origin = json.dumps({key: stored[key] for key in keys})
            load = stored.get("load")
            text = f"{part} (load {load[0]} to {load[1]})" if load else part
            origins.setdefault(origin, []).append(text)
        for origin, texts in origins.items():
            yield {"of": f"{name}: {', '.join(texts)}", **json.loads(origin)}


def _section(title: str, rows: list[dict[str, Any]], after: str = "") -> str:
    if not rows:
        return ""
    titles = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[cell(row.get(title, "")) for title in titles] for row in rows]
    lines = [titles, ["---"] * len(titles), *cells]
    grid = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(each for each in (f"## {title}", grid, after) if each)


def cell(value: Any) -> str:
    """Returns a stored value as it is shown."""
    if isinstance(value, dict):
        keys = ("median", "low", "high")
        middle, low, high = _numbers([value[key] for key in keys])
        return middle if low == high else f"{middle} [{low}, {high}]"
    return _numbers([value])[0] if isinstance(value, float) else str(value)


def _numbers(values: list[float]) -> list[str]:
    largest = max(map(abs, values))
    digits = 3 if largest < 2 else 1 if largest < 20 else 0
    # A zero has no sign.
    return [f"{round(value, digits) + 0.0:.{digits}f}" for value in values]
