"""The one fit: every number of `keras_lrfinder/constants.json`.

Run: `python -m benchmarks.quality.fit` (JAX and SciPy; minutes). Reads the
recordings of the seen families (`SEEN` and `KERAS`), and writes that file and
`left_out.json`: by family what is fitted without it and all of its kin.

One objective: the mean log excess loss at the posterior's answer, over all
trainings, each alike; of a ramp (half), of ramp and probes, and of 2 to 5 whole
trainings. Models in Keras, of which there are no whole trainings, count half.
Runs are placed by the package's own search with the constants of the round
before. `answer` is the formula of `keras_lrfinder/analysis/posterior.py` again,
for gradients; a test compares them. The range is fitted afterwards, to hold the
best learning rate in 95 of 100 tests of families left out.
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

from benchmarks.quality import simulate
from benchmarks.quality.cells import RUNS
from benchmarks.quality.cells import TARGETS
from benchmarks.quality.cells import WHOLE
from benchmarks.quality.cells import Cell
from benchmarks.quality.cells import Target
from benchmarks.quality.cells import Vector
from benchmarks.quality.cells import load
from benchmarks.quality.cells import named
from benchmarks.quality.tasks import KERAS
from benchmarks.quality.tasks import SEEN
from keras_lrfinder.analysis import posterior as package
from keras_lrfinder.analysis.landmarks import is_enough
from keras_lrfinder.analysis.landmarks import refusal
from keras_lrfinder.analysis.runs import Levels
from keras_lrfinder.analysis.runs import Run
from keras_lrfinder.analysis.runs import reached
from keras_lrfinder.analysis.search import search

jax.config.update("jax_enable_x64", True)

Tree = dict[str, Any]

FILE = Path(package.__file__).parents[1] / "constants.json"
KINDS = ("sgd", "momentum", "adam", "rmsprop", "lion", "muon", "adafactor")
SCHEDULES = ("constant", "cosine", "one_cycle", "triangular")
# Which height is that of a schedule; the first is zero.
HEIGHTS = jnp.array([0, 1, 1, 2])
FINE = np.arange(-9.0, 3.0001, 0.025)
IN_KERAS, OF_RAMP = 0.5, 0.5
ROUNDS, STEPS = 2, 40
# Without a family the fit begins so far away, not to remember it.
AWAY = 0.05
# Weakly the same for SGD and for all others.
PULL = 0.01
# Of ranges so many are to hold the best learning rate.
HELD = 0.952
# Half of the package's points give the same gradients.
GRID = package.GRID[::2]


def parameters(c: Tree) -> Tree:
    """The constants as arrays: what is fitted."""
    both, three = ("sgd", "adaptive"), ("sgd", "momentum", "adaptive")
    found = {
        "offset": [package._of(c["offset"], k) for k in KINDS],
        "margin": [package._of(c["margin"], k) for k in three],
        **{
            name: [package._of(c[name], k) for k in both]
            for name in ("edge", "constant", "shorter")
        },
        "sigma": [math.log(c["sigma"][k]) for k in both],
        "height": [c["height"]["cosine"], c["height"]["triangular"]],
        "rough": c["rough"]["sgd"],
        **{n: c[n] for n in ("few", "scheduled", "few_length")},
        "weight": math.log(c["weight"]),
        "tau": math.log(c["tau"]),
    }
    return {k: np.array(v, float) for k, v in found.items()}


def constants(p: Tree, spread: tuple[float, float]) -> Tree:
    """Arrays as the file has them."""
    r = {k: np.round(np.asarray(v), 3).tolist() for k, v in p.items()}
    exp = {k: np.round(np.exp(p[k]), 3).tolist() for k in ("sigma", "weight")}
    cosine, triangular = r["height"]
    both, three = ("sgd", "adaptive"), ("sgd", "momentum", "adaptive")
    return {
        "offset": dict(zip(KINDS, r["offset"])),
        "edge": dict(zip(both, r["edge"])),
        "margin": dict(zip(three, r["margin"])),
        "few": r["few"],
        "rough": {"sgd": r["rough"]},
        "constant": dict(zip(both, r["constant"])),
        "shorter": dict(zip(both, r["shorter"])),
        "scheduled": r["scheduled"],
        "few_length": r["few_length"],
        "height": {
            "cosine": cosine,
            "one_cycle": cosine,
            "triangular": triangular,
        },
        "sigma": dict(zip(both, exp["sigma"])),
        "weight": exp["weight"],
        "tau": round(math.exp(p["tau"]), 3),
        "spread": spread[0],
        "least_spread": spread[1],
    }


def length(few, steps):
    """As `posterior._length`."""
    measured = jnp.clip(steps, 60.0, 8000.0)
    shorter = jnp.minimum(measured / 1000.0, 1.0)
    return measured / shorter * shorter ** jnp.maximum(1.0 - few, 0.0)


def moved(p: Tree, one, few, schedule, steps):
    """As `posterior.moved`; `one`: 0 for SGD, else 1."""
    long = length(few, steps)
    by = jnp.log10(long / 500.0)
    later = jnp.where(schedule == 0, p["constant"][one], p["scheduled"])
    slope = jnp.where(long > 500.0, later, p["shorter"][one])
    height = jnp.concatenate([jnp.zeros(1), p["height"]])
    more = jnp.maximum(jnp.log10(long / 1000.0), 0.0)
    by = slope * by + height[HEIGHTS[schedule]]
    return by - p["few_length"] * few * more


def lost(runs: Tree, x):
    """As `posterior.lost`, of a row for each test."""
    at, y = runs["x"], runs["y"]
    wide = jnp.diff(at, axis=1)
    real = wide > 1e-9
    slope = jnp.where(real, jnp.diff(y, axis=1) / jnp.where(real, wide, 1), 0)
    found = y[:, :1] + 0.0 * x
    for i in range(at.shape[1] - 1):
        part = jnp.clip(x - at[:, i : i + 1], 0.0, wide[:, i : i + 1])
        found += slope[:, i : i + 1] * part
    return found


def blurred(log_p, tau, grid):
    """As `posterior._blurred`."""
    share = jnp.exp(-0.5 * ((grid[:, None] - grid) / tau) ** 2)
    like = jnp.exp(log_p - log_p.max(1, keepdims=True))
    return jnp.log(jnp.maximum(like @ (share / share.sum(0)), 1e-300))


def answer(p: Tree, row: Tree, stage: int, grid: Vector = GRID):
    """log10 of the answer, and its standard deviation.

    Args:
        p: What is fitted.
        row: Tests, as `stack` made them.
        stage: 0 for the ramp, 1 with probes, 2 with trainings, too.
        grid: Where the posterior stands, round its mean.
    """
    kind, few, schedule, steps = (
        row[k] for k in ("kind", "few", "schedule", "steps")
    )
    one, three = jnp.where(kind < 2, 0, 1), jnp.minimum(kind, 2)
    mean = p["offset"][kind] + p["edge"][one] * row["edge"]
    mean -= p["few"] * few + p["rough"] * row["rough"] * (one == 0)
    mean = jnp.minimum(mean + row["large"], row["edge"] - p["margin"][three])
    by = moved(p, one, few, schedule, steps)
    mean, safe, tried = mean + by, jnp.inf, jnp.inf
    log_p = -0.5 * (grid / jnp.exp(p["sigma"][one])[:, None]) ** 2
    x = mean[:, None] + grid
    if stage:
        runs = row["probes"]
        safe, tried = runs["top"] - package._SAFE, runs["x"].max(1)
        by = by - moved(p, one, 0.0 * few, 0 * schedule, 60.0 + 0.0 * steps)
        weight = jnp.exp(p["weight"]) / jnp.sqrt(runs["fall"])[:, None]
        told = -weight * lost(runs, x - by[:, None])
        log_p = log_p + blurred(told, jnp.exp(p["tau"]), grid)
    if stage == 2:
        log_p = log_p - jnp.exp(p["weight"]) * lost(row["trainings"], x)
        safe = jnp.minimum(safe, row["trainings"]["top"] - package._SAFE)
        tried = jnp.maximum(tried, row["trainings"]["x"].max(1))
    share = jax.nn.softmax(log_p, axis=1)
    found = (share * x).sum(1)
    sd = jnp.sqrt((share * (x - found[:, None]) ** 2).sum(1))
    return jnp.minimum(found, jnp.minimum(safe, tried)), sd


answers = jax.jit(answer, static_argnums=2)


def excess(table, x):
    """What each test loses at its `x`; `table` has it at `FINE`."""
    place = jnp.clip((x - FINE[0]) / 0.025, 0, len(FINE) - 1 - 1e-6)
    i, rows = place.astype(int), jnp.arange(len(x))
    share = place - i
    return table[rows, i] * (1 - share) + table[rows, i + 1] * share


def group(levels: Levels) -> Tree:
    """Runs of a length as a row: five of them, the last one repeated."""
    x = np.unique(levels.x)
    y = package.lost(levels, x)
    x, y = (np.append(v, np.full(5 - len(v), v[-1])) for v in (x, y))
    return {
        "x": x,
        "y": y,
        "fall": max(package._fall(levels), package._LEAST_FALL),
        "top": min(levels.top, 99.0),
    }


def gathered(
    cells: Sequence[Cell], known: Tree, targets: Sequence[Target] = TARGETS
) -> tuple[list[Tree], list[Tree]]:
    """Every test by training; then with each number of whole trainings."""
    short: list[Tree] = []
    long: list[Tree] = []
    for cell in (c for c in cells if c.can_learn):
        tables = {t: cell.excess(10.0**FINE, t) for t in cell.targets}
        for seed in range(cell.seeds):
            seen = cell.seen(seed)
            if seen is None or not is_enough(cell.curve(seed), seen):
                continue
            for target in (t for t in targets if t in tables):
                base = _test(cell, seed, target) | {"table": tables[target]}
                short.append(base)
                more = _runs(cell, seed, target, known, base)
                long += more
    return short, long


def _test(cell: Cell, seed: int, target: Target) -> Tree:
    """What is known of a test before any run."""
    curve, seen = cell.curve(seed), cell.seen(seed)
    traits = package.traits_of(curve, seen)
    kind = traits.kind if traits.kind in KINDS else "adam"
    return {
        "kind": KINDS.index(kind),
        **{k: getattr(traits, k) for k in ("edge", "rough", "few", "large")},
        "schedule": SCHEDULES.index(target[0]),
        "steps": float(target[1]),
        "target": named(target),
        "cell": cell.name,
        "seed": seed,
        "asked": target,
        "best": cell.best(target),
        "default": math.log10(cell.default_lr),
        "family": cell.task.family,
        "task": cell.task.name,
        "optimizer": cell.optimizer,
        "ramp": not refusal(curve, seen),
        "most": 0,
    }


def _runs(
    cell: Cell, seed: int, target: Target, known: Tree, base: Tree
) -> list[Tree]:
    """Has the package search; adds its probes, returns rows of trainings."""
    whole = 5 if target in WHOLE and target in cell.runs else 0
    curve, seen = cell.curve(seed), cell.seen(seed)
    train = simulate.trainer(cell, seed)
    asked = simulate.plan(cell, target, whole)
    runs, said = search(curve, train, asked, constants=known)
    untrained = Run(0.0, 0, held_out=asked.held_out, again=asked.again)
    untrained = untrained.ended(train(untrained))
    count = sum((r.schedule, r.steps) == RUNS[0] for r in runs)
    probes = reached(seen, runs[:count], untrained)
    base |= {"probes": group(probes), "told": said.lr is not None}
    if whole:
        # Of probes alone that is another question.
        alone = simulate.plan(cell, target)
        _, said = search(curve, train, alone, constants=known)
        base["told"] = said.lr is not None
    rows = []
    for most in range(2, len(runs) - count + 1):
        part = reached(seen, runs[count : count + most], untrained)
        told = base["told"] or not part.blown.all()
        rows.append(
            base | {"trainings": group(part), "most": most, "told": told}
        )
    # Where it stops early, more trainings are the same ones.
    if rows:
        rows += [rows[-1] | {"most": m} for m in range(len(rows) + 2, 6)]
    return rows


def stack(rows: Sequence[Tree]) -> Tree:
    """Tests as arrays."""
    found = {}
    for key, value in rows[0].items():
        if isinstance(value, dict):
            found[key] = {
                k: jnp.array(np.array([r[key][k] for r in rows], float))
                for k in value
            }
        else:
            found[key] = np.array([r[key] for r in rows])
    return found


def arrays(row: Tree) -> Tree:
    """Only what JAX takes."""
    return {
        k: v if isinstance(v, dict) else jnp.asarray(v)
        for k, v in row.items()
        if isinstance(v, dict) or v.dtype.kind not in "US"
    }


def weights(row: Tree, keep: Vector) -> Vector:
    """Every training counts alike."""
    found = np.zeros(len(keep))
    names = np.unique(row["target"][keep])
    for name in names:
        part = keep & (row["target"] == name)
        found[part] = 1.0 / part.sum() / len(names)
    return found


@jax.jit
def objective(p: Tree, data: list):
    """What the fit makes small."""
    total = 0.0
    for name in ("constant", "sigma"):
        total += PULL * ((p[name] - p[name].mean()) ** 2).sum()
    for row, of_ramp, share in data:
        stage = 2 if "trainings" in row else 1
        found, _ = answer(p, row, stage)
        total += (share * excess(row["table"], found)).sum()
        if stage == 1:
            found, _ = answer(p, row, 0)
            total += (of_ramp * excess(row["table"], found)).sum()
    return total


gradient = jax.jit(jax.value_and_grad(objective))


def blocks(known: Tree) -> list[tuple[Tree, float]]:
    """All tests that are fitted on, and how much they count."""
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    short, long = gathered(load([SEEN]), known)
    others, _ = gathered(load([KERAS]), known)
    return [
        (stack(short), 1.0),
        (stack(long), 1.0),
        (stack(others), IN_KERAS),
    ]


def data_of(parts: list[tuple[Tree, float]], left_out: str = "") -> list:
    """The blocks without a family, with weights."""
    found = []
    for row, share in parts:
        keep = row["family"] != left_out
        given = [OF_RAMP * share * weights(row, keep & row["ramp"])]
        given.append(share * weights(row, keep & row["told"]))
        found.append((arrays(row), *map(jnp.asarray, given)))
    return found


def fit(p: Tree, data: list, steps: int = STEPS) -> tuple[Tree, float]:
    """The parameters where the objective is lowest, from `p`."""
    start, back = ravel_pytree({k: jnp.asarray(v) for k, v in p.items()})

    def value(x):
        found, slope = gradient(back(jnp.asarray(x)), data)
        return float(found), np.asarray(ravel_pytree(slope)[0])

    found = minimize(
        value,
        np.asarray(start),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": steps},
    )
    return back(jnp.asarray(found.x)), float(found.fun)


def spread_of(parts: list[tuple[Tree, float]], without: Tree) -> Vector:
    """SPREAD and LEAST_SPREAD: the narrowest ranges that hold the best LR.

    In 95 of 100 tests of families left out, after a ramp, probes and each
    number of whole trainings.
    """
    told = []
    for row, stage in ((parts[0][0], 0), (parts[0][0], 1), (parts[1][0], 2)):
        given = arrays(row)
        x, sd, by = (np.zeros(len(row["kind"])) for _ in range(3))
        for family, p in without.items():
            own = row["family"] == family
            one = jnp.where(given["kind"] < 2, 0, 1)
            found = answers(p, given, stage)
            more = (given[k] for k in ("few", "schedule", "steps"))
            by[own] = np.asarray(moved(p, one, *more))[own]
            x[own], sd[own] = (np.asarray(v)[own] for v in found)
        most = np.full(len(x), np.inf)
        if stage:
            most = np.asarray(row["probes"]["top"]) + np.maximum(by, 0.0)
        if stage == 2:
            most = np.minimum(most, np.asarray(row["trainings"]["top"]))
        there = row["told" if stage else "ramp"]
        for number in np.unique(row["most"]):
            keep = there & (row["most"] == number)
            told.append([v[keep] for v in (x, sd, most, row["best"])])
    rows = []
    for spread in np.arange(1.0, 4.01, 0.125):
        for least in np.arange(0.2, 0.451, 0.025):
            held, wide = [], []
            for x, sd, most, best in told:
                by = 2.0 * np.hypot(least, spread * sd)
                high = np.maximum(np.minimum(x + by, most), x)
                held.append(np.mean((best > x - by) & (best < high + 1e-9)))
                wide.append(np.mean(high - x + by))
            # A ramp and probes count as much as all trainings.
            total = wide[0] + wide[1] + np.sum(wide[2:]) / 2.0
            rows.append((min(held) < HELD, total, spread, least))
    return np.round(min(rows)[2:], 3)


def main() -> None:
    """Fit, print and store."""
    known = dict(package.CONSTANTS)
    spread = known["spread"], known["least_spread"]
    p = parameters(known)
    for number in range(ROUNDS):
        parts = blocks(known)
        p, value = fit(p, data_of(parts))
        known = constants(p, spread)
        print(f"round {number + 1}: {value:.5f}", flush=True)
    families = sorted({f for row, _ in parts for f in row["family"]})
    without = {}
    for family in families:
        rng = np.random.default_rng(0)
        start = {k: v + AWAY * rng.normal(size=v.shape) for k, v in p.items()}
        # Few answers are so near the edge that this could come back.
        start["margin"] = p["margin"]
        without[family], _ = fit(start, data_of(parts, family))
        print("without", family, flush=True)
    spread = tuple(spread_of(parts, without).tolist())
    found = {f: constants(q, spread) for f, q in without.items()}
    simulate.LEFT_OUT.write_text(json.dumps(found, indent=1) + "\n")
    FILE.write_text(json.dumps(constants(p, spread), indent=1) + "\n")


if __name__ == "__main__":
    main()
