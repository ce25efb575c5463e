"""What the figures are meant to be, and whether they are."""

from __future__ import annotations

from typing import Any
from typing import NamedTuple

__all__ = ["BACKENDS", "judge"]

BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
_SURE = ("sure_low", "sure_high")
_TINY = {"model": "tiny MLP", "in the fit": "LRFinder"}
_CNN = {"model": "small CNN", "in the fit": "LRFinder"}
_ALL = {"order": "ramp and probes, fit"}


class _Target(NamedTuple):
    """One figure: its part, how to know its row, its column, and the limit."""

    part: str
    row: dict[str, Any]
    column: str
    limit: float | dict[str, float]  # of all backends, or by backend
    digits: int  # as shown: no target is missed by a digit that nobody sees


_TARGETS = (
    _Target("order", _ALL, "ratio", 1.15, 2),
    _Target("order", _ALL, "more than plain", 0.0, 0),
    _Target("order", _ALL, "later", 0.0, 0),
    _Target("steps", _TINY, "added, µs", {"tensorflow": 60.0}, 0),
    _Target("steps", _TINY, "added, µs", {"jax": 80.0, "torch": 80.0}, 0),
    _Target("steps", _CNN, "ratio", 1.02, 3),
    *(
        _Target("calls", {"model": model, "call": call}, "ratio", 1.1, 2)
        for model in ("tiny MLP", "small CNN")
        for call in ("ramp", "ramp and probes")
    ),
    _Target("memory", {"run": "lr_find"}, "peak over fit, states", 1.0, 2),
    _Target("analysis", {"points": 100_000}, "suggest, ms", 200.0, 0),
    _Target("imports", {}, "import, ms", 50.0, 0),
)


def judge(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns one row for each target that has been measured.

    A target is met where all of the median's 95 % interval meets it, missed
    where none of it does, and open otherwise.

    Args:
        found: The stored figures, by environment and part.
    """
    rows = []
    for backend, title in BACKENDS.items():
        for target in _TARGETS:
            limit = target.limit
            if isinstance(limit, dict):
                limit = limit.get(backend, float("nan"))
            row = _row(found, backend, target)
            if limit == limit and target.column in row:
                what = _judged(target, row, _exact(limit))
                stale = found[backend][target.part].get("stale")
                mark = " †" if stale else ""
                rows.append({"backend": title + mark, **what})
    (ours,) = (each for each in _TARGETS if "tensorflow" in str(each.limit))
    row = _row(found, "tensorflow", ours)
    for peer in found.get("peers", {}).get("peers", {}).get("rows", ()):
        if row and peer["model"] == "tiny MLP":
            what = _judged(ours, row, peer["added, µs"])
            figure = f"{what['figure']}, beside {peer['finder']}"
            rows.append({"backend": "TensorFlow", **what, "figure": figure})
    return rows


def _row(found: dict[str, Any], name: str, target: _Target) -> dict[str, Any]:
    rows = found.get(name, {}).get(target.part, {}).get("rows", ())
    fits = (row for row in rows if target.row.items() <= row.items())
    return next(fits, {})


def _judged(
    target: _Target, row: dict[str, Any], limit: dict[str, float]
) -> dict[str, Any]:
    value, digits = row[target.column], target.digits
    value = value if isinstance(value, dict) else _exact(value)
    low, high = (round(value[name], digits) for name in _SURE)
    lowest, highest = (round(limit[name], digits) for name in _SURE)
    met, missed = high <= lowest, low > highest
    what = [target.part, *target.row.values(), target.column]
    return {
        "figure": ", ".join(map(str, what)),
        "target": f"≤ {_shown(limit, digits)}",
        "middle": _shown(value, digits),
        "verdict": "met" if met else "missed" if missed else "open",
    }


def _exact(value: float) -> dict[str, float]:
    return dict.fromkeys(("median", *_SURE), float(value))


def _shown(found: dict[str, float], digits: int) -> str:
    middle, low, high = (
        f"{found[name]:.{digits}f}" for name in ("median", *_SURE)
    )
    return middle if low == high else f"{middle} ({low} to {high})"
