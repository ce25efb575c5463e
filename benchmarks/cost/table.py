"""Turns the stored figures into one markdown document."""

from __future__ import annotations

import json
from collections.abc import Iterable
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cost.targets import TITLES
from benchmarks.cost.targets import judge

__all__ = ["write_table"]

_BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
_MICROSECONDS, _MILLISECONDS = "µs", "ms"
Results = dict[str, Any]


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
    sections = [
        _head(found),
        _targets(found),
        _steps(found),
        _hooks(found),
        _peers(found),
        _calls(found),
        _split(found),
        _compiling(found),
        _memory(found),
        _analysis(found),
        _imports(found),
        _packages(found),
    ]
    file.write_text("\n\n".join(s for s in sections if s) + "\n")


def _head(found: Results) -> str:
    lines = [
        "# What a range test costs",
        "Made by `python -m benchmarks.cost`; see `README.md` beside this "
        "file for what is measured and how. Machines differ: read the ratios "
        "rather than the times. *Middle* is the median over the rounds of "
        "the difference to the plain run of the same round, with both "
        "quartiles in brackets: what single rounds vary by. *Fastest* is the "
        "difference between the fastest run of each: other programs on the "
        "machine add to a run and take nothing away. *CPU* is processor time "
        "of the main thread alone.",
    ]
    rows = []
    for name, result in found.items():
        versions = ", ".join(
            f"{package} {version}"
            for package, version in result["versions"].items()
        )
        loads = [part["load"] for part in result["parts"].values()]
        machine = result["machine"]
        rows.append(
            (
                name,
                f"{machine['processor']}, {machine['cores']} cores, "
                f"{machine['memory']}, {machine['system']}, "
                f"GPU: {machine.get('gpu', 'none')}",
                f"Python {machine['python']}, {versions}",
                machine["date"],
                f"{min(map(min, loads))} to {max(map(max, loads))}",
            )
        )
    titles = ("figures", "machine", "versions", "date", "load, over all")
    return "\n\n".join([*lines, _grid(titles, rows)])


def _targets(found: Results) -> str:
    return _section(
        "Targets",
        TITLES,
        judge(found),
        after="In parentheses the 95 % interval of the middle value, from the "
        "ranks of the rounds. *Met*: all of it is within the target. "
        "*Missed*: none of it is. *Open*: the target, or a peer's own "
        "interval, overlaps with it, so this run cannot tell.",
    )


def _steps(found: Results) -> str:
    rows = [
        (
            shape if contender == "plain fit" else "",
            contender,
            *_added(clocks, _MICROSECONDS),
        )
        for name, title in _BACKENDS.items()
        for shape, contenders in _figures(found, name, "steps").items()
        for contender, clocks in [
            (f"**{title}**", None),
            *contenders.items(),
        ]
        if clocks is not None or shape == "tiny MLP"
    ]
    titles = ("model", "in the fit", *_ADDED_TITLES)
    return _section("Time of a typical step, in µs", titles, rows)


_ADDED_TITLES = (
    "a step",
    "added, middle",
    "added, fastest",
    "ratio, middle",
    "ratio, fastest",
    "added CPU, middle",
    "added CPU, fastest",
)


def _added(clocks: Any, unit: str) -> tuple[str, ...]:
    if clocks is None:
        return ("",) * len(_ADDED_TITLES)
    wall, cpu = clocks["wall"], clocks["cpu"]
    digits = 0 if unit == _MICROSECONDS else 1
    return (
        _number(wall["itself"]["median"], digits),
        _spread(wall["added"], digits),
        _number(wall["fastest"]["added"], digits),
        _spread(wall["ratio"], 3),
        _number(wall["fastest"]["ratio"], 3),
        _spread(cpu["added"], digits),
        _number(cpu["fastest"]["added"], digits),
    )


def _hooks(found: Results) -> str:
    rows = [
        (title, shape, part, _spread(microseconds, 1))
        for name, title in _BACKENDS.items()
        for shape, parts in _figures(found, name, "hooks").items()
        for part, microseconds in parts.items()
    ]
    return _section(
        "Where the finder's own time in a step goes, in µs",
        ("backend", "model", "part", "time"),
        rows,
        after="The two hooks are all of it; the three parts below are within "
        "them. The first operation after a training step finds "
        "nothing of TensorFlow's eager runtime in the processor's caches: "
        "the one that does nothing shows what that alone takes.",
    )


def _peers(found: Results) -> str:
    rows = [
        (shape, peer, *_added(clocks, _MICROSECONDS))
        for shape, peers in _figures(found, "peers", "peers").items()
        for peer, clocks in peers.items()
    ]
    return _section(
        "Other finders on the same shapes, each against its own plain loop, "
        "in µs",
        ("model", "finder", *_ADDED_TITLES),
        rows,
    )


def _calls(found: Results) -> str:
    rows = []
    for name, title in _BACKENDS.items():
        for shape, kinds in _figures(found, name, "calls").items():
            for kind, clocks in kinds.items():
                if "wall" in clocks if isinstance(clocks, dict) else False:
                    rows.append(
                        (title, shape, kind, *_added(clocks, _MILLISECONDS))
                    )
    titles = ("backend", "model", "call", *_ADDED_TITLES)
    titles = tuple("whole" if t == "a step" else t for t in titles)
    return _section(
        "`lr_find` of 100 steps over `fit` of 100 steps, in ms", titles, rows
    )


def _split(found: Results) -> str:
    rows = []
    for name, title in _BACKENDS.items():
        for shape, kinds in _figures(found, name, "calls").items():
            parts = {**kinds["split"], "plot": kinds["plot"]}
            rows.append(
                (
                    title,
                    shape,
                    *(
                        _number(parts[part]["median"], 2)
                        for part in _PARTS_OF_A_CALL
                    ),
                )
            )
    return _section(
        "Where a warm `lr_find` of 100 steps spends its time, in ms",
        ("backend", "model", *_PARTS_OF_A_CALL),
        rows,
    )


_PARTS_OF_A_CALL = (
    "rest",
    "snapshot",
    "steps",
    "restore",
    "suggestion",
    "plot",
)


def _compiling(found: Results) -> str:
    rows = []
    for name, title in _BACKENDS.items():
        for shape, kinds in _figures(found, name, "calls").items():
            calls = kinds.get("compiled", {})
            if not calls or name == "torch":
                continue
            cells = [_counted(counts) for counts in calls.values()]
            rows.append((title, shape, *cells))
            titles = ("backend", "model", *calls)
    if not rows:
        return ""
    return _section(
        "Traces of the step (and on JAX all compilations), one call after "
        "the other on one model",
        titles,
        rows,
        after="PyTorch traces and compiles nothing.",
    )


def _counted(counts: dict[str, int | None]) -> str:
    compiled = counts["compilations"]
    more = "" if compiled is None else f" ({compiled})"
    return f"{counts['traces']}{more}"


def _memory(found: Results) -> str:
    rows = []
    for name, title in _BACKENDS.items():
        for run, figures in _figures(found, name, "memory").items():
            rows.append(
                (
                    title,
                    run,
                    _number(figures["state"], 0),
                    _spread(figures["peak"], 0),
                    _spread(figures["peak over fit, states"], 2),
                    _spread(figures["after over fit, states"], 2),
                )
            )
    titles = (
        "backend",
        "run",
        "state",
        "peak",
        "peak over fit, in states",
        "left over fit, in states",
    )
    return _section(
        "Memory of the process, in MB",
        titles,
        rows,
        after="The copy is in host memory. A device holds none of it: the "
        "tests count that, there being no GPU here to measure it on.",
    )


def _analysis(found: Results) -> str:
    rows = [
        (
            f"{int(points):,}",
            _number(1e3 * figures["record"], 1),
            _number(1e3 * figures["suggest"]["median"], 1),
            _number(1e3 * figures["plot"]["median"], 0),
        )
        for points, figures in _figures(found, "tensorflow", "analysis").items()
    ]
    titles = ("points", "record all", "suggest", "plot")
    return _section("Analysis of a curve, in ms", titles, rows)


def _imports(found: Results) -> str:
    rows = [
        (title, _spread(figures["wall"], 0), _spread(figures["cpu"], 0))
        for name, title in _BACKENDS.items()
        if (figures := _figures(found, name, "imports"))
    ]
    titles = ("backend", "time", "CPU")
    return _section("Import after `import keras`, in ms", titles, rows)


def _packages(found: Results) -> str:
    rows = [
        (package, f"`{outcome}`")
        for package, outcome in _figures(found, "packages", "packages").items()
    ]
    return _section(
        "Keras packages on Keras 3", ("package", "what it says"), rows
    )


def _figures(found: Results, name: str, part: str) -> Results:
    parts = found.get(name, {}).get("parts", {})
    figures: Results = parts.get(part, {}).get("figures", {})
    return figures


def _section(
    title: str,
    titles: Sequence[str],
    rows: list[tuple[str, ...]],
    after: str = "",
) -> str:
    if not rows:
        return ""
    parts = [f"## {title}", _grid(titles, rows), after]
    return "\n\n".join(part for part in parts if part)


def _grid(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}"


def _spread(values: dict[str, float], digits: int) -> str:
    middle, low, high = (
        _number(values[name], digits) for name in ("median", "low", "high")
    )
    return f"{middle} [{low}, {high}]"
