"""The models that are timed, as numbers: Keras and PyTorch build the same."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SHAPES", "SMALLER", "Shape"]


@dataclass(frozen=True)
class Shape:
    """One model and its data.

    Args:
        name: String, short.
        inputs: Tuple of integers, the shape of one row, channels last.
        convolutions: Tuple of integers, the filters of 3 x 3 convolutions,
            each followed by a pooling of 2 x 2.
        units: Tuple of integers, the sizes of the hidden dense layers.
        batch: Integer, rows a step.
        steps: Integer, steps of one timed run.
        rounds: Integer, how often each contender runs.
    """

    name: str
    inputs: tuple[int, ...]
    convolutions: tuple[int, ...]
    units: tuple[int, ...]
    batch: int
    steps: int
    rounds: int
    classes: int = 10


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("tiny MLP", (32,), (), (64,), 64, 300, 150),
        Shape("small CNN", (28, 28, 1), (8, 16), (), 96, 48, 100),
        Shape("larger MLP", (512,), (), (1024, 768), 640, 18, 60),
    )
}
# Quick enough for what needs new models, or many fits.
SMALLER = ("tiny MLP", "small CNN")
