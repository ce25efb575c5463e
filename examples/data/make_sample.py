"""Draw the small MNIST sample that the examples and benchmarks use.

Run: `python examples/data/make_sample.py --source mnist.npz`, where the source
is the `mnist.npz` that `keras.datasets.mnist.load_data()` keeps.
"""

import argparse
from pathlib import Path

import numpy as np

TRAIN, TEST, SEED = 10_000, 2_000, 0
TARGET = Path(__file__).with_name("mnist_sample.npz")


def balanced(labels: np.ndarray, size: int, rng: np.random.Generator):
    """Return `size` shuffled indices, equally many of every class."""
    classes = np.unique(labels)
    each = size // len(classes)
    picks = [
        rng.choice(np.flatnonzero(labels == c), each, replace=False)
        for c in classes
    ]
    return rng.permutation(np.concatenate(picks))


def main(source: Path, target: Path = TARGET) -> None:
    """Write the sample of `source` to `target`."""
    rng = np.random.default_rng(SEED)
    with np.load(source) as full:
        train = balanced(full["y_train"], TRAIN, rng)
        test = balanced(full["y_test"], TEST, rng)
        np.savez_compressed(
            target,
            x_train=full["x_train"][train],
            y_train=full["y_train"][train],
            x_test=full["x_test"][test],
            y_test=full["y_test"][test],
        )
    print(f"{target}: {target.stat().st_size:,} bytes")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True)
    main(parser.parse_args().source)
