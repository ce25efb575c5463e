"""What needs no learning rate at all, against ours: optimizers of Optax.

Run: `python -m benchmarks.quality.free` (JAX and Optax; minutes). Trains the
tasks below for 2,000 steps with the judge's seeds and batches, and keeps what
they end with in `free.json`; what is there is not trained again. Prints the
loss at the end over that of Adam at the grid's best LR, as means over tasks,
beside Adam at what the package says (families left out) and at Keras's default.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.quality import score
from benchmarks.quality.cells import Cell
from benchmarks.quality.cells import load
from benchmarks.quality.loop import Trainer
from benchmarks.quality.loop import batches
from benchmarks.quality.tasks import SEEN
from benchmarks.quality.tasks import TASKS
from benchmarks.quality.tasks import UNSEEN
from keras_lrfinder.analysis.runs import SHARES

STORED = Path(__file__).with_name("free.json")
STEPS, SEEDS = 2000, (2, 3, 4)
SCHEDULES = ("constant", "cosine")
NAMES = (
    "mlp_digits",
    "denoising",
    "noisy_digits",
    "robust",
    "rare",
    "fourier",
    "friedman",
    "tabular",
    "reviews",
    "taught",
)


def optimizers(share: Callable) -> dict[str, Callable]:
    """Optax's, with their defaults; `share` is the schedule, from 0 to 1."""
    from optax import contrib

    found = {
        "Prodigy": lambda: contrib.prodigy(share),
        "Prodigy, safeguard": lambda: contrib.prodigy(
            share, safeguard_warmup=True
        ),
        "D-Adaptation AdamW": lambda: contrib.dadapt_adamw(share),
        "DoG": lambda: contrib.dog(share),
        "DoWG": lambda: contrib.dowg(share),
        "COCOB": lambda: contrib.cocob(share),
    }
    if share(0) == 1.0:
        # It has no schedule, but a learning rate of its own.
        found["schedule-free AdamW"] = contrib.schedule_free_adamw
    return found


def trained(trainer: Trainer, optimizer, is_free: bool) -> float:
    """Mean test loss at the end; as of not training where it is lost.

    `is_free`: whether it is evaluated elsewhere than where it trains.
    """
    from optax import apply_updates
    from optax import contrib

    problem, train = trainer.problem, trainer.data["train"]

    def step(carry, inputs):
        params, stats, state, key = carry
        number, which = inputs
        batch = {k: v[which] for k, v in train.items()}

        def loss(params):
            one = jax.random.fold_in(key, number)
            return problem.loss(params, stats, batch, one, True)

        grads, stats = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(grads, state, params)
        return (apply_updates(params, updates), stats, state, key), None

    def run(params, stats, key, order):
        state = optimizer.init(params)
        inputs = jnp.arange(STEPS), order
        carry, _ = jax.lax.scan(step, (params, stats, state, key), inputs)
        params, stats, state, _ = carry
        if is_free:
            params = contrib.schedule_free_eval_params(state, params)
        return params, stats

    params, stats, _ = trainer.start(SEEDS, 1)
    given = jax.tree.map(lambda v: v[:, 0], (params, stats))
    keys = jax.vmap(jax.random.key)(jnp.asarray(SEEDS) + 10_000)
    order = [batches(trainer.count, trainer.batch, STEPS, s) for s in SEEDS]
    ended = jax.jit(jax.vmap(run))(*given, keys, np.stack(order))
    rows = jax.tree.map(lambda v: v[:, None], ended)
    ends = trainer.judge((*rows, None), SEEDS, "test")[:, 0]
    return float(np.fmin(ends, trainer.before(SEEDS, 1, "test")).mean())


def share_of(schedule: str) -> Callable:
    """A schedule as Optax has them."""
    shares = jnp.asarray(SHARES[schedule](STEPS), "float32")

    def share(step):
        return shares[jnp.minimum(step, STEPS - 1)]

    return share


def record() -> dict[str, float]:
    """Everything that was trained."""
    found: dict[str, float] = {}
    if STORED.exists():
        found = json.loads(STORED.read_text("utf-8"))
    for task in NAMES:
        trainer = Trainer(TASKS[task], "adam")
        for schedule in SCHEDULES:
            for name, make in optimizers(share_of(schedule)).items():
                key = f"{task} {schedule} {name}"
                if key not in found:
                    loss = trained(trainer, make(), "free" in name)
                    found[key] = round(loss, 6)
                    STORED.write_text(json.dumps(found, indent=1) + "\n")
                    print(key, found[key], flush=True)
    return found


def others(cell: Cell, schedule: str) -> dict[str, float]:
    """Loss over that at the best LR, of Adam at what is said of it."""
    target = (schedule, STEPS)

    def over(ask: Callable) -> float:
        lrs = [ask(cell, seed, target) for seed in range(cell.seeds)]
        lrs = [cell.default_lr if lr is None else lr for lr in lrs]
        return float(np.exp(np.mean([cell.excess(lr, target) for lr in lrs])))

    asked = {
        "**Adam, ramp and probes**": score.PROBES,
        "**Adam, ramp**": score.RAMP,
        "**Adam, 3 whole trainings**": score.ours(3, 3),
        "Adam at Keras's default": lambda c, s, t: c.default_lr,
    }
    return {name: over(ask) for name, ask in asked.items()}


def table(found: dict[str, float]) -> str:
    """A row for each, a column for each schedule."""
    cells = {
        c.task.name: c for c in load([SEEN, UNSEEN]) if c.optimizer == "adam"
    }
    rows: dict[str, dict[str, list[float]]] = {}
    for schedule in SCHEDULES:
        for task in NAMES:
            cell = cells[task]
            least = float(cell.row((schedule, STEPS)).min())
            over = others(cell, schedule)
            for name in optimizers(share_of(schedule)):
                over[name] = found[f"{task} {schedule} {name}"] / least
            for name, value in over.items():
                parts = rows.setdefault(name, {})
                parts.setdefault(schedule, []).append(value)
    lines = ["| | constant | cosine |", "| --- | --- | --- |"]
    for name, parts in rows.items():
        told = [
            f"x{np.exp(np.mean(np.log(parts[s]))):.2f} "
            f"(worst x{max(parts[s]):.2f})"
            if s in parts
            else ""
            for s in SCHEDULES
        ]
        lines.append(f"| {name} | {' | '.join(told)} |")
    return "\n".join(lines)


def main() -> None:
    """Train what was not, and print the table."""
    print(table(record()))


if __name__ == "__main__":
    main()
