"""One line that says how far `lr_find` is."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

_SECONDS = 0.1
_WIDTH = 76


class Progress:
    """Shows ramp and probes as one job, with the time that is left.

    In a terminal and in a notebook one line is written over and over; into a
    file, which shows no such line, goes one for the ramp and for each probe.

    Args:
        steps: Integer, length of the ramp.
        probes: Sequence of integers, the lengths of the runs after it.
        verbose: 0 shows nothing.
    """

    def __init__(self, steps: int, probes: Sequence[int], verbose: int) -> None:
        self._lengths = [steps, *probes]
        self._run = 0
        self._step = 0
        self._began = self._shown = time.monotonic()
        self._took = 0
        self._verbose = verbose
        self._overwrites = sys.stdout.isatty() or _in_notebook()

    def watch(self, lr: float, loss: float, last: bool) -> None:
        """Counts a step; `last` says that it was the last one of its run."""
        self._step += 1
        self._took += 1
        now = time.monotonic()
        begins = self._step == 1
        if self._overwrites:
            if last or now - self._shown >= _SECONDS:
                self._shown = now
                self._write(f"\r{self._line(lr, loss):<{_WIDTH}}", end="")
        elif begins:
            self._write(self._name(lr))
        if last:
            self._run, self._step = self._run + 1, 0

    def close(self) -> None:
        """Leaves the line."""
        if self._overwrites:
            self._write(f"\r{'':<{_WIDTH}}\r", end="")

    def _write(self, text: str, end: str = "\n") -> None:
        if self._verbose:
            print(text, end=end, flush=True)

    def _name(self, lr: float) -> str:
        if not self._run:
            return f"ramp of {self._lengths[0]} steps"
        most = len(self._lengths) - 1
        return f"probe {self._run} of at most {most}, at {lr:.1e}"

    def _line(self, lr: float, loss: float) -> str:
        run = min(self._run, len(self._lengths) - 1)
        left = sum(self._lengths[run:]) - self._step
        seconds = (time.monotonic() - self._began) / self._took * left
        at = f", lr {lr:.1e}" if not self._run else ""
        return (
            f"{self._name(lr)}: step {self._step}{at}, loss {loss:.4g}, "
            f"{seconds:.0f} s left"
        )


def _in_notebook() -> bool:
    ask = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return ask is not None and hasattr(ask(), "kernel")
