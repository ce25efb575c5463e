"""What the figures are meant to be, and whether they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["TITLES", "judge"]

TITLES = ("figure", "target", "middle", "fastest", "verdict")
_PER_STEP = {"tensorflow": 60.0, "jax": 80.0, "torch": 80.0}
_RATIO, _CALL, _IMPORT, _STATES = 1.02, 1.10, 50.0, 1.0
_SURE = ("sure_low", "sure_high")
_SUGGEST = {"100000": 0.2, "1000000": 2.0}


def judge(found: dict[str, Any]) -> list[tuple[str, ...]]:
    """Returns one row for each target that has been measured.

    A target is met where all of the median's 95 % interval meets it, missed
    where none of it does, and open otherwise.

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
    return rows + list(_beside_peers(found))


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
            title = f"next fit, {shape}, traces and compilations"
            yield _row(title, 0.0, _exact(_compiled_after(kinds)), None, 0)
    if memory := parts.get("memory"):
        states = memory["lr_find"]["peak over fit, states"]
        title = "host memory over training, states"
        yield _row(title, _STATES, states, None, 2)
    analysis = parts.get("analysis", {})
    for points, target in _SUGGEST.items():
        if points in analysis:  # a quick try measures fewer
            title = f"`suggest` on {int(points):,} points, s"
            seconds = analysis[points]["suggest"]
            yield _row(title, target, seconds, None, 3)
    if imports := parts.get("imports"):
        yield _row("import, ms", _IMPORT, imports["wall"], None, 0)


def _compiled_after(kinds: dict[str, Any]) -> float:
    fits = [kinds["compiled"][name] for name in ("fit after", "next fit")]
    return float(max(n or 0 for counts in fits for n in counts.values()))


def _beside_peers(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Compares the tiny MLP on TensorFlow with every peer's."""
    try:
        ours, peers = (
            found[name]["parts"][part]["figures"]["tiny MLP"]
            for name, part in (("tensorflow", "steps"), ("peers", "peers"))
        )
    except KeyError:
        return  # one of the two was not measured
    wall = ours["LRFinder"]["wall"]
    for peer, clocks in peers.items():
        title = f"tensorflow: tiny MLP, added a step, beside {peer}, µs"
        theirs = clocks["wall"]["added"]
        yield _row(title, theirs, *_both(wall, "added"), 0)


def _both(wall: dict[str, Any], kind: str) -> tuple[Any, float]:
    return wall[kind], wall["fastest"][kind]


def _exact(value: float) -> dict[str, float]:
    return dict.fromkeys(("median", *_SURE), value)


def _row(
    title: str,
    target: float | dict[str, float],
    found: dict[str, float],
    fastest: float | None,
    digits: int,
) -> tuple[str, ...]:
    limit = target if isinstance(target, dict) else _exact(target)
    # As shown: a target is not missed by a digit that nobody sees.
    low, high = (round(found[name], digits) for name in _SURE)
    lowest, highest = (round(limit[name], digits) for name in _SURE)
    met, missed = high <= lowest, low > highest
    return (
        title,
        f"≤ {_shown(limit, digits)}" if limit is target else f"≤ {target:g}",
        _shown(found, digits),
        "" if fastest is None else f"{fastest:.{digits}f}",
        "met" if met else "missed" if missed else "open",
    )


def _shown(found: dict[str, float], digits: int) -> str:
    middle, low, high = (
        f"{found[name]:.{digits}f}" for name in ("median", *_SURE)
    )
    return middle if low == high else f"{middle} ({low} to {high})"
