"""The data sets of the benchmark; none needs a download.

Every function returns a `Split` of float32 or int32 arrays. Nothing here
depends on the seed of a run: a task's data is always the same.
"""

import functools
import sysconfig
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn import datasets

MNIST = Path(__file__).parents[2] / "examples/data/mnist_sample.npz"
HELD_OUT = 500
MODULES = ("argparse", "ast", "cgitb", "datetime", "difflib", "doctest")
MODULES += ("inspect", "locale", "optparse", "pdb", "pickle", "subprocess")
PACKAGES = ("asyncio", "email", "unittest", "multiprocessing")
VOCABULARY = 500


class Split(NamedTuple):
    """Training and held-out inputs and targets."""

    x: np.ndarray
    y: np.ndarray
    x_held: np.ndarray
    y_held: np.ndarray


def split(x: np.ndarray, y: np.ndarray, held: int, train: int = 0) -> Split:
    """Shuffle with a fixed seed; hold `held` samples out, train on the rest.

    `train`: how many to train on, 0 for all that remain.
    """
    order = np.random.default_rng(7).permutation(len(x))
    x, y = x[order], y[order]
    end = held + train if train else len(x)
    return Split(x[held:end], y[held:end], x[:held], y[:held])


def standardised(x: np.ndarray) -> np.ndarray:
    """Give every column mean 0 and standard deviation 1."""
    return ((x - x.mean(0)) / (x.std(0) + 1e-9)).astype("float32")


@functools.cache
def mnist() -> Split:
    """The bundled MNIST pictures, pooled to 14 x 14, in 0..1."""
    with np.load(MNIST) as sample:
        images = {
            part: sample[f"x_{part}"].reshape(-1, 14, 2, 14, 2).mean((2, 4))
            for part in ("train", "test")
        }
        labels = {p: sample[f"y_{p}"].astype("int32") for p in images}
    x, x_held = (
        (images[p].reshape(-1, 196) / 255).astype("float32") for p in images
    )
    return Split(
        x, labels["train"], x_held[:HELD_OUT], labels["test"][:HELD_OUT]
    )


def mnist_pictures() -> Split:
    """MNIST as pictures with one channel."""
    data = mnist()
    shape = (-1, 14, 14, 1)
    return Split(
        data.x.reshape(shape), data.y, data.x_held.reshape(shape), data.y_held
    )


def mnist_copies() -> Split:
    """MNIST with the picture itself as the target."""
    data = mnist()
    return Split(data.x, data.x, data.x_held, data.x_held)


def mnist_rare() -> Split:
    """Is it a 4 in a set where 3 % are? Strongly imbalanced labels."""
    data = mnist()
    keep = np.ones(len(data.x), bool)
    keep[np.flatnonzero(data.y == 4)[280:]] = False
    y, held = (
        (v == 4).astype("float32")[:, None] for v in (data.y, data.y_held)
    )
    return Split(data.x[keep], y[keep], data.x_held, held)


def mnist_classes(classes: range, train: int) -> Split:
    """MNIST's `classes` only, numbered from 0, with `train` samples."""
    data = mnist()
    keep, held = (np.isin(y, classes) for y in (data.y, data.y_held))
    first = classes[0]
    return Split(
        data.x[keep][:train],
        data.y[keep][:train] - first,
        data.x_held[held],
        data.y_held[held] - first,
    )


def digits(train: int = 0, scale: float = 16.0, noise: float = 0.0) -> Split:
    """The 8 x 8 digits of scikit-learn; `noise`: share of random labels."""
    x, y = datasets.load_digits(return_X_y=True)
    data = split((x / scale).astype("float32"), y.astype("int32"), 400, train)
    rng = np.random.default_rng(8)
    wrong = rng.random(len(data.y)) < noise
    labels = np.where(wrong, rng.integers(0, 10, len(data.y)), data.y)
    return data._replace(y=labels.astype("int32"))


def breast_cancer() -> Split:
    """Benign or malignant, standardised columns."""
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return split(standardised(x), y.astype("float32")[:, None], 150)


def wine(raw: bool = False) -> Split:
    """Three cultivars; `raw` leaves the columns in their own units."""
    x, y = datasets.load_wine(return_X_y=True)
    x = x.astype("float32") if raw else standardised(x)
    return split(x, y.astype("int32"), 58)


def diabetes() -> Split:
    """Disease progression in its own units (25 to 346)."""
    x, y = datasets.load_diabetes(return_X_y=True)
    return split(standardised(x), y.astype("float32")[:, None], 120)


def friedman(scaled: bool = True) -> Split:
    """Friedman's first regression problem with noise."""
    x, y = datasets.make_friedman1(2_500, noise=1.0, random_state=0)
    y = y[:, None].astype("float32")
    return split(standardised(x), standardised(y) if scaled else y, 500)


def iris() -> Split:
    """Three kinds of flowers, four columns."""
    x, y = datasets.load_iris(return_X_y=True)
    return split(standardised(x), y.astype("int32"), 45)


def moons() -> Split:
    """Two interleaved half circles with noise."""
    x, y = datasets.make_moons(1_500, noise=0.2, random_state=0)
    return split(x.astype("float32"), y.astype("int32"), 400)


def linear_targets() -> Split:
    """Linear targets of size 200 with noise of size 20."""
    x, y = datasets.make_regression(1_500, 20, noise=20.0, random_state=0)
    return split(x.astype("float32"), y.astype("float32")[:, None], 400)


def digits_pictures() -> Split:
    """The small digits as pictures with one channel."""
    data = digits()
    shape = (-1, 8, 8, 1)
    return data._replace(
        x=data.x.reshape(shape), x_held=data.x_held.reshape(shape)
    )


def digits_copies() -> Split:
    """The small digits with the picture itself as the target."""
    data = digits()
    return data._replace(y=data.x, y_held=data.x_held)


def mnist_rows() -> Split:
    """MNIST as a sequence of 14 rows."""
    data = mnist()
    shape = (-1, 14, 14)
    return data._replace(
        x=data.x.reshape(shape), x_held=data.x_held.reshape(shape)
    )


def clusters() -> Split:
    """Overlapping synthetic clusters: four classes, some labels wrong."""
    x, y = datasets.make_classification(
        3_000, 30, n_informative=8, n_classes=4, flip_y=0.1, random_state=0
    )
    return split(standardised(x), y.astype("int32"), 500)


def waves() -> Split:
    """Which of three waveforms: sequences of 24 noisy values."""
    rng = np.random.default_rng(0)
    kind, phase = rng.integers(0, 3, 2_500), rng.uniform(0, 6.28, (2_500, 1))
    t = np.arange(24) * rng.uniform(0.3, 0.8, (2_500, 1)) + phase
    shapes = np.stack([np.sin(t), np.sign(np.sin(t)), (t % 6.28) / 3.14 - 1])
    x = shapes[kind, np.arange(2_500)] + rng.normal(0, 0.3, t.shape)
    return split(x[..., None].astype("float32"), kind.astype("int32"), 500)


def stdlib_text(names: tuple[str, ...]) -> str:
    """The source of modules or packages of the standard library."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [
        path
        for name in names
        for path in sorted(
            [*root.glob(f"{name}.py"), *root.glob(f"{name}/*.py")]
        )
    ]
    return "\n".join(f.read_text("utf-8", errors="ignore") for f in files)


@functools.cache
def stdlib_bytes(length: int) -> Split:
    """Next-byte prediction on Python sources, windows of `length`."""
    codes = np.frombuffer(stdlib_text(MODULES).encode("ascii", "ignore"), "u1")
    codes = np.clip(codes.astype("int32") - 31, 0, 95)
    count = min(len(codes) // (length + 1), 6_000)
    windows = codes[: count * (length + 1)].reshape(count, length + 1)
    return split(windows[:, :-1], windows[:, 1:], 150)


@functools.cache
def stdlib_packages(words: int, train: int) -> Split:
    """Which package do these words come from? Few, easily memorised."""
    x, y = [], []
    for label, package in enumerate(PACKAGES):
        codes = [
            zlib.crc32(w.encode()) % VOCABULARY
            for w in stdlib_text((package,)).split()
        ]
        rows = np.array(codes[: len(codes) // words * words]).reshape(-1, words)
        x.append(np.random.default_rng(label).permutation(rows)[:400])
        y.append(np.full(len(x[-1]), label))
    return split(
        np.concatenate(x).astype("int32"),
        np.concatenate(y).astype("int32"),
        HELD_OUT,
        train,
    )


def stdlib_bags() -> Split:
    """The same question; the words of a sample are counted."""
    data = stdlib_packages(60, 300)
    x, x_held = (
        np.stack([np.bincount(r, minlength=VOCABULARY) for r in rows])
        for rows in (data.x, data.x_held)
    )
    return data._replace(x=x.astype("float32"), x_held=x_held.astype("float32"))
