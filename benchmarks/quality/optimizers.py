"""Keras's optimizers as pure functions over dictionaries of arrays.

Formulas, defaults and order (weight decay first) are those of Keras 3;
`tests/test_benchmark_quality.py` trains with both and compares. `step` counts
from 0; `lr` is a scalar, so a loop can be mapped over learning rates.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

Tree = dict[str, jax.Array]
Slots = dict[str, Tree]


class Optimizer(NamedTuple):
    """An optimizer: what it keeps, and one update.

    Attributes:
        init: From parameters to slots.
        update: From parameters, gradients, slots, step and LR to new
            parameters and slots.
        center: Middle of a plausible range of learning rates.
    """

    init: Callable
    update: Callable
    center: float


def _zeros(params: Tree) -> Tree:
    return {k: jnp.zeros_like(v) for k, v in params.items()}


def _none(params: Tree) -> Slots:
    return {}


def _sgd(params, grads, slots, step, lr):
    return {k: v - lr * grads[k] for k, v in params.items()}, slots


def _nesterov(params, grads, slots, step, lr):
    m = {k: 0.9 * v - lr * grads[k] for k, v in slots["m"].items()}
    new = {k: v + 0.9 * m[k] - lr * grads[k] for k, v in params.items()}
    return new, {"m": m}


def _first_second(params: Tree) -> Slots:
    return {"m": _zeros(params), "v": _zeros(params)}


def _adam_leaf(p, g, m, v, step, lr):
    t = jnp.asarray(step + 1, p.dtype)
    alpha = lr * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    m = m + (g - m) * (1 - 0.9)
    v = v + (g * g - v) * (1 - 0.999)
    return p - m * alpha / (jnp.sqrt(v) + 1e-7), m, v


def _adam(params, grads, slots, step, lr):
    new, m, v = {}, {}, {}
    for k, p in params.items():
        new[k], m[k], v[k] = _adam_leaf(
            p, grads[k], slots["m"][k], slots["v"][k], step, lr
        )
    return new, {"m": m, "v": v}


def _adamw(params, grads, slots, step, lr):
    params = {k: v - v * 0.004 * lr for k, v in params.items()}
    return _adam(params, grads, slots, step, lr)


def _rmsprop(params, grads, slots, step, lr):
    v = {k: 0.9 * s + 0.1 * grads[k] ** 2 for k, s in slots["v"].items()}
    new = {
        k: p - lr * grads[k] / jnp.sqrt(v[k] + 1e-7) for k, p in params.items()
    }
    return new, {"v": v}


def _lion(params, grads, slots, step, lr):
    m = slots["m"]
    new = {
        k: p - lr * jnp.sign(0.9 * m[k] + 0.1 * grads[k])
        for k, p in params.items()
    }
    return new, {"m": {k: 0.99 * m[k] + 0.01 * grads[k] for k in m}}


def _by_adam(name: str, p: jax.Array) -> bool:
    return p.ndim != 2 or "embedding" in name


def _muon_slots(params: Tree) -> Slots:
    adam = {k: jnp.zeros_like(p) for k, p in params.items() if _by_adam(k, p)}
    return {"m": _zeros(params), "v": adam}


def _orthogonal(x: jax.Array) -> jax.Array:
    """Newton-Schulz: singular values near one."""
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (jnp.sqrt(jnp.sum(x * x)) + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x.T if tall else x


def _muon(params, grads, slots, step, lr):
    new, m, v = {}, {}, {}
    for k, p in params.items():
        p, g = p - p * 0.004 * lr, grads[k]
        if k in slots["v"]:
            new[k], m[k], v[k] = _adam_leaf(
                p, g, slots["m"][k], slots["v"][k], step, lr
            )
            continue
        m[k] = slots["m"][k] * 0.95 + g
        size = 0.2 * max(p.shape) ** 0.5
        new[k] = p - lr * size * _orthogonal(g + 0.95 * m[k])
    return new, {"m": m, "v": v}


def _adafactor_slots(params: Tree) -> Slots:
    wide = {k: p for k, p in params.items() if p.ndim >= 2}
    flat = {k: jnp.zeros_like(p) for k, p in params.items() if p.ndim < 2}
    return {
        "r": {k: jnp.zeros(p.shape[:-1]) for k, p in wide.items()},
        "c": {
            k: jnp.zeros(p.shape[:-2] + p.shape[-1:]) for k, p in wide.items()
        },
        "v": flat,
    }


def _rms(x: jax.Array) -> jax.Array:
    return jnp.sqrt(jnp.mean(x * x))


def _adafactor(params, grads, slots, step, lr):
    t = jnp.asarray(step + 1, jnp.float32)
    rho = jnp.minimum(lr, 1 / jnp.sqrt(t))
    beta = 1 - t**-0.8
    new, found = {}, {"r": {}, "c": {}, "v": {}}
    for k, p in params.items():
        square = grads[k] ** 2 + 1e-30
        if p.ndim >= 2:
            r = beta * slots["r"][k] + (1 - beta) * square.mean(-1)
            c = beta * slots["c"][k] + (1 - beta) * square.mean(-2)
            found["r"][k], found["c"][k] = r, c
            v = (r / r.mean(-1, keepdims=True))[..., None] * c[..., None, :]
        else:
            v = beta * slots["v"][k] + (1 - beta) * square
            found["v"][k] = v
        u = grads[k] / jnp.sqrt(v)
        u = u / jnp.maximum(1.0, _rms(u))
        new[k] = p - jnp.maximum(1e-3, _rms(p)) * rho * u
    return new, found


def _one(name: str) -> Callable[[Tree], Slots]:
    return lambda params: {name: _zeros(params)}


OPTIMIZERS = {
    "sgd": Optimizer(_none, _sgd, -1.0),
    "nesterov": Optimizer(_one("m"), _nesterov, -2.0),
    "adam": Optimizer(_first_second, _adam, -2.5),
    "adamw": Optimizer(_first_second, _adamw, -2.5),
    "rmsprop": Optimizer(_one("v"), _rmsprop, -2.75),
    "lion": Optimizer(_one("m"), _lion, -3.25),
    "muon": Optimizer(_muon_slots, _muon, -2.0),
    "adafactor": Optimizer(_adafactor_slots, _adafactor, -1.5),
}
