"""The data of the tasks: bundled, made here, or MNIST where it is."""

from __future__ import annotations

import functools
import os

import numpy as np

MNIST = os.environ.get("QUALITY_MNIST", "mnist.npz")
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


def taught(count: int = 6_000):
    """Six numbers and what a fixed network makes of them, without noise."""
    rng = np.random.default_rng(18)
    x = rng.normal(size=(count, 6)).astype("float32")
    y = np.tanh(x @ rng.normal(size=(6, 16))) @ rng.normal(size=(16, 2))
    return x, (y / y.std(0)).astype("float32")


def series(count: int = 6_000, length: int = 10):
    """Two swings and noise, each sample with its own, and the next value."""
    rng = np.random.default_rng(19)
    turn = rng.uniform(0.2, 1.5, (count, 2, 1))
    start = rng.uniform(0, 2 * np.pi, (count, 2, 1))
    x = np.sin(turn * np.arange(length + 1) + start)
    x = (x * rng.uniform(0.3, 1, (count, 2, 1))).sum(1)
    x = (x + 0.1 * rng.normal(size=x.shape)).astype("float32")
    return x[:, :-1, None], x[:, -1:]


def ratings(count: int = 24_000, users: int = 200, items: int = 150):
    """Who rated what, and how: hidden tastes, habits and noise."""
    rng = np.random.default_rng(20)
    user, item = rng.integers(0, users, count), rng.integers(0, items, count)
    tastes = rng.normal(size=(users, 4)), rng.normal(size=(items, 4))
    y = (tastes[0][user] * tastes[1][item]).sum(1) / 2
    y = y + 0.5 * rng.normal(size=users)[user] + rng.normal(size=items)[item]
    y = y + 0.4 * rng.normal(size=count)
    return user, item, ((y - y.mean()) / y.std()).astype("float32")


def friedman(count: int = 1_280):
    """Ten columns of which five matter (Friedman 1991), little and noisy."""
    rng = np.random.default_rng(21)
    x = rng.uniform(size=(count, 10))
    y = 10 * np.sin(np.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - 0.5) ** 2
    y = y + 10 * x[:, 3] + 5 * x[:, 4] + 2.5 * rng.normal(size=count)
    y = (y - y.mean()) / y.std()
    return (2 * x - 1).astype("float32"), y[:, None].astype("float32")


def reviews(count: int = 1_792, length: int = 8, words: int = 200):
    """Texts of made-up words, a few of which say what is thought."""
    rng = np.random.default_rng(22)
    often = 1.0 / np.arange(3, words + 3)
    x = rng.choice(words, (count, length), p=often / often.sum())
    worth = rng.normal(size=words) * (rng.random(words) < 0.3)
    chance = 1 / (1 + np.exp(-3 * worth[x].sum(1)))
    return x.astype("int32"), (rng.random(count) < chance).astype("int32")


def outliers(count: int = 6_000):
    """A smooth function of five numbers, now and then far off."""
    rng = np.random.default_rng(23)
    x = rng.normal(size=(count, 5)).astype("float32")
    y = np.sin(x[:, 0] + x[:, 1]) * x[:, 2] + np.abs(x[:, 3])
    y = y + 0.1 * rng.standard_t(1.5, size=count)
    return x, y[:, None].astype("float32")


def _seldom(count: int, columns: int, units: int, above: float, seed: int):
    """Columns, and which rows are above a quantile of a function of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, columns)).astype("float32")
    hidden = np.tanh(x @ rng.normal(size=(columns, units)) / 2)
    score = hidden @ rng.normal(size=units) + 0.3 * rng.normal(size=count)
    return x, score > np.quantile(score, above)


def rare(count: int = 9_000):
    """Fifteen columns; one in twenty is of the class that is sought."""
    x, sought = _seldom(count, 15, 5, 0.95, seed=24)
    return x, sought.astype("int32")


def counts(count: int = 5_000):
    """Eight columns, and a count that depends on them (Poisson)."""
    rng = np.random.default_rng(25)
    x = rng.normal(size=(count, 8)).astype("float32")
    rate = np.sin(x @ rng.normal(size=(8, 6))) @ rng.normal(size=6)
    y = rng.poisson(np.exp(np.clip(0.6 * rate + 0.5, -4, 4)))
    return x, y[:, None].astype("float32")


def signs(count: int = 5_000, kinds: int = 8):
    """Twelve columns of few values, and eight signs that may all be there."""
    rng = np.random.default_rng(26)
    x = rng.integers(-1, 2, (count, 12)).astype("float32")
    score = x @ rng.normal(size=(12, kinds)) + x[:, :1] * x[:, 1:2]
    chance = 1 / (1 + np.exp(1.5 - score))
    return x, (rng.random((count, kinds)) < chance).astype("float32")


def preferred(count: int = 6_000):
    """Pairs of things by seven numbers, the first of which is preferred."""
    rng = np.random.default_rng(27)
    x = rng.normal(size=(count, 2, 7)).astype("float32")
    worth = np.tanh(x @ rng.normal(size=(7, 5))) @ rng.normal(size=5)
    worth = worth + 0.5 * rng.gumbel(size=worth.shape)
    first = np.take_along_axis(x, worth.argsort(1)[:, ::-1, None], 1)
    return first.astype("float32")


def sines(count: int = 6_000):
    """A sine of eight numbers, without noise."""
    rng = np.random.default_rng(29)
    x = rng.normal(size=(count, 8)).astype("float32")
    y = np.sin(x @ rng.normal(size=(8, 1)))
    return x, y.astype("float32")


def scales(count: int = 5_000):
    """Ten columns, and three targets of sizes 1, 100 and 10,000."""
    rng = np.random.default_rng(30)
    x = rng.normal(size=(count, 10)).astype("float32")
    y = np.tanh(x @ rng.normal(size=(10, 8)) / 2) @ rng.normal(size=(8, 3))
    y = y + 0.2 * rng.normal(size=y.shape)
    return x, (y / y.std(0) * [1, 100, 10_000]).astype("float32")


def hundredth(count: int = 12_000):
    """Twelve columns; one in a hundred is of the class that is sought."""
    x, sought = _seldom(count, 12, 6, 0.99, seed=31)
    return x, sought.astype("float32")
