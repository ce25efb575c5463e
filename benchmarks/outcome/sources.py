"""The data of the tasks: bundled, made here, or MNIST where it is."""

from __future__ import annotations

import functools
import os

import numpy as np

MNIST = os.environ.get("OUTCOME_MNIST", "mnist.npz")
HELD = 256
LETTERS = 28


def split(arrays: dict[str, np.ndarray], train: int) -> dict[str, dict]:
    """Train, reserved and test samples, in a fixed shuffled order.

    Reserved samples judge probes; test samples judge trainings. Both are
    whole multiples of 32.
    """
    count = len(next(iter(arrays.values())))
    order = np.random.default_rng(7).permutation(count)
    test = min(512, (count - train - HELD) // 32 * 32)
    ends = np.cumsum([HELD, test, train])
    parts = np.split(order[: ends[-1]], ends[:-1])
    names = ("reserved", "test", "train")
    return {
        n: {k: np.asarray(v)[part] for k, v in arrays.items()}
        for n, part in zip(names, parts)
    }


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 digits of 8 x 8."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return (found.data / 16).astype("float32"), found.target.astype("int32")


@functools.cache
def small_mnist(count: int = 6_000) -> tuple[np.ndarray, np.ndarray]:
    """MNIST, averaged to 7 x 7."""
    with np.load(MNIST) as file:
        x, y = file["x_train"][:count], file["y_train"][:count]
    x = x.reshape(count, 7, 4, 7, 4).mean((2, 4)) / 255
    return x.astype("float32"), y.astype("int32")


def tabular(count: int = 5_000):
    """Twenty columns of unlike scales, a class by a few of them."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(count, 20)).astype("float32")
    hidden = np.tanh(x @ rng.normal(size=(20, 6)) / 2)
    score = hidden @ rng.normal(size=6) + x[:, 0] * x[:, 1]
    y = (score + 0.5 * rng.normal(size=count) > 0).astype("int32")
    return x * np.geomspace(0.3, 3, 20).astype("float32"), y


def weighted_majority(count: int = 6_000, length: int = 6):
    """Sequences over 12 symbols; which of four classes weighs most."""
    rng = np.random.default_rng(12)
    x = rng.integers(0, 12, (count, length))
    weight = np.linspace(1, 2, length)
    votes = np.stack([((x % 4) == c) @ weight for c in range(4)], 1)
    # The last symbol says which half of the sequence counts twice.
    half = np.where(np.arange(length) < length // 2, 1.0, -1.0)
    more = np.stack([((x % 4) == c) @ half for c in range(4)], 1)
    votes = votes + 0.7 * np.where(x[:, -1:] < 6, 1, -1) * more
    y = votes.argmax(1)
    wrong = rng.random(count) < 0.05
    y[wrong] = rng.integers(0, 4, wrong.sum())
    return x.astype("int32"), y.astype("int32")


@functools.cache
def written(length: int = 120_000) -> np.ndarray:
    """Text of made-up words that follow each other by their kind."""
    rng = np.random.default_rng(13)
    letters = rng.dirichlet(np.full(26, 0.15), size=27)
    words = []
    for _ in range(400):
        word, last = [], 26
        for _ in range(int(rng.integers(2, 8))):
            last = int(rng.choice(26, p=letters[last]))
            word.append(last)
        words.append([*word, 26])
    follow = rng.dirichlet(np.full(8, 0.4), size=8)
    within = rng.dirichlet(np.full(50, 0.3), size=8)
    text, kind = [], 0
    while len(text) < length:
        kind = int(rng.choice(8, p=follow[kind]))
        text += words[kind * 50 + int(rng.choice(50, p=within[kind]))]
        if rng.random() < 0.1:
            text += [27]
    return np.array(text[:length], "int32")


def windows(context: int = 8, count: int = 40_000):
    """Characters and the one that comes next."""
    text = written()
    starts = np.random.default_rng(14).integers(0, len(text) - context, count)
    x = np.stack([text[s : s + context] for s in starts])
    return x, text[starts + context]


def waves(count: int = 6_000):
    """A picture-like function of the plane, with noise."""
    rng = np.random.default_rng(15)
    x = rng.uniform(-1, 1, (count, 2)).astype("float32")
    turn = rng.normal(size=(2, 12)) * np.geomspace(1.5, 9, 12)
    y = np.sin(x @ turn + rng.uniform(0, 6, 12)) @ np.geomspace(1, 0.2, 12)
    y = y + 0.1 * rng.normal(size=count)
    return x, y[:, None].astype("float32")


def uneven(count: int = 5_000):
    """A curve whose noise depends on where one looks."""
    rng = np.random.default_rng(16)
    x = rng.normal(size=(count, 5)).astype("float32")
    middle = np.sin(2 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2]
    deviation = np.exp(-1.5 + x[:, 3])
    y = middle + deviation * rng.normal(size=count)
    return x, y[:, None].astype("float32")


def graphs(count: int = 4_000, nodes: int = 6):
    """Random graphs with node values; a target that needs the edges."""
    rng = np.random.default_rng(17)
    edges = np.triu(rng.random((count, nodes, nodes)) < 0.35, 1)
    edges = (edges + edges.transpose(0, 2, 1)).astype("float32")
    x = rng.normal(size=(count, nodes, 4)).astype("float32")
    near = edges @ x / np.maximum(edges.sum(-1, keepdims=True), 1)
    y = np.tanh(near[..., 0] * x[..., 1]).sum(-1) + np.sin(
        (edges @ near)[..., 2]
    ).sum(-1)
    y = y + 0.2 * rng.normal(size=count)
    mean = edges / np.maximum(edges.sum(-1, keepdims=True), 1)
    return x, mean, (y[:, None] / 2).astype("float32")
