"""One line that says how far a range test is."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable

_SECONDS = 0.1
# The time left is told once so many steps and seconds have been measured.
_FEWEST, _LEAST = 5, 1.0


class Progress:
    """Shows ramp, probes and trainings as one job, with the time left.

    In a terminal and in a notebook one line is written over and over, and
    `close` takes it away, also from a notebook that is saved. Anywhere else,
    as in a file, there is one line when the first run begins.
    """

    def __init__(self, verbose: int) -> None:
        self._over = _written_over() if verbose else None
        self._says_first = bool(verbose) and self._over is None
        self._last = self._shown = time.monotonic()
        self._seconds: list[float] = []  # of each step that was measured

    def begin(self, name: str, steps: int, left_steps_after: int = 0) -> None:
        """Begins a run, also where the one before broke off."""
        self._name, self._steps, self._step = name, steps, 0
        self._after = left_steps_after
        if self._says_first:
            more = f", then up to {self._after:,} more" if self._after else ""
            print(f"{name}, {steps:,} steps{more}", flush=True)
        self._says_first = False
        self._write(f"{name}, {steps:,} steps")

    def step(self, lr: float, loss: float) -> None:
        """Counts a step, as a `RunCallback` tells it."""
        now, self._step = time.monotonic(), self._step + 1
        if self._step > 1:  # the first one may compile
            self._seconds.append(now - self._last)
        self._last = now
        if now - self._shown >= _SECONDS:
            self._shown = now
            place = f"{self._name}, step {self._step:,} of {self._steps:,}"
            self._write(f"{place}, loss {loss:.4g}{self._left()}")

    def close(self) -> None:
        """Takes the line away. Calling it again changes nothing."""
        self._write("")
        self._over = None

    def _left(self) -> str:
        seconds = self._seconds
        if len(seconds) < _FEWEST or sum(seconds) < _LEAST:
            return ""
        # Without the longest one: a step may be compiled a second time.
        pace = (sum(seconds) - max(seconds)) / (len(seconds) - 1)
        left = max(self._steps - self._step, 0) + self._after
        return f", {pace * left:.0f} s left"

    def _write(self, text: str) -> None:
        if self._over is not None:
            self._over(text)


def _written_over() -> Callable[[str], None] | None:
    """Returns what writes one line again and again; None: nothing can."""
    ask = getattr(sys.modules.get("IPython"), "get_ipython", None)
    if ask is not None and hasattr(ask(), "kernel"):
        display = sys.modules["IPython.display"].display
        shown = display({"text/plain": ""}, raw=True, display_id=True)
        return lambda text: shown.update({"text/plain": text}, raw=True)
    return _on_terminal if sys.stdout.isatty() else None


def _on_terminal(text: str) -> None:
    # A line that is wrapped cannot be written over.
    width = shutil.get_terminal_size().columns - 1
    print(f"\r{text[:width]:<{width}}\r", end="", flush=True)
