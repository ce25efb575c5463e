"""The learning rate finders of PyTorch, each against its own plain loop.

To be run in an environment of its own, see `peers-requirements.txt`. The
models are those of `shapes.py`. A clock in the data set, asked for a batch at
every step, times the steps alone: what a finder does before the first step
and after the last does not count, as for ours.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset

from benchmarks.cost.pairing import Cost
from benchmarks.cost.pairing import compare
from benchmarks.cost.pairing import interleave
from benchmarks.cost.pairing import typical_step
from benchmarks.cost.shapes import SHAPES
from benchmarks.cost.shapes import Shape

__all__ = ["measure_peers"]

_HIGHEST_LR = 1e-3
_LR = 1e-4


class TimedBatches(Dataset):
    """Whole batches in memory, and when each was asked for."""

    def __init__(self, shape: Shape, steps: int) -> None:
        size = (steps, shape.batch)
        self.x = torch.randn(*size, *_channels_first(shape.inputs))
        self.y = torch.randint(shape.classes, size)
        self.times: list[Cost] = []

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        self.times.append(Cost.now())
        return self.x[index], self.y[index]

    def per_step(self) -> Cost:
        """Returns the time of a typical step."""
        return typical_step(self.times)


def network(shape: Shape) -> torch.nn.Module:
    """Returns the model of a shape."""
    nn = torch.nn
    parts: list[torch.nn.Module] = []
    for filters in shape.convolutions:
        parts.append(nn.LazyConv2d(filters, 3, padding=1))
        parts += [nn.ReLU(), nn.MaxPool2d(2)]
    parts.append(nn.Flatten())
    for units in shape.units:
        parts += [nn.LazyLinear(units), nn.ReLU()]
    parts.append(nn.LazyLinear(shape.classes))
    model = nn.Sequential(*parts)
    model(torch.zeros(1, *_channels_first(shape.inputs)))
    return model


def measure_peers(quick: bool = False) -> dict[str, Any]:
    """Measures all shapes; microseconds.

    Args:
        quick: Whether to do as little as possible, to try it out.
    """
    _silence()
    return {
        name: _measure(shape, 2 if quick else shape.rounds)
        for name, shape in SHAPES.items()
    }


def _measure(shape: Shape, rounds: int) -> dict[str, Any]:
    batches = TimedBatches(shape, shape.steps)

    def run(action: Callable[[], object]) -> Cost:
        batches.times.clear()
        # Their progress bars cannot all be turned off: they are part of what
        # a step costs, but not on whose screen.
        quiet = io.StringIO()
        with (
            contextlib.redirect_stdout(quiet),
            contextlib.redirect_stderr(quiet),
        ):
            action()
        return batches.per_step()

    pairs = {
        "torch-lr-finder": _torch_lr_finder(shape, batches),
        "Lightning": _lightning(shape, batches),
        "fastai": _fastai(shape, batches),
    }
    contenders = {
        f"{name}, {kind}": functools.partial(run, action)
        for name, pair in pairs.items()
        for kind, action in zip(("plain", "finder"), pair)
    }
    found = interleave(contenders, rounds)
    return {
        name: compare(found, f"{name}, finder", f"{name}, plain", 1e-6)
        for name in pairs
    }


Pair = tuple[Callable[[], object], Callable[[], object]]


def _torch_lr_finder(shape: Shape, batches: TimedBatches) -> Pair:
    from torch_lr_finder import LRFinder

    model, criterion = network(shape), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), _LR)
    loader = DataLoader(batches, batch_size=None)

    def plain() -> None:
        for x, y in loader:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            loss.backward()
            loss.item()
            optimizer.step()

    def find() -> None:
        finder = LRFinder(model, optimizer, criterion)
        finder.range_test(
            loader, end_lr=_HIGHEST_LR, num_iter=shape.steps, diverge_th=1e9
        )
        finder.reset()

    return plain, find


class _Module(lightning.LightningModule):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.model, self.lr = network(shape), _LR

    def training_step(self, batch: Any, index: int) -> Any:
        x, y = batch
        return torch.nn.functional.cross_entropy(self.model(x), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), self.lr)


def _lightning(shape: Shape, batches: TimedBatches) -> Pair:
    from lightning.pytorch.tuner import Tuner

    module = _Module(shape)
    loader = DataLoader(batches, batch_size=None)

    def trainer(directory: str) -> Any:
        return lightning.Trainer(
            accelerator="cpu",
            max_epochs=1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=directory,
        )

    def plain() -> None:
        with tempfile.TemporaryDirectory() as directory:
            trainer(directory).fit(module, loader)

    def find() -> None:
        with tempfile.TemporaryDirectory() as directory:
            Tuner(trainer(directory)).lr_find(
                module,
                loader,
                max_lr=_HIGHEST_LR,
                num_training=shape.steps,
                early_stop_threshold=None,
                update_attr=False,
            )

    return plain, find


def _fastai(shape: Shape, batches: TimedBatches) -> Pair:
    import fastai.callback.schedule  # noqa: F401  gives a Learner lr_find
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader as FastaiLoader
    from fastai.learner import Learner
    from fastai.optimizer import Adam

    held_out = TimedBatches(shape, 1)  # fastai wants one; it is not timed
    loaders = [
        FastaiLoader(data, bs=None, num_workers=0, shuffle=False)
        for data in (batches, held_out)
    ]
    learner = Learner(
        DataLoaders(*loaders),
        network(shape),
        loss_func=torch.nn.CrossEntropyLoss(),
        opt_func=Adam,
    )

    def plain() -> None:
        with learner.no_bar(), learner.no_logging():
            learner.fit(1, lr=_LR)

    def find() -> None:
        with learner.no_bar(), learner.no_logging():
            learner.lr_find(
                end_lr=_HIGHEST_LR,
                num_it=shape.steps,
                stop_div=False,
                show_plot=False,
            )

    return plain, find


def _silence() -> None:
    warnings.filterwarnings("ignore")
    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _channels_first(inputs: tuple[int, ...]) -> tuple[int, ...]:
    return (inputs[-1], *inputs[:-1])
