"""What the figures are meant to be, and whether they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["TITLES", "judge"]

TITLES = ("figure", "target", "middle", "fastest", "verdict")
_PER_STEP = {"tensorflow": 60.0, "jax": 80.0, "torch": 80.0}
_RATIO, _CALL, _IMPORT, _STATES = 1.02, 1.10, 50.0, 1.0
_SUGGEST = {"100000": 0.2, "1000000": 2.0}


def judge(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Returns one row for each target that has been measured.

    A target is met where the upper quartile meets it, missed where the lower
    one does not, and open where it lies between them.

    Args:
        found: The stored figures, by environment.
    """
    rows = []
    for name in _PER_STEP:
        parts = {
            part: stored["figures"]
            for part, stored in found.get(name, {}).get("parts", {}).items()
        }
        for row in _of_backend(name, parts):
            rows.append((f"{name}: {row[0]}", *row[1:]))
    return rows


def _of_backend(name: str, parts: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    if steps := parts.get("steps"):
        wall = steps["tiny MLP"]["LRFinder"]["wall"]
        title = "tiny MLP, added a step, µs"
        yield _row(title, _PER_STEP[name], *_both(wall, "added"), 0)
        wall = steps["small CNN"]["LRFinder"]["wall"]
        yield _row("small CNN, ratio", _RATIO, *_both(wall, "ratio"), 3)
    for shape, kinds in parts.get("calls", {}).items():
        ratio = _both(kinds["warm"]["wall"], "ratio")
        yield _row(f"`lr_find` warm, {shape}, ratio", _CALL, *ratio, 2)
        if name != "torch" and "compiled" in kinds:
            traces = float(kinds["compiled"]["fit after"]["traces"])
            yield _row(
                f"next fit, {shape}, traces", 0.0, _exact(traces), None, 0
            )
    if memory := parts.get("memory"):
        states = memory["lr_find"]["peak over fit, states"]
        title = "host memory over training, states"
        yield _row(title, _STATES, _exact(states), None, 2)
    for points, target in _SUGGEST.items():
        if analysis := parts.get("analysis"):
            title = f"`suggest` on {int(points):,} points, s"
            seconds = analysis[points]["suggest"]
            yield _row(title, target, seconds, None, 3)
    if imports := parts.get("imports"):
        yield _row("import, ms", _IMPORT, imports["wall"], None, 0)


def _both(wall: dict[str, Any], kind: str) -> tuple[Any, float]:
    return wall[kind], wall["fastest"][kind]


def _exact(value: float) -> dict[str, float]:
    return {"median": value, "low": value, "high": value}


def _row(
    title: str,
    target: float,
    found: dict[str, float],
    fastest: float | None,
    digits: int,
) -> tuple[str, ...]:
    middle, low, high = (
        f"{found[name]:.{digits}f}" for name in ("median", "low", "high")
    )
    text = middle if low == high else f"{middle} [{low}, {high}]"
    # As shown: a target is not missed by a digit that nobody sees.
    met, missed = float(high) <= target, float(low) > target
    verdict = "met" if met else "missed" if missed else "open"
    best = "" if fastest is None else f"{fastest:.{digits}f}"
    return title, f"≤ {target:g}", text, best, verdict
