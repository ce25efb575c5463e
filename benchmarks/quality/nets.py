"""Layers as plain functions of parameter dictionaries.

Everything is a matrix product: a convolution under a map over its kernels
would be a grouped one, which is slow on a CPU.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

# What a step moves the statistics of a batch normalisation: Keras's.
MOVED = 0.01


def glorot(rng, shape):
    """Keras's default kernel."""
    limit = np.sqrt(6.0 / (shape[-2] + shape[-1]))
    return rng.uniform(-limit, limit, shape).astype("float32")


def dense_params(rng, sizes: dict[str, tuple[int, int]]):
    """Kernels and zero biases of named dense layers."""
    params = {}
    for name, shape in sizes.items():
        params[f"{name}_kernel"] = glorot(rng, shape)
        params[f"{name}_bias"] = np.zeros(shape[1], "float32")
    return params


def norm_params(sizes: dict[str, int]):
    """Scale and shift of named normalisations."""
    return {
        **{f"{k}_gamma": np.ones(n, "float32") for k, n in sizes.items()},
        **{f"{k}_beta": np.zeros(n, "float32") for k, n in sizes.items()},
    }


def norm_stats(sizes: dict[str, int]):
    """Moving mean and variance of named batch normalisations."""
    return {
        **{f"{k}_mean": np.zeros(n, "float32") for k, n in sizes.items()},
        **{f"{k}_variance": np.ones(n, "float32") for k, n in sizes.items()},
    }


def dense(p, name, x):
    """Affine map of the last axis."""
    kernel = p[f"{name}_kernel"]
    flat = x.reshape(-1, x.shape[-1]) @ kernel
    return flat.reshape(*x.shape[:-1], -1) + p[f"{name}_bias"]


def embed(p, x, symbols):
    """Rows of the table named embedding."""
    hot = jax.nn.one_hot(x.reshape(-1), symbols) @ p["embedding_kernel"]
    return hot.reshape(*x.shape, -1)


def batch_norm(p, stats, name, x, train, new):
    """Keras's: epsilon 1e-3; `new` takes the moving statistics."""
    if train:
        axes = tuple(range(x.ndim - 1))
        mean, variance = x.mean(axes), x.var(axes)
        for kind, value in (("mean", mean), ("variance", variance)):
            key = f"{name}_{kind}"
            new[key] = (1 - MOVED) * stats[key] + MOVED * value
    else:
        mean, variance = stats[f"{name}_mean"], stats[f"{name}_variance"]
    scale = p[f"{name}_gamma"] * jax.lax.rsqrt(variance + 1e-3)
    return (x - mean) * scale + p[f"{name}_beta"]


def layer_norm(p, name, x):
    """Keras's: over the last axis, epsilon 1e-3."""
    mean = x.mean(-1, keepdims=True)
    variance = jnp.mean((x - mean) ** 2, -1, keepdims=True)
    x = (x - mean) * jax.lax.rsqrt(variance + 1e-3)
    return x * p[f"{name}_gamma"] + p[f"{name}_beta"]


def dropout(key, x, rate, train):
    """Zero a share of the units in training."""
    if not train:
        return x
    keep = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(keep, x / (1 - rate), 0.0)


def patches(x, size=3, stride=2):
    """Windows of (batch, h, w, c), padded by one, as their last axis."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    h = (x.shape[1] - size) // stride + 1
    parts = [
        x[:, i : i + stride * h : stride, j : j + stride * h : stride]
        for i in range(size)
        for j in range(size)
    ]
    return jnp.concatenate(parts, axis=-1)


def attention(p, name, x):
    """One head of self-attention over (batch, tokens, width)."""
    q, k, v = (dense(p, f"{name}_{n}", x) for n in "qkv")
    # Sums, not matrix products: thousands of tiny ones are slow on a CPU.
    scores = jnp.sum(q[:, :, None] * k[:, None], -1) / x.shape[-1] ** 0.5
    weight = jax.nn.softmax(scores)[..., None]
    mixed = jnp.sum(weight * v[:, None], 2)
    return dense(p, f"{name}_o", mixed)


def recurrent_sizes(name: str, inputs: int, units: int):
    """The kernels of a gated recurrent unit, the three gates side by side."""
    return {f"{name}_in": (inputs, 3 * units), f"{name}_on": (units, 3 * units)}


def recurrent(p, name, x):
    """A gated recurrent unit (Keras's order) over (batch, time, width)."""
    units = p[f"{name}_on_kernel"].shape[0]
    given = dense(p, f"{name}_in", x)
    state = jnp.zeros((len(x), units))
    for i in range(x.shape[1]):
        kept = dense(p, f"{name}_on", state)
        update, reset = (
            jax.nn.sigmoid(given[:, i, part] + kept[:, part])
            for part in (slice(units), slice(units, 2 * units))
        )
        last = slice(2 * units, None)
        new = jnp.tanh(given[:, i, last] + reset * kept[:, last])
        state = update * state + (1 - update) * new
    return state


def block_sizes(name: str, width: int, hidden: int):
    """The dense layers of one transformer block."""
    sizes = {f"{name}_{n}": (width, width) for n in "qkvo"}
    sizes[f"{name}_up"] = (width, hidden)
    sizes[f"{name}_down"] = (hidden, width)
    return sizes


def block(p, name, x):
    """A transformer block with layer normalisation first."""
    x = x + attention(p, name, layer_norm(p, f"{name}_before", x))
    y = layer_norm(p, f"{name}_after", x)
    y = jax.nn.gelu(dense(p, f"{name}_up", y))
    return x + dense(p, f"{name}_down", y)


def cross_entropy(logits, labels):
    """Mean cross-entropy of integer labels."""
    logs = jax.nn.log_softmax(logits)
    hot = jax.nn.one_hot(labels, logits.shape[-1])
    return -jnp.mean(jnp.sum(logs * hot, -1))
